import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, startReceiver, startService, type Receiver, type TestService } from "./service.suite.ts";

/** What a member may be. */
type Kind = (value: unknown) => boolean;

const text: Kind = (value) => typeof value === "string";
const time: Kind = (value) => typeof value === "string" && new Date(value).toISOString() === value;
const url: Kind = (value) => typeof value === "string" && URL.canParse(value);
const flag: Kind = (value) => typeof value === "boolean";
const whole: Kind = (value) => Number.isInteger(value);
const object: Kind = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const texts: Kind = (value) => Array.isArray(value) && value.every(text);
const textMap: Kind = (value) => object(value) && Object.values(value as object).every(text);
const orNull =
  (kind: Kind): Kind =>
  (value) =>
    value === null || kind(value);
const oneOf =
  (...values: unknown[]): Kind =>
  (value) =>
    values.includes(value);

type Shape = Readonly<Record<string, Kind>>;

const applicationOut: Shape = {
  id: text,
  uid: orNull(text),
  name: text,
  throttleRate: orNull(whole),
  metadata: textMap,
  createdAt: time,
  updatedAt: time,
  rateLimit: orNull(whole),
};
const endpointCommon: Shape = {
  id: text,
  uid: orNull(text),
  url,
  description: text,
  disabled: flag,
  eventTypes: orNull(texts),
  channels: orNull(texts),
  throttleRate: orNull(whole),
  createdAt: time,
  updatedAt: time,
  filterTypes: orNull(texts),
  rateLimit: orNull(whole),
  version: whole,
};
const endpointOut: Shape = { ...endpointCommon, metadata: textMap };
const eventTypeOut: Shape = {
  name: text,
  description: text,
  archived: flag,
  deprecated: flag,
  schemas: orNull(object),
  groupName: orNull(text),
  featureFlag: orNull(text),
  featureFlags: orNull(texts),
  createdAt: time,
  updatedAt: time,
};
const messageOut: Shape = {
  id: text,
  eventType: text,
  eventId: orNull(text),
  channels: orNull(texts),
  tags: orNull(texts),
  payload: object,
  timestamp: time,
};
const status: Shape = {
  status: oneOf(0, 1, 2, 3),
  statusText: oneOf("success", "pending", "fail", "sending"),
};
const attemptOut: Shape = {
  ...status,
  id: text,
  msgId: text,
  endpointId: text,
  url,
  response: text,
  responseStatusCode: whole,
  responseDurationMs: whole,
  triggerType: oneOf(0, 1),
  timestamp: time,
};
const destinationOut: Shape = { ...endpointCommon, ...status, nextAttempt: orNull(time) };
const endpointMessageOut: Shape = { ...messageOut, ...status, nextAttempt: orNull(time) };
const statsOut: Shape = { success: whole, pending: whole, sending: whole, fail: whole, canceled: whole };
const nothing: Shape = {};

let service: TestService;
let receiver: Receiver;
beforeAll(async () => {
  [service, receiver] = [await startService(), await startReceiver()];
  const { svix } = service;
  await svix.application.create({ name: "a", uid: "a", metadata: { plan: "gold" }, throttleRate: 100 });
  await svix.endpoint.create("a", { uid: "e", url: receiver.url, eventTypes: ["shape"], channels: ["c"] });
  await svix.endpoint.create("a", { uid: "plain", url: receiver.url });
  await svix.eventType.create({
    name: "shape",
    description: "d",
    featureFlags: ["beta"],
    groupName: "g",
    schemas: { "1": { type: "object", example: { n: 1 } } },
  });
  await svix.eventType.create({ name: "plain", description: "" });
  const event = { eventType: "shape", eventId: "evt", channels: ["c"], tags: ["t"], payload: { n: 1 } };
  await svix.message.create("a", event);
  await svix.message.create("a", { eventType: "plain", payload: {} });
  await eventually(async () => {
    expect((await svix.messageAttempt.listByMsg("a", "evt")).data).toHaveLength(2);
  });
});
afterAll(async () => {
  await Promise.all([service, receiver].map((opened) => opened[Symbol.asyncDispose]()));
});

/** Asks for exactly the members of the shape, each of its kind. */
function expectShape(value: unknown, shape: Shape): void {
  expect(Object.keys(value as object).toSorted()).toEqual(Object.keys(shape).toSorted());
  const wrong = Object.entries(value as object).filter(([name, member]) => shape[name]?.(member) !== true);
  expect(wrong).toEqual([]);
}

const body = {
  application: { name: "b" },
  endpoint: { url: "https://example.com/hook" },
  eventType: { description: "d" },
};

describe("each answer has the contract's members, and no others than are documented", () => {
  test.each<[string, string, unknown, number, Shape]>([
    ["POST", "app", body.application, 201, applicationOut],
    ["POST", "app?get_if_exists=true", { name: "a", uid: "a" }, 200, applicationOut],
    ["GET", "app/a", undefined, 200, applicationOut],
    ["PUT", "app/put", body.application, 201, applicationOut],
    ["PUT", "app/put", body.application, 200, applicationOut],
    ["PATCH", "app/put", {}, 200, applicationOut],
    ["POST", "event-type", { name: "made", ...body.eventType }, 201, eventTypeOut],
    ["GET", "event-type/shape", undefined, 200, eventTypeOut],
    ["PUT", "event-type/put", body.eventType, 201, eventTypeOut],
    ["PUT", "event-type/put", body.eventType, 200, eventTypeOut],
    ["PATCH", "event-type/put", {}, 200, eventTypeOut],
    ["POST", "app/put/endpoint", body.endpoint, 201, endpointOut],
    ["GET", "app/a/endpoint/e", undefined, 200, endpointOut],
    ["PUT", "app/put/endpoint/put", body.endpoint, 201, endpointOut],
    ["PUT", "app/put/endpoint/put", body.endpoint, 200, endpointOut],
    ["PATCH", "app/put/endpoint/put", {}, 200, endpointOut],
    ["GET", "app/a/endpoint/e/headers", undefined, 200, { headers: textMap, sensitive: texts }],
    ["GET", "app/a/endpoint/e/secret", undefined, 200, { key: text }],
    ["GET", "app/a/endpoint/e/stats", undefined, 200, statsOut],
    ["POST", "app/a/endpoint/e/send-example", { eventType: "shape" }, 200, messageOut],
    ["POST", "app/put/msg", { eventType: "a", payload: {} }, 202, messageOut],
    ["GET", "app/a/msg/evt", undefined, 200, messageOut],
    ["POST", "app/a/msg/evt/endpoint/e/resend", undefined, 202, nothing],
  ])("%s %s", async (method, path, sent, expected, shape) => {
    const answer = await service.request(method, `/api/v1/${path}`, sent);
    expect(answer.status).toBe(expected);
    expect(answer.headers.get("content-type")).toBe("application/json; charset=utf-8");
    expectShape(answer.json, shape);
  });

  test.each<[string, Shape]>([
    ["app", applicationOut],
    ["event-type?with_content=true", eventTypeOut],
    ["app/a/endpoint", endpointOut],
    ["app/a/msg", messageOut],
    ["app/a/attempt/msg/evt", attemptOut],
    ["app/a/attempt/endpoint/e", attemptOut],
    ["app/a/attempt/endpoint/e?with_msg=true", { ...attemptOut, msg: object }],
    ["app/a/msg/evt/endpoint", destinationOut],
    ["app/a/endpoint/e/msg", endpointMessageOut],
  ])("the items of %s, and the page", async (path, shape) => {
    const { status: answered, json } = await service.request("GET", `/api/v1/${path}`);
    expect(answered).toBe(200);
    expectShape(json, {
      data: Array.isArray,
      iterator: orNull(text),
      prevIterator: orNull(text),
      done: flag,
    });
    expect(json.data.length).toBeGreaterThan(0);
    for (const item of json.data) expectShape(item, shape);
  });

  test("one attempt", async () => {
    const { data } = await service.svix.messageAttempt.listByMsg("a", "evt");
    const { json } = await service.request("GET", `/api/v1/app/a/msg/evt/attempt/${data[0]!.id}`);
    expectShape(json, attemptOut);
  });

  test.each<[string, string, unknown]>([
    ["PUT", "app/a/endpoint/plain/headers", { headers: { "x-a": "1" } }],
    ["PATCH", "app/a/endpoint/plain/headers", { headers: { "x-a": null } }],
    ["POST", "app/a/endpoint/plain/secret/rotate", { key: null }],
    ["DELETE", "app/a/endpoint/plain", undefined],
    ["DELETE", "app/a/msg/evt/content", undefined],
    ["DELETE", "event-type/plain", undefined],
    ["DELETE", "app/put", undefined],
    ["GET", "health", undefined],
    ["GET", "health/ping", undefined],
  ])("%s %s has no body", async (method, path, sent) => {
    const answer = await service.request(method, `/api/v1/${path}`, sent);
    expect([answer.status, answer.text]).toEqual([204, ""]);
  });
});

test("the official client finds the service healthy", async () => {
  await expect(service.svix.health.get()).resolves.not.toThrow();
});

describe("each refusal has the contract's form", () => {
  test.each<[string, string, unknown, number]>([
    ["POST", "app", "{", 400],
    ["GET", "app/none", undefined, 404],
    ["GET", "app/a/endpoint/none", undefined, 404],
    ["GET", "app/a/msg/none", undefined, 404],
    ["GET", "event-type/none", undefined, 404],
    ["DELETE", "app/a/msg/none/content", undefined, 404],
    ["PUT", "app/pave", body.application, 403],
    ["POST", "app", { name: "b", uid: "a" }, 409],
    ["POST", "app/a/endpoint", { ...body.endpoint, uid: "e" }, 409],
    ["POST", "event-type", { name: "shape", ...body.eventType }, 409],
    ["POST", "app/a/endpoint/e/send-example", { eventType: "made" }, 400],
    ["GET", "app/a/endpoint/e/stats?until=2100-01-01T00:00:00Z", undefined, 400],
  ])("%s %s %o is answered with %i", async (method, path, sent, expected) => {
    const answer = await service.request(method, `/api/v1/${path}`, sent);
    expect(answer.status).toBe(expected);
    expectShape(answer.json, { code: text, detail: text });
  });

  test.each<[string, string, unknown]>([
    ["POST", "app", { name: 5, uid: "a b", throttleRate: 0, metadata: { a: 1 } }],
    ["POST", "event-type", { name: "a b", schemas: { "1": { type: 7 } } }],
    ["POST", "app/a/endpoint", { url: "x", eventTypes: [], headers: { a: "b\r\nc" }, policy: { order: 1 } }],
    ["POST", "app/a/msg", { eventType: "a b", payload: [], channels: [] }],
    ["POST", "app/a/msg/batch", { messages: 5 }],
    ["GET", "app/a/msg?limit=x&before=y&with_content=z", undefined],
  ])("%s %s with faults is answered with all of them, each at its place", async (method, path, sent) => {
    const answer = await service.request(method, `/api/v1/${path}`, sent);
    expect(answer.status).toBe(422);
    expectShape(answer.json, { detail: Array.isArray });
    for (const fault of answer.json.detail) expectShape(fault, { loc: texts, msg: text, type: text });
    const places = answer.json.detail.map(({ loc }: { loc: string[] }) => loc.slice(0, 2).join("."));
    const [root, given] =
      sent === undefined
        ? ["query", Object.fromEntries(new URL(path, "http://localhost").searchParams)]
        : ["body", sent as object];
    // Nothing that is wrong is left for the next try.
    expect(places).toEqual(expect.arrayContaining(Object.keys(given).map((member) => `${root}.${member}`)));
  });
});
