import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { createLane, type LaneOptions } from "./lane.ts";

interface Job {
  readonly name: string;
  readonly bytes?: number;
  readonly key?: string;
}

/** A lane whose batches end when they are told to. */
function openLane(given: Partial<LaneOptions<Job>> = {}) {
  const batches: string[][] = [];
  const endings: (() => void)[] = [];
  const lane = createLane<Job>(
    {
      ...{ width: 1, maxJobs: 100, maxBytes: 1_000, lingerMs: 0 },
      bytesOf: ({ bytes = 1 }) => bytes,
      keysOf: ({ key }) => (key === undefined ? [] : [key]),
      ...given,
    },
    (jobs) => {
      batches.push(jobs.map(({ name }) => name));
      return new Promise((resolve) => endings.push(resolve));
    },
  );
  const push = (...names: readonly string[]): void => {
    for (const name of names) lane.push({ name });
  };
  /** Ends the oldest batch that is under way, and lets the lane go on. */
  const end = async (): Promise<void> => {
    endings.shift()?.();
    await turn();
  };
  return { lane, batches, push, end };
}

/** Lets everything happen that is due now. */
async function turn(): Promise<void> {
  for (let n = 0; n < 3; n++) await new Promise(setImmediate);
}

describe("a lane", () => {
  test("does those of one turn of the event loop together", async () => {
    const { batches, push } = openLane();
    push("a");
    await Promise.resolve();
    push("b", "c");
    expect(batches).toEqual([]);
    await turn();
    expect(batches).toEqual([["a", "b", "c"]]);
  });

  test("gathers while as many batches are under way as may be", async () => {
    const { batches, push, end } = openLane({ width: 2 });
    for (const name of ["a", "b", "c", "d"]) {
      push(name);
      await turn();
    }
    expect(batches).toEqual([["a"], ["b"]]);
    await end();
    expect(batches).toEqual([["a"], ["b"], ["c", "d"]]);
  });

  test("keeps to the order, and takes no more at a time than it may", async () => {
    const { lane, batches, push, end } = openLane({ maxJobs: 3, maxBytes: 10 });
    push("a", "b", "c", "d");
    for (const [name, bytes] of [
      ["e", 9],
      ["f", 1],
      ["g", 50],
      ["h", 1],
    ] as const) {
      lane.push({ name, bytes });
    }
    await turn();
    for (let n = 0; n < 5; n++) await end();
    expect(batches).toEqual([["a", "b", "c"], ["d", "e"], ["f"], ["g"], ["h"]]);
  });

  test("puts what has something in common into batches of its own", async () => {
    const { lane, batches, end } = openLane();
    for (const [name, key] of [
      ["a", "x"],
      ["b", "y"],
      ["c", "x"],
      ["d", "y"],
    ] as const) {
      lane.push({ name, key });
    }
    await turn();
    await end();
    expect(batches).toEqual([
      ["a", "b"],
      ["c", "d"],
    ]);
  });

  test("lets what is not urgent wait for others, and for something urgent at the latest", async () => {
    const { lane, batches } = openLane({ lingerMs: 60_000 });
    lane.push({ name: "a" }, false);
    await turn();
    lane.push({ name: "b" }, false);
    await turn();
    expect(batches).toEqual([]);
    lane.push({ name: "c" });
    await turn();
    expect(batches).toEqual([["a", "b", "c"]]);
  });

  test("does what is not urgent when its time is over", async () => {
    const { lane, batches } = openLane({ lingerMs: 5 });
    lane.push({ name: "a" }, false);
    while (batches.length === 0) await sleep(5);
    expect(batches).toEqual([["a"]]);
  });

  test("is drained when all is done, also what was waiting for others", async () => {
    const { lane, batches, push, end } = openLane({ lingerMs: 60_000, maxJobs: 1 });
    lane.push({ name: "a" }, false);
    push("b");
    let isDrained = false;
    const draining = lane.drain().then(() => (isDrained = true));
    await turn();
    await end();
    expect(isDrained).toBe(false);
    await end();
    await draining;
    expect(batches).toEqual([["a"], ["b"]]);
    await lane.drain();
  });

  test("gives back what nobody has begun", async () => {
    const { lane, batches, push, end } = openLane({ maxJobs: 1 });
    push("a", "b", "c");
    await turn();
    expect(lane.takeWaiting().map(({ name }) => name)).toEqual(["b", "c"]);
    await end();
    expect(batches).toEqual([["a"]]);
  });
});
