import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createScheduleClock } from "./schedule-clock.ts";

const hour = 3_600_000;

/** A clock over a wall clock that can be set, and time that passes for both. */
function createScene() {
  let wall = 1_000 * hour;
  let monotonic = 5;
  const clock = createScheduleClock(
    () => wall,
    () => monotonic,
  );
  return {
    clock,
    wall: () => wall,
    pass: (ms: number) => {
      wall += ms;
      monotonic += ms;
    },
    set: (byMs: number) => (wall += byMs),
  };
}

describe("the schedule's clock", () => {
  test("is the wall clock as long as that goes on", () => {
    const { clock, wall, pass } = createScene();
    for (const ms of [0, 1, 250, hour]) {
      pass(ms);
      expect(clock.now()).toBe(wall());
    }
  });

  test("goes on at its own pace when the wall clock is set back by an hour, until that has caught up", () => {
    const { clock, wall, pass, set } = createScene();
    const start = clock.now();
    set(-hour);
    for (let minutes = 1; minutes <= 59; minutes++) {
      pass(60_000);
      expect(clock.now()).toBe(start + minutes * 60_000);
    }
    set(2 * hour);
    expect(clock.now()).toBe(wall());
  });

  test("waits for a wall clock that was set back by a little", () => {
    const { clock, wall, pass, set } = createScene();
    const start = clock.now();
    set(-400);
    pass(300);
    expect(clock.now()).toBe(start);
    pass(300);
    expect(clock.now()).toBe(wall());
  });

  test("goes by the database's clock where it is told of it, and not back for that either", () => {
    const { clock, wall, pass } = createScene();
    clock.setOffset(5 * hour);
    expect(clock.now()).toBe(wall() + 5 * hour);
    const ahead = clock.now();
    clock.setOffset(0);
    pass(1_000);
    expect(clock.now()).toBe(ahead + 1_000);
  });

  test("goes on from where another clock has come to, until the wall clock has caught up", () => {
    const { clock, wall, pass, set } = createScene();
    const start = clock.now();
    clock.notBefore(start - hour);
    expect(clock.now()).toBe(start);
    clock.notBefore(start + hour);
    pass(500);
    expect(clock.now()).toBe(start + hour + 500);
    set(2 * hour);
    expect(clock.now()).toBe(wall());
  });

  test("never goes back however the wall clock is set, and goes on within a second of the last setting", () => {
    const steps = fc.array(
      fc.record({
        passMs: fc.nat(5_000),
        setMs: fc.oneof(fc.integer({ min: -hour, max: hour }), fc.integer({ min: -1_500, max: 1_500 })),
      }),
    );
    fc.assert(
      fc.property(steps, (all) => {
        const { clock, pass, set } = createScene();
        let last = clock.now();
        for (const { passMs, setMs } of all) {
          set(setMs);
          pass(passMs);
          const now = clock.now();
          expect(now).toBeGreaterThanOrEqual(last);
          last = now;
        }
        pass(1_001);
        expect(clock.now()).toBeGreaterThan(last);
      }),
    );
  });
});
