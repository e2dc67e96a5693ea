import type { Answer, Verdict } from "./dialect.ts";

/** Statuses that ask for patience, and whose Retry-After is followed. */
const busyStatuses = new Set([429, 502, 503, 504]);

/**
 * What an answer means by the Standard Webhooks specification: 2xx has succeeded, 410 disables the endpoint, anything
 * else (a redirect too: it is not followed) is tried again, after a busy answer's Retry-After at the soonest.
 */
export function judgeAnswer(answer: Answer): Verdict {
  if (answer.kind === "error") return { kind: "retry", afterMs: null };
  if (answer.status >= 200 && answer.status < 300) return { kind: "succeeded" };
  if (answer.status === 410) return { kind: "disable" };
  return { kind: "retry", afterMs: busyStatuses.has(answer.status) ? answer.retryAfterMs : null };
}
