import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { makeDataDir, serve } from "../worker/process.suite.ts";
import { RawConnection } from "./raw-connection.suite.ts";
import { eventually, startService, type TestService } from "./service.suite.ts";

const maxInFlightRequests = 2;
const body = JSON.stringify({ eventType: "a", payload: { n: 1 } });

let service: TestService;
beforeEach(async () => {
  service = await startService({ maxInFlightRequests, maxBodyBytes: 100_000 });
  await service.svix.application.create({ name: "a", uid: "a" });
});
afterEach(async () => {
  for (const connection of connections.splice(0)) connection.close();
  await service[Symbol.asyncDispose]();
});

/** Closed with the test: a service that stops waits for requests under way. */
const connections: RawConnection[] = [];

async function open(url = service.url): Promise<RawConnection> {
  const connection = await RawConnection.open(url);
  connections.push(connection);
  return connection;
}

function head(path: string, headers: Readonly<Record<string, string | number>>, method = "POST"): string {
  const lines = Object.entries({ host: "h", authorization: `Bearer ${service.token}`, ...headers });
  return `${method} ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
}

/** A publishing request whose headers have been taken in, and whose body is still to come. */
async function begin(): Promise<RawConnection> {
  const connection = await open();
  connection.write(head("/api/v1/app/a/msg", { "content-length": body.length, expect: "100-continue" }));
  await connection.until((received) => received.includes("100 Continue\r\n\r\n"));
  return connection;
}

/** Takes every place there is. */
function fill(): Promise<RawConnection[]> {
  return Promise.all(Array.from({ length: maxInFlightRequests }, begin));
}

const publish = () => service.request("POST", "/api/v1/app/a/msg", body);

const refusal = {
  code: "too_many_requests",
  detail: "The service handles 2 publishing requests at a time already: try again in a moment.",
};

describe("publishing beyond the limit", () => {
  test.each([["msg"], ["msg/batch"], ["hook"]])(
    "is turned away at POST …/%s before the body comes, and told when to try again",
    async (route) => {
      await fill();
      const connection = await open();
      connection.write(head(`/api/v1/app/a/${route}`, { "content-length": 1000 }));
      const answer = await connection.answer();
      expect(answer).toMatchObject({ status: 429, headers: { "retry-after": "1" } });
      expect(JSON.parse(answer!.body)).toEqual(refusal);
    },
  );

  test("leaves everything else alone, health first of all", async () => {
    await fill();
    for (const [path, status] of [
      ["/healthz", 200],
      ["/readyz", 200],
      ["/api/v1/health", 204],
      ["/openapi.json", 200],
      ["/api/v1/app/a/msg", 200],
    ] as const) {
      expect((await service.request("GET", path)).status, path).toBe(status);
    }
    expect((await service.request("PATCH", "/api/v1/app/a", { name: "b" })).status).toBe(200);
  });

  test("goes on when a request is done", async () => {
    const [first] = await fill();
    expect((await publish()).status).toBe(429);
    first!.write(body);
    expect(await first!.answer()).toMatchObject({ status: 202 });
    expect((await publish()).status).toBe(202);
  });

  test("goes on when a client gives up in the middle of its body", async () => {
    for (const connection of await fill()) {
      connection.write(body.slice(0, 5));
      connection.close();
    }
    await eventually(async () => {
      expect((await publish()).status).toBe(202);
    });
  });

  test("lets a client whose request was turned away go on with its connection", async () => {
    const [first] = await fill();
    const connection = await open();
    const request = head("/api/v1/app/a/msg", { "content-length": body.length }) + body;
    connection.write(request);
    expect(await connection.answer()).toMatchObject({ status: 429 });
    first!.write(body);
    await first!.answer();
    const before = connection.received;
    connection.write(request);
    await connection.until((received) => received.length > before.length);
    expect(connection.received.slice(before.length)).toMatch(/^HTTP\/1\.1 202 /);
  });

  test("is no matter of strangers, who take no places", async () => {
    const [first] = await fill();
    first!.write(body);
    await first!.answer();
    const strangers = await Promise.all(
      Array.from({ length: 5 }, async () => {
        const connection = await open();
        connection.write(
          head("/api/v1/app/a/msg", { authorization: "Bearer wrong", "content-length": 1000 }),
        );
        return connection;
      }),
    );
    for (const connection of strangers) expect(await connection.answer()).toMatchObject({ status: 401 });
    expect((await publish()).status).toBe(202);
  });
});

test.each([
  ["is not JSON", "/api/v1/app/a/msg", "{", 400],
  ["has the wrong shape", "/api/v1/app/a/msg", "{}", 422],
  ["is too large", "/api/v1/app/a/msg", "x".repeat(100_001), 413],
  ["is for nobody", "/api/v1/app/b/msg", body, 404],
  ["is missing", "/api/v1/app/a/msg/batch", undefined, 400],
  ["asks nobody", "/api/v1/app/a/hook", body, 404],
])("a publishing request that %s gives its place back", async (_, path, sent, status) => {
  for (let times = 0; times < 3 * maxInFlightRequests; times++) {
    const answer = await service.request("POST", path, sent);
    expect(answer.status).toBe(status);
  }
  expect((await publish()).status).toBe(202);
});

test("a large body that nobody reads does not keep the next request on its connection waiting", async () => {
  await using own = await startService();
  // Answered only when much of the body is there.
  await own.request("PUT", "/inbox/a/answer", { delayMs: 200 });
  const connection = await open(own.url);
  const text = "a".repeat(900_000);
  connection.write(head("/inbox/a", { "content-length": text.length }, "GET") + text);
  expect(await connection.answer()).toMatchObject({ status: 204 });
  const before = connection.received.length;
  connection.write(head("/healthz", {}, "GET"));
  await connection.until((received, isOver) => isOver || received.length > before);
  expect(connection.received.slice(before)).toMatch(/^HTTP\/1\.1 200 /);
});

test("a request that is being handled keeps its place, whether anybody waits for its answer or not", async () => {
  const asked: (() => void)[] = [];
  const receiver = createServer((_request, response) => {
    asked.push(() => response.end("{}"));
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  const { port } = receiver.address() as AddressInfo;
  const { accountSid, authToken } = service.service.credentials["twilio"] as Record<string, string>;
  await fetch(`${service.url}/twilio/v1/Configuration/Webhooks`, {
    method: "POST",
    headers: { authorization: `Basic ${btoa(`${accountSid}:${authToken}`)}` },
    body: new URLSearchParams({ PreWebhookUrl: `http://127.0.0.1:${port}/`, Filters: "onMessageAdd" }),
  });
  const question = JSON.stringify({ eventType: "onMessageAdd", payload: {} });
  const clients = await Promise.all(
    Array.from({ length: maxInFlightRequests }, async () => {
      const connection = await open();
      connection.write(head("/api/v1/app/twilio/hook", { "content-length": question.length }) + question);
      return connection;
    }),
  );
  await eventually(() => {
    expect(asked).toHaveLength(maxInFlightRequests);
  });
  for (const client of clients) client.close();
  // Long enough for the service to see that they are gone: it has answered others since.
  for (let times = 0; times < 5; times++) expect((await publish()).status).toBe(429);
  for (const answer of asked) answer();
  await eventually(async () => {
    expect((await publish()).status).toBe(202);
  });
  receiver.closeAllConnections();
  receiver.close();
});

test("thousands of clients with slow, large bodies do not fill the memory, and the service goes on", async () => {
  const clients = 2_000;
  const part = Buffer.alloc(512 * 1024, " ");
  const dataDir = makeDataDir();
  const served = await serve(dataDir);
  await served.prepare("a", []);
  const { admin } = JSON.parse(readFileSync(join(dataDir, "credentials.json"), "utf8")) as {
    admin: { token: string };
  };
  // As large as it gets when as much is published one by one.
  for (let times = 0; times < 200; times++)
    await served.publish("a", { payload: { text: "x".repeat(100_000) } });
  const before = served.residentMiB;

  for (let count = 0; count < clients; count++) {
    const connection = await open(served.url);
    const headers = { authorization: `Bearer ${admin.token}`, "content-length": 1024 * 1024 };
    connection.write(head("/api/v1/app/a/msg", headers));
    connection.write(part);
    if (count % 200 === 0) expect((await served.call("GET", "/readyz")).status).toBe(200);
  }
  let peak = 0;
  const answered = () => connections.filter(({ received }) => received.startsWith("HTTP/1.1 429 ")).length;
  await vi.waitFor(async () => {
    peak = Math.max(peak, served.residentMiB);
    expect((await served.call("GET", "/healthz")).status).toBe(200);
    // What is held of bodies is bounded: those beyond are told to come back.
    expect(answered()).toBeGreaterThan(clients - 200);
  }, 60_000);
  for (const { received } of connections) {
    if (received !== "") expect(received.toLowerCase()).toContain("retry-after: 1\r\n");
  }
  // A GiB was sent.
  expect(peak - before).toBeLessThan(300);

  for (const connection of connections) connection.close();
  await eventually(async () => {
    expect((await served.publish("a", { payload: {} })).status).toBe(202);
  });
  // A body as large as the ones that were refused.
  await eventually(async () => {
    expect((await served.publish("a", { payload: { text: "x".repeat(900_000) } })).status).toBe(202);
  });
}, 120_000);
