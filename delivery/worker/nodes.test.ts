import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startPostgres, type PostgresServer } from "../store/postgres-server.suite.ts";
import { killAgainAndAgain } from "./killing.suite.ts";
import { openArrivals, serveNodes, type Arrival, type ServedProcess } from "./process.suite.ts";

/** Longer than anything here takes on the busiest machine. */
const limit = { timeout: 180_000 };
const eventually = (check: () => void | Promise<void>): Promise<void> =>
  vi.waitFor(check, { timeout: 60_000, interval: 20 });

let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres();
}, 120_000);
afterAll(() => postgres.close());

/** Publishes `count` events, to one node after the other, and answers their ids. */
async function publishMany(nodes: readonly ServedProcess[], count: number, uid = "shop"): Promise<string[]> {
  const ids: string[] = [];
  await Promise.all(
    nodes.map(async (node, turn) => {
      for (let number = turn; number < count; number += nodes.length) {
        const { status, body } = await node.publish(uid, { payload: { number } });
        expect(status).toBe(202);
        ids.push((body as { id: string }).id);
      }
    }),
  );
  return ids;
}

/** What is on record of a message's attempts, as their statuses. */
async function attemptsOf(node: ServedProcess, id: string, uid = "shop"): Promise<number[]> {
  const { body } = await node.call("GET", `/api/v1/app/${uid}/attempt/msg/${id}`);
  return (body as { data: { responseStatusCode: number }[] }).data.map(
    ({ responseStatusCode }) => responseStatusCode,
  );
}

describe("several nodes on one PostgreSQL", () => {
  test("deliver and retry everything once while all live", limit, async () => {
    const seen = new Set<string>();
    const arrivals = await openArrivals(({ id }) => (seen.size === seen.add(id).size ? 200 : 400));
    const nodes = await serveNodes(await postgres.createDatabase(), 3);
    await nodes[0]!.prepare("shop", [{ url: arrivals.url, policy: { retrySchedule: [0.1, 0.1] } }]);
    const ids = await publishMany(nodes, 300);
    await eventually(() => {
      expect(arrivals.all).toHaveLength(600);
    });
    await sleep(300);
    for (const id of ids) expect(arrivals.byId.get(id)).toHaveLength(2);
    for (const id of ids.slice(0, 20))
      expect((await attemptsOf(nodes[1]!, id)).toSorted()).toEqual([200, 400]);
  });

  test("keep an endpoint's rate together", limit, async () => {
    const arrivals = await openArrivals();
    const nodes = await serveNodes(await postgres.createDatabase(), 2);
    await nodes[0]!.prepare("shop", [{ url: arrivals.url, throttleRate: 40 }]);
    await publishMany(nodes, 81);
    await eventually(() => {
      expect(arrivals.all).toHaveLength(81);
    });
    const seconds = (arrivals.all.at(-1)!.at - arrivals.all[0]!.at) / 1_000;
    expect(seconds).toBeGreaterThanOrEqual(1.6);
  });

  test("keep an endpoint's order together, when one of them dies too", limit, async () => {
    const tries = new Map<string, number>();
    const taken: number[] = [];
    const arrivals = await openArrivals(({ id, payload }) => {
      const { number } = payload as { number: number };
      tries.set(id, (tries.get(id) ?? 0) + 1);
      if (number % 5 === 3 && tries.get(id) === 1) return 400;
      if (!taken.includes(number)) taken.push(number);
      return 200;
    });
    const nodes = await serveNodes(await postgres.createDatabase(), 2);
    await nodes[0]!.prepare("shop", [
      { url: arrivals.url, policy: { order: "endpoint", retrySchedule: [0.05, 0.05, 0.05] } },
    ]);
    for (let number = 0; number < 60; number++) {
      const node = number > 30 ? nodes[1]! : nodes[number % 2]!;
      expect((await node.publish("shop", { payload: { number } })).status).toBe(202);
      if (number === 30) await nodes[0]!.kill();
    }
    await eventually(() => {
      expect(taken).toEqual(Array.from({ length: 60 }, (_, number) => number));
    });
  });

  test("take over what one held that was killed, within ten seconds", limit, async () => {
    let isHanging = true;
    const arrivals = await openArrivals(() => (isHanging ? null : 200));
    const [victim, ...others] = await serveNodes(await postgres.createDatabase(), 2);
    await victim!.prepare("shop", [{ url: arrivals.url, policy: { concurrency: 2, timeoutSeconds: 60 } }]);
    const ids = await publishMany([victim!], 50);
    await eventually(() => {
      expect(arrivals.all).toHaveLength(2);
    });
    isHanging = false;
    const killedAt = performance.now();
    await victim!.kill();
    await eventually(() => {
      for (const id of ids) expect(arrivals.byId.has(id)).toBe(true);
    });
    const lastAt = Math.max(...ids.map((id) => arrivals.byId.get(id)!.at(-1)!.at));
    // What it had sent is sent again, and nothing else.
    await eventually(() => {
      expect(arrivals.all).toHaveLength(52);
    });
    expect(lastAt - killedAt).toBeLessThan(10_000);
    for (const id of ids) expect(await attemptsOf(others[0]!, id)).toEqual([200]);
  });

  test(
    "one that was paused beyond its time records and delivers nothing that is no longer its own",
    limit,
    async () => {
      const arrivals = await openArrivals(async () => {
        await sleep(50);
        return 200;
      });
      const [paused, other] = await serveNodes(await postgres.createDatabase(), 2);
      await paused!.prepare("shop", [{ url: arrivals.url, policy: { concurrency: 4 } }]);
      const ids = await publishMany([paused!], 120);
      await eventually(() => {
        expect(arrivals.all.length).toBeGreaterThan(20);
      });
      paused!.pause();
      await eventually(() => {
        for (const id of ids) expect(arrivals.byId.has(id)).toBe(true);
      });
      await eventually(async () => {
        for (const id of ids) expect(await attemptsOf(other!, id)).toEqual([200]);
      });
      const before = arrivals.all.length;
      // Two were under way at the most for each place: those it was sending, and those whose record was on its way.
      expect(before - ids.length).toBeLessThanOrEqual(8);
      paused!.goOn();
      let last = "";
      await eventually(async () => {
        const { status, body } = await paused!.publish("shop", { payload: {} });
        expect(status).toBe(202);
        last = (body as { id: string }).id;
      });
      await eventually(async () => {
        expect(await attemptsOf(paused!, last)).toEqual([200]);
      });
      const known = new Set(ids);
      const late = arrivals.all.slice(before).filter(({ id }) => known.has(id));
      expect(late).toEqual([]);
      for (const id of ids) expect(await attemptsOf(other!, id)).toEqual([200]);
    },
  );
});

describe("a node whose PostgreSQL goes away under load", () => {
  test.each(["stopped", "killed"] as const)(
    "(%s) answers 503 with Retry-After, loses nothing that it acknowledged, and recovers by itself",
    limit,
    async (how) => {
      const arrivals = await openArrivals();
      const [node] = await serveNodes(await postgres.createDatabase(), 1);
      await node!.prepare("shop", [{ url: arrivals.url }]);
      const acknowledged = new Set<string>();
      const refused: { status: number; retryAfter: string | null }[] = [];
      let isOver = false;
      const publishers = Array.from({ length: 8 }, async () => {
        while (!isOver) {
          const { status, retryAfter, body } = await node!.publish("shop", { payload: {} });
          if (status === 202) acknowledged.add((body as { id: string }).id);
          else refused.push({ status, retryAfter });
          if (status !== 202) await sleep(50);
        }
      });
      await eventually(() => {
        expect(acknowledged.size).toBeGreaterThan(50);
      });
      await (how === "stopped" ? postgres.stop() : postgres.kill());
      await eventually(() => {
        expect(refused.length).toBeGreaterThan(8);
      });
      expect((await node!.call("GET", "/healthz")).status).toBe(200);
      expect(await node!.call("GET", "/readyz")).toMatchObject({ status: 503 });
      const before = acknowledged.size;
      await postgres.start();
      await eventually(() => {
        expect(acknowledged.size).toBeGreaterThan(before + 50);
      });
      isOver = true;
      await Promise.all(publishers);
      for (const answer of refused) {
        expect(answer).toEqual({ status: 503, retryAfter: expect.stringMatching(/^[1-9]\d*$/) });
      }
      const missing = (): string[] => [...acknowledged].filter((id) => !arrivals.byId.has(id));
      await eventually(() => {
        expect(missing()).toEqual([]);
      });
      const twice = [...arrivals.byId.values()].filter((all: Arrival[]) => all.length > 1);
      expect(twice.length).toBeLessThanOrEqual(2 * 64);
    },
  );
});

describe("hookplane serve on PostgreSQL, killed", () => {
  test(
    "delivers every event that it acknowledged, under one id each, and in order where that is asked for",
    limit,
    async () => {
      const figures = await killAgainAndAgain(4, { databaseUrl: await postgres.createDatabase() });
      expect(figures).toMatchObject({ rounds: 4, lost: 0 });
      expect(figures.mostTwice).toBeLessThanOrEqual(2 * 64);
    },
  );
});
