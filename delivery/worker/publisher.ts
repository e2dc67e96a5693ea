import type { Application } from "../core/application.ts";
import type { HookOutcome } from "../core/dialect.ts";
import type { Json } from "../core/json.ts";
import type { Message } from "../core/message.ts";
import type { NewKeptAnswer, Tx } from "../store/store.ts";

/** An event to publish. */
export interface NewEvent {
  readonly eventType: string;
  /** The JSON text as it came. */
  readonly payload: Uint8Array;
  /** The payload parsed, where the caller has it at hand; parsed here otherwise. */
  readonly json?: Json;
  readonly eventId?: string | null;
  readonly channels?: readonly string[] | null;
  readonly tags?: readonly string[];
  /** Whose turn it is, at endpoints that take messages in the order of a key. */
  readonly orderingKey?: string | null;
  /** When the payload is expunged; null for the service's retention. */
  readonly payloadExpiresAt?: number | null;
}

export interface PublishOptions {
  /** The answer to keep under an `Idempotency-Key`, in the very transaction that stores the message. */
  readonly answerTo?: (message: Message) => NewKeptAnswer | null;
}

/** The way in for events: what the APIs call, and what the delivery engine is behind. */
export interface Publisher {
  /**
   * Accepts an event: when this resolves, the message, its deliveries and their schedule are on disk. An event whose
   * `eventId` was accepted before with the same content is answered with the message of that time.
   *
   * @throws ServiceError `validation` when the dialect refuses the event, `conflict` when the `eventId` was used for
   * another content, `too_many_requests` when too much is waiting, `unavailable` when the service is stopping.
   */
  publish(application: Application, event: NewEvent, options?: PublishOptions): Promise<Message>;
  /**
   * Accepts an event within somebody else's transaction, such as an operational event with the change that it tells of.
   *
   * @param only the endpoints it goes to, instead of those that listen to it
   */
  publishWithin(
    tx: Tx,
    application: Application,
    event: NewEvent,
    only?: readonly string[],
  ): Promise<Message>;
  /** Asks the endpoints of a blocking dialect whether an event may happen. Nothing is stored. */
  hook(application: Application, event: NewEvent): Promise<HookOutcome>;
  /** Makes a finished delivery pending again, now. */
  resend(application: Application, messageId: string, endpointId: string): Promise<void>;
}
