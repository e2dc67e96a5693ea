import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import type { Config } from "./config.ts";
import { ServiceError, StartError, type StartErrorCode } from "./errors.ts";
import type { Logger } from "./log.ts";
import { prepareService, type Seat } from "./service.ts";

/** A worker that has not answered for this long is taken for stuck, and killed. */
const unresponsiveMs = 30_000;
const pingIntervalMs = 5_000;
/** How long to wait before a worker is replaced, so that one that cannot start does not keep the machine busy. */
const replaceDelayMs = 500;

/** What the first process tells a worker. */
export type ToWorker =
  { readonly type: "start"; readonly seat: Seat } | { readonly type: "ping" } | { readonly type: "stop" };

/** What a worker tells the first process. */
export type FromWorker =
  | { readonly type: "joined"; readonly number: number }
  | { readonly type: "ready"; readonly url: string }
  | { readonly type: "pong" }
  | { readonly type: "failed"; readonly code: string; readonly message: string };

/** Several processes that serve one address from one database. */
export interface Workers {
  readonly url: string;
  /** Lets every worker end as a single service would. */
  close(): Promise<void>;
}

interface Place {
  readonly index: number;
  worker: Worker;
  /** The number under which the worker takes deliveries; its successor gives back what it held. */
  node: number | null;
  answeredAt: number;
}

/**
 * Holds the data folder, and runs `config.workers` processes of this very command. One that dies is replaced, and what it
 * held is taken up by its successor.
 *
 * @throws StartError when the data folder, the database or a worker cannot be used
 */
export async function openWorkers(config: Config, logger: Logger): Promise<Workers> {
  const prepared = await prepareService(config);
  const places: Place[] = [];
  let isClosing = false;
  let url = "";
  const starting = Promise.withResolvers<undefined>();
  let missing = config.workers;

  const start = (index: number, predecessor: number | null): Place => {
    const worker = cluster.fork();
    const place: Place = { index, worker, node: null, answeredAt: performance.now() };
    worker.on("message", (message: FromWorker) => {
      place.answeredAt = performance.now();
      if (message.type === "joined") place.node = message.number;
      if (message.type === "failed") starting.reject(toStartError(message));
      if (message.type === "ready") {
        url = message.url;
        if (--missing === 0) starting.resolve(undefined);
      }
    });
    worker.on("exit", (code, signal) => {
      if (isClosing) return;
      starting.reject(new ServiceError("unavailable", "A worker ended before it was ready"));
      logger.error({ worker: index, code, signal }, "a worker ended and is replaced");
      setTimeout(() => {
        if (!isClosing) places[index] = start(index, place.node ?? predecessor);
      }, replaceDelayMs);
    });
    tell(worker, { type: "start", seat: { index, predecessor } });
    return place;
  };
  for (let index = 0; index < config.workers; index++) places.push(start(index, null));

  const close = async (): Promise<void> => {
    isClosing = true;
    clearInterval(pings);
    const exits = places.filter(({ worker }) => !worker.isDead()).map(({ worker }) => once(worker, "exit"));
    for (const { worker } of places) tell(worker, { type: "stop" });
    await Promise.all(exits);
    await prepared.close();
  };
  const pings = setInterval(() => {
    for (const { worker, index, answeredAt } of places) {
      if (performance.now() - answeredAt > unresponsiveMs) {
        logger.error({ worker: index }, "a worker has not answered for long and is killed");
        worker.process.kill("SIGKILL");
      } else tell(worker, { type: "ping" });
    }
  }, pingIntervalMs);
  try {
    await starting.promise;
  } catch (error) {
    await close();
    throw error;
  }
  return { url, close };
}

function tell(worker: Worker, message: ToWorker): void {
  if (worker.isConnected()) worker.send(message);
}

function toStartError({ code, message }: { readonly code: string; readonly message: string }): Error {
  return code === "unexpected" ? new Error(message) : new StartError(code as StartErrorCode, message);
}
