import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { defaultRetryLimits, outcomeOf, parseRetryAfter, retryDelayMs, type Failure } from "./retry.ts";

const status = (code: number, retryAfterMs: number | null = null): Failure => ({
  kind: "status",
  status: code,
  retryAfterMs,
});
const refused: Failure = { kind: "connection", sent: false };
const lost: Failure = { kind: "connection", sent: true };

function delay(failure: Failure, given: Partial<Parameters<typeof retryDelayMs>[0]> = {}): number | null {
  return retryDelayMs({
    safety: "safe",
    failure,
    attempts: 1,
    elapsedMs: 0,
    limits: defaultRetryLimits,
    random: () => 0.5,
    ...given,
  });
}

describe("outcomeOf()", () => {
  test("knows that a request that never left, or that the vendor refused, did nothing", () => {
    expect(outcomeOf(refused)).toBe("unsent");
    for (const failure of [status(400), status(404), status(429), status(302), status(503, 1000)]) {
      expect(outcomeOf(failure)).toBe("rejected");
    }
  });

  test("does not claim to know about a lost answer, a server error or an answer without sense", () => {
    const doubtful = [lost, status(500), status(502), status(504), status(503), { kind: "answer" } as const];
    for (const failure of doubtful) expect(outcomeOf(failure)).toBe("unknown");
  });
});

describe("retryDelayMs()", () => {
  test("tries what is safe again after every passing failure", () => {
    for (const failure of [refused, lost, status(429), status(502), status(503), status(504)]) {
      expect(delay(failure)).toBe(125);
    }
  });

  test("does not repeat what will not pass", () => {
    for (const failure of [status(400), status(401), status(404), status(500), { kind: "answer" } as const]) {
      expect(delay(failure)).toBeNull();
    }
  });

  test("repeats a create only where it certainly did not happen", () => {
    const unsent = (failure: Failure) => delay(failure, { safety: "unsent" });
    expect(unsent(refused)).toBe(125);
    expect(unsent(status(429))).toBe(125);
    expect(unsent(status(503, 1000))).toBe(1125);
    for (const failure of [lost, status(503), status(502), status(504)]) expect(unsent(failure)).toBeNull();
  });

  test("stops at the last attempt and where the wait would pass the total time", () => {
    expect(delay(refused, { attempts: 4 })).not.toBeNull();
    expect(delay(refused, { attempts: 5 })).toBeNull();
    expect(delay(status(429, 119_000))).toBe(119_125);
    expect(delay(status(429, 119_000), { elapsedMs: 2_000 })).toBeNull();
    expect(delay(status(429, 3_600_000))).toBeNull();
  });

  test("waits at random, never sooner than asked and never past the range", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 0, max: 60_000 }),
        (random, attempts, askedMs) => {
          const waited = delay(status(429, askedMs), { random: () => random, attempts });
          expect(waited).toBeGreaterThanOrEqual(askedMs);
          expect(waited).toBeLessThanOrEqual(askedMs + 250 * 2 ** (attempts - 1));
        },
      ),
    );
  });
});

describe("parseRetryAfter()", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");

  test("reads seconds and HTTP dates", () => {
    expect(parseRetryAfter("0", now)).toBe(0);
    expect(parseRetryAfter(" 120 ", now)).toBe(120_000);
    expect(parseRetryAfter("Thu, 01 Jan 2026 00:00:30 GMT", now)).toBe(30_000);
    expect(parseRetryAfter("Thursday, 01-Jan-26 00:00:30 GMT", now)).toBe(30_000);
  });

  test("takes a date in the past as now", () => {
    expect(parseRetryAfter("Wed, 31 Dec 2025 23:59:00 GMT", now)).toBe(0);
  });

  test.each([undefined, null, "", "soon", "-1", "1.5", "2026-01-01"])("does not guess at %j", (value) => {
    expect(parseRetryAfter(value, now)).toBeNull();
  });
});
