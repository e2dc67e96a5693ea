import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { startPostgres, type PostgresServer } from "../../delivery/store/postgres-server.suite.ts";
import { openArrivals, serveNodes } from "../../delivery/worker/process.suite.ts";

const eventually = (check: () => void | Promise<void>): Promise<void> =>
  vi.waitFor(check, { timeout: 120_000, interval: 20 });

let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres.close());

test("ten nodes that are killed one after the other: what each held is delivered within ten seconds", async () => {
  let isHanging = true;
  const arrivals = await openArrivals(() => (isHanging ? null : 200));
  const [keeper, ...victims] = await serveNodes(await postgres.createDatabase(), 11);
  await keeper!.prepare("shop", [{ url: arrivals.url, policy: { concurrency: 4, timeoutSeconds: 60 } }]);
  const times: number[] = [];
  for (const victim of victims) {
    isHanging = true;
    const ids: string[] = [];
    for (let count = 0; count < 40; count++) {
      ids.push(((await victim.publish("shop", { payload: {} })).body as { id: string }).id);
    }
    await eventually(() => {
      expect(ids.filter((id) => arrivals.byId.has(id))).toHaveLength(4);
    });
    isHanging = false;
    const killedAt = performance.now();
    await victim.kill();
    await eventually(() => {
      for (const id of ids) expect(arrivals.byId.has(id)).toBe(true);
    });
    times.push(Math.max(...ids.map((id) => arrivals.byId.get(id)!.at(-1)!.at)) - killedAt);
  }
  const sorted = times.map(Math.round).toSorted((left, right) => left - right);
  console.log(`taken over after ${sorted[5]} ms (${sorted[0]} to ${sorted.at(-1)} ms)`);
  expect(sorted.at(-1)).toBeLessThan(10_000);
});

test.each([
  ["stopped", 10],
  ["killed", 10],
  ["frozen", 4],
] as const)("PostgreSQL %s %i times under load", async (how, times) => {
  const arrivals = await openArrivals();
  const nodes = await serveNodes(await postgres.createDatabase(), 2);
  await nodes[0]!.prepare("shop", [{ url: arrivals.url }]);
  const acknowledged = new Set<string>();
  const statuses = new Map<number, number>();
  let isOver = false;
  const publishers = Array.from({ length: 16 }, async (_, index) => {
    while (!isOver) {
      const { status, retryAfter, body } = await nodes[index % 2]!.publish("shop", { payload: {} });
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      if (status === 202) acknowledged.add((body as { id: string }).id);
      else expect({ status, retryAfter }).toEqual({ status: 503, retryAfter: expect.any(String) });
      if (status !== 202) await sleep(20);
    }
  });
  let slowestMs = 0;
  for (let time = 0; time < times; time++) {
    const before = acknowledged.size;
    await eventually(() => {
      expect(acknowledged.size).toBeGreaterThan(before + 100);
    });
    if (how === "frozen") {
      postgres.freeze();
      await sleep(20_000);
      for (const node of nodes) expect((await node.call("GET", "/healthz")).status).toBe(200);
      postgres.thaw();
    } else {
      await (how === "stopped" ? postgres.stop() : postgres.kill());
      await sleep(Math.random() * 6_000);
      await postgres.start();
    }
    const backAt = performance.now();
    const after = acknowledged.size;
    await eventually(() => {
      expect(acknowledged.size).toBeGreaterThan(after + 50);
    });
    slowestMs = Math.max(slowestMs, performance.now() - backAt);
  }
  isOver = true;
  await Promise.all(publishers);
  const missing = (): string[] => [...acknowledged].filter((id) => !arrivals.byId.has(id));
  await eventually(() => {
    expect(missing()).toEqual([]);
  });
  const twice = [...arrivals.byId.values()].filter(({ length }) => length > 1).length;
  console.log(
    `PostgreSQL ${how} ${times} times: ${acknowledged.size} acknowledged, 0 lost, ${twice} twice, ` +
      `answers ${JSON.stringify(Object.fromEntries(statuses))}, accepting again after at most ${Math.round(slowestMs)} ms`,
  );
});
