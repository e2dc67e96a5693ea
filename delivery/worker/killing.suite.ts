import { expect, vi } from "vitest";
import { makeDataDir, openArrivals, serve, type ServedProcess, type ServeOptions } from "./process.suite.ts";

/** What came of killing a service again and again. */
export interface KillingFigures {
  readonly rounds: number;
  readonly acknowledged: number;
  /** Acknowledged, and never arrived. */
  readonly lost: number;
  /** Arrived more than once. */
  readonly twice: number;
  /** The most of them after one killing. */
  readonly mostTwice: number;
  /** The longest time from the ready line of a restarted service to the arrival of what was left. */
  readonly slowestMs: number;
}

const publishers = 16;
/** As long as a delivery may take on the busiest machine. */
const arrivalLimitMs = 30_000;

/**
 * Kills a service at random instants while publishers call it, as many times as told, and starts it again each time. What
 * was not acknowledged is published again under its event id, as publishers do. Expects of every event that it arrives,
 * under one id; and of what keeps an order that it first arrives in it.
 */
export async function killAgainAndAgain(
  rounds: number,
  { random = Math.random, ...options }: ServeOptions & { readonly random?: () => number } = {},
): Promise<KillingFigures> {
  const dataDir = makeDataDir();
  const arrivals = await openArrivals();
  const start = () => serve(dataDir, options);
  let service = await start();
  await service.prepare("shop", [{ url: `${arrivals.url}/any` }]);
  await service.prepare("queue", [{ url: `${arrivals.url}/ordered`, policy: { order: "endpoint" } }]);

  let made = 0;
  const acknowledged = new Map<string, string>();
  const unanswered: string[] = [];
  const publish = async (to: ServedProcess, application: string, eventId: string): Promise<void> => {
    const { status, body } = await to.publish(application, { payload: { eventId }, eventId });
    if (status !== 202) throw new Error(`the event ${eventId} was answered with ${status}`);
    acknowledged.set(eventId, (body as { id: string }).id);
  };
  /** Publishes one event after the other until the service is gone. */
  const publishOn = async (to: ServedProcess, application: string, pauseMs: number): Promise<void> => {
    for (;;) {
      const eventId = `${application}-${made++}`;
      try {
        await publish(to, application, eventId);
      } catch {
        // One that fails while the service lives is a fault: it turns up as never acknowledged.
        unanswered.push(eventId);
        return;
      }
      if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  };
  const missing = (): string[] => [...acknowledged.values()].filter((id) => !arrivals.byId.has(id));

  let slowestMs = 0;
  let mostTwice = 0;
  let twice = 0;
  for (let round = 0; round < rounds; round++) {
    const load = [
      ...Array.from({ length: publishers }, () => publishOn(service, "shop", 0)),
      publishOn(service, "queue", 15),
    ];
    // Also when hardly anything was published yet.
    const enough = acknowledged.size + Math.floor(random() * 200);
    while (acknowledged.size < enough && unanswered.length === 0) await new Promise(setImmediate);
    await new Promise((resolve) => setTimeout(resolve, random() * 100));
    expect(unanswered).toEqual([]);
    await service.kill();
    await Promise.all(load);

    service = await start();
    const readyAt = performance.now();
    const left = missing();
    await vi.waitFor(
      () => {
        expect(missing()).toEqual([]);
      },
      { timeout: arrivalLimitMs, interval: 5 },
    );
    for (const id of left) slowestMs = Math.max(slowestMs, arrivals.byId.get(id)![0]!.at - readyAt);
    for (const eventId of unanswered.splice(0)) {
      await publish(service, eventId.split("-")[0]!, eventId);
    }
    const twiceNow = [...arrivals.byId.values()].filter(({ length }) => length > 1).length;
    mostTwice = Math.max(mostTwice, twiceNow - twice);
    twice = twiceNow;
  }
  await vi.waitFor(
    () => {
      expect(missing()).toEqual([]);
    },
    { timeout: arrivalLimitMs, interval: 5 },
  );

  const idsOf = new Map<string, Set<string>>();
  for (const { id, payload } of arrivals.all) {
    const { eventId } = payload as { eventId: string };
    idsOf.set(eventId, (idsOf.get(eventId) ?? new Set()).add(id));
  }
  for (const [eventId, ids] of idsOf) expect([...ids]).toEqual([acknowledged.get(eventId)]);
  const inOrder = arrivals.all.filter(({ path }) => path === "/ordered");
  const firsts = [...new Set(inOrder.map(({ payload }) => (payload as { eventId: string }).eventId))];
  const numbers = firsts.map((eventId) => Number(eventId.split("-")[1]));
  expect(numbers).toEqual(numbers.toSorted((left, right) => left - right));
  return {
    rounds,
    acknowledged: acknowledged.size,
    lost: missing().length,
    twice,
    mostTwice,
    slowestMs: Math.round(slowestMs),
  };
}
