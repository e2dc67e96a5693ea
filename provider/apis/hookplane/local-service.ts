import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { z } from "zod";
import { createSettings } from "../../config.ts";
import { HookplaneError } from "../../errors.ts";
import { createHttpClient, HttpError } from "../../http/client.ts";
import { wait } from "../../http/wait.ts";
import { findNode, packageRoot } from "./node-executable.ts";
import {
  lastLogLines,
  openLog,
  readCredentials,
  readLog,
  readRecord,
  writeRecord,
  type ServiceCredentials,
  type ServiceRecord,
  type ServiceSettings,
} from "./service-folder.ts";

/** What a data folder says of its service, and whether it runs. */
export interface LocalService {
  readonly dataDir: string;
  readonly credentials: ServiceCredentials;
  /** How it was started last; undefined where that was not by a program. */
  readonly record: ServiceRecord | undefined;
  /** The address it has, or had when it ran last. */
  readonly url: string | undefined;
  /** Of the process that was started for it, while that lives. */
  readonly pid: number | null;
  /** It answers at its address, and takes this folder's token. */
  readonly running: boolean;
  /** As it says itself, while it runs. */
  readonly version: string | null;
}

/** How long a stop lets the service drain before it is ended; its own limit is 10 s. */
const stopTimeoutMs = 15_000;

/** The service of a data folder, or undefined where none was ever started in it. */
export async function findService(dataDir: string, signal: AbortSignal): Promise<LocalService | undefined> {
  const credentials = await readCredentials(dataDir);
  if (!credentials) return undefined;
  const record = await readRecord(dataDir);
  const url = record && (record.url ?? (await findReadyUrl(dataDir, record.logOffset)));
  const noted = record?.pid ?? null;
  const pid = noted !== null && (await isServiceProcess(noted, dataDir)) ? noted : null;
  const version = url ? await askVersion(url, credentials, signal) : null;
  return { dataDir, credentials, record, url, pid, running: version !== null, version };
}

/**
 * Starts the service as a process of its own that outlives this one, and waits until it answers. Throws `not_ready` with
 * the log's last lines where it ends, or is not ready in time (it is then stopped).
 */
export async function startService(
  dataDir: string,
  settings: ServiceSettings,
  port: number | null,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<LocalService> {
  const environment = (name: string): string | undefined => createSettings().environment(name);
  const node = await findNode(environment);
  const inherited = ["PATH", "HOME", "TMPDIR", "TZ", "LANG", "NODE_EXTRA_CA_CERTS", "SystemRoot"];
  await makeFolder(dataDir);
  const log = await openLog(dataDir);
  const deadline = Date.now() + timeoutMs;
  let ended: string | undefined;
  let pid: number | undefined;
  try {
    const program = join(packageRoot(), "bin", "hookplane.js");
    const child = spawn(node, [program, ...toArguments(dataDir), ...toFlags(settings, port)], {
      detached: true,
      stdio: ["ignore", log.handle.fd, log.handle.fd],
      env: Object.fromEntries(inherited.map((name) => [name, environment(name)])),
    });
    child.once("error", (error) => (ended = error.message));
    child.once("exit", (code, by) => (ended ??= `it ended with ${by ?? `exit code ${code}`}`));
    child.unref();
    pid = child.pid;
  } finally {
    await log.handle.close();
  }

  const record: ServiceRecord = {
    pid: pid ?? null,
    url: null,
    startedAt: new Date().toISOString(),
    logOffset: log.offset,
    settings,
  };
  if (pid !== undefined) await writeRecord(dataDir, record);
  try {
    for (;;) {
      if (ended) throw await startError(dataDir, log.offset, ended);
      const url = await findReadyUrl(dataDir, log.offset);
      if (url) {
        await writeRecord(dataDir, { ...record, url });
        const service = await findService(dataDir, signal);
        if (service?.running) return service;
      }
      if (Date.now() >= deadline) {
        const problem = `it was not ready within ${timeoutMs / 1000} s`;
        throw await startError(
          dataDir,
          log.offset,
          problem,
          "Give it more time with `startTimeoutSeconds`. ",
        );
      }
      await wait(50, signal);
    }
  } catch (error) {
    await stopProcess(dataDir, { ...record, pid: ended ? null : record.pid });
    throw error;
  }
}

/**
 * Stops the service that was started in the folder: drained where possible, ended after 15 s. Does nothing where none runs.
 * Notes the settings, where they are given, for the next look.
 */
export async function stopService(
  dataDir: string,
  signal: AbortSignal,
  settings?: ServiceSettings,
): Promise<void> {
  const service = await findService(dataDir, signal);
  if (!service?.record) return;
  if (service.running && service.pid === null) {
    throw new HookplaneError(
      "not_ready",
      `The service in "${dataDir}" answers at "${service.url ?? ""}", but in another process than the one started for it`,
      { remedy: "Stop that process yourself, and run the command again." },
    );
  }
  await stopProcess(dataDir, {
    ...service.record,
    pid: service.pid,
    url: service.url ?? null,
    settings: settings ?? service.record.settings,
  });
}

async function stopProcess(dataDir: string, record: ServiceRecord): Promise<void> {
  const { pid } = record;
  if (pid !== null && (await isServiceProcess(pid, dataDir))) {
    send(pid, "SIGTERM");
    const deadline = Date.now() + stopTimeoutMs;
    while (!(await hasEnded(pid)) && Date.now() < deadline) await sleep(25);
    if (!(await hasEnded(pid))) send(pid, "SIGKILL");
    while (!(await hasEnded(pid))) await sleep(25);
  }
  await writeRecord(dataDir, { ...record, pid: null });
}

/**
 * Whether nothing of the process is left that holds its port or its folder. One that has ended stays in the process table
 * until its parent collects it, which may be never where that is a container's first process.
 */
async function hasEnded(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ESRCH";
  }
  if (process.platform !== "linux") return false;
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return /\) [ZX] /.test(stat);
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended in this very moment.
  }
}

/**
 * Whether the process is a service in this folder: a number alone says nothing, since the system gives numbers out again.
 */
async function isServiceProcess(pid: number, dataDir: string): Promise<boolean> {
  return (await commandOf(pid)).includes(` ${toArguments(dataDir).join(" ")} --host `);
}

/** The command line of a process; empty where it is gone. */
async function commandOf(pid: number): Promise<string> {
  if (process.platform === "linux") {
    const line = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    return line.replaceAll("\0", " ");
  }
  const ps = promisify(execFile)("ps", ["-ww", "-o", "command=", "-p", String(pid)]);
  return ps.then(
    ({ stdout }) => stdout,
    () => "",
  );
}

/** The beginning by which a service's process is known. */
function toArguments(dataDir: string): string[] {
  return ["serve", "--data-dir", dataDir];
}

function toFlags(settings: ServiceSettings, port: number | null): string[] {
  return [
    ...["--host", settings.host],
    ...["--port", String(port ?? 0)],
    ...settings.allowSubnets.flatMap((subnet) => ["--allow-subnet", subnet]),
    ...(settings.inbox ? ["--inbox"] : []),
    ...(settings.publicUrl === "" ? [] : ["--public-url", settings.publicUrl]),
    ...["--log-level", settings.logLevel],
  ];
}

const readyLine = z.object({ event: z.literal("ready"), url: z.string() });
const failedLine = z.object({ event: z.literal("failed"), code: z.string(), message: z.string() });

async function findReadyUrl(dataDir: string, logOffset: number): Promise<string | undefined> {
  return findLine(await readLog(dataDir, logOffset), readyLine)?.url;
}

function findLine<T>(lines: readonly string[], schema: z.ZodType<T>): T | undefined {
  for (const line of lines) {
    try {
      const { data } = schema.safeParse(JSON.parse(line));
      if (data) return data;
    } catch {
      // Not every line of a log is JSON.
    }
  }
  return undefined;
}

/** What to do here about the reasons that `hookplane serve` gives; the others come with their own remedy. */
const remedies: Readonly<Record<string, string>> = {
  port_taken: "Stop the process that has the port, or set another `port`. ",
  data_folder_in_use: "Stop the process that uses the data folder, or set another `dataDir`. ",
};

async function startError(
  dataDir: string,
  logOffset: number,
  problem: string,
  remedy = "",
): Promise<HookplaneError> {
  const failed = findLine(await readLog(dataDir, logOffset), failedLine);
  const reason = failed ? failed.message.replaceAll("\n", " ") : problem;
  const advice = failed ? (remedies[failed.code] ?? "") : remedy;
  return new HookplaneError("not_ready", `The delivery service did not start: ${reason}`, {
    remedy: `${advice}${await lastLogLines(dataDir, logOffset)}`,
  });
}

async function makeFolder(dataDir: string): Promise<void> {
  try {
    // One by one: Node's own recursive way never ends where a parent exists and refuses, as in `/proc`.
    const missing: string[] = [];
    for (let path = dataDir; !existsSync(path); path = dirname(path)) missing.unshift(path);
    for (const path of missing) await mkdir(path, { mode: 0o700 });
  } catch (error) {
    throw new HookplaneError("not_ready", `The data folder "${dataDir}" cannot be made: ${String(error)}`, {
      remedy: "Set another `dataDir`, or make its parent writable.",
    });
  }
}

/** The version of the service at the address, where it is one and takes the token; else null. */
async function askVersion(
  url: string,
  { admin }: ServiceCredentials,
  signal: AbortSignal,
): Promise<string | null> {
  const limits = { maxAttempts: 3, baseDelayMs: 200, attemptTimeoutMs: 5_000 };
  const api = createHttpClient({ signal, limits }).api({
    title: "The delivery service",
    url,
    authorize: () => ({ authorization: `Bearer ${admin.token}` }),
  });
  try {
    const answer = z.object({ version: z.string() });
    const { version } = await api.request({ method: "GET", path: "/healthz", retry: "safe", answer });
    await api.request({ method: "GET", path: "/api/v1/app?limit=1", retry: "safe" });
    return version;
  } catch (error) {
    if (error instanceof HttpError && error.code !== "aborted") return null;
    throw error;
  }
}
