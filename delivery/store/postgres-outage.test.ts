import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import type { Message } from "../core/message.ts";
import { ServiceError } from "../errors.ts";
import { startPostgres, type PostgresServer } from "./postgres-server.suite.ts";
import { openPostgresStore } from "./postgres-store.ts";
import { aDelivery, anApplication, anAttempt, anEndpoint, aMessage, sceneTime } from "./scene.suite.ts";
import type { NewDelivery, Store } from "./store.ts";

// A real server that goes away under load, in each of the ways that servers do.

let server: PostgresServer;
let folder: string;
beforeAll(async () => {
  server = await startPostgres();
  folder = mkdtempSync(join(tmpdir(), "hookplane-outage-"));
}, 120_000);
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const node = 7;
const patience = { timeout: 60_000, interval: 20 };

interface Load {
  readonly store: Store;
  readonly url: string;
  readonly database: string;
  readonly endpointId: string;
  readonly applicationId: string;
  /** Messages that were answered for, and those of them whose delivery was. */
  readonly accepted: Set<string>;
  readonly settled: Set<string>;
  /** Messages that were refused. */
  readonly refused: Set<string>;
  readonly errors: unknown[];
  stop(): Promise<void>;
}

/** Events that come as fast as they are taken, from some publishers, each delivered and recorded. */
async function openLoad(publishers: number, user?: { username: string; password: string }): Promise<Load> {
  const url = await server.createDatabase();
  const database = new URL(url).pathname.slice(1);
  if (user) await server.query(`alter database ${database} owner to ${user.username}`);
  const store = await openPostgresStore({
    url: Object.assign(new URL(url), user).href,
    masterKeyFile: join(folder, `${database}.key`),
    connectTimeoutMs: 1_000,
    statementTimeoutMs: 500,
  });
  cleanups.push(() => store.close());
  const application = anApplication();
  const endpoint = anEndpoint(application);
  const version = await store.write(async (tx) => {
    await tx.applications.insert(application);
    await tx.endpoints.insert(endpoint);
    return (await tx.applications.get(application.id))?.version ?? 0;
  });
  const accepted = new Set<string>();
  const settled = new Set<string>();
  const refused = new Set<string>();
  const errors: unknown[] = [];
  const stopping = new AbortController();

  /** As an engine does it: what was sent is recorded, however long that takes. */
  async function settle(outcome: Parameters<Store["settle"]>[0]): Promise<boolean> {
    for (;;) {
      try {
        return await store.settle(outcome);
      } catch (error) {
        errors.push(error);
        await sleep(10);
      }
    }
  }

  async function publish(): Promise<void> {
    while (!stopping.signal.aborted) {
      const now = Date.now();
      const message = aMessage(application, { createdAt: now });
      const delivery = aDelivery(message, endpoint, {
        ...{ state: "pending", attempts: 0, nextAttemptAt: now, leasedBy: node },
      });
      try {
        await store.accept({ message, version, deliveries: [delivery], answer: null });
      } catch (error) {
        errors.push(error);
        refused.add(message.id);
        await sleep(10);
        continue;
      }
      accepted.add(message.id);
      // The way to the receiver and back: so that accepting and recording go on side by side.
      await sleep(Math.random() * 5);
      const { order: _, ...unplaced } = delivery;
      const ended = {
        state: "succeeded",
        attempts: 1,
        nextAttemptAt: null,
        leasedBy: null,
        place: null,
      } as const;
      await settle({
        attempt: anAttempt(message, endpoint),
        delivery: { ...unplaced, ...ended },
        ...{ node, now, endpointState: null },
      });
      settled.add(message.id);
    }
  }

  const publishing = Promise.all(Array.from({ length: publishers }, publish));
  const stop = async (): Promise<void> => {
    stopping.abort();
    await publishing;
  };
  cleanups.push(stop);
  const ids = { endpointId: endpoint.id, applicationId: application.id };
  return { store, url, database, ...ids, accepted, settled, refused, errors, stop };
}

/** Waits until so many more events have been accepted and recorded. */
async function waitForMore({ settled }: Load, amount: number): Promise<void> {
  const before = settled.size;
  await vi.waitUntil(() => settled.size >= before + amount, patience);
}

/** What was promised is there, and nothing that the node holds is forgotten. */
async function expectKept(load: Load): Promise<void> {
  const { store, accepted, settled, refused, errors, url } = load;
  await load.stop();
  for (const error of errors) {
    expect(error).toBeInstanceOf(ServiceError);
    expect(error).toMatchObject({ code: "unavailable", status: 503, retryAfterSeconds: 1 });
    expect(`${String(error)} ${String((error as Error).cause)}`).not.toMatch(/canary|postgres:\/\//);
  }
  const rows = await server.query(
    `select messages.id, deliveries.state, count(attempts.id)::int as attempts from messages
     left join deliveries on deliveries.message_id = messages.id
     left join attempts on attempts.message_id = messages.id
     group by messages.id, deliveries.state`,
    url,
  );
  const stored = new Map(rows.map((row) => [row["id"] as string, row]));
  expect([...accepted].filter((id) => !stored.has(id))).toEqual([]);
  for (const id of settled) expect(stored.get(id)).toMatchObject({ state: "succeeded", attempts: 1 });
  expect(settled.size).toBe(accepted.size);
  // What was committed unheard is stored whole, and nobody has it: it is given back.
  for (const id of stored.keys()) if (!accepted.has(id)) expect(refused).toContain(id);
  await vi.waitUntil(async () => {
    const held = await server.query(
      "select 1 from deliveries where state = 'pending' and leased_by <> 0",
      url,
    );
    return held.length === 0;
  }, patience);
  const unheard = [...stored.values()].filter((row) => row["state"] === "pending");
  const { due } = await store.claim([{ endpointId: load.endpointId, limit: 10_000 }], node, Date.now());
  expect(due).toHaveLength(unheard.length);
  if (process.env["SHOW"])
    console.log({ accepted: accepted.size, refused: refused.size, unheard: unheard.length });
}

describe("PostgreSQL", () => {
  test("stopped and started again: nothing that was answered for is lost, and the store goes on", async () => {
    const load = await openLoad(20);
    await waitForMore(load, 100);
    await server.stop();
    await vi.waitUntil(() => load.errors.length > 40, patience);
    await expect(load.store.ping()).rejects.toMatchObject({ code: "unavailable" });
    await expect(load.store.read((tx) => tx.organizations.list({ limit: 1 }))).rejects.toMatchObject({
      ...{ code: "unavailable", retryAfterSeconds: 1 },
    });
    await expect(load.store.write((tx) => tx.nodes.join(1))).rejects.toMatchObject({ code: "unavailable" });
    await server.start();
    await waitForMore(load, 100);
    await load.store.ping();
    await expectKept(load);
  }, 180_000);

  test("killed at once, three times over", async () => {
    const load = await openLoad(20);
    for (let round = 0; round < 3; round++) {
      await waitForMore(load, 60);
      const errors = load.errors.length;
      await server.kill();
      await vi.waitUntil(() => load.errors.length > errors + 20, patience);
      await server.start();
    }
    await waitForMore(load, 60);
    await expectKept(load);
  }, 240_000);

  test("with a process of a connection killed, which ends all of them", async () => {
    const load = await openLoad(20);
    for (let round = 0; round < 2; round++) {
      await waitForMore(load, 60);
      const errors = load.errors.length;
      await server.crash();
      await vi.waitUntil(() => load.errors.length > errors, patience);
      await waitForMore(load, 60);
    }
    await expectKept(load);
  }, 240_000);

  test("that stops where it is: callers are told in time, and what it did unheard is found", async () => {
    const load = await openLoad(20);
    for (let round = 0; round < 2; round++) {
      await waitForMore(load, 60);
      const errors = load.errors.length;
      server.freeze();
      try {
        // Those under way, and those that come while it stands still.
        await vi.waitUntil(() => load.errors.length > errors + 30, patience);
      } finally {
        server.thaw();
      }
      await waitForMore(load, 60);
    }
    await expectKept(load);
  }, 240_000);

  test("that takes no writes, as a standby does, is out of order until it does", async () => {
    const load = await openLoad(5);
    await waitForMore(load, 20);
    await server.query(`alter database ${load.database} set default_transaction_read_only = on`);
    await endConnections(load);
    await vi.waitUntil(() => load.errors.length > 20, patience);
    await load.store.ping();
    expect(load.errors.at(-1)).toMatchObject({ cause: { code: "25006" } });
    // Each connection is made anew after such an answer, so that it finds the server that takes writes.
    await server.query(`alter database ${load.database} reset default_transaction_read_only`);
    await waitForMore(load, 20);
    await expectKept(load);
  }, 180_000);

  test("without a connection to spare", async () => {
    await server.query("create role worker login password 'canary-worker'");
    const load = await openLoad(5, { username: "worker", password: "canary-worker" });
    await waitForMore(load, 20);
    await server.query("alter role worker connection limit 0");
    await endConnections(load);
    await vi.waitUntil(() => load.errors.length > 20, patience);
    expect(load.errors.at(-1)).toMatchObject({ cause: { code: "53300" } });
    await server.query("alter role worker connection limit 100");
    await waitForMore(load, 20);
    await expectKept(load);
  }, 180_000);

  test("that waits for a lock for too long answers in time", async () => {
    const load = await openLoad(5);
    await waitForMore(load, 20);
    const locking = server.query(
      "begin; lock table messages in exclusive mode; select pg_sleep(3)",
      load.url,
    );
    await vi.waitUntil(() => load.errors.length > 5, patience);
    expect(load.errors.at(-1)).toMatchObject({ cause: { code: "57014" } });
    await locking;
    await waitForMore(load, 20);
    await expectKept(load);
  }, 180_000);
});

/** What the server says when a transaction has ended: "ready", "idle". */
const transactionEnded = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

/** A way to the server that can lose an answer. */
interface Wire {
  readonly port: number;
  /** The server gets the next message with this word in it, and the client does not hear that it was done. */
  loseAnswerTo(word: string): void;
}

async function openWire(target: string): Promise<Wire> {
  const { hostname, port } = new URL(target);
  let losing: string | null = null;
  const sockets = new Set<Socket>();
  const wire = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    let isMute = false;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
    }
    client.on("data", (bytes) => {
      isMute ||= losing !== null && bytes.includes(losing);
      upstream.write(bytes);
    });
    upstream.on("data", (bytes) => {
      if (!isMute) client.write(bytes);
      else if (bytes.includes(transactionEnded)) {
        losing = null;
        client.destroy();
      }
    });
    client.on("close", () => upstream.end());
    upstream.on("close", () => client.destroy());
  });
  await new Promise<void>((resolve) => {
    wire.listen(0, "127.0.0.1", resolve);
  });
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => {
      wire.close(resolve);
    });
  });
  return {
    port: (wire.address() as AddressInfo).port,
    loseAnswerTo(word) {
      losing = word;
    },
  };
}

describe("a commit whose answer is lost", () => {
  async function openScene() {
    const url = await server.createDatabase();
    const wire = await openWire(url);
    const store = await openPostgresStore({
      url: Object.assign(new URL(url), { port: String(wire.port) }).href,
      masterKeyFile: join(folder, `${new URL(url).pathname}.key`),
    });
    cleanups.push(() => store.close());
    const application = anApplication();
    const endpoint = anEndpoint(application);
    const version = await store.write(async (tx) => {
      await tx.applications.insert(application);
      await tx.endpoints.insert(endpoint);
      return (await tx.applications.get(application.id))?.version ?? 0;
    });
    const due: string[] = [];
    store.onChange(({ dueEndpoints }) => due.push(...dueEndpoints.keys()));
    const accept = async (message: Message, given: Partial<NewDelivery> = {}): Promise<void> => {
      const pending = { state: "pending", attempts: 0, nextAttemptAt: sceneTime, leasedBy: node } as const;
      const deliveries = [aDelivery(message, endpoint, { ...pending, ...given })];
      await store.accept({ message, version, deliveries, answer: null });
    };
    const find = (message: Message) => store.read((tx) => tx.deliveries.find(message.id, endpoint.id));
    // So that the connection is there, and what follows is all that is said on it.
    await accept(aMessage(application));
    return { store, wire, application, endpoint, due, accept, find };
  }

  test("of an event gives its deliveries back: the publisher was told of an outage, and nobody has them", async () => {
    const { wire, application, endpoint, due, accept, find } = await openScene();
    const message = aMessage(application);
    wire.loseAnswerTo(message.id);
    await expect(accept(message)).rejects.toMatchObject({ code: "unavailable" });
    await vi.waitUntil(async () => (await find(message))?.leasedBy === null, patience);
    expect(await find(message)).toMatchObject({ state: "pending", nextAttemptAt: sceneTime });
    expect(due).toEqual([endpoint.id]);
  });

  test("of a claim gives back what it took", async () => {
    const { store, wire, application, endpoint, due, accept, find } = await openScene();
    const message = aMessage(application);
    await accept(message, { leasedBy: null });
    due.length = 0;
    const claims = [{ endpointId: endpoint.id, limit: 5 }];
    await store.claim(claims, node, 0);
    wire.loseAnswerTo("commit");
    await expect(store.claim(claims, node, sceneTime)).rejects.toMatchObject({ code: "unavailable" });
    await vi.waitUntil(
      () => due.length > 0 || find(message).then((found) => found?.leasedBy === null),
      patience,
    );
    expect((await store.claim(claims, node, sceneTime)).due).toHaveLength(1);
  });

  test("of an attempt is recorded once, though it is told again", async () => {
    const { store, wire, application, endpoint, accept, find } = await openScene();
    const message = aMessage(application);
    await accept(message);
    const { order: _, ...unplaced } = aDelivery(message, endpoint, {
      nextAttemptAt: sceneTime,
      leasedBy: node,
    });
    const later = { ...unplaced, state: "pending", place: null } as const;
    const outcome = {
      ...{
        attempt: anAttempt(message, endpoint),
        delivery: later,
        node,
        now: sceneTime,
        endpointState: null,
      },
    };
    wire.loseAnswerTo(outcome.attempt.id);
    await expect(store.settle(outcome)).rejects.toMatchObject({ code: "unavailable" });
    expect(await store.settle(outcome)).toBe(true);
    expect(await find(message)).toEqual(later);
    const attempts = await store.read((tx) =>
      tx.attempts.list({ applicationId: application.id }, { limit: 9 }),
    );
    expect(attempts).toHaveLength(1);
  });
});

/** Ends the service's connections, as a failover does. */
async function endConnections({ database }: Load): Promise<void> {
  await server.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = '${database}' and application_name = 'hookplane'`,
  );
}
