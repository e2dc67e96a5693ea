import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  afterAttempt,
  failuresToOpen,
  firstOpenMs,
  isFailingTooLong,
  maxOpenMs,
  openMsOf,
  phaseOf,
} from "./breaker.ts";
import type { Answer } from "./dialect.ts";
import { healthyState, type EndpointState } from "./endpoint-state.ts";
import { judgeAnswer } from "./verdict.ts";

const now = 1_000_000;
const noAnswer: Answer = { kind: "error", reason: "connection refused" };

function response(status: number): Answer {
  return { kind: "response", status, retryAfterMs: null };
}

/** The state after an attempt, by the rules of Standard Webhooks. */
function after(
  state: EndpointState,
  answer: Answer,
  { at = now, isProbe = false, random = 0.5 }: { at?: number; isProbe?: boolean; random?: number } = {},
): EndpointState {
  return afterAttempt(state, { verdict: judgeAnswer(answer), answer, isProbe, now: at, random });
}

function afterMany(count: number, answer: Answer, state = healthyState): EndpointState {
  for (let done = 0; done < count; done++) state = after(state, answer);
  return state;
}

describe("afterAttempt()", () => {
  test.each([noAnswer, response(500), response(503), response(408), response(429)])(
    "opens after as many failures in a row of the kind %j",
    (answer) => {
      const almost = afterMany(failuresToOpen - 1, answer);
      expect(almost).toEqual({
        failingSince: now,
        failures: failuresToOpen - 1,
        openings: 0,
        openUntil: null,
      });
      expect(after(almost, answer, { at: now + 7 })).toEqual({
        failingSince: now,
        failures: failuresToOpen,
        openings: 1,
        openUntil: now + 7 + firstOpenMs,
      });
    },
  );

  test.each([302, 400, 401, 404, 410, 422])("stays closed whatever many answers %i come", (status) => {
    expect(afterMany(100, response(status))).toEqual({ ...healthyState, failingSince: now });
  });

  test("a success closes it, whatever was before", () => {
    const open = afterMany(failuresToOpen, noAnswer);
    expect(after(open, response(200))).toBe(healthyState);
    expect(after({ ...healthyState, failingSince: 5 }, response(200))).toBe(healthyState);
  });

  test("changes nothing where nothing is new", () => {
    expect(after(healthyState, response(204))).toBe(healthyState);
    const failing = after(healthyState, response(404));
    expect(after(failing, response(404), { at: now + 1 })).toBe(failing);
  });

  test("what was under way when it opened neither keeps it open for longer nor opens it again", () => {
    const open = afterMany(failuresToOpen, noAnswer);
    for (const at of [now + 1, now + firstOpenMs * 3]) {
      expect(after(open, noAnswer, { at })).toEqual({ ...open, failures: failuresToOpen + 1 });
    }
  });

  test("each probe that fails keeps it open for twice as long, up to a bound", () => {
    let state = afterMany(failuresToOpen, noAnswer);
    const lengths: number[] = [];
    for (let probes = 0; probes < 10; probes++) {
      const at = state.openUntil!;
      state = after(state, response(500), { at, isProbe: true });
      lengths.push(state.openUntil! - at);
    }
    expect(lengths.slice(0, 3)).toEqual([2 * firstOpenMs, 4 * firstOpenMs, 8 * firstOpenMs]);
    expect(lengths.at(-1)).toBe(maxOpenMs);
  });

  test("a probe that is refused says that the receiver is back, and leaves since when nothing succeeds", () => {
    const open = afterMany(failuresToOpen, noAnswer);
    expect(after(open, response(400), { at: open.openUntil!, isProbe: true })).toEqual({
      ...healthyState,
      failingSince: now,
    });
  });

  test("whatever comes: failures in a row open it, only a probe or a success moves it then, and never into the past", () => {
    const answers = fc.constantFrom(noAnswer, response(500), response(200), response(404));
    fc.assert(
      fc.property(
        fc.array(fc.record({ answer: answers, waitMs: fc.nat(400_000), isProbe: fc.boolean() })),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (attempts, random) => {
          let state = healthyState;
          let at = now;
          let inARow = 0;
          for (const { answer, waitMs, isProbe: wantsProbe } of attempts) {
            at += waitMs;
            const isProbe = wantsProbe && phaseOf(state, at) === "halfOpen";
            const before = state;
            state = after(before, answer, { at, isProbe, random });
            const { kind } = judgeAnswer(answer);
            const speaks = answer.kind === "error" || answer.status >= 500;
            if (kind === "succeeded" || (isProbe && !speaks)) inARow = 0;
            else if (speaks) inARow++;
            expect(state.openUntil !== null).toBe(inARow >= failuresToOpen);
            expect(state.failingSince === null).toBe(
              kind === "succeeded" || (before === healthyState && state === before),
            );
            if (state.openUntil !== before.openUntil && state.openUntil !== null) {
              const openMs = state.openUntil - at;
              expect(openMs).toBeGreaterThanOrEqual(0.9 * firstOpenMs);
              expect(openMs).toBeLessThanOrEqual(1.1 * maxOpenMs);
              expect(state.openings).toBe(before.openings + 1);
            }
          }
        },
      ),
    );
  });
});

describe("phaseOf()", () => {
  test("is half-open once the time to stay open is over", () => {
    expect(phaseOf(healthyState, now)).toBe("closed");
    expect(phaseOf({ ...healthyState, openUntil: now + 1 }, now)).toBe("open");
    expect(phaseOf({ ...healthyState, openUntil: now }, now)).toBe("halfOpen");
  });
});

describe("openMsOf()", () => {
  test("doubles with each opening, up to five minutes", () => {
    expect([1, 2, 3, 6, 7, 8, 1_000].map(openMsOf)).toEqual([
      5_000, 10_000, 20_000, 160_000, 300_000, 300_000, 300_000,
    ]);
  });
});

describe("isFailingTooLong()", () => {
  test("once nothing has succeeded for the whole time; never where no time is set", () => {
    const failing = { ...healthyState, failingSince: now };
    expect(isFailingTooLong(failing, now + 99, 100)).toBe(false);
    expect(isFailingTooLong(failing, now + 100, 100)).toBe(true);
    expect(isFailingTooLong(failing, now + 1e12, null)).toBe(false);
    expect(isFailingTooLong(healthyState, now + 1e12, 100)).toBe(false);
  });
});
