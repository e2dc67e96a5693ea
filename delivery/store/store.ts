import type { Application } from "../core/application.ts";
import type { Attempt, AttemptTrigger, Delivery, DeliveryState } from "../core/delivery.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { Message } from "../core/message.ts";

/** An insert or update broke a uniqueness rule, such as a `uid` or an `eventId` that is taken. */
export class ConflictError extends Error {
  override readonly name = "ConflictError";
  /** The columns of the rule: `endpoints.application_id, endpoints.uid`. */
  readonly rule: string;

  constructor(rule: string) {
    super(`already taken: ${rule}`);
    this.rule = rule;
  }
}

/** An insert names a row that is not there, such as an application that was just deleted. */
export class MissingError extends Error {
  override readonly name = "MissingError";
}

/** A page of a list that is ordered by id. `after`: start behind this id. Newest first when `descending`. */
export interface Page {
  readonly limit: number;
  readonly after?: string | undefined;
  readonly descending?: boolean;
}

/** An event type of the Svix-compatible API's catalogue. */
export interface EventType {
  readonly name: string;
  readonly description: string;
  readonly archived: boolean;
  readonly deprecated: boolean;
  /** The contract's `schemas` value, as JSON text; null for none. */
  readonly schemas: string | null;
  readonly featureFlags: readonly string[] | null;
  readonly groupName: string | null;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export interface AttemptFilter {
  readonly applicationId: string;
  readonly messageId?: string;
  readonly endpointId?: string;
  readonly succeeded?: boolean;
  readonly statusCodeClass?: number;
  readonly before?: number;
  readonly after?: number;
  readonly eventTypes?: readonly string[];
  /** Of the attempt's message. */
  readonly channel?: string;
  /** Of the attempt's message. */
  readonly tag?: string;
}

export interface MessageFilter {
  readonly applicationId: string;
  readonly eventTypes?: readonly string[];
  readonly channel?: string;
  readonly tag?: string;
  readonly before?: number;
  readonly after?: number;
}

/** A delivery with what the sender needs at hand. */
export interface DueDelivery {
  readonly delivery: Delivery;
  readonly message: Message;
}

/** What an attempt decided about its delivery. */
interface Settlement {
  readonly messageId: string;
  readonly endpointId: string;
  readonly state: DeliveryState;
  readonly attempts: number;
  readonly nextAttemptAt: number | null;
  /** Kept when the next attempt stays with this node's memory; null gives the delivery back. */
  readonly leasedUntil: number | null;
  /** What asks for the next attempt. */
  readonly trigger: AttemptTrigger;
}

/**
 * The tables, within one transaction. An insert that breaks a uniqueness rule throws `ConflictError`; `find` answers
 * undefined; `update` and `delete` answer whether the row was there.
 */
export interface Tx {
  readonly applications: {
    insert(application: Application): Promise<void>;
    /** By id or uid. */
    find(idOrUid: string): Promise<Application | undefined>;
    list(page: Page): Promise<Application[]>;
    update(application: Application): Promise<boolean>;
    /** With everything that belongs to it. */
    delete(id: string): Promise<boolean>;
  };
  readonly endpoints: {
    insert(endpoint: Endpoint): Promise<void>;
    /** By id or uid, within the application. */
    find(applicationId: string, idOrUid: string): Promise<Endpoint | undefined>;
    list(applicationId: string, page?: Page): Promise<Endpoint[]>;
    /**
     * Those, of any application, whose requests go to the given URL, credentials and fragment apart: by their `url` or
     * their `preWebhookUrl`.
     */
    listByUrl(url: string): Promise<Endpoint[]>;
    update(endpoint: Endpoint): Promise<boolean>;
    /** Its open deliveries go with it; its attempts stay. */
    delete(id: string): Promise<boolean>;
  };
  readonly eventTypes: {
    insert(eventType: EventType): Promise<void>;
    find(name: string): Promise<EventType | undefined>;
    list(page: Page & { readonly includeArchived: boolean }): Promise<EventType[]>;
    update(eventType: EventType): Promise<boolean>;
    delete(name: string): Promise<boolean>;
  };
  readonly messages: {
    insert(message: Message): Promise<void>;
    /** By id or event id, within the application. */
    find(applicationId: string, idOrEventId: string): Promise<Message | undefined>;
    list(filter: MessageFilter, page: Page): Promise<Message[]>;
  };
  readonly deliveries: {
    insert(deliveries: readonly Delivery[]): Promise<void>;
    find(messageId: string, endpointId: string): Promise<Delivery | undefined>;
    listByMessage(messageId: string): Promise<Delivery[]>;
    /** An endpoint's deliveries with their messages, ordered by message id. */
    listByEndpoint(
      endpointId: string,
      filter: MessageFilter & { readonly state?: DeliveryState },
      page: Page,
    ): Promise<DueDelivery[]>;
    /**
     * Takes due deliveries (pending, due by `now`, not leased past `now`), earliest first, and leases them until
     * `leasedUntil`. Endpoints in `busyEndpointIds` are passed over, so that a full lane never holds up the others.
     */
    claim(input: {
      now: number;
      leasedUntil: number;
      limit: number;
      busyEndpointIds: readonly string[];
    }): Promise<DueDelivery[]>;
    settle(settlements: readonly Settlement[]): Promise<void>;
    /**
     * When `claim` with the same busy endpoints would next find something: the earliest time a pending delivery is due,
     * or its lease runs out; null when there is none.
     */
    nextDueAt(input: { busyEndpointIds: readonly string[] }): Promise<number | null>;
    /** Gives back every lease: what a dead process of this data folder held. */
    releaseAll(): Promise<number>;
  };
  readonly attempts: {
    insert(attempts: readonly Attempt[]): Promise<void>;
    find(messageId: string, attemptId: string): Promise<Attempt | undefined>;
    list(filter: AttemptFilter, page: Page): Promise<Attempt[]>;
  };
  readonly idempotency: {
    /** The answer kept for this key, if it is not older than the retention. */
    find(
      key: string,
      now: number,
    ): Promise<{ requestHash: string; status: number; body: string } | undefined>;
    /** Entries that have expired by `now` go. */
    insert(
      entry: { key: string; requestHash: string; status: number; body: string; expiresAt: number },
      now: number,
    ): Promise<void>;
  };
}

/**
 * The store of record. Functions given to `read` and `write` await nothing but the transaction they are handed: many
 * of them share one commit.
 */
export interface Store {
  /** Runs on the last committed state. */
  read<T>(fn: (tx: Tx) => Promise<T>): Promise<T>;
  /**
   * Runs with all other writes of the same turn of the event loop in one transaction, and resolves once that is synced
   * to disk. A function that throws rejects alone and leaves nothing; it may be run twice, so it changes nothing but
   * the transaction.
   */
  write<T>(fn: (tx: Tx) => Promise<T>): Promise<T>;
  /**
   * Calls the listener with the ids of the applications that a commit changed, themselves or their endpoints, before
   * the writers hear of the commit: whoever caches them drops them in time.
   */
  onChange(listener: (applicationIds: ReadonlySet<string>) => void): void;
  /** Throws when the database cannot answer. */
  ping(): Promise<void>;
  close(): Promise<void>;
}
