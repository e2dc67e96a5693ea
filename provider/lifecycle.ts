import { z } from "zod";
import {
  accountSecrets,
  connectionSecrets,
  desiredAccount,
  holdingAccount,
  type Account,
} from "./account.ts";
import { checkInputs, type CheckResult } from "./check.ts";
import type { Settings } from "./config.ts";
import { diffInputs, inputsToSend, type DiffResult, type PropertyChange } from "./diff.ts";
import { HookplaneError, PartlyDoneError, type Operation } from "./errors.ts";
import { HttpError, type HttpClient } from "./http/client.ts";
import { propertiesOf, secretValues } from "./marks.ts";
import { isAbsent, isSame } from "./normal.ts";
import type { AnyResource, Context } from "./resource.ts";
import { createRedactor } from "./secrets.ts";

export type Properties = Readonly<Record<string, unknown>>;

/** What a host gives an operation to work with. */
export interface Host {
  readonly settings: Settings;
  readonly http: HttpClient;
  readonly signal: AbortSignal;
  log(severity: "debug" | "info" | "warning" | "error", message: string): void;
  readonly now: () => number;
}

/** A resource's id and properties as Pulumi keeps them. Which properties are secret, `secretNames` says. */
export interface Made {
  readonly id: string;
  readonly state: Properties;
}

/** A resource that was found: its state, and the inputs that would make it as it is. */
interface Found extends Made {
  readonly inputs: Properties;
}

/**
 * The vendor's object exists, but not as it should: the host reports the failure and keeps id and state, so that the next
 * `up` repairs the object and `destroy` removes it.
 */
export class InitFailedError extends Error {
  override readonly name = "InitFailedError";
  readonly made: Made;

  constructor(made: Made, reason: HookplaneError) {
    super(reason.message, { cause: reason });
    this.made = made;
  }
}

/**
 * The operations of one resource kind, as every host calls them. Inputs are those that `check` gave; `state` is what an
 * earlier operation returned, possibly of an older version. All of them throw `HookplaneError`, with place and without
 * secrets; `create` and `update` also `InitFailedError`.
 */
export interface Lifecycle {
  check(news: Properties): CheckResult;
  diff(id: string, state: Properties, inputs: Properties): Promise<DiffResult>;
  create(inputs: Properties): Promise<Made>;
  /** `state` is empty on import, or holds just the `connection`. Undefined where the object is gone. */
  read(id: string, state: Properties): Promise<Found | undefined>;
  update(id: string, state: Properties, inputs: Properties): Promise<Made>;
  delete(id: string, state: Properties): Promise<void>;
}

export function createLifecycle(resource: AnyResource, host: Host): Lifecycle {
  const properties = propertiesOf(resource.inputs);

  /** Runs one operation so that what leaves it names the resource and shows no secret. */
  async function run<T>(
    operation: Operation,
    id: string | undefined,
    known: readonly Properties[],
    body: (context: (account: Account | undefined) => Context<object | undefined>) => T | Promise<T>,
  ): Promise<T> {
    const hidden = known.flatMap((values) => [
      ...secretValues(resource, values),
      connectionSecrets(resource, values.connection),
    ]);
    let redact = createRedactor(hidden);
    const toContext = (account: Account | undefined): Context<object | undefined> => {
      if (account) redact = createRedactor([...hidden, ...accountSecrets(account)]);
      return {
        connection: account?.connection,
        http: host.http,
        signal: host.signal,
        log: (severity, message) => {
          host.log(severity, redact(message));
        },
        now: host.now,
      };
    };
    const place = { operation, resource: id === undefined ? resource.type : `${resource.type} "${id}"` };
    const clean = (error: unknown): HookplaneError => toHookplaneError(error).with(place).redacted(redact);
    try {
      return await body(toContext);
    } catch (error) {
      if (error instanceof InitFailedError) throw new InitFailedError(error.made, clean(error.cause));
      throw clean(error);
    }
  }

  /** The vendor's answer as state: see `toState` of a definition. `managed` is undefined on import: it takes over all. */
  function finish(
    observed: unknown,
    known: Properties,
    managed: Properties | undefined,
    account: Account | undefined,
  ): Properties {
    const actual = resource.toState(observed, known) as Properties;
    const state: Record<string, unknown> = { ...actual };
    for (const { name, schema, marks } of properties) {
      if (marks.local) state[name] = known[name] ?? z.safeParse(schema, undefined).data;
      else if (marks.unmanaged && managed && isAbsent(managed[name])) state[name] = undefined;
      else if (managed && isSame(actual[name], known[name], marks.compare)) state[name] = known[name];
    }
    if (account) state.account = account.identity;
    if (!isAbsent(known.connection)) state.connection = known.connection;
    return withoutAbsent(state);
  }

  /** The state after a change that the vendor need not know of. */
  function move(state: Properties, inputs: Properties, account: Account | undefined): Properties {
    const moved = properties.filter(
      ({ name, marks }) => marks.local === true || (marks.unmanaged === true && isAbsent(inputs[name])),
    );
    const values = moved.map(({ name }): [string, unknown] => [name, inputs[name]]);
    const own = { connection: inputs.connection, account: account?.identity };
    return withoutAbsent({ ...state, ...Object.fromEntries(values), ...own });
  }

  async function making(
    id: string | undefined,
    known: Properties,
    inputs: Properties,
    account: Account | undefined,
    make: () => Promise<{ id: string; observed: unknown }>,
  ): Promise<Made> {
    try {
      const made = await make();
      return { id: made.id, state: finish(made.observed, known, inputs, account) };
    } catch (error) {
      if (!(error instanceof PartlyDoneError)) throw error;
      const { observed, reason } = error;
      const state = finish(observed, known, inputs, account);
      throw new InitFailedError({ id: id ?? error.id, state }, reason);
    }
  }

  /**
   * What a refresh found changed among the outputs. Pulumi takes a refresh's result for drift only where the diff that it asks
   * for right after says so, but no update can change an output back: so that one diff tells it, and no other.
   */
  const drifts = new Map<string, { readonly state: Properties; readonly names: readonly string[] }>();

  function noteDrift(id: string, state: Properties, found: Properties): void {
    const names = propertiesOf(resource.outputs)
      .map(({ name }) => name)
      .filter((name) => !isSame(state[name], found[name], undefined));
    if (names.length > 0) drifts.set(id, { state: found, names });
  }

  function takeDrift(id: string, state: Properties): readonly string[] {
    const drift = drifts.get(id);
    if (!drift || !isSame(withoutNull(drift.state), withoutNull(state), undefined)) return [];
    drifts.delete(id);
    return drift.names;
  }

  function toFound(id: string, state: Properties): Found {
    const names = [...properties.map(({ name }) => name), "connection"];
    const inputs = Object.fromEntries(names.map((name) => [name, state[name]]));
    return { id, state, inputs: withoutAbsent(inputs) };
  }

  /** An import of what is not there is mostly a wrong id: says which ids there are. */
  async function explainMissing(context: Context<object | undefined>, id: string): Promise<void> {
    if (!resource.list) return;
    const ids = await resource.list(context);
    const there = ids.length
      ? `there are ${ids.map((one) => `"${one}"`).join(", ")}`
      : "there is none at all";
    throw new HookplaneError("not_found", `The account has no ${resource.type} "${id}"; ${there}`);
  }

  function warn(context: Context<object | undefined>, id: string, state: Properties): void {
    for (const warning of resource.warnings?.(state) ?? []) {
      context.log("warning", `${resource.type} "${id}": ${warning}`);
    }
  }

  return {
    check: (news) => checkInputs(resource, news, host.settings),

    diff: (id, state, inputs) =>
      run("diff", id, [state, inputs], (toContext) => {
        warn(toContext(undefined), id, state);
        const result = diffInputs(resource, state, inputs, host.settings);
        return addDrift(result, takeDrift(id, state));
      }),

    create: (inputs) =>
      run("create", undefined, [inputs], (toContext) => {
        const account = desiredAccount(resource, inputs, host.settings);
        return making(undefined, inputs, inputs, account, () => resource.create(toContext(account), inputs));
      }),

    read: (id, state) =>
      run("read", id, [state], async (toContext) => {
        const account = holdingAccount(resource, state, host.settings);
        const context = toContext(account);
        const isImport = !("account" in state);
        let observed: unknown;
        try {
          observed = await resource.observe(context, id, state);
        } catch (error) {
          if (isImport || !isLocalAndDown(error, account)) throw error;
          context.log(
            "warning",
            `${resource.type} "${id}" is taken to be as it was: the service on this machine that holds it is down`,
          );
          return toFound(id, state);
        }
        if (observed === undefined) {
          if (isImport) await explainMissing(context, id);
          return undefined;
        }
        const found = finish(observed, state, isImport ? undefined : state, account);
        if (!isImport) noteDrift(id, state, found);
        return toFound(id, found);
      }),

    update: (id, state, inputs) =>
      run("update", id, [state, inputs], async (toContext) => {
        const account = desiredAccount(resource, inputs, host.settings);
        const context = toContext(account);
        const known = { ...state, ...inputs, connection: inputs.connection };
        const changed = inputsToSend(resource, state, inputs);
        if (changed.size === 0) return { id, state: move(state, inputs, account) };
        const update = resource.update?.bind(resource);
        if (!update) {
          throw new HookplaneError(
            "internal",
            `${resource.type} has no update for ${[...changed].join(", ")}`,
          );
        }
        return making(id, known, inputs, account, async () => ({
          id,
          observed: await update(context, id, inputs, { changed: changed as ReadonlySet<never>, state }),
        }));
      }),

    delete: (id, state) =>
      run("delete", id, [state], async (toContext) => {
        const account = holdingAccount(resource, state, host.settings);
        await resource.delete(toContext(account), id, state);
      }),
  };
}

function addDrift(result: DiffResult, names: readonly string[]): DiffResult {
  if (names.length === 0) return result;
  const drift = names.map((name): [string, PropertyChange] => [name, { kind: "update", replaces: false }]);
  return {
    ...result,
    action: result.action === "none" ? "update" : result.action,
    changes: { ...Object.fromEntries(drift), ...result.changes },
    properties: [...new Set([...result.properties, ...names])],
  };
}

/**
 * Whether an account is on this machine and nothing listens there. Such a service changes nothing that it holds until it is
 * started again, and a refresh that failed for it would keep the very `up` from starting it.
 */
function isLocalAndDown(error: unknown, account: Account | undefined): boolean {
  const url = account && "url" in account.connection ? String(account.connection.url) : "";
  return (
    error instanceof HttpError && error.outcome === "unsent" && URL.canParse(url) && isLoopback(new URL(url))
  );
}

function isLoopback({ hostname }: URL): boolean {
  return hostname === "localhost" || hostname === "[::1]" || hostname.startsWith("127.");
}

function toHookplaneError(error: unknown): HookplaneError {
  if (error instanceof HookplaneError) return error;
  return new HookplaneError("internal", error instanceof Error ? error.message : String(error), {
    cause: error,
  });
}

/** Pulumi does not keep a null of a state. */
function withoutNull(values: Properties): Properties {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => !isAbsent(value)));
}

function withoutAbsent(values: Properties): Properties {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}
