import { setTimeout as delay } from "node:timers/promises";
import type { Application } from "../core/application.ts";
import { afterAttempt, isFailingTooLong, openMsOf, phaseOf } from "../core/breaker.ts";
import type { Attempt, Delivery } from "../core/delivery.ts";
import type { BlockingDialect, Dialect, HookOutcome, OutgoingRequest } from "../core/dialect.ts";
import { effectiveRules, judgeBy, orderKeyOf, type EffectiveRules } from "../core/effective-rules.ts";
import { healthyState } from "../core/endpoint-state.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { newId } from "../core/ids.ts";
import { isFull, type Message } from "../core/message.ts";
import { settleAttempt, settleDisabled } from "../core/settlement.ts";
import { ServiceError } from "../errors.ts";
import type { Logger } from "../log.ts";
import {
  ConflictError,
  StaleError,
  type EndpointClaim,
  type NewDelivery,
  type Outcome,
  type Store,
  type Tx,
} from "../store/store.ts";
import { Agenda } from "./agenda.ts";
import type { Directory, Entry } from "./directory.ts";
import { Lanes, type LaneLimits } from "./lanes.ts";
import type { Membership } from "./membership.ts";
import { MetricsRecorder, type DeliveryMetrics } from "./metrics.ts";
import type { AttemptNotice, Notices } from "./notices.ts";
import type { NewEvent, Publisher, PublishOptions } from "./publisher.ts";
import type { ScheduleClock } from "./schedule-clock.ts";
import type { Sender, Sent } from "./send.ts";

/** Claims are this far apart at least, so that retries that are due one by one share them. */
const claimIntervalMs = 10;
/** Endpoints that one claim looks at, and deliveries that it takes of one and of all. */
const claimedEndpoints = 64;
const claimedOfOne = 128;
const claimedOfAll = 512;
/** The longest sleep between claims. */
const maxSleepMs = 1_000;
/** How often a node that shares its database looks for what others have left there. */
const lookIntervalMs = 5_000;
/** How often the pending deliveries are counted: that costs more the more there are. */
const countIntervalMs = 60_000;
/** Waits between tries to write down what came of an attempt, while the database cannot be written. */
const recordRetryMs = [100, 500, 2_000, 5_000] as const;
/** How often a delivery asks whether this node is still alive in the eyes of the others. */
const membershipRetryMs = 100;
/** How long a publisher's answer is held back at a time, and at most, while delivering has a hard time to keep up. */
const easingMs = 5;
const maxEasingMs = 100;
/** Deliveries that go back to the store in one commit, when an endpoint's breaker opens or the service stops. */
const givenBackAtOnce = 64;
/** How often a publisher decides anew because the application has changed under its hands. */
const maxStaleTries = 10;
/** How much of a blocking hook's answer is read: it may hold a whole message to publish instead. */
const hookKeptBytes = 64 * 1024;
/** The failed attempt of a message that its owner is told of, as in Svix's API. */
const failingAttempt = 4;

const laneLimits: LaneLimits = {
  totalConcurrency: 4_096,
  laneCapacity: 4_000,
  totalCapacity: 20_000,
  totalBytes: 128 * 1024 * 1024,
};

export interface DispatcherOptions {
  readonly store: Store;
  readonly directory: Directory;
  readonly membership: Pick<Membership, "number" | "holds">;
  readonly sender: Sender;
  readonly dialectOf: (application: Application) => Dialect;
  readonly notices: Notices;
  readonly logger: Logger;
  /** Milliseconds since the epoch: the time that is written down and signed. */
  readonly now: () => number;
  /** What retries and rates go by. */
  readonly clock: ScheduleClock;
  /** From 0 to 1. */
  readonly random: () => number;
  /** Whether other processes write to the same database. */
  readonly isShared: boolean;
  /** How long an endpoint may fail without a break before it is disabled; null for ever. */
  readonly disableAfterMs: number | null;
  /** How many deliveries of an application may be pending before its further events are refused; null for any number. */
  readonly maxBacklog: number | null;
  /** What is held in memory; see `LaneLimits`. */
  readonly limits?: Partial<LaneLimits>;
}

/** A delivery in this node's memory. */
interface Held {
  readonly delivery: Delivery;
  readonly message: Message;
  readonly endpointId: string;
  readonly applicationId: string;
  readonly bytes: number;
  /** Whether it is to show if the receiver is back: the one thing that goes to an endpoint whose breaker is open. */
  readonly isProbe: boolean;
}

/** The one request that may go to an endpoint whose breaker is half-open. */
interface Probe {
  readonly endpointId: string;
  /** What the breaker was open until, and when others may take the next probe. */
  readonly openUntil: number;
  readonly nextOpenUntil: number;
  isUsed: boolean;
}

/** An endpoint and what its deliveries need. */
interface Target {
  readonly entry: Entry;
  readonly endpoint: Endpoint;
  readonly dialect: Dialect;
  readonly rules: EffectiveRules;
}

/**
 * The delivery engine. An accepted event's deliveries are stored already taken by this node and go on from memory; what
 * memory has no room for, what is due again and what keeps an order is claimed from the store.
 *
 * An attempt is made at least once: when the process dies between the request and the record of its answer, the
 * delivery is still pending in the store and is sent again, with the same message id.
 */
export class Dispatcher implements Publisher {
  readonly #options: DispatcherOptions;
  readonly #store: Store;
  readonly #lanes: Lanes<Held>;
  readonly #agenda = new Agenda();
  readonly #metrics = new MetricsRecorder();
  /** An endpoint is replaced when it changes, and its rules with it. */
  readonly #rules = new WeakMap<
    Endpoint,
    { readonly application: Application; readonly rules: EffectiveRules }
  >();
  /** Endpoints whose breaker is half-open, and this node is trying. */
  readonly #probing = new Set<string>();
  /** Disabled endpoints that keep an order, by their applications: what they have waiting stays until they change. */
  readonly #parked = new Map<string, string>();
  /** How often an application or an endpoint has changed. */
  #changes = 0;
  /** How much is pending of each application, as far as this node knows. */
  #pending = new Map<string, number>();
  #countedAt = -Infinity;
  #isStopping = false;
  #claiming: Promise<void> | null = null;
  #timer: NodeJS.Timeout | undefined;
  #wakeAt = Infinity;
  #claimedAt = -Infinity;
  #lookTimer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#lanes = new Lanes({
      limits: { ...laneLimits, ...options.limits },
      run: (held, freeSlot) => this.#deliver(held, freeSlot),
      onRoom: (endpointId, applicationId) => {
        this.#note(endpointId, applicationId, -Infinity);
      },
      takeSlots: (endpointId, ratePerSecond, count) =>
        this.#store.write((tx) =>
          tx.endpointStates.takeSlots(endpointId, ratePerSecond, count, options.clock.now()),
        ),
      now: () => options.clock.now(),
    });
    this.#store.onChange(({ dueEndpoints, applicationIds }) => {
      for (const [endpointId, { applicationId, at }] of dueEndpoints)
        this.#note(endpointId, applicationId, at);
      if (applicationIds.size > 0) this.#reconsider(applicationIds);
    });
  }

  /** Takes up what waits in the store. */
  async start(): Promise<void> {
    await this.#look();
    this.#scheduleLook();
  }

  /** Looks for everything in the store that waits to be sent, such as what another node has left. */
  async discover(): Promise<void> {
    const due = await this.#store.read((tx) => tx.deliveries.listDue());
    for (const [endpointId, { applicationId, at }] of due) this.#note(endpointId, applicationId, at);
  }

  /**
   * Accepts nothing more and starts no further request, lets those under way end within the limit, and gives the rest
   * back to the store.
   */
  async stop(timeoutMs: number): Promise<void> {
    this.#isStopping = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#lookTimer);
    this.#lanes.stop();
    await this.#looking;
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
    await this.#giveBack(this.#lanes.takeWaiting()).catch((error: unknown) => {
      this.#options.logger.error(
        { err: error },
        "what waits is given back when this node is known to be gone",
      );
    });
  }

  get metrics(): DeliveryMetrics {
    return this.#metrics.read({ deliveriesHeld: this.#lanes.size, attemptsRunning: this.#lanes.running });
  }

  async publish(application: Application, event: NewEvent, options: PublishOptions = {}): Promise<Message> {
    this.#refuseWhenStopping();
    this.#refuseWhenFull(application);
    checkEvent(this.#options.dialectOf(application), event);
    for (let tries = 1; ; tries++) {
      const entry = await this.#entryOf(application.id);
      const message = toMessage(entry.application, event, this.#options.now());
      try {
        await this.#accept(entry, message, options);
        return message;
      } catch (error) {
        if (error instanceof StaleError && tries < maxStaleTries) {
          this.#options.directory.forget(application.id);
          continue;
        }
        return await this.#toKnownMessage(error, application, event);
      }
    }
  }

  async publishWithin(
    tx: Tx,
    application: Application,
    event: NewEvent,
    only?: readonly string[],
  ): Promise<Message> {
    const dialect = this.#options.dialectOf(application);
    checkEvent(dialect, event);
    const message = toMessage(application, event, this.#options.now());
    const dueAt = this.#options.clock.now();
    const endpoints = (await tx.endpoints.list(application.id)).filter(
      (endpoint) => !endpoint.disabled && (only?.includes(endpoint.id) ?? dialect.selects(endpoint, message)),
    );
    await tx.messages.insert(message);
    await tx.deliveries.insert(
      endpoints.map((endpoint) => ({
        ...newDelivery(message, endpoint, dueAt, null),
        order: orderKeyOf(effectiveRules(endpoint, application, dialect), message.orderingKey),
      })),
    );
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
    const message = { ...toMessage(application, event, this.#options.now()), payload: event.payload };

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
        ...(endpoint.tls !== null && { tls: endpoint.tls }),
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
    const now = this.#options.clock.now();
    await this.#store.write(async (tx) => {
      const message = await tx.messages.find(application.id, messageId);
      if (!message) throw new ServiceError("not_found", `There is no message "${messageId}"`);
      if (!isFull(message)) {
        throw new ServiceError("bad_request", `The payload of the message "${messageId}" has been expunged`);
      }
      const endpoint = await tx.endpoints.find(application.id, endpointId);
      if (!endpoint) throw new ServiceError("not_found", `There is no endpoint "${endpointId}"`);
      if (endpoint.disabled) {
        throw new ServiceError("bad_request", `The endpoint "${endpointId}" is disabled: enable it first`);
      }
      const known = await tx.deliveries.find(message.id, endpoint.id);
      if (known === undefined) {
        const added = {
          ...newDelivery(message, endpoint, now, null),
          trigger: "manual",
          order: null,
        } as const;
        await tx.deliveries.insert([added]);
        return;
      }
      // It is on its way already.
      if (known.leasedBy !== null) return;
      // One that waits for its turn keeps its place; one that has ended is sent out of turn.
      const place = known.state === "pending" ? known.place : null;
      const isBehind = place !== null && known.nextAttemptAt === null && known.attempts === 0;
      if (isBehind) return;
      const again = { ...newDelivery(message, endpoint, now, null), trigger: "manual", place } as const;
      // A node may take a pending one this very moment: then it is on its way as well.
      if (known.state === "pending") await tx.deliveries.settleUnheld(again, now);
      else await tx.deliveries.settle([again], now);
    });
  }

  async #accept(entry: Entry, message: Message, { answerTo }: PublishOptions): Promise<void> {
    const { clock, membership } = this.#options;
    const dialect = this.#options.dialectOf(entry.application);
    const dueAt = clock.now();
    const bytes = message.payload?.byteLength ?? 0;
    const { number } = membership;
    const isMember = membership.holds(number);
    const deliveries: NewDelivery[] = [];
    const held: Held[] = [];
    for (const endpoint of entry.endpoints.values()) {
      if (endpoint.disabled || !dialect.selects(endpoint, message)) continue;
      const rules = this.#rulesOf(entry.application, endpoint, dialect);
      const order = orderKeyOf(rules, message.orderingKey);
      const { openUntil } = entry.states.get(endpoint.id) ?? healthyState;
      const item = { endpointId: endpoint.id, applicationId: message.applicationId, bytes };
      const isHeld = isMember && order === null && openUntil === null && this.#lanes.reserve(item, rules);
      const delivery = newDelivery(message, endpoint, dueAt, isHeld ? number : null);
      deliveries.push({ ...delivery, order });
      if (isHeld) held.push({ ...item, delivery: { ...delivery, place: null }, message, isProbe: false });
    }
    try {
      const answer = answerTo?.(message) ?? null;
      await this.#store.accept({ message, version: entry.version, deliveries, answer });
    } catch (error) {
      for (const item of held) this.#lanes.release(item);
      throw error;
    }
    this.#count(message.applicationId, deliveries.length);
    for (const item of held) this.#lanes.push(item);
    this.#metrics.accepted(deliveries.length);
    await this.#ease(held);
  }

  /**
   * Holds a publisher's answer back while its receivers keep up and this service does not. Otherwise accepting outruns
   * delivering, and what has no room in memory takes the longer way through the store.
   */
  async #ease(held: readonly Held[]): Promise<void> {
    for (let waitedMs = 0; waitedMs < maxEasingMs; waitedMs += easingMs) {
      if (!held.some(({ endpointId }) => this.#lanes.isBehind(endpointId))) return;
      await delay(easingMs);
    }
  }

  /** The message of an event that was accepted before, or an error in the API's words. */
  async #toKnownMessage(error: unknown, application: Application, event: NewEvent): Promise<Message> {
    if (error instanceof StaleError) {
      throw new ServiceError("unavailable", "The application changes all the time: try again in a moment", {
        retryAfterSeconds: 1,
        cause: error,
      });
    }
    if (!(error instanceof ConflictError) || !error.rule.startsWith("messages.")) throw error;
    const eventId = event.eventId ?? "";
    const known = await this.#store.read((tx) => tx.messages.find(application.id, eventId));
    if (known && isSameEvent(known, event)) return known;
    throw new ServiceError(
      "conflict",
      `There is another message with the event id "${eventId}": take a new id for each event`,
      { cause: error },
    );
  }

  /** One attempt, from the endpoint as it is now to the record of what came of it. */
  async #deliver(held: Held, freeSlot: () => void): Promise<void> {
    const { logger, membership } = this.#options;
    const { delivery, message, endpointId } = held;
    try {
      let entry = await this.#untilDone(() => this.#options.directory.find(held.applicationId));
      // While this waited, the node may have been taken for dead and the delivery be somebody else's: its next sign of
      // life tells. It keeps its number where nobody has, and then nobody else will send what it holds.
      while (delivery.leasedBy === null || !membership.holds(delivery.leasedBy)) {
        if (delivery.leasedBy !== membership.number || this.#isStopping) return;
        await delay(membershipRetryMs);
        entry = await this.#untilDone(() => this.#options.directory.find(held.applicationId));
      }
      const endpoint = entry?.endpoints.get(endpointId);
      // What belongs to a deleted endpoint goes with it.
      if (!entry || !endpoint) return;
      const dialect = this.#options.dialectOf(entry.application);
      const rules = this.#rulesOf(entry.application, endpoint, dialect);
      if (endpoint.disabled) {
        await this.#endDisabled(delivery, rules);
        return;
      }
      // The breaker has opened since this left the store: it goes back, with no attempt used up.
      if (!held.isProbe && isOpen(entry, endpointId)) {
        await this.#untilDone(() => this.#giveBack([held]));
        return;
      }
      await this.#attempt({ entry, endpoint, dialect, rules }, held, freeSlot);
    } catch (error) {
      // The delivery is taken up again when this node is gone or starts anew.
      logger.error({ err: error, messageId: message.id, endpointId }, "a delivery was interrupted");
    } finally {
      // Whatever came of a probe, also when nothing is known of it.
      if (held.isProbe) {
        this.#probing.delete(endpointId);
        this.#note(endpointId, held.applicationId, -Infinity);
      }
    }
  }

  async #attempt(target: Target, held: Held, freeSlot: () => void): Promise<void> {
    const { sender, now, random, clock } = this.#options;
    const { message, delivery } = held;
    const { entry, endpoint, dialect, rules } = target;
    const startedAt = now();
    const request = encode(target, message, delivery, startedAt);
    const sent: Sent =
      "reason" in request
        ? { answer: { kind: "error", reason: request.reason }, body: request.reason, durationMs: 0 }
        : await sender.send(request, {
            timeoutMs: rules.timeoutMs,
            ...(endpoint.tls !== null && { tls: endpoint.tls }),
          });
    // The receiver is done: the next request need not wait for the record of this one.
    freeSlot();
    // A stop that ran out of time cut the request off: nothing is known of it, so nothing is recorded.
    if (this.#isStopping && sender.isClosed && sent.answer.kind === "error") return;

    const { answer } = sent;
    const verdict = isFull(message)
      ? judgeBy(rules, answer, dialect.judge(answer))
      : ({ kind: "failed" } as const);
    const recordedAt = clock.now();
    const stateBefore = entry.states.get(endpoint.id) ?? healthyState;
    // Something else may have shown meanwhile that the receiver is back.
    const isProbe = held.isProbe && stateBefore.openUntil !== null;
    const state = afterAttempt(stateBefore, { verdict, answer, isProbe, now: recordedAt, random: random() });
    // Noted at once: what is sent until the record is written goes by it already.
    if (state !== stateBefore) entry.states.set(endpoint.id, state);
    const settled = settleAttempt(delivery, verdict, rules, recordedAt, random());
    const attempt: Attempt = {
      // Of now: whoever looks for what is new finds it behind what was there, however long the attempt took.
      id: newId("atmpt", now()),
      messageId: message.id,
      endpointId: endpoint.id,
      applicationId: message.applicationId,
      url: "reason" in request ? endpoint.url : request.url,
      succeeded: verdict.kind === "succeeded",
      responseStatusCode: answer.kind === "response" ? answer.status : 0,
      response: sent.body,
      durationMs: sent.durationMs,
      trigger: delivery.trigger,
      startedAt,
    };
    const outcome: Outcome = {
      attempt,
      delivery: settled,
      node: delivery.leasedBy ?? 0,
      now: recordedAt,
      endpointState: state === stateBefore ? null : state,
    };
    const isDisabled =
      verdict.kind === "disable" ||
      (verdict.kind !== "succeeded" && isFailingTooLong(state, recordedAt, this.#options.disableAfterMs));
    const disabledSince = isDisabled ? (state.failingSince ?? recordedAt) : null;
    const isRecorded = await this.#untilDone(() => this.#record(target, message, outcome, disabledSince));
    if (!isRecorded) return;
    this.#afterRecord(target, settled, attempt);
    if (state.openUntil === stateBefore.openUntil) return;
    if (state.openUntil !== null) await this.#drain(endpoint.id);
    this.#note(endpoint.id, entry.application.id, state.openUntil ?? -Infinity);
  }

  /**
   * Writes down what came of an attempt, and what follows from it, in one transaction.
   *
   * @param failingSince where the endpoint is disabled for it: since when it has failed; null otherwise
   */
  async #record(
    target: Target,
    message: Message,
    outcome: Outcome,
    failingSince: number | null,
  ): Promise<boolean> {
    const { entry, endpoint } = target;
    const notice = noticeOf(outcome, target.rules);
    const isTold =
      notice !== null && (await this.#options.notices.isWanted(entry.application.organizationId));
    if (failingSince === null && !isTold) return await this.#store.settle(outcome);
    try {
      return await this.#store.write(async (tx) => {
        if (!(await tx.deliveries.record(outcome))) return false;
        const { attempt } = outcome;
        if (isTold && attempt) {
          await this.#options.notices.attempt(tx, entry.application, message, endpoint, attempt, notice);
        }
        if (failingSince !== null) await this.#disable(tx, entry.application, endpoint, failingSince);
        return true;
      });
    } catch (error) {
      if (isOutage(error)) throw error;
      // What keeps the owner from being told keeps nothing from being recorded.
      const { messageId, endpointId } = outcome.delivery;
      this.#options.logger.error(
        { err: error, messageId, endpointId },
        "an attempt's notice could not be given",
      );
      return await this.#store.settle(outcome);
    }
  }

  /** Disables the endpoint as it is now, unless it was deleted or disabled meanwhile. */
  async #disable(tx: Tx, application: Application, endpoint: Endpoint, failingSince: number): Promise<void> {
    const current = await tx.endpoints.find(application.id, endpoint.id);
    if (!current || current.disabled) return;
    const disabled = { ...current, disabled: true, updatedAt: this.#options.now() };
    await tx.endpoints.update(disabled);
    // Enabled again, it starts afresh.
    await tx.endpointStates.save(endpoint.id, healthyState);
    await this.#options.notices.endpointChanged(tx, application, disabled, "disabled", {
      trigger: "automatic",
      failingSince,
    });
  }

  #afterRecord({ dialect, endpoint }: Target, settled: Delivery, attempt: Attempt): void {
    if (settled.state !== "pending") this.#count(settled.applicationId, -1);
    const outcome =
      settled.state === "succeeded" ? "succeeded" : settled.state === "pending" ? "retried" : "failed";
    this.#metrics.attempted(dialect.name, outcome, attempt.durationMs);
    if (outcome === "succeeded") return;
    const { messageId, responseStatusCode } = attempt;
    this.#options.logger.debug(
      { messageId, endpointId: endpoint.id, responseStatusCode, outcome },
      "an attempt did not succeed",
    );
  }

  /** A disabled endpoint's delivery ends as failed; where an order is kept, it waits until the endpoint is enabled. */
  async #endDisabled(delivery: Delivery, { order }: EffectiveRules): Promise<void> {
    const ended = order === "none" ? settleDisabled(delivery) : { ...delivery, leasedBy: null };
    const node = delivery.leasedBy ?? 0;
    const isRecorded = await this.#untilDone(() =>
      this.#store.settle({
        attempt: null,
        delivery: ended,
        node,
        now: this.#options.clock.now(),
        endpointState: null,
      }),
    );
    if (isRecorded && ended.state !== "pending") this.#count(ended.applicationId, -1);
  }

  #count(applicationId: string, change: number): void {
    this.#pending.set(applicationId, (this.#pending.get(applicationId) ?? 0) + change);
  }

  /** The breaker has opened: what waits in memory waits in the store from now on. */
  async #drain(endpointId: string): Promise<void> {
    const drained = this.#lanes.drain(endpointId);
    await this.#untilDone(() => this.#giveBack(drained));
  }

  async #giveBack(items: readonly Held[]): Promise<void> {
    const now = this.#options.clock.now();
    // A lane's worth in one commit would hold up what others send and publish.
    for (let start = 0; start < items.length; start += givenBackAtOnce) {
      await Promise.all(
        items.slice(start, start + givenBackAtOnce).map(({ delivery }) =>
          this.#store.settle({
            attempt: null,
            delivery: { ...delivery, leasedBy: null },
            node: delivery.leasedBy ?? 0,
            now,
            endpointState: null,
          }),
        ),
      );
    }
  }

  #rulesOf(application: Application, endpoint: Endpoint, dialect: Dialect): EffectiveRules {
    const known = this.#rules.get(endpoint);
    if (known?.application === application) return known.rules;
    const rules = effectiveRules(endpoint, application, dialect);
    this.#rules.set(endpoint, { application, rules });
    return rules;
  }

  #note(endpointId: string, applicationId: string, at: number): void {
    this.#agenda.note(endpointId, applicationId, at);
    this.#wake(at);
  }

  /** Looks for due deliveries at the given time, or sooner if that was asked for before. */
  #wake(at: number): void {
    if (this.#isStopping || at >= this.#wakeAt) return;
    this.#wakeAt = at;
    if (this.#claiming) return;
    clearTimeout(this.#timer);
    const now = this.#options.clock.now();
    const sleepMs = Math.max(at, this.#claimedAt + claimIntervalMs) - now;
    this.#timer = setTimeout(
      () => {
        this.#claiming = this.#claim().finally(() => {
          this.#claiming = null;
          this.#wakeAt = Infinity;
          this.#wake(this.#agenda.nextAt);
        });
      },
      Math.min(Math.max(sleepMs, 0), maxSleepMs),
    );
  }

  /** Takes what is due into the lanes, an endpoint after the other. */
  async #claim(): Promise<void> {
    const { clock, membership, logger } = this.#options;
    const now = clock.now();
    this.#claimedAt = now;
    const appointments = this.#agenda.take(now, claimedEndpoints);
    const { number } = membership;
    if (!membership.holds(number)) {
      for (const { endpointId, applicationId } of appointments) {
        this.#agenda.note(endpointId, applicationId, now + maxSleepMs);
      }
      return;
    }
    const probes: Probe[] = [];
    try {
      const targets = new Map<string, Target>();
      const claims: EndpointClaim[] = [];
      let total = 0;
      for (const { endpointId, applicationId } of appointments) {
        const seen = this.#changes;
        const target = await this.#targetOf(applicationId, endpointId);
        if (target === undefined) continue;
        if (target.endpoint.disabled && target.rules.order !== "none") {
          // Changed this very moment, it may be another one than was just read.
          if (seen === this.#changes) this.#parked.set(endpointId, applicationId);
          else this.#agenda.note(endpointId, applicationId, now);
          continue;
        }
        const room = total < claimedOfAll ? await this.#roomFor(target, now, probes) : 0;
        if (total >= claimedOfAll) this.#agenda.note(endpointId, applicationId, now);
        if (room === 0) continue;
        const limit = Math.min(room, claimedOfOne);
        total += limit;
        targets.set(endpointId, target);
        claims.push({ endpointId, limit });
      }
      if (claims.length === 0) return;
      const { due, nextDueAt } = await this.#store.claim(
        claims,
        number,
        now,
        // What one endpoint may have at most.
        Math.max(this.#lanes.freeBytes / 2, 1),
      );
      for (const { delivery, message } of due) {
        const target = targets.get(delivery.endpointId);
        if (!target) continue;
        const { endpointId, applicationId } = delivery;
        const bytes = message.payload?.byteLength ?? 0;
        const probe = probes.find((taken) => taken.endpointId === endpointId);
        if (probe) probe.isUsed = true;
        const isProbe = probe !== undefined;
        this.#lanes.force({ delivery, message, endpointId, applicationId, bytes, isProbe }, target.rules);
      }
      await this.#returnProbes(probes);
      for (const [endpointId, at] of nextDueAt) {
        const applicationId = targets.get(endpointId)?.entry.application.id;
        if (at !== null && applicationId !== undefined) this.#agenda.note(endpointId, applicationId, at);
      }
    } catch (error) {
      logger.error({ err: error }, "due deliveries could not be claimed; trying again");
      for (const { endpointId, applicationId } of appointments) {
        this.#agenda.note(endpointId, applicationId, now + maxSleepMs);
      }
      for (const { endpointId, isUsed } of probes) if (!isUsed) this.#probing.delete(endpointId);
    }
  }

  /** Puts probes back that nothing was due for, so that what comes next need not wait for the one after. */
  async #returnProbes(probes: readonly Probe[]): Promise<void> {
    const unused = probes.filter(({ isUsed }) => !isUsed);
    if (unused.length === 0) return;
    await this.#store.write(async (tx) => {
      for (const { endpointId, openUntil, nextOpenUntil } of unused) {
        await tx.endpointStates.takeProbe(endpointId, nextOpenUntil, openUntil);
      }
    });
    for (const { endpointId } of unused) this.#probing.delete(endpointId);
  }

  /** How many deliveries of an endpoint may be claimed now; when none, it is on the agenda for when that changes. */
  async #roomFor({ entry, endpoint, rules }: Target, now: number, probes: Probe[]): Promise<number> {
    const { application } = entry;
    const state = entry.states.get(endpoint.id) ?? healthyState;
    const phase = endpoint.disabled ? "closed" : phaseOf(state, now);
    if (phase === "closed") {
      return this.#lanes.roomFor({ endpointId: endpoint.id, applicationId: application.id }, rules);
    }
    const { openUntil } = state;
    if (openUntil === null) return 0;
    if (phase === "open") {
      this.#agenda.note(endpoint.id, application.id, openUntil);
      return 0;
    }
    // When it ends, it is on the agenda again.
    if (this.#probing.has(endpoint.id)) return 0;
    // Should the node die with the probe, the next one can be had after the time that this one may take.
    const nextOpenUntil = now + rules.timeoutMs + openMsOf(state.openings);
    const isTaken = await this.#store.write((tx) =>
      tx.endpointStates.takeProbe(endpoint.id, openUntil, nextOpenUntil),
    );
    if (!isTaken) {
      // Another node has it, or the breaker is not as it is remembered here.
      this.#options.directory.forget(application.id);
      this.#agenda.note(endpoint.id, application.id, now + maxSleepMs);
      return 0;
    }
    this.#probing.add(endpoint.id);
    probes.push({ endpointId: endpoint.id, openUntil, nextOpenUntil, isUsed: false });
    return 1;
  }

  async #targetOf(applicationId: string, endpointId: string): Promise<Target | undefined> {
    const entry = await this.#options.directory.find(applicationId);
    const endpoint = entry?.endpoints.get(endpointId);
    if (!entry || !endpoint) return undefined;
    const dialect = this.#options.dialectOf(entry.application);
    return { entry, endpoint, dialect, rules: this.#rulesOf(entry.application, endpoint, dialect) };
  }

  /** What was enabled, or has no order any more, may have something waiting that can go on. */
  #reconsider(applicationIds: ReadonlySet<string>): void {
    this.#changes++;
    for (const [endpointId, applicationId] of this.#parked) {
      if (!applicationIds.has(applicationId)) continue;
      this.#parked.delete(endpointId);
      this.#note(endpointId, applicationId, -Infinity);
    }
  }

  /** Finds what is new in the store, and counts from time to time what this node has counted along. */
  async #look(): Promise<void> {
    const now = this.#options.clock.now();
    if (this.#options.isShared || this.#countedAt === -Infinity) await this.discover();
    if (now - this.#countedAt < countIntervalMs) return;
    this.#countedAt = now;
    this.#pending = new Map(await this.#store.read((tx) => tx.deliveries.countPending()));
  }

  #scheduleLook(): void {
    if (this.#isStopping) return;
    this.#lookTimer = setTimeout(() => {
      this.#looking = this.#look()
        .catch((error: unknown) => {
          this.#options.logger.error({ err: error }, "the store could not be looked through; trying again");
        })
        .finally(() => {
          this.#scheduleLook();
        });
    }, lookIntervalMs);
  }

  /** Does something with the database, again and again while that cannot be used; gives up when the service stops. */
  async #untilDone<T>(work: () => Promise<T>): Promise<T> {
    for (let tries = 0; ; tries++) {
      try {
        return await work();
      } catch (error) {
        if (!isOutage(error) || this.#isStopping) throw error;
        this.#options.logger.error({ err: error }, "the database cannot be used; trying again");
        const waitMs = recordRetryMs[Math.min(tries, recordRetryMs.length - 1)];
        await delay(waitMs);
      }
    }
  }

  async #entryOf(applicationId: string): Promise<Entry> {
    const entry = await this.#options.directory.find(applicationId);
    if (!entry) throw new ServiceError("not_found", `There is no application "${applicationId}"`);
    return entry;
  }

  #refuseWhenStopping(): void {
    if (!this.#isStopping) return;
    throw new ServiceError("unavailable", "The service is stopping: try again in a moment", {
      retryAfterSeconds: 1,
    });
  }

  #refuseWhenFull({ id, uid }: Application): void {
    const { maxBacklog } = this.#options;
    const pending = this.#pending.get(id) ?? 0;
    if (maxBacklog === null || pending < maxBacklog) return;
    throw new ServiceError(
      "too_many_requests",
      `${pending} deliveries of "${uid ?? id}" wait to be sent, and an application may have ${maxBacklog}: try again later`,
      { retryAfterSeconds: 10 },
    );
  }
}

/** Whether nothing but probes may be sent. */
function isOpen({ states }: Entry, endpointId: string): boolean {
  return (states.get(endpointId)?.openUntil ?? null) !== null;
}

/** Whether the database cannot be used now, which another try may find different. */
function isOutage(error: unknown): boolean {
  return error instanceof ServiceError && error.code === "unavailable";
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
    orderingKey: event.orderingKey ?? null,
    payload: event.payload,
    payloadExpiresAt: event.payloadExpiresAt ?? null,
    createdAt: now,
  };
}

function isSameEvent(known: Message, event: NewEvent): boolean {
  return (
    known.payload !== null &&
    Buffer.from(known.payload).equals(event.payload) &&
    known.eventType === event.eventType &&
    known.orderingKey === (event.orderingKey ?? null) &&
    JSON.stringify([known.channels, known.tags]) ===
      JSON.stringify([event.channels ?? null, event.tags ?? []])
  );
}

/** A delivery that is due at once. */
function newDelivery(
  message: Message,
  endpoint: Endpoint,
  dueAt: number,
  leasedBy: number | null,
): Omit<Delivery, "place"> {
  return {
    messageId: message.id,
    endpointId: endpoint.id,
    applicationId: message.applicationId,
    state: "pending",
    attempts: 0,
    nextAttemptAt: dueAt,
    leasedBy,
    trigger: "scheduled",
  };
}

/** The request, or why there is none. */
function encode(
  { entry: { application }, endpoint, dialect }: Target,
  message: Message,
  { attempts }: Delivery,
  now: number,
): OutgoingRequest | { readonly reason: string } {
  if (!isFull(message)) return { reason: "not sent: the payload has been expunged" };
  try {
    return dialect.encode({ application, endpoint, message, attempt: attempts, now });
  } catch (error) {
    return { reason: `not sent: ${error instanceof Error ? error.message : String(error)}` };
  }
}

/** What the endpoint's owner is told of an attempt; null for nothing. */
function noticeOf({ delivery, attempt }: Outcome, rules: EffectiveRules): AttemptNotice | null {
  if (attempt === null) return null;
  if (attempt.succeeded) return delivery.attempts > failingAttempt ? "recovered" : null;
  const isLast = delivery.state === "failed" || delivery.nextAttemptAt === null;
  if (isLast) return "exhausted";
  return delivery.attempts === failingAttempt && rules.retryDelaysMs.length >= failingAttempt
    ? "failing"
    : null;
}
