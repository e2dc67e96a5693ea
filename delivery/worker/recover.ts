import type { Application } from "../core/application.ts";
import type { DeliveryState } from "../core/delivery.ts";
import type { Dialect } from "../core/dialect.ts";
import { effectiveRules, orderKeyOf, type EffectiveRules } from "../core/effective-rules.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { firstIdAt, newId } from "../core/ids.ts";
import type { Message } from "../core/message.ts";
import type { Replayable, ReplayedMessage } from "../store/replays.ts";
import type { Store, Task, Tx } from "../store/store.ts";
import type { ScheduleClock } from "./schedule-clock.ts";
import type { TaskKind, TaskProgress, TaskStep } from "./tasks.ts";

/** Tasks that send messages of the past to an endpoint, under the names that Svix's API has for them. */
const replayKinds = ["endpoint.recover", "endpoint.replay", "endpoint.bulk-replay"] as const;

export type ReplayKind = (typeof replayKinds)[number];

/** Which messages go to an endpoint again; all that is named must fit. */
export interface ReplaySelection {
  readonly endpointId: string;
  /** Made at this time or later, in milliseconds since the epoch. */
  readonly since: number;
  /** Made at this time or earlier; null for all that there were when it was asked for. */
  readonly until: number | null;
  /** Deliveries that have ended like this. */
  readonly states: readonly Exclude<DeliveryState, "pending">[];
  /** Also messages that the endpoint never had a delivery of, and asks for as it is now. */
  readonly isMissing: boolean;
  readonly eventTypes: readonly string[] | null;
  readonly channel: string | null;
  readonly tag: string | null;
  /** The hundreds of the status that the last attempt was answered with, such as 500; 0 for no answer. */
  readonly statusCodeClass: number | null;
}

/** A task's `input`. */
interface ReplayInput extends ReplaySelection {
  /** The newest message that there was when it was asked for. */
  readonly through: string;
}

/** A task's `cursor`: what is to be done is counted first, so that one sees how far it has come. */
interface ReplayCursor {
  readonly phase: "counting" | "sending";
  /** The last message that was looked at. */
  readonly after: string;
}

/** What a task's `input` says, for people. */
export function readReplay(task: Task): ReplaySelection {
  return JSON.parse(task.input) as ReplayInput;
}

/**
 * Writes a task down that sends messages to an endpoint again. It is done in the background, and goes on after a restart
 * or on another node.
 */
export async function insertReplay(
  tx: Tx,
  application: Application,
  kind: ReplayKind,
  selection: ReplaySelection,
  now: number,
): Promise<Task> {
  const input: ReplayInput = { ...selection, through: (await tx.replays.newest(application.id)) ?? "" };
  const task: Task = {
    id: newId("qtask", now),
    organizationId: application.organizationId,
    applicationId: application.id,
    kind,
    input: JSON.stringify(input),
    cursor: null,
    status: "running",
    done: 0,
    total: null,
    error: null,
    leasedBy: null,
    createdAt: now,
    updatedAt: now,
  };
  await tx.tasks.insert(task);
  return task;
}

export interface ReplayOptions {
  readonly store: Store;
  readonly dialectOf: (application: Application) => Dialect;
  /** What deliveries become due by. */
  readonly clock: Pick<ScheduleClock, "now">;
}

/** Rows that one read looks at: about 2 ms, during which nothing else happens on SQLite. */
const windowSize = 500;
/** Rows that one step looks at, at most. */
const stepWindows = 10;
/**
 * Deliveries of one endpoint that may be due or on their way when more are added: they share its place in memory with
 * new ones, which should not wait for long behind them.
 */
const maxWaiting = 200;
/** How long to wait when as many wait already. */
const waitMs = 50;

export function createReplayKinds(options: ReplayOptions): readonly TaskKind[] {
  return replayKinds.map((name) => ({ name, next: (task) => nextStep(options, task) }));
}

async function nextStep(options: ReplayOptions, task: Task): Promise<TaskStep> {
  const input = JSON.parse(task.input) as ReplayInput;
  const cursor: ReplayCursor =
    task.cursor === null
      ? { phase: "counting", after: firstIdAt("msg", input.since) }
      : (JSON.parse(task.cursor) as ReplayCursor);
  return cursor.phase === "counting"
    ? await countingStep(options, task, input, cursor)
    : await sendingStep(options, task, input, cursor);
}

async function countingStep(
  options: ReplayOptions,
  task: Task,
  input: ReplayInput,
  cursor: ReplayCursor,
): Promise<TaskStep> {
  const found = await search(options, task, input, cursor.after, Infinity);
  if ("failure" in found) return fail(found.failure);
  const total = (task.total ?? 0) + found.messages.length;
  const next: ReplayCursor = found.isEnd
    ? { phase: "sending", after: firstIdAt("msg", input.since) }
    : { phase: "counting", after: found.after };
  return { apply: async () => ({ cursor: JSON.stringify(next), total }) };
}

async function sendingStep(
  options: ReplayOptions,
  task: Task,
  input: ReplayInput,
  cursor: ReplayCursor,
): Promise<TaskStep> {
  const { store, clock } = options;
  const target = await store.read((tx) => readTarget(options, tx, task, input));
  if ("failure" in target) return fail(target.failure);
  const limit = allowanceOf(target.rules);
  const waiting = await store.read((tx) => tx.replays.countWaiting(input.endpointId, clock.now(), limit));
  // A delivery at a time would cost a commit each.
  if (waiting > limit / 2) return { waitMs };

  const found = await search(options, task, input, cursor.after, limit - waiting);
  if ("failure" in found) return fail(found.failure);
  const next: ReplayCursor = { phase: "sending", after: found.after };
  return {
    async apply(tx) {
      // As it is now: it may have been deleted or changed since the look above.
      const current = await readTarget(options, tx, task, input);
      if ("failure" in current) return { status: "failed", error: current.failure };
      const sent = await send(tx, task, input, current.rules, found.messages, clock.now());
      const done = task.done + sent;
      const cursor = JSON.stringify(next);
      // What was sent by hand meanwhile was counted, and is not done again.
      if (found.isEnd) return { cursor, done, total: done, status: "finished" };
      return { cursor, done, total: Math.max(task.total ?? 0, done) };
    },
  };
}

async function send(
  tx: Tx,
  { applicationId }: Task,
  { endpointId, states }: ReplayInput,
  rules: EffectiveRules,
  messages: readonly Found[],
  now: number,
): Promise<number> {
  const of = { applicationId, endpointId };
  const replayed = (which: (found: Found) => boolean): ReplayedMessage[] =>
    messages.filter(which).map(({ message }) => ({
      messageId: message.id,
      order: orderKeyOf(rules, message.orderingKey),
    }));
  const reopened = await tx.replays.reopen(
    of,
    replayed(({ state }) => state !== null),
    states,
    now,
  );
  const added = await tx.replays.add(
    of,
    replayed(({ state }) => state === null),
    now,
  );
  return reopened + added;
}

/** How many deliveries may wait at once: fewer where they leave slowly. */
function allowanceOf({ ratePerSecond, concurrency, order }: EffectiveRules): number {
  if (order !== "none") return maxWaiting;
  return Math.min(maxWaiting, 4 * concurrency, 2 * (ratePerSecond ?? Infinity));
}

interface Target {
  readonly application: Application;
  readonly endpoint: Endpoint;
  readonly dialect: Dialect;
  readonly rules: EffectiveRules;
}

interface Failure {
  readonly failure: string;
}

async function readTarget(
  { dialectOf }: ReplayOptions,
  tx: Tx,
  task: Task,
  { endpointId }: ReplayInput,
): Promise<Target | Failure> {
  const application = (await tx.applications.get(task.applicationId))?.application;
  const endpoint = application && (await tx.endpoints.find(application.id, endpointId));
  if (!endpoint) return { failure: `The endpoint "${endpointId}" was deleted.` };
  if (endpoint.disabled) {
    return { failure: `The endpoint "${endpointId}" was disabled: enable it, and ask for the rest again.` };
  }
  const dialect = dialectOf(application);
  return { application, endpoint, dialect, rules: effectiveRules(endpoint, application, dialect) };
}

/** A message to be sent; `state` is null where the endpoint never had a delivery of it. */
interface Found {
  readonly message: Message;
  readonly state: DeliveryState | null;
}

interface SearchResult {
  readonly messages: readonly Found[];
  /** The last message that was looked at. */
  readonly after: string;
  /** Whether nothing lies behind it. */
  readonly isEnd: boolean;
}

/** Looks for at most `limit` messages, a window at a time, through as many windows as make one step. */
async function search(
  options: ReplayOptions,
  task: Task,
  input: ReplayInput,
  start: string,
  limit: number,
): Promise<SearchResult | Failure> {
  const messages: Found[] = [];
  let after = start;
  for (let windows = 0; windows < stepWindows; windows++) {
    const found = await options.store.read(async (tx) => {
      const target = await readTarget(options, tx, task, input);
      return "failure" in target ? target : await searchWindow(tx, target, input, after);
    });
    if ("failure" in found) return found;
    const room = limit - messages.length;
    messages.push(...found.messages.slice(0, room));
    const last = found.messages[room - 1];
    // What else the window has is for the next step.
    if (last !== undefined) return { messages, after: last.message.id, isEnd: false };
    ({ after } = found);
    if (found.isEnd) return { messages, after, isEnd: true };
    // Everything else gets its turn between two reads.
    await new Promise(setImmediate);
  }
  return { messages, after, isEnd: false };
}

async function searchWindow(
  tx: Tx,
  { application, endpoint, dialect }: Target,
  input: ReplayInput,
  after: string,
): Promise<SearchResult> {
  const window = {
    applicationId: application.id,
    endpointId: endpoint.id,
    after,
    through: input.through,
    limit: windowSize,
  };
  const rows: readonly Replayable[] = input.isMissing
    ? await tx.replays.listAll(window)
    : await tx.replays.listSent(window);
  const states = new Map(
    rows
      .filter(({ state }) => (state === null ? input.isMissing : isIn(input.states, state)))
      .map(({ messageId, state }) => [messageId, state]),
  );
  let messages = states.size === 0 ? [] : await tx.replays.listFull(application.id, [...states.keys()]);
  messages = messages.filter(
    (message) =>
      fits(message, input) && (states.get(message.id) !== null || dialect.selects(endpoint, message)),
  );
  if (input.statusCodeClass !== null && messages.length > 0) {
    const statuses = await tx.replays.lastStatuses(
      endpoint.id,
      messages.map(({ id }) => id),
    );
    const from = input.statusCodeClass;
    messages = messages.filter(({ id }) => {
      const status = statuses.get(id) ?? -1;
      return status >= from && status < from + 100;
    });
  }
  return {
    messages: messages.map((message) => ({ message, state: states.get(message.id) ?? null })),
    after: rows.at(-1)?.messageId ?? after,
    isEnd: rows.length < windowSize,
  };
}

function isIn(states: readonly DeliveryState[], state: DeliveryState): boolean {
  return states.includes(state);
}

function fits(message: Message, { since, until, eventTypes, channel, tag }: ReplaySelection): boolean {
  return (
    message.createdAt >= since &&
    (until === null || message.createdAt <= until) &&
    (eventTypes === null || eventTypes.includes(message.eventType)) &&
    (channel === null || (message.channels?.includes(channel) ?? false)) &&
    (tag === null || message.tags.includes(tag))
  );
}

function fail(error: string): TaskStep {
  const failed: TaskProgress = { status: "failed", error };
  return { apply: async () => failed };
}
