import { describe, expect, test, vi } from "vitest";
import type { BlockingDialect } from "../core/dialect.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { ServiceError } from "../errors.ts";
import {
  application,
  createTestClock,
  endpointTo,
  event,
  eventually,
  openEngine,
  openReceiver,
  plainDialect,
  startNode,
} from "./engine.suite.ts";
import { silentNotices, type AttemptNotice } from "./notices.ts";

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

/** The database cannot be written for a while. */
const outage = () => Promise.reject(new ServiceError("unavailable", "disk full"));

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

  test("an event id that comes again is answered with the message of the first time, and delivered once", async () => {
    const receiver = await openReceiver();
    const { dispatcher } = await openEngine([endpointTo(receiver.url)]);
    const publish = () => dispatcher.publish(application, { ...event(), eventId: "order-1" });
    const [first, second] = await Promise.all([publish(), publish()]);
    const third = await publish();
    expect([second, third].map(({ id, createdAt }) => [id, createdAt])).toEqual(
      [first, first].map(({ id, createdAt }) => [id, createdAt]),
    );
    await eventually(() => {
      expect(receiver.requests).toHaveLength(1);
    });
    await eventually(() => {
      expect(dispatcher.metrics).toMatchObject({ deliveriesHeld: 0, attemptsRunning: 0 });
    });
    expect(receiver.requests).toHaveLength(1);
  });

  test.each([
    ["payload", event("order.paid", "{}")],
    ["event type", event("order.sent")],
    ["ordering key", { ...event(), orderingKey: "k" }],
    ["channels", { ...event(), channels: ["c"] }],
    ["tags", { ...event(), tags: ["t"] }],
  ])("refuses an event id that comes again with another %s", async (_what, changed) => {
    const { dispatcher } = await openEngine([]);
    await dispatcher.publish(application, { ...event(), eventId: "order-1" });
    await expect(dispatcher.publish(application, { ...changed, eventId: "order-1" })).rejects.toMatchObject({
      code: "conflict",
      message: 'There is another message with the event id "order-1": take a new id for each event',
    });
  });

  test("the answer to a key is kept with the message, and refuses another message", async () => {
    const { dispatcher, store } = await openEngine([]);
    const now = Date.now();
    const answerTo = ({ id }: { id: string }) => ({
      key: "k",
      requestHash: "h",
      status: 202,
      body: id,
      expiresAt: now + 60_000,
    });
    const { id } = await dispatcher.publish(application, event(), { answerTo });
    await expect(dispatcher.publish(application, event(), { answerTo })).rejects.toMatchObject({
      name: "ConflictError",
      rule: "idempotency.key",
    });
    const messages = await store.read((tx) => tx.messages.list({ applicationId: "app_1" }, { limit: 9 }));
    expect(messages.map((message) => message.id)).toEqual([id]);
    expect(await store.read((tx) => tx.idempotency.find("k", now))).toMatchObject({ body: id });
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

  test("an endpoint that is deleted while it is being sent to gets nothing more, retries included", async () => {
    let answer = (): void => undefined;
    const receiver = await openReceiver(
      () =>
        new Promise(
          (resolve) =>
            (answer = () => {
              resolve({ status: 500 });
            }),
        ),
    );
    const { dispatcher, store, attemptsOf } = await openEngine([
      endpointTo(receiver.url, { policy: { concurrency: 1 } }),
    ]);
    const message = await dispatcher.publish(application, event());
    await dispatcher.publish(application, event());
    await eventually(() => {
      expect(receiver.requests).toHaveLength(1);
    });
    await store.write((tx) => tx.endpoints.delete("ep_1"));
    answer();
    await eventually(async () => {
      expect(await attemptsOf(message.id)).toHaveLength(1);
      expect(dispatcher.metrics.deliveriesHeld).toBe(0);
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(receiver.requests).toHaveLength(1);
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
      [endpointTo(hanging.url, { policy: { concurrency: 2 } }), endpointTo(healthy.url, { id: "ep_2" })],
      { limits: { laneCapacity: 4, totalCapacity: 10 } },
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
    const message = await dispatcher.publish(application, event());
    const settle = vi.spyOn(store, "settle").mockImplementationOnce(outage).mockImplementationOnce(outage);
    await eventually(async () => {
      expect(await stateOf(message.id)).toMatchObject({ state: "succeeded" });
    });
    expect(settle.mock.calls.length).toBeGreaterThan(2);
    expect(receiver.requests).toHaveLength(1);
  });

  test("a retry that is due at once is made at once, each time", async () => {
    const receiver = await openReceiver((_request, count) => ({ status: count < 20 ? 400 : 200 }));
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

describe("an outage of the database", () => {
  test("when a breaker opens does not lose what goes back to the store", async () => {
    const clock = createTestClock();
    let status = 500;
    const receiver = await openReceiver(() => ({ status }));
    const dialectOf = () => ({ ...plainDialect, retryDelaysMs: [1_000] });
    const endpoint = endpointTo(receiver.url, { policy: { concurrency: 2 } });
    const { dispatcher, store, stateOf, breakerOf } = await openEngine([endpoint], { clock, dialectOf });
    const settle = store.settle.bind(store);
    let refused = 0;
    vi.spyOn(store, "settle").mockImplementation((outcome) => {
      if (outcome.attempt !== null || refused >= 20) return settle(outcome);
      refused++;
      return outage();
    });
    const messages = await Promise.all(
      Array.from({ length: 40 }, () => dispatcher.publish(application, event())),
    );
    await eventually(async () => {
      expect(await breakerOf()).toMatchObject({ openings: 1 });
    });
    await eventually(async () => {
      expect(refused).toBe(20);
      for (const { id } of messages) expect((await stateOf(id))?.leasedBy).toBeNull();
    });
    status = 200;
    clock.skip(60_000);
    await eventually(async () => {
      for (const { id } of messages) expect(await stateOf(id)).toMatchObject({ state: "succeeded" });
    });
  });

  test("when something is to be claimed only delays it", async () => {
    const receiver = await openReceiver((_request, count) => ({ status: count === 1 ? 500 : 200 }));
    const { dispatcher, store, stateOf } = await openEngine([endpointTo(receiver.url)]);
    const claim = vi.spyOn(store, "claim").mockImplementationOnce(outage);
    const { id } = await dispatcher.publish(application, event());
    await eventually(async () => {
      expect(await stateOf(id)).toMatchObject({ state: "succeeded", attempts: 2 });
    });
    expect(claim.mock.calls.length).toBeGreaterThan(1);
  });
});

describe("an endpoint's owner", () => {
  test("is told of the fourth failure, of the last one, and of a success after the fourth", async () => {
    const told: string[] = [];
    const notices = {
      ...silentNotices,
      isWanted: async () => true,
      attempt: async (...[, , message, , attempt, kind]: Parameters<typeof silentNotices.attempt>) => {
        told.push(`${message.eventType}: ${kind satisfies AttemptNotice} with ${attempt.responseStatusCode}`);
      },
    };
    const counts = new Map<string, number>();
    const receiver = await openReceiver(({ headers, body }) => {
      const id = String(headers["x-message"]);
      counts.set(id, (counts.get(id) ?? 0) + 1);
      return { status: body === '"saved"' && counts.get(id) === 6 ? 200 : 400 };
    });
    const dialectOf = () => ({ ...plainDialect, retryDelaysMs: [1, 1, 1, 1, 1], problemsOf: () => [] });
    const { dispatcher, stateOf } = await openEngine([endpointTo(receiver.url)], { notices, dialectOf });
    const lost = await dispatcher.publish(application, event("lost", '"lost"'));
    await eventually(async () => {
      expect(await stateOf(lost.id)).toMatchObject({ state: "failed", attempts: 6 });
    });
    const saved = await dispatcher.publish(application, event("saved", '"saved"'));
    await eventually(async () => {
      expect(await stateOf(saved.id)).toMatchObject({ state: "succeeded", attempts: 6 });
    });
    expect(told).toEqual([
      "lost: failing with 400",
      "lost: exhausted with 400",
      "saved: failing with 400",
      "saved: recovered with 200",
    ]);
  });

  test("who cannot be told keeps nothing from being recorded", async () => {
    const receiver = await openReceiver(() => ({ status: 500 }));
    const notices = {
      ...silentNotices,
      isWanted: async () => true,
      attempt: () => Promise.reject(new Error("nobody there")),
    };
    const { dispatcher, stateOf } = await openEngine([endpointTo(receiver.url)], { notices });
    const { id } = await dispatcher.publish(application, event());
    await eventually(async () => {
      expect(await stateOf(id)).toMatchObject({ state: "failed", attempts: 3, leasedBy: null });
    });
  });
});

describe("an endpoint that fails all the time", () => {
  const dialectOf = () => ({ ...plainDialect, retryDelaysMs: [3_600_000, 3_600_000, 3_600_000] });

  test("is disabled after the configured time, with a notice that says since when it fails", async () => {
    const clock = createTestClock();
    const told: unknown[] = [];
    const notices = {
      ...silentNotices,
      endpointChanged: async (
        ...[, , endpoint, change, by]: Parameters<typeof silentNotices.endpointChanged>
      ) => {
        told.push([endpoint.id, endpoint.disabled, change, by]);
      },
    };
    const receiver = await openReceiver(() => ({ status: 404 }));
    const { dispatcher, stateOf, endpointOf, breakerOf } = await openEngine([endpointTo(receiver.url)], {
      clock,
      notices,
      dialectOf,
      disableAfterMs: 2 * 3_600_000,
    });
    const { id } = await dispatcher.publish(application, event());
    for (const attempts of [1, 2]) {
      await eventually(async () => {
        expect(await stateOf(id)).toMatchObject({ state: "pending", attempts });
      });
      expect(await endpointOf()).toMatchObject({ disabled: false });
      if (attempts === 1) clock.skip(3_600_000);
    }
    const since = (await breakerOf())?.failingSince;
    expect(since).toEqual(expect.any(Number));
    expect(told).toEqual([]);
    clock.skip(3_600_000);
    await eventually(async () => {
      expect(await endpointOf()).toMatchObject({ disabled: true });
    });
    expect(told).toEqual([["ep_1", true, "disabled", { trigger: "automatic", failingSince: since }]]);
    expect(await breakerOf()).toMatchObject({ failingSince: null, openUntil: null });
    await expect(dispatcher.resend(application, id, "ep_1")).rejects.toMatchObject({ code: "bad_request" });
  });

  test("is not disabled when something succeeds in between", async () => {
    const clock = createTestClock();
    const receiver = await openReceiver(({ body }) => ({ status: body === "{}" ? 200 : 404 }));
    const { dispatcher, stateOf, endpointOf } = await openEngine([endpointTo(receiver.url)], {
      clock,
      dialectOf,
      disableAfterMs: 2 * 3_600_000,
    });
    const { id } = await dispatcher.publish(application, event());
    for (const attempts of [1, 2, 3]) {
      await eventually(async () => {
        expect(await stateOf(id)).toMatchObject({ attempts });
      });
      const good = await dispatcher.publish(application, event("good", "{}"));
      await eventually(async () => {
        expect(await stateOf(good.id)).toMatchObject({ state: "succeeded" });
      });
      clock.skip(3_600_000);
    }
    await eventually(async () => {
      expect(await stateOf(id)).toMatchObject({ state: "failed", attempts: 4 });
    });
    expect(await endpointOf()).toMatchObject({ disabled: false });
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

describe("a backlog", () => {
  test("beyond the bound refuses further events, until there is room again", async () => {
    const receiver = await openReceiver(() => null);
    const { dispatcher, store } = await openEngine([endpointTo(receiver.url)], { maxBacklog: 5 });
    for (let count = 0; count < 5; count++) await dispatcher.publish(application, event());
    await expect(dispatcher.publish(application, event())).rejects.toMatchObject({
      code: "too_many_requests",
      retryAfterSeconds: 10,
    });
    // Another application's publishers are not held up.
    const other = { ...application, id: "app_2", uid: "other" };
    await store.write((tx) => tx.applications.insert(other));
    await dispatcher.publish(other, event());
    receiver.respond = () => ({ status: 200 });
    await eventually(() => dispatcher.publish(application, event()));
  });

  test("beyond what memory takes waits in the store, and all of it arrives", async () => {
    const answers: (() => void)[] = [];
    let isOpen = false;
    const receiver = await openReceiver(
      () =>
        new Promise((resolve) => {
          const answer = (): void => {
            resolve({ status: 200 });
          };
          if (isOpen) answer();
          else answers.push(answer);
        }),
    );
    const dialectOf = () => ({ ...plainDialect, timeoutMs: 60_000 });
    const { dispatcher, pending } = await openEngine([endpointTo(receiver.url)], {
      limits: { laneCapacity: 100, totalCapacity: 150 },
      dialectOf,
    });
    const messages = await Promise.all(
      Array.from({ length: 2_000 }, () => dispatcher.publish(application, event())),
    );
    expect(await pending()).toBe(2_000);
    expect(dispatcher.metrics.deliveriesHeld).toBeLessThanOrEqual(150);
    isOpen = true;
    for (const answer of answers) answer();
    await eventually(async () => {
      expect(await pending()).toBe(0);
    });
    expect(receiver.ids().toSorted()).toEqual(messages.map(({ id }) => id).toSorted());
    expect(receiver.requests).toHaveLength(2_000);
  });
});

describe("stop()", () => {
  test("waits for what is under way, gives back the rest, and the next start delivers it", async () => {
    const receiver = await openReceiver((_request, count) => (count <= 2 ? null : { status: 200 }));
    const engine = await openEngine([endpointTo(receiver.url, { policy: { concurrency: 2 } })]);
    const { dispatcher, node, store, stateOf, attemptsOf } = engine;
    const messages = await Promise.all([1, 2, 3].map(() => dispatcher.publish(application, event())));
    await eventually(() => {
      expect(receiver.requests).toHaveLength(2);
    });
    await node.stop(50);
    await expect(dispatcher.publish(application, event())).rejects.toMatchObject({
      code: "unavailable",
      retryAfterSeconds: 1,
    });
    // The two that were cut off are not on record as failures.
    for (const { id } of messages) {
      expect(await stateOf(id)).toMatchObject({ state: "pending", attempts: 0, leasedBy: null });
      expect(await attemptsOf(id)).toEqual([]);
    }
    await startNode(store);
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
