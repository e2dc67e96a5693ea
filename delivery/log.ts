import { pino, type DestinationStream, type Logger } from "pino";

export type { Logger } from "pino";

export const logLevels = ["fatal", "error", "warn", "info", "debug", "trace", "silent"] as const;
export type LogLevel = (typeof logLevels)[number];

/** Names under which a secret could slip into a log line, at the top of it or one level down. */
const secretNames = [
  "authorization",
  "apiKey",
  "apiSecret",
  "authToken",
  "adminToken",
  "token",
  "password",
  "secret",
  "secrets",
  "key",
  "headers",
  "credentials",
  "payload",
  "body",
];

/**
 * A logger that writes one line of JSON per entry. Fields that may hold a secret are masked whatever the caller does.
 *
 * @param destination standard error by default, where a line is written before the call returns
 */
export function createLogger(
  level: LogLevel,
  destination: DestinationStream = pino.destination({ fd: 2, sync: true }),
): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: secretNames.flatMap((name) => [name, `*.${name}`]), censor: "[secret]" },
    },
    destination,
  );
}
