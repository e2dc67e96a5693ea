import type { Application } from "../core/application.ts";
import type { Attempt, Delivery, DeliveryState } from "../core/delivery.ts";
import type { Capability } from "../core/caller.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { EndpointState } from "../core/endpoint-state.ts";
import type { Message } from "../core/message.ts";
import type { Organization } from "../core/organization.ts";
import type { Recent } from "./recent.ts";
import type { Replays } from "./replays.ts";
import type { Retention } from "./retention.ts";

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

/** The application, or one of its endpoints, has changed since it was read: read it again and decide anew. */
export class StaleError extends Error {
  override readonly name = "StaleError";
}

/** A page of a list that is ordered by id. `after`: start behind this id. Newest first when `descending`. */
export interface Page {
  readonly limit: number;
  readonly after?: string | undefined;
  readonly descending?: boolean;
}

/** An event type of the Svix-compatible API's catalogue. */
export interface EventType {
  readonly organizationId: string;
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

/** An endpoint's place in a strict order, with what stands there. */
export interface OrderHead {
  readonly delivery: Delivery;
  /** How many wait behind it. */
  readonly behind: number;
}

/** An answer kept under an `Idempotency-Key`. */
interface KeptAnswer {
  readonly requestHash: string;
  readonly status: number;
  readonly body: string;
}

export interface NewKeptAnswer extends KeptAnswer {
  readonly key: string;
  readonly expiresAt: number;
}

/** A delivery to be stored. `order`: the key of the order that the store gives it its place in; null for none. */
export interface NewDelivery extends Omit<Delivery, "place"> {
  readonly order: string | null;
}

/** An event with everything that is stored when it is accepted. */
export interface Acceptance {
  readonly message: Message;
  /** The application's version that the deliveries were chosen by. */
  readonly version: number;
  readonly deliveries: readonly NewDelivery[];
  readonly answer: NewKeptAnswer | null;
}

/** What came of an attempt. */
export interface Outcome {
  /** Null for a delivery that ends without a request. */
  readonly attempt: Attempt | null;
  /** As it stands now. */
  readonly delivery: Delivery;
  /** The node that made the attempt: where it no longer holds the delivery, nothing is recorded. */
  readonly node: number;
  readonly now: number;
  /** What the attempt has taught about the endpoint; null for nothing new. */
  readonly endpointState: EndpointState | null;
}

/** What a claim takes of one endpoint. */
export interface EndpointClaim {
  readonly endpointId: string;
  readonly limit: number;
}

/** Work that goes on in the background, and over restarts. */
export interface Task {
  /** `qtask_` and a time-ordered id. */
  readonly id: string;
  readonly organizationId: string;
  readonly applicationId: string;
  /** Which worker understands `input` and `cursor`: `endpoint.recover` and so on. */
  readonly kind: string;
  /** JSON text. */
  readonly input: string;
  /** How far it has come, in the kind's own terms. */
  readonly cursor: string | null;
  readonly status: "running" | "finished" | "failed";
  readonly done: number;
  /** How much there is to do in all; null where nobody knows. */
  readonly total: number | null;
  readonly error: string | null;
  /** The node that works on it; null while none does. */
  readonly leasedBy: number | null;
  readonly createdAt: number;
  readonly updatedAt: number;
}

interface TaskFilter {
  readonly applicationId?: string | undefined;
  readonly kind?: string | undefined;
  readonly status?: Task["status"] | undefined;
}

/** A token for the API; the token itself is kept nowhere. */
export interface Token {
  /** `tok_` and a time-ordered id. */
  readonly id: string;
  /** SHA-256 of the token, in hex. */
  readonly hash: string;
  readonly organizationId: string;
  /** The one application it opens; null for all of the organization's. */
  readonly applicationId: string | null;
  /** What it may do in its application; null for everything. */
  readonly capabilities: readonly Capability[] | null;
  /** The flags whose event types it sees, where it opens one application. */
  readonly featureFlags: readonly string[];
  /** What its maker groups tokens of an application by, to end them together. */
  readonly sessionId: string | null;
  readonly description: string;
  readonly createdAt: number;
  readonly expiresAt: number | null;
}

/**
 * The tables, within one transaction. An insert that breaks a uniqueness rule throws `ConflictError`; `find` answers
 * undefined; `update` and `delete` answer whether the row was there.
 */
export interface Tx {
  readonly organizations: {
    insert(organization: Organization): Promise<void>;
    find(id: string): Promise<Organization | undefined>;
    list(page: Page): Promise<Organization[]>;
  };
  readonly applications: {
    insert(application: Application): Promise<void>;
    /** By id or uid, within the organization. */
    find(organizationId: string, idOrUid: string): Promise<Application | undefined>;
    /** By id, with its version. */
    get(id: string): Promise<{ application: Application; version: number } | undefined>;
    /** Versions of those that are there. */
    versions(ids: readonly string[]): Promise<ReadonlyMap<string, number>>;
    list(organizationId: string, page: Page): Promise<Application[]>;
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
  readonly endpointStates: {
    /** Of an application's endpoints; those that nothing is known of are not in it. */
    list(applicationId: string): Promise<ReadonlyMap<string, EndpointState>>;
    save(endpointId: string, state: EndpointState): Promise<void>;
    /**
     * Takes an open breaker's next probe: from `openUntil` on exactly one caller gets it, and `nextOpenUntil` is when the
     * next one can be had.
     */
    takeProbe(endpointId: string, openUntil: number, nextOpenUntil: number): Promise<boolean>;
    /**
     * Takes the next `count` slots of an endpoint's rate.
     *
     * @returns when the first of them is, in milliseconds; the others follow at intervals of `1000 / ratePerSecond`
     */
    takeSlots(endpointId: string, ratePerSecond: number, count: number, now: number): Promise<number>;
  };
  readonly eventTypes: {
    insert(eventType: EventType): Promise<void>;
    find(organizationId: string, name: string): Promise<EventType | undefined>;
    list(organizationId: string, page: Page & { readonly includeArchived: boolean }): Promise<EventType[]>;
    update(eventType: EventType): Promise<boolean>;
    delete(organizationId: string, name: string): Promise<boolean>;
  };
  readonly messages: {
    insert(message: Message): Promise<void>;
    /** By id or event id, within the application. */
    find(applicationId: string, idOrEventId: string): Promise<Message | undefined>;
    list(filter: MessageFilter, page: Page): Promise<Message[]>;
    /** Takes the payload away for good. */
    expunge(applicationId: string, id: string): Promise<boolean>;
  };
  readonly deliveries: {
    /** Those whose endpoint is gone are left out. */
    insert(deliveries: readonly NewDelivery[]): Promise<void>;
    find(messageId: string, endpointId: string): Promise<Delivery | undefined>;
    listByMessage(messageId: string): Promise<Delivery[]>;
    /** An endpoint's deliveries with their messages, ordered by message id. */
    listByEndpoint(
      endpointId: string,
      filter: MessageFilter & { readonly state?: DeliveryState },
      page: Page,
    ): Promise<DueDelivery[]>;
    /**
     * How many deliveries an endpoint has in each state, of messages made in a time; a state without any is not in it. A
     * stretch at a time, in the order of message ids, so that others get their turn between two.
     *
     * @param stretch at most `limit` deliveries behind the message `after`
     * @returns with `after` for the next stretch, or null when that was the last
     */
    countByEndpoint(
      endpointId: string,
      times: { readonly since: number; readonly until: number },
      stretch: { readonly after: string; readonly limit: number },
    ): Promise<{ readonly counts: ReadonlyMap<DeliveryState, number>; readonly after: string | null }>;
    /** What stands first in each of an endpoint's orders, the longest waiting first. */
    listHeads(endpointId: string, limit: number): Promise<OrderHead[]>;
    /** See `Store.settle`. */
    record(outcome: Outcome): Promise<boolean>;
    /** Writes deliveries down as they stand; in an order, the next one becomes due when one has ended. */
    settle(deliveries: readonly Delivery[], now: number): Promise<void>;
    /** The same for one that is pending and that no node holds; answers whether it was so. */
    settleUnheld(delivery: Delivery, now: number): Promise<boolean>;
    /**
     * When the pending deliveries that no node holds are due: for each endpoint the earliest time. Those that wait for
     * their turn are not counted.
     */
    listDue(): Promise<ReadonlyMap<string, { readonly applicationId: string; readonly at: number }>>;
    /** Gives back what a node held. */
    release(node: number): Promise<number>;
    /** How many are pending of each application; one without any is not in it. */
    countPending(): Promise<ReadonlyMap<string, number>>;
  };
  readonly attempts: {
    insert(attempts: readonly Attempt[]): Promise<void>;
    find(messageId: string, attemptId: string): Promise<Attempt | undefined>;
    list(filter: AttemptFilter, page: Page): Promise<Attempt[]>;
    /** Takes the receiver's answer away for good. */
    expunge(messageId: string, attemptId: string): Promise<boolean>;
  };
  readonly idempotency: {
    /** The answer kept for this key, if it is not older than the retention. */
    find(key: string, now: number): Promise<KeptAnswer | undefined>;
    /** An answer whose time was over by `now` gives way. */
    insert(answer: NewKeptAnswer, now: number): Promise<void>;
    /** Removes at most `limit` answers that have expired by `now`. */
    prune(now: number, limit: number): Promise<number>;
  };
  readonly tokens: {
    insert(token: Token): Promise<void>;
    find(organizationId: string, id: string): Promise<Token | undefined>;
    findByHash(hash: string): Promise<Token | undefined>;
    list(organizationId: string, page: Page): Promise<Token[]>;
    delete(id: string): Promise<boolean>;
    /**
     * Ends, at the given time, the tokens that open only this application and would live longer: all of them, or those
     * of the given sessions.
     */
    expireByApplication(
      applicationId: string,
      expiresAt: number,
      sessionIds?: readonly string[],
    ): Promise<number>;
    /** Removes at most `limit` tokens that have expired by `now`. */
    prune(now: number, limit: number): Promise<number>;
  };
  readonly tasks: {
    insert(task: Task): Promise<void>;
    find(organizationId: string, id: string): Promise<Task | undefined>;
    list(organizationId: string, filter: TaskFilter, page: Page): Promise<Task[]>;
    /** Takes a running task that no node works on. */
    claim(node: number): Promise<Task | undefined>;
    /** Answers whether the node still holds it; otherwise nothing is written. */
    update(task: Task, node: number): Promise<boolean>;
    /** Ends a running task, whoever works on it; answers whether there was one. */
    cancel(id: string, error: string, now: number): Promise<boolean>;
  };
  readonly recent: Recent;
  readonly replays: Replays;
  readonly retention: Retention;
  readonly nodes: {
    /** Adds a node that is alive until `expiresAt`, and answers its number, which is never given again. */
    join(expiresAt: number): Promise<number>;
    /** Keeps how far the schedule's clock has come, and answers the furthest that any node's ever has. */
    keepTime(now: number): Promise<number>;
    /** Answers whether the node is still there: one whose time was over may have been removed. */
    beat(node: number, expiresAt: number): Promise<boolean>;
    /** Removes the nodes whose time was over by `now`, and answers which ones held something: it is given back. */
    bury(now: number): Promise<readonly number[]>;
    /** Removes a node and gives back all it held. */
    leave(node: number): Promise<void>;
  };
  readonly resealing: {
    /**
     * Takes the master keys as their file has them now, and answers their ids, the newest first.
     *
     * @throws StartError when the file cannot be read; the keys stay as they were
     */
    refreshKeys(): Promise<readonly string[]>;
    /**
     * Seals with the newest key what older ones have sealed, of at most `limit` endpoints whose ids come after `after`.
     * Answers how many were sealed anew, which ones no key opens, and where to go on: null when those were the last.
     */
    reseal(after: string, limit: number): Promise<ResealedBatch>;
    /** How many texts each master key has sealed, by the key's id. */
    countByKey(): Promise<ReadonlyMap<string, number>>;
  };
}

interface ResealedBatch {
  readonly count: number;
  /** Ids of endpoints. */
  readonly failed: readonly string[];
  readonly last: string | null;
}

/** What a commit of this process has changed. */
export interface StoreChanges {
  /** Applications that have changed, themselves or their endpoints. */
  readonly applicationIds: ReadonlySet<string>;
  /** Organizations whose event types have changed. */
  readonly organizationIds: ReadonlySet<string>;
  /** Tokens that were taken back, or end at another time than before. */
  readonly tokenIds: ReadonlySet<string>;
  /** Endpoints that have pending deliveries which no node holds: when the earliest of those is due. */
  readonly dueEndpoints: ReadonlyMap<string, { readonly applicationId: string; readonly at: number }>;
}

/** Everything an outage of the database shows itself by is a `ServiceError` `unavailable`. */
export interface Store {
  /** Runs on the last committed state. */
  read<T>(fn: (tx: Tx) => Promise<T>): Promise<T>;
  /**
   * Runs in a transaction and resolves once that is synced to disk. A function that throws leaves nothing; it may be run
   * twice, so it changes nothing but the transaction, awaits nothing else, and does not go on when the transaction has
   * thrown. What it finds by name or id stays as it is until it has ended; of what it lists, that is not promised.
   */
  write<T>(fn: (tx: Tx) => Promise<T>): Promise<T>;
  /**
   * Stores an accepted event: message, deliveries and kept answer are synced to disk when this resolves. All that arrive
   * in one turn of the event loop share a commit.
   *
   * @throws StaleError, or `ConflictError` for an event id or an idempotency key that is taken
   */
  accept(acceptance: Acceptance): Promise<void>;
  /** Records what came of an attempt, with all others of this turn; false when the delivery is no longer the node's. */
  settle(outcome: Outcome): Promise<boolean>;
  /**
   * Takes due deliveries of each endpoint, earliest first, for the node. `nextDueAt` has, for each endpoint, when the
   * next claim would find something; null for nothing in sight.
   *
   * @param maxBytes no more is taken once the payloads have come to so much, which is above 0; no bound by default
   */
  claim(
    claims: readonly EndpointClaim[],
    node: number,
    now: number,
    maxBytes?: number,
  ): Promise<{
    readonly due: readonly DueDelivery[];
    readonly nextDueAt: ReadonlyMap<string, number | null>;
  }>;
  /** Calls the listener with what a commit has changed, before its writers hear of the commit. */
  onChange(listener: (changes: StoreChanges) => void): void;
  /** The time that all nodes of this database go by, in milliseconds since the epoch. */
  now(): Promise<number>;
  /** How many bytes the stored data takes up. */
  sizeBytes(): Promise<number>;
  /** Throws when the database cannot answer. */
  ping(): Promise<void>;
  close(): Promise<void>;
}
