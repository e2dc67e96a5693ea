import path from "node:path";
import type { Child } from "./child.ts";
import type { GeneratorMethods } from "./generator.ts";
import { createManagement, type Management } from "./management.ts";
import type { Measurement } from "./measurement.ts";
import type { PostgresServer } from "./postgres.ts";
import type { ReceiverMethods } from "./receiver.ts";
import { removeFolder, startService, type ServerProcess, type ServiceOptions } from "./server-process.ts";

/** What the rows are run with. */
export interface Run {
  readonly generator: Child<GeneratorMethods>;
  readonly receiver: Child<ReceiverMethods>;
  readonly receiverPort: number;
  /** Where data folders are made. */
  readonly folder: string;
  /** How long a closed loop is measured. */
  readonly seconds: number;
  /** Small numbers everywhere: to see that it works, not to be quoted. */
  readonly isQuick: boolean;
  /** Where CPU profiles of the service go; null for none. */
  readonly profileFolder: string | null;
  /** Numbers for so many events, the first of them; no other measurement has them. */
  takeNumbers(count: number): number;
  /** One that runs for the whole bench, started when it is first asked for. */
  postgres(): Promise<PostgresServer>;
}

/** One line of the table. */
export interface Row {
  /** Of the list in docs/performance.md: `b`. */
  readonly letter: string;
  /** For one row of several of a letter: `e1000`. */
  readonly id: string;
  readonly title: string;
  /** One round, with servers and data of its own. */
  measure(run: Run): Promise<Measurement>;
}

/** Where the receiver takes requests: `/fast`, `/delay/<ms>`, `/hang` or `/gate`, at any address of this machine. */
export function receiverUrl({ receiverPort }: Run, path: string, address = "127.0.0.1"): string {
  return `http://${address}:${receiverPort}/${path}`;
}

/** A service that is measured, and what sets it up. */
export interface Prepared {
  readonly server: ServerProcess;
  readonly management: Management;
  readonly dataDir: string;
}

/**
 * Runs with a service of its own, whose data is removed afterwards. It delivers in one thread unless the flags say
 * otherwise, as the floor does.
 */
export async function withService(
  run: Run,
  name: string,
  options: Omit<ServiceOptions, "dataDir" | "nodeFlags">,
  measure: (prepared: Prepared) => Promise<Measurement>,
): Promise<Measurement> {
  const dataDir = path.join(run.folder, name);
  await removeFolder(dataDir);
  try {
    await using server = await startService({
      ...options,
      dataDir,
      flags: ["--workers", "1", ...(options.flags ?? [])],
      nodeFlags: profileFlags(run, name),
    });
    return await measure({ server, management: createManagement(server), dataDir });
  } finally {
    await removeFolder(dataDir);
  }
}

/** What makes Node write a profile, where profiles are asked for. */
export function profileFlags({ profileFolder: folder }: Run, name: string): string[] {
  if (folder === null) return [];
  return ["--cpu-prof", `--cpu-prof-dir=${folder}`, `--cpu-prof-name=${name}.\${pid}.cpuprofile`];
}
