import { parseConfig, type Config, type Flags } from "./config.ts";
import { credentialFields } from "./credentials.ts";
import { accounts } from "./dialects/index.ts";
import { StartError } from "./errors.ts";
import { createLogger, type Logger } from "./log.ts";
import { openService } from "./service.ts";
import { version } from "./version.ts";

/**
 * Runs the service as this process, until SIGTERM or SIGINT; a second signal ends it at once. Prints one line of JSON
 * on standard output when it is ready, and one on standard error when it fails; the exit code says why (see
 * `StartError`).
 */
export async function runService(flags: Flags): Promise<void> {
  // What the service writes is for its own user alone, also in a folder that others may read.
  process.umask(0o077);
  process.once("uncaughtException", fail);
  process.once("unhandledRejection", fail);
  try {
    const config = parseConfig(flags, credentialFields(accounts));
    await serve(config, createLogger(config.logLevel));
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
  const service = await openService(config, logger);
  const { url } = service;
  print(process.stdout, { event: "ready", url, pid: process.pid, dataDir: config.dataDir, version });
  logger.info({ url, dataDir: config.dataDir, version }, "ready");
  logger.info({ signal: await stop }, "stopping");
  await service.close();
  logger.info("stopped");
  process.exit(0);
}

function fail(error: unknown): void {
  const isKnown = error instanceof StartError;
  print(process.stderr, {
    event: "failed",
    code: isKnown ? error.code : "unexpected",
    message: isKnown
      ? error.message
      : error instanceof Error
        ? (error.stack ?? error.message)
        : String(error),
  });
  process.exit(isKnown ? error.exitCode : 1);
}

function print(stream: NodeJS.WriteStream, line: object): void {
  stream.write(`${JSON.stringify(line)}\n`);
}
