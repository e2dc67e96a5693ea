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
  /** Where endpoints take messages in the order of a key: whose turn it is. Null for those without one. */
  readonly orderingKey: string | null;
  /** The JSON text exactly as published: it is never parsed and printed again. Null once it was expunged. */
  readonly payload: Uint8Array | null;
  /** When the payload is expunged; null for the service's retention. */
  readonly payloadExpiresAt: number | null;
  readonly createdAt: number;
}

/** A message whose payload is there to be sent. */
export interface FullMessage extends Message {
  readonly payload: Uint8Array;
}

export function isFull(message: Message): message is FullMessage {
  return message.payload !== null;
}
