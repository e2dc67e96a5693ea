import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { Lanes, type LaneLimits, type LaneRules } from "./lanes.ts";

interface Item {
  readonly endpointId: string;
  readonly applicationId: string;
  readonly bytes: number;
  readonly name: string;
}

const limits: LaneLimits = { totalConcurrency: 100, laneCapacity: 4, totalCapacity: 100, totalBytes: 1_000 };
const rules: LaneRules = { concurrency: 2, ratePerSecond: null };

/** The endpoint `a` of the application `A`, and so on: the item `a1` is for it. */
function itemOf(name: string, bytes = 1): Item {
  const endpointId = name.charAt(0);
  return { endpointId, applicationId: endpointId.toUpperCase(), bytes, name };
}

/** Lanes whose items run until `finish(name)`. */
function createLanes(
  changes: Partial<LaneLimits> = {},
  { takeSlots }: { takeSlots?: (endpointId: string, rate: number, count: number) => Promise<number> } = {},
) {
  const started: string[] = [];
  const running = new Map<string, { finish: () => void; freeSlot: () => void }>();
  const roomFor: string[] = [];
  const lanes = new Lanes<Item>({
    limits: { ...limits, ...changes },
    run: (item, freeSlot) => {
      started.push(item.name);
      return new Promise<void>((finish) => running.set(item.name, { finish, freeSlot }));
    },
    onRoom: (endpointId, applicationId) => roomFor.push(`${applicationId}/${endpointId}`),
    takeSlots: takeSlots ?? (() => Promise.reject(new Error("nobody asked for a rate"))),
    now: Date.now,
  });
  return {
    lanes,
    started,
    roomFor,
    add: (name: string, { bytes = 1, ...changed }: Partial<LaneRules & Item> = {}): boolean => {
      const item = { ...itemOf(name, bytes), ...changed };
      const isReserved = lanes.reserve(item, { ...rules, ...changed });
      if (isReserved) lanes.push(item);
      return isReserved;
    },
    freeSlot: (name: string) => {
      running.get(name)!.freeSlot();
    },
    finish: async (...names: string[]): Promise<void> => {
      for (const name of names) running.get(name)!.finish();
      await new Promise(setImmediate);
    },
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

  test("rules hold as they were given last", async () => {
    const { add, started, finish } = createLanes();
    for (const name of ["a1", "a2", "a3"]) add(name);
    expect(started).toEqual(["a1", "a2"]);
    add("a4", { concurrency: 4 });
    expect(started).toEqual(["a1", "a2", "a3", "a4"]);
    await finish("a1", "a2", "a3");
    add("a5", { concurrency: 1 });
    expect(started).toHaveLength(4);
    await finish("a4");
    expect(started.at(-1)).toBe("a5");
  });

  test("what a lane has no room for is turned away, and nothing gets in until it has drained", async () => {
    const { lanes, add, finish, roomFor } = createLanes();
    for (const name of ["a1", "a2", "a3", "a4"]) expect(add(name)).toBe(true);
    expect(add("a5")).toBe(false);
    await finish("a1", "a2");
    expect(add("a6")).toBe(false);
    expect(roomFor).toEqual([]);
    await finish("a3");
    expect(roomFor).toEqual(["A/a"]);
    expect(lanes.roomFor(itemOf("a"), rules)).toBe(3);
    expect(add("a7")).toBe(true);
  });

  test("room that is asked for and not there is told of when it is", async () => {
    const { lanes, add, finish, roomFor } = createLanes();
    for (const name of ["a1", "a2", "a3", "a4"]) add(name);
    expect(lanes.roomFor(itemOf("a"), rules)).toBe(0);
    expect(roomFor).toEqual([]);
    await finish("a1", "a2");
    await finish("a3");
    expect(roomFor).toEqual(["A/a"]);
  });

  test("bytes are bounded for everybody, and room is told when there is some", async () => {
    const { lanes, add, finish, roomFor } = createLanes();
    expect(add("a1", { bytes: 900 })).toBe(true);
    expect(add("b1", { bytes: 200 })).toBe(false);
    expect(lanes.size).toBe(1);
    await finish("a1");
    expect(roomFor).toEqual(["B/b"]);
    expect(add("b1", { bytes: 200 })).toBe(true);
  });

  test("a reservation that is given up makes room again", () => {
    const { lanes, add } = createLanes({ laneCapacity: 1 });
    expect(lanes.reserve(itemOf("a1"), rules)).toBe(true);
    expect(lanes.reserve(itemOf("b1"), rules)).toBe(true);
    lanes.release(itemOf("a1"));
    expect(lanes.size).toBe(1);
    expect(add("a2")).toBe(true);
  });

  test("what is forced in is taken beyond the limits, and counts", () => {
    const { lanes, add, started } = createLanes({ laneCapacity: 1, totalBytes: 1 });
    add("a1");
    lanes.force(itemOf("a2", 500), rules);
    lanes.force(itemOf("a3", 500), rules);
    expect(started).toEqual(["a1", "a2"]);
    expect(lanes.size).toBe(3);
    expect(lanes.roomFor(itemOf("a"), rules)).toBe(0);
    expect(add("b1")).toBe(false);
  });

  test("draining takes out what waits in one lane, and leaves what runs", async () => {
    const { lanes, add, started, finish } = createLanes();
    for (const name of ["a1", "a2", "a3", "a4", "b1", "b2", "b3"]) add(name);
    expect(lanes.drain("a").map(({ name }) => name)).toEqual(["a3", "a4"]);
    expect(lanes.drain("a")).toEqual([]);
    expect(lanes.drain("nobody")).toEqual([]);
    expect(lanes.size).toBe(5);
    await finish("a1", "a2", "b1");
    expect(started).toEqual(["a1", "a2", "b1", "b2", "b3"]);
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
    expect(lanes.size).toBe(0);
  });
});

describe("what is shared", () => {
  test("memory: one lane gets half of what is free, the next one half of the rest, and a newcomer always something", () => {
    const { add, lanes } = createLanes({ totalCapacity: 16, laneCapacity: 100 });
    const fill = (letter: string): number => {
      let count = 0;
      while (add(`${letter}${count}`)) count++;
      return count;
    };
    expect(fill("a")).toBe(8);
    expect(fill("b")).toBe(4);
    expect(fill("c")).toBe(2);
    expect(["d", "e", "f", "g"].map(fill)).toEqual([1, 1, 1, 1]);
    expect(lanes.size).toBe(18);
  });

  test("memory: an application with many endpoints gets no more of it than another with one", () => {
    const { add } = createLanes({ totalCapacity: 64, laneCapacity: 8 });
    const fill = (letters: string, applicationId: string): number => {
      let count = 0;
      for (const letter of letters) while (add(`${letter}${count}`, { applicationId })) count++;
      return count;
    };
    // Eight lanes could hold 64; they get half, and each one thing for those that would have nothing.
    expect(fill("abcdefgh", "many")).toBeLessThanOrEqual(32 + 8);
    expect(fill("z", "one")).toBe(8);
  });

  test("memory: large items leave half of the bytes for others, and half of the rest", async () => {
    const { lanes, add, finish, roomFor } = createLanes({ laneCapacity: 100 });
    const fill = (letters: string, applicationId: string): number => {
      let count = 0;
      for (const letter of letters) while (add(`${letter}${count}`, { applicationId, bytes: 100 })) count++;
      return count;
    };
    expect(fill("a", "A")).toBe(5);
    expect(lanes.roomFor(itemOf("a"), rules)).toBe(0);
    // Another lane of the same application gets what one with nothing in it always gets.
    expect(fill("b", "A")).toBe(1);
    expect(fill("c", "C")).toBe(2);
    await finish("a0", "a1");
    await finish("a2", "a3");
    expect(roomFor).toContain("A/a");
    expect(fill("d", "D")).toBe(3);
  });

  test("concurrency: an application whose receivers all hang leaves slots for another", () => {
    const { add, started } = createLanes({ totalConcurrency: 8, totalCapacity: 1_000 });
    for (const letter of "abcdefgh")
      for (const n of [1, 2]) add(`${letter}${n}`, { applicationId: "hanging" });
    expect(started.length).toBeLessThan(8);
    add("z1");
    expect(started.at(-1)).toBe("z1");
  });

  test("concurrency: with all slots taken, everybody who waits gets one in turn", async () => {
    const { add, started, finish } = createLanes({ totalConcurrency: 3, totalCapacity: 1_000 });
    for (const letter of "abcdef") for (const n of [1, 2, 3]) add(`${letter}${n}`);
    let done = 0;
    for (let turn = 0; turn < 9; turn++) await finish(started[done++]!);
    // Nine slots were freed: all six had one before anybody had his third.
    expect(new Set(started.map((name) => name.charAt(0))).size).toBe(6);
  });

  test("concurrency: a lane that waits for its rate does not keep a free slot from those behind it", async () => {
    const { add, started, finish } = createLanes(
      { totalConcurrency: 1 },
      { takeSlots: () => new Promise(() => undefined) },
    );
    const applicationId = "A";
    add("a1", { applicationId });
    add("b1", { applicationId, ratePerSecond: 1 });
    add("c1", { applicationId });
    expect(started).toEqual(["a1"]);
    await finish("a1");
    expect(started).toEqual(["a1", "c1"]);
  });
});

describe("a rate", () => {
  test("is asked for slot by slot, and what waits runs when its slot comes", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
    try {
      const asked: [string, number, number][] = [];
      let next = Date.now();
      const { add, started } = createLanes(
        { laneCapacity: 100 },
        {
          takeSlots: async (endpointId, rate, count) => {
            asked.push([endpointId, rate, count]);
            const first = Math.max(next, Date.now());
            next = first + (count * 1_000) / rate;
            return first;
          },
        },
      );
      const ratePerSecond = 20;
      for (let n = 0; n < 30; n++) expect(add(`a${n}`, { ratePerSecond, concurrency: 100 })).toBe(true);
      for (let ms = 0; ms < 1_000; ms++) {
        await vi.advanceTimersByTimeAsync(1);
        // The first slot is at once.
        expect(started.length).toBeLessThanOrEqual(1 + ((ms + 1) * ratePerSecond) / 1_000);
      }
      expect(started.length).toBeGreaterThanOrEqual(19);
      expect(
        asked.every(([endpointId, rate, count]) => endpointId === "a" && rate === 20 && count <= 2),
      ).toBe(true);
      await vi.advanceTimersByTimeAsync(1_000);
      expect(started).toHaveLength(30);
    } finally {
      vi.useRealTimers();
    }
  });

  test("keeps in memory what it sends in two seconds, and something always", () => {
    const { lanes, add } = createLanes(
      { laneCapacity: 1_000 },
      { takeSlots: () => new Promise(() => undefined) },
    );
    for (let n = 0; n < 10; n++) add(`a${n}`, { ratePerSecond: 3 });
    expect(lanes.size).toBe(6);
    expect(lanes.roomFor(itemOf("b"), { concurrency: 1, ratePerSecond: 0.1 })).toBe(1);
  });

  test("that cannot be asked for is asked for again", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      let tries = 0;
      const { add, started } = createLanes(
        {},
        {
          takeSlots: async () => {
            if (++tries < 3) throw new Error("the database is gone");
            return 0;
          },
        },
      );
      add("a1", { ratePerSecond: 5 });
      await vi.advanceTimersByTimeAsync(999);
      expect(started).toEqual([]);
      await vi.advanceTimersByTimeAsync(1_500);
      expect(started).toEqual(["a1"]);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("whatever is done with them", () => {
  type Step =
    | { readonly kind: "add" | "force"; readonly lane: number; readonly bytes: number }
    | { readonly kind: "reserveAndRelease" | "drain" | "ask"; readonly lane: number }
    | { readonly kind: "free" | "finish"; readonly pick: number };

  const lane = fc.nat(5);
  const steps = fc.array(
    fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant("add" as const),
          lane,
          bytes: fc.integer({ min: 1, max: 40 }),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({
          kind: fc.constant("force" as const),
          lane,
          bytes: fc.integer({ min: 1, max: 40 }),
        }),
      },
      {
        weight: 1,
        arbitrary: fc.record({ kind: fc.constantFrom("reserveAndRelease", "drain", "ask"), lane }),
      },
      { weight: 5, arbitrary: fc.record({ kind: fc.constantFrom("free", "finish"), pick: fc.nat() }) },
    ),
    { maxLength: 120 },
  );
  const scenes = fc.record({
    steps,
    concurrencies: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 6, maxLength: 6 }),
    rated: fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
    totalConcurrency: fc.integer({ min: 1, max: 8 }),
    laneCapacity: fc.integer({ min: 1, max: 6 }),
    totalCapacity: fc.integer({ min: 2, max: 20 }),
    totalBytes: fc.integer({ min: 20, max: 200 }),
  });

  test("the bounds hold, nothing is lost or runs twice, and everything runs in the end", async () => {
    await fc.assert(
      fc.asyncProperty(scenes, async ({ steps: all, concurrencies, rated, ...bounds }) => {
        const running = new Map<
          string,
          { item: Item; finish: () => void; freeSlot: () => void; hasSlot: boolean }
        >();
        const ran: string[] = [];
        const held = new Map<string, Item>();
        const waitingFor = new Set<string>();
        const told = new Set<string>();
        const inLane = (endpointId: string) =>
          [...held.values()].filter((item) => item.endpointId === endpointId).length;
        const slotsOf = (endpointId?: string) =>
          [...running.values()].filter(
            ({ item, hasSlot }) => hasSlot && (endpointId === undefined || item.endpointId === endpointId),
          ).length;
        const lanes = new Lanes<Item>({
          limits: bounds,
          run: (item, freeSlot) =>
            new Promise<void>((finish) => {
              ran.push(item.name);
              const entry = {
                item,
                finish,
                hasSlot: true,
                freeSlot: () => {
                  entry.hasSlot = false;
                  freeSlot();
                },
              };
              running.set(item.name, entry);
              expect(slotsOf()).toBeLessThanOrEqual(bounds.totalConcurrency);
              expect(slotsOf(item.endpointId)).toBeLessThanOrEqual(concurrencies[Number(item.endpointId)]!);
            }),
          onRoom: (endpointId) => {
            waitingFor.delete(endpointId);
            told.add(endpointId);
          },
          takeSlots: async () => 0,
          now: () => 1,
        });
        const rulesOf = (index: number): LaneRules => ({
          concurrency: concurrencies[index]!,
          ratePerSecond: rated[index] ? 1e9 : null,
        });
        let made = 0;
        const make = (index: number, bytes: number): Item => ({
          endpointId: String(index),
          applicationId: String(index % 3),
          bytes,
          name: String(made++),
        });
        let drained = 0;
        const step = async (next: Step): Promise<void> => {
          if ("pick" in next) {
            const names = [...running.keys()];
            const name = names[next.pick % names.length];
            if (name === undefined) return;
            const entry = running.get(name)!;
            if (next.kind === "free") {
              if (entry.hasSlot) entry.freeSlot();
              return;
            }
            running.delete(name);
            held.delete(name);
            entry.finish();
            await new Promise(setImmediate);
            return;
          }
          const item = make(next.lane, "bytes" in next ? next.bytes : 1);
          if (next.kind === "drain") {
            for (const { name } of lanes.drain(item.endpointId)) {
              expect(held.delete(name)).toBe(true);
              drained++;
            }
          } else if (next.kind === "ask") {
            // Who hears that there is room looks for what waits.
            if (lanes.roomFor(item, rulesOf(next.lane)) > 0) waitingFor.delete(item.endpointId);
            else waitingFor.add(item.endpointId);
          } else if (next.kind === "force") {
            held.set(item.name, item);
            lanes.force(item, rulesOf(next.lane));
          } else {
            const sizeBefore = lanes.size;
            const before = inLane(item.endpointId);
            const bytesBefore = [...held.values()].reduce((sum, { bytes }) => sum + bytes, 0);
            if (!lanes.reserve(item, rulesOf(next.lane))) {
              // What was turned away for want of room in the lane is told of later.
              if (before > 0) waitingFor.add(item.endpointId);
              return;
            }
            expect(before).toBeLessThan(bounds.laneCapacity);
            expect(sizeBefore < bounds.totalCapacity || before === 0).toBe(true);
            expect(bytesBefore + item.bytes).toBeLessThanOrEqual(bounds.totalBytes);
            if (next.kind === "reserveAndRelease") {
              lanes.release(item);
            } else {
              held.set(item.name, item);
              lanes.push(item);
            }
          }
        };
        for (const next of all) {
          await step(next);
          expect(lanes.size).toBe(held.size);
          expect(lanes.running).toBe(running.size);
        }
        // Let everything end: whatever was kept has run, once.
        for (let rounds = 0; held.size > 0; rounds++) {
          expect(rounds).toBeLessThan(2_000);
          await new Promise(setImmediate);
          await step({ kind: "finish", pick: 0 });
        }
        expect(ran.length).toBe(new Set(ran).size);
        expect(lanes.size).toBe(0);
        expect(lanes.running).toBe(0);
        // Whoever found no room has been told of it since.
        expect([...waitingFor].filter((endpointId) => !told.has(endpointId))).toEqual([]);
        expect(drained + ran.length).toBeLessThanOrEqual(made);
      }),
      { numRuns: 300 },
    );
  });
});
