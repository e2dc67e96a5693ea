import type { Answer, Verdict } from "./dialect.ts";
import { healthyState, type EndpointState } from "./endpoint-state.ts";

/** Failures in a row after which the breaker opens. */
export const failuresToOpen = 10;
/** How long it stays open the first time; each further opening of a run lasts twice as long. */
export const firstOpenMs = 5_000;
/** The longest that it stays open before the next probe. */
export const maxOpenMs = 5 * 60_000;

/** `halfOpen`: the time to stay open is over, and probes decide. */
export type BreakerPhase = "closed" | "open" | "halfOpen";

export function phaseOf({ openUntil }: EndpointState, now: number): BreakerPhase {
  if (openUntil === null) return "closed";
  return openUntil > now ? "open" : "halfOpen";
}

/** What an attempt has shown. */
interface Shown {
  readonly verdict: Verdict;
  readonly answer: Answer;
  /** Whether it was made to find out about an open breaker's endpoint. */
  readonly isProbe: boolean;
  readonly now: number;
  /** From 0 to 1: probes of many endpoints that failed together are spread by 20 %. */
  readonly random: number;
}

/**
 * What an endpoint's breaker makes of an attempt. Only what speaks of the receiver as a whole counts: no answer, 5xx, 408
 * and 429. A 400 says that this message was wrong, not that the next one will be; to a probe it says that the receiver is
 * back.
 *
 * @returns the same object when nothing changes
 */
export function afterAttempt(
  state: EndpointState,
  { verdict, answer, isProbe, now, random }: Shown,
): EndpointState {
  if (verdict.kind === "succeeded") return isHealthy(state) ? state : healthyState;
  const failingSince = state.failingSince ?? now;
  if (!speaksOfReceiver(answer)) {
    if (isProbe) return { ...healthyState, failingSince };
    return state.failingSince === null ? { ...state, failingSince } : state;
  }
  const failures = state.failures + 1;
  // Requests that were under way when it opened say nothing new.
  const isOld = state.openUntil !== null && !isProbe;
  if (isOld || (!isProbe && failures < failuresToOpen)) return { ...state, failingSince, failures };
  const openings = state.openings + 1;
  const openMs = openMsOf(openings) * (0.9 + 0.2 * random);
  return { failingSince, failures, openings, openUntil: now + Math.round(openMs) };
}

/** How long the breaker stays open the n-th time of a run. */
export function openMsOf(openings: number): number {
  return Math.min(firstOpenMs * 2 ** (openings - 1), maxOpenMs);
}

/** Whether an endpoint has failed without a break for so long that it is disabled. @param disableAfterMs null for never */
export function isFailingTooLong(
  { failingSince }: EndpointState,
  now: number,
  disableAfterMs: number | null,
): boolean {
  return disableAfterMs !== null && failingSince !== null && now - failingSince >= disableAfterMs;
}

function isHealthy({ failingSince, openUntil, failures }: EndpointState): boolean {
  return failingSince === null && openUntil === null && failures === 0;
}

function speaksOfReceiver(answer: Answer): boolean {
  if (answer.kind === "error") return true;
  return answer.status >= 500 || answer.status === 408 || answer.status === 429;
}
