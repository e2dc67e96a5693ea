import { BackgroundTaskStatus, BackgroundTaskType, Ordering } from "svix";
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
beforeAll(async () => {
  // One attempt each: what fails has failed.
  service = await startService({ retryDelaysMs: [] });
});
afterAll(() => service[Symbol.asyncDispose]());

let applications = 0;

/** An application with an endpoint, and the events that its receiver has refused. */
async function openScene({ events = 3, failing = true }: { events?: number; failing?: boolean } = {}) {
  const receiver = await startReceiver();
  const app = `shop_${++applications}`;
  await service.svix.application.create({ name: app, uid: app });
  await service.svix.endpoint.create(app, { uid: "main", url: receiver.url });
  if (failing) receiver.answer = { status: 422, body: "no" };
  const since = new Date(Date.now() - 1_000);
  const ids: string[] = [];
  for (let n = 0; n < events; n++) {
    const eventType = n % 2 === 0 ? "order.paid" : "order.sent";
    const { id } = await service.svix.message.create(app, { eventType, payload: { n }, tags: [`tag_${n}`] });
    ids.push(id);
  }
  await eventually(async () => {
    expect(await statusesOf(app)).toEqual(ids.map(() => (failing ? 2 : 0)));
  });
  receiver.requests.length = 0;
  receiver.answer = { status: 200, body: "yes" };
  return { receiver, app, since, ids, [Symbol.asyncDispose]: () => receiver[Symbol.asyncDispose]() };
}

async function statusesOf(app: string): Promise<(number | undefined)[]> {
  const { data } = await service.svix.messageAttempt.listAttemptedMessages(app, "main");
  return data.map(({ status }) => status);
}

/** Waits for a task to end. */
async function ended(id: string) {
  await eventually(async () => {
    expect((await service.svix.backgroundTask.get(id)).status).not.toBe("running");
  });
  return await service.svix.backgroundTask.get(id);
}

const received = ({ requests }: Receiver): (string | string[] | undefined)[] =>
  requests.map(({ headers }) => headers["webhook-id"]).sort();

describe("recover", () => {
  test("sends again what has failed, and tells how far it has come", async () => {
    await using scene = await openScene();
    const task = await service.svix.endpoint.recover(scene.app, "main", { since: scene.since });
    expect(task).toEqual({
      id: expect.stringMatching(/^qtask_[0-9a-z]{26}$/),
      status: "running",
      task: "endpoint.recover",
      updatedAt: expect.any(Date),
    });
    const { id: endpointId } = await service.svix.endpoint.get(scene.app, "main");
    expect(await ended(task.id)).toMatchObject({
      id: task.id,
      status: "finished",
      task: "endpoint.recover",
      data: { endpointId, since: scene.since.toISOString(), until: null, done: 3, total: 3, error: null },
    });
    await eventually(async () => {
      expect(await statusesOf(scene.app)).toEqual([0, 0, 0]);
    });
    expect(received(scene.receiver)).toEqual(scene.ids);
    // Made by hand, as the attempts tell.
    const { data } = await service.svix.messageAttempt.listByMsg(scene.app, scene.ids[0]!);
    expect(data.map(({ triggerType }) => triggerType)).toEqual([1, 0]);
  });

  test("leaves alone what has succeeded", async () => {
    await using scene = await openScene({ failing: false });
    const { id } = await service.svix.endpoint.recover(scene.app, "main", { since: scene.since });
    expect(await ended(id)).toMatchObject({ status: "finished", data: { done: 0, total: 0 } });
    expect(scene.receiver.requests).toEqual([]);
  });

  test("leaves alone what was published before or after the time", async () => {
    await using scene = await openScene({ events: 2 });
    const { app } = scene;
    const until = new Date();
    await new Promise((resolve) => setTimeout(resolve, 5));
    const { id: since } = await service.svix.endpoint.recover(app, "main", { since: new Date() });
    expect(await ended(since)).toMatchObject({ data: { done: 0, total: 0 } });
    scene.receiver.answer = { status: 422, body: "no" };
    await service.svix.message.create(app, { eventType: "late", payload: {} });
    await eventually(async () => {
      expect(await statusesOf(app)).toEqual([2, 2, 2]);
    });
    scene.receiver.answer = { status: 200, body: "yes" };
    const { id } = await service.svix.endpoint.recover(app, "main", { since: scene.since, until });
    expect(await ended(id)).toMatchObject({ data: { done: 2, total: 2, until: until.toISOString() } });
    await eventually(async () => {
      expect((await statusesOf(app)).toSorted()).toEqual([0, 0, 2]);
    });
  });

  test("answers the same request with the same Idempotency-Key once, and does it once", async () => {
    await using scene = await openScene();
    const recover = () =>
      service.request(
        "POST",
        `/api/v1/app/${scene.app}/endpoint/main/recover`,
        { since: scene.since.toISOString() },
        { "idempotency-key": "again" },
      );
    const [first, second] = [await recover(), await recover()];
    expect([first.status, second.status]).toEqual([202, 202]);
    expect(second.text).toBe(first.text);
    await ended(first.json.id as string);
    await eventually(() => {
      expect(received(scene.receiver)).toEqual(scene.ids);
    });
    const { data } = await service.svix.backgroundTask.list();
    expect(data.filter(({ id }) => id === first.json.id)).toHaveLength(1);
  });

  test("keeps the order of an endpoint that has one", async () => {
    await using scene = await openScene({ events: 0 });
    const { app, receiver } = scene;
    await service.svix.endpoint.patch(app, "main", { disabled: true });
    await service.request("PATCH", `/api/v1/app/${app}/endpoint/main`, { disabled: false });
    const ids: string[] = [];
    receiver.answer = { status: 422, body: "no" };
    for (let n = 0; n < 20; n++) {
      ids.push((await service.svix.message.create(app, { eventType: "order.paid", payload: { n } })).id);
    }
    await eventually(async () => {
      expect(await statusesOf(app)).toEqual(ids.map(() => 2));
    });
    const { status } = await service.request("PATCH", `/api/v1/app/${app}/endpoint/main`, {
      policy: { order: "endpoint" },
    });
    expect(status).toBe(200);
    receiver.requests.length = 0;
    receiver.answer = { status: 200, body: "yes" };
    await service.svix.endpoint.recover(app, "main", { since: scene.since });
    await eventually(() => {
      expect(receiver.requests).toHaveLength(20);
    });
    expect(receiver.requests.map(({ headers }) => headers["webhook-id"])).toEqual(ids);
  });

  test.each([
    ["without a beginning", {}, ["body", "since"]],
    ["with a beginning that is no time", { since: "yesterday" }, ["body", "since"]],
    [
      "with an end before it",
      { since: "2026-01-02T00:00:00Z", until: "2026-01-01T00:00:00Z" },
      ["body", "until"],
    ],
  ])("is refused %s", async (_, body, loc) => {
    await using scene = await openScene({ events: 0 });
    const answer = await service.request("POST", `/api/v1/app/${scene.app}/endpoint/main/recover`, body);
    expect(answer).toMatchObject({ status: 422, json: { detail: [{ loc }] } });
  });

  test("is refused for an endpoint that is not there, or disabled", async () => {
    await using scene = await openScene({ events: 0 });
    const recover = (endpoint: string) =>
      refusalOf(service.svix.endpoint.recover(scene.app, endpoint, { since: scene.since }));
    expect(await recover("ep_1")).toMatchObject({ status: 404 });
    await service.svix.endpoint.patch(scene.app, "main", { disabled: true });
    expect(await recover("main")).toMatchObject({
      status: 400,
      body: { detail: 'The endpoint "main" is disabled: enable it first.' },
    });
  });
});

describe("replay", () => {
  test("sends everything again, also what the endpoint never had, if it asks for it", async () => {
    await using scene = await openScene({ failing: false });
    const { app, receiver, since } = scene;
    await service.svix.endpoint.create(app, {
      uid: "late",
      url: `${receiver.url}/late`,
      eventTypes: ["order.paid"],
    });
    const begin = (endpoint: string, body = {}) =>
      service.request("POST", `/api/v1/app/${app}/endpoint/${endpoint}/replay`, { since, ...body });
    const main = await begin("main", { eventTypes: ["order.sent"] });
    expect(main).toMatchObject({ status: 202, json: { task: "endpoint.bulk-replay", status: "running" } });
    expect(await ended(main.json.id as string)).toMatchObject({ data: { done: 1, total: 1 } });
    const late = await begin("late");
    expect(await ended(late.json.id as string)).toMatchObject({ data: { done: 2, total: 2 } });
    await eventually(() => {
      expect(receiver.requests).toHaveLength(3);
    });
    const [first, second, third] = scene.ids;
    const sent = receiver.requests.map(({ url, headers }) => [url, headers["webhook-id"]]);
    expect(sent.toSorted()).toEqual([
      ["/hook", second],
      ["/hook/late", first],
      ["/hook/late", third],
    ]);
  });

  test("by status, by status class, by tag", async () => {
    await using scene = await openScene();
    const { app, since, ids } = scene;
    const done = async (body: object): Promise<unknown> => {
      const path = `/api/v1/app/${app}/endpoint/main/bulk-replay`;
      const { json } = await service.request("POST", path, { since, ...body });
      return (await ended(json.id as string)).data.done;
    };
    expect(await done({ status: 0 })).toBe(0);
    expect(await done({ statusCodeClass: 500 })).toBe(0);
    expect(await done({ statusCodeClass: 400, tag: "tag_1" })).toBe(1);
    await eventually(() => {
      expect(received(scene.receiver)).toEqual([ids[1]]);
    });
    await eventually(async () => {
      expect((await statusesOf(app)).toSorted()).toEqual([0, 2, 2]);
    });
    expect(await done({ status: 0 })).toBe(1);
    expect(await done({ status: 2 })).toBe(2);
    const answer = await service.request("POST", `/api/v1/app/${app}/endpoint/main/bulk-replay`, {
      since,
      status: 1,
    });
    expect(answer).toMatchObject({ status: 422, json: { detail: [{ loc: ["body", "status"] }] } });
  });

  test("of what is missing sends nothing that was sent before, and nothing without its payload", async () => {
    await using scene = await openScene({ failing: false });
    const { app, receiver, since } = scene;
    const replay = (endpoint: string) => service.svix.endpoint.replayMissing(app, endpoint, { since });
    const { id, task } = await replay("main");
    expect(task).toBe("endpoint.replay");
    expect(await ended(id)).toMatchObject({ data: { done: 0, total: 0 } });
    await service.svix.endpoint.create(app, { uid: "late", url: receiver.url });
    await service.svix.message.expungeContent(app, scene.ids[0]!);
    expect(await ended((await replay("late")).id)).toMatchObject({ data: { done: 2, total: 2 } });
    await eventually(() => {
      expect(received(receiver)).toEqual(scene.ids.slice(1));
    });
  });
});

describe("background tasks", () => {
  test("are listed by status and kind, page by page", async () => {
    await using scene = await openScene({ events: 0 });
    const { app, since } = scene;
    const ids: string[] = [];
    for (let n = 0; n < 3; n++) ids.push((await service.svix.endpoint.recover(app, "main", { since })).id);
    for (const id of ids) await ended(id);
    const { data } = await service.svix.backgroundTask.list({ order: Ordering.Descending, limit: 3 });
    expect(data.map(({ id }) => id)).toEqual(ids.toReversed());
    const first = await service.svix.backgroundTask.list({ limit: 1, order: Ordering.Descending });
    expect(first).toMatchObject({ data: [{ id: ids[2] }], done: false });
    const second = await service.svix.backgroundTask.list({
      limit: 1,
      order: Ordering.Descending,
      iterator: first.iterator,
    });
    expect(second).toMatchObject({ data: [{ id: ids[1] }] });
    const running = await service.svix.backgroundTask.list({ status: BackgroundTaskStatus.Running });
    expect(running.data).toEqual([]);
    const replays = await service.svix.backgroundTask.list({ task: BackgroundTaskType.SdkGenerate });
    expect(replays.data).toEqual([]);
  });

  test("are canceled once, and what is not theirs any more stays as it is", async () => {
    await using scene = await openScene();
    const { app, receiver } = scene;
    // At a rate of one a second, the second delivery waits for the first.
    await service.svix.endpoint.patch(app, "main", { throttleRate: 1 });
    for (let n = 0; n < 3; n++) await service.svix.message.create(app, { eventType: "a", payload: { n } });
    const { id } = await service.svix.endpoint.recover(app, "main", { since: scene.since });
    const cancel = () => service.request("POST", `/api/v1/background-task/${id}/cancel`);
    expect(await cancel()).toMatchObject({
      status: 200,
      json: { id, status: "failed", data: { error: "It was canceled." } },
    });
    expect(await cancel()).toMatchObject({ status: 409 });
    expect(await service.request("POST", "/api/v1/background-task/qtask_1/cancel")).toMatchObject({
      status: 404,
    });
    expect(receiver.requests.length).toBeLessThan(6);
  });

  test("end as failed when their endpoint is deleted", async () => {
    await using scene = await openScene();
    const { app } = scene;
    await service.svix.endpoint.patch(app, "main", { throttleRate: 1 });
    for (let n = 0; n < 5; n++) await service.svix.message.create(app, { eventType: "a", payload: { n } });
    const { id } = await service.svix.endpoint.recover(app, "main", { since: scene.since });
    await service.svix.endpoint.delete(app, "main");
    expect(await ended(id)).toMatchObject({
      status: "failed",
      data: { error: expect.stringMatching(/^The endpoint "ep_\w+" was deleted\.$/) },
    });
  });

  test("are seen by a token of one application only where they are its own", async () => {
    await using mine = await openScene({ events: 0 });
    await using other = await openScene({ events: 0 });
    const own = await service.svix.endpoint.recover(mine.app, "main", { since: mine.since });
    const foreign = await service.svix.endpoint.recover(other.app, "main", { since: mine.since });
    const { token } = await service.svix.authentication.appPortalAccess(mine.app, {});
    const ask = (path: string) =>
      service.request("GET", `/api/v1/background-task${path}`, undefined, {
        authorization: `Bearer ${token}`,
      });
    expect(await ask("")).toMatchObject({ status: 200, json: { data: [{ id: own.id }] } });
    expect(await ask(`/${own.id}`)).toMatchObject({ status: 200 });
    expect(await ask(`/${foreign.id}`)).toMatchObject({ status: 404 });
  });
});
