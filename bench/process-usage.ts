import { readFileSync, readdirSync } from "node:fs";

/** What processes have used. */
export interface Usage {
  /** User and system time, exited children included, in milliseconds; the kernel counts in steps of 10. */
  readonly cpuMs: number;
  /** Resident memory now. Memory that processes share counts for each. */
  readonly rssBytes: number;
}

/** Clock ticks per second of `/proc/<pid>/stat`: 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

/** The usage of processes together with all that descend from them. Those that have ended count nothing. */
export function usageOf(pids: readonly number[]): Usage {
  let cpuMs = 0;
  let rssBytes = 0;
  for (const pid of withDescendants(pids)) {
    const stat = parseStat(readProc(pid, "stat"));
    if (stat === null) continue;
    cpuMs += (stat.ticks / ticksPerSecond) * 1000;
    rssBytes += parseStatusKiB(readProc(pid, "status"), "VmRSS") * 1024;
  }
  return { cpuMs, rssBytes };
}

/**
 * Resident memory of processes that share much of it, as PostgreSQL's do: each one's own, and the largest shared part
 * once.
 */
export function residentSharedOnce(pids: readonly number[]): number {
  let own = 0;
  let shared = 0;
  for (const pid of withDescendants(pids)) {
    const status = readProc(pid, "status");
    own += parseStatusKiB(status, "RssAnon");
    shared = Math.max(shared, parseStatusKiB(status, "RssFile") + parseStatusKiB(status, "RssShmem"));
  }
  return (own + shared) * 1024;
}

/** The CPU time that the whole machine has used since it started, in milliseconds. */
export function machineCpuMs(): number {
  return parseMachineTicks(readFileSync("/proc/stat", "utf8")) * (1000 / ticksPerSecond);
}

/**
 * User and system time, and what a hypervisor withheld, of the first line of `/proc/stat`. Interrupts are left out: the
 * times of processes do not have them either.
 */
export function parseMachineTicks(text: string): number {
  const fields = text.slice(0, text.indexOf("\n")).split(/ +/);
  const [, user = "0", nice = "0", system = "0"] = fields;
  return [user, nice, system, fields[8] ?? "0"].reduce((sum, ticks) => sum + Number(ticks), 0);
}

/** The parent and the CPU time out of `/proc/<pid>/stat`; null when the text is empty. */
export function parseStat(text: string): { parent: number; ticks: number } | null {
  // The command's name stands in parentheses and may hold anything.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  if (fields.length < 15) return null;
  const [, parent] = fields;
  const times = fields.slice(11, 15);
  return { parent: Number(parent), ticks: times.reduce((sum, time) => sum + Number(time), 0) };
}

/** A line of `/proc/<pid>/status` that is in KiB; 0 when there is none. */
export function parseStatusKiB(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1] ?? 0);
}

function withDescendants(pids: readonly number[]): Set<number> {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const parent = parseStat(readProc(pid, "stat"))?.parent;
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found = new Set<number>();
  const waiting = [...pids];
  for (let pid = waiting.pop(); pid !== undefined; pid = waiting.pop()) {
    if (found.has(pid)) continue;
    found.add(pid);
    waiting.push(...(children.get(pid) ?? []));
  }
  return found;
}

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    // It has ended.
    return "";
  }
}
