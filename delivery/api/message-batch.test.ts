import { Webhook } from "svix";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, startReceiver, startService, type TestService } from "./service.suite.ts";

const path = "/api/v1/app/a/msg/batch";

let service: TestService;
beforeAll(async () => {
  service = await startService();
  await service.svix.application.create({ name: "a", uid: "a" });
});
afterAll(() => service[Symbol.asyncDispose]());

async function eventIdsOf(application: string): Promise<unknown[]> {
  const { data } = await service.svix.message.list(application, { limit: 250 });
  return data.map(({ eventId }) => eventId).toReversed();
}

describe("a batch", () => {
  test("is answered with 202 and each message as it would have been alone", async () => {
    const messages = [
      { eventType: "user.created", eventId: "one", channels: ["c"], tags: ["t"], payload: { n: 1 } },
      { eventType: "user.deleted", payload: { n: 2 }, orderingKey: "k" },
    ];
    const answer = await service.request("POST", `${path}?with_content=true`, { messages });
    expect(answer.status).toBe(202);
    expect(answer.json).toEqual({
      data: messages.map((message) => ({
        eventId: null,
        channels: null,
        tags: null,
        ...message,
        id: expect.stringMatching(/^msg_[0-9a-z]{26}$/),
        timestamp: expect.any(String),
      })),
    });
    for (const message of answer.json.data) {
      const { json } = await service.request("GET", `/api/v1/app/a/msg/${String(message.id)}`);
      expect(json).toEqual(message);
    }
  });

  test("is delivered message by message, each payload byte for byte, in the order of the batch", async () => {
    await using receiver = await startReceiver();
    await service.svix.application.create({ name: "b", uid: "bytes" });
    const endpoint = { url: receiver.url, policy: { order: "endpoint" } };
    const { json } = await service.request("POST", "/api/v1/app/bytes/endpoint", endpoint);
    const payloads = ['{ "n" : 1.0e+2 }', '{"messages":[{"payload":{}}],\n"é":"\\u00e9\\"]"}', "{}"];
    const items = payloads.map((payload) => `{"eventType":"a","payload" : ${payload} , "tags":["x"]}`);
    const body = `{"x":[1,{"payload":2}], "messages" : [ ${items.join(" ,\n")} ] }`;
    const answer = await service.request("POST", "/api/v1/app/bytes/msg/batch", body);
    expect(answer.status).toBe(202);
    // The contents are left out unless they are asked for.
    expect(answer.json.data.map(({ payload }: { payload: unknown }) => payload)).toEqual([{}, {}, {}]);
    await eventually(() => {
      expect(receiver.requests.map((request) => request.body)).toEqual(payloads);
    });
    const { key } = await service.svix.endpoint.getSecret("bytes", json.id);
    for (const request of receiver.requests) {
      new Webhook(key).verify(request.body, request.headers as Record<string, string>);
    }
  });

  test("takes what is right and says of each other what is wrong, and where", async () => {
    await service.svix.eventType.create({ name: "archived", description: "" });
    await service.svix.eventType.delete("archived");
    const known = { eventType: "a", eventId: "batch-known", payload: { n: 1 } };
    const { id } = await service.svix.message.create("a", known);
    const answer = await service.request("POST", path, {
      messages: [
        { eventType: "a", eventId: "batch-first", payload: {} },
        { eventType: "a b", payload: [], tags: ["x y"] },
        "text",
        { ...known, payload: { n: 2 } },
        { eventType: "archived", payload: {} },
        known,
        { eventType: "a", eventId: "batch-last", payload: {} },
      ],
    });
    expect(answer.status).toBe(202);
    const { data } = answer.json;
    expect(data[0]).toMatchObject({ eventId: "batch-first" });
    expect(data[1].error).toMatchObject({
      status: 422,
      detail: ["eventType", "payload", "tags.0"].map((place) => ({
        loc: ["body", "messages", "1", ...place.split(".")],
        msg: expect.any(String),
        type: expect.any(String),
      })),
    });
    expect(data[2].error).toMatchObject({ status: 422, detail: [{ loc: ["body", "messages", "2"] }] });
    expect(data[3].error).toEqual({
      status: 409,
      code: "conflict",
      detail: expect.stringContaining("batch-known"),
    });
    expect(data[4].error).toMatchObject({
      status: 422,
      detail: [{ loc: ["body", "messages", "4", "eventType"], msg: expect.stringContaining("archived") }],
    });
    expect(data[5]).toMatchObject({ id });
    expect(data[6]).toMatchObject({ eventId: "batch-last" });
    expect(await eventIdsOf("a")).toEqual(expect.arrayContaining(["batch-first", "batch-last"]));
  });

  test("takes one event twice as one", async () => {
    await service.svix.application.create({ name: "t", uid: "twice" });
    const event = { eventType: "a", eventId: "twice", payload: { n: 1 } };
    const { json } = await service.request("POST", "/api/v1/app/twice/msg/batch", {
      messages: [event, event, { ...event, payload: { n: 2 } }],
    });
    expect(json.data[1]).toEqual(json.data[0]);
    expect(json.data[2].error).toMatchObject({ status: 409 });
    expect(await eventIdsOf("twice")).toEqual(["twice"]);
  });

  test("holds payloads to their schemas where the application asks for it", async () => {
    const policy = { validatePayloads: true };
    await service.request("POST", "/api/v1/app", { name: "s", uid: "schemas", policy });
    const schemas = { "1": { type: "object", required: ["id"] } };
    await service.svix.eventType.create({ name: "batch.checked", description: "", schemas });
    const { json } = await service.request("POST", "/api/v1/app/schemas/msg/batch", {
      messages: [
        { eventType: "batch.checked", payload: { id: 1 } },
        { eventType: "batch.checked", payload: {} },
      ],
    });
    expect(json.data).toMatchObject([
      { eventType: "batch.checked" },
      { error: { status: 422, detail: [{ loc: ["body", "messages", "1", "payload", "id"] }] } },
    ]);
  });

  test("publishes a vendor's events by their own names", async () => {
    const { json } = await service.request("POST", "/api/v1/app/pave/msg/batch", {
      messages: [
        { eventType: "SESSION:COMPLETE", payload: { session_key: "A" } },
        { eventType: "SESSION:COMPLET", payload: {} },
      ],
    });
    expect(json.data).toMatchObject([
      { eventType: "SESSION:COMPLETE" },
      { error: { status: 422, detail: [{ loc: ["body", "messages", "1"] }] } },
    ]);
  });

  test.each([
    ["no list", {}, "messages"],
    ["an empty list", { messages: [] }, "messages"],
    [
      "more than 100 messages",
      { messages: Array.from({ length: 101 }, () => ({ eventType: "a", payload: {} })) },
      "messages",
    ],
    ["a list that is none", { messages: { eventType: "a", payload: {} } }, "messages"],
  ])("of %s is answered with 422", async (_, body, member) => {
    expect(await service.request("POST", path, body)).toMatchObject({
      status: 422,
      json: { detail: [{ loc: ["body", member] }] },
    });
  });

  test("for an application that is not there is answered with 404", async () => {
    const messages = [{ eventType: "a", payload: {}, application: { name: "New", uid: "none" } }];
    expect((await service.request("POST", "/api/v1/app/none/msg/batch", { messages })).status).toBe(404);
  });

  test("none of which can be taken now is answered with 429 and when to come back", async () => {
    await using receiver = await startReceiver();
    receiver.answer = { status: 503, headers: { "retry-after": "3600" }, body: "" };
    await using own = await startService({ maxBacklog: 1 });
    await own.svix.application.create({ name: "a", uid: "a" });
    await own.svix.endpoint.create("a", { url: receiver.url });
    const messages = [
      { eventType: "a", payload: {} },
      { eventType: "a", payload: {} },
    ];
    await eventually(async () => {
      const answer = await own.request("POST", path, { messages });
      expect(answer).toMatchObject({ status: 429, json: { code: "too_many_requests" } });
      expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
    });
  });
});

describe("the idempotency key of a batch", () => {
  const url = "/api/v1/app/keys/msg/batch";
  const headers = { "idempotency-key": "k1" };
  const messages = [
    { eventType: "a", eventId: "k1-1", payload: { n: 1 } },
    { eventType: "a b", payload: {} },
    { eventType: "a", payload: { n: 3 } },
  ];

  beforeAll(async () => {
    await service.svix.application.create({ name: "k", uid: "keys" });
  });

  test("publishes each message once, and answers alike", async () => {
    const first = await service.request("POST", url, { messages }, headers);
    const second = await service.request("POST", url, { messages }, headers);
    expect(first.status).toBe(202);
    expect(second).toMatchObject({ status: 202, text: first.text });
    expect(await eventIdsOf("keys")).toEqual(["k1-1", null]);
  });

  test("at the same time, too", async () => {
    await service.svix.application.create({ name: "r", uid: "race" });
    const tries = await Promise.all(
      Array.from({ length: 8 }, () =>
        service.request("POST", "/api/v1/app/race/msg/batch", { messages }, { "idempotency-key": "k" }),
      ),
    );
    expect(new Set(tries.map(({ text }) => text)).size).toBe(1);
    expect(await eventIdsOf("race")).toHaveLength(2);
  });

  test("for another batch is answered with 409, and nothing of it is published", async () => {
    const others = { messages: [...messages, { eventType: "a", eventId: "k1-4", payload: {} }] };
    expect(await service.request("POST", url, others, headers)).toMatchObject({
      status: 409,
      json: { code: "conflict" },
    });
    expect(await eventIdsOf("keys")).not.toContain("k1-4");
  });

  test("is answered as at first, whatever has changed since", async () => {
    await service.svix.eventType.create({ name: "batch.short", description: "" });
    const body = { messages: [{ eventType: "batch.short", payload: {} }] };
    const key = { "idempotency-key": "k2" };
    const first = await service.request("POST", url, body, key);
    await service.svix.eventType.delete("batch.short");
    expect((await service.request("POST", url, body, key)).text).toBe(first.text);
    expect((await service.request("POST", url, body)).json.data).toMatchObject([{ error: { status: 422 } }]);
  });
});
