import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NumberList, percentile, toLatency, toSpread } from "./statistics.ts";

describe("percentile()", () => {
  test("is the value that so many do not exceed, one that was measured", () => {
    const hundred = Array.from({ length: 100 }, (_, index) => index + 1);
    expect(percentile(hundred, 0.5)).toBe(50);
    expect(percentile(hundred, 0.99)).toBe(99);
    expect(percentile(hundred, 0.991)).toBe(100);
    expect(percentile(hundred, 1)).toBe(100);
    expect(percentile([7], 0.5)).toBe(7);
    expect(percentile([1, 2, 3], 0.5)).toBe(2);
    expect(percentile([], 0.5)).toBeNaN();
  });

  test("has at least its share of the values below or at it, and less without it", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1 }),
        fc.constantFrom(0.01, 0.5, 0.95, 0.99, 1),
        (values, share) => {
          const sorted = Float64Array.from(values).sort();
          const found = percentile(sorted, share);
          const atMost = values.filter((value) => value <= found).length;
          const below = values.filter((value) => value < found).length;
          expect(values).toContain(found);
          expect(atMost / values.length).toBeGreaterThanOrEqual(share);
          expect(below).toBeLessThan(share * values.length);
        },
      ),
    );
  });
});

test("toLatency() sorts by number", () => {
  expect(toLatency(Float64Array.from([100, 9, 20]))).toEqual({
    count: 3,
    p50: 20,
    p95: 100,
    p99: 100,
    max: 100,
  });
});

test("toSpread() has the median of odd and of even numbers of rounds", () => {
  expect(toSpread([30, 4, 10])).toEqual({ median: 10, min: 4, max: 30 });
  expect(toSpread([1, 2, 4, 30])).toEqual({ median: 3, min: 1, max: 30 });
});

test("NumberList keeps what is appended beyond its first room, and what is replaced", () => {
  const list = new NumberList();
  for (let index = 0; index < 5_000; index += 1) list.push(index);
  list.set(4_999, -1);
  list.set(5_000, -2);
  const values = list.toArray();
  expect(values.length).toBe(5_000);
  expect([values[0], values[1_024], values[4_998], values[4_999]]).toEqual([0, 1_024, 4_998, -1]);
});
