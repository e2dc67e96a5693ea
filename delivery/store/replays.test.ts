import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { firstIdAt } from "../core/ids.ts";
import {
  aDelivery,
  aMessage,
  anApplication,
  anEndpoint,
  insertDelivered,
  sceneTime,
  testDatabases,
} from "./scene.suite.ts";

const now = sceneTime + 60_000;
const tooMany = { limit: 1_000 };

describe.each(testDatabases)("replays on $name", (database) => {
  afterAll(() => database.close());

  /** Five messages a second apart: failed, succeeded, pending, never sent, failed. */
  async function openScene() {
    const { store, ...opened } = await database.open();
    onTestFinished(() => opened[Symbol.asyncDispose]());
    const application = anApplication();
    const endpoint = anEndpoint(application);
    const messages = [0, 1, 2, 3, 4].map((second) =>
      aMessage(application, { createdAt: sceneTime + second * 1_000, tags: [`tag_${second}`] }),
    );
    const idAt = (index: number): string => messages[index]!.id;
    const ids = {
      failed: idAt(0),
      succeeded: idAt(1),
      pending: idAt(2),
      unsent: idAt(3),
      failedLast: idAt(4),
    };
    await store.write(async (tx) => {
      await tx.applications.insert(application);
      await tx.endpoints.insert(endpoint);
      await insertDelivered(tx, messages[0]!, endpoint, { state: "failed", attempts: 9 });
      await insertDelivered(tx, messages[1]!, endpoint);
      await tx.messages.insert(messages[2]!);
      await tx.deliveries.insert([
        aDelivery(messages[2]!, endpoint, { state: "pending", attempts: 1, nextAttemptAt: now + 1 }),
      ]);
      await tx.messages.insert(messages[3]!);
      await insertDelivered(tx, messages[4]!, endpoint, { state: "failed", attempts: 9 });
    });
    const of = { applicationId: application.id, endpointId: endpoint.id };
    const window = { ...of, after: "", through: ids.failedLast, limit: 10 };
    const find = (messageId: string) => store.read((tx) => tx.deliveries.find(messageId, endpoint.id));
    return { store, application, endpoint, messages, ids, of, window, find };
  }

  test("list what was sent to an endpoint, or all there is, window by window", async () => {
    const { store, window, ids, application } = await openScene();
    const { failed, succeeded, pending, unsent, failedLast } = ids;
    await store.read(async (tx) => {
      expect(await tx.replays.newest(application.id)).toBe(failedLast);
      expect(await tx.replays.newest("app_none")).toBeUndefined();
      const sent = await tx.replays.listSent(window);
      expect(sent).toEqual([
        { messageId: failed, state: "failed" },
        { messageId: succeeded, state: "succeeded" },
        { messageId: pending, state: "pending" },
        { messageId: failedLast, state: "failed" },
      ]);
      const all = await tx.replays.listAll(window);
      expect(all).toEqual([...sent.slice(0, 3), { messageId: unsent, state: null }, ...sent.slice(3)]);
      const part = { ...window, after: firstIdAt("msg", sceneTime + 1_000), through: unsent, limit: 2 };
      expect(await tx.replays.listSent(part)).toEqual(sent.slice(1, 3));
      expect(await tx.replays.listAll({ ...part, after: succeeded })).toEqual(all.slice(2, 4));
    });
  });

  test("read messages whose payload is there, without it, and how they were last answered", async () => {
    const { store, application, endpoint, messages, ids } = await openScene();
    await store.write((tx) => tx.messages.expunge(application.id, ids.succeeded));
    const all = Object.values(ids);
    await store.read(async (tx) => {
      expect(await tx.replays.listFull(application.id, all)).toEqual(
        [messages[0]!, ...messages.slice(2)].map((message) => ({ ...message, payload: null })),
      );
      expect(await tx.replays.lastStatuses(endpoint.id, all)).toEqual(
        new Map([
          [ids.failed, 503],
          [ids.succeeded, 200],
          [ids.failedLast, 503],
        ]),
      );
    });
  });

  test("make ended deliveries pending as new ones, tell that they are due, and leave others as they are", async () => {
    const { store, endpoint, application, ids, of, find } = await openScene();
    const before = await find(ids.pending);
    const due: [string, number][] = [];
    store.onChange(({ dueEndpoints }) => {
      for (const [endpointId, { at }] of dueEndpoints) due.push([endpointId, at]);
    });
    const messages = Object.values(ids).map((messageId) => ({ messageId, order: null }));
    const reopen = () => store.write((tx) => tx.replays.reopen(of, messages, ["failed"], now));
    expect(await reopen()).toBe(2);
    expect(due).toEqual([[endpoint.id, now]]);
    expect(await find(ids.failed)).toEqual({
      messageId: ids.failed,
      endpointId: endpoint.id,
      applicationId: application.id,
      state: "pending",
      attempts: 0,
      nextAttemptAt: now,
      leasedBy: null,
      trigger: "manual",
      place: null,
    });
    expect(await find(ids.succeeded)).toMatchObject({ state: "succeeded" });
    expect(await find(ids.pending)).toEqual(before);
    expect(await find(ids.unsent)).toBeUndefined();
    expect(await reopen()).toBe(0);
    const { due: claimed } = await store.claim([{ endpointId: endpoint.id, limit: 10 }], 1, now);
    expect(claimed.map(({ delivery }) => delivery.messageId).sort()).toEqual([ids.failed, ids.failedLast]);
  });

  test("give deliveries their places at the end of a strict order, of which the first one is due", async () => {
    const { store, endpoint, application, ids, of, find } = await openScene();
    const first = aMessage(application, { createdAt: now });
    await store.write(async (tx) => {
      await tx.messages.insert(first);
      const waiting = { state: "pending", attempts: 0, nextAttemptAt: now, order: "" } as const;
      await tx.deliveries.insert([aDelivery(first, endpoint, waiting)]);
    });
    const inOrder = [ids.failed, ids.failedLast].map((messageId) => ({ messageId, order: "" }));
    const other = [{ messageId: ids.succeeded, order: "eu" }];
    await store.write(async (tx) => {
      expect(await tx.replays.reopen(of, inOrder, ["failed"], now)).toBe(2);
      expect(await tx.replays.reopen(of, other, ["succeeded"], now)).toBe(1);
    });
    expect(await find(ids.failed)).toMatchObject({ nextAttemptAt: null, place: { key: "", sequence: 2 } });
    expect(await find(ids.failedLast)).toMatchObject({
      nextAttemptAt: null,
      place: { key: "", sequence: 3 },
    });
    expect(await find(ids.succeeded)).toMatchObject({
      nextAttemptAt: now,
      place: { key: "eu", sequence: 4 },
    });
    expect(await store.read((tx) => tx.deliveries.listHeads(endpoint.id, 10))).toMatchObject([
      { delivery: { messageId: first.id }, behind: 2 },
      { delivery: { messageId: ids.succeeded }, behind: 0 },
    ]);
  });

  test("add deliveries of messages that the endpoint never had, once", async () => {
    const { store, ids, of, find, endpoint, application } = await openScene();
    const messages = Object.values(ids).map((messageId) => ({ messageId, order: null }));
    const add = () => store.write((tx) => tx.replays.add(of, messages, now));
    expect(await add()).toBe(1);
    expect(await find(ids.unsent)).toMatchObject({ state: "pending", nextAttemptAt: now, trigger: "manual" });
    expect(await find(ids.failed)).toMatchObject({ state: "failed" });
    expect(await add()).toBe(0);
    const filter = { applicationId: application.id };
    const list = await store.read((tx) => tx.deliveries.listByEndpoint(endpoint.id, filter, tooMany));
    expect(list).toHaveLength(5);
  });

  test("count what is due, on its way or waits for its turn, but not what is to be tried later", async () => {
    const { store, endpoint, application, ids, of } = await openScene();
    const count = (limit = 10) => store.read((tx) => tx.replays.countWaiting(endpoint.id, now, limit));
    expect(await count()).toBe(0);
    const both = [ids.failed, ids.failedLast].map((messageId) => ({ messageId, order: null }));
    await store.write((tx) => tx.replays.reopen(of, both, ["failed"], now));
    expect(await count()).toBe(2);
    const node = await store.write((tx) => tx.nodes.join(Number.MAX_SAFE_INTEGER));
    await store.claim([{ endpointId: endpoint.id, limit: 1 }], node, now);
    expect(await count()).toBe(2);
    const messages = [1, 2].map(() => aMessage(application, { createdAt: now }));
    await store.write(async (tx) => {
      for (const message of messages) {
        await tx.messages.insert(message);
        await tx.deliveries.insert([
          aDelivery(message, endpoint, { state: "pending", nextAttemptAt: now, order: "" }),
        ]);
      }
    });
    expect(await count()).toBe(4);
    expect(await count(3)).toBe(3);
  });
});
