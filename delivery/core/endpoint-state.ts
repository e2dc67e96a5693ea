/**
 * What delivery has learned about an endpoint: its breaker.
 *
 *   closed --(failures in a row)--> open --(`openUntil` is over)--> half-open --(a success)--> closed
 *                                     ^---------------------(a failure, for longer)------'
 */
export interface EndpointState {
  /** When the present run of failures began; null after a success. */
  readonly failingSince: number | null;
  /** Failed attempts in a row that speak of the receiver as a whole. */
  readonly failures: number;
  /** How often the breaker has opened in this run: each time for longer. */
  readonly openings: number;
  /** Until when nothing is sent; from then on one probe at a time. Null while closed. */
  readonly openUntil: number | null;
}

/** An endpoint that nothing is known against. */
export const healthyState: EndpointState = { failingSince: null, failures: 0, openings: 0, openUntil: null };
