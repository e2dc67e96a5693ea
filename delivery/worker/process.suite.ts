import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Agent, request } from "undici";
import { onTestFinished } from "vitest";

const command = join(import.meta.dirname, "../../bin/hookplane.js");

export interface ServeOptions {
  /** SQLite in the data folder by default. */
  readonly databaseUrl?: string;
  /** Made in the data folder by default. */
  readonly credentialsFile?: string;
  /** More of the command line. */
  readonly flags?: readonly string[];
  /** More of the environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** What a shell does before it becomes the service, such as `ulimit -f 2000;`. */
  readonly limits?: string;
}

export interface Answer {
  readonly status: number;
  readonly retryAfter: string | null;
  /** The answer's JSON. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers whose shape they assert.
  readonly body: any;
}

/** A real `hookplane serve`. */
export class ServedProcess {
  readonly child: ChildProcess;
  readonly url: string;
  readonly #token: string;
  readonly #agent = new Agent({ connections: 64, pipelining: 1 });

  constructor(child: ChildProcess, url: string, token: string) {
    this.child = child;
    this.url = url;
    this.#token = token;
  }

  get isRunning(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Its memory now, in MiB. */
  get residentMiB(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
  }

  /** @throws when no answer comes */
  async call(
    method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await request(this.url + path, {
      method,
      dispatcher: this.#agent,
      headers: {
        authorization: `Bearer ${this.#token}`,
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await response.body.text();
    const retryAfter = response.headers["retry-after"];
    return {
      status: response.statusCode,
      retryAfter: typeof retryAfter === "string" ? retryAfter : null,
      body: text.startsWith("{") ? JSON.parse(text) : text,
    };
  }

  publish(
    application: string,
    message: { eventType?: string; payload: unknown; eventId?: string; orderingKey?: string },
    headers?: Record<string, string>,
  ): Promise<Answer> {
    const body = { eventType: "order.paid", ...message };
    return this.call("POST", `/api/v1/app/${application}/msg`, body, headers);
  }

  /** Makes an application with endpoints. */
  async prepare(uid: string, endpoints: readonly Record<string, unknown>[]): Promise<void> {
    const { status } = await this.call("POST", "/api/v1/app", { name: uid, uid });
    if (status !== 201) throw new Error(`the application "${uid}" was answered with ${status}`);
    for (const endpoint of endpoints) {
      const answer = await this.call("POST", `/api/v1/app/${uid}/endpoint`, endpoint);
      if (answer.status !== 201) {
        throw new Error(`an endpoint was answered with ${answer.status}: ${JSON.stringify(answer.body)}`);
      }
    }
  }

  /** Ends it as the operating system does when it runs out of memory: at once. */
  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.#ended();
  }

  /** Asks it to stop, and answers its exit code. */
  async stop(): Promise<number | null> {
    this.child.kill("SIGTERM");
    await this.#ended();
    return this.child.exitCode;
  }

  /** Stops it where it is: it holds its connections and does nothing. */
  pause(): void {
    this.child.kill("SIGSTOP");
  }

  goOn(): void {
    this.child.kill("SIGCONT");
  }

  async #ended(): Promise<void> {
    if (this.isRunning) await once(this.child, "exit");
    await this.#agent.destroy();
  }
}

/** Starts a service of one process on a free port; ends it with the test, if it still runs. */
export async function serve(dataDir: string, options: ServeOptions = {}): Promise<ServedProcess> {
  const { databaseUrl, flags = [], env = {}, limits = "" } = options;
  const credentialsFile = options.credentialsFile ?? join(dataDir, "credentials.json");
  const words = [process.execPath, command, "serve", "--port", "0", "--data-dir", dataDir];
  const child = spawn(
    "sh",
    [
      ...["-c", `${limits} exec "$@"`, "sh", ...words, "--allow-subnet", "127.0.0.0/8"],
      ...["--log-level", "silent", "--workers", "1", ...flags],
      ...(options.credentialsFile === undefined ? [] : ["--credentials-file", credentialsFile]),
    ],
    {
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        ...env,
        ...(databaseUrl !== undefined && { HOOKPLANE_DATABASE_URL: databaseUrl }),
      },
    },
  );
  const exited = once(child, "exit");
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await exited;
  });
  let complaint = "";
  child.stderr.on("data", (chunk: Buffer) => (complaint += chunk.toString()));
  const line = await Promise.race([once(createInterface(child.stdout), "line"), exited.then(() => null)]);
  if (line === null) throw new Error(`the service did not start: ${complaint}`);
  const { url } = JSON.parse(String(line[0])) as { url: string };
  const credentials = JSON.parse(readFileSync(credentialsFile, "utf8")) as { admin: { token: string } };
  return new ServedProcess(child, url, credentials.admin.token);
}

/** Starts several nodes on one PostgreSQL database, with the credentials and the master key of the first. */
export async function serveNodes(
  databaseUrl: string,
  count: number,
  options: ServeOptions = {},
): Promise<ServedProcess[]> {
  const firstDir = makeDataDir();
  const first = await serve(firstDir, { ...options, databaseUrl });
  const others = Array.from({ length: count - 1 }, () =>
    serve(makeDataDir(), {
      ...options,
      databaseUrl,
      credentialsFile: join(firstDir, "credentials.json"),
      flags: [...(options.flags ?? []), "--master-key-file", join(firstDir, "master.key")],
    }),
  );
  return [first, ...(await Promise.all(others))];
}

/** A data folder that is removed with the test. */
export function makeDataDir(): string {
  const dataDir = mkdtempSync(join(tmpdir(), "hookplane-process-"));
  onTestFinished(() => {
    rmSync(dataDir, { recursive: true, force: true });
  });
  return dataDir;
}

export interface Arrival {
  readonly path: string;
  /** The message's id. */
  readonly id: string;
  readonly payload: unknown;
  /** Milliseconds since the process began. */
  readonly at: number;
}

/** A receiver in this process, and all that arrived at it. */
export async function openArrivals(
  answer: (arrival: Arrival) => number | null | Promise<number | null> = () => 200,
) {
  const all: Arrival[] = [];
  const byId = new Map<string, Arrival[]>();
  const arrivals = { url: "", all, byId, answer };
  const server = createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const id = String(incoming.headers["webhook-id"]);
      const payload: unknown = JSON.parse(Buffer.concat(chunks).toString());
      const arrival = { path: incoming.url ?? "", id, payload, at: performance.now() };
      all.push(arrival);
      const known = byId.get(id);
      if (known) known.push(arrival);
      else byId.set(id, [arrival]);
      void (async () => {
        const status = await arrivals.answer(arrival);
        if (status !== null) response.writeHead(status).end();
      })();
    });
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  arrivals.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return arrivals;
}
