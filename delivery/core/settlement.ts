import { nextAttemptAt } from "./backoff.ts";
import type { Delivery } from "./delivery.ts";
import type { Verdict } from "./dialect.ts";
import type { EffectiveRules } from "./effective-rules.ts";

/** Where a delivery stands after an attempt, given back to whoever claims it next. */
export function settleAttempt(
  delivery: Delivery,
  verdict: Verdict,
  rules: Pick<EffectiveRules, "retryDelaysMs" | "jitter" | "whenExhausted">,
  now: number,
  random: number,
): Delivery {
  const attempts = delivery.attempts + 1;
  const settled = {
    ...delivery,
    attempts,
    nextAttemptAt: null,
    leasedBy: null,
    trigger: "scheduled",
  } as const;
  if (verdict.kind === "succeeded") return { ...settled, state: "succeeded" };
  if (verdict.kind === "retry") {
    const { retryDelaysMs, jitter } = rules;
    const next = nextAttemptAt({ retryDelaysMs, jitter, attempts, afterMs: verdict.afterMs, now, random });
    if (next !== null) return { ...settled, state: "pending", nextAttemptAt: next };
  }
  // In a strict order what comes behind must not overtake it: it keeps its place until somebody skips or resends it.
  if (delivery.place !== null && rules.whenExhausted === "block") return { ...settled, state: "pending" };
  return { ...settled, state: "failed" };
}

/** A delivery of a disabled endpoint ends without a request: it is sent again by hand once the endpoint is enabled. */
export function settleDisabled(delivery: Delivery): Delivery {
  return { ...delivery, state: "failed", nextAttemptAt: null, leasedBy: null, trigger: "scheduled" };
}
