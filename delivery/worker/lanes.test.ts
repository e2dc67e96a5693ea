import { describe, expect, test } from "vitest";
import { Lanes } from "./lanes.ts";

interface Item {
  readonly endpointId: string;
  readonly bytes: number;
  readonly name: string;
}

const limits = { concurrency: 2, laneCapacity: 4, totalCapacity: 6, totalBytes: 1_000 };

/** Lanes whose items run until `finish(name)`. */
function createLanes(changes: Partial<typeof limits> = {}) {
  const started: string[] = [];
  const running = new Map<string, { finish: () => void; freeSlot: () => void }>();
  let roomCalls = 0;
  const lanes = new Lanes<Item>(
    { ...limits, ...changes },
    (item, freeSlot) => {
      started.push(item.name);
      return new Promise<void>((finish) => running.set(item.name, { finish, freeSlot }));
    },
    () => roomCalls++,
  );
  return {
    lanes,
    started,
    add: (name: string, bytes = 1): boolean => {
      const endpointId = name.charAt(0);
      const isReserved = lanes.reserve(endpointId, bytes);
      if (isReserved) lanes.push({ endpointId, bytes, name });
      return isReserved;
    },
    freeSlot: (name: string) => {
      running.get(name)!.freeSlot();
    },
    finish: async (...names: string[]): Promise<void> => {
      for (const name of names) running.get(name)!.finish();
      await new Promise(setImmediate);
    },
    roomCalls: () => roomCalls,
  };
}

describe("Lanes", () => {
  test("an endpoint's items run in order, as many at a time as its concurrency allows", async () => {
    const { add, started, finish } = createLanes();
    for (const name of ["a1", "a2", "a3", "a4"]) add(name);
    expect(started).toEqual(["a1", "a2"]);
    await finish("a2");
    expect(started).toEqual(["a1", "a2", "a3"]);
  });

  test("a full lane holds up nobody else", () => {
    const { add, started } = createLanes();
    for (const name of ["a1", "a2", "a3", "a4", "b1"]) add(name);
    expect(started).toEqual(["a1", "a2", "b1"]);
  });

  test("a freed slot starts the next item while the first is still held", async () => {
    const { lanes, add, started, freeSlot, finish } = createLanes();
    for (const name of ["a1", "a2", "a3"]) add(name);
    freeSlot("a1");
    expect(started).toEqual(["a1", "a2", "a3"]);
    expect(lanes.size).toBe(3);
    await finish("a1");
    expect(lanes.size).toBe(2);
  });

  test("what a lane has no room for is turned away, until it has drained", async () => {
    const { lanes, add, finish, roomCalls } = createLanes();
    for (const name of ["a1", "a2", "a3", "a4"]) expect(add(name)).toBe(true);
    expect(add("a5")).toBe(false);
    expect(lanes.takeBusy()).toEqual(["a"]);
    await finish("a1", "a2");
    expect(add("a6")).toBe(false);
    expect(roomCalls()).toBe(0);
    await finish("a3");
    expect(roomCalls()).toBe(1);
    expect(add("a7")).toBe(true);
  });

  test("when all memory is taken, an endpoint still gets as many as it can run at a time", () => {
    const { add, lanes } = createLanes();
    for (const name of ["a1", "a2", "a3", "a4", "b1", "b2"]) expect(add(name)).toBe(true);
    expect(add("b3")).toBe(false);
    expect(add("c1")).toBe(true);
    expect(add("c2")).toBe(true);
    expect(add("c3")).toBe(false);
    expect(lanes.claimable).toBe(2);
  });

  test("bytes are bounded for everybody, and room is told when half is free", async () => {
    const { add, finish, roomCalls } = createLanes();
    expect(add("a1", 900)).toBe(true);
    expect(add("b1", 200)).toBe(false);
    await finish("a1");
    expect(roomCalls()).toBe(1);
    expect(add("b1", 200)).toBe(true);
  });

  test("stopped lanes let what runs end, and hand out what waits", async () => {
    const { lanes, add, started, finish } = createLanes();
    for (const name of ["a1", "a2", "a3", "b1"]) add(name);
    lanes.stop();
    let isIdle = false;
    const idle = lanes.idle().then(() => (isIdle = true));
    await finish("a1", "a2");
    expect(isIdle).toBe(false);
    await finish("b1");
    await idle;
    expect(started).toEqual(["a1", "a2", "b1"]);
    expect(lanes.takeWaiting().map(({ name }) => name)).toEqual(["a3"]);
  });
});
