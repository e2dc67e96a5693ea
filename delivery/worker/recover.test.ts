import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import type { Endpoint } from "../core/endpoint.ts";
import { createLogger } from "../log.ts";
import { startPostgres } from "../store/postgres-server.suite.ts";
import { anApplication, anEndpoint, fill, sceneTime, testDatabases } from "../store/scene.suite.ts";
import { sqlitePathOf } from "../store/sqlite-store.ts";
import type { Task } from "../store/store.ts";
import { plainDialect } from "./engine.suite.ts";
import { createReplayKinds, insertReplay } from "./recover.ts";
import { createScheduleClock } from "./schedule-clock.ts";
import { TaskRunner } from "./tasks.ts";

const command = join(import.meta.dirname, "../../bin/hookplane.js");

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Running {
  readonly child: ChildProcess;
  request(method: string, path: string, body?: unknown): Promise<Answer>;
}

interface Answer {
  readonly status: number;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers whose shape they assert.
  readonly json: any;
}

async function serve(dataDir: string, flags: readonly string[]): Promise<Running> {
  const args = ["serve", "--port", "0", "--data-dir", dataDir, "--allow-subnet", "127.0.0.0/8", ...flags];
  const child = spawn(process.execPath, [command, ...args, "--log-level", "silent"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  cleanups.push(() => child.kill("SIGKILL"));
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  const { url } = JSON.parse(line) as { url: string };
  const { admin } = JSON.parse(readFileSync(join(dataDir, "credentials.json"), "utf8"));
  return {
    child,
    async request(method, path, body) {
      const response = await fetch(`${url}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${admin.token}` },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      const text = await response.text();
      return { status: response.status, json: text === "" ? undefined : JSON.parse(text) };
    },
  };
}

async function end({ child }: Running, signal: NodeJS.Signals): Promise<void> {
  child.kill(signal);
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

/** A database that the service runs on, and how it counts what is made pending again. */
interface Scene {
  /** Of `hookplane serve`. */
  readonly flags: readonly string[];
  query(text: string): Promise<readonly Record<string, unknown>[]>;
  readonly emptyPayload: string;
  /** A trigger that writes each such delivery's message into the table `reopened`. */
  readonly trigger: readonly string[];
}

async function openSqlite(dataDir: string): Promise<Scene> {
  const database = new DatabaseSync(sqlitePathOf(dataDir), { timeout: 10_000 });
  cleanups.push(() => {
    database.close();
  });
  return {
    flags: [],
    query: async (text) => database.prepare(text).all(),
    emptyPayload: "x'7b7d'",
    trigger: [
      `create trigger note_reopened after update of state on deliveries
         when old.state <> 'pending' and new.state = 'pending'
         begin insert into reopened values (new.message_id); end`,
    ],
  };
}

async function openPostgres(): Promise<Scene> {
  const server = await startPostgres();
  cleanups.push(() => server.close());
  const url = await server.createDatabase();
  return {
    flags: ["--database-url", url],
    query: (text) => server.query(text, url),
    emptyPayload: String.raw`'\x7b7d'::bytea`,
    trigger: [
      `create function note_reopened() returns trigger language plpgsql as
         $$ begin insert into reopened values (new.message_id); return new; end $$`,
      `create trigger note_reopened after update of state on deliveries for each row
         when (old.state <> 'pending' and new.state = 'pending') execute function note_reopened()`,
    ],
  };
}

describe("recovering 5,000 failed deliveries", () => {
  const count = 5_000;

  test.each([
    { name: "SQLite", shares: [0, 0.2, 0.4, 0.6, 0.8] },
    // A node is buried five seconds after it died: its successor waits for that.
    { name: "PostgreSQL", shares: [0, 0.3, 0.6] },
  ])(
    "goes on after kill -9 at any instant, and makes each of them pending exactly once, on $name",
    { timeout: 240_000 },
    async ({ name, shares }) => {
      const dataDir = mkdtempSync(join(tmpdir(), "hookplane-recover-"));
      const arrivals = new Map<string, number>();
      const receiver = createServer((request, response) => {
        const id = String(request.headers["webhook-id"]);
        arrivals.set(id, (arrivals.get(id) ?? 0) + 1);
        request.resume().on("end", () => response.end());
      });
      await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
      cleanups.push(() => {
        receiver.closeAllConnections();
        receiver.close();
        rmSync(dataDir, { recursive: true });
      });
      const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;

      const postgres = name === "PostgreSQL" ? await openPostgres() : undefined;
      const flags = postgres?.flags ?? [];
      let service = await serve(dataDir, flags);
      const { json: application } = await service.request("POST", "/app", { name: "Shop", uid: "shop" });
      const { json: endpoint } = await service.request("POST", "/app/shop/endpoint", { url });
      await end(service, "SIGTERM");
      const scene = postgres ?? (await openSqlite(dataDir));
      await scene.query("create table reopened (message_id text)");
      for (const text of scene.trigger) await scene.query(text);
      // Recent: what is old is removed by the service.
      const from = Date.now() - 60_000;
      await fill(scene, { id: endpoint.id, applicationId: application.id }, count, { state: "failed", from });

      service = await serve(dataDir, flags);
      const since = new Date(from).toISOString();
      const begun = await service.request("POST", `/app/shop/endpoint/${endpoint.id}/recover`, { since });
      expect(begun.status).toBe(202);
      const path = `/background-task/${begun.json.id}`;
      const reopened = async (): Promise<number> =>
        Number((await scene.query("select count(*) as amount from reopened"))[0]!["amount"]);
      for (const share of shares) {
        while ((await reopened()) < share * count) await new Promise((resolve) => setTimeout(resolve, 2));
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 50));
        await end(service, "SIGKILL");
        expect(await reopened()).toBeLessThan(count);
        service = await serve(dataDir, flags);
      }
      const running = service;
      await expect
        .poll(async () => (await running.request("GET", path)).json.status as string, { timeout: 90_000 })
        .toBe("finished");
      expect((await running.request("GET", path)).json.data).toMatchObject({ done: count, total: count });
      await expect.poll(() => arrivals.size, { timeout: 60_000 }).toBe(count);
      const times = await scene.query("select count(*) as times from reopened group by message_id");
      expect(times).toHaveLength(count);
      expect(times.every((row) => Number(row["times"]) === 1)).toBe(true);
    },
  );
});

describe.each(testDatabases)("a recovery beside new events, on $name", (database) => {
  afterAll(() => database.close());

  /** An endpoint that has refused 1,000 events, and a runner without an engine: what is made pending stays so. */
  async function openScene(given: Partial<Endpoint>) {
    const opened = await database.open();
    cleanups.push(() => opened[Symbol.asyncDispose]());
    const { store } = opened;
    const application = anApplication();
    const endpoint = anEndpoint(application, given);
    await store.write(async (tx) => {
      await tx.applications.insert(application);
      await tx.endpoints.insert(endpoint);
    });
    await fill(opened, endpoint, 1_000, { state: "failed" });
    const clock = createScheduleClock();
    const number = await store.write((tx) => tx.nodes.join(Number.MAX_SAFE_INTEGER));
    const runner = new TaskRunner({
      store,
      membership: { number, holds: () => true },
      kinds: createReplayKinds({ store, dialectOf: () => plainDialect, clock }),
      logger: createLogger("silent"),
      now: Date.now,
    });
    cleanups.push(() => runner.stop());
    const { id } = await store.write((tx) =>
      insertReplay(
        tx,
        application,
        "endpoint.recover",
        {
          endpointId: endpoint.id,
          since: sceneTime,
          until: null,
          states: ["failed"],
          isMissing: false,
          eventTypes: null,
          channel: null,
          tag: null,
          statusCodeClass: null,
        },
        Date.now(),
      ),
    );
    runner.start();
    const task = async (): Promise<Task> =>
      (await store.read((tx) => tx.tasks.find(application.organizationId, id)))!;
    const waiting = () => store.read((tx) => tx.replays.countWaiting(endpoint.id, clock.now(), 1_000));
    /** Delivers what is due, as the engine would. */
    const deliver = async (limit: number): Promise<void> => {
      const now = clock.now();
      const { due } = await store.claim([{ endpointId: endpoint.id, limit }], number, now);
      for (const { delivery } of due) {
        const ended = {
          ...delivery,
          state: "succeeded",
          attempts: 1,
          nextAttemptAt: null,
          leasedBy: null,
        } as const;
        await store.settle({ attempt: null, delivery: ended, node: number, now, endpointState: null });
      }
    };
    return { task, waiting, deliver };
  }

  test("has no more than 200 deliveries waiting, and goes on as they are delivered", async () => {
    const { task, waiting, deliver } = await openScene({});
    await expect.poll(waiting, { timeout: 15_000 }).toBe(200);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await waiting()).toBe(200);
    expect(await task()).toMatchObject({ status: "running", done: 200, total: 1_000 });
    while ((await task()).status === "running") {
      await deliver(150);
      expect(await waiting()).toBeLessThanOrEqual(200);
    }
    expect(await task()).toMatchObject({ status: "finished", done: 1_000, total: 1_000 });
  });

  test("has no more waiting than leave in two seconds where the endpoint has a rate", async () => {
    const { task, waiting } = await openScene({ throttleRate: 5 });
    await expect.poll(waiting, { timeout: 15_000 }).toBe(10);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await task()).toMatchObject({ status: "running", done: 10, total: 1_000 });
  });
});
