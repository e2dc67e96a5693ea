import { nextAttemptAt } from "./backoff.ts";
import type { Delivery } from "./delivery.ts";
import type { Dialect, Verdict } from "./dialect.ts";

/** Where a delivery stands after an attempt, given back to whoever claims it next. */
export function settleAttempt(
  delivery: Delivery,
  verdict: Verdict,
  dialect: Pick<Dialect, "retryDelaysMs" | "jitter">,
  now: number,
  random: number,
): Delivery {
  const attempts = delivery.attempts + 1;
  const settled = {
    ...delivery,
    attempts,
    nextAttemptAt: null,
    leasedUntil: null,
    trigger: "scheduled",
  } as const;
  if (verdict.kind === "succeeded") return { ...settled, state: "succeeded" };
  if (verdict.kind !== "retry") return { ...settled, state: "failed" };
  const { retryDelaysMs, jitter } = dialect;
  const next = nextAttemptAt({ retryDelaysMs, jitter, attempts, afterMs: verdict.afterMs, now, random });
  return next === null
    ? { ...settled, state: "failed" }
    : { ...settled, state: "pending", nextAttemptAt: next };
}

/** A delivery of a disabled endpoint ends without a request: it is sent again by hand once the endpoint is enabled. */
export function settleDisabled(delivery: Delivery): Delivery {
  return { ...delivery, state: "failed", nextAttemptAt: null, leasedUntil: null, trigger: "scheduled" };
}
