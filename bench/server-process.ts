import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const root = path.resolve(import.meta.dirname, "..");

/** How long a server may take to say that it is ready, and to end. */
const startMs = 60_000;
const stopMs = 60_000;

/** What was started and has not ended. */
const running = new Set<ChildProcess>();

/** Ends every server at once, as the bench itself ends. */
export function killServers(): void {
  for (const child of running) child.kill("SIGKILL");
}

/** A server that is measured: the service, or a floor. */
export interface ServerProcess extends AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  /** Of its administrator. */
  readonly token: string;
}

export interface ServiceOptions {
  /** The data folder; made when it is missing. */
  readonly dataDir: string;
  /** Further flags of `hookplane serve`. */
  readonly flags?: readonly string[];
  /** Flags of Node, such as `--cpu-prof`. */
  readonly nodeFlags?: readonly string[];
  /** The data folder of the node that this one shares its key and its credentials with; it must have started. */
  readonly sharedWith?: string;
  /** Further variables: what must not be seen in a list of processes. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** Starts the service as its users do: `hookplane serve`, the log in a file. */
export async function startService(options: ServiceOptions): Promise<ServerProcess> {
  const { dataDir, flags = [], nodeFlags = [], sharedWith = dataDir, environment = {} } = options;
  await mkdir(dataDir, { recursive: true });
  const credentialsFile = path.join(sharedWith, "credentials.json");
  const server = await start(
    [
      path.join(root, "bin", "hookplane.js"),
      "serve",
      ...["--port", "0", "--data-dir", dataDir, "--allow-subnet", "127.0.0.0/8"],
      ...(sharedWith === dataDir
        ? []
        : ["--credentials-file", credentialsFile, "--master-key-file", path.join(sharedWith, "master.key")]),
      ...flags,
    ],
    path.join(dataDir, "log"),
    nodeFlags,
    environment,
  );
  const { admin } = JSON.parse(readFileSync(credentialsFile, "utf8")) as { admin: { token: string } };
  return { ...server, token: admin.token };
}

/** Starts `floor.ts`, which takes any token. */
export async function startFloor(
  kind: "service" | "bare" | "raw",
  receiverUrl: string,
  folder: string,
  nodeFlags: readonly string[] = [],
): Promise<ServerProcess> {
  await mkdir(folder, { recursive: true });
  const script = path.join(import.meta.dirname, "floor.ts");
  const server = await start([script, kind, receiverUrl], path.join(folder, "log"), nodeFlags, {});
  return { ...server, token: "floor" };
}

async function start(
  command: readonly string[],
  logFile: string,
  nodeFlags: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<Omit<ServerProcess, "token">> {
  const log = openSync(logFile, "a");
  const child = spawn(process.execPath, [...nodeFlags, ...command], {
    stdio: ["ignore", "pipe", log],
    env: { ...withoutSettings(process.env), ...environment },
  });
  closeSync(log);
  running.add(child);
  child.on("exit", () => running.delete(child));
  let output = "";
  const ready = new Promise<{ url: string }>((resolve, reject) => {
    child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      const [line, ...rest] = output.split("\n");
      if (rest.length > 0) resolve(JSON.parse(line!) as { url: string });
    });
    child.on("exit", () => {
      reject(new Error(`The server did not start: ${reasonOf(readFileSync(logFile, "utf8"))}`));
    });
  });
  const slow = sleep(startMs, undefined, { ref: false }).then(() => {
    throw new Error(`The server was not ready after ${startMs / 1000} s`);
  });
  try {
    const { url } = await Promise.race([ready, slow]);
    return {
      pid: child.pid!,
      port: Number(new URL(url).port),
      [Symbol.asyncDispose]: () => stop(child),
    };
  } catch (error) {
    await stop(child);
    throw error;
  }
}

/** The last line of a log that speaks of a failure, or else its last. */
function reasonOf(log: string): string {
  const lines = log.trim().split("\n");
  return lines.findLast((line) => /"event":"failed"|^\w*Error\b/.test(line)) ?? lines.at(-1) ?? "";
}

/** Settings of whoever runs the bench are not those of the service that is measured. */
function withoutSettings(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith("HOOKPLANE_")));
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), stopMs);
  await exited;
  clearTimeout(timer);
}

/** Removes what a measurement has written. */
export async function removeFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 3 });
}
