import { setTimeout as sleep } from "node:timers/promises";
import { expect, vi } from "vitest";
import { makeDataDir, openArrivals, serve, type ServedProcess } from "./process.suite.ts";

/** What a backlog cost. */
export interface BacklogFigures {
  readonly waiting: number;
  /** Resident memory before, and the most while the backlog grew and was there, in MiB. */
  readonly residentMiB: { readonly before: number; readonly most: number };
  /** Calls of the health routes meanwhile, and the slowest of them. */
  readonly healthCalls: number;
  readonly slowestHealthMs: number;
  /** From the start of the process to its ready line, with all of it waiting. */
  readonly readyMs: number;
  /** From the ready line to the last arrival. */
  readonly drainMs: number;
  /** Arrived more than once. */
  readonly twice: number;
}

const batchBytes = 500_000;
const maxBatch = 100;
const senders = 4;

/** Publishes many messages with payloads of this size, many a request, and answers their ids. */
async function publishBatches(
  service: ServedProcess,
  uid: string,
  count: number,
  payloadBytes: number,
): Promise<string[]> {
  const size = Math.max(1, Math.min(maxBatch, Math.floor(batchBytes / payloadBytes)));
  const text = "x".repeat(payloadBytes);
  const ids: string[] = [];
  let begun = 0;
  await Promise.all(
    Array.from({ length: senders }, async () => {
      while (begun < count) {
        const amount = Math.min(size, count - begun);
        begun += amount;
        const messages = Array.from({ length: amount }, () => ({
          eventType: "order.paid",
          payload: { text },
        }));
        const { status, body } = await service.call("POST", `/api/v1/app/${uid}/msg/batch`, { messages });
        expect(status).toBe(202);
        const { data } = body as { data: { id: string }[] };
        for (const { id } of data) ids.push(id);
      }
    }),
  );
  return ids;
}

/**
 * Lets deliveries pile up for an endpoint that hangs, kills the service, and starts it again with an endpoint that
 * answers. Expects the service to answer health checks all the while, another application's events to arrive meanwhile,
 * and everything to arrive in the end.
 */
export async function pileUp(waiting: number, payloadBytes: number): Promise<BacklogFigures> {
  const dataDir = makeDataDir();
  let isHanging = true;
  const arrivals = await openArrivals(({ path }) => (isHanging && path === "/hanging" ? null : 200));
  const service = await serve(dataDir);
  const policy = { concurrency: 4, timeoutSeconds: 120 };
  await service.prepare("piling", [{ url: `${arrivals.url}/hanging`, policy }]);
  await service.prepare("healthy", [{ url: `${arrivals.url}/healthy` }]);
  const before = service.residentMiB;
  let most = before;
  let healthCalls = 0;
  let slowestHealthMs = 0;
  const watching = new AbortController();
  const watch = (async () => {
    while (!watching.signal.aborted) {
      for (const path of ["/healthz", "/readyz", "/api/v1/health"]) {
        const startedAt = performance.now();
        const { status } = await service.call("GET", path);
        slowestHealthMs = Math.max(slowestHealthMs, performance.now() - startedAt);
        expect([200, 204]).toContain(status);
        healthCalls++;
      }
      most = Math.max(most, service.residentMiB);
      await sleep(20);
    }
  })();
  // Told where it is waited for, and not also when something else has failed before.
  watch.catch(() => undefined);
  const ids = await publishBatches(service, "piling", waiting, payloadBytes);
  const { body } = await service.publish("healthy", { payload: {} });
  await vi.waitFor(
    () => {
      expect(arrivals.byId.has((body as { id: string }).id)).toBe(true);
    },
    { timeout: 30_000 },
  );
  await sleep(500);
  watching.abort();
  await watch;
  expect(arrivals.all.filter(({ path }) => path === "/hanging")).toHaveLength(policy.concurrency);
  await service.kill();

  isHanging = false;
  const startedAt = performance.now();
  await serve(dataDir);
  const readyAt = performance.now();
  await vi.waitFor(
    () => {
      // One of each and those that were under way when it was killed.
      expect(arrivals.byId.size).toBe(waiting + 1);
    },
    { timeout: 600_000, interval: 20 },
  );
  const drainMs = performance.now() - readyAt;
  expect(new Set(ids).size).toBe(waiting);
  for (const id of ids) expect(arrivals.byId.has(id)).toBe(true);
  return {
    waiting,
    residentMiB: { before: Math.round(before), most: Math.round(most) },
    healthCalls,
    slowestHealthMs: Math.round(slowestHealthMs),
    readyMs: Math.round(readyAt - startedAt),
    drainMs: Math.round(drainMs),
    twice: [...arrivals.byId.values()].filter(({ length }) => length > 1).length,
  };
}
