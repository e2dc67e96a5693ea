import { styleText } from "node:util";
import { StartError } from "../delivery/errors.ts";
import { visible } from "./printer.ts";

/** What the commands that talk to a service exit with; `hookplane serve` has [its own](../docs/delivery-service.md). */
export const exitCodes = {
  done: 0,
  unexpected: 1,
  usage: 2,
  unreachable: 3,
  refused: 4,
  credentials: 5,
  incomplete: 6,
  interrupted: 130,
} as const;

/** Why a command failed, for programs, and what it exits with. */
const exitCodeOf = {
  settings_invalid: exitCodes.usage,
  service_unreachable: exitCodes.unreachable,
  service_unavailable: exitCodes.unreachable,
  not_a_service: exitCodes.unreachable,
  service_failed: exitCodes.unexpected,
  output_failed: exitCodes.unexpected,
  refused: exitCodes.refused,
  not_found: exitCodes.refused,
  forbidden: exitCodes.refused,
  conflict: exitCodes.refused,
  validation: exitCodes.refused,
  payload_too_large: exitCodes.refused,
  authentication_failed: exitCodes.credentials,
  credentials_unusable: exitCodes.credentials,
  incomplete: exitCodes.incomplete,
  interrupted: exitCodes.interrupted,
} as const;

export type FailureCode = keyof typeof exitCodeOf;

/** A failure that is told in a sentence or, where there are several faults, in as many lines. */
export class CommandFailure extends Error {
  override readonly name = "CommandFailure";
  readonly code: FailureCode;
  readonly exitCode: number;

  constructor(code: FailureCode, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.code = code;
    this.exitCode = exitCodeOf[code];
  }
}

/**
 * Runs a command and, where it fails, says why on standard error and sets the exit code: for people in words, for
 * programs as `{"event":"failed","code":…,"message":…}`.
 */
export async function reportingFailures(isForPrograms: boolean, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof CommandFailure || error instanceof StartError)) throw error;
    const { code, message, exitCode } = error;
    process.exitCode = exitCode;
    if (isForPrograms) console.error(JSON.stringify({ event: "failed", code, message }));
    else {
      const head = styleText("red", "hookplane:", { stream: process.stderr });
      console.error(`${head} ${message.split("\n").map(visible).join("\n")}`);
    }
  }
}
