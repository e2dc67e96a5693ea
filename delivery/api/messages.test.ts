import { setTimeout as sleep } from "node:timers/promises";
import { Webhook, messageInRaw } from "svix";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toNewEvent } from "./messages.ts";
import { eventually, refusalOf, startReceiver, startService, type TestService } from "./service.suite.ts";

let service: TestService;
beforeAll(async () => {
  service = await startService({ maxBodyBytes: 100_000 });
  await service.svix.application.create({ name: "a", uid: "a" });
});
afterAll(() => service[Symbol.asyncDispose]());

describe("create", () => {
  test("answers 202 with the message, and it can be read by id and event id", async () => {
    const answer = await service.request("POST", "/api/v1/app/a/msg", {
      eventType: "user.created",
      eventId: "evt-1",
      channels: ["one"],
      tags: ["vip"],
      payload: { id: 1 },
    });
    expect(answer.status).toBe(202);
    expect(answer.json).toEqual({
      id: expect.stringMatching(/^msg_[0-9a-z]{26}$/),
      eventType: "user.created",
      eventId: "evt-1",
      channels: ["one"],
      tags: ["vip"],
      payload: { id: 1 },
      timestamp: expect.any(String),
    });
    expect((await service.request("GET", `/api/v1/app/a/msg/${String(answer.json.id)}`)).json).toEqual(
      answer.json,
    );
    expect((await service.request("GET", "/api/v1/app/a/msg/evt-1")).json).toEqual(answer.json);
  });

  test("the payload is delivered and shown byte for byte as it was written", async () => {
    await using receiver = await startReceiver();
    await service.svix.application.create({ name: "bytes", uid: "bytes" });
    const endpoint = await service.svix.endpoint.create("bytes", { url: receiver.url });
    const payload =
      '{ "n" : 1.0e+2,\n\t"big": 12345678901234567890, "text":"\\u00e9 é \\/ }", "payload": {} }';
    const answer = await service.request(
      "POST",
      "/api/v1/app/bytes/msg",
      `{"eventType":"a", "tags": ["x"], "payload" :  ${payload}  }`,
    );
    expect(answer.status).toBe(202);
    expect(answer.text).toContain(`"payload":${payload}}`);
    expect((await service.request("GET", "/api/v1/app/bytes/msg")).text).toContain(`"payload":${payload}}`);
    await eventually(() => {
      expect(receiver.requests.map(({ body }) => body)).toEqual([payload]);
    });

    const { key } = await service.svix.endpoint.getSecret("bytes", endpoint.id);
    const [{ headers }] = receiver.requests as [(typeof receiver.requests)[0]];
    expect(headers["webhook-id"]).toBe(answer.json.id);
    expect(() => {
      new Webhook(key).verify(payload, headers as Record<string, string>);
    }).not.toThrow();
  });

  test("without content the payload is left out of the answer", async () => {
    const created = await service.svix.message.create("a", { eventType: "a", payload: { id: 1 } });
    expect(created.payload).toEqual({});
    expect((await service.svix.message.get("a", created.id)).payload).toEqual({});
    expect((await service.svix.message.get("a", created.id, { withContent: true })).payload).toEqual({
      id: 1,
    });
  });

  test("an event id that is taken is answered with 409 for another event, but may be used in another application", async () => {
    await service.svix.application.create({ name: "other", uid: "other" });
    const event = { eventType: "a", eventId: "taken", payload: { n: 1 } };
    await service.svix.message.create("a", event);
    for (const change of [
      { payload: { n: 2 } },
      { eventType: "b" },
      { channels: ["one"] },
      { tags: ["one"] },
    ]) {
      expect(await refusalOf(service.svix.message.create("a", { ...event, ...change }))).toMatchObject({
        status: 409,
        body: { code: "conflict", detail: expect.stringContaining("taken") },
      });
    }
    await expect(service.svix.message.create("other", event)).resolves.toMatchObject({ eventId: "taken" });
  });

  test("an event that was accepted before is answered as at first, and accepted once", async () => {
    await service.svix.application.create({ name: "same", uid: "same" });
    const event = {
      eventType: "a",
      eventId: "same",
      payload: { n: 1 },
      payloadRetentionPeriod: 5,
      tags: ["x"],
    };
    const path = "/api/v1/app/same/msg";
    const first = await service.request("POST", path, event);
    const second = await service.request("POST", path, event);
    expect([first.status, second.status]).toEqual([202, 202]);
    expect(second.text).toBe(first.text);
    const atOnce = await Promise.all(
      Array.from({ length: 5 }, () => service.request("POST", path, { ...event, eventId: "at-once" })),
    );
    expect(new Set(atOnce.map(({ text }) => text)).size).toBe(1);
    expect((await service.svix.message.list("same")).data).toHaveLength(2);
  });

  test("an ordering key is shown where there is one", async () => {
    const event = { eventType: "a", payload: {}, orderingKey: "customer 7" };
    const created = await service.request("POST", "/api/v1/app/a/msg", event);
    expect(created).toMatchObject({ status: 202, json: { orderingKey: "customer 7" } });
    const read = await service.request("GET", `/api/v1/app/a/msg/${String(created.json.id)}`);
    expect(read.json).toEqual(created.json);
  });

  test.each([
    ["no event type", { eventType: undefined }, "eventType"],
    ["an event type with a space", { eventType: "a b" }, "eventType"],
    ["an event type that is too long", { eventType: "a".repeat(257) }, "eventType"],
    ["no payload", { payload: undefined }, "payload"],
    ["a payload that is a list", { payload: [] }, "payload"],
    ["a payload that is null", { payload: null }, "payload"],
    ["a payload that is text", { payload: "{}" }, "payload"],
    ["an event id that looks like an id", { eventId: "msg_1" }, "eventId"],
    ["no channel at all", { channels: [] }, "channels"],
    ["too many channels", { channels: ["1", "2", "3", "4", "5", "6"] }, "channels"],
    ["a tag with a space", { tags: ["a b"] }, "tags,0"],
    ["a delivery later", { deliverAt: "2030-01-01T00:00:00Z" }, "deliverAt"],
    ["a retention of 4 days", { payloadRetentionPeriod: 4 }, "payloadRetentionPeriod"],
    ["a retention of no hours", { payloadRetentionHours: 0 }, "payloadRetentionHours"],
    [
      "a retention in days and hours",
      { payloadRetentionPeriod: 5, payloadRetentionHours: 120 },
      "payloadRetentionHours",
    ],
    ["an empty ordering key", { orderingKey: "" }, "orderingKey"],
    [
      "parameters of a transformation",
      { transformationsParams: { rawPayload: "{}", a: 1 } },
      "transformationsParams",
    ],
  ])("%s is answered with 422", async (_, body, loc) => {
    const answer = await service.request("POST", "/api/v1/app/a/msg", {
      eventType: "a",
      payload: {},
      ...body,
    });
    expect(answer.status).toBe(422);
    expect(answer.json.detail.map((fault: { loc: string[] }) => fault.loc.join())).toEqual([`body,${loc}`]);
  });

  test("a raw payload is delivered and shown as it is, where it is a JSON object", async () => {
    await using receiver = await startReceiver();
    await service.svix.application.create({ name: "raw", uid: "raw" });
    await service.svix.endpoint.create("raw", { url: receiver.url });
    const payload = '{ "n" : 1.0,\n "text": "\\u00e9" }';
    for (const event of [messageInRaw("a", payload), messageInRaw("a", payload, "application/json")]) {
      const { id } = await service.svix.message.create("raw", event);
      const read = await service.request("GET", `/api/v1/app/raw/msg/${id}`);
      expect(read.text).toContain(`"payload":${payload}}`);
    }
    await eventually(() => {
      expect(receiver.requests.map(({ body }) => body)).toEqual([payload, payload]);
    });
  });

  test.each([
    ["XML", messageInRaw("a", "<xml/>", "text/xml"), ["rawPayload", "headers"]],
    ["a list", messageInRaw("a", "[]"), ["rawPayload"]],
    ["what nests too deep", messageInRaw("a", `{"a":${"[".repeat(200)}${"]".repeat(200)}}`), ["rawPayload"]],
  ])("a raw payload that is %s is refused rather than changed", async (_, event, places) => {
    const { status, body } = await refusalOf(service.svix.message.create("a", event));
    expect(status).toBe(422);
    expect(body).toMatchObject({
      detail: places.map((place) => ({ loc: ["body", "transformationsParams", place] })),
    });
  });

  test("a payload over the limit is answered with 413", async () => {
    const answer = await service.request("POST", "/api/v1/app/a/msg", {
      eventType: "a",
      payload: { a: "b".repeat(100_000) },
    });
    expect(answer).toMatchObject({ status: 413, json: { code: "payload_too_large" } });
  });

  test("a message may bring its application along", async () => {
    const event = { eventType: "a", payload: {}, application: { name: "New", uid: "brought" } };
    await service.svix.message.create("brought", event);
    await service.svix.message.create("brought", event);
    expect(await service.svix.application.get("brought")).toMatchObject({ name: "New" });
    expect((await service.svix.message.list("brought")).data).toHaveLength(2);
    expect((await refusalOf(service.svix.message.create("elsewhere", event))).status).toBe(422);
    expect(
      (await refusalOf(service.svix.message.create("missing", { eventType: "a", payload: {} }))).status,
    ).toBe(404);
  });
});

describe("the idempotency key", () => {
  test("publishes one message for two tries, and both are answered alike", async () => {
    await service.svix.application.create({ name: "keys", uid: "keys" });
    const headers = { "idempotency-key": "k1" };
    const body = { eventType: "a", eventId: "e1", payload: { n: 1 } };
    const first = await service.request("POST", "/api/v1/app/keys/msg", body, headers);
    const second = await service.request("POST", "/api/v1/app/keys/msg", body, headers);
    expect(second).toMatchObject({ status: 202, text: first.text });
    expect((await service.svix.message.list("keys")).data).toHaveLength(1);
  });

  test("publishes one message for tries at the same time", async () => {
    await service.svix.application.create({ name: "race", uid: "race" });
    const tries = Array.from({ length: 10 }, () =>
      service.svix.message.create("race", { eventType: "a", payload: {} }, { idempotencyKey: "k" }),
    );
    expect(new Set((await Promise.all(tries)).map(({ id }) => id)).size).toBe(1);
    expect((await service.svix.message.list("race")).data).toHaveLength(1);
  });

  test("for another message is answered with 409; in another application it counts anew", async () => {
    const options = { idempotencyKey: "k2" };
    await service.svix.message.create("keys", { eventType: "a", payload: { n: 1 } }, options);
    expect(
      await refusalOf(service.svix.message.create("keys", { eventType: "a", payload: { n: 2 } }, options)),
    ).toMatchObject({ status: 409, body: { code: "conflict" } });
    await expect(
      service.svix.message.create("a", { eventType: "a", payload: { n: 2 } }, options),
    ).resolves.toBeDefined();
  });

  test("is answered as at first, whatever has changed since", async () => {
    const event = { eventType: "short.lived", payload: {} };
    const options = { idempotencyKey: "k4" };
    await service.svix.eventType.create({ name: "short.lived", description: "" });
    const first = await service.svix.message.create("keys", event, options);
    await service.svix.eventType.delete("short.lived");
    expect(await service.svix.message.create("keys", event, options)).toEqual(first);
    expect((await refusalOf(service.svix.message.create("keys", event))).status).toBe(422);
  });

  test("of a request that was refused can be used again", async () => {
    const headers = { "idempotency-key": "k3" };
    const path = "/api/v1/app/keys/msg";
    expect((await service.request("POST", path, { eventType: "a b", payload: {} }, headers)).status).toBe(
      422,
    );
    expect((await service.request("POST", path, { eventType: "a", payload: {} }, headers)).status).toBe(202);
  });
});

describe("toNewEvent()", () => {
  test.each([
    [{ payloadRetentionPeriod: 5 }, 1_000 + 5 * 86_400_000],
    [{ payloadRetentionHours: 2 }, 1_000 + 2 * 3_600_000],
    [{ payloadRetentionPeriod: null }, null],
    [{}, null],
  ])("keeps the payload for as long as %o says", (retention, expected) => {
    const event = toNewEvent({ eventType: "a", payload: {}, ...retention }, "{}", 1_000);
    expect(event.payloadExpiresAt).toBe(expected);
  });
});

describe("the content", () => {
  test("of a message can be taken away for good", async () => {
    await service.svix.application.create({ name: "expunge", uid: "expunge" });
    const { id } = await service.svix.message.create("expunge", {
      eventType: "a",
      eventId: "evt",
      payload: { secret: "canary" },
    });
    await service.svix.message.expungeContent("expunge", "evt");
    const path = `/api/v1/app/expunge/msg/${id}`;
    expect((await service.request("GET", path)).json).toMatchObject({ id, payload: { expired: true } });
    expect((await service.request("GET", `${path}?with_content=false`)).json.payload).toEqual({});
    expect((await service.request("GET", "/api/v1/app/expunge/msg")).text).not.toContain("canary");
    // Again is no fault: it is gone.
    await service.svix.message.expungeContent("expunge", id);
    expect((await refusalOf(service.svix.message.expungeContent("expunge", "msg_1"))).status).toBe(404);
  });

  test("of a message that is gone cannot be sent again", async () => {
    await using receiver = await startReceiver();
    await service.svix.application.create({ name: "gone", uid: "gone" });
    const endpoint = await service.svix.endpoint.create("gone", { url: receiver.url });
    const { id } = await service.svix.message.create("gone", { eventType: "a", payload: {} });
    await eventually(() => {
      expect(receiver.requests).toHaveLength(1);
    });
    await service.svix.message.expungeContent("gone", id);
    expect(await refusalOf(service.svix.messageAttempt.resend("gone", id, endpoint.id))).toMatchObject({
      status: 400,
      body: { code: "bad_request", detail: expect.stringContaining("expunged") },
    });
  });
});

describe("an application that has payloads checked", () => {
  const schema = {
    type: "object",
    required: ["id"],
    properties: { id: { type: "integer" }, mail: { type: "string", format: "email" } },
  };
  const path = "/api/v1/app/checked/msg";

  beforeAll(async () => {
    const policy = { validatePayloads: true };
    await service.request("POST", "/api/v1/app", { name: "c", uid: "checked", policy });
    await service.svix.eventType.create({ name: "user.checked", description: "", schemas: { "1": schema } });
  });

  test("takes a payload that matches the schema of its event type", async () => {
    const event = { eventType: "user.checked", payload: { id: 1, mail: "a@example.com" } };
    expect((await service.request("POST", path, event)).status).toBe(202);
  });

  test("answers another with 422 and the path of each fault", async () => {
    const answer = await service.request("POST", path, {
      eventType: "user.checked",
      payload: { mail: "canary" },
    });
    expect(answer.status).toBe(422);
    expect(answer.json.detail.map(({ loc }: { loc: string[] }) => loc.join(".")).toSorted()).toEqual([
      "body.payload.id",
      "body.payload.mail",
    ]);
    expect(answer.text).not.toContain("canary");
  });

  test("checks by the newest version at once", async () => {
    await service.svix.eventType.create({ name: "versioned", description: "", schemas: { "1": schema } });
    const event = { eventType: "versioned", payload: {} };
    expect((await service.request("POST", path, event)).status).toBe(422);
    await service.svix.eventType.patch("versioned", { schemas: { "1": schema, "2": { type: "object" } } });
    expect((await service.request("POST", path, event)).status).toBe(202);
  });

  test("takes event types that have no schema, or that the catalogue does not have", async () => {
    await service.svix.eventType.create({ name: "schemaless", description: "" });
    for (const eventType of ["schemaless", "unheard.of"]) {
      expect((await service.request("POST", path, { eventType, payload: { x: 1 } })).status).toBe(202);
    }
  });

  test("checks a raw payload, too", async () => {
    const create = service.svix.message.create("checked", messageInRaw("user.checked", '{"id": "x"}'));
    expect(await refusalOf(create)).toMatchObject({
      status: 422,
      body: { detail: [{ loc: ["body", "payload", "id"] }] },
    });
  });

  test("is the only one that does", async () => {
    expect(
      (await service.request("POST", "/api/v1/app/a/msg", { eventType: "user.checked", payload: {} })).status,
    ).toBe(202);
  });
});

describe("list", () => {
  beforeAll(async () => {
    await service.svix.application.create({ name: "list", uid: "list" });
    await service.svix.message.create("list", { eventType: "a", payload: { n: 1 }, channels: ["c1", "c2"] });
    await sleep(2);
    await service.svix.message.create("list", { eventType: "b", payload: { n: 2 }, tags: ["t1", "t2"] });
    await sleep(2);
    await service.svix.message.create("list", { eventType: "c", payload: { n: 3 } });
  });

  test("is newest first, page by page", async () => {
    const first = await service.svix.message.list("list", { limit: 2, withContent: true });
    expect(first).toMatchObject({ data: [{ payload: { n: 3 } }, { payload: { n: 2 } }], done: false });
    const second = await service.svix.message.list("list", { limit: 2, iterator: first.iterator });
    expect(second).toMatchObject({ data: [{ eventType: "a" }], done: true });
    const back = await service.svix.message.list("list", { limit: 2, iterator: second.prevIterator });
    expect(back.data.map(({ eventType }) => eventType)).toEqual(["c", "b"]);
  });

  test.each([
    ["event types", { eventTypes: ["a", "c"] }, ["c", "a"]],
    ["a channel", { channel: "c2" }, ["a"]],
    ["a tag", { tag: "t1" }, ["b"]],
  ])("is filtered by %s", async (_, filter, expected) => {
    const { data } = await service.svix.message.list("list", filter);
    expect(data.map(({ eventType }) => eventType)).toEqual(expected);
  });

  test("is filtered by time", async () => {
    const { timestamp } = (await service.svix.message.list("list")).data[1]!;
    const typesOf = async (filter: object) =>
      (await service.svix.message.list("list", filter)).data.map(({ eventType }) => eventType);
    expect(await typesOf({ before: timestamp })).toEqual(["a"]);
    expect(await typesOf({ after: timestamp })).toEqual(["c"]);
  });

  test("repeated event type parameters mean the same as a list", async () => {
    const answer = await service.request("GET", "/api/v1/app/list/msg?event_types=a&event_types=b");
    expect(answer.json.data).toHaveLength(2);
  });

  test.each([["before=yesterday"], ["with_content=1"], ["channel=a%20b"], ["event_types=a,"]])(
    "%s is answered with 422",
    async (query) => {
      const answer = await service.request("GET", `/api/v1/app/list/msg?${query}`);
      expect(answer.status).toBe(422);
      expect(answer.json.detail[0].loc.slice(0, 2)).toEqual(["query", query.split("=")[0]]);
    },
  );
});

describe("a vendor account", () => {
  test("publishes the vendor's events by their own names", async () => {
    const payload = { session_key: "ABC", status: "COMPLETE" };
    const message = await service.svix.message.create("pave", { eventType: "SESSION:COMPLETE", payload });
    expect(message).toMatchObject({ eventType: "SESSION:COMPLETE" });
    const { data } = await service.svix.message.list("pave", { eventTypes: ["SESSION:COMPLETE"] });
    expect(data).toHaveLength(1);
  });

  test("refuses an event that the vendor does not have, and names the nearest", async () => {
    const create = service.svix.message.create("pave", { eventType: "SESSION:COMPLET", payload: {} });
    const { status, body } = await refusalOf(create);
    expect(status).toBe(422);
    expect(JSON.stringify(body)).toContain("SESSION:COMPLETE");
  });
});
