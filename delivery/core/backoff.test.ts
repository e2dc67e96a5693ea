import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { maxRetryAfterMs, nextAttemptAt, parseRetryAfter } from "./backoff.ts";

const schedule = { retryDelaysMs: [5_000, 300_000], jitter: 0.2, afterMs: null, now: 1_000_000, random: 0.5 };

describe("nextAttemptAt()", () => {
  test("follows the schedule attempt by attempt, and ends with it", () => {
    expect(nextAttemptAt({ ...schedule, attempts: 1 })).toBe(1_005_000);
    expect(nextAttemptAt({ ...schedule, attempts: 2 })).toBe(1_300_000);
    expect(nextAttemptAt({ ...schedule, attempts: 3 })).toBeNull();
  });

  test("varies a wait by the jitter both ways", () => {
    expect(nextAttemptAt({ ...schedule, attempts: 1, random: 0 })).toBe(1_004_000);
    expect(nextAttemptAt({ ...schedule, attempts: 1, random: 1 })).toBe(1_006_000);
  });

  test("is never sooner than what the receiver asked for, up to a day", () => {
    expect(nextAttemptAt({ ...schedule, attempts: 1, afterMs: 60_000 })).toBe(1_060_000);
    expect(nextAttemptAt({ ...schedule, attempts: 1, afterMs: 1 })).toBe(1_005_000);
    expect(nextAttemptAt({ ...schedule, attempts: 1, afterMs: 1e12 })).toBe(1_000_000 + maxRetryAfterMs);
  });

  test("whatever the schedule says, the next attempt is within the jitter and not in the past", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(1e9), { minLength: 1 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (retryDelaysMs, jitter, random) => {
          const at = nextAttemptAt({ retryDelaysMs, jitter, random, attempts: 1, afterMs: null, now: 0 })!;
          const delayMs = retryDelaysMs[0]!;
          expect(at).toBeGreaterThanOrEqual(Math.floor(delayMs * (1 - jitter)));
          expect(at).toBeLessThanOrEqual(Math.ceil(delayMs * (1 + jitter)));
        },
      ),
    );
  });
});

describe("parseRetryAfter()", () => {
  const now = Date.parse("2026-03-01T00:00:00Z");

  test.each([
    ["120", 120_000],
    [" 0 ", 0],
    ["Sun, 01 Mar 2026 00:01:00 GMT", 60_000],
    ["Sat, 28 Feb 2026 23:00:00 GMT", 0],
  ])('"%s" asks for %d ms', (value, expected) => {
    expect(parseRetryAfter(value, now)).toBe(expected);
  });

  test.each([undefined, "", "-5", "1.5", "soon", "99999999999", "Sunday or so"])(
    '"%s" asks for nothing',
    (value) => {
      expect(parseRetryAfter(value, now)).toBeNull();
    },
  );
});
