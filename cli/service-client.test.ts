import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { CommandFailure } from "./failure.ts";
import { ServiceClient } from "./service-client.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** A service that answers in the given ways, one after the other, the last one for ever. */
async function serve(...answers: readonly Answer[]) {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      requests.push(request);
      (answers[requests.length - 1] ?? answers.at(-1)!)(request, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { requests, server, client: new ServiceClient({ url, token: "canary-token" }) };
}

function json(status: number, body: unknown, headers: Record<string, string> = {}): Answer {
  return (_request, response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
  };
}

const cut: Answer = (_request, response) => {
  response.destroy();
};

async function failureOf(work: Promise<unknown>): Promise<CommandFailure> {
  const failure: unknown = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(failure).toBeInstanceOf(CommandFailure);
  return failure as CommandFailure;
}

describe("ServiceClient", () => {
  test("asks again where the service has no time, with the key of the first try", async () => {
    const { client, requests } = await serve(
      json(429, { code: "too_many_requests", detail: "Too much is waiting" }, { "retry-after": "0" }),
      json(503, { code: "unavailable", detail: "The database cannot be used now" }),
      json(202, { id: "msg_1" }),
    );
    const { status, json: answer } = await client.request("POST", "/api/v1/app/x/msg", { body: { a: 1 } });
    expect([status, answer]).toEqual([202, { id: "msg_1" }]);
    const keys = requests.map(({ headers }) => headers["idempotency-key"]);
    expect(keys[0]).toMatch(/^[\w-]{36}$/);
    expect(new Set(keys).size).toBe(1);
    expect(requests[0]!.headers).toMatchObject({
      authorization: "Bearer canary-token",
      "content-type": "application/json",
    });
    await client.request("POST", "/api/v1/app/x/msg", { body: {} });
    expect(requests.at(-1)!.headers["idempotency-key"]).not.toBe(keys[0]);
  });

  test("asks again where a service that has answered before cuts the connection", async () => {
    const { client, requests } = await serve(json(200, {}), cut, json(200, { again: true }));
    await client.request("GET", "/");
    expect((await client.request("GET", "/")).json).toEqual({ again: true });
    expect(requests).toHaveLength(3);
  });

  test("gives up at once on one that was never there, or that asks for more patience than a person has", async () => {
    const { client, requests } = await serve(cut);
    expect(await failureOf(client.request("GET", "/"))).toMatchObject({
      code: "service_unreachable",
      exitCode: 3,
    });
    expect(requests).toHaveLength(1);
    const busy = await serve(
      json(503, { code: "unavailable", detail: "Not now" }, { "retry-after": "3600" }),
    );
    expect(await failureOf(busy.client.request("GET", "/"))).toMatchObject({
      code: "service_unavailable",
      exitCode: 3,
      message: "Not now.",
    });
    expect(busy.requests).toHaveLength(1);
  });

  test.each([
    [400, "refused", 4],
    [401, "authentication_failed", 5],
    [403, "forbidden", 4],
    [404, "not_found", 4],
    [409, "conflict", 4],
    [413, "payload_too_large", 4],
    [500, "service_failed", 1],
  ])("tells what a %i says", async (status, code, exitCode) => {
    const { client } = await serve(
      json(status, { code: "x", detail: "This and that" }, { "x-request-id": "r-1" }),
    );
    const failure = await failureOf(client.request("GET", "/"));
    expect(failure).toMatchObject({ code, exitCode, message: expect.stringMatching(/^This and that/) });
    expect(failure.message.includes("r-1")).toBe(status === 500);
    expect(String(failure.stack)).not.toContain("canary");
  });

  test("tells every fault of a request with its place", async () => {
    const detail = [
      { loc: ["body", "channels", "0"], msg: "No.", type: "x" },
      { loc: ["query", "limit"], msg: "Never.", type: "x" },
      { loc: ["body"], msg: "Not like this.", type: "x" },
    ];
    const { client } = await serve(json(422, { detail }));
    expect(await failureOf(client.request("GET", "/"))).toMatchObject({
      code: "validation",
      exitCode: 4,
      message: "channels.0: No.\nquery.limit: Never.\nbody: Not like this.",
    });
  });

  test("knows what is no service, also where it sends one elsewhere", async () => {
    const page: Answer = (_request, response) => {
      response.writeHead(200, { "content-type": "text/html" }).end("<html>");
    };
    const elsewhere: Answer = (_request, response) => {
      response.writeHead(302, { location: "https://example.com/" }).end();
    };
    for (const answer of [page, elsewhere, json(404, { error: "nope" })]) {
      const { client, requests } = await serve(answer);
      expect(await failureOf(client.request("GET", "/"))).toMatchObject({
        code: "not_a_service",
        exitCode: 3,
      });
      expect(requests).toHaveLength(1);
    }
  });

  test("waits for a service behind a proxy that is restarting", async () => {
    const gateway: Answer = (_request, response) => {
      response.writeHead(502, { "content-type": "text/html" }).end("<html>");
    };
    const { client } = await serve(gateway, json(200, { ok: true }));
    expect((await client.request("GET", "/")).json).toEqual({ ok: true });
  });

  test("reads a list page by page, and no further than asked for", async () => {
    const { client, requests } = await serve(
      json(200, { data: [1, 2], iterator: "two", done: false }),
      json(200, { data: [3], iterator: "three", done: true }),
    );
    const items = [];
    for await (const item of client.list("/api/v1/app", { tag: ["a", "b"], none: undefined }, 3))
      items.push(item);
    expect(items).toEqual([1, 2, 3]);
    expect(requests.map(({ url }) => url)).toEqual([
      "/api/v1/app?tag=a&tag=b&limit=3",
      "/api/v1/app?tag=a&tag=b&limit=1&iterator=two",
    ]);
  });
});
