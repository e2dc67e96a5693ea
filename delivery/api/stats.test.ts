import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  eventually,
  refusalOf,
  startReceiver,
  startService,
  type Receiver,
  type TestService,
} from "./service.suite.ts";

const dayMs = 24 * 60 * 60 * 1000;

let service: TestService;
let receiver: Receiver;
beforeAll(async () => {
  [service, receiver] = [await startService(), await startReceiver()];
  await service.svix.application.create({ name: "a", uid: "a" });
  await service.request("POST", "/api/v1/app/a/endpoint", {
    uid: "e",
    url: receiver.url,
    policy: { retrySchedule: [3600] },
  });
});
afterAll(async () => {
  await Promise.all([service, receiver].map((opened) => opened[Symbol.asyncDispose]()));
});

describe("an endpoint's statistics", () => {
  test("are zero before anything was sent", async () => {
    expect((await service.request("GET", "/api/v1/app/a/endpoint/e/stats")).json).toEqual({
      success: 0,
      pending: 0,
      sending: 0,
      fail: 0,
      canceled: 0,
    });
  });

  test("count its messages by what became of them, in the time that is asked for", async () => {
    const publish = () => service.svix.message.create("a", { eventType: "a", payload: {} });
    const attempts = async () => (await service.svix.messageAttempt.listByEndpoint("a", "e")).data.length;
    await publish();
    await publish();
    await eventually(async () => {
      expect(await attempts()).toBe(2);
    });
    receiver.answer = { status: 500, body: "" };
    const { timestamp } = await publish();
    await eventually(async () => {
      expect(await attempts()).toBe(3);
    });
    receiver.answer = { status: 410, body: "" };
    expect(await service.svix.endpoint.getStats("a", "e")).toMatchObject({ success: 2, pending: 1, fail: 0 });
    expect(await service.svix.endpoint.getStats("a", "e", { since: timestamp })).toMatchObject({
      success: 0,
      pending: 1,
    });
    const until = new Date(timestamp.getTime() - dayMs);
    expect(await service.svix.endpoint.getStats("a", "e", { until })).toMatchObject({
      success: 0,
      pending: 0,
    });
    await publish();
    await eventually(async () => {
      expect(await service.svix.endpoint.getStats("a", "e")).toMatchObject({ success: 2, fail: 1 });
    });
  });

  test.each([
    ["a time of more than 28 days", { since: new Date(Date.now() - 29 * dayMs) }],
    ["a time that lies ahead", { until: new Date(Date.now() + dayMs) }],
    ["a time that runs backwards", { since: new Date(), until: new Date(Date.now() - dayMs) }],
  ])("for %s are answered with 400", async (_, times) => {
    expect(await refusalOf(service.svix.endpoint.getStats("a", "e", times))).toMatchObject({
      status: 400,
      body: { code: "bad_request" },
    });
  });

  test("for what is no time are answered with 422, and for what is not there with 404", async () => {
    const answer = await service.request("GET", "/api/v1/app/a/endpoint/e/stats?since=now&until=then");
    expect(answer.status).toBe(422);
    expect(answer.json.detail.map(({ loc }: { loc: string[] }) => loc)).toEqual([
      ["query", "since"],
      ["query", "until"],
    ]);
    expect((await refusalOf(service.svix.endpoint.getStats("a", "ep_1"))).status).toBe(404);
  });
});
