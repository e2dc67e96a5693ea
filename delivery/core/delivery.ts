/**
 * One message on its way to one endpoint.
 *
 *   pending --(2xx)--> succeeded
 *   pending --(failure, attempts left)--> pending, `nextAttemptAt` later
 *   pending --(failure, none left)--> failed
 *   failed | succeeded --(resend)--> pending
 *
 * `leasedBy` says which node has it in memory. In a strict order only the first pending delivery is due; one that is
 * first and not due has used its attempts up and waits to be skipped or resent by hand.
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
  /** The number of the node that holds it; null while none does. */
  readonly leasedBy: number | null;
  /** What asks for the next attempt: the schedule, or a resend. */
  readonly trigger: AttemptTrigger;
  /** Its place in a strict order; null outside of one. */
  readonly place: DeliveryPlace | null;
}

/** A place in a strict order. */
interface DeliveryPlace {
  /** Empty where the endpoint as a whole is in order, and for messages without a key. */
  readonly key: string;
  readonly sequence: number;
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
