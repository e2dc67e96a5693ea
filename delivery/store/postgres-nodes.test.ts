import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Application } from "../core/application.ts";
import type { Delivery } from "../core/delivery.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { Message } from "../core/message.ts";
import { startPostgres, type PostgresServer } from "./postgres-server.suite.ts";
import { openPostgresStore } from "./postgres-store.ts";
import { aDelivery, anApplication, anAttempt, anEndpoint, aMessage, sceneTime } from "./scene.suite.ts";
import { StaleError, type NewDelivery, type Outcome, type Store } from "./store.ts";

// Several nodes on one database, each with a store of its own.

let server: PostgresServer;
let folder: string;
beforeAll(async () => {
  server = await startPostgres();
  folder = mkdtempSync(join(tmpdir(), "hookplane-nodes-"));
}, 120_000);
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Scene {
  readonly nodes: readonly Store[];
  readonly application: Application;
  readonly endpoint: Endpoint;
  readonly version: number;
}

async function openNodes(amount: number): Promise<Scene> {
  const url = await server.createDatabase();
  const masterKeyFile = join(folder, `${new URL(url).pathname}.key`);
  const nodes: Store[] = [];
  for (let n = 0; n < amount; n++) {
    const store = await openPostgresStore({ url, masterKeyFile, statementTimeoutMs: 120_000 });
    cleanups.push(() => store.close());
    nodes.push(store);
  }
  const application = anApplication();
  const endpoint = anEndpoint(application);
  const version = await nodeOf(nodes, 0).write(async (tx) => {
    await tx.applications.insert(application);
    await tx.endpoints.insert(endpoint);
    return (await tx.applications.get(application.id))?.version ?? 0;
  });
  return { nodes, application, endpoint, version };
}

function nodeOf(nodes: readonly Store[], n: number): Store {
  const store = nodes[n];
  if (store === undefined) throw new Error(`there is no node ${n}`);
  return store;
}

/** Deliveries that wait for whoever claims them. */
async function fill(scene: Scene, amount: number, given: Partial<NewDelivery> = {}): Promise<Message[]> {
  const messages = Array.from({ length: amount }, () => aMessage(scene.application));
  await Promise.all(
    messages.map((message, n) =>
      nodeOf(scene.nodes, n % scene.nodes.length).accept({
        message,
        version: scene.version,
        deliveries: [
          aDelivery(message, scene.endpoint, {
            state: "pending",
            attempts: 0,
            nextAttemptAt: sceneTime,
            ...given,
          }),
        ],
        answer: null,
      }),
    ),
  );
  return messages;
}

function succeeded(delivery: Delivery, message: Message, endpoint: Endpoint, node: number): Outcome {
  return {
    attempt: anAttempt(message, endpoint),
    delivery: { ...delivery, state: "succeeded", attempts: 1, nextAttemptAt: null, leasedBy: null },
    ...{ node, now: sceneTime, endpointState: null },
  };
}

describe("nodes on one PostgreSQL", () => {
  test("claim each delivery once, all of them", async () => {
    const scene = await openNodes(3);
    const messages = await fill(scene, 600);
    const work = async (store: Store, node: number): Promise<string[]> => {
      const mine: string[] = [];
      for (;;) {
        const { due, nextDueAt } = await store.claim(
          [{ endpointId: scene.endpoint.id, limit: 17 }],
          node,
          sceneTime,
        );
        mine.push(...due.map(({ message }) => message.id));
        const settled = await Promise.all(
          due.map(({ delivery, message }) =>
            store.settle(succeeded(delivery, message, scene.endpoint, node)),
          ),
        );
        expect(settled).not.toContain(false);
        if (due.length === 0 && nextDueAt.get(scene.endpoint.id) === null) return mine;
      }
    };
    const claimed = (await Promise.all(scene.nodes.map((store, n) => work(store, n + 1)))).flat();
    expect(claimed.toSorted()).toEqual(messages.map(({ id }) => id).toSorted());
    const attempts = await nodeOf(scene.nodes, 0).read((tx) =>
      tx.attempts.list({ applicationId: scene.application.id }, { limit: 5_000 }),
    );
    expect(new Set(attempts.map(({ messageId }) => messageId)).size).toBe(600);
    expect(attempts).toHaveLength(600);
  });

  test("record the outcome of the node that holds a delivery, and not of the one that held it before", async () => {
    const scene = await openNodes(2);
    const [slow, fast] = [nodeOf(scene.nodes, 0), nodeOf(scene.nodes, 1)];
    await fill(scene, 50);
    const claims = [{ endpointId: scene.endpoint.id, limit: 100 }];
    const first = await slow.claim(claims, 1, sceneTime);
    expect(first.due).toHaveLength(50);
    expect(await fast.write((tx) => tx.deliveries.release(1))).toBe(50);
    const second = await fast.claim(claims, 2, sceneTime);
    expect(second.due).toHaveLength(50);
    // Both have sent, and tell at the same time.
    const tell = (store: Store, node: number, { due }: typeof first) =>
      Promise.all(
        due.map(({ delivery, message }) => store.settle(succeeded(delivery, message, scene.endpoint, node))),
      );
    const [late, right] = await Promise.all([tell(slow, 1, first), tell(fast, 2, second)]);
    expect(new Set(late)).toEqual(new Set([false]));
    expect(new Set(right)).toEqual(new Set([true]));
    const attempts = await slow.read((tx) =>
      tx.attempts.list({ applicationId: scene.application.id }, { limit: 500 }),
    );
    expect(attempts).toHaveLength(50);
  });

  test("keep the order of each key, one at a time, wherever events are accepted and delivered", async () => {
    const scene = await openNodes(2);
    const keys = ["a", "b", "c"];
    const inFlight = new Set<string>();
    const delivered = new Map<string, number[]>(keys.map((key) => [key, []]));
    let remaining = 150;
    const accepting = Promise.all(
      scene.nodes.map(async (store) => {
        for (let m = 0; m < 25; m++) {
          await Promise.all(
            keys.map((order) => {
              const message = aMessage(scene.application);
              const waiting = { state: "pending", attempts: 0, nextAttemptAt: sceneTime, order } as const;
              return store.accept({
                message: { ...message, orderingKey: order },
                version: scene.version,
                deliveries: [aDelivery(message, scene.endpoint, waiting)],
                answer: null,
              });
            }),
          );
        }
      }),
    );
    const work = async (store: Store, node: number): Promise<void> => {
      while (remaining > 0) {
        const { due } = await store.claim([{ endpointId: scene.endpoint.id, limit: 5 }], node, sceneTime);
        await Promise.all(
          due.map(async ({ delivery, message }) => {
            const { key = "", sequence = 0 } = delivery.place ?? {};
            expect(inFlight).not.toContain(key);
            inFlight.add(key);
            delivered.get(key)?.push(sequence);
            await new Promise(setImmediate);
            inFlight.delete(key);
            expect(await store.settle(succeeded(delivery, message, scene.endpoint, node))).toBe(true);
            remaining--;
          }),
        );
        if (due.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
    await Promise.all([accepting, ...scene.nodes.map((store, n) => work(store, n + 1))]);
    const places = [...delivered.values()];
    expect(places.map(({ length }) => length)).toEqual([50, 50, 50]);
    for (const sequences of places) expect(sequences).toEqual(sequences.toSorted((a, b) => a - b));
    expect(new Set(places.flat()).size).toBe(150);
  }, 120_000);

  test("store an event once that several of them get, in whatever order", async () => {
    const scene = await openNodes(2);
    const events = Array.from({ length: 60 }, (_, n) => `event-${n}`);
    const send = (store: Store, list: readonly string[]) =>
      Promise.allSettled(
        list.map((eventId) =>
          store.accept({
            message: aMessage(scene.application, { eventId }),
            version: scene.version,
            deliveries: [],
            answer: {
              key: `key of ${eventId}`,
              requestHash: "h",
              status: 202,
              body: "{}",
              expiresAt: sceneTime * 2,
            },
          }),
        ),
      );
    const outcomes = (
      await Promise.all([
        send(nodeOf(scene.nodes, 0), events),
        send(nodeOf(scene.nodes, 1), events.toReversed()),
      ])
    ).flat();
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(60);
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") expect(outcome.reason).toHaveProperty("rule", "idempotency.key");
    }
    const stored = await nodeOf(scene.nodes, 0).read((tx) =>
      tx.messages.list({ applicationId: scene.application.id }, { limit: 500 }),
    );
    expect(stored.map(({ eventId }) => eventId).toSorted()).toEqual(events.toSorted());
  });

  test("see at once that another one has changed an application", async () => {
    const { nodes, application, endpoint, version } = await openNodes(2);
    await nodeOf(nodes, 0).write((tx) => tx.endpoints.update({ ...endpoint, disabled: true }));
    const accepted = nodeOf(nodes, 1).accept({
      message: aMessage(application),
      ...{ version, deliveries: [], answer: null },
    });
    await expect(accepted).rejects.toThrow(StaleError);
  });

  test("lose no change of one another, and give no slot of a rate twice", async () => {
    const { nodes, application, endpoint } = await openNodes(2);
    const add = (store: Store, key: string) =>
      store.write(async (tx) => {
        const found = await tx.endpoints.find(application.id, endpoint.id);
        if (found) await tx.endpoints.update({ ...found, metadata: { ...found.metadata, [key]: "1" } });
      });
    const take = (store: Store) =>
      store.write((tx) => tx.endpointStates.takeSlots(endpoint.id, 100, 3, sceneTime));
    const work = nodes.flatMap((store, n) =>
      Array.from({ length: 20 }, (_, m) => ({ store, key: `${n}-${m}` })),
    );
    const [, slots] = await Promise.all([
      Promise.all(work.map(({ store, key }) => add(store, key))),
      Promise.all(work.map(({ store }) => take(store))),
    ]);
    const found = await nodeOf(nodes, 0).read((tx) => tx.endpoints.find(application.id, endpoint.id));
    expect(Object.keys(found?.metadata ?? {})).toHaveLength(40);
    expect(slots.toSorted((a, b) => a - b)).toEqual(work.map((_, n) => sceneTime + n * 30));
  });
});
