import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, startReceiver, startService, type Receiver, type TestService } from "./service.suite.ts";

let service: TestService;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service[Symbol.asyncDispose]());

/** An application of its own with one endpoint that takes messages in order. */
async function makeEndpoint(uid: string, receiver: Receiver, policy: object): Promise<string> {
  await service.svix.application.create({ name: uid, uid });
  const endpoint = { uid: "e", url: receiver.url, policy };
  expect((await service.request("POST", `/api/v1/app/${uid}/endpoint`, endpoint)).status).toBe(201);
  return `/api/v1/app/${uid}/endpoint/e/order`;
}

async function publish(application: string, eventId: string, orderingKey?: string): Promise<void> {
  const event = { eventType: "a", eventId, payload: { eventId }, orderingKey };
  expect((await service.request("POST", `/api/v1/app/${application}/msg`, event)).status).toBe(202);
}

async function headsOf(path: string): Promise<{ eventId: string; status: string; behind: number }[]> {
  return (await service.request("GET", path)).json.data;
}

function receivedBy(receiver: Receiver): string[] {
  return receiver.requests.map(({ body }) => (JSON.parse(body) as { eventId: string }).eventId);
}

describe("an order that is blocked", () => {
  test("shows what stands first, and goes on when that is skipped", async () => {
    await using receiver = await startReceiver();
    receiver.answer = { status: 500, body: "" };
    const path = await makeEndpoint("skip", receiver, { order: "endpoint", retrySchedule: [] });
    for (const eventId of ["1", "2", "3"]) await publish("skip", eventId);
    await eventually(async () => {
      expect((await service.request("GET", path)).json).toEqual({
        data: [
          {
            key: null,
            msgId: expect.stringMatching(/^msg_/),
            eventType: "a",
            eventId: "1",
            attempts: 1,
            status: "blocked",
            nextAttempt: null,
            behind: 2,
          },
        ],
        done: true,
      });
    });
    expect(receivedBy(receiver)).toEqual(["1"]);

    receiver.answer = { status: 200, body: "" };
    const skipped = await service.request("POST", `${path}/skip`, { messageId: "1" });
    expect([skipped.status, skipped.json]).toEqual([202, {}]);
    await eventually(() => {
      expect(receivedBy(receiver)).toEqual(["1", "2", "3"]);
    });
    await eventually(async () => {
      expect(await headsOf(path)).toEqual([]);
    });
    const { data } = await service.svix.messageAttempt.listAttemptedDestinations("skip", "1");
    expect(data).toMatchObject([{ status: 2, nextAttempt: null }]);
  });

  test("goes on with what stands first when that is tried again", async () => {
    await using receiver = await startReceiver();
    receiver.answer = { status: 500, body: "" };
    const path = await makeEndpoint("retry", receiver, { order: "endpoint", retrySchedule: [] });
    for (const eventId of ["1", "2"]) await publish("retry", eventId);
    await eventually(async () => {
      expect(await headsOf(path)).toMatchObject([{ eventId: "1", status: "blocked", behind: 1 }]);
    });
    receiver.answer = { status: 200, body: "" };
    expect((await service.request("POST", `${path}/retry`, { messageId: "1" })).status).toBe(202);
    await eventually(() => {
      expect(receivedBy(receiver)).toEqual(["1", "1", "2"]);
    });
    const attempts = await service.svix.messageAttempt.listByMsg("retry", "1");
    expect(attempts.data).toMatchObject([
      { triggerType: 1, status: 0 },
      { triggerType: 0, status: 2 },
    ]);
  });

  test("what waits for its next attempt can be sent at once, or skipped", async () => {
    await using receiver = await startReceiver();
    receiver.answer = { status: 500, body: "" };
    const path = await makeEndpoint("due", receiver, {
      order: "endpoint",
      retrySchedule: [3600, 3600, 3600],
    });
    for (const eventId of ["1", "2", "3"]) await publish("due", eventId);
    await eventually(async () => {
      expect(await headsOf(path)).toMatchObject([
        { eventId: "1", status: "waiting", attempts: 1, nextAttempt: expect.any(String), behind: 2 },
      ]);
    });
    expect((await service.request("POST", `${path}/retry`, { messageId: "1" })).status).toBe(202);
    await eventually(() => {
      expect(receivedBy(receiver)).toEqual(["1", "1"]);
    });
    await eventually(async () => {
      expect(await headsOf(path)).toMatchObject([{ eventId: "1", status: "waiting" }]);
    });
    receiver.answer = { status: 200, body: "" };
    // Also one that has not had its turn.
    expect((await service.request("POST", `${path}/skip`, { messageId: "2" })).status).toBe(202);
    expect((await service.request("POST", `${path}/skip`, { messageId: "1" })).status).toBe(202);
    await eventually(() => {
      expect(receivedBy(receiver)).toEqual(["1", "1", "3"]);
    });
  });
});

describe("the order of a key", () => {
  test("blocks only what has the same key, and each key shows for itself", async () => {
    await using receiver = await startReceiver();
    receiver.answer = { status: 500, body: "" };
    const path = await makeEndpoint("keys", receiver, { order: "key", retrySchedule: [] });
    await publish("keys", "a1", "a");
    await publish("keys", "none1");
    await eventually(() => {
      expect(receivedBy(receiver).toSorted()).toEqual(["a1", "none1"]);
    });
    receiver.answer = { status: 200, body: "" };
    await publish("keys", "a2", "a");
    await publish("keys", "b1", "b");
    await publish("keys", "none2");
    await eventually(() => {
      expect(receivedBy(receiver)).toContain("b1");
    });
    await eventually(async () => {
      expect(await headsOf(path)).toMatchObject([
        { key: "a", eventId: "a1", status: "blocked", behind: 1 },
        { key: null, eventId: "none1", status: "blocked", behind: 1 },
      ]);
    });
    const page = await service.request("GET", `${path}?limit=1`);
    expect(page.json).toMatchObject({ data: [{ eventId: "a1" }], done: false });
    await service.request("POST", `${path}/skip`, { messageId: "none1" });
    await eventually(() => {
      expect(receivedBy(receiver)).toContain("none2");
    });
    expect(receivedBy(receiver)).not.toContain("a2");
  });
});

describe("a hand that is not for an order", () => {
  test("is answered with 409, 404 or 422, and changes nothing", async () => {
    await using receiver = await startReceiver();
    receiver.answer = { status: 500, body: "" };
    const path = await makeEndpoint("wrong", receiver, { order: "endpoint", retrySchedule: [] });
    for (const eventId of ["1", "2"]) await publish("wrong", eventId);
    await eventually(async () => {
      expect(await headsOf(path)).toMatchObject([{ eventId: "1", status: "blocked" }]);
    });
    const behind = await service.request("POST", `${path}/retry`, { messageId: "2" });
    expect(behind).toMatchObject({ status: 409, json: { detail: expect.stringContaining("behind others") } });
    expect((await service.request("POST", `${path}/skip`, { messageId: "none" })).status).toBe(404);
    expect((await service.request("POST", `${path}/skip`, {})).status).toBe(422);

    await service.svix.endpoint.create("wrong", { uid: "free", url: receiver.url });
    await publish("wrong", "3");
    const free = "/api/v1/app/wrong/endpoint/free/order";
    expect((await service.request("POST", `${free}/skip`, { messageId: "1" })).status).toBe(404);
    expect((await service.request("POST", `${free}/skip`, { messageId: "3" })).status).toBe(409);
    expect((await service.request("GET", free)).json).toEqual({ data: [], done: true });
    expect(await headsOf(path)).toMatchObject([{ eventId: "1", status: "blocked", behind: 2 }]);
  });

  test("comes once for an idempotency key, also where it was answered before", async () => {
    await using receiver = await startReceiver();
    receiver.answer = { status: 500, body: "" };
    const path = await makeEndpoint("again", receiver, { order: "endpoint", retrySchedule: [] });
    await publish("again", "1");
    await eventually(async () => {
      expect(await headsOf(path)).toMatchObject([{ status: "blocked" }]);
    });
    const skip = () =>
      service.request("POST", `${path}/skip`, { messageId: "1" }, { "idempotency-key": "k" });
    expect([(await skip()).status, (await skip()).status]).toEqual([202, 202]);
    expect((await service.request("POST", `${path}/skip`, { messageId: "1" })).status).toBe(409);
  });
});
