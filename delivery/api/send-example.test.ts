import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  eventually,
  refusalOf,
  startReceiver,
  startService,
  type Receiver,
  type TestService,
} from "./service.suite.ts";

let service: TestService;
let receiver: Receiver;
let other: Receiver;
beforeAll(async () => {
  [service, receiver, other] = [await startService(), await startReceiver(), await startReceiver()];
  await service.svix.application.create({ name: "a", uid: "a" });
  // Listens to something else: an example is sent all the same.
  await service.svix.endpoint.create("a", { uid: "e", url: receiver.url, eventTypes: ["else"] });
  await service.svix.endpoint.create("a", { uid: "other", url: other.url });
  const schemas = {
    "1": { type: "object", example: { old: true } },
    "2": { type: "object", examples: [{ n: 1 }, { n: 2 }] },
  };
  await service.svix.eventType.create({ name: "given", description: "", schemas });
});
afterAll(async () => {
  await Promise.all([service, receiver, other].map((opened) => opened[Symbol.asyncDispose]()));
});

/** What the receiver got for a message. */
async function bodyOf(messageId: string): Promise<unknown> {
  const find = () => receiver.requests.find(({ headers }) => headers["webhook-id"] === messageId);
  await eventually(() => {
    expect(find()).toBeDefined();
  });
  return JSON.parse(find()?.body ?? "");
}

describe("an example", () => {
  test("is published, and delivered to that endpoint alone, whatever it listens to", async () => {
    const answer = await service.request("POST", "/api/v1/app/a/endpoint/e/send-example", {
      eventType: "given",
    });
    expect(answer.status).toBe(200);
    expect(answer.json).toEqual({
      id: expect.stringMatching(/^msg_/),
      eventType: "given",
      eventId: null,
      channels: null,
      tags: null,
      timestamp: expect.any(String),
      payload: { n: 1 },
    });
    expect(await bodyOf(answer.json.id)).toEqual({ n: 1 });
    const { data } = await service.svix.messageAttempt.listAttemptedDestinations("a", answer.json.id);
    expect(data).toMatchObject([{ uid: "e" }]);
    expect(other.requests).toEqual([]);
  });

  test("is the one of several that is asked for", async () => {
    const example = { eventType: "given", exampleIndex: 1 };
    expect(await bodyOf((await service.svix.endpoint.sendExample("a", "e", example)).id)).toEqual({ n: 2 });
    const none = service.svix.endpoint.sendExample("a", "e", { eventType: "given", exampleIndex: 2 });
    expect(await refusalOf(none)).toMatchObject({
      status: 422,
      body: { detail: [{ loc: ["body", "exampleIndex"] }] },
    });
  });

  test("is made up where the schema has none", async () => {
    const schema = {
      properties: { id: { type: "integer", minimum: 7 }, at: { type: "string", format: "date" } },
    };
    await service.svix.eventType.create({ name: "made.up", description: "", schemas: { "1": schema } });
    const { id } = await service.svix.endpoint.sendExample("a", "e", { eventType: "made.up" });
    expect(await bodyOf(id)).toEqual({ id: 7, at: "2026-01-31" });
  });

  test("of svix.ping needs no event type", async () => {
    const { id } = await service.svix.endpoint.sendExample("a", "e", { eventType: "svix.ping" });
    expect(await bodyOf(id)).toEqual({ success: true });
  });

  test("is sent once for an idempotency key", async () => {
    const send = () =>
      service.svix.endpoint.sendExample("a", "e", { eventType: "given" }, { idempotencyKey: "once" });
    expect((await send()).id).toBe((await send()).id);
  });

  test.each([
    ["an event type that is not there", { name: "missing" }, 404],
    ["one without a schema", { name: "schemaless", schemas: null }, 400],
    ["one whose example is no object", { name: "text", schemas: { "1": { example: "x" } } }, 400],
    ["one that is archived", { name: "archived", schemas: { "1": {} }, archived: true }, 422],
  ])("of %s is refused", async (_, { name, ...members }, status) => {
    if (name !== "missing") await service.svix.eventType.create({ name, description: "", ...members });
    const send = service.svix.endpoint.sendExample("a", "e", { eventType: name });
    expect((await refusalOf(send)).status).toBe(status);
  });

  test("that is not what its own schema says is refused where payloads are checked", async () => {
    const policy = { validatePayloads: true };
    await service.request("POST", "/api/v1/app", { name: "c", uid: "checked", policy });
    await service.svix.endpoint.create("checked", { uid: "e", url: receiver.url });
    const schema = { type: "object", properties: { id: { type: "integer" } }, example: { id: "one" } };
    await service.svix.eventType.create({ name: "wrong", description: "", schemas: { "1": schema } });
    const send = service.svix.endpoint.sendExample("checked", "e", { eventType: "wrong" });
    expect(await refusalOf(send)).toMatchObject({
      status: 422,
      body: {
        detail: [{ loc: ["body", "eventType"], msg: expect.stringContaining('At "id" of its example') }],
      },
    });
  });

  test("to an endpoint that is disabled, or not there, is refused", async () => {
    await service.svix.endpoint.create("a", { uid: "off", url: receiver.url, disabled: true });
    const body = { eventType: "given" };
    expect(await refusalOf(service.svix.endpoint.sendExample("a", "off", body))).toMatchObject({
      status: 400,
      body: { detail: expect.stringContaining("disabled") },
    });
    expect((await refusalOf(service.svix.endpoint.sendExample("a", "ep_1", body))).status).toBe(404);
  });
});
