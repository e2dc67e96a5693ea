import { z } from "zod";
import { HookplaneError } from "./errors.ts";
import { defaultHttpLimits, type HttpLimits } from "./http/client.ts";
import { propertiesOf } from "./marks.ts";
import type { ConnectionDefinition } from "./resource.ts";

/** Where the provider looks for an account that a resource does not give. */
export interface Settings {
  /** The provider's configuration by its key without namespace, such as `paveApiKey`. */
  get(key: string): string | undefined;
  /** An environment variable of the process. */
  environment(name: string): string | undefined;
}

/** Settings over the stack's configuration, if there is one, and this process's environment. */
export function createSettings(get: (key: string) => string | undefined = () => undefined): Settings {
  return { get, environment: (name) => process.env[name] };
}

/** Where one field of a connection can be given. */
export interface ConnectionSetting {
  readonly field: string;
  readonly description: string;
  /** May be left out. */
  readonly optional: boolean;
  /** In the provider's configuration, without the namespace `hookplane:`. */
  readonly key: string;
  /** Environment variables, the first that is set counts. */
  readonly variables: readonly string[];
}

/** Every field of a connection with its configuration key and environment variables. */
export function connectionSettings(definition: ConnectionDefinition): readonly ConnectionSetting[] {
  return propertiesOf(definition.schema).map(({ name, marks, optional }) => {
    const key = `${definition.name}${name.charAt(0).toUpperCase()}${name.slice(1)}`;
    const usual = (definition.environment as Record<string, string | undefined> | undefined)?.[name];
    const own = `HOOKPLANE_${key.replace(/[A-Z]/g, "_$&").toUpperCase()}`;
    return {
      field: name,
      description: marks.description ?? "",
      optional,
      key,
      variables: usual === undefined ? [own] : [own, usual],
    };
  });
}

/**
 * The configured account. Each field comes from the provider's configuration, else from the environment. Throws
 * `connection_missing` where no account or only a part of one is configured, naming what is missing and the ways to give it.
 */
export function findConnection<Connection extends object>(
  definition: ConnectionDefinition<Connection>,
  settings: Settings,
): Connection {
  const fields = connectionSettings(definition);
  const given = Object.fromEntries(
    fields.map(({ field, key, variables }) => {
      const values = [settings.get(key), ...variables.map((name) => settings.environment(name))];
      return [field, values.find((value) => value !== undefined && value !== "")];
    }),
  );
  const parsed = z.safeParse(definition.schema, given);
  if (parsed.success) return parsed.data;

  const title = definition.title;
  const missing = fields.filter(({ field, optional }) => !optional && given[field] === undefined);
  const wrong = parsed.error.issues.filter(({ path }) => !missing.some(({ field }) => field === path[0]));
  const problem = fields.every(({ field, optional }) => optional || given[field] === undefined)
    ? `No ${title} account is configured`
    : [
        `The configured ${title} account is not complete`,
        missing.length ? `missing ${missing.map(({ field }) => `"${field}"`).join(", ")}` : "",
        ...wrong.map(({ path, message }) => `${path.join(".") || "connection"}: ${message}`),
      ]
        .filter(Boolean)
        .join("; ");
  throw new HookplaneError("connection_missing", problem, { remedy: waysToGive(fields) });
}

/** The configured account, or undefined where none is or it is not complete. */
export function peekConnection<Connection extends object>(
  definition: ConnectionDefinition<Connection>,
  settings: Settings,
): Connection | undefined {
  try {
    return findConnection(definition, settings);
  } catch (error) {
    if (error instanceof HookplaneError) return undefined;
    throw error;
  }
}

function waysToGive(fields: readonly ConnectionSetting[]): string {
  const needed = fields.some(({ optional }) => !optional)
    ? fields.filter(({ optional }) => !optional)
    : fields;
  const keys = needed.map(({ key }) => `hookplane:${key}`).join(", ");
  const variables = needed.map((field) => field.variables.join(" or ")).join(", ");
  const inputs = needed.map(({ field }) => field).join(", ");
  return (
    `Give the resource the input "connection" ({ ${inputs} }), or run \`pulumi config set --secret\` for ${keys}, ` +
    `or set the environment variables ${variables}`
  );
}

/**
 * How long a vendor may take to answer one try, where that is set: `hookplane:requestTimeoutSeconds` of the configuration,
 * else `HOOKPLANE_REQUEST_TIMEOUT_SECONDS`. Throws `invalid_input` for anything but a number from 0.1 to 3600.
 */
export function requestLimits(settings: Settings): Partial<HttpLimits> {
  const given =
    settings.get("requestTimeoutSeconds") ?? settings.environment("HOOKPLANE_REQUEST_TIMEOUT_SECONDS") ?? "";
  if (given === "") return {};
  const timeoutMs = Number(given) * 1000;
  if (!(timeoutMs >= 100 && timeoutMs <= 3_600_000)) {
    throw new HookplaneError(
      "invalid_input",
      `The request timeout "${given}" is not from 0.1 to 3600 seconds`,
      {
        remedy: "Correct hookplane:requestTimeoutSeconds, or HOOKPLANE_REQUEST_TIMEOUT_SECONDS.",
      },
    );
  }
  return {
    headersTimeoutMs: timeoutMs,
    bodyTimeoutMs: timeoutMs,
    attemptTimeoutMs: timeoutMs,
    totalTimeoutMs: Math.max(defaultHttpLimits.totalTimeoutMs, 2 * timeoutMs),
  };
}
