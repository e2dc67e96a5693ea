/** An accepted event, as published. */
export interface Message {
  /** `msg_` and a time-ordered id: the same across all attempts. */
  readonly id: string;
  readonly applicationId: string;
  readonly eventType: string;
  /** The publisher's own id for the event, unique in the application. */
  readonly eventId: string | null;
  readonly channels: readonly string[] | null;
  readonly tags: readonly string[];
  /** The JSON text exactly as published: it is never parsed and printed again. */
  readonly payload: Uint8Array;
  readonly createdAt: number;
}
