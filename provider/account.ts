import { findConnection, peekConnection, type Settings } from "./config.ts";
import { HookplaneError } from "./errors.ts";
import type { AnyResource, ConnectionDefinition } from "./resource.ts";
import { containsUnknown } from "./unknown.ts";

/** The account that an operation works with. */
export interface Account {
  readonly connection: object;
  /** Names it without a credential; stands in the state. */
  readonly identity: string;
}

type Properties = Readonly<Record<string, unknown>>;

/**
 * The account that a program wants a resource in: its own `connection`, else the configured one. Undefined for a kind
 * without a connection, and while the connection is not known yet. Throws `connection_missing`.
 */
export function desiredAccount(
  resource: AnyResource,
  inputs: Properties,
  settings: Settings,
): Account | undefined {
  const definition = resource.connection;
  if (!definition || containsUnknown(inputs.connection)) return undefined;
  const own = parseConnection(definition, inputs.connection);
  return toAccount(definition, own ?? findConnection(definition, settings));
}

/**
 * The account that holds a resource of the state. Where the configuration names that very account, its credentials are
 * newer than those in the state, so that a refresh or destroy works after a rotation. Throws `connection_missing`, and
 * `connection_mismatch` where only another account is configured.
 */
export function holdingAccount(
  resource: AnyResource,
  state: Properties,
  settings: Settings,
): Account | undefined {
  const definition = resource.connection;
  if (!definition) return undefined;
  const own = parseConnection(definition, state.connection);
  const holder = own ? definition.identity(own) : state.account;
  const configured = peekConnection(definition, settings);

  if (own) {
    const newer =
      configured && definition.identifiesAccount !== false && definition.identity(configured) === holder;
    return toAccount(definition, newer ? configured : own);
  }
  const account = toAccount(definition, configured ?? findConnection(definition, settings));
  if (typeof holder === "string" && account.identity !== holder) {
    throw new HookplaneError(
      "connection_mismatch",
      `The resource is in the ${definition.title} account "${holder}", but configured is "${account.identity}"`,
    );
  }
  return account;
}

/** The texts of an account that must never be shown: all but those that name it. */
export function accountSecrets({ connection, identity }: Account): readonly unknown[] {
  return Object.values(connection).filter((value) => typeof value !== "string" || !identity.includes(value));
}

/** The same of a connection as a program or a state has it, which may be incomplete or wrong. */
export function connectionSecrets(
  { connection: definition }: AnyResource,
  connection: unknown,
): readonly unknown[] {
  const parsed = definition?.schema.safeParse(connection);
  if (!definition || !parsed?.success) return [connection];
  return accountSecrets(toAccount(definition, parsed.data));
}

function toAccount(definition: ConnectionDefinition, connection: object): Account {
  return { connection, identity: definition.identity(connection) };
}

/** A connection of the state was valid when it was written; what `get` was given was never checked. */
function parseConnection(definition: ConnectionDefinition, value: unknown): object | undefined {
  if (value === undefined || value === null) return undefined;
  const parsed = definition.schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(
    ({ path, message }) => `${["connection", ...path].join(".")}: ${message}`,
  );
  throw new HookplaneError(
    "invalid_input",
    `The ${definition.title} connection is wrong: ${faults.join("; ")}`,
  );
}
