/** The longest wait that a receiver's Retry-After can ask for: 24 hours. */
export const maxRetryAfterMs = 24 * 60 * 60 * 1000;

/**
 * When to try again after a failed attempt; null when that was the last one.
 *
 * @param input `attempts`: made so far, the failed one counted; `afterMs`: what the receiver asked for: the next attempt
 * comes no sooner, but at most 24 hours are granted; `random`: from 0 to 1
 */
export function nextAttemptAt(input: {
  retryDelaysMs: readonly number[];
  jitter: number;
  attempts: number;
  afterMs: number | null;
  now: number;
  random: number;
}): number | null {
  const delayMs = input.retryDelaysMs[input.attempts - 1];
  if (delayMs === undefined) return null;
  const variedMs = delayMs * (1 + input.jitter * (2 * input.random - 1));
  const askedMs = Math.min(input.afterMs ?? 0, maxRetryAfterMs);
  return input.now + Math.round(Math.max(variedMs, askedMs));
}

/**
 * What a Retry-After header asks for, in milliseconds: a number of seconds or an HTTP date (RFC 9110, section 10.2.3).
 * Null when it is missing or says neither.
 */
export function parseRetryAfter(value: string | undefined, now: number): number | null {
  const text = value?.trim() ?? "";
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  // Dates begin with a weekday; Date.parse alone would take "-5" and "1.5" for dates.
  const time = /^(mon|tue|wed|thu|fri|sat|sun)/i.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(time) ? null : Math.max(0, time - now);
}
