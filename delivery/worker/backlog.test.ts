import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test, vi } from "vitest";
import { pileUp } from "./backlog.suite.ts";
import { makeDataDir, openArrivals, serve } from "./process.suite.ts";

const eventually = (check: () => void | Promise<void>): Promise<void> =>
  vi.waitFor(check, { timeout: 30_000, interval: 20 });

describe("a backlog", () => {
  test(
    "waits on disk and not in memory, holds nobody else up, and is delivered after a restart",
    { timeout: 180_000 },
    async () => {
      // 480 MiB, of which memory gets a part.
      const figures = await pileUp(10_000, 48 * 1024);
      expect(figures.residentMiB.most - figures.residentMiB.before).toBeLessThan(400);
      expect(figures.healthCalls).toBeGreaterThan(3);
      // What was under way when the service was killed.
      expect(figures.twice).toBeLessThanOrEqual(4);
    },
  );

  test(
    "beyond --max-backlog is refused with 429 and Retry-After, and taken again once it is gone",
    { timeout: 60_000 },
    async () => {
      const { promise: goesOn, resolve: goOn } = Promise.withResolvers<undefined>();
      const arrivals = await openArrivals(() => goesOn.then(() => 200));
      const service = await serve(makeDataDir(), { flags: ["--max-backlog", "50"] });
      await service.prepare("shop", [{ url: arrivals.url, policy: { timeoutSeconds: 60 } }]);
      const acknowledged: string[] = [];
      for (;;) {
        const { status, retryAfter, body } = await service.publish("shop", { payload: {} });
        if (status !== 202) {
          expect({ status, retryAfter }).toEqual({
            status: 429,
            retryAfter: expect.stringMatching(/^[1-9]\d*$/),
          });
          break;
        }
        acknowledged.push((body as { id: string }).id);
      }
      expect(acknowledged).toHaveLength(50);
      expect((await service.call("GET", "/readyz")).status).toBe(200);
      goOn(undefined);
      await eventually(async () => {
        expect((await service.publish("shop", { payload: {} })).status).toBe(202);
        for (const id of acknowledged) expect(arrivals.byId.has(id)).toBe(true);
      });
    },
  );
});

describe("hookplane serve, asked to stop", () => {
  test(
    "lets what is under way end, and leaves the rest for later: nothing lost, nothing twice",
    { timeout: 60_000 },
    async () => {
      const dataDir = makeDataDir();
      const arrivals = await openArrivals(async () => {
        await sleep(300);
        return 200;
      });
      const stopped = await serve(dataDir);
      await stopped.prepare("shop", [{ url: arrivals.url, policy: { concurrency: 4 } }]);
      const ids: string[] = [];
      for (let count = 0; count < 30; count++) {
        ids.push(((await stopped.publish("shop", { payload: {} })).body as { id: string }).id);
      }
      await eventually(() => {
        expect(arrivals.all.length).toBeGreaterThanOrEqual(4);
      });
      expect(await stopped.stop()).toBe(0);
      const sent = arrivals.all.length;
      expect(sent).toBeLessThan(30);
      const next = await serve(dataDir);
      await eventually(() => {
        for (const id of ids) expect(arrivals.byId.has(id)).toBe(true);
      });
      await next.stop();
      expect(arrivals.all).toHaveLength(30);
    },
  );

  test(
    "cuts off what does not end within --stop-timeout-seconds, and sends it again later",
    { timeout: 60_000 },
    async () => {
      const dataDir = makeDataDir();
      let isHanging = true;
      const arrivals = await openArrivals(() => (isHanging ? null : 200));
      const stopped = await serve(dataDir, { flags: ["--stop-timeout-seconds", "1"] });
      await stopped.prepare("shop", [{ url: arrivals.url, policy: { timeoutSeconds: 60 } }]);
      const { body } = await stopped.publish("shop", { payload: {} });
      const { id } = body as { id: string };
      await eventually(() => {
        expect(arrivals.byId.has(id)).toBe(true);
      });
      expect(await stopped.stop()).toBe(0);
      isHanging = false;
      const next = await serve(dataDir);
      await eventually(async () => {
        const attempts = await next.call("GET", `/api/v1/app/shop/attempt/msg/${id}`);
        // The one that was cut off says nothing about the receiver, and is not on record.
        const { data } = attempts.body as { data: { responseStatusCode: number }[] };
        expect(data.map(({ responseStatusCode }) => responseStatusCode)).toEqual([200]);
      });
      expect(arrivals.byId.get(id)).toHaveLength(2);
    },
  );
});
