import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { defaultConfig } from "../config.ts";
import { defaultOrganizationId } from "../core/organization.ts";
import { createLogger } from "../log.ts";
import { openService } from "../service.ts";
import {
  aDelivery,
  aMessage,
  anApplication,
  anEndpoint,
  fill,
  insertDelivered,
  testDatabases,
} from "../store/scene.suite.ts";
import type { Store, Task, Tx } from "../store/store.ts";
import { RetentionWorker, type RetentionRules } from "./retention.ts";

const dayMs = 24 * 60 * 60_000;
const keepAll: RetentionRules = { retentionMs: null, payloadRetentionMs: null, retentionMaxBytes: null };
const membership = { number: 1, holds: () => true };
const logger = createLogger("silent");

const messageIds = (store: Store, applicationId: string): Promise<string[]> =>
  store.read(async (tx) => (await tx.messages.list({ applicationId }, { limit: 1_000 })).map(({ id }) => id));

describe("a service", () => {
  test("removes by itself what is older than it is told to keep", async () => {
    const dataDir = mkdtempSync(join(tmpdir(), "hookplane-retention-"));
    const config = { ...defaultConfig(), port: 0, dataDir };
    let service = await openService(config, logger);
    const request = (path: string, body?: object) =>
      fetch(`${service.url}/api/v1/app${path}`, {
        method: body ? "POST" : "GET",
        headers: { authorization: `Bearer ${service.credentials.admin.token}` },
        body: body && JSON.stringify(body),
      });
    await request("", { name: "Shop", uid: "shop" });
    expect((await request("/shop/msg", { eventType: "order.paid", payload: {} })).status).toBe(202);
    await service.close();
    service = await openService({ ...config, retentionMs: 1 }, logger);
    await expect
      .poll(async () => ((await (await request("/shop/msg")).json()) as { data: unknown[] }).data, {
        timeout: 15_000,
      })
      .toEqual([]);
    await service.close();
    rmSync(dataDir, { recursive: true });
  });
});

describe.each(testDatabases)("on $name", (database) => {
  const transactionMs = database.name === "SQLite" ? 2 : 20;
  afterAll(() => database.close());

  /** An application with one endpoint, in a store that is closed with the test. */
  async function openScene() {
    const opened = await database.open();
    const application = anApplication();
    const endpoint = anEndpoint(application);
    await opened.store.write(async (tx) => {
      await tx.applications.insert(application);
      await tx.endpoints.insert(endpoint);
    });
    const now = await opened.store.now();
    const worker = (rules: Partial<RetentionRules> = {}, store = opened.store): RetentionWorker =>
      new RetentionWorker({
        store,
        membership,
        rules: { ...keepAll, ...rules },
        logger,
        transactionMs,
        maxRestFactor: 1,
      });
    const sweep = (rules: Partial<RetentionRules> = {}) => worker(rules).sweep();
    return { ...opened, application, endpoint, now, worker, sweep };
  }

  describe("RetentionWorker.sweep()", () => {
    test("removes finished messages that are too old, with their deliveries and attempts, and no others", async () => {
      await using scene = await openScene();
      const { store, application, endpoint, now, sweep } = scene;
      const old = aMessage(application, { createdAt: now - 31 * dayMs });
      const undelivered = aMessage(application, { createdAt: now - 32 * dayMs });
      const young = aMessage(application, { createdAt: now - 29 * dayMs });
      await store.write(async (tx) => {
        await tx.messages.insert(undelivered);
        await insertDelivered(tx, old, endpoint);
        await insertDelivered(tx, young, endpoint);
      });
      expect(await sweep({ retentionMs: 30 * dayMs })).toMatchObject({ messages: 2 });
      expect(await messageIds(store, application.id)).toEqual([young.id]);
      const left = await store.read(async (tx) => ({
        deliveries: await tx.deliveries.listByMessage(old.id),
        attempts: await tx.attempts.list({ applicationId: application.id }, { limit: 10 }),
      }));
      expect(left.deliveries).toEqual([]);
      expect(left.attempts).toMatchObject([{ messageId: young.id }]);
    });

    test("never removes a message that an endpoint still has to get, whatever its age", async () => {
      await using scene = await openScene();
      const { store, application, endpoint, now, sweep } = scene;
      const other = anEndpoint(application);
      const half = aMessage(application, { createdAt: now - 90 * dayMs });
      const done = aMessage(application, { createdAt: now - 80 * dayMs });
      await store.write(async (tx) => {
        await tx.endpoints.insert(other);
        await insertDelivered(tx, half, endpoint);
        await tx.deliveries.insert([aDelivery(half, other, { state: "pending", nextAttemptAt: now })]);
        await insertDelivered(tx, done, endpoint);
      });
      expect(await sweep({ retentionMs: dayMs, retentionMaxBytes: 1 })).toMatchObject({ messages: 1 });
      expect(await messageIds(store, application.id)).toEqual([half.id]);
      expect(await store.read((tx) => tx.deliveries.listByMessage(half.id))).toHaveLength(2);
    });

    test("never removes a message that is made pending again at that very moment", async () => {
      await using scene = await openScene();
      const { store, application, endpoint, now, sweep } = scene;
      const messages = [1, 2, 3].map(() => aMessage(application, { createdAt: now - 40 * dayMs }));
      const [chosen] = messages;
      await store.write(async (tx) => {
        for (const message of messages) await insertDelivered(tx, message, endpoint, { state: "failed" });
      });
      let isReopened = false;
      const reopening = store.write(async (tx) => {
        const of = { applicationId: application.id, endpointId: endpoint.id };
        await tx.replays.reopen(of, [{ messageId: chosen!.id, order: null }], ["failed"], now);
        isReopened = true;
        // Nobody else sees it yet.
        await new Promise((resolve) => setTimeout(resolve, 300));
      });
      await expect.poll(() => isReopened).toBe(true);
      const report = await sweep({ retentionMs: 30 * dayMs });
      await reopening;
      expect(report).toMatchObject({ messages: 2 });
      expect(await messageIds(store, application.id)).toEqual([chosen!.id]);
      expect(await store.read((tx) => tx.deliveries.find(chosen!.id, endpoint.id))).toMatchObject({
        state: "pending",
      });
    });

    test("keeps everything where nothing was asked for", async () => {
      await using scene = await openScene();
      const { store, application, endpoint, now, sweep } = scene;
      const ancient = aMessage(application, { createdAt: now - 4_000 * dayMs });
      await store.write((tx) => insertDelivered(tx, ancient, endpoint));
      expect(await sweep()).toEqual({ messages: 0, payloads: 0, leftovers: 0, records: 0 });
      expect(
        (await store.read((tx) => tx.messages.find(application.id, ancient.id)))?.payload,
      ).not.toBeNull();
    });

    test("takes payloads away when their own time is over, or the service's; the messages stay", async () => {
      await using scene = await openScene();
      const { store, application, now, sweep } = scene;
      const given = {
        spent: { createdAt: now - dayMs, payloadExpiresAt: now - 1 },
        longLived: { createdAt: now - 50 * dayMs, payloadExpiresAt: now + dayMs },
        old: { createdAt: now - 40 * dayMs },
        young: { createdAt: now - 20 * dayMs },
      };
      const messages = Object.entries(given).map(
        ([name, fields]) => [name, aMessage(application, fields)] as const,
      );
      await store.write(async (tx) => {
        for (const [, message] of messages) await tx.messages.insert(message);
      });
      const full = async (): Promise<string[]> => {
        const names: string[] = [];
        for (const [name, { id }] of messages) {
          const found = await store.read((tx) => tx.messages.find(application.id, id));
          if (found?.payload) names.push(name);
        }
        return names;
      };
      expect(await sweep({ payloadRetentionMs: 30 * dayMs })).toMatchObject({ payloads: 2, messages: 0 });
      expect(await full()).toEqual(["longLived", "young"]);
      // What was looked at is not looked at again, and what has become too old since is found.
      expect(await sweep({ payloadRetentionMs: 10 * dayMs })).toMatchObject({ payloads: 1 });
      expect(await full()).toEqual(["longLived"]);
    });

    test("finds a payload that is too old also where the clock had been set back when its message was made", async () => {
      await using scene = await openScene();
      const { store, application, now, sweep } = scene;
      // Its id is of the later time that the process had seen before.
      const { id } = aMessage(application, { createdAt: now - 5 * dayMs });
      const message = aMessage(application, { id, createdAt: now - 40 * dayMs });
      await store.write(async (tx) => {
        await tx.messages.insert(aMessage(application, { createdAt: now - 6 * dayMs }));
        await tx.messages.insert(message);
      });
      await sweep({ payloadRetentionMs: 30 * dayMs });
      expect(await sweep({ payloadRetentionMs: 4 * dayMs })).toMatchObject({ payloads: 2 });
      expect((await store.read((tx) => tx.messages.find(application.id, id)))?.payload).toBeNull();
    });

    test("removes the oldest finished messages of all applications while there is more than there may be", async () => {
      await using scene = await openScene();
      const { store, application, endpoint, now, sweep } = scene;
      const otherApplication = anApplication();
      const otherEndpoint = anEndpoint(otherApplication);
      const payload = Buffer.from(JSON.stringify({ text: "x".repeat(20_000) }));
      const all: { id: string; createdAt: number }[] = [];
      await store.write(async (tx) => {
        await tx.applications.insert(otherApplication);
        await tx.endpoints.insert(otherEndpoint);
        for (let index = 0; index < 200; index++) {
          const [of, to] = index % 2 === 0 ? [application, endpoint] : [otherApplication, otherEndpoint];
          const message = aMessage(of, { createdAt: now - (1_000 - index) * 60 * 60_000, payload });
          await insertDelivered(tx, message, to);
          all.push(message);
        }
      });
      // PostgreSQL counts its rows a little later.
      await expect.poll(() => store.sizeBytes(), { timeout: 15_000 }).toBeGreaterThan(200 * payload.length);
      const bound = Math.round((await store.sizeBytes()) / 2);
      const report = await sweep({ retentionMaxBytes: bound });
      await expect.poll(() => store.sizeBytes(), { timeout: 15_000 }).toBeLessThanOrEqual(bound);
      const left = [
        ...(await messageIds(store, application.id)),
        ...(await messageIds(store, otherApplication.id)),
      ];
      expect(left).toHaveLength(200 - report!.messages);
      expect(left.length).toBeGreaterThan(60);
      // A stretch of a minute of one application goes in one go; here messages are an hour apart.
      expect(new Set(left)).toEqual(new Set(all.slice(-left.length).map(({ id }) => id)));
      expect(await sweep({ retentionMaxBytes: bound })).toMatchObject({ messages: 0 });
    });

    test("removes what deleted applications and endpoints have left, and nothing of the others", async () => {
      await using scene = await openScene();
      const { store, application, endpoint, now, sweep } = scene;
      const [gone, goneEndpoint] = [anEndpoint(application), anEndpoint(application)];
      const goneApplication = anApplication();
      const endpointOfGone = anEndpoint(goneApplication);
      const kept = aMessage(application);
      const lost = aMessage(goneApplication);
      await store.write(async (tx) => {
        await tx.applications.insert(goneApplication);
        for (const each of [gone, goneEndpoint, endpointOfGone]) await tx.endpoints.insert(each);
        await tx.messages.insert(kept);
        await tx.deliveries.insert([
          aDelivery(kept, endpoint, { state: "pending", nextAttemptAt: now }),
          aDelivery(kept, gone, { state: "pending", nextAttemptAt: now }),
          // Held by a node, and waiting for its turn in an order.
          aDelivery(kept, goneEndpoint, { state: "pending", nextAttemptAt: null, leasedBy: 7, order: "" }),
        ]);
        await insertDelivered(tx, lost, endpointOfGone, { state: "pending", nextAttemptAt: now });
      });
      await store.write(async (tx) => {
        await tx.endpoints.delete(gone.id);
        await tx.endpoints.delete(goneEndpoint.id);
        await tx.applications.delete(goneApplication.id);
        // Whoever counted a rate at that moment has written this again.
        await tx.endpointStates.takeSlots(gone.id, 10, 1, now);
        await tx.endpointStates.takeSlots(endpoint.id, 10, 1, now);
      });
      expect(await sweep()).toMatchObject({ leftovers: 4, messages: 0 });
      expect(await store.read((tx) => tx.deliveries.listByMessage(kept.id))).toMatchObject([
        { endpointId: endpoint.id, state: "pending" },
      ]);
      expect(await messageIds(store, goneApplication.id)).toEqual([]);
      expect(await store.read((tx) => tx.deliveries.listByMessage(lost.id))).toEqual([]);
      expect(await store.read((tx) => tx.endpointStates.list(application.id))).toHaveProperty("size", 1);
      const states = await scene.query("select endpoint_id from endpoint_states");
      expect(states).toEqual([{ endpoint_id: endpoint.id }]);
    });

    test("removes kept answers, tokens and ended tasks after their time", async () => {
      await using scene = await openScene();
      const { store, application, now, sweep } = scene;
      const task = (id: string, given: Partial<Task>): Task => ({
        id,
        organizationId: defaultOrganizationId,
        applicationId: application.id,
        kind: "endpoint.recover",
        input: "{}",
        cursor: null,
        status: "finished",
        done: 1,
        total: 1,
        error: null,
        leasedBy: null,
        createdAt: 1,
        updatedAt: now - 31 * dayMs,
        ...given,
      });
      const answer = { requestHash: "", status: 202, body: "{}" };
      await store.write(async (tx) => {
        await tx.tasks.insert(task("qtask_1", {}));
        await tx.tasks.insert(task("qtask_2", { status: "running" }));
        await tx.tasks.insert(task("qtask_3", { status: "failed", updatedAt: now - 29 * dayMs }));
        for (let index = 0; index < 300; index++) {
          await tx.idempotency.insert({ ...answer, key: `old ${index}`, expiresAt: now - 1 }, now);
        }
        await tx.idempotency.insert({ ...answer, key: "new", expiresAt: now + dayMs }, now);
      });
      expect(await sweep()).toMatchObject({ records: 301 });
      const tasks = await store.read((tx) => tx.tasks.list(defaultOrganizationId, {}, { limit: 9 }));
      expect(tasks.map(({ id }) => id)).toEqual(["qtask_2", "qtask_3"]);
      expect(await store.read((tx) => tx.idempotency.find("new", now))).toMatchObject(answer);
    });

    test("is one node's turn until that node is gone", async () => {
      await using scene = await openScene();
      const { store } = scene;
      const join = (tx: Tx) => tx.nodes.join(Number.MAX_SAFE_INTEGER);
      const [first, second] = [await store.write(join), await store.write(join)];
      const sweepOn = (number: number) =>
        new RetentionWorker({
          store,
          membership: { number, holds: () => true },
          rules: keepAll,
          logger,
        }).sweep();
      expect(await sweepOn(first)).not.toBeNull();
      expect(await sweepOn(second)).toBeNull();
      expect(await sweepOn(first)).not.toBeNull();
      await store.write((tx) => tx.nodes.leave(first));
      expect(await sweepOn(second)).not.toBeNull();
      expect(await sweepOn(first)).toBeNull();
    });
  });

  describe("an application with 100,000 messages", () => {
    test("is deleted at once, and what it leaves goes in the background, in many short transactions", async () => {
      await using scene = await openScene();
      const { store, application, endpoint, worker } = scene;
      const count = 100_000;
      await fill(scene, endpoint, count);
      const left = async (table: string): Promise<number> =>
        Number((await scene.query(`select count(*) as amount from ${table}`))[0]!["amount"]);
      const allLeft = async () => [await left("messages"), await left("deliveries"), await left("attempts")];

      await store.write((tx) => tx.applications.delete(application.id));
      // Gone for every caller, and nothing of it was removed in this transaction.
      expect(await store.read((tx) => tx.applications.get(application.id))).toBeUndefined();
      expect(await allLeft()).toEqual([count, count, count]);

      let transactions = 0;
      const counting: Store = Object.assign(Object.create(store) as Store, {
        write: (fn: Parameters<Store["write"]>[0]) => (transactions++, store.write(fn)),
        read: (fn: Parameters<Store["read"]>[0]) => store.read(fn),
        now: () => store.now(),
      });
      const running = worker({}, counting);
      running.start();
      // Others get their turn meanwhile.
      await store.write((tx) => tx.applications.insert(anApplication()));
      expect(await left("messages")).toBeGreaterThan(0);
      await expect.poll(() => left("messages"), { timeout: 150_000, interval: 200 }).toBe(0);
      await running.stop();
      expect(await allLeft()).toEqual([0, 0, 0]);
      expect(transactions).toBeGreaterThan(count / 1_000);
      expect(await worker().sweep()).toMatchObject({ leftovers: 0 });
    }, 180_000);
  });
});
