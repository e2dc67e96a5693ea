// The load generator: a process of its own that costs as little as it can, so that what is measured is the service.
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { serveParent } from "./child.ts";
import { nowUs } from "./clock.ts";
import { HttpMessages, statusOf } from "./http-messages.ts";
import type { Beats } from "./metronome.ts";
import { RequestTemplate, type RequestText } from "./request-template.ts";
import { NumberList, toLatency, type Latency } from "./statistics.ts";

/** Requests to make. */
export interface Load {
  /** Ports of this machine; connections are spread over them evenly. */
  readonly ports: readonly number[];
  readonly request: RequestText;
  /** `closed`: each of so many connections sends as soon as it has been answered. `open`: at a fixed rate, come what may. */
  readonly pace:
    | { readonly kind: "closed"; readonly connections: number }
    | { readonly kind: "open"; readonly requestsPerSecond: number };
  /** When to send no more, whichever comes first. */
  readonly seconds: number;
  readonly events?: number;
  /** The number of the first event; each gets the next. */
  readonly firstNumber: number;
  /** Applications or endpoints that take turns. */
  readonly targets: number;
}

export interface LoadResult {
  /** By event: 1 when it was answered with 2xx. As long as there were events. */
  readonly accepted: Uint8Array;
  /** By request: from its start to the whole answer; NaN when none came. */
  readonly answersMs: Float64Array;
  /** How many requests were answered with each status; `error` for those without an answer. */
  readonly statuses: Readonly<Record<string, number>>;
  /** When the first request started, in microseconds of the shared clock. */
  readonly startedAtUs: number;
  readonly endedAtUs: number;
  /** Open loop: by how much requests left later than they were due. It is part of every latency. */
  readonly lateness: Latency;
}

/** How long the last answers may take. */
const lastAnswersMs = 60_000;
/** Pause of a connection that was refused or turned away, so that it does not spin. */
const pauseMs = 10;
/** Requests that an open loop has under way at most: beyond it, what is due waits, and the wait counts. */
const maxConnections = 4_000;

/** One of this at a time: what is read is looked at before anything else is read. */
const readBuffer = Buffer.allocUnsafeSlow(256 * 1024);

/** Counts what is accepted in an answer to several events: each has an id, or an error instead. */
const messageId = Buffer.from('"msg_');

class LoadRun {
  readonly #load: Load;
  #accepted = new Uint8Array(1 << 16);
  readonly #answersMs = new NumberList();
  readonly #latenessMs = new NumberList();
  readonly #statuses: Record<string, number> = {};
  readonly #events: number;
  #issuedEvents = 0;
  #issuedRequests = 0;
  #underWay = 0;
  #whenIdle: (() => void) | null = null;

  constructor(load: Load) {
    this.#load = load;
    this.#events = new RequestTemplate(load.request).events;
  }

  async run(): Promise<LoadResult> {
    const startedAtUs = nowUs();
    const { pace } = this.#load;
    const connections =
      pace.kind === "closed"
        ? await this.#closed(pace.connections)
        : await this.#open(pace.requestsPerSecond);
    const endedAtUs = nowUs();
    for (const connection of connections) connection.close();
    return {
      accepted: this.#accepted.slice(0, this.#issuedEvents),
      answersMs: this.#answersMs.toArray(),
      statuses: this.#statuses,
      startedAtUs,
      endedAtUs,
      lateness: toLatency(this.#latenessMs.toArray()),
    };
  }

  async #closed(count: number): Promise<Connection[]> {
    const endUs = nowUs() + this.#load.seconds * 1e6;
    const connections: Connection[] = [];
    for (let index = 0; index < count; index += 1) {
      const connection = this.#connection(index, (isRefused) => {
        if (nowUs() >= endUs || this.#issuedEvents >= (this.#load.events ?? Infinity)) return;
        if (isRefused) {
          this.#underWay++;
          setTimeout(() => {
            this.#underWay--;
            this.#send(connection, nowUs());
          }, pauseMs);
        } else {
          this.#send(connection, nowUs());
        }
      });
      connections.push(connection);
      this.#send(connection, nowUs());
    }
    await this.#idle();
    return connections;
  }

  async #open(requestsPerSecond: number): Promise<Connection[]> {
    const free: Connection[] = [];
    const connections: Connection[] = [];
    const add = (): Connection => {
      const connection = this.#connection(connections.length, () => {
        free.push(connection);
        sendDue();
      });
      connections.push(connection);
      return connection;
    };
    const intervalUs = 1e6 / requestsPerSecond;
    const startUs = nowUs() + 50_000;
    const total = Math.min(
      Math.round(this.#load.seconds * requestsPerSecond),
      Math.ceil((this.#load.events ?? Infinity) / this.#events),
    );
    const sendDue = (): void => {
      for (; this.#issuedRequests < total;) {
        const dueUs = startUs + this.#issuedRequests * intervalUs;
        const now = nowUs();
        if (dueUs > now) return;
        const connection = free.pop() ?? (connections.length < maxConnections ? add() : undefined);
        if (connection === undefined) return;
        this.#latenessMs.push((now - dueUs) / 1e3);
        this.#send(connection, dueUs);
      }
      whenSent();
    };
    let whenSent = (): void => undefined;
    const allSent = new Promise<void>((resolve) => {
      whenSent = resolve;
    });
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const beats: Beats = { startUs, intervalUs: Math.max(intervalUs, 500), stop };
    const metronome = new Worker(new URL("metronome.ts", import.meta.url), { workerData: beats });
    metronome.on("message", sendDue);
    await allSent;
    Atomics.store(stop, 0, 1);
    Atomics.notify(stop, 0);
    await this.#idle();
    await metronome.terminate();
    return connections;
  }

  #connection(index: number, onFree: (isRefused: boolean) => void): Connection {
    const { ports, request } = this.#load;
    return new Connection(ports[index % ports.length]!, new RequestTemplate(request), (sent, answer) => {
      this.#note(sent, answer);
      const isRefused = answer === null || answer.status >= 400;
      this.#underWay--;
      onFree(isRefused);
      if (this.#underWay === 0) this.#whenIdle?.();
    });
  }

  #send(connection: Connection, startUs: number): void {
    const number = this.#issuedEvents;
    const request = this.#issuedRequests++;
    this.#issuedEvents += this.#events;
    this.#underWay++;
    this.#answersMs.push(Number.NaN);
    const { template } = connection;
    template.fill(this.#load.firstNumber + number, startUs, request % this.#load.targets);
    connection.send({ number, request, startUs });
  }

  #note(sent: Sent, answer: ReceivedAnswer | null): void {
    const status = answer === null ? "error" : String(answer.status);
    this.#statuses[status] = (this.#statuses[status] ?? 0) + 1;
    if (answer === null) return;
    this.#answersMs.set(sent.request, (nowUs() - sent.startUs) / 1e3);
    if (answer.status >= 300) return;
    if (sent.number + this.#events > this.#accepted.length) {
      const larger = new Uint8Array(this.#accepted.length * 2);
      larger.set(this.#accepted);
      this.#accepted = larger;
    }
    if (this.#events === 1) this.#accepted[sent.number] = 1;
    else this.#accepted.set(acceptedOf(answer, this.#events), sent.number);
  }

  async #idle(): Promise<void> {
    const idle = new Promise<void>((resolve) => {
      this.#whenIdle = resolve;
    });
    if (this.#underWay > 0) await Promise.race([idle, sleep(lastAnswersMs, undefined, { ref: false })]);
  }
}

/** A request that waits for its answer. */
interface Sent {
  /** Of its first event, counted from 0. */
  readonly number: number;
  readonly request: number;
  readonly startUs: number;
}

interface ReceivedAnswer {
  readonly status: number;
  readonly bytes: Buffer;
  readonly bodyStart: number;
  readonly end: number;
}

/** A connection with one request under way at most; made anew when it was lost. */
class Connection {
  readonly template: RequestTemplate;
  readonly #port: number;
  readonly #onDone: (sent: Sent, answer: ReceivedAnswer | null) => void;
  #socket: Socket | null = null;
  #sent: Sent | null = null;

  constructor(
    port: number,
    template: RequestTemplate,
    onDone: (sent: Sent, answer: ReceivedAnswer | null) => void,
  ) {
    this.#port = port;
    this.template = template;
    this.#onDone = onDone;
  }

  send(sent: Sent): void {
    this.#sent = sent;
    this.#socket ??= this.#connect();
    this.#socket.write(this.template.bytes);
  }

  close(): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.destroy();
  }

  #connect(): Socket {
    const messages = new HttpMessages((bytes, start, bodyStart, end) => {
      this.#done({ status: statusOf(bytes, start), bytes, bodyStart, end });
    });
    const socket = connect({
      port: this.#port,
      host: "127.0.0.1",
      noDelay: true,
      onread: {
        buffer: readBuffer,
        callback: (length) => {
          messages.push(readBuffer.subarray(0, length));
          return true;
        },
      },
    });
    const lost = (): void => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      socket.destroy();
      this.#done(null);
    };
    socket.on("error", lost);
    socket.on("close", lost);
    return socket;
  }

  #done(answer: ReceivedAnswer | null): void {
    const sent = this.#sent;
    this.#sent = null;
    if (sent !== null) this.#onDone(sent, answer);
  }
}

/** Which of a batch's events were taken. */
function acceptedOf({ bytes, bodyStart, end }: ReceivedAnswer, events: number): Uint8Array {
  let ids = 0;
  for (let at = bytes.indexOf(messageId, bodyStart); at !== -1 && at < end; ids += 1) {
    at = bytes.indexOf(messageId, at + messageId.length);
  }
  if (ids === events) return new Uint8Array(events).fill(1);
  const { data } = JSON.parse(bytes.toString("utf8", bodyStart, end)) as { data: { id?: string }[] };
  return Uint8Array.from(data.slice(0, events), ({ id }) => (id === undefined ? 0 : 1));
}

/** What the generator's process does. */
const methods = { run: (load: Load): Promise<LoadResult> => new LoadRun(load).run() };
export type GeneratorMethods = typeof methods;

if (import.meta.main) serveParent(methods);
