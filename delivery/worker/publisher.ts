import type { Application } from "../core/application.ts";
import type { HookOutcome } from "../core/dialect.ts";
import type { Json } from "../core/json.ts";
import type { Message } from "../core/message.ts";
import type { Tx } from "../store/store.ts";

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
}

/** The way in for events: what the APIs call, and what the delivery engine is behind. */
export interface Publisher {
  /**
   * Accepts an event: when this resolves, the message, its deliveries and their schedule are on disk.
   *
   * @throws ServiceError `validation` when the dialect refuses the event, `conflict` when the `eventId` is taken,
   * `unavailable` when the service is stopping.
   * @param alongside Runs in the very transaction that stores the message; what it throws rejects the event.
   */
  publish(
    application: Application,
    event: NewEvent,
    alongside?: (tx: Tx, message: Message) => Promise<void>,
  ): Promise<Message>;
  /** Asks the endpoints of a blocking dialect whether an event may happen. Nothing is stored. */
  hook(application: Application, event: NewEvent): Promise<HookOutcome>;
  /** Makes a finished delivery pending again, now. */
  resend(application: Application, messageId: string, endpointId: string): Promise<void>;
}
