import { describe, expect, test } from "vitest";
import { failuresToOpen, firstOpenMs } from "../core/breaker.ts";
import {
  application,
  endpointTo,
  event,
  eventually,
  openFilledStore,
  lookInto,
  openReceiver,
  plainDialect,
  startNode,
} from "./engine.suite.ts";
import { createScheduleClock } from "./schedule-clock.ts";

const hour = 3_600_000;

/** A wall clock that can be set, as an administrator or a time server does, and time that passes for all clocks. */
function createWall() {
  let offsetMs = 0;
  let passedMs = 0;
  const now = (): number => Date.now() + passedMs + offsetMs;
  return {
    now,
    createClock: () => createScheduleClock(now, () => performance.now() + passedMs),
    set: (ms: number) => (offsetMs += ms),
    pass: (ms: number) => (passedMs += ms),
  };
}

describe.each([
  ["back by an hour", [-hour]],
  ["forth by an hour", [hour]],
  ["back, forth and back again", [-hour, 2 * hour, -3 * hour]],
] as const)("a wall clock that is set %s", (_how, jumps) => {
  test("delays no retry, loses no delivery, and leaves ids in the order in which they were given", async () => {
    const wall = createWall();
    const { now } = wall;
    const clock = wall.createClock();
    const receiver = await openReceiver(({ headers }) => ({
      status: headers["x-attempt"] === "2" ? 200 : 400,
    }));
    const store = await openFilledStore([endpointTo(receiver.url)]);
    const { stateOf, attemptsOf } = lookInto(store);
    const dialectOf = () => ({ ...plainDialect, retryDelaysMs: [300, 300] });
    const { dispatcher } = await startNode(store, { now, clock, dialectOf });
    const ids: string[] = [];
    const publish = async (): Promise<void> => {
      ids.push((await dispatcher.publish(application, event())).id);
    };
    await publish();
    for (const jump of jumps) {
      wall.set(jump);
      await publish();
      await publish();
    }
    await eventually(async () => {
      for (const id of ids) expect(await stateOf(id)).toMatchObject({ state: "succeeded", attempts: 3 });
    });
    expect(ids).toEqual(ids.toSorted());
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) {
      const attempts = await attemptsOf(id);
      expect(attempts.map(({ responseStatusCode }) => responseStatusCode)).toEqual([400, 400, 200]);
      const times = receiver.requests.filter((request) => request.id === id).map(({ at }) => at);
      // A clock that was set forth may make a retry early, and nothing makes one late but a busy machine.
      expect(times.at(-1)! - times[0]!).toBeLessThan(10_000);
    }
  });

  test("delays nothing after a restart", async () => {
    const wall = createWall();
    const status = { current: 500 };
    const receiver = await openReceiver(() => ({ status: status.current }));
    const store = await openFilledStore([endpointTo(receiver.url)]);
    const { stateOf, breakerOf } = lookInto(store);
    const dialectOf = () => ({ ...plainDialect, retryDelaysMs: [100] });
    const before = await startNode(store, { now: wall.now, clock: wall.createClock(), dialectOf });
    const ids: string[] = [];
    for (let count = 0; count < failuresToOpen; count++) {
      ids.push((await before.dispatcher.publish(application, event())).id);
    }
    await eventually(async () => {
      expect(await breakerOf()).toMatchObject({ openings: 1 });
    });
    ids.push((await before.dispatcher.publish(application, event())).id);
    await before.stop();
    status.current = 200;
    for (const jump of jumps) wall.set(jump);
    // Another process has only the wall clock to begin with.
    await startNode(store, { now: wall.now, clock: wall.createClock(), dialectOf });
    wall.pass(firstOpenMs * 1.2);
    await eventually(async () => {
      for (const id of ids) expect(await stateOf(id)).toMatchObject({ state: "succeeded" });
    });
    expect(await breakerOf()).toMatchObject({ openUntil: null });
  });

  test("keeps no breaker open, and no rate waiting", async () => {
    const wall = createWall();
    const { now } = wall;
    const clock = wall.createClock();
    let status = 500;
    const receiver = await openReceiver(() => ({ status }));
    const other = await openReceiver();
    const store = await openFilledStore([
      endpointTo(receiver.url, { filterTypes: ["broken"] }),
      endpointTo(other.url, { id: "ep_2", filterTypes: ["rated"], throttleRate: 20 }),
    ]);
    const { stateOf, breakerOf } = lookInto(store);
    const dialectOf = () => ({ ...plainDialect, retryDelaysMs: [300, 300, 300] });
    const { dispatcher } = await startNode(store, { now, clock, dialectOf });
    for (let count = 0; count < failuresToOpen; count++)
      await dispatcher.publish(application, event("broken"));
    await eventually(async () => {
      expect(await breakerOf()).toMatchObject({ openings: 1 });
    });
    status = 200;
    const rated: string[] = [];
    for (const jump of jumps) {
      wall.set(jump);
      for (let count = 0; count < 3; count++) {
        rated.push((await dispatcher.publish(application, event("rated"))).id);
      }
    }
    await eventually(async () => {
      for (const id of rated) expect(await stateOf(id, "ep_2")).toMatchObject({ state: "succeeded" });
    });
    wall.pass(firstOpenMs * 1.2);
    await eventually(async () => {
      expect(await breakerOf()).toMatchObject({ openUntil: null });
    });
  });
});
