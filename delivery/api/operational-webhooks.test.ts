import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { MessageStatus } from "svix";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, startReceiver, startService, type Receiver, type TestService } from "./service.suite.ts";

let service: TestService;
beforeAll(async () => {
  service = await startService({ retryDelaysMs: [10, 10, 10, 10, 10] });
});
afterAll(() => service[Symbol.asyncDispose]());

/** A receiver of operational events that were published since. */
async function listen(
  eventTypes?: string[],
): Promise<Receiver & { events(): { type: string; data: object }[] }> {
  const receiver = await startReceiver();
  const { id } = await service.svix.endpoint.create("operational", { url: receiver.url, eventTypes });
  const dispose = receiver[Symbol.asyncDispose].bind(receiver);
  return Object.assign(receiver, {
    events: () => receiver.requests.map(({ body }) => JSON.parse(body) as { type: string; data: object }),
    [Symbol.asyncDispose]: async () => {
      await service.svix.endpoint.delete("operational", id);
      await dispose();
    },
  });
}

let applications = 0;
async function createApplication() {
  const uid = `shop_${++applications}`;
  const { id } = await service.svix.application.create({ name: uid, uid });
  return { uid, id };
}

describe("operational events", () => {
  test("tell of an endpoint's life", async () => {
    await using listener = await listen();
    const { uid, id } = await createApplication();
    const { endpoint } = service.svix;
    const { id: endpointId } = await endpoint.create(uid, { uid: "main", url: "https://example.com/" });
    await endpoint.patch(uid, "main", { description: "changed" });
    await endpoint.patch(uid, "main", { disabled: true });
    await endpoint.patch(uid, "main", { disabled: false });
    await endpoint.delete(uid, "main");
    await eventually(() => {
      expect(listener.requests).toHaveLength(7);
    });
    const data = { appId: id, appUid: uid, endpointId, endpointUid: "main" };
    // They are sent side by side: their ids tell the order they happened in.
    const inOrder = listener.requests
      .toSorted((left, right) => (left.headers["webhook-id"]! < right.headers["webhook-id"]! ? -1 : 1))
      .map(({ body }) => JSON.parse(body) as unknown);
    expect(inOrder).toEqual([
      { type: "endpoint.created", data },
      { type: "endpoint.updated", data },
      { type: "endpoint.updated", data },
      { type: "endpoint.disabled", data: { ...data, trigger: "manual", failSince: null } },
      { type: "endpoint.updated", data },
      { type: "endpoint.enabled", data },
      { type: "endpoint.deleted", data },
    ]);
  });

  test("tell of a message that fails for the fourth time, and then for the last", async () => {
    await using listener = await listen(["message.attempt.failing", "message.attempt.exhausted"]);
    await using receiver = await startReceiver();
    receiver.answer = { status: 422, body: "no" };
    const { uid, id } = await createApplication();
    const { id: endpointId } = await service.svix.endpoint.create(uid, { url: receiver.url });
    const { id: msgId } = await service.svix.message.create(uid, {
      eventType: "order.paid",
      eventId: `order-${uid}`,
      payload: {},
    });
    await eventually(() => {
      expect(listener.requests).toHaveLength(2);
    });
    const { data: attempts } = await service.svix.messageAttempt.listByMsg(uid, msgId);
    const [last, , fourth] = attempts;
    const events = listener.events().toSorted((left, right) => (left.type > right.type ? -1 : 1));
    expect(events).toEqual(
      [
        { type: "message.attempt.failing", attempt: fourth! },
        { type: "message.attempt.exhausted", attempt: last! },
      ].map(({ type, attempt }) => ({
        type,
        data: {
          appId: id,
          appUid: uid,
          msgId,
          msgEventId: `order-${uid}`,
          endpointId,
          lastAttempt: {
            id: attempt.id,
            responseStatusCode: 422,
            timestamp: attempt.timestamp.toISOString(),
          },
        },
      })),
    );
  });

  test("tell of a message that arrives in the end", async () => {
    await using listener = await listen(["message.attempt.recovered"]);
    let requests = 0;
    const receiver = createServer((request, response) => {
      requests++;
      request.resume().on("end", () => response.writeHead(requests > 4 ? 200 : 422).end());
    });
    await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
    const { uid } = await createApplication();
    const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;
    await service.svix.endpoint.create(uid, { url });
    const { id: msgId } = await service.svix.message.create(uid, { eventType: "order.paid", payload: {} });
    await eventually(() => {
      expect(listener.events()).toMatchObject([
        { type: "message.attempt.recovered", data: { msgId, lastAttempt: { responseStatusCode: 200 } } },
      ]);
    });
    receiver.closeAllConnections();
    receiver.close();
  });

  test("tell of an endpoint that is gone for good, that the service disables", async () => {
    await using listener = await listen(["endpoint.disabled"]);
    await using receiver = await startReceiver();
    receiver.answer = { status: 410, body: "gone" };
    const { uid } = await createApplication();
    const { id: endpointId } = await service.svix.endpoint.create(uid, { url: receiver.url });
    await service.svix.message.create(uid, { eventType: "order.paid", payload: {} });
    await eventually(() => {
      expect(listener.events()).toMatchObject([
        {
          type: "endpoint.disabled",
          data: { endpointId, trigger: "automatic", failSince: expect.any(String) },
        },
      ]);
    });
  });

  test("tell of what is made and removed through a vendor's own routes", async () => {
    await using listener = await listen();
    const { apiKey } = service.service.credentials["casey"] as { apiKey: string };
    const ask = async (method: string, path: string, body?: object): Promise<{ data?: { id: string } }> => {
      const response = await fetch(`${service.url}/casey/v1/backend/webhooks${path}`, {
        method,
        headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json" },
        body: body && JSON.stringify(body),
      });
      const text = await response.text();
      return text === "" ? {} : (JSON.parse(text) as { data: { id: string } });
    };
    const webhook = { url: "https://example.com/", eventTypes: ["conversation.started"] };
    const endpointId = (await ask("POST", "", webhook)).data!.id;
    await ask("DELETE", `/${endpointId}`);
    await eventually(() => {
      expect(listener.requests).toHaveLength(2);
    });
    const types = listener.events().toSorted((left, right) => (left.type < right.type ? -1 : 1));
    expect(types).toMatchObject([
      { type: "endpoint.created", data: { appUid: "casey", endpointId } },
      { type: "endpoint.deleted", data: { appUid: "casey", endpointId } },
    ]);
  });

  test("are signed, and kept, as any other application's", async () => {
    await using listener = await listen(["endpoint.created"]);
    const { uid } = await createApplication();
    await service.svix.endpoint.create(uid, { url: "https://example.com/" });
    await eventually(() => {
      expect(listener.requests).toHaveLength(1);
    });
    const [request] = listener.requests;
    const { data } = await service.svix.message.list("operational", {
      eventTypes: ["endpoint.created"],
      withContent: true,
    });
    expect(data[0]).toMatchObject({ id: request!.headers["webhook-id"], payload: listener.events()[0] });
    expect(request!.headers["webhook-signature"]).toMatch(/^v1,/);
  });

  test("tell nothing of the application that they go to, and are not written where nobody listens", async () => {
    const messages = async () => (await service.svix.message.list("operational", { limit: 250 })).data.length;
    const before = await messages();
    const { uid } = await createApplication();
    await service.svix.endpoint.create(uid, { url: "https://example.com/" });
    expect(await messages()).toBe(before);
    await using receiver = await startReceiver();
    // Whoever listens for another event is nobody to this one.
    await service.svix.endpoint.create("operational", {
      uid: "failing",
      url: receiver.url,
      eventTypes: ["endpoint.deleted", "message.attempt.exhausted"],
    });
    await service.svix.endpoint.create(uid, { uid: "other", url: "https://example.com/" });
    receiver.answer = { status: 422, body: "no" };
    await service.svix.endpoint.delete(uid, "other");
    await eventually(async () => {
      const { data } = await service.svix.messageAttempt.listByEndpoint("operational", "failing", {
        status: MessageStatus.Fail,
      });
      expect(data).toHaveLength(6);
    });
    expect(await messages()).toBe(before + 1);
    await service.svix.endpoint.delete("operational", "failing");
  });

  test("are published with the change that they tell of, or not at all", async () => {
    await using listener = await listen(["endpoint.created"]);
    const { uid } = await createApplication();
    await service.svix.endpoint.create(uid, { uid: "main", url: "https://example.com/" });
    const again = await service.request("POST", `/api/v1/app/${uid}/endpoint`, {
      uid: "main",
      url: "https://example.com/",
    });
    expect(again.status).toBe(409);
    await service.svix.endpoint.create(uid, { uid: "next", url: "https://example.com/" });
    await eventually(() => {
      expect(listener.requests).toHaveLength(2);
    });
    const names = listener.events().map(({ data }) => (data as { endpointUid: string }).endpointUid);
    expect(names.toSorted()).toEqual(["main", "next"]);
  });
});

describe("the paths of Svix's hosted API for operational webhooks", () => {
  test("manage the endpoints of the application", async () => {
    const { endpoint } = service.svix.operationalWebhook;
    const { id } = await endpoint.create({ url: "https://example.com/a", uid: "hosted" });
    expect(await service.svix.endpoint.get("operational", "hosted")).toMatchObject({ id });
    expect((await endpoint.list()).data.map((each) => each.id)).toContain(id);
    expect(await endpoint.upsert("hosted", { url: "https://example.com/b" })).toMatchObject({
      id,
      url: "https://example.com/b",
    });
    const { key } = await endpoint.getSecret("hosted");
    await endpoint.rotateSecret("hosted", {});
    expect((await endpoint.getSecret("hosted")).key).not.toBe(key);
    await endpoint.setHeaders("hosted", { headers: { "x-a": "b" } });
    expect(await endpoint.getHeaders("hosted")).toMatchObject({ headers: { "x-a": "b" } });
    await endpoint.delete("hosted");
    expect(await service.request("GET", "/api/v1/app/operational/endpoint/hosted")).toMatchObject({
      status: 404,
    });
  });

  test("are not for a token of one application", async () => {
    const { uid } = await createApplication();
    const { token } = await service.svix.authentication.appPortalAccess(uid, {});
    const answer = await service.request("GET", "/api/v1/operational-webhook/endpoint", undefined, {
      authorization: `Bearer ${token}`,
    });
    expect(answer.status).toBe(403);
  });
});
