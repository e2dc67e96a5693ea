import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { CommandFailure } from "./failure.ts";

/**
 * The text that an argument names: itself, a file's (`@file`), or what comes on standard input (`-`).
 *
 * @throws CommandFailure where it cannot be read
 */
export async function readArgument(argument: string): Promise<string> {
  if (argument !== "-" && !argument.startsWith("@")) return argument;
  return await readTextFile(argument === "-" ? "-" : argument.slice(1));
}

/**
 * A file's text; `-` is standard input.
 *
 * @throws CommandFailure where it cannot be read
 */
export async function readTextFile(file: string): Promise<string> {
  try {
    return await (file === "-" ? text(process.stdin) : readFile(file, "utf8"));
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
    const name = file === "-" ? "Standard input" : `The file "${file}"`;
    throw new CommandFailure("settings_invalid", `${name} cannot be read (${code}).`);
  }
}

/**
 * The value that JSON text is, if it is an object.
 *
 * @throws CommandFailure `settings_invalid` that names what was given
 */
export function parseObject(text: string, what: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CommandFailure("settings_invalid", `${what} is not JSON (${reason}).`);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new CommandFailure("settings_invalid", `${what} must be a JSON object, such as {"amount": 1}.`);
}
