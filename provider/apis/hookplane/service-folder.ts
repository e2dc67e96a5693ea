import { randomUUID } from "node:crypto";
import { open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { HookplaneError } from "../../errors.ts";
import { createRedactor } from "../../secrets.ts";

/** How a service was started: what `hookplane serve` was given. */
const settingsSchema = z.object({
  host: z.string(),
  /** Null where any free one would do. */
  port: z.number().nullable(),
  allowSubnets: z.array(z.string()),
  inbox: z.boolean(),
  publicUrl: z.string(),
  logLevel: z.string(),
});
export type ServiceSettings = z.output<typeof settingsSchema>;

const recordSchema = z.object({
  /** Null once it was stopped. */
  pid: z.number().int().positive().nullable(),
  /** Null until it was ready: its ready line is then in the log. */
  url: z.string().nullable(),
  startedAt: z.string(),
  /** Where in the log its lines begin. */
  logOffset: z.number().int().nonnegative(),
  settings: settingsSchema,
});

/** What the provider notes of the service that it started, in `service.json` of the data folder. */
export type ServiceRecord = z.output<typeof recordSchema>;

const credentialsSchema = z
  .object({ admin: z.object({ token: z.string() }) })
  .catchall(z.record(z.string(), z.string()));

/** What `credentials.json` holds, a section for each vendor: the service makes it at its first start. */
export type ServiceCredentials = z.output<typeof credentialsSchema>;

/** A log that is longer is set aside as `service.log.1` at the next start. */
const maxLogBytes = 10 * 1024 * 1024;

function logFileOf(dataDir: string): string {
  return join(dataDir, "service.log");
}

/** The credentials, or undefined where no service was ever started in the folder. */
export function readCredentials(dataDir: string): Promise<ServiceCredentials | undefined> {
  return readJson(join(dataDir, "credentials.json"), credentialsSchema);
}

export function readRecord(dataDir: string): Promise<ServiceRecord | undefined> {
  return readJson(join(dataDir, "service.json"), recordSchema);
}

export async function writeRecord(dataDir: string, record: ServiceRecord): Promise<void> {
  const file = join(dataDir, "service.json");
  const draft = `${file}.${randomUUID()}`;
  await writeFile(draft, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
  await rename(draft, file);
}

/** Opens the log for a service that is about to start; `offset` is where its lines will begin. Close the handle. */
export async function openLog(dataDir: string) {
  const file = logFileOf(dataDir);
  const size = await stat(file).then(
    ({ size }) => size,
    () => 0,
  );
  const isFull = size > maxLogBytes;
  if (isFull) await rename(file, `${file}.1`);
  return { handle: await open(file, "a", 0o600), offset: isFull ? 0 : size };
}

/** The log's lines from an offset on. */
export async function readLog(dataDir: string, offset: number): Promise<readonly string[]> {
  const content = await readFile(logFileOf(dataDir)).catch(() => Buffer.alloc(0));
  return content
    .subarray(offset)
    .toString("utf8")
    .split("\n")
    .filter((line) => line.trim() !== "");
}

/** The last lines of the log for an error message, without the folder's credentials. */
export async function lastLogLines(dataDir: string, offset: number): Promise<string> {
  const lines = await readLog(dataDir, offset);
  if (lines.length === 0) return "Its log is empty.";
  const redact = createRedactor([await readCredentials(dataDir).catch(() => undefined)]);
  const shown = lines.slice(-10).map((line) => `\n  ${redact(line).slice(0, 2_000)}`);
  return `The last lines of "${logFileOf(dataDir)}":${shown.join("")}`;
}

/** Removes the folder with all that is in it, unless it is one that cannot be the service's alone. */
export async function removeFolder(dataDir: string, keep: readonly string[]): Promise<void> {
  const kept = keep.find((path) => `${path}/`.startsWith(`${dataDir.replace(/\/+$/, "")}/`));
  if (kept !== undefined) {
    throw new HookplaneError(
      "invalid_input",
      `The data folder "${dataDir}" holds "${kept}", so it is not deleted`,
      {
        remedy: "Delete the service's files yourself, or set `deleteData: false`.",
      },
    );
  }
  await rm(dataDir, { recursive: true, force: true });
}

async function readJson<T>(file: string, schema: z.ZodType<T>): Promise<T | undefined> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) {
      return undefined;
    }
    throw new HookplaneError("not_ready", `"${file}" cannot be read: ${String(error)}`, {
      remedy: "Make it readable for the user who runs Pulumi.",
    });
  }
  const parsed = schema.safeParse(jsonOrUndefined(text));
  if (parsed.success) return parsed.data;
  throw new HookplaneError("not_ready", `"${file}" is not what a service writes there`, {
    remedy: "Restore it, or move it away.",
  });
}

function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
