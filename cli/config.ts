import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { CommandFailure } from "./failure.ts";
import type { Options } from "./option-reader.ts";

/** How a service is reached. */
export interface Connection {
  /** Without a trailing slash. */
  readonly url: string;
  /** Secret. */
  readonly token: string;
}

const defaultUrl = "http://127.0.0.1:8420";
const defaultDataDir = ".hookplane";

/** The options of every command that talks to a service, as commander takes them. */
export const connectionOptions = [
  ["--url <url>", `address of the service (default: ${defaultUrl}; HOOKPLANE_URL)`],
  [
    "--token <token>",
    "its token, which other users of this machine can see here: prefer --token-file or the variable (HOOKPLANE_TOKEN)",
  ],
  ["--token-file <file>", "file that holds the token"],
  [
    "--data-dir <folder>",
    `folder of a service on this machine, whose administrator's token is taken where none is given (default: ${defaultDataDir}; HOOKPLANE_DATA_DIR)`,
  ],
] as const;

/** The option of every command that prints for people otherwise. */
export const jsonOption = ["--json", "print JSON, a value a line, for programs"] as const;

/**
 * The service that a command is to talk to. A token that is not given is taken from the data folder of a service on this
 * machine, and never sent to another one, unless that folder is named.
 *
 * @param environment the process's by default
 * @throws CommandFailure `settings_invalid` with everything that is wrong, `credentials_unusable` where there is no token
 */
export function readConnection(
  options: Options,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Connection {
  const given = (name: string, variable: string): string | undefined =>
    (options[name] as string | undefined) ?? (environment[variable] || undefined);
  const faults: string[] = [];
  const text = given("url", "HOOKPLANE_URL") ?? defaultUrl;
  const url = URL.parse(text);
  const isUsable = url !== null && /^https?:$/.test(url.protocol) && url.search + url.hash === "";
  if (url !== null && url.username + url.password !== "") {
    faults.push(`${sourceOf(options, "url", "HOOKPLANE_URL")}: give it without a user and password.`);
  } else if (!isUsable) {
    faults.push(
      `${sourceOf(options, "url", "HOOKPLANE_URL")} "${text}": give an http or https URL without a query, such as ${defaultUrl}.`,
    );
  }
  if (options["token"] !== undefined && options["tokenFile"] !== undefined) {
    faults.push("--token and --token-file: give one of the two.");
  }
  if (faults.length > 0) throw new CommandFailure("settings_invalid", faults.join("\n"));
  const base = text.replace(/\/+$/, "");
  const tokenFile = options["tokenFile"] as string | undefined;
  const token = tokenFile === undefined ? given("token", "HOOKPLANE_TOKEN") : readTokenFile(tokenFile);
  if (token !== undefined) return { url: base, token: toUsable(token) };
  const isNear = isOnThisMachine(url?.hostname ?? "");
  const dataDir = given("dataDir", "HOOKPLANE_DATA_DIR");
  if (!isNear && options["dataDir"] === undefined) {
    throw new CommandFailure(
      "credentials_unusable",
      `There is no token for "${base}": set HOOKPLANE_TOKEN, or name a file with --token-file.`,
    );
  }
  const admin = environment["HOOKPLANE_ADMIN_TOKEN"];
  return { url: base, token: toUsable(admin || readAdminToken(resolve(dataDir ?? defaultDataDir))) };
}

function sourceOf(options: Options, name: string, variable: string): string {
  return options[name] === undefined ? variable : `--${name}`;
}

function isOnThisMachine(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(?:\.\d{1,3}){3}$/.test(hostname);
}

/** As a header takes it. Nothing of it is told. */
function toUsable(token: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new CommandFailure(
    "credentials_unusable",
    "The token is empty, or has a character that no token has, such as a space: give it as it was made.",
  );
}

function readTokenFile(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch (cause) {
    throw new CommandFailure(
      "credentials_unusable",
      `The token file "${file}" cannot be read (${codeOf(cause)}): let this user read it, or name another.`,
    );
  }
}

function readAdminToken(dataDir: string): string {
  const file = join(dataDir, "credentials.json");
  const remedy =
    "name the folder of the service with --data-dir, or give a token with HOOKPLANE_TOKEN or --token-file.";
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(file, "utf8"));
  } catch (cause) {
    // The parser's message may quote a secret.
    const reason = cause instanceof SyntaxError ? "it is not JSON" : codeOf(cause);
    throw new CommandFailure(
      "credentials_unusable",
      `No token was given, and "${file}" cannot be read (${reason}): ${remedy}`,
    );
  }
  const token = (content as { admin?: { token?: unknown } } | null)?.admin?.token;
  if (typeof token === "string") return token;
  throw new CommandFailure(
    "credentials_unusable",
    `No token was given, and "${file}" has none of the administrator's: ${remedy}`,
  );
}

function codeOf(cause: unknown): string {
  return cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
}
