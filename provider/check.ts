import { z } from "zod";
import { findConnection, type Settings } from "./config.ts";
import { HookplaneError } from "./errors.ts";
import { formatPath } from "./path.ts";
import type { AnyResource } from "./resource.ts";
import { containsUnknown } from "./unknown.ts";

/** One wrong input. */
interface CheckFailure {
  /** The path to it: `filters[1]`. */
  readonly property: string;
  readonly reason: string;
}

export interface CheckResult {
  /** The inputs with defaults and as the definition writes them; properties that hold something unknown stay as they are. */
  readonly inputs: Record<string, unknown>;
  /** All that is wrong, in the order of the inputs; empty where nothing is. */
  readonly failures: readonly CheckFailure[];
}

/** Validates what a program gave. Calls nothing. */
export function checkInputs(
  resource: AnyResource,
  news: Readonly<Record<string, unknown>>,
  settings: Settings,
): CheckResult {
  const schemas: Record<string, z.core.$ZodType> = { ...resource.inputs.shape };
  if (resource.connection) schemas.connection = z.optional(resource.connection.schema);
  const inputs: Record<string, unknown> = {};
  const failures: CheckFailure[] = [];

  for (const [name, schema] of Object.entries(schemas)) {
    // Pulumi cannot tell null from absent: a property given as null was left out.
    const value = news[name] ?? undefined;
    const parsed = z.safeParse(schema, value, { error: (issue) => describe(issue, name) });
    if (containsUnknown(value)) inputs[name] = value;
    else if (parsed.success && parsed.data !== undefined) inputs[name] = parsed.data;
    for (const issue of parsed.error?.issues ?? []) {
      // A name is known whatever its value.
      const isJudged = issue.code === "invalid_key" || !containsUnknown(valueAt(value, issue.path));
      if (isJudged) failures.push(...failuresOf(issue, name));
    }
  }
  for (const name of Object.keys(news)) {
    if (!(name in schemas) && news[name] !== undefined)
      failures.push(unknownProperty([name], Object.keys(schemas)));
  }
  if (resource.connection && (news.connection ?? undefined) === undefined) {
    try {
      findConnection(resource.connection, settings);
    } catch (error) {
      if (!(error instanceof HookplaneError)) throw error;
      failures.push({ property: "connection", reason: error.message });
    }
  }
  return { inputs, failures };
}

/** What a person reads in place of zod's words where those speak of types. */
function describe(issue: z.core.$ZodRawIssue, name: string): string | undefined {
  if ((issue.code === "invalid_type" || issue.code === "invalid_value") && issue.input === undefined) {
    const path = issue.path?.length ? formatPath([name, ...issue.path]) : name;
    return `"${path}" is required`;
  }
  if (issue.code === "too_small" && issue.origin === "string" && issue.minimum === 1)
    return "must not be empty";
  return undefined;
}

function failuresOf(issue: z.core.$ZodIssue, name: string): CheckFailure[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => unknownProperty([name, ...issue.path, key], []));
  }
  // The key of a record is wrong: zod's message is general, the nested issues say why.
  const reasons = issue.code === "invalid_key" ? issue.issues.map(({ message }) => message) : [issue.message];
  return reasons.map((reason) => ({ property: formatPath([name, ...issue.path]), reason }));
}

function unknownProperty(path: readonly PropertyKey[], known: readonly string[]): CheckFailure {
  const property = formatPath(path);
  const list = known.length ? `; known are ${known.map((name) => `"${name}"`).join(", ")}` : "";
  return { property, reason: `there is no property "${property}"${list}` };
}

/** The value that an issue is about; an unknown value on the way stands for all that is below it. */
function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let found = value;
  for (const key of path) {
    if (typeof found !== "object" || found === null) return found;
    found = (found as Record<PropertyKey, unknown>)[key];
  }
  return found;
}
