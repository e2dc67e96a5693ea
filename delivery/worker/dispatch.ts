import type { Application } from "../core/application.ts";
import type { Attempt, Delivery } from "../core/delivery.ts";
import type { Answer, BlockingDialect, Dialect, HookOutcome, OutgoingRequest } from "../core/dialect.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { newId } from "../core/ids.ts";
import type { Message } from "../core/message.ts";
import { settleAttempt, settleDisabled } from "../core/settlement.ts";
import { ServiceError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { ConflictError, MissingError, type DueDelivery, type Store, type Tx } from "../store/store.ts";
import { createDirectory, type Directory, type Entry } from "./directory.ts";
import { Lanes, type LaneLimits } from "./lanes.ts";
import { MetricsRecorder, type DeliveryMetrics } from "./metrics.ts";
import type { NewEvent, Publisher } from "./publisher.ts";
import type { Sender, Sent } from "./send.ts";

/**
 * How long a delivery that is held in memory is out of other claims' reach. What is held for longer is claimed anew by
 * its holder, which then knows that it has it.
 */
const leaseMs = 5 * 60_000;
/** Claims are this far apart at least, so that retries that are due one by one share them. */
const claimIntervalMs = 20;
/** The longest sleep between claims: a clock that was set is noticed by then. */
const maxSleepMs = 60_000;
/** Waits between tries to write down what came of an attempt, while the database cannot be written. */
const recordRetryMs = [100, 500, 2_000, 5_000] as const;
/** How much of a blocking hook's answer is read: it may hold a whole message to publish instead. */
const hookKeptBytes = 64 * 1024;

const laneLimits: LaneLimits = {
  // With 16, a lane fell behind 64 publishers and half of its deliveries took the way through the store.
  concurrency: 64,
  laneCapacity: 1_000,
  totalCapacity: 10_000,
  totalBytes: 128 * 1024 * 1024,
};

export interface DispatcherOptions {
  readonly store: Store;
  readonly sender: Sender;
  readonly dialectOf: (application: Application) => Dialect;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** From 0 to 1. */
  readonly random: () => number;
  /** What is held in memory; see `LaneLimits`. */
  readonly limits?: Partial<LaneLimits>;
}

/** A delivery in this node's memory. */
interface Held {
  readonly delivery: Delivery;
  readonly message: Message;
  readonly endpointId: string;
  readonly bytes: number;
}

/**
 * The delivery engine. An accepted event's deliveries are stored already leased to this node and go on from memory;
 * what memory has no room for, and what is due again, is claimed from the store.
 *
 * An attempt is made at least once: when the process dies between the request and the record of its answer, the
 * delivery is still pending in the store and is sent again, with the same message id.
 */
export class Dispatcher implements Publisher {
  readonly #options: DispatcherOptions;
  readonly #store: Store;
  readonly #directory: Directory;
  readonly #lanes: Lanes<Held>;
  /** Keys of the deliveries that are in the lanes. */
  readonly #held = new Set<string>();
  /** Those of them that were claimed once more, because their lease ran out or their retry was due at once. */
  readonly #claimedAgain = new Set<string>();
  readonly #metrics = new MetricsRecorder();
  #isStopping = false;
  #claiming: Promise<void> | null = null;
  #timer: NodeJS.Timeout | undefined;
  #wakeAt = Infinity;
  #claimedAt = -Infinity;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#directory = createDirectory(options.store);
    this.#lanes = new Lanes(
      { ...laneLimits, ...options.limits },
      (held, freeSlot) => this.#deliver(held, freeSlot),
      () => {
        this.#wake(0);
      },
    );
  }

  /** Takes up what an earlier process of this data folder left. */
  async start(): Promise<void> {
    await this.#store.write((tx) => tx.deliveries.releaseAll());
    this.#wake(0);
  }

  /**
   * Accepts nothing more and starts no further request, lets those under way end within the limit, and gives the rest
   * back to the store.
   */
  async stop(timeoutMs: number): Promise<void> {
    this.#isStopping = true;
    clearTimeout(this.#timer);
    this.#lanes.stop();
    await this.#claiming;
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    await Promise.race([this.#lanes.idle(), timeout]);
    clearTimeout(timer);
    // Requests that are cut off here are not recorded: they stay pending, and are made again after the next start.
    await this.#options.sender.close();
    await this.#lanes.idle();
    const waiting = this.#lanes.takeWaiting();
    if (waiting.length === 0) return;
    await this.#store.write((tx) =>
      tx.deliveries.settle(waiting.map(({ delivery }) => ({ ...delivery, leasedUntil: null }))),
    );
  }

  get metrics(): DeliveryMetrics {
    return this.#metrics.read({ deliveriesHeld: this.#lanes.size, attemptsRunning: this.#lanes.running });
  }

  async publish(
    application: Application,
    event: NewEvent,
    alongside?: (tx: Tx, message: Message) => Promise<void>,
  ): Promise<Message> {
    this.#refuseWhenStopping();
    const dialect = this.#options.dialectOf(application);
    checkEvent(dialect, event);
    const entry = await this.#entryOf(application.id);
    const now = this.#options.now();
    const message = toMessage(application, event, now);

    const bytes = message.payload.byteLength;
    const deliveries: Delivery[] = [];
    for (const endpoint of entry.endpoints.values()) {
      if (endpoint.disabled || !dialect.selects(endpoint, message)) continue;
      const isHeld = this.#lanes.reserve(endpoint.id, bytes);
      deliveries.push(newDelivery(message, endpoint, now, isHeld ? now + leaseMs : null));
    }
    const held = deliveries.filter(({ leasedUntil }) => leasedUntil !== null);
    try {
      await this.#store.write(async (tx) => {
        await tx.messages.insert(message);
        await tx.deliveries.insert(deliveries);
        await alongside?.(tx, message);
      });
    } catch (error) {
      for (const { endpointId } of held) this.#lanes.release(endpointId, bytes);
      throw publishError(error, application, event);
    }
    for (const delivery of held) this.#push(delivery, message);
    this.#metrics.accepted(deliveries.length);
    return message;
  }

  async hook(application: Application, event: NewEvent): Promise<HookOutcome> {
    this.#refuseWhenStopping();
    const dialect = this.#options.dialectOf(application);
    if (!isBlocking(dialect)) {
      throw new ServiceError(
        "bad_request",
        `The events of "${application.uid ?? application.id}" have no blocking hook: publish them as messages`,
      );
    }
    checkEvent(dialect, event);
    const entry = await this.#entryOf(application.id);
    const message = toMessage(application, event, this.#options.now());

    let outcome: HookOutcome = { publish: true, changes: {}, reason: "no endpoint asks to be asked" };
    for (const endpoint of entry.endpoints.values()) {
      if (endpoint.disabled) continue;
      const now = this.#options.now();
      const request = dialect.encodeHook({
        application: entry.application,
        endpoint,
        message,
        attempt: 0,
        now,
      });
      if (request === null) continue;
      const { answer, body } = await this.#options.sender.send(request, {
        timeoutMs: dialect.hookTimeoutMs,
        keptBytes: hookKeptBytes,
      });
      const judged = dialect.judgeHook(
        event.eventType,
        answer.kind === "response" ? { status: answer.status, body } : null,
      );
      if (!judged.publish) return judged;
      outcome = { ...judged, changes: { ...outcome.changes, ...judged.changes } };
    }
    return outcome;
  }

  async resend(application: Application, messageId: string, endpointId: string): Promise<void> {
    this.#refuseWhenStopping();
    const now = this.#options.now();
    const due = await this.#store.write(async (tx) => {
      const message = await tx.messages.find(application.id, messageId);
      if (!message) throw new ServiceError("not_found", `There is no message "${messageId}"`);
      const endpoint = await tx.endpoints.find(application.id, endpointId);
      if (!endpoint) throw new ServiceError("not_found", `There is no endpoint "${endpointId}"`);
      if (endpoint.disabled) {
        throw new ServiceError("bad_request", `The endpoint "${endpointId}" is disabled: enable it first`);
      }
      const known = await tx.deliveries.find(message.id, endpoint.id);
      // It is on its way already.
      if (known?.state === "pending" && known.leasedUntil !== null) return null;
      const delivery = { ...newDelivery(message, endpoint, now, null), trigger: "manual" } as const;
      if (known) await tx.deliveries.settle([delivery]);
      else await tx.deliveries.insert([delivery]);
      return delivery.nextAttemptAt;
    });
    if (due !== null) this.#wake(due);
  }

  #push(delivery: Delivery, message: Message): void {
    const { endpointId } = delivery;
    this.#held.add(keyOf(delivery));
    this.#lanes.push({ delivery, message, endpointId, bytes: message.payload.byteLength });
  }

  /** One attempt, from the endpoint as it is now to the record of what came of it. */
  async #deliver({ delivery, message }: Held, freeSlot: () => void): Promise<void> {
    const { logger } = this.#options;
    const { messageId, endpointId } = delivery;
    try {
      const entry = await this.#untilDone(() => this.#directory.find(delivery.applicationId));
      const endpoint = entry?.endpoints.get(endpointId);
      // What belongs to a deleted endpoint is gone from the store as well.
      if (!entry || !endpoint) return;
      if (endpoint.disabled) {
        await this.#untilDone(() =>
          this.#store.write((tx) => tx.deliveries.settle([settleDisabled(delivery)])),
        );
        return;
      }
      await this.#attempt(entry, endpoint, message, delivery, freeSlot);
    } catch (error) {
      // The lease runs out, and the delivery is claimed again then or after the next start.
      logger.error({ err: error, messageId, endpointId }, "a delivery was interrupted");
    } finally {
      const key = keyOf(delivery);
      this.#held.delete(key);
      if (this.#claimedAgain.delete(key)) await this.#giveBack(delivery);
    }
  }

  /** Ends the lease of a delivery that nobody holds, if it is still to be made. */
  async #giveBack({ messageId, endpointId }: Delivery): Promise<void> {
    try {
      await this.#store.write(async (tx) => {
        const current = await tx.deliveries.find(messageId, endpointId);
        if (current?.state === "pending") await tx.deliveries.settle([{ ...current, leasedUntil: null }]);
      });
      this.#wake(0);
    } catch (error) {
      this.#options.logger.error({ err: error, messageId, endpointId }, "a lease was left to run out");
    }
  }

  async #attempt(
    entry: Entry,
    endpoint: Endpoint,
    message: Message,
    delivery: Delivery,
    freeSlot: () => void,
  ): Promise<void> {
    const { sender, now, random, logger } = this.#options;
    const { application } = entry;
    const dialect = this.#options.dialectOf(application);
    const startedAt = now();
    const request = encode(dialect, {
      application,
      endpoint,
      message,
      attempt: delivery.attempts,
      now: startedAt,
    });
    const sent: Sent =
      "reason" in request
        ? { answer: { kind: "error", reason: request.reason }, body: request.reason, durationMs: 0 }
        : await sender.send(request, { timeoutMs: dialect.timeoutMs });
    // The receiver is done: the next request need not wait for the record of this one.
    freeSlot();
    // A stop that ran out of time cut the request off: nothing is known of it, so nothing is recorded.
    if (this.#isStopping && sender.isClosed && sent.answer.kind === "error") return;

    const verdict = dialect.judge(sent.answer);
    const settled = settleAttempt(delivery, verdict, dialect, now(), random());
    const attempt: Attempt = {
      id: newId("atmpt", startedAt),
      messageId: message.id,
      endpointId: endpoint.id,
      applicationId: application.id,
      url: "reason" in request ? endpoint.url : request.url,
      succeeded: verdict.kind === "succeeded",
      responseStatusCode: statusOf(sent.answer),
      response: sent.body,
      durationMs: sent.durationMs,
      trigger: delivery.trigger,
      startedAt,
    };
    await this.#untilDone(() =>
      this.#store.write(async (tx) => {
        await tx.attempts.insert([attempt]);
        await tx.deliveries.settle([settled]);
        if (verdict.kind === "disable") await disable(tx, endpoint, startedAt);
      }),
    );
    const outcome =
      settled.state === "succeeded" ? "succeeded" : settled.state === "pending" ? "retried" : "failed";
    this.#metrics.attempted(dialect.name, outcome, sent.durationMs);
    if (outcome !== "succeeded") {
      const { messageId, endpointId, responseStatusCode } = attempt;
      logger.debug({ messageId, endpointId, responseStatusCode, outcome }, "an attempt did not succeed");
    }
    if (settled.nextAttemptAt !== null) this.#wake(settled.nextAttemptAt);
  }

  /** Looks for due deliveries at the given time, or sooner if that was asked for before. */
  #wake(at: number): void {
    if (this.#isStopping || at >= this.#wakeAt) return;
    this.#wakeAt = at;
    if (this.#claiming) return;
    clearTimeout(this.#timer);
    const earliest = this.#claimedAt + claimIntervalMs;
    const sleepMs = Math.max(at, earliest) - this.#options.now();
    this.#timer = setTimeout(
      () => {
        this.#claiming = this.#claim().finally(() => {
          this.#claiming = null;
          const next = this.#wakeAt;
          this.#wakeAt = Infinity;
          this.#wake(next);
        });
      },
      Math.min(Math.max(sleepMs, 0), maxSleepMs),
    );
  }

  /** Takes what is due into the lanes, and leaves in `#wakeAt` when to look again. */
  async #claim(): Promise<void> {
    const now = this.#options.now();
    this.#wakeAt = now + maxSleepMs;
    this.#claimedAt = now;
    try {
      const limit = this.#lanes.claimable;
      const busyEndpointIds = this.#lanes.takeBusy();
      const claimed = await this.#store.write((tx) =>
        tx.deliveries.claim({ now, leasedUntil: now + leaseMs, limit, busyEndpointIds }),
      );
      for (const due of claimed) this.#take(due);
      const next =
        claimed.length === limit
          ? now
          : await this.#store.read((tx) => tx.deliveries.nextDueAt({ busyEndpointIds }));
      this.#wakeAt = Math.min(this.#wakeAt, next ?? Infinity);
    } catch (error) {
      this.#options.logger.error({ err: error }, "due deliveries could not be claimed; trying again");
      this.#wakeAt = Math.min(this.#wakeAt, now + 1_000);
    }
  }

  #take({ delivery, message }: DueDelivery): void {
    const key = keyOf(delivery);
    if (this.#held.has(key)) {
      this.#claimedAgain.add(key);
      return;
    }
    this.#held.add(key);
    this.#lanes.force({
      delivery,
      message,
      endpointId: delivery.endpointId,
      bytes: message.payload.byteLength,
    });
  }

  /** Does something with the database, again and again while that cannot be used; gives up when the service stops. */
  async #untilDone<T>(work: () => Promise<T>): Promise<T> {
    for (let tries = 0; ; tries++) {
      try {
        return await work();
      } catch (error) {
        const isOutage = error instanceof ServiceError && error.code === "unavailable";
        if (!isOutage || this.#isStopping) throw error;
        this.#options.logger.error({ err: error }, "the database cannot be used; trying again");
        const waitMs = recordRetryMs[Math.min(tries, recordRetryMs.length - 1)];
        await new Promise((resolve) => setTimeout(resolve, waitMs));
      }
    }
  }

  async #entryOf(applicationId: string): Promise<Entry> {
    const entry = await this.#directory.find(applicationId);
    if (!entry) throw new ServiceError("not_found", `There is no application "${applicationId}"`);
    return entry;
  }

  #refuseWhenStopping(): void {
    if (!this.#isStopping) return;
    throw new ServiceError("unavailable", "The service is stopping: try again in a moment", {
      retryAfterSeconds: 1,
    });
  }
}

function isBlocking(dialect: Dialect): dialect is BlockingDialect {
  return "encodeHook" in dialect;
}

/** @throws ServiceError `validation` with all that is wrong with the event */
function checkEvent(dialect: Dialect, event: NewEvent): void {
  let json: unknown = event.json;
  if (json === undefined) {
    try {
      json = JSON.parse(Buffer.from(event.payload).toString("utf8"));
    } catch {
      throw invalid(["The payload is not JSON"]);
    }
  }
  const problems = dialect.problemsOf(event.eventType, json);
  if (problems.length > 0) throw invalid(problems);
}

function invalid(problems: readonly string[]): ServiceError {
  return new ServiceError("validation", problems.join(" "), {
    faults: problems.map((message) => ({ path: ["body"], message, type: "value_error" })),
  });
}

function toMessage(application: Application, event: NewEvent, now: number): Message {
  return {
    id: newId("msg", now),
    applicationId: application.id,
    eventType: event.eventType,
    eventId: event.eventId ?? null,
    channels: event.channels ?? null,
    tags: event.tags ?? [],
    payload: event.payload,
    createdAt: now,
  };
}

/** A delivery that is due at once. */
function newDelivery(
  message: Message,
  endpoint: Endpoint,
  now: number,
  leasedUntil: number | null,
): Delivery {
  return {
    messageId: message.id,
    endpointId: endpoint.id,
    applicationId: message.applicationId,
    state: "pending",
    attempts: 0,
    nextAttemptAt: now,
    leasedUntil,
    trigger: "scheduled",
  };
}

function publishError(error: unknown, application: Application, event: NewEvent): unknown {
  // Other rules are those of what was written alongside.
  if (error instanceof ConflictError && error.rule.startsWith("messages.")) {
    return new ServiceError("conflict", `There is a message with the event id "${event.eventId ?? ""}"`, {
      cause: error,
    });
  }
  if (error instanceof MissingError) {
    return new ServiceError("not_found", `There is no application "${application.id}"`, { cause: error });
  }
  return error;
}

/** The request, or why the endpoint's settings give none. */
function encode(
  dialect: Dialect,
  input: Parameters<Dialect["encode"]>[0],
): OutgoingRequest | { readonly reason: string } {
  try {
    return dialect.encode(input);
  } catch (error) {
    return { reason: `not sent: ${error instanceof Error ? error.message : String(error)}` };
  }
}

function statusOf(answer: Answer): number {
  return answer.kind === "response" ? answer.status : 0;
}

/** Disables the endpoint as it is now, unless it was deleted meanwhile. */
async function disable(tx: Tx, { applicationId, id }: Endpoint, now: number): Promise<void> {
  const current = await tx.endpoints.find(applicationId, id);
  if (current) await tx.endpoints.update({ ...current, disabled: true, updatedAt: now });
}

function keyOf({ messageId, endpointId }: Delivery): string {
  return `${messageId} ${endpointId}`;
}
