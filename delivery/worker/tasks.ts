import { setTimeout as sleep } from "node:timers/promises";
import { ServiceError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Store, Task, Tx } from "../store/store.ts";
import type { Membership } from "./membership.ts";

/** How far a task has come; what is left out stays as it is. */
export type TaskProgress = Partial<Pick<Task, "cursor" | "done" | "total" | "status" | "error">>;

/** What a task does next: change something, or wait because it would only add to what waits already. */
export type TaskStep =
  | {
      /** Does the step's work in the transaction that writes the progress down: both happen, or neither. */
      readonly apply: (tx: Tx) => Promise<TaskProgress>;
    }
  | { readonly waitMs: number };

/** A kind of background work. */
export interface TaskKind {
  /** Of its tasks' `kind`. */
  readonly name: string;
  /**
   * Finds the next step. It may read from the store as long as it likes, in short reads; what it then changes takes one
   * short transaction.
   */
  next(task: Task): Promise<TaskStep>;
}

export interface TaskRunnerOptions {
  readonly store: Store;
  readonly membership: Pick<Membership, "number" | "holds">;
  readonly kinds: readonly TaskKind[];
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Steps that are under way at a time; 2 by default. */
  readonly parallel?: number;
  /** How often tasks are looked for that nobody works on, such as those of a node that died; 2 s by default. */
  readonly pollMs?: number;
  /**
   * Waits after steps that failed in a row, until the task is given up; 1, 5, 15 and 60 s by default. While the database
   * cannot be used, it is tried on and on.
   */
  readonly retryDelaysMs?: readonly number[];
}

/** Tasks that one node has at a time; most of them may be waiting. */
const maxHeld = 1_000;
/** A step is followed by a rest of at least this, and of twice the time that it took. */
const minRestMs = 2;
const maxRestMs = 1_000;
const defaultRetryDelaysMs: readonly number[] = [1_000, 5_000, 15_000, 60_000];
const outageDelayMs = 1_000;

/** Somebody else has the task now, or ended it: nothing of the step may stay. */
class LostTaskError extends Error {
  override readonly name = "LostTaskError";
}

/**
 * Works on background tasks, several in turns. Each step and the note of how far the task has come are one transaction:
 * whenever the process dies, another goes on at the very place. Only the node that holds a task can write it.
 */
export class TaskRunner {
  readonly #options: TaskRunnerOptions;
  readonly #kinds: ReadonlyMap<string, TaskKind>;
  readonly #stopping = new AbortController();
  readonly #held = new Set<Promise<void>>();
  /** Those that wait for one of the `parallel` places. */
  readonly #queue: (() => void)[] = [];
  #free: number;
  #timer: NodeJS.Timeout | undefined;
  #polling: Promise<void> | null = null;
  #isAskedAgain = false;

  constructor(options: TaskRunnerOptions) {
    this.#options = options;
    this.#kinds = new Map(options.kinds.map((kind) => [kind.name, kind]));
    this.#free = options.parallel ?? 2;
  }

  /** Takes up what is to be done, from now on. */
  start(): void {
    this.wake();
  }

  /** Looks for tasks now: there is a new one. */
  wake(): void {
    if (this.#stopping.signal.aborted) return;
    this.#isAskedAgain = true;
    if (this.#polling) return;
    clearTimeout(this.#timer);
    this.#polling = this.#poll().finally(() => {
      this.#polling = null;
      if (this.#isAskedAgain) this.wake();
      else this.#schedule();
    });
  }

  /** Ends the steps under way, and leaves the tasks to other nodes. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    await this.#polling;
    await Promise.all(this.#held);
  }

  #schedule(): void {
    if (this.#stopping.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.wake();
    }, this.#options.pollMs ?? 2_000);
  }

  async #poll(): Promise<void> {
    const { store, membership, logger } = this.#options;
    this.#isAskedAgain = false;
    try {
      while (this.#held.size < maxHeld && !this.#stopping.signal.aborted) {
        const { number } = membership;
        if (!membership.holds(number)) return;
        const task = await store.write((tx) => tx.tasks.claim(number));
        if (task === undefined) return;
        const work = this.#work(task, number).finally(() => this.#held.delete(work));
        this.#held.add(work);
      }
    } catch (error) {
      logger.error({ err: error }, "background tasks could not be looked for; trying again");
    }
  }

  /** One task, until it has ended or is somebody else's. */
  async #work(claimed: Task, node: number): Promise<void> {
    const { logger } = this.#options;
    let task = claimed;
    let failures = 0;
    while (task.status === "running" && !this.#stopping.signal.aborted) {
      let restMs: number;
      try {
        const stepped = await this.#inTurn(() => this.#step(task, node));
        task = stepped.task;
        restMs = stepped.restMs;
        failures = 0;
      } catch (error) {
        if (error instanceof LostTaskError) return;
        const isOutage = error instanceof ServiceError && error.code === "unavailable";
        logger.error({ err: error, taskId: task.id }, "a step of a background task failed");
        const { retryDelaysMs = defaultRetryDelaysMs } = this.#options;
        const delayMs = isOutage ? outageDelayMs : retryDelaysMs[failures++];
        if (delayMs === undefined) {
          await this.#end(task, node, { status: "failed", error: "The service could not go on with it." });
          return;
        }
        restMs = delayMs;
      }
      if (task.status === "running") await this.#rest(restMs);
    }
    if (task.status === "running") await this.#end(task, node, { leasedBy: null });
  }

  async #step(task: Task, node: number): Promise<{ task: Task; restMs: number }> {
    const { store, now } = this.#options;
    const startedAt = performance.now();
    const kind = this.#kinds.get(task.kind);
    const step: TaskStep =
      kind === undefined
        ? { apply: async () => ({ status: "failed", error: `This version knows no task "${task.kind}".` }) }
        : await kind.next(task);
    if ("waitMs" in step) return { task, restMs: step.waitMs };
    const stepped = await store.write(async (tx) => {
      const progress = { ...task, ...(await step.apply(tx)), updatedAt: now() };
      const isOver = progress.status !== "running";
      const held = await tx.tasks.update({ ...progress, leasedBy: isOver ? null : node }, node);
      if (!held) throw new LostTaskError();
      return progress;
    });
    const restMs = 2 * (performance.now() - startedAt);
    return { task: stepped, restMs: Math.min(Math.max(restMs, minRestMs), maxRestMs) };
  }

  /** Writes down how the task is left. When that fails, it is free once this node is gone. */
  async #end(task: Task, node: number, end: Partial<Task>): Promise<void> {
    try {
      const ended = { ...task, leasedBy: null, ...end, updatedAt: this.#options.now() };
      await this.#options.store.write((tx) => tx.tasks.update(ended, node));
    } catch (error) {
      this.#options.logger.error({ err: error, taskId: task.id }, "a background task could not be put down");
    }
  }

  /** Waits for a free place, and hands it on in the order that was asked in. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#queue.shift();
      if (next) next();
      else this.#free++;
    }
  }

  async #rest(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
  }
}
