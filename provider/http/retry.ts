/**
 * What a request may be tried again for.
 *
 * - `safe`: doing it twice is doing it once (reads, whole updates, deletes). Every passing failure is tried again.
 * - `unsent`: a create. It is tried again only where it certainly did not happen: the connection was never made, or
 *   the vendor turned it away before acting on it (see {@link outcomeOf}).
 */
export type RetrySafety = "safe" | "unsent";

/** How long and how often a request is tried. */
export interface RetryLimits {
  /** Tries in all, the first included. */
  readonly maxAttempts: number;
  /** The first wait is drawn from zero to this; each further one from twice the range before. */
  readonly baseDelayMs: number;
  readonly maxDelayMs: number;
  /** From the first try's start to the last answer's end, waits included. */
  readonly totalTimeoutMs: number;
}

/** Five tries within two minutes, waiting at most 0.25, 0.5, 1 and 2 s unless the vendor asks for more. */
export const defaultRetryLimits: RetryLimits = {
  maxAttempts: 5,
  baseDelayMs: 250,
  maxDelayMs: 10_000,
  totalTimeoutMs: 120_000,
};

/**
 * Whether a request that failed changed something.
 *
 * - `unsent`: it never left.
 * - `rejected`: the vendor answered that it did not do it.
 * - `unknown`: it may have happened, and whoever cannot do it twice has to look.
 */
export type Outcome = "unsent" | "rejected" | "unknown";

/** How one try failed. */
export type Failure =
  /** An answer that is not a success. */
  | { readonly kind: "status"; readonly status: number; readonly retryAfterMs: number | null }
  /** A success whose content makes no sense: trying again would bring the same. */
  | { readonly kind: "answer" }
  /** No whole answer. `sent` says whether the request was on its way. */
  | { readonly kind: "connection"; readonly sent: boolean };

const passingStatuses: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/**
 * A 4xx is a refusal. So is a 503 with Retry-After: a server that names the time to come back has turned the request
 * away (RFC 9110, 15.6.4). Every other 5xx, a 503 without that header included, may come from a proxy that lost the
 * answer of a server that did act. A redirect was answered by nobody who acts.
 */
export function outcomeOf(failure: Failure): Outcome {
  switch (failure.kind) {
    case "status":
      return failure.status < 500 || (failure.status === 503 && failure.retryAfterMs !== null)
        ? "rejected"
        : "unknown";
    case "answer":
      return "unknown";
    case "connection":
      return failure.sent ? "unknown" : "unsent";
  }
}

/** What {@link retryDelayMs} decides from. */
export interface RetryQuestion {
  readonly safety: RetrySafety;
  readonly failure: Failure;
  /** Tries made so far, at least 1. */
  readonly attempts: number;
  /** Since the first try's start. */
  readonly elapsedMs: number;
  readonly limits: RetryLimits;
  /** From 0 up to, but not including, 1. */
  readonly random: () => number;
}

/**
 * How long to wait before the next try, or `null` when there is none: the failure will not pass, doing it again is
 * not safe, or tries or time are used up. Full jitter, and never sooner than the vendor's Retry-After.
 */
export function retryDelayMs(question: RetryQuestion): number | null {
  const { failure, limits, attempts } = question;
  const passing =
    failure.kind === "connection" || (failure.kind === "status" && passingStatuses.has(failure.status));
  if (!passing) return null;
  if (question.safety === "unsent" && outcomeOf(failure) === "unknown") return null;
  if (attempts >= limits.maxAttempts) return null;
  const asked = failure.kind === "status" ? (failure.retryAfterMs ?? 0) : 0;
  const range = Math.min(limits.maxDelayMs, limits.baseDelayMs * 2 ** (attempts - 1));
  const delayMs = asked + Math.floor(question.random() * range);
  return question.elapsedMs + delayMs < limits.totalTimeoutMs ? delayMs : null;
}

/**
 * The wait that a Retry-After header asks for, in milliseconds: delta-seconds or an HTTP date (RFC 9110, 10.2.3). A
 * date in the past is 0; what is neither is `null`.
 */
export function parseRetryAfter(value: string | null | undefined, now: number): number | null {
  const text = value?.trim() ?? "";
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  // Date.parse is lenient: "1.5" is a date to it, and a date without a zone is local.
  if (!/^[A-Za-z]{3,9}, .* GMT$/.test(text)) return null;
  const date = Date.parse(text);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}
