import { closeSync, fdatasyncSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { nowUs } from "./clock.ts";
import { percentile } from "./statistics.ts";

/** What the figures of a run depend on, and nothing that tells whose machine it is. */
export interface Machine {
  readonly cores: number;
  readonly processor: string;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  /** Of the rows that use it; null when none did. */
  readonly postgres: string | null;
  /** One 4 KiB write and its sync in the data folder, half of them faster. */
  readonly fdatasyncP50Ms: number;
}

/** `f_type` of file systems that are no disk: tmpfs and ramfs. */
const memoryFileSystems = new Set([0x01021994, 0x858458f6]);

/**
 * @param folder where the data will be
 * @throws Error when it is in memory: synced writes would cost nothing there
 */
export function describeMachine(folder: string): Machine {
  if (memoryFileSystems.has(statfsSync(folder).type)) {
    throw new Error(`"${folder}" is in memory: give a folder on a disk with --data-dir`);
  }
  const cpus = os.cpus();
  return {
    cores: os.availableParallelism(),
    processor: cpus[0]?.model.trim() ?? "unknown",
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    kernel: `${os.type()} ${os.release()}`,
    node: process.version,
    postgres: null,
    fdatasyncP50Ms: measureSync(folder),
  };
}

function measureSync(folder: string): number {
  const file = path.join(folder, "fdatasync");
  const descriptor = openSync(file, "w");
  const page = Buffer.alloc(4096, 1);
  const durationsMs = new Float64Array(200);
  for (let index = 0; index < durationsMs.length; index += 1) {
    const startedAtUs = nowUs();
    writeSync(descriptor, page);
    fdatasyncSync(descriptor);
    durationsMs[index] = (nowUs() - startedAtUs) / 1e3;
  }
  closeSync(descriptor);
  rmSync(file);
  return percentile(durationsMs.sort(), 0.5);
}

/** One line for the report. */
export function machineText({
  cores,
  processor,
  memoryGiB,
  kernel,
  node,
  postgres,
  fdatasyncP50Ms,
}: Machine) {
  return [
    `${cores} cores (${processor})`,
    `${memoryGiB} GiB`,
    kernel,
    `Node ${node}`,
    ...(postgres === null ? [] : [`PostgreSQL ${postgres}`]),
    `fdatasync p50 ${fdatasyncP50Ms.toFixed(2)} ms`,
  ].join(", ");
}
