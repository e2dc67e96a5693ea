import cluster from "node:cluster";
import { parseConfig, type Config, type Flags } from "./config.ts";
import { credentialFields } from "./credentials.ts";
import { accounts } from "./dialects/index.ts";
import { StartError } from "./errors.ts";
import { createLogger, type Logger } from "./log.ts";
import { openService, type Seat } from "./service.ts";
import { version } from "./version.ts";
import { openWorkers, type FromWorker, type ToWorker } from "./workers.ts";

/**
 * Runs the service as this process and its workers, until SIGTERM or SIGINT; a second signal ends it at once. Prints one
 * line of JSON on standard output when it is ready, and one on standard error when it fails; the exit code says why (see
 * `StartError`).
 */
export async function runService(flags: Flags): Promise<void> {
  // What the service writes is for its own user alone, also in a folder that others may read.
  process.umask(0o077);
  process.once("uncaughtException", fail);
  process.once("unhandledRejection", fail);
  try {
    const config = parseConfig(flags, credentialFields(accounts));
    const logger = createLogger(config.logLevel);
    if (cluster.isPrimary) await serve(config, logger);
    else await work(config, logger);
  } catch (error) {
    fail(error);
  }
}

async function serve(config: Config, logger: Logger): Promise<void> {
  // From here on a signal is kept until the service can be stopped in order.
  const stop = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.once(signal, () => {
        resolve(signal);
        process.once(signal, () => process.exit(1));
      });
    }
  });
  const service = await (config.workers > 1 ? openWorkers(config, logger) : openService(config, logger));
  const { url } = service;
  print(process.stdout, { event: "ready", url, pid: process.pid, dataDir: config.dataDir, version });
  logger.info({ url, dataDir: config.dataDir, workers: config.workers, version }, "ready");
  logger.info({ signal: await stop }, "stopping");
  await service.close();
  logger.info("stopped");
  process.exit(0);
}

/** Runs as one of several workers: the first process says when to start and when to stop. */
async function work(config: Config, logger: Logger): Promise<void> {
  // A signal to the whole group reaches the first process as well, which stops its workers in order.
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => undefined);
  // Without the first process nobody holds the data folder: whoever takes it next counts on being alone.
  process.once("disconnect", () => process.exit(1));
  const started = Promise.withResolvers<Seat>();
  const stopped = Promise.withResolvers<undefined>();
  process.on("message", (message: ToWorker) => {
    if (message.type === "start") started.resolve(message.seat);
    if (message.type === "stop") stopped.resolve(undefined);
    if (message.type === "ping") report({ type: "pong" });
  });
  const seat = await started.promise;
  const workerLogger = logger.child({ worker: seat.index });
  const service = await openService(config, workerLogger, seat, (number) => {
    report({ type: "joined", number });
  });
  report({ type: "ready", url: service.url });
  await stopped.promise;
  await service.close();
  process.exit(0);
}

function report(message: FromWorker): void {
  process.send?.(message);
}

function fail(error: unknown): void {
  const isKnown = error instanceof StartError;
  const code = isKnown ? error.code : "unexpected";
  const message = isKnown
    ? error.message
    : error instanceof Error
      ? (error.stack ?? error.message)
      : String(error);
  const exitCode = isKnown ? error.exitCode : 1;
  if (cluster.isWorker && process.connected) {
    // The first process prints it, once.
    process.send?.({ type: "failed", code, message } satisfies FromWorker, () => process.exit(exitCode));
    return;
  }
  print(process.stderr, { event: "failed", code, message });
  process.exit(exitCode);
}

function print(stream: NodeJS.WriteStream, line: object): void {
  stream.write(`${JSON.stringify(line)}\n`);
}
