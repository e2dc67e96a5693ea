import { describe, expect, test } from "vitest";
import { failuresToOpen, firstOpenMs } from "../core/breaker.ts";
import {
  application,
  createTestClock,
  endpointTo,
  event,
  eventually,
  openEngine,
  openReceiver,
  plainDialect,
  startNode,
  type Reply,
} from "./engine.suite.ts";

/** Fails each event that fails once more, much later. */
const patientDialect = { ...plainDialect, retryDelaysMs: [60_000, 60_000, 60_000] };
const dialectOf = () => patientDialect;

/** An engine whose only endpoint has just failed so often that its breaker opened. */
async function openBroken(status = 500) {
  const clock = createTestClock();
  const answer: { current: Reply | null } = { current: { status } };
  const receiver = await openReceiver(() => answer.current);
  const engine = await openEngine([endpointTo(receiver.url)], { clock, dialectOf });
  const publish = async (count: number): Promise<string[]> => {
    const messages = Array.from({ length: count }, () => engine.dispatcher.publish(application, event()));
    return (await Promise.all(messages)).map(({ id }) => id);
  };
  const failed = await publish(failuresToOpen);
  await eventually(async () => {
    expect(await engine.breakerOf()).toMatchObject({ failures: failuresToOpen, openings: 1 });
  });
  return { ...engine, clock, answer, receiver, publish, failed };
}

describe("an endpoint's breaker", () => {
  test("opens after failures in a row, and nothing more is sent or uses up its attempts", async () => {
    const { receiver, publish, stateOf } = await openBroken();
    const [id] = await publish(1);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(receiver.requests).toHaveLength(failuresToOpen);
    expect(await stateOf(id!)).toMatchObject({ state: "pending", attempts: 0, leasedBy: null });
  });

  test("leaves what waits in memory its attempts, when it opens under load", async () => {
    const receiver = await openReceiver(() => ({ status: 500 }));
    const endpoint = endpointTo(receiver.url, { policy: { concurrency: 4 } });
    const { dispatcher, breakerOf, stateOf } = await openEngine([endpoint], { dialectOf });
    const messages = await Promise.all(
      Array.from({ length: 100 }, () => dispatcher.publish(application, event())),
    );
    await eventually(async () => {
      expect(await breakerOf()).toMatchObject({ openings: 1 });
      expect(dispatcher.metrics.deliveriesHeld).toBe(0);
    });
    // Those that failed, and those that were under way at that moment.
    expect(receiver.requests.length).toBeLessThan(failuresToOpen + 4);
    const states = await Promise.all(messages.map(({ id }) => stateOf(id)));
    expect(states.filter((state) => state!.attempts > 0)).toHaveLength(receiver.requests.length);
    for (const state of states) expect(state).toMatchObject({ state: "pending", leasedBy: null });
  });

  test("lets a single probe through when its time is over, and everything once that has succeeded", async () => {
    const { receiver, publish, clock, answer, breakerOf, stateOf } = await openBroken();
    const waiting = await publish(20);
    answer.current = null;
    clock.skip(firstOpenMs * 1.2);
    await eventually(() => {
      expect(receiver.requests).toHaveLength(failuresToOpen + 1);
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(receiver.requests).toHaveLength(failuresToOpen + 1);
    // The probe times out; the next one comes later than the first.
    answer.current = { status: 200 };
    await eventually(async () => {
      expect(await breakerOf()).toMatchObject({ openings: 2 });
    });
    clock.skip(60_000);
    await eventually(async () => {
      for (const id of waiting) expect(await stateOf(id)).toMatchObject({ state: "succeeded" });
    });
    expect(await breakerOf()).toEqual({ failingSince: null, failures: 0, openings: 0, openUntil: null });
  });

  test("probes again with what comes later, where nothing was due when its time was over", async () => {
    const { receiver, publish, clock, answer, stateOf, failed } = await openBroken();
    clock.skip(firstOpenMs * 2);
    // Time for the look that finds nothing due.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(receiver.requests).toHaveLength(failuresToOpen);
    answer.current = { status: 200 };
    const [id] = await publish(1);
    await eventually(async () => {
      expect(await stateOf(id!)).toMatchObject({ state: "succeeded", attempts: 1 });
    });
    clock.skip(60_000);
    await eventually(async () => {
      for (const each of failed)
        expect(await stateOf(each)).toMatchObject({ state: "succeeded", attempts: 2 });
    });
  });

  test("closes when a probe is answered, even if what it brings is refused", async () => {
    const { publish, clock, answer, breakerOf, stateOf, failed } = await openBroken();
    answer.current = { status: 400 };
    const [refused] = await publish(1);
    clock.skip(firstOpenMs * 1.2);
    await eventually(async () => {
      expect(await stateOf(refused!)).toMatchObject({ attempts: 1 });
    });
    expect(await breakerOf()).toMatchObject({ failures: 0, openings: 0, openUntil: null });
    expect((await breakerOf())?.failingSince).not.toBeNull();
    answer.current = { status: 200 };
    clock.skip(60_000);
    await eventually(async () => {
      for (const id of [refused!, ...failed]) expect(await stateOf(id)).toMatchObject({ state: "succeeded" });
    });
  });

  test("goes on probing after a probe of which nothing is known, as when its endpoint was disabled meanwhile", async () => {
    const { store, receiver, publish, clock, answer, stateOf } = await openBroken();
    const [first] = await publish(1);
    await store.write((tx) => tx.endpoints.update(endpointTo(receiver.url, { disabled: true })));
    clock.skip(firstOpenMs * 1.2);
    await eventually(async () => {
      expect(await stateOf(first!)).toMatchObject({ state: "failed" });
    });
    await store.write((tx) => tx.endpoints.update(endpointTo(receiver.url)));
    answer.current = { status: 200 };
    const [second] = await publish(1);
    clock.skip(firstOpenMs * 20);
    await eventually(async () => {
      expect(await stateOf(second!)).toMatchObject({ state: "succeeded" });
    });
  });

  test("stays open over a restart", async () => {
    const { store, node, receiver, clock, answer, failed, stateOf } = await openBroken();
    await node.stop();
    answer.current = { status: 200 };
    const next = await startNode(store, { clock, dialectOf });
    const { id } = await next.dispatcher.publish(application, event());
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(receiver.requests).toHaveLength(failuresToOpen);
    clock.skip(firstOpenMs * 1.2);
    await eventually(async () => {
      expect(await stateOf(id)).toMatchObject({ state: "succeeded", attempts: 1 });
    });
    clock.skip(60_000);
    await eventually(async () => {
      for (const each of failed) expect(await stateOf(each)).toMatchObject({ state: "succeeded" });
    });
  });
});

describe("what opens no breaker", () => {
  test("requests that the receiver refuses one by one", async () => {
    const receiver = await openReceiver((_request, count) => ({ status: count > 30 ? 200 : 422 }));
    const { dispatcher, breakerOf, stateOf } = await openEngine([endpointTo(receiver.url)], { dialectOf });
    for (let count = 0; count < 30; count++) await dispatcher.publish(application, event());
    await eventually(() => {
      expect(receiver.requests).toHaveLength(30);
    });
    const { id } = await dispatcher.publish(application, event());
    await eventually(async () => {
      expect(await stateOf(id)).toMatchObject({ state: "succeeded" });
    });
    expect((await breakerOf())?.openUntil ?? null).toBeNull();
  });
});
