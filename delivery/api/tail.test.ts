import { connect, type Socket } from "node:net";
import { once } from "node:events";
import fastify from "fastify";
import { afterEach, describe, expect, test, vi } from "vitest";
import { readEventStream, type StreamedEvent } from "../../cli/event-stream.ts";
import type { Caller } from "../core/caller.ts";
import { ServiceError } from "../errors.ts";
import { createLogger } from "../log.ts";
import { aMessage, anApplication, testDatabases } from "../store/scene.suite.ts";
import { sendError } from "./errors.ts";
import type { ServerContext } from "./server.ts";
import { startReceiver, startService, type TestService } from "./service.suite.ts";
import { registerTail } from "./tail.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(): Promise<TestService> {
  const service = await startService();
  cleanups.push(() => service[Symbol.asyncDispose]());
  return service;
}

/** Listens to a path, and keeps what it hears. */
async function listen(url: string, headers: Record<string, string> = {}) {
  const stop = new AbortController();
  cleanups.push(() => {
    stop.abort();
  });
  const response = await fetch(url, { headers, signal: stop.signal });
  const events: (StreamedEvent & { readonly json: Record<string, unknown> })[] = [];
  const waits: number[] = [];
  const done = (async () => {
    try {
      for await (const event of readEventStream(response.body!, (waitMs) => waits.push(waitMs))) {
        events.push({ ...event, json: JSON.parse(event.data) });
      }
      return "ended";
    } catch {
      return "cut";
    }
  })();
  const heard = (name: string) => events.filter((event) => event.name === name);
  if (response.status === 200)
    await until(() => {
      expect(heard("connected")).toHaveLength(1);
    });
  return {
    response,
    events,
    waits,
    heard,
    done,
    stop: () => {
      stop.abort();
    },
  };
}

function until(assertion: () => void): Promise<void> {
  return vi.waitFor(assertion, { timeout: 15_000, interval: 10 });
}

describe("GET /api/v1/app/<app>/tail", () => {
  test("tells what happens to an event, while it happens", async () => {
    const service = await start();
    await using receiver = await startReceiver();
    const bearer = { authorization: `Bearer ${service.token}` };
    await service.svix.application.create({ name: "Shop", uid: "shop" });
    const { response, heard, waits } = await listen(`${service.url}/api/v1/app/shop/tail`, bearer);
    expect([...response.headers]).toEqual(
      expect.arrayContaining([
        ["content-type", "text/event-stream; charset=utf-8"],
        ["cache-control", "no-cache, no-transform"],
        ["x-request-id", expect.any(String)],
      ]),
    );
    expect(waits).toEqual([2000]);

    const endpoint = await service.svix.endpoint.create("shop", { url: receiver.url, uid: "main" });
    receiver.answer = { status: 500, body: "canary-answer" };
    const message = await service.svix.message.create("shop", {
      eventType: "order.paid",
      payload: { note: "canary-payload" },
    });
    await until(() => {
      expect(heard("attempt.failed")).toHaveLength(1);
    });
    expect(heard("endpoint.created")[0]!.json).toMatchObject({
      endpointId: endpoint.id,
      endpointUid: "main",
    });
    expect(heard("message.accepted")[0]!.json).toMatchObject({ msgId: message.id, eventType: "order.paid" });
    const failed = heard("attempt.failed")[0]!.json;
    expect(failed).toMatchObject({
      msgId: message.id,
      responseStatusCode: 500,
      statusText: "pending",
      attempts: 1,
    });
    expect(Date.parse(failed["nextAttempt"] as string)).toBeGreaterThan(Date.now());

    receiver.answer = { status: 200, body: "" };
    await service.svix.messageAttempt.resend("shop", message.id, endpoint.id);
    await until(() => {
      expect(heard("attempt.succeeded")).toHaveLength(1);
    });
    expect(heard("attempt.succeeded")[0]!.json).toMatchObject({
      triggerType: 1,
      statusText: "success",
      nextAttempt: null,
    });

    receiver.answer = { status: 410, body: "" };
    await service.svix.message.create("shop", { eventType: "order.paid", payload: {} });
    await until(() => {
      expect(heard("endpoint.disabled")).toHaveLength(1);
    });
    const text = JSON.stringify(heard("message.accepted")) + JSON.stringify(heard("attempt.failed"));
    expect(text).not.toContain("canary");
  });

  test("goes on behind the last event that a client has seen", async () => {
    const service = await start();
    const bearer = { authorization: `Bearer ${service.token}` };
    await service.svix.application.create({ name: "Shop", uid: "shop" });
    const url = `${service.url}/api/v1/app/shop/tail`;
    const publish = async () =>
      (await service.svix.message.create("shop", { eventType: "order.paid", payload: {} })).id;
    const ids = ({ heard }: Awaited<ReturnType<typeof listen>>) =>
      heard("message.accepted").map(({ json }) => json["msgId"]);
    const first = await listen(url, bearer);
    const published = [await publish()];
    await until(() => {
      expect(ids(first)).toEqual(published);
    });
    first.stop();
    published.push(await publish(), await publish());
    const second = await listen(url, { ...bearer, "last-event-id": first.events.at(-1)!.lastId });
    await until(() => {
      expect(ids(second)).toEqual(published.slice(1));
    });
    // Also one that has seen nothing but the greeting.
    const third = await listen(url, { ...bearer, "last-event-id": first.events[0]!.lastId });
    await until(() => {
      expect(ids(third)).toEqual(published);
    });
  });

  test("tells what was asked for alone", async () => {
    const service = await start();
    await using receiver = await startReceiver();
    const bearer = { authorization: `Bearer ${service.token}` };
    await service.svix.application.create({ name: "Shop", uid: "shop" });
    await service.svix.endpoint.create("shop", { url: receiver.url, uid: "main" });
    await service.svix.endpoint.create("shop", { url: receiver.url, uid: "other" });
    const url = `${service.url}/api/v1/app/shop/tail`;
    const byType = await listen(`${url}?types=attempt.succeeded,attempt.failed`, bearer);
    const byEvent = await listen(`${url}?event_types=order.paid`, bearer);
    const byEndpoint = await listen(`${url}?endpoint_id=other`, bearer);
    for (const eventType of ["order.sent", "order.paid"]) {
      await service.svix.message.create("shop", { eventType, payload: {} });
    }
    const names = ({ events }: { events: readonly StreamedEvent[] }) =>
      events
        .slice(1)
        .map(({ name }) => name)
        .sort();
    const attempt = "attempt.succeeded";
    await until(() => {
      expect(names(byType)).toEqual([attempt, attempt, attempt, attempt]);
      expect(names(byEvent)).toEqual([attempt, attempt, "message.accepted"]);
      expect(names(byEndpoint)).toEqual([attempt, attempt]);
    });
    expect(byEndpoint.events.slice(1).map(({ json }) => json["endpointUid"])).toEqual(["other", "other"]);
  });

  test("says what is wrong with a request", async () => {
    const service = await start();
    await service.request("POST", "/api/v1/app", { name: "Shop", uid: "shop" });
    const { status, json } = await service.request("GET", "/api/v1/app/shop/tail?types=nothing&endpoint_id=");
    expect(status).toBe(422);
    expect(json.detail.map(({ loc }: { loc: unknown }) => loc)).toEqual([
      ["query", "types", "0"],
      ["query", "endpoint_id"],
    ]);
    const resumed = await service.request("GET", "/api/v1/app/shop/tail", undefined, {
      "last-event-id": "7",
    });
    expect([resumed.status, resumed.json.detail[0].loc]).toEqual([422, ["header", "last-event-id"]]);
    expect((await service.request("GET", "/api/v1/app/none/tail")).status).toBe(404);
    expect((await service.request("HEAD", "/api/v1/app/shop/tail")).status).toBe(405);
  });

  test("ends when the application is deleted, and when the service stops", async () => {
    const service = await start();
    const bearer = { authorization: `Bearer ${service.token}` };
    await service.svix.application.create({ name: "Shop", uid: "shop" });
    const one = await listen(`${service.url}/api/v1/app/shop/tail`, bearer);
    const all = await listen(`${service.url}/api/v1/tail`, bearer);
    await service.svix.application.delete("shop");
    expect(await one.done).toBe("ended");
    expect(one.heard("end")[0]!.json).toEqual({ reason: "the application was deleted" });
    await until(() => {
      expect(all.heard("application.deleted")).toHaveLength(1);
    });
    await service.service.close();
    expect(await all.done).toBe("ended");
    expect(all.heard("end")[0]!.json).toEqual({ reason: "the service is stopping" });
  });
});

describe("GET /api/v1/tail", () => {
  test("tells of all applications of the caller's organization, and of no other", async () => {
    const service = await start();
    const { json: organization } = await service.request("POST", "/api/v1/organization", { name: "Other" });
    const { json: token } = await service.request(
      "POST",
      `/api/v1/organization/${organization.id}/token`,
      {},
    );
    const theirs = { authorization: `Bearer ${token.token}` };
    const mine = await listen(`${service.url}/api/v1/tail`, { authorization: `Bearer ${service.token}` });
    const others = await listen(`${service.url}/api/v1/tail`, theirs);
    await service.svix.application.create({ name: "Shop", uid: "shop" });
    await service.request("POST", "/api/v1/app", { name: "Strange", uid: "shop" }, theirs);
    const message = { eventType: "order.paid", payload: {} };
    const first = await service.svix.message.create("shop", message);
    const { json: second } = await service.request("POST", "/api/v1/app/shop/msg", message, theirs);
    await until(() => {
      expect(mine.heard("message.accepted").map(({ json }) => json["msgId"])).toEqual([first.id]);
      expect(others.heard("message.accepted").map(({ json }) => json["msgId"])).toEqual([second.id]);
    });
  });
});

describe("a client", () => {
  const caller: Caller = { organizationId: "default", isAdmin: false, limits: null, tokenId: null };

  /** A server with nothing but this route, over a store of its own. */
  async function serve(limits: Partial<Parameters<typeof registerTail>[3]> = {}) {
    const opened = await testDatabases[0]!.open();
    cleanups.push(() => opened[Symbol.asyncDispose]());
    const application = anApplication({ uid: "shop" });
    await opened.store.write((tx) => tx.applications.insert(application));
    const server = fastify();
    server.decorateRequest("caller");
    server.setErrorHandler(sendError);
    let refusal: Error | undefined;
    server.addHook("onRequest", async (request) => {
      request.caller = caller;
    });
    const context = { store: opened.store, logger: createLogger("silent"), now: Date.now } as unknown;
    registerTail(
      server,
      context as ServerContext,
      (_request, _reply, done) => {
        done(refusal);
      },
      { heartbeatMs: 20, maxStuckHeartbeats: 1_000, maxWaitingBytes: 2_000_000, maxClients: 2, ...limits },
    );
    await server.listen({ port: 0, host: "127.0.0.1" });
    cleanups.push(() => {
      // Also those that a client has opened, and asked for nothing.
      server.server.closeAllConnections();
      return server.close();
    });
    const { port } = server.server.address() as { port: number };
    return {
      port,
      url: `http://127.0.0.1:${port}/app/shop/tail`,
      refuse: (error: Error) => {
        refusal = error;
      },
      publish: (count: number) =>
        opened.store.write(async (tx) => {
          // Long enough to fill what the operating system keeps for a client that does not read.
          const tags = ["x".repeat(100_000)];
          for (let each = 0; each < count; each++) {
            await tx.messages.insert(aMessage(application, { createdAt: Date.now(), tags }));
          }
        }),
    };
  }

  /** Asks for the events, and reads nothing. */
  async function askSilently(port: number): Promise<Socket> {
    const socket = connect(port, "127.0.0.1");
    cleanups.push(() => socket.destroy());
    await once(socket, "connect");
    socket.pause();
    socket.write("GET /app/shop/tail HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    return socket;
  }

  test("that reads slowly loses events, and is told how many", async () => {
    const { port, url, publish } = await serve();
    const socket = await askSilently(port);
    const steady = await listen(url);
    const rounds = 8;
    for (let round = 1; round <= rounds; round++) {
      await publish(20);
      await until(() => {
        expect(steady.heard("message.accepted")).toHaveLength(round * 20);
      });
    }
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    socket.resume();
    const told = () => text.match(/^event: message\.accepted$/gm)?.length ?? 0;
    const missed = () =>
      [...text.matchAll(/^event: missed\ndata: (.*)$/gm)].reduce(
        (sum, [, data]) => sum + (JSON.parse(data!) as { count: number }).count,
        0,
      );
    await until(() => {
      expect(told() + missed()).toBe(rounds * 20);
    });
    expect(missed()).toBeGreaterThan(0);
    expect(told()).toBeGreaterThan(0);
    expect(steady.heard("missed")).toEqual([]);
  });

  test("that reads nothing for long is let go", async () => {
    const { port, url, publish } = await serve({ maxStuckHeartbeats: 3 });
    const socket = await askSilently(port);
    const steady = await listen(url);
    let isClosed = false;
    socket.on("close", () => (isClosed = true));
    for (let round = 1; round <= 10; round++) {
      await publish(10);
      await until(() => {
        expect(steady.heard("message.accepted")).toHaveLength(round * 10);
      });
    }
    // There was room for it again.
    await until(() => {
      socket.resume();
      expect(isClosed).toBe(true);
    });
  });

  test("whose token is taken back hears nothing more", async () => {
    const { url, refuse } = await serve();
    const { done, heard } = await listen(url);
    refuse(new ServiceError("unavailable", "The database cannot be used now"));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(heard("end")).toEqual([]);
    refuse(new ServiceError("authentication_failed", "The token has expired: ask for a new one."));
    expect(await done).toBe("ended");
    expect(heard("end")[0]!.json).toEqual({ reason: "The token has expired: ask for a new one." });
  });

  test("is told to come back later where too many listen already", async () => {
    const { url } = await serve();
    const first = await listen(url);
    await listen(url);
    const refused = await fetch(url);
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "10"]);
    first.stop();
    await vi.waitFor(async () => {
      expect((await listen(url)).response.status).toBe(200);
    });
  });
});
