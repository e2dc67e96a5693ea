import { isDeepStrictEqual } from "node:util";
import { desiredAccount } from "./account.ts";
import type { Settings } from "./config.ts";
import { propertiesOf, type Property } from "./marks.ts";
import { isAbsent, isPlainObject, isSame, normalForm } from "./normal.ts";
import { formatPath } from "./path.ts";
import type { AnyResource } from "./resource.ts";
import { containsUnknown } from "./unknown.ts";

/** One difference between what is there and what the program wants. */
export interface PropertyChange {
  readonly kind: "add" | "delete" | "update";
  /** It takes a new object. */
  readonly replaces: boolean;
}

export interface DiffResult {
  readonly action: "none" | "update" | "replace";
  /** Each difference by its path: `headers["X-Foo"]`. */
  readonly changes: Readonly<Record<string, PropertyChange>>;
  /** The top-level properties that differ. */
  readonly properties: readonly string[];
  /** Those of them that take a new object. */
  readonly replaces: readonly string[];
  readonly deleteBeforeReplace: boolean;
}

type Properties = Readonly<Record<string, unknown>>;

/**
 * Compares the state with the inputs that `checkInputs` gave. What `read` and `delete` need (the connection, local inputs)
 * counts as a change too, since Pulumi keeps the old state where there is none.
 */
export function diffInputs(
  resource: AnyResource,
  state: Properties,
  inputs: Properties,
  settings: Settings,
): DiffResult {
  const differing = propertiesOf(resource.inputs)
    .filter((property) => differs(property, state[property.name], inputs[property.name]))
    .map((property) => ({
      name: property.name,
      replaces: property.marks.replaces === true,
      paths: changedPaths(
        [property.name],
        state[property.name],
        inputs[property.name],
        property.marks.compare,
      ),
    }));
  for (const name of resource.demandsReplacement?.(state, inputs) ?? []) {
    differing.push({ name, replaces: true, paths: [{ path: [name], kind: "update" }] });
  }
  const connection = connectionChange(resource, state, inputs, settings);
  if (connection) differing.push(connection);

  const changes = differing.flatMap(({ replaces, paths }) =>
    paths.map(({ path, kind }): [string, PropertyChange] => [formatPath(path), { kind, replaces }]),
  );
  const replaces = new Set(differing.filter((change) => change.replaces).map(({ name }) => name));
  return {
    action: replaces.size > 0 ? "replace" : differing.length > 0 ? "update" : "none",
    changes: Object.fromEntries(changes),
    properties: [...new Set(differing.map(({ name }) => name))],
    replaces: [...replaces],
    deleteBeforeReplace: !connection?.replaces && (resource.deleteBeforeReplace?.(state, inputs) ?? false),
  };
}

/**
 * The inputs that an update has to send: those that the vendor has and that differ. What only the state keeps, and what
 * the program no longer manages, is not among them.
 */
export function inputsToSend(
  resource: AnyResource,
  state: Properties,
  inputs: Properties,
): ReadonlySet<string> {
  const differing = propertiesOf(resource.inputs).filter(
    ({ name, schema, marks, optional }) =>
      !marks.local &&
      !(marks.unmanaged && isAbsent(inputs[name])) &&
      differs({ name, schema, marks, optional }, state[name], inputs[name]),
  );
  return new Set(differing.map(({ name }) => name));
}

function differs({ marks }: Property, actual: unknown, desired: unknown): boolean {
  if (containsUnknown(desired)) return true;
  // Coming under management or leaving it is a change even where the values agree: from then on drift counts, or not.
  if (marks.unmanaged && isAbsent(actual) !== isAbsent(desired)) return true;
  return !isSame(actual, desired, marks.compare);
}

interface PathChange {
  readonly path: readonly PropertyKey[];
  readonly kind: PropertyChange["kind"];
}

/** The smallest parts that differ. Lists whose order means nothing are one part. */
function changedPaths(
  path: readonly PropertyKey[],
  actual: unknown,
  desired: unknown,
  compare?: "set" | "headers",
): PathChange[] {
  const [left, right] = [normalForm(actual, undefined), normalForm(desired, undefined)];
  if (left === undefined) return [{ path, kind: "add" }];
  if (right === undefined) return [{ path, kind: "delete" }];
  const nested = isPlainObject(left) && isPlainObject(right) ? nestedPaths(path, left, right, compare) : [];
  return nested.length > 0 ? nested : [{ path, kind: "update" }];
}

function nestedPaths(
  path: readonly PropertyKey[],
  left: Record<string, unknown>,
  right: Record<string, unknown>,
  compare?: "set" | "headers",
): PathChange[] {
  const key = (name: string): string => (compare === "headers" ? name.toLowerCase() : name);
  const lefts = new Map(Object.entries(left).map(([name, value]) => [key(name), { name, value }]));
  const rights = new Map(Object.entries(right).map(([name, value]) => [key(name), { name, value }]));
  return [...new Set([...lefts.keys(), ...rights.keys()])].flatMap((name): PathChange[] => {
    const [from, to] = [lefts.get(name), rights.get(name)];
    if (!from) return [{ path: [...path, to?.name ?? name], kind: "add" }];
    if (!to) return [{ path: [...path, from.name], kind: "delete" }];
    if (isDeepStrictEqual(from.value, to.value) && !containsUnknown(to.value)) return [];
    const place = [...path, to.name];
    const deeper =
      isPlainObject(from.value) && isPlainObject(to.value) ? nestedPaths(place, from.value, to.value) : [];
    return deeper.length > 0 ? deeper : [{ path: place, kind: "update" }];
  });
}

/** Another account takes a new object; other credentials, or the same ones from elsewhere, only another state. */
function connectionChange(resource: AnyResource, state: Properties, inputs: Properties, settings: Settings) {
  if (!resource.connection) return undefined;
  const [actual, desired] = [state.connection ?? undefined, inputs.connection ?? undefined];
  const account = desiredAccount(resource, inputs, settings);
  const replaces =
    account !== undefined && typeof state.account === "string" && account.identity !== state.account;
  if (!replaces && isDeepStrictEqual(actual, desired)) return undefined;
  const isOwn = actual !== undefined || desired !== undefined;
  return isOwn
    ? { name: "connection", replaces, paths: changedPaths(["connection"], actual, desired) }
    : { name: "account", replaces, paths: [{ path: ["account"], kind: "update" as const }] };
}
