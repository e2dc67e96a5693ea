/**
 * One message on its way to one endpoint.
 *
 *   pending --(2xx)--> succeeded
 *   pending --(failure, attempts left)--> pending, `nextAttemptAt` later
 *   pending --(failure, none left)--> failed
 *   failed | succeeded --(resend)--> pending
 *
 * `leasedUntil` says that a node is busy with it (or holds it in memory) until then.
 */
export type DeliveryState = "pending" | "succeeded" | "failed";

export interface Delivery {
  readonly messageId: string;
  readonly endpointId: string;
  readonly applicationId: string;
  readonly state: DeliveryState;
  /** Attempts made so far, since the last resend. */
  readonly attempts: number;
  /** When the next attempt is due; null when none is. */
  readonly nextAttemptAt: number | null;
  readonly leasedUntil: number | null;
  /** What asks for the next attempt: the schedule, or a resend. */
  readonly trigger: AttemptTrigger;
}

export type AttemptTrigger = "scheduled" | "manual";

/** One request that was made (or could not be), and what came of it. */
export interface Attempt {
  /** `atmpt_` and a time-ordered id. */
  readonly id: string;
  readonly messageId: string;
  readonly endpointId: string;
  readonly applicationId: string;
  /** The URL as requested. */
  readonly url: string;
  readonly succeeded: boolean;
  /** The HTTP status; 0 when no answer came. */
  readonly responseStatusCode: number;
  /** The answer's first bytes as text, or why there was none. */
  readonly response: string;
  readonly durationMs: number;
  readonly trigger: AttemptTrigger;
  readonly startedAt: number;
}
