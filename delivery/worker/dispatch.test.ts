import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { Application } from "../core/application.ts";
import type { BlockingDialect, Dialect } from "../core/dialect.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { judgeAnswer } from "../core/verdict.ts";
import { createLogger } from "../log.ts";
import { openSqliteStore } from "../store/sqlite-store.ts";
import type { Store } from "../store/store.ts";
import { Dispatcher, type DispatcherOptions } from "./dispatch.ts";
import { createSender } from "./send.ts";

/** Waits until it holds; long enough for a busy machine. */
const eventually = (check: () => unknown): Promise<unknown> =>
  vi.waitFor(check, { timeout: 10_000, interval: 10 });

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Sends the payload as it is, with the ids in headers; retries twice, quickly. */
const plainDialect: Dialect = {
  name: "plain",
  eventTypes: [],
  retryDelaysMs: [30, 30],
  jitter: 0,
  timeoutMs: 1_000,
  problemsOf: (eventType, payload) => [
    ...(eventType.startsWith("x") ? [`The event type "${eventType}" is unknown.`] : []),
    ...(typeof payload === "object" ? [] : ["The payload must be an object."]),
  ],
  selects: (endpoint, message) => endpoint.filterTypes?.includes(message.eventType) ?? true,
  encode: ({ endpoint, message, attempt }) => {
    if (endpoint.settings["broken"] === true) throw new Error("the template has no end");
    return {
      method: "POST",
      url: endpoint.url,
      headers: { "x-message": message.id, "x-attempt": String(attempt) },
      body: message.payload,
    };
  },
  judge: judgeAnswer,
  verify: () => ({ verified: false, reason: "not asked" }),
};

const blockingDialect: BlockingDialect = {
  ...plainDialect,
  hookTimeoutMs: 200,
  encodeHook: (input) => ({ ...plainDialect.encode(input), url: `${input.endpoint.url}/before` }),
  judgeHook: (_eventType, answer) => {
    if (answer === null) return { publish: true, changes: {}, reason: "no answer in time" };
    if (answer.status !== 200) return { publish: false, reason: `refused with ${answer.status}` };
    return { publish: true, changes: JSON.parse(answer.body) as Record<string, string>, reason: "changed" };
  },
};

interface Request {
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}
type Respond = (
  request: Request,
  count: number,
) => { status: number; headers?: Record<string, string>; body?: string } | null;

/** A receiver that answers as told; null answers nothing. */
async function openReceiver(respond: Respond = () => ({ status: 200 })) {
  const requests: Request[] = [];
  const server = createServer((incoming, response) => {
    let body = "";
    incoming.on("data", (chunk: Buffer) => (body += chunk.toString()));
    incoming.on("end", () => {
      const request = { url: incoming.url!, headers: incoming.headers, body };
      requests.push(request);
      const answer = respond(request, requests.length);
      if (answer) response.writeHead(answer.status, answer.headers).end(answer.body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}

const application: Application = {
  id: "app_1",
  uid: "shop",
  name: "Shop",
  dialect: "plain",
  throttleRate: null,
  metadata: {},
  createdAt: 1,
  updatedAt: 1,
};

function endpointTo(url: string, changes: Partial<Endpoint> = {}): Endpoint {
  return {
    id: "ep_1",
    applicationId: "app_1",
    uid: null,
    url,
    description: "",
    filterTypes: null,
    channels: null,
    headers: {},
    disabled: false,
    throttleRate: null,
    version: 1,
    metadata: {},
    settings: {},
    secrets: [],
    createdAt: 1,
    updatedAt: 1,
    ...changes,
  };
}

async function openEngine(endpoints: readonly Endpoint[], options: Partial<DispatcherOptions> = {}) {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-dispatch-"));
  const store = await openSqliteStore(folder);
  await store.write(async (tx) => {
    await tx.applications.insert(application);
    for (const endpoint of endpoints) await tx.endpoints.insert(endpoint);
  });
  const dispatcher = startDispatcher(store, options);
  cleanups.push(async () => {
    await dispatcher.stop(0);
    await store.close();
    rmSync(folder, { recursive: true });
  });
  await dispatcher.start();
  const stateOf = async (messageId: string, endpointId = "ep_1") =>
    await store.read((tx) => tx.deliveries.find(messageId, endpointId));
  const attemptsOf = async (messageId: string) =>
    await store.read((tx) => tx.attempts.list({ applicationId: "app_1", messageId }, { limit: 100 }));
  return { store, dispatcher, stateOf, attemptsOf };
}

function startDispatcher(store: Store, options: Partial<DispatcherOptions> = {}): Dispatcher {
  const now = Date.now;
  const sender = createSender({ allowSubnets: ["127.0.0.0/8"], userAgent: "Hookplane/test", now });
  return new Dispatcher({
    store,
    sender,
    dialectOf: () => plainDialect,
    logger: createLogger("silent"),
    now,
    random: () => 0.5,
    ...options,
  });
}

const event = (eventType = "order.paid", text = '{ "amount": 1.0 }') => ({
  eventType,
  payload: Buffer.from(text),
});

describe("publish()", () => {
  test("an event arrives at each endpoint that wants it, as the very bytes that were published", async () => {
    const receiver = await openReceiver();
    const { dispatcher, stateOf, attemptsOf } = await openEngine([
      endpointTo(`${receiver.url}/a`),
      endpointTo(`${receiver.url}/b`, { id: "ep_2", filterTypes: ["other"] }),
      endpointTo(`${receiver.url}/c`, { id: "ep_3", filterTypes: ["order.paid"] }),
      endpointTo(`${receiver.url}/d`, { id: "ep_4", disabled: true }),
    ]);
    const message = await dispatcher.publish(application, event());
    await eventually(async () => {
      expect(await attemptsOf(message.id)).toHaveLength(2);
    });
    expect(receiver.requests.map(({ url }) => url).sort()).toEqual(["/a", "/c"]);
    expect(receiver.requests[0]).toMatchObject({
      body: '{ "amount": 1.0 }',
      headers: { "x-message": message.id, "x-attempt": "0" },
    });
    expect(await stateOf(message.id)).toMatchObject({ state: "succeeded", attempts: 1, nextAttemptAt: null });
    expect((await attemptsOf(message.id))[0]).toMatchObject({
      succeeded: true,
      responseStatusCode: 200,
      trigger: "scheduled",
    });
  });

  test("what is accepted is on disk, with its deliveries, when the caller hears of it", async () => {
    const receiver = await openReceiver(() => null);
    const { dispatcher, store, stateOf } = await openEngine([endpointTo(receiver.url)]);
    const message = await dispatcher.publish(application, event());
    expect(await store.read((tx) => tx.messages.find("app_1", message.id))).toBeDefined();
    expect(await stateOf(message.id)).toMatchObject({ state: "pending", attempts: 0 });
  });

  test("refuses what the dialect refuses, with every fault", async () => {
    const { dispatcher } = await openEngine([]);
    await expect(dispatcher.publish(application, event("x", "1"))).rejects.toMatchObject({
      code: "validation",
      faults: [
        { path: ["body"], message: 'The event type "x" is unknown.' },
        { path: ["body"], message: "The payload must be an object." },
      ],
    });
    await expect(dispatcher.publish(application, event("a", "{"))).rejects.toMatchObject({
      faults: [{ message: "The payload is not JSON" }],
    });
  });

  test("refuses an event id that is taken, and delivers the first only", async () => {
    const receiver = await openReceiver();
    const { dispatcher } = await openEngine([endpointTo(receiver.url)]);
    const [first, second] = await Promise.allSettled([
      dispatcher.publish(application, { ...event(), eventId: "order-1" }),
      dispatcher.publish(application, { ...event(), eventId: "order-1" }),
    ]);
    expect(first.status).toBe("fulfilled");
    expect(second).toMatchObject({
      reason: { code: "conflict", message: 'There is a message with the event id "order-1"' },
    });
    await eventually(() => {
      expect(receiver.requests).toHaveLength(1);
    });
    await eventually(() => {
      expect(dispatcher.metrics.deliveriesHeld).toBe(0);
    });
  });

  test("what is written alongside is kept with the message, or refuses it", async () => {
    const { dispatcher, store } = await openEngine([]);
    const entry = { key: "k", requestHash: "h", status: 202, body: "", expiresAt: 10 };
    await dispatcher.publish(application, event(), (tx) => tx.idempotency.insert(entry, 1));
    await expect(
      dispatcher.publish(application, event(), (tx) => tx.idempotency.insert(entry, 1)),
    ).rejects.toMatchObject({ name: "ConflictError", rule: "idempotency.key" });
    const messages = await store.read((tx) => tx.messages.list({ applicationId: "app_1" }, { limit: 9 }));
    expect(messages).toHaveLength(1);
  });

  test("an application that is gone is not found", async () => {
    const { dispatcher, store } = await openEngine([]);
    await dispatcher.publish(application, event());
    await store.write((tx) => tx.applications.delete("app_1"));
    await expect(dispatcher.publish(application, event())).rejects.toMatchObject({ code: "not_found" });
  });

  test("an endpoint that was just changed gets the event at its new address", async () => {
    const receiver = await openReceiver();
    const { dispatcher, store } = await openEngine([endpointTo(`${receiver.url}/old`)]);
    await dispatcher.publish(application, event());
    await eventually(() => {
      expect(receiver.requests).toHaveLength(1);
    });
    await store.write((tx) => tx.endpoints.update(endpointTo(`${receiver.url}/new`)));
    await dispatcher.publish(application, event());
    await eventually(() => {
      expect(receiver.requests[1]?.url).toBe("/new");
    });
  });
});

describe("delivery", () => {
  test("a failure is tried again under the same id until it succeeds", async () => {
    const receiver = await openReceiver((_request, count) => ({ status: count < 3 ? 500 : 204 }));
    const { dispatcher, stateOf, attemptsOf } = await openEngine([endpointTo(receiver.url)]);
    const message = await dispatcher.publish(application, event());
    await eventually(async () => {
      expect(await stateOf(message.id)).toMatchObject({ state: "succeeded", attempts: 3 });
    });
    expect(receiver.requests.map(({ headers }) => [headers["x-message"], headers["x-attempt"]])).toEqual([
      [message.id, "0"],
      [message.id, "1"],
      [message.id, "2"],
    ]);
    expect((await attemptsOf(message.id)).map((attempt) => attempt.responseStatusCode)).toEqual([
      500, 500, 204,
    ]);
  });

  test("ends as failed when the schedule does; a resend starts it anew", async () => {
    let status = 302;
    const receiver = await openReceiver(() => ({ status }));
    const { dispatcher, stateOf, attemptsOf } = await openEngine([endpointTo(receiver.url)]);
    const message = await dispatcher.publish(application, event());
    await eventually(async () => {
      expect(await stateOf(message.id)).toMatchObject({ state: "failed", attempts: 3 });
    });
    status = 200;
    await dispatcher.resend(application, message.id, "ep_1");
    await eventually(async () => {
      expect(await stateOf(message.id)).toMatchObject({ state: "succeeded", attempts: 1 });
    });
    expect((await attemptsOf(message.id)).map(({ trigger }) => trigger)).toEqual([
      "scheduled",
      "scheduled",
      "scheduled",
      "manual",
    ]);
  });

  test("waits as long as the receiver's Retry-After asks", async () => {
    const receiver = await openReceiver(() => ({ status: 429, headers: { "retry-after": "60" } }));
    const { dispatcher, stateOf } = await openEngine([endpointTo(receiver.url)]);
    const message = await dispatcher.publish(application, event());
    await eventually(async () => {
      expect(await stateOf(message.id)).toMatchObject({ attempts: 1 });
    });
    expect((await stateOf(message.id))!.nextAttemptAt! - message.createdAt).toBeGreaterThanOrEqual(60_000);
  });

  test("410 disables the endpoint, which gets nothing from then on", async () => {
    const receiver = await openReceiver(() => ({ status: 410 }));
    const { dispatcher, store, stateOf } = await openEngine([endpointTo(receiver.url)]);
    const message = await dispatcher.publish(application, event());
    await eventually(async () => {
      expect(await stateOf(message.id)).toMatchObject({ state: "failed" });
    });
    expect(await store.read((tx) => tx.endpoints.find("app_1", "ep_1"))).toMatchObject({ disabled: true });
    const second = await dispatcher.publish(application, event());
    expect(await stateOf(second.id)).toBeUndefined();
    await expect(dispatcher.resend(application, message.id, "ep_1")).rejects.toMatchObject({
      code: "bad_request",
    });
  });

  test("what waits for an endpoint that was disabled meanwhile fails without a request", async () => {
    const receiver = await openReceiver(() => ({ status: 500 }));
    const { dispatcher, store, stateOf, attemptsOf } = await openEngine([endpointTo(receiver.url)], {
      dialectOf: () => ({ ...plainDialect, retryDelaysMs: [500, 500] }),
    });
    const message = await dispatcher.publish(application, event());
    await eventually(async () => {
      expect(await stateOf(message.id)).toMatchObject({ attempts: 1 });
    });
    await store.write((tx) => tx.endpoints.update(endpointTo(receiver.url, { disabled: true })));
    await eventually(async () => {
      expect(await stateOf(message.id)).toMatchObject({ state: "failed" });
    });
    expect(await attemptsOf(message.id)).toHaveLength(receiver.requests.length);
  });

  test("an endpoint that is deleted while it is being sent to leaves no delivery behind", async () => {
    const receiver = await openReceiver(() => null);
    const { dispatcher, store, stateOf } = await openEngine([endpointTo(receiver.url)]);
    const message = await dispatcher.publish(application, event());
    await eventually(() => {
      expect(receiver.requests).toHaveLength(1);
    });
    await store.write((tx) => tx.endpoints.delete("ep_1"));
    expect(await stateOf(message.id)).toBeUndefined();
  });

  test("what cannot be encoded, and where the guard lets nothing go, is on record with the reason", async () => {
    const { dispatcher, attemptsOf } = await openEngine([
      endpointTo("http://127.0.0.1:1", { settings: { broken: true } }),
      endpointTo("http://10.0.0.1/", { id: "ep_2" }),
    ]);
    const message = await dispatcher.publish(application, event());
    await eventually(async () => {
      expect((await attemptsOf(message.id)).length).toBeGreaterThanOrEqual(2);
    });
    const responses = (await attemptsOf(message.id)).map(
      ({ endpointId, response }) => `${endpointId}: ${response}`,
    );
    expect(responses).toContain("ep_1: not sent: the template has no end");
    expect(responses.find((response) => response.startsWith("ep_2"))).toContain("is not a public address");
  });

  test("a receiver that hangs holds up no other endpoint, and what memory has no room for arrives too", async () => {
    const hanging = await openReceiver(() => null);
    const healthy = await openReceiver();
    const { dispatcher } = await openEngine(
      [endpointTo(hanging.url), endpointTo(healthy.url, { id: "ep_2" })],
      { limits: { concurrency: 2, laneCapacity: 4, totalCapacity: 10 } },
    );
    await Promise.all(Array.from({ length: 100 }, () => dispatcher.publish(application, event())));
    await eventually(() => {
      expect(new Set(healthy.requests.map(({ headers }) => headers["x-message"])).size).toBe(100);
    });
    expect(healthy.requests).toHaveLength(100);
    expect(hanging.requests).toHaveLength(2);
    // The hanging lane and what is claimed for it at once, no more.
    expect(dispatcher.metrics.deliveriesHeld).toBeLessThanOrEqual(16);
  });

  test("what came of an attempt is written down once the database can be written again", async () => {
    const receiver = await openReceiver();
    const { dispatcher, store, stateOf } = await openEngine([endpointTo(receiver.url)]);
    const { ServiceError } = await import("../errors.ts");
    const write = store.write.bind(store);
    let failures = 0;
    const message = await dispatcher.publish(application, event());
    vi.spyOn(store, "write").mockImplementation((fn) =>
      failures++ < 2 ? Promise.reject(new ServiceError("unavailable", "disk full")) : write(fn),
    );
    await eventually(async () => {
      expect(await stateOf(message.id)).toMatchObject({ state: "succeeded" });
    });
    expect(failures).toBeGreaterThan(2);
    expect(receiver.requests).toHaveLength(1);
  });

  test("a retry that is due at once is made at once, each time", async () => {
    const receiver = await openReceiver((_request, count) => ({ status: count < 20 ? 500 : 200 }));
    const { dispatcher, stateOf } = await openEngine([endpointTo(receiver.url)], {
      dialectOf: () => ({ ...plainDialect, retryDelaysMs: new Array<number>(30).fill(0) }),
    });
    const message = await dispatcher.publish(application, event());
    await eventually(async () => {
      expect(await stateOf(message.id)).toMatchObject({ state: "succeeded", attempts: 20 });
    });
  });

  test("is counted", async () => {
    const receiver = await openReceiver((_request, count) => ({ status: count === 1 ? 500 : 200 }));
    const { dispatcher, stateOf } = await openEngine([endpointTo(receiver.url)]);
    const message = await dispatcher.publish(application, event());
    await eventually(async () => {
      expect(await stateOf(message.id)).toMatchObject({ state: "succeeded" });
    });
    await eventually(() => {
      expect(dispatcher.metrics).toMatchObject({
        messagesAccepted: 1,
        deliveriesCreated: 1,
        attempts: { plain: { succeeded: 1, retried: 1, failed: 0 } },
        deliveriesHeld: 0,
      });
    });
    expect(dispatcher.metrics.attemptDuration.counts.at(-1)).toBe(2);
  });
});

describe("resend()", () => {
  test("of what is not there is not found", async () => {
    const { dispatcher } = await openEngine([]);
    const message = await dispatcher.publish(application, event());
    await expect(dispatcher.resend(application, "msg_9", "ep_9")).rejects.toThrow(
      'There is no message "msg_9"',
    );
    await expect(dispatcher.resend(application, message.id, "ep_9")).rejects.toThrow(
      'There is no endpoint "ep_9"',
    );
  });

  test("brings a message to an endpoint that did not get it at first", async () => {
    const receiver = await openReceiver();
    const { dispatcher, stateOf } = await openEngine([endpointTo(receiver.url, { filterTypes: ["other"] })]);
    const message = await dispatcher.publish(application, event());
    await dispatcher.resend(application, message.id, "ep_1");
    await eventually(async () => {
      expect(await stateOf(message.id)).toMatchObject({ state: "succeeded" });
    });
  });

  test("leaves a delivery alone that is on its way", async () => {
    const receiver = await openReceiver(() => null);
    const { dispatcher, stateOf } = await openEngine([endpointTo(receiver.url)]);
    const message = await dispatcher.publish(application, event());
    await dispatcher.resend(application, message.id, "ep_1");
    expect(await stateOf(message.id)).toMatchObject({ trigger: "scheduled" });
  });
});

describe("hook()", () => {
  const openBlocking = (endpoints: Endpoint[]) => openEngine(endpoints, { dialectOf: () => blockingDialect });

  test("answers with the receiver's changes, and stores nothing", async () => {
    const receiver = await openReceiver(() => ({ status: 200, body: '{"body":"better"}' }));
    const { dispatcher, store } = await openBlocking([endpointTo(receiver.url)]);
    expect(await dispatcher.hook(application, event())).toEqual({
      publish: true,
      changes: { body: "better" },
      reason: "changed",
    });
    expect(receiver.requests[0]?.url).toBe("/before");
    expect(await store.read((tx) => tx.messages.list({ applicationId: "app_1" }, { limit: 1 }))).toEqual([]);
  });

  test("answers with the first refusal", async () => {
    const receiver = await openReceiver(() => ({ status: 403 }));
    const { dispatcher } = await openBlocking([
      endpointTo(receiver.url),
      endpointTo(receiver.url, { id: "ep_2" }),
    ]);
    expect(await dispatcher.hook(application, event())).toEqual({
      publish: false,
      reason: "refused with 403",
    });
    expect(receiver.requests).toHaveLength(1);
  });

  test("waits no longer than the dialect allows", async () => {
    const receiver = await openReceiver(() => null);
    const { dispatcher } = await openBlocking([endpointTo(receiver.url)]);
    expect(await dispatcher.hook(application, event())).toMatchObject({ reason: "no answer in time" });
  });

  test("publishes where no endpoint asks to be asked", async () => {
    const { dispatcher } = await openBlocking([endpointTo("http://127.0.0.1:1", { disabled: true })]);
    expect(await dispatcher.hook(application, event())).toMatchObject({ publish: true, changes: {} });
  });

  test("is refused for a dialect that has none", async () => {
    const { dispatcher } = await openEngine([]);
    await expect(dispatcher.hook(application, event())).rejects.toThrow(
      'events of "shop" have no blocking hook',
    );
  });
});

describe("stop()", () => {
  test("waits for what is under way, gives back the rest, and the next start delivers it", async () => {
    const receiver = await openReceiver((_request, count) => (count <= 2 ? null : { status: 200 }));
    const engine = await openEngine([endpointTo(receiver.url)], { limits: { concurrency: 2 } });
    const { dispatcher, store, stateOf, attemptsOf } = engine;
    const messages = await Promise.all([1, 2, 3].map(() => dispatcher.publish(application, event())));
    await eventually(() => {
      expect(receiver.requests).toHaveLength(2);
    });
    await dispatcher.stop(50);
    await expect(dispatcher.publish(application, event())).rejects.toMatchObject({
      code: "unavailable",
      retryAfterSeconds: 1,
    });
    // The two that were cut off are not on record as failures.
    for (const { id } of messages) {
      expect(await stateOf(id)).toMatchObject({ state: "pending", attempts: 0 });
      expect(await attemptsOf(id)).toEqual([]);
    }
    const next = startDispatcher(store);
    cleanups.push(() => next.stop(0));
    await next.start();
    for (const { id } of messages) {
      await eventually(async () => {
        expect(await stateOf(id)).toMatchObject({ state: "succeeded" });
      });
    }
  });

  test("lets what answers in time end", async () => {
    const receiver = await openReceiver();
    const { dispatcher, stateOf } = await openEngine([endpointTo(receiver.url)]);
    const message = await dispatcher.publish(application, event());
    await dispatcher.stop(2_000);
    expect(await stateOf(message.id)).toMatchObject({ state: "succeeded" });
  });
});
