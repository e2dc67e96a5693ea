import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { Child } from "./child.ts";
import type { Load, LoadResult } from "./generator.ts";
import { settle, type Account } from "./ledger.ts";
import { machineCpuMs, residentSharedOnce, usageOf, type Usage } from "./process-usage.ts";
import type { Received, ReceiverMethods } from "./receiver.ts";
import { closedLoop } from "./publishing.ts";
import type { Run } from "./run.ts";
import type { ServerProcess } from "./server-process.ts";
import type { Latency } from "./statistics.ts";

/** One round of one row. */
export interface Measurement {
  /** Accepted and delivered, from the first request's start to the last arrival; null where the rate is given. */
  readonly eventsPerSecond: number | null;
  /** From the start of an event's request to its receipt, or what the row says. */
  readonly latency: Latency | null;
  readonly account: Account;
  /** How many requests were answered with each status. */
  readonly statuses: Readonly<Record<string, number>>;
  readonly service: Cost;
  /** PostgreSQL's processes; null where the row has none. */
  readonly database: Cost | null;
  /** Generator and receiver. */
  readonly harness: Cost;
  /** Which share of all cores went to processes that are not the bench's, from 0 to 1. */
  readonly othersShare: number;
  /** What else the row is about, by its name with the unit. */
  readonly figures: Readonly<Record<string, number>>;
}

/** What processes used during a round. */
interface Cost {
  readonly cpuSeconds: number;
  /** Per event that was accepted, those included that the receiver does not answer. */
  readonly cpuUsPerEvent: number;
  /** The most at any time. */
  readonly rssMiB: number;
}

/** The processes whose cost is taken. */
export interface Subject {
  /** Of the service; what descends from them counts too. */
  readonly pids: readonly number[];
  /** Of the database; null where it has none. */
  readonly databasePid: number | null;
}

/** No arrival for so long: what is missing then is lost. Longer than the first two waits between attempts. */
const lostAfterMs = 20_000;
const sampleMs = 250;

/** What a load came to. */
export interface Outcome {
  readonly load: LoadResult;
  readonly received: Received;
  readonly account: Account;
}

/** A load without its numbers. */
export type Demand = Omit<Load, "firstNumber">;

/**
 * Puts a load on the subject and waits until what it accepted has arrived.
 *
 * @param isCounted the events, counted from 0, that the receiver answers; all by default
 */
export async function putLoad(
  run: Run,
  demand: Demand,
  isCounted?: (index: number) => boolean,
): Promise<Outcome> {
  const { generator, receiver } = run;
  const firstNumber = run.takeNumbers(0);
  await receiver.call("begin", firstNumber);
  const load = await generator.call("run", { ...demand, firstNumber });
  run.takeNumbers(load.accepted.length);
  const accepted = countAccepted(load.accepted, isCounted);
  if (!load.accepted.includes(1)) {
    throw new Error(`Nothing was accepted; the answers by status: ${JSON.stringify(load.statuses)}`);
  }
  await untilArrived(receiver, accepted);
  // What is on its way twice is seen as well.
  await sleep(100);
  const received = await receiver.call("end");
  return { load, received, account: settle(load.accepted, received.times, isCounted) };
}

function countAccepted(accepted: Uint8Array, isCounted: (index: number) => boolean = () => true): number {
  return accepted.reduce((sum, value, index) => (isCounted(index) ? sum + value : sum), 0);
}

/** Waits for so many different events; less when none has come for a while. */
async function untilArrived(receiver: Child<ReceiverMethods>, count: number): Promise<void> {
  let { distinct } = await receiver.call("progress");
  let movedAt = Date.now();
  while (distinct < count && Date.now() - movedAt < lostAfterMs) {
    await sleep(20);
    const progress = await receiver.call("progress");
    if (progress.distinct > distinct) movedAt = Date.now();
    distinct = progress.distinct;
  }
}

/** What a load came to, and what it cost. */
export type Costed = Outcome & Pick<Measurement, "service" | "database" | "harness" | "othersShare">;

/** Runs something and takes what it cost. */
export async function costing(run: Run, subject: Subject, work: () => Promise<Outcome>): Promise<Costed> {
  const databasePids = subject.databasePid === null ? [] : [subject.databasePid];
  const harnessPids = [run.generator.pid, run.receiver.pid];
  const groups = [subject.pids, databasePids, harnessPids];
  const peaks = [0, 0, 0];
  const sample = (): Usage[] => {
    const usages = groups.map(usageOf);
    const rss = [usages[0]!.rssBytes, residentSharedOnce(databasePids), usages[2]!.rssBytes];
    for (const [index, bytes] of rss.entries()) peaks[index] = Math.max(peaks[index]!, bytes);
    return usages;
  };
  const before = sample();
  const startedAtMs = performance.now();
  const unrelatedBeforeMs = machineCpuMs() - ownCpuMs();
  const timer = setInterval(sample, sampleMs);
  try {
    const outcome = await work();
    const after = sample();
    const cpuMs = after.map((usage, index) => usage.cpuMs - before[index]!.cpuMs);
    const elapsedMs = (performance.now() - startedAtMs) * availableParallelism();
    const unrelatedMs = machineCpuMs() - ownCpuMs() - unrelatedBeforeMs;
    const accepted = countAccepted(outcome.load.accepted);
    const [service, database, others] = cpuMs.map((ms, index): Cost => ({
      cpuSeconds: ms / 1e3,
      cpuUsPerEvent: (ms * 1e3) / accepted,
      rssMiB: peaks[index]! / 2 ** 20,
    }));
    if (subject.databasePid !== null && database!.cpuSeconds === 0) {
      throw new Error("The database was not used: the service kept its data elsewhere");
    }
    return {
      ...outcome,
      service: service!,
      database: subject.databasePid === null ? null : database!,
      harness: others!,
      othersShare: Math.max(0, unrelatedMs - cpuMs.reduce((sum, ms) => sum + ms, 0)) / elapsedMs,
    };
  } finally {
    clearInterval(timer);
  }
}

/** Of the bench's own process, which watches. */
function ownCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e3;
}

/** The servers' processes. */
export function subjectOf(servers: readonly ServerProcess[], databasePid: number | null = null): Subject {
  return { pids: servers.map(({ pid }) => pid), databasePid };
}

/** A load with what it cost, as a row of the table; `given` replaces what the row sees otherwise. */
export function toMeasurement(outcome: Costed, given: Partial<Measurement> = {}): Measurement {
  const { account, load, received, service, database, harness, othersShare } = outcome;
  return {
    eventsPerSecond: rateOf(outcome),
    latency: received.latency,
    account,
    statuses: load.statuses,
    service,
    database,
    harness,
    othersShare,
    ...given,
    figures: {
      ...(load.lateness.count > 0 && { "started late, p99 ms": load.lateness.p99 }),
      ...(received.stray > 0 && { "arrivals of earlier events": received.stray }),
      ...given.figures,
    },
  };
}

/**
 * The same requests at full speed for a while, unmeasured, so that code is compiled and connections are there: at a low
 * rate it would take minutes.
 */
export async function warmUp(
  run: Run,
  demand: Demand,
  isCounted?: (index: number) => boolean,
): Promise<void> {
  const pace = demand.pace.kind === "closed" ? demand.pace : closedLoop;
  await putLoad(run, { ...demand, pace, seconds: run.isQuick ? 1 : 4 }, isCounted);
}

/** Warm-up, then the load with what it costs. */
export async function measureLoad(run: Run, subject: Subject, demand: Demand): Promise<Measurement> {
  await warmUp(run, demand);
  const outcome = await costing(run, subject, () => putLoad(run, demand));
  // The rate of an open loop is the one it was asked for.
  return toMeasurement(outcome, demand.pace.kind === "open" ? { eventsPerSecond: null } : {});
}

/** The rate from the first request's start to the last arrival. */
function rateOf({ load, received, account }: Outcome): number {
  return (account.delivered * 1e6) / (received.lastAtUs - load.startedAtUs);
}
