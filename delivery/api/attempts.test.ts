import { MessageStatus } from "svix";
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
let good: Receiver;
let bad: Receiver;
let messageId: string;
beforeAll(async () => {
  service = await startService();
  [good, bad] = [await startReceiver(), await startReceiver()];
  // The next attempt is out of the tests' way.
  bad.answer = { status: 503, headers: { "retry-after": "3600" }, body: "no" };
  await service.svix.application.create({ name: "a", uid: "a" });
  await service.svix.endpoint.create("a", { uid: "good", url: good.url });
  await service.svix.endpoint.create("a", { uid: "bad", url: bad.url });
  ({ id: messageId } = await service.svix.message.create("a", {
    eventType: "user.created",
    eventId: "evt",
    channels: ["one"],
    tags: ["vip"],
    payload: { n: 1 },
  }));
  await eventually(async () => {
    expect((await service.svix.messageAttempt.listByMsg("a", messageId)).data).toHaveLength(2);
  });
});
afterAll(async () => {
  await Promise.all([service, good, bad].map((opened) => opened[Symbol.asyncDispose]()));
});

describe("attempts of a message", () => {
  test("say what was sent where and what came back, newest first", async () => {
    const { json } = await service.request("GET", `/api/v1/app/a/attempt/msg/${messageId}`);
    const { id: endpointId } = await service.svix.endpoint.get("a", "good");
    expect(json).toMatchObject({ done: true });
    expect(json.data.map(({ id }: { id: string }) => id)).toEqual(
      json.data
        .map(({ id }: { id: string }) => id)
        .toSorted()
        .toReversed(),
    );
    expect(json.data.find((attempt: { endpointId: string }) => attempt.endpointId === endpointId)).toEqual({
      id: expect.stringMatching(/^atmpt_/),
      msgId: messageId,
      endpointId,
      url: good.url,
      response: "thanks",
      responseStatusCode: 200,
      responseDurationMs: expect.any(Number),
      status: 0,
      statusText: "success",
      triggerType: 0,
      timestamp: expect.any(String),
    });
  });

  test("are found by the event id too, and without content the response is left out", async () => {
    const { data } = await service.svix.messageAttempt.listByMsg("a", "evt");
    expect(data.map(({ response }) => response)).toEqual(["{}", "{}"]);
  });

  test("bring their message along when asked to, its payload as it was published", async () => {
    const path = `/api/v1/app/a/attempt/msg/${messageId}?with_msg=true`;
    const { json, text } = await service.request("GET", path);
    const { json: message } = await service.request("GET", `/api/v1/app/a/msg/${messageId}`);
    expect(json.data.map(({ msg }: { msg: unknown }) => msg)).toEqual([message, message]);
    expect(text).toContain('"payload":{"n":1}');
    const bare = await service.request("GET", `${path}&with_content=false`);
    expect(bare.json.data[0]).toMatchObject({ response: "{}", msg: { id: messageId, payload: {} } });
    const { data } = await service.svix.messageAttempt.listByEndpoint("a", "good");
    expect(data[0]).not.toHaveProperty("msg.id");
  });

  test.each([
    ["success", { status: 0 }, [200]],
    ["failure", { status: 2 }, [503]],
    ["being pending, which no attempt is", { status: 1 }, []],
    ["the class of the answer's status", { statusCodeClass: 500 }, [503]],
    ["the class of answers that there are none of", { statusCodeClass: 400 }, []],
    ["the endpoint", { endpointId: "bad" }, [503]],
    ["the event type", { eventTypes: ["user.created"], status: 0 }, [200]],
    ["another event type", { eventTypes: ["other"] }, []],
    ["the channel", { channel: "one", status: 0 }, [200]],
    ["another channel", { channel: "two" }, []],
    ["the tag", { tag: "vip", status: 0 }, [200]],
    ["another tag", { tag: "other" }, []],
    ["a time that is over", { before: new Date(0) }, []],
    ["the time since", { after: new Date(0), status: 0 }, [200]],
  ])("are filtered by %s", async (_, filter, expected) => {
    const { data } = await service.svix.messageAttempt.listByMsg("a", messageId, filter);
    expect(data.map(({ responseStatusCode }) => responseStatusCode)).toEqual(expected);
  });

  test.each([["status=9"], ["status_code_class=250"], ["before=now"]])(
    "%s is answered with 422",
    async (query) => {
      const answer = await service.request("GET", `/api/v1/app/a/attempt/msg/${messageId}?${query}`);
      expect(answer).toMatchObject({
        status: 422,
        json: { detail: [{ loc: ["query", query.split("=")[0]] }] },
      });
    },
  );

  test("can be read one by one", async () => {
    const { data } = await service.svix.messageAttempt.listByMsg("a", messageId, { withContent: true });
    expect(await service.svix.messageAttempt.get("a", messageId, data[0]!.id)).toEqual(data[0]);
    expect((await refusalOf(service.svix.messageAttempt.get("a", messageId, "atmpt_1"))).status).toBe(404);
    expect((await refusalOf(service.svix.messageAttempt.listByMsg("a", "msg_1"))).status).toBe(404);
  });
});

describe("attempts of an endpoint", () => {
  test("go page by page", async () => {
    await service.svix.endpoint.create("a", { uid: "pages", url: good.url, eventTypes: ["page"] });
    for (const n of [1, 2, 3]) await service.svix.message.create("a", { eventType: "page", payload: { n } });
    const list = (options = {}) => service.svix.messageAttempt.listByEndpoint("a", "pages", options);
    await eventually(async () => {
      expect((await list()).data).toHaveLength(3);
    });
    const all = await list();
    const first = await list({ limit: 2 });
    const second = await list({ limit: 2, iterator: first.iterator });
    expect([first.done, second.done]).toEqual([false, true]);
    expect([...first.data, ...second.data]).toEqual(all.data);
    expect((await list({ limit: 2, iterator: second.prevIterator })).data).toEqual(first.data);
  });
});

describe("destinations of a message", () => {
  test("show each endpoint with what became of the message there", async () => {
    const { data, done } = await service.svix.messageAttempt.listAttemptedDestinations("a", messageId);
    expect(done).toBe(true);
    expect(data).toMatchObject([
      { uid: "good", url: good.url, status: 0, statusText: "success", nextAttempt: null },
      { uid: "bad", url: bad.url, status: 1, statusText: "pending", nextAttempt: expect.any(Date) },
    ]);
    expect(data[1]!.nextAttempt!.getTime()).toBeGreaterThan(Date.now());
  });

  test("go page by page", async () => {
    const first = await service.svix.messageAttempt.listAttemptedDestinations("a", messageId, { limit: 1 });
    expect(first).toMatchObject({ data: [{ uid: "good" }], done: false });
    const { iterator } = first;
    expect(
      await service.svix.messageAttempt.listAttemptedDestinations("a", messageId, { limit: 1, iterator }),
    ).toMatchObject({
      data: [{ uid: "bad" }],
      done: true,
    });
  });
});

describe("messages of an endpoint", () => {
  test("show each message with what became of it", async () => {
    const path = "/api/v1/app/a/endpoint/bad/msg";
    expect((await service.request("GET", `${path}?event_types=user.created`)).json).toMatchObject({
      data: [
        {
          id: messageId,
          eventType: "user.created",
          eventId: "evt",
          payload: { n: 1 },
          status: 1,
          statusText: "pending",
          nextAttempt: expect.any(String),
        },
      ],
      done: true,
    });
  });

  test.each([
    [{ status: 0 }, ["evt"]],
    [{ status: 1 }, []],
    [{ status: 2 }, []],
    [{ status: 3 }, []],
    [{ channel: "one" }, ["evt"]],
    [{ tag: "other" }, []],
  ])("are filtered by %o", async (filter, expected) => {
    const eventTypes = ["user.created"];
    const { data } = await service.svix.messageAttempt.listAttemptedMessages("a", "good", {
      eventTypes,
      ...filter,
    });
    expect(data.map(({ eventId }) => eventId)).toEqual(expected);
  });
});

describe("the content of an attempt", () => {
  test("can be taken away for good", async () => {
    await service.svix.application.create({ name: "e", uid: "expunge" });
    await service.svix.endpoint.create("expunge", { url: good.url });
    await service.svix.message.create("expunge", { eventType: "a", eventId: "evt", payload: {} });
    const list = () => service.svix.messageAttempt.listByMsg("expunge", "evt", { withContent: true });
    await eventually(async () => {
      expect((await list()).data).toMatchObject([{ response: "thanks" }]);
    });
    const { id } = (await list()).data[0]!;
    await service.svix.messageAttempt.expungeContent("expunge", "evt", id);
    expect((await list()).data).toMatchObject([{ id, response: "EXPUNGED", responseStatusCode: 200 }]);
    expect(await service.svix.messageAttempt.get("expunge", "evt", id)).toMatchObject({
      response: "EXPUNGED",
    });
    for (const [application, message] of [
      ["a", "evt"],
      ["expunge", "msg_1"],
    ] as const) {
      const expunge = service.svix.messageAttempt.expungeContent(application, message, id);
      expect((await refusalOf(expunge)).status).toBe(404);
    }
  });
});

describe("resend", () => {
  test("with one idempotency key happens once", async () => {
    await service.svix.application.create({ name: "o", uid: "once" });
    await service.svix.endpoint.create("once", { uid: "once", url: good.url });
    await service.svix.message.create("once", { eventType: "a", eventId: "evt", payload: {} });
    const attempts = async (message = "evt") =>
      (await service.svix.messageAttempt.listByMsg("once", message)).data.length;
    const resend = () => service.svix.messageAttempt.resend("once", "evt", "once", { idempotencyKey: "k" });
    await eventually(async () => {
      expect(await attempts()).toBe(1);
    });
    await resend();
    await eventually(async () => {
      expect(await attempts()).toBe(2);
    });
    await resend();
    // Another message's delivery comes behind whatever the second try may have asked for.
    await service.svix.message.create("once", { eventType: "a", eventId: "evt-2", payload: {} });
    await eventually(async () => {
      expect(await attempts("evt-2")).toBe(1);
    });
    expect(await attempts()).toBe(2);
  });

  test("makes a delivery that has ended once more, and says that somebody asked for it", async () => {
    const before = good.requests.filter(({ headers }) => headers["webhook-id"] === messageId).length;
    const answer = await service.request("POST", `/api/v1/app/a/msg/evt/endpoint/good/resend`);
    expect(answer).toMatchObject({ status: 202, json: {} });
    await eventually(async () => {
      const { data } = await service.svix.messageAttempt.listByMsg("a", messageId, {
        status: MessageStatus.Success,
      });
      expect(data).toMatchObject([{ triggerType: 1 }, { triggerType: 0 }]);
    });
    expect(good.requests.filter(({ headers }) => headers["webhook-id"] === messageId)).toHaveLength(
      before + 1,
    );
  });

  test("of what is not there is answered with 404", async () => {
    expect((await refusalOf(service.svix.messageAttempt.resend("a", "msg_1", "good"))).status).toBe(404);
    expect((await refusalOf(service.svix.messageAttempt.resend("a", "evt", "ep_1"))).status).toBe(404);
  });
});
