import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { firstIdAt } from "../core/ids.ts";
import type { DeliveryState } from "../core/delivery.ts";
import type { Logger } from "../log.ts";
import type { RecentAttempt, RecentKey, RecentMessage, WatchedEndpoint } from "../store/recent.ts";
import type { Store, Tx } from "../store/store.ts";
import { isoTime } from "./fields.ts";

/** What is watched: an organization, or one application of it. */
export interface FeedScope {
  readonly organizationId: string;
  readonly applicationId: string | null;
}

export const feedEventTypes = [
  "message.accepted",
  "attempt.succeeded",
  "attempt.failed",
  "endpoint.created",
  "endpoint.updated",
  "endpoint.disabled",
  "endpoint.enabled",
  "endpoint.deleted",
  "application.deleted",
] as const;

type FeedEventType = (typeof feedEventTypes)[number];

interface Occurrence {
  readonly type: FeedEventType;
  readonly appId: string;
  readonly appUid: string | null;
  readonly timestamp: string;
}

interface MessageAccepted extends Occurrence {
  readonly type: "message.accepted";
  readonly msgId: string;
  readonly eventType: string;
  readonly eventId: string | null;
  readonly channels: readonly string[] | null;
  readonly tags: readonly string[];
}

interface AttemptMade extends Occurrence {
  readonly type: "attempt.succeeded" | "attempt.failed";
  readonly msgId: string;
  readonly eventType: string | null;
  readonly eventId: string | null;
  readonly endpointId: string;
  readonly endpointUid: string | null;
  readonly attemptId: string;
  readonly url: string;
  /** 0 when no answer came. */
  readonly responseStatusCode: number;
  readonly responseDurationMs: number;
  /** 0 for the schedule, 1 for a resend. */
  readonly triggerType: number;
  /** How its delivery stands by now; null where that is gone with its endpoint. */
  readonly statusText: string | null;
  readonly attempts: number | null;
  readonly nextAttempt: string | null;
}

interface EndpointChanged extends Occurrence {
  readonly type: Extract<FeedEventType, `endpoint.${string}`>;
  readonly endpointId: string;
  readonly endpointUid: string | null;
}

interface ApplicationDeleted extends Occurrence {
  readonly type: "application.deleted";
}

export type FeedEvent = MessageAccepted | AttemptMade | EndpointChanged | ApplicationDeleted;

/** An event, and where a reader goes on behind it; null for one that has no place in the order of ids. */
export interface PlacedEvent {
  readonly event: FeedEvent;
  readonly position: string | null;
}

/** What a reader gets at a time. */
export interface FeedBatch {
  readonly events: readonly PlacedEvent[];
  /** How many there were besides; null for some, nobody knows how many. */
  readonly missed: number | null;
  /** Whether nothing more will come: the application was deleted. */
  readonly isOver: boolean;
}

export interface FeedReader {
  /** The position to begin behind. */
  readonly from: string;
  /** Whether it has read up to there before, and wants to know what it has missed. */
  readonly isResumed: boolean;
  /** Is to return at once, and to keep no more than it can hold. */
  deliver(batch: FeedBatch): void;
}

export interface LiveFeedOptions {
  readonly store: Pick<Store, "read">;
  readonly logger: Logger;
  /** Milliseconds since the epoch: what ids are made of. */
  readonly now: () => number;
  /** Milliseconds that only ever go on. */
  readonly clock?: () => number;
  /** How long to wait between two looks, at least; 200 ms by default. */
  readonly intervalMs?: number;
  /** How long to wait between two looks that go further back; 5 s by default. */
  readonly sweepIntervalMs?: number;
}

/** How often the store is looked at while somebody reads. */
const defaultIntervalMs = 200;
/** Looking takes about one part in so many of the time at most: beyond that, looks are further apart. */
const restShare = 20;
/** How far back each look goes: a commit takes its time, and clocks of nodes differ a little. */
const lookBackMs = 1_000;
/** How far back a sweep goes, and how often there is one: for what has turned up later than that. */
const sweepBackMs = 10_000;
const defaultSweepIntervalMs = 5_000;
/** After an outage of the database, how long nodes may take to write down what has happened in it. */
const recoveryMs = 15_000;
/** How far back a reader may go on. */
const maxCatchUpMs = 5 * 60_000;
/** Ids that one look takes in, and events that it tells; beyond that the oldest are counted as missed. */
const maxKeys = 5_000;
const maxEvents = 500;
/** Applications and endpoints that one statement asks about, and messages and attempts that one reads in full. */
const chunkSize = 250;
const readSize = 100;
const pageSize = 500;

/** A place in the order of all ids, whatever their kind: 10 characters of time, 16 of chance. */
const positionPattern = /^[0-9a-hjkmnp-tv-z]{10}(?:[0-9a-hjkmnp-tv-z]{16})?$/;

/** The position of the end of the given time. */
export function positionAt(time: number): string {
  return firstIdAt("", time).slice(1);
}

/** The position that a text is, or undefined. */
export function parsePosition(text: string): string | undefined {
  return positionPattern.test(text) ? text : undefined;
}

function positionOf(id: string): string {
  return id.slice(id.lastIndexOf("_") + 1);
}

/**
 * Tells what happens, as the store knows it: it is asked for what is new several times a second while somebody reads,
 * and not at all while nobody does. So it is the same for one process, several workers and several nodes, and nothing is
 * done for it on the way of an event.
 */
export class LiveFeed {
  readonly #options: Required<LiveFeedOptions>;
  readonly #watches = new Map<string, Watch>();
  #isClosed = false;

  constructor(options: LiveFeedOptions) {
    this.#options = {
      clock: () => performance.now(),
      intervalMs: defaultIntervalMs,
      sweepIntervalMs: defaultSweepIntervalMs,
      ...options,
    };
  }

  /**
   * Tells the reader what happens until it is let go.
   *
   * @returns lets go of it
   */
  read(scope: FeedScope, reader: FeedReader): () => void {
    if (this.#isClosed) return () => undefined;
    const key = JSON.stringify([scope.organizationId, scope.applicationId]);
    const known = this.#watches.get(key);
    const watch =
      known === undefined || known.isClosed
        ? new Watch(this.#options, scope, () => this.#watches.size)
        : known;
    this.#watches.set(key, watch);
    const leave = watch.join(reader);
    return () => {
      leave();
      if (watch.isClosed && this.#watches.get(key) === watch) this.#watches.delete(key);
    };
  }

  /** Whether the store is being asked for anything. */
  get isIdle(): boolean {
    return this.#watches.size === 0;
  }

  close(): void {
    this.#isClosed = true;
    for (const watch of this.#watches.values()) watch.close();
    this.#watches.clear();
  }
}

interface Joined {
  readonly reader: FeedReader;
  /** What it gets first is what comes behind this, whether others have had it or not. */
  readonly from: string;
  /** Whether what it wants to know goes further back. */
  readonly hasMissed: boolean;
  hasStarted: boolean;
}

interface KnownEndpoint extends WatchedEndpoint {
  /** When it was found gone; what was sent to it just before is still told. */
  readonly goneAt: number | null;
}

interface Look {
  readonly messages: readonly RecentKey[];
  readonly attempts: readonly RecentKey[];
  /** Where the last of those is that there was no room for; empty for none. */
  readonly cutAt: string;
}

/** One scope that is watched, by any number of readers. */
class Watch {
  readonly #options: Required<LiveFeedOptions>;
  readonly #scope: FeedScope;
  readonly #countWatches: () => number;
  readonly #readers = new Set<Joined>();
  readonly #closing = new AbortController();
  readonly #applications = new Map<string, { readonly uid: string | null; readonly version: number }>();
  readonly #endpoints = new Map<string, KnownEndpoint>();
  /** Ids behind the horizon that were told or, at the beginning, found. */
  readonly #seen = new Set<string>();
  /** What lies before it is known, or will never be. */
  #horizon = "";
  #isFirst = true;
  #lookedAt = -Infinity;
  #sweptAt = -Infinity;
  #recoveredAt = -Infinity;
  #busyMs = 0;
  #isRunning = false;

  /** @param countWatches how many share the time that looking may take */
  constructor(options: Required<LiveFeedOptions>, scope: FeedScope, countWatches: () => number) {
    this.#options = options;
    this.#scope = scope;
    this.#countWatches = countWatches;
  }

  get isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  join(reader: FeedReader): () => void {
    const earliest = positionAt(this.#options.now() - maxCatchUpMs);
    const joined: Joined = {
      reader,
      from: later(reader.from, earliest),
      hasMissed: reader.from < earliest,
      hasStarted: false,
    };
    this.#readers.add(joined);
    if (!this.#isRunning) void this.#run();
    return () => {
      this.#readers.delete(joined);
      if (this.#readers.size === 0) this.close();
    };
  }

  close(): void {
    this.#closing.abort();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    const { clock, intervalMs, logger } = this.#options;
    const { signal } = this.#closing;
    const isClosed = (): boolean => signal.aborted;
    while (!isClosed()) {
      this.#busyMs = 0;
      try {
        await this.#look();
      } catch (error) {
        if (isClosed()) return;
        this.#recoveredAt = clock() + recoveryMs;
        logger.error({ err: error }, "what is new could not be looked for; trying again");
      }
      const waitMs = Math.max(intervalMs, this.#busyMs * restShare * this.#countWatches());
      await sleep(waitMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async #look(): Promise<void> {
    const { now, clock, sweepIntervalMs } = this.#options;
    const startedAt = now();
    // The clock was set back: nodes that start from now on give ids that lie before those that were seen.
    const lookedAt = this.#lookedAt;
    const isAnew = this.#isFirst || startedAt < lookedAt - sweepBackMs;
    this.#lookedAt = startedAt;
    const sweepStart = positionAt(startedAt - sweepBackMs);
    if (isAnew) this.#horizon = sweepStart;
    const isSweep = isAnew || clock() >= this.#sweptAt + sweepIntervalMs;
    if (isSweep) this.#sweptAt = clock();
    const usual = isSweep ? this.#horizon : later(this.#horizon, positionAt(lookedAt - lookBackMs));
    const joining = [...this.#readers].filter(({ hasStarted }) => !hasStarted);
    const start = joining.map(({ from }) => from).reduce(earlier, usual);

    const changes = await this.#readChanges(startedAt);
    const { messages, attempts, cutAt } = await this.#readKeys(start);
    const isFresh = ({ id }: RecentKey): boolean =>
      !isAnew && positionOf(id) > this.#horizon && !this.#seen.has(id);
    const keys = [...messages, ...attempts];
    const fresh = new Set(keys.filter(isFresh));
    const isFor = (joined: Joined, key: RecentKey): boolean =>
      joining.includes(joined) ? positionOf(key.id) > joined.from : fresh.has(key);
    const firstFrom = joining.map(({ from }) => from).reduce(earlier, "~");
    const wanted = keys
      .filter((key) => fresh.has(key) || positionOf(key.id) > firstFrom)
      .toSorted((left, right) => (positionOf(left.id) < positionOf(right.id) ? -1 : 1));
    const told = wanted.slice(-maxEvents);
    const events = await this.#readEvents(told);

    const isOver = this.#scope.applicationId !== null && this.#applications.size === 0;
    for (const joined of this.#readers) {
      const starts = joining.includes(joined);
      // One that came while this look was made starts with the next one.
      if (!starts && !joined.hasStarted) continue;
      const mine = told.filter((key) => isFor(joined, key));
      const untold = wanted.slice(0, -maxEvents).filter((key) => isFor(joined, key)).length;
      const isCut = cutAt > (starts ? joined.from : positionAt(lookedAt));
      const placed = mine.flatMap((key) => events.get(key.id) ?? []);
      const changed = starts ? this.#changesSince(joined, changes) : changes;
      joined.hasStarted = true;
      joined.reader.deliver({
        events: [...placed, ...changed.map((event) => ({ event, position: null }))],
        missed: isCut || (starts && joined.hasMissed) ? null : untold,
        isOver,
      });
    }

    for (const { id } of keys) this.#seen.add(id);
    this.#isFirst = false;
    // Only a sweep has seen all that has turned up behind it.
    const isPassed = isSweep && clock() >= this.#recoveredAt;
    this.#advance(later(later(this.#horizon, cutAt), isPassed ? sweepStart : ""));
    if (isOver) this.close();
  }

  #advance(horizon: string): void {
    this.#horizon = horizon;
    for (const id of this.#seen) {
      // They were added nearly in order: what is left behind a later one goes with that.
      if (positionOf(id) > horizon) break;
      this.#seen.delete(id);
    }
    for (const [id, { goneAt }] of this.#endpoints) {
      if (goneAt !== null && goneAt < this.#lookedAt - sweepBackMs) this.#endpoints.delete(id);
    }
  }

  /** A step of the work, after which everything else gets its turn. */
  async #step<T>(read: (tx: Tx) => Promise<T>): Promise<T> {
    const { store, clock } = this.#options;
    const startedAt = clock();
    const result = await store.read(read);
    this.#busyMs += clock() - startedAt;
    await nextTurn();
    this.#closing.signal.throwIfAborted();
    return result;
  }

  /** Brings the endpoints up to date, and tells what has become of them. */
  async #readChanges(now: number): Promise<readonly FeedEvent[]> {
    const changed: string[] = [];
    const found = new Set<string>();
    for (let after: string | undefined; ;) {
      const page = await this.#step((tx) =>
        tx.recent.listApplications(this.#scope, { limit: pageSize, after }),
      );
      for (const { id, uid, version } of page) {
        found.add(id);
        if (this.#applications.get(id)?.version !== version) changed.push(id);
        this.#applications.set(id, { uid, version });
      }
      after = page.at(-1)?.id;
      if (page.length < pageSize) break;
    }
    const events: FeedEvent[] = [];
    for (const [id, { uid }] of this.#applications) {
      if (found.has(id)) continue;
      events.push({ type: "application.deleted", appId: id, appUid: uid, timestamp: isoTime(now) });
      this.#applications.delete(id);
      for (const endpoint of this.#endpoints.values()) {
        if (endpoint.applicationId === id) this.#endpoints.set(endpoint.id, { ...endpoint, goneAt: now });
      }
    }
    for (const ids of chunks(changed)) {
      const endpoints = await this.#step((tx) => tx.recent.listEndpoints(ids));
      events.push(...this.#compare(new Set(ids), endpoints, now));
    }
    return this.#isFirst ? [] : events;
  }

  #compare(
    applicationIds: ReadonlySet<string>,
    endpoints: readonly WatchedEndpoint[],
    now: number,
  ): readonly FeedEvent[] {
    const events: FeedEvent[] = [];
    const found = new Set(endpoints.map(({ id }) => id));
    for (const endpoint of endpoints) {
      const before = this.#endpoints.get(endpoint.id);
      const type = changeOf(before, endpoint);
      if (type !== null) events.push(this.#changed(type, endpoint, endpoint.updatedAt));
      this.#endpoints.set(endpoint.id, { ...endpoint, goneAt: null });
    }
    for (const endpoint of this.#endpoints.values()) {
      const { id, applicationId, goneAt } = endpoint;
      if (goneAt !== null || found.has(id) || !applicationIds.has(applicationId)) continue;
      events.push(this.#changed("endpoint.deleted", endpoint, now));
      this.#endpoints.set(id, { ...endpoint, goneAt: now });
    }
    return events;
  }

  #changed(type: EndpointChanged["type"], endpoint: WatchedEndpoint, at: number): EndpointChanged {
    const { id: endpointId, uid: endpointUid } = endpoint;
    return {
      type,
      ...this.#application(endpoint.applicationId),
      endpointId,
      endpointUid,
      timestamp: isoTime(at),
    };
  }

  /** What has become of endpoints while a reader was away: only how they stand now is known. */
  #changesSince({ reader, from }: Joined, changes: readonly FeedEvent[]): readonly FeedEvent[] {
    if (!reader.isResumed) return [];
    const since = from.slice(0, 10);
    const events = changes.filter(
      ({ type }) => type === "endpoint.deleted" || type === "application.deleted",
    );
    for (const endpoint of this.#endpoints.values()) {
      const { createdAt, updatedAt, disabled, goneAt } = endpoint;
      if (goneAt !== null || positionAt(updatedAt) <= since) continue;
      const isNew = positionAt(createdAt) > since;
      const type = disabled ? "endpoint.disabled" : isNew ? "endpoint.created" : "endpoint.updated";
      events.push(this.#changed(type, endpoint, updatedAt));
    }
    return events;
  }

  async #readKeys(start: string): Promise<Look> {
    const messages: RecentKey[] = [];
    const attempts: RecentKey[] = [];
    let cutAt = "";
    const note = (keys: readonly RecentKey[], into: RecentKey[]): void => {
      for (const key of keys) into.push(key);
      if (keys.length < maxKeys) return;
      cutAt = later(cutAt, keys.map(({ id }) => positionOf(id)).reduce(earlier));
    };
    for (const ids of chunks([...this.#applications.keys()])) {
      note(await this.#step((tx) => tx.recent.messageKeys(ids, `msg_${start}`, maxKeys)), messages);
    }
    for (const ids of chunks([...this.#endpoints.keys()])) {
      note(await this.#step((tx) => tx.recent.attemptKeys(ids, `atmpt_${start}`, maxKeys)), attempts);
    }
    return { messages, attempts, cutAt };
  }

  /** The events of messages and attempts, by id. */
  async #readEvents(keys: readonly RecentKey[]): Promise<ReadonlyMap<string, PlacedEvent>> {
    const events = new Map<string, PlacedEvent>();
    const place = (id: string, event: FeedEvent): void => {
      events.set(id, { event, position: positionOf(id) });
    };
    for (const [ownerId, ids] of byOwner(keys)) {
      for (const some of chunks(ids, readSize)) {
        if (this.#applications.has(ownerId)) {
          const messages = await this.#step((tx) => tx.recent.listMessages(ownerId, some));
          for (const message of messages) place(message.id, this.#accepted(message));
        } else {
          const attempts = await this.#step((tx) => tx.recent.listAttempts(ownerId, some));
          for (const attempt of attempts) place(attempt.id, this.#attempted(attempt));
        }
      }
    }
    return events;
  }

  #accepted(message: RecentMessage): MessageAccepted {
    const { id: msgId, applicationId, eventType, eventId, channels, tags, createdAt } = message;
    return {
      type: "message.accepted",
      ...this.#application(applicationId),
      msgId,
      eventType,
      eventId,
      channels,
      tags,
      timestamp: isoTime(createdAt),
    };
  }

  #attempted(attempt: RecentAttempt): AttemptMade {
    const { delivery } = attempt;
    const nextAttemptAt = delivery?.nextAttemptAt ?? null;
    return {
      type: attempt.succeeded ? "attempt.succeeded" : "attempt.failed",
      ...this.#application(attempt.applicationId),
      msgId: attempt.messageId,
      eventType: attempt.eventType,
      eventId: attempt.eventId,
      endpointId: attempt.endpointId,
      endpointUid: this.#endpoints.get(attempt.endpointId)?.uid ?? null,
      attemptId: attempt.id,
      url: attempt.url,
      responseStatusCode: attempt.responseStatusCode,
      responseDurationMs: attempt.durationMs,
      triggerType: attempt.trigger === "manual" ? 1 : 0,
      statusText: delivery && statusTexts[delivery.state],
      attempts: delivery?.attempts ?? null,
      nextAttempt: nextAttemptAt === null ? null : isoTime(nextAttemptAt),
      timestamp: isoTime(attempt.startedAt),
    };
  }

  #application(appId: string): { readonly appId: string; readonly appUid: string | null } {
    return { appId, appUid: this.#applications.get(appId)?.uid ?? null };
  }
}

/** The contract's words. */
const statusTexts = {
  succeeded: "success",
  pending: "pending",
  failed: "fail",
} as const satisfies Record<DeliveryState, string>;

function changeOf(before: KnownEndpoint | undefined, after: WatchedEndpoint): EndpointChanged["type"] | null {
  if (before === undefined) return "endpoint.created";
  if (before.disabled !== after.disabled) return after.disabled ? "endpoint.disabled" : "endpoint.enabled";
  return before.updatedAt === after.updatedAt ? null : "endpoint.updated";
}

function byOwner(keys: readonly RecentKey[]): ReadonlyMap<string, readonly string[]> {
  const owners = new Map<string, string[]>();
  for (const { id, ownerId } of keys) {
    const ids = owners.get(ownerId);
    if (ids) ids.push(id);
    else owners.set(ownerId, [id]);
  }
  return owners;
}

function* chunks<T>(items: readonly T[], size = chunkSize): Generator<readonly T[]> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size);
}

function earlier(left: string, right: string): string {
  return left < right ? left : right;
}

function later(left: string, right: string): string {
  return left > right ? left : right;
}
