import type { z } from "zod";
import type { HttpClient } from "./http/client.ts";

/**
 * What a resource kind is. One file of `apis/<api>/` fills this in and never talks to Pulumi; `check`, `diff`, the
 * lifecycle, schema.json, the TypeScript classes, the docs and the contract tests are all derived from it.
 *
 * The marks of an input stand in its zod schema, as the last call of the chain:
 *
 *     url: absoluteUrl().meta({ description: "Where the events go." }),
 *     event: z.enum(events).meta({ description: "The event.", replaces: true }),
 *     headers: headers().default({}).meta({ description: "Sent along.", secret: true, compare: "headers" }),
 */
declare module "zod" {
  interface GlobalMeta {
    /** A change of this input makes a new object. Without it, `update` is called. */
    replaces?: boolean;
    /** Encrypted in the state, and blotted out of every error. For inputs and outputs; top-level properties only. */
    secret?: boolean;
    /**
     * Which values are the same. `set`: order and repetition of the items mean nothing. `headers`: header names without
     * case. By default deep equality. With each, null, `""`, `[]` and `{}` count as absent.
     */
    compare?: "set" | "headers";
    /**
     * Left out by the program means "not ours": never sent, never compared, not in the state. Without it, leaving out an
     * optional input means its empty value. (An input with a default is never left out.)
     */
    unmanaged?: boolean;
    /**
     * Known only to Pulumi's state, never to the vendor (such as what a delete should do). The core keeps it; a change
     * of such inputs alone updates the state without a call of `update`.
     */
    local?: boolean;
  }
}

/** The shape of an account's URL and credentials, and how it is found where a resource does not give it. */
export interface ConnectionDefinition<Connection extends object = object> {
  /**
   * Prefix of its settings: field `apiKey` of `pave` is `hookplane:paveApiKey` in the provider's configuration and
   * `HOOKPLANE_PAVE_API_KEY` in the environment.
   */
  readonly name: string;
  /** As people write the vendor's name: `PAVE`. */
  readonly title: string;
  /** Every field is a string and described; `url` has the vendor's documented base as its default and no trailing slash. */
  readonly schema: z.ZodType<Connection> & z.ZodObject;
  /** The vendor's usual environment variables by field, looked at after `HOOKPLANE_…`: `{ authToken: "TWILIO_AUTH_TOKEN" }`. */
  readonly environment?: Readonly<Partial<Record<keyof Connection, string>>>;
  /**
   * The account, never a credential: it stands in plain text in the state (`account`), and its change replaces the resource.
   * The base URL and the vendor's account id; an id that is itself secret goes through `fingerprint` of secrets.ts.
   */
  identity(connection: Connection): string;
  /**
   * False where `identity` cannot tell two accounts of one URL apart (a lone API key). The configured credentials then
   * never stand in for those in a resource's state. Default true.
   */
  readonly identifiesAccount?: boolean;
}

/** What an operation works with. Everything outside of the definition comes from here. */
export interface Context<Connection = undefined> {
  /** The account: the resource's own `connection`, else the configured one. Undefined for a kind without a connection. */
  readonly connection: Connection;
  /** Stops with the operation: `context.http.api({ title, url, authorize, parseError }).request(…)`. */
  readonly http: HttpClient;
  /** Aborted when the user cancels or the operation's time is up. */
  readonly signal: AbortSignal;
  /** Tells the user, in the output of the Pulumi command. Secrets are blotted out. */
  log(severity: "debug" | "info" | "warning" | "error", message: string): void;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** What `create` made. */
export interface Created<Observed> {
  /** The resource's id, the same that `import` takes. Never empty. */
  readonly id: string;
  readonly observed: Observed;
}

/** What an update is about. */
interface Change<Inputs, State> {
  /** The inputs that differ from what is there; at least one. Never `connection`, local or no longer managed ones. */
  readonly changed: ReadonlySet<keyof Inputs & string>;
  /** What was there, by the state. */
  readonly state: Partial<State>;
}

/**
 * One resource kind.
 *
 * Inputs and Outputs are what their zod objects produce. State is both together: each input under its own name with the
 * value that the vendor really has, and the outputs. The core adds `connection` (where the program gave one) and
 * `account` to inputs and state; a definition declares neither.
 */
export interface ResourceDefinition<
  Inputs extends object = object,
  Outputs extends object = object,
  Connection extends object | undefined = object | undefined,
  Observed = unknown,
> {
  /** `<module>:<Name>`, such as `pave:Callback`: `hookplane.pave.Callback` in a program. Module `index` is the root. */
  readonly type: `${string}:${string}`;
  /** Markdown for the class: what it is, what the vendor's rules are, what an import id looks like. */
  readonly description: string;
  /** A TypeScript program that runs as it is (with the connection configured), imports included. */
  readonly example: string;
  readonly inputs: z.ZodType<Inputs> & z.ZodObject;
  /** What the vendor adds; described, `secret` where it is. Each is always in the state (use null for "none"). */
  readonly outputs?: z.ZodType<Outputs> & z.ZodObject;
  /** The account it lives in; left out for a kind that has none. */
  readonly connection?: Connection extends object ? ConnectionDefinition<Connection> : undefined;
  /**
   * Whether a replacement deletes the old object first: where both would have one identity at the vendor, creating first
   * would fail or the later delete would remove the new one. Only asked for within one account; a user may force a
   * replacement, so it is asked for without a change too. Default: no, the new one is made first.
   */
  deleteBeforeReplace?(state: Partial<Inputs & Outputs>, inputs: Partial<Inputs>): boolean;

  /**
   * The inputs that ask for a new object because of what the state says: a fault that nothing but a replacement repairs,
   * where the program wants that. Default: none.
   */
  demandsReplacement?(state: Partial<Inputs & Outputs>, inputs: Partial<Inputs>): readonly string[];

  /** The object as it is now, or undefined where it is gone (404). `state` is what was known of it; empty on import. */
  observe(
    context: Context<Connection>,
    id: string,
    state: Partial<Inputs & Outputs>,
  ): Promise<Observed | undefined>;
  /** The ids of all objects of this kind in the account, where the vendor lists them. */
  list?(context: Context<Connection>): Promise<readonly string[]>;
  /** Makes it. Never makes two: an answer that was lost is followed by a look, not by a second try. */
  create(context: Context<Connection>, inputs: Inputs): Promise<Created<Observed>>;
  /** Changes it in place. Needed unless each input replaces. */
  update?(
    context: Context<Connection>,
    id: string,
    inputs: Inputs,
    change: Change<Inputs, Inputs & Outputs>,
  ): Promise<Observed>;
  /** Removes it; one that is gone already (404) is a success. */
  delete(context: Context<Connection>, id: string, state: Partial<Inputs & Outputs>): Promise<void>;
  /**
   * The vendor's object as state. `known` is what was known before: the desired inputs over the old state after a create
   * or update, the old state on refresh, nothing on import. Use it for what the vendor does not tell. Local inputs are
   * filled in by the core; values need no normal form: where one is the same as the known one, the known one stays.
   */
  toState(observed: Observed, known: Partial<Inputs & Outputs>): Partial<Inputs> & Outputs;
  /** What the user should know about this state, such as a fault that only a replacement repairs. Shown by every preview, `up` and refresh. */
  warnings?(state: Partial<Inputs & Outputs>): readonly string[];
}

/** A vendor's API: a folder of `apis/`, and a line in `apis/index.ts`. */
export interface ApiDefinition {
  /** The folder's name, and the namespace in a program: `hookplane.pave`. */
  readonly name: string;
  /** As people write it: `PAVE`. */
  readonly title: string;
  /** Markdown: what it is, where its documentation is. */
  readonly description: string;
  /** The shape of an account, and where the delivery service serves this API for its own: `/pave/v1`. */
  readonly account: { readonly connection: ConnectionDefinition; readonly servicePath: string };
  /** Its resource kinds, each made by `defineResource`. */
  readonly resources: readonly AnyResource[];
}

/** A resource kind whose own types do not matter to the reader: what hosts, generators and tests handle. */
export type AnyResource = ResourceDefinition;

/** Infers the types of a definition's parts from its two zod objects and its connection, so that a file states each once. */
export function defineResource<
  Inputs extends object,
  Outputs extends object,
  Observed,
  Connection extends object | undefined = undefined,
>(
  definition: ResourceDefinition<Inputs, Outputs, Connection, Observed>,
): ResourceDefinition<Inputs, Outputs, Connection, Observed> {
  return definition;
}

/** States the shape of an account. */
export function defineConnection<Connection extends object>(
  definition: ConnectionDefinition<Connection>,
): ConnectionDefinition<Connection> {
  return definition;
}
