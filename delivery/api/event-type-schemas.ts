import { createContext, Script } from "node:vm";
import { Ajv, type ErrorObject, type Options, type ValidateFunction } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import type { Fault } from "../errors.ts";
import type { EventType } from "../store/store.ts";

/** An event type's JSON Schemas by version, as the contract's `schemas`. */
export type Schemas = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** All of an event type's schemas together, as JSON: compiling holds up everything else, some 2 ms for each KiB at worst. */
const maxSchemasLength = 128 * 1024;
const maxVersions = 100;
/** Compiled schemas are kept as long as their texts are no longer than this in all. */
const maxKeptLength = 4 * 1024 * 1024;
/** A payload's faults beyond these are not listed. */
const maxFaults = 50;
/** How long a payload may take to check: patterns and recursion can take for ever on the wrong one. */
const timeLimitMs = 500;

/**
 * Keywords that can take longer than the schema and the payload are long: backtracking patterns, items compared with
 * each other, references that come back to where they are.
 */
const costlyKeywords =
  /"(?:pattern|patternProperties|format|uniqueItems|\$(?:ref|dynamicRef|recursiveRef))"\s*:/;

const options: Options = {
  // Keywords that are not of JSON Schema, such as `example`, say something to somebody else.
  strict: false,
  logger: false,
  allErrors: true,
  code: { regExp: Object.assign(toPattern, { code: "undefined" }) },
};

/** The drafts that are understood, by what `$schema` says; a schema that does not say is of draft-07. */
const drafts = [
  {
    uri: "http://json-schema.org/draft-07/schema",
    create: (more: Options) => new Ajv({ ...options, ...more }),
  },
  {
    uri: "https://json-schema.org/draft/2020-12/schema",
    create: (more: Options) => new Ajv2020({ ...options, ...more }),
  },
] as const;

type Draft = (typeof drafts)[number];

/** What checks the schemas themselves: made at the first use, since that takes a while. */
const metaschemas = new Map<Draft, Pick<Ajv, "validate" | "errors">>();

/**
 * What keeps schemas from being stored: none when every version can be used to check payloads.
 *
 * @param path where in the request they are
 */
export function schemasFaults(schemas: Schemas, path: readonly string[]): Fault[] {
  const versions = Object.keys(schemas);
  if (versions.length > maxVersions) {
    return [faultAt(path, `An event type has at most ${maxVersions} versions of its schema.`)];
  }
  if (JSON.stringify(schemas).length > maxSchemasLength) {
    return [
      faultAt(
        path,
        `The schemas of an event type have at most ${maxSchemasLength} characters in all: give fewer versions, or shorter ones.`,
      ),
    ];
  }
  return Object.entries(schemas).flatMap(([version, schema]) => schemaFaults(schema, [...path, version]));
}

function schemaFaults(schema: Readonly<Record<string, unknown>>, path: readonly string[]): Fault[] {
  const draft = draftOf(schema);
  if (draft === undefined) {
    const known = drafts.map(({ uri }) => `"${uri}"`).join(" or ");
    return [
      faultAt(
        [...path, "$schema"],
        `The draft "${String(schema["$schema"])}" is not understood: use ${known}.`,
      ),
    ];
  }
  const metaschema = metaschemas.get(draft) ?? draft.create({});
  metaschemas.set(draft, metaschema);
  if (!metaschema.validate(draft.uri, schema)) {
    return (metaschema.errors ?? [])
      .slice(0, maxFaults)
      .map((error) =>
        faultAt([...path, ...stepsOf(error)], `This is not JSON Schema: it ${messageOf(error)}.`),
      );
  }
  try {
    compileOnce(draft, schema);
    return [];
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return [faultAt(path, `The schema cannot be used: ${reason}.`)];
  }
}

/** A schema with its version. */
interface VersionedSchema {
  readonly version: string;
  readonly schema: Schemas[string];
}

/** The version that counts, which is the highest; undefined for an event type without a schema. */
export function currentSchema(eventType: EventType): VersionedSchema | undefined {
  if (eventType.schemas === null) return undefined;
  const schemas = JSON.parse(eventType.schemas) as Schemas;
  const version = Object.keys(schemas).toSorted(byNumber).at(-1);
  const schema = version === undefined ? undefined : schemas[version];
  return version === undefined || schema === undefined ? undefined : { version, schema };
}

const byNumber = new Intl.Collator("en", { numeric: true }).compare;

/**
 * What is wrong with a payload by its event type's current schema; nothing for an event type without one.
 *
 * @param path where in the request the payload is
 */
export function payloadFaults(
  eventType: EventType,
  payload: unknown,
  path: readonly (string | number)[],
): Fault[] {
  const check = checkOf(eventType);
  if (check === null) return [];
  const of = `version ${check.version} of the schema of "${eventType.name}"`;
  if (check.compiled === null) {
    return [faultAt(path, `The payload cannot be checked: ${of} cannot be used. Mend the schema.`)];
  }
  const { validate } = check.compiled;
  const isValid = run(check.compiled, payload);
  if (isValid === "without end") {
    return [
      faultAt(path, `The payload takes too long to check by ${of}: simplify its patterns and references.`),
    ];
  }
  if (isValid) return [];
  return (validate.errors ?? [])
    .slice(0, maxFaults)
    .map((error) =>
      faultAt([...path, ...stepsOf(error)], `This does not match ${of}: it ${messageOf(error)}.`),
    );
}

/** What an event type's payloads are checked by. `compiled` is null for a schema that cannot be used. */
interface PayloadCheck {
  readonly version: string;
  readonly compiled: Compiled | null;
}

/** Of the event types as they were read last: nothing is parsed for a payload but the payload. */
const checks = new WeakMap<EventType, PayloadCheck | null>();

function checkOf(eventType: EventType): PayloadCheck | null {
  const known = checks.get(eventType);
  if (known !== undefined) return known;
  const current = currentSchema(eventType);
  const check =
    current === undefined ? null : { version: current.version, compiled: tryCompile(current.schema) };
  checks.set(eventType, check);
  return check;
}

function tryCompile(schema: Schemas[string]): Compiled | null {
  const draft = draftOf(schema);
  try {
    return draft === undefined ? null : compileOnce(draft, schema);
  } catch {
    // Stored by a version of the service that did not look at schemas.
    return null;
  }
}

interface Compiled {
  readonly validate: ValidateFunction;
  /** Whether it is stopped after a while. */
  readonly isCostly: boolean;
}

const kept = new Map<string, Compiled>();
let keptLength = 0;

/**
 * The compiled schema, from memory where the same was asked for before.
 *
 * @throws Error for a schema that cannot be used
 */
function compileOnce(draft: Draft, schema: Schemas[string]): Compiled {
  const text = JSON.stringify(schema);
  const known = kept.get(text);
  if (known !== undefined) return known;
  const validate = compile(draft, schema);
  if ("$async" in validate) throw new Error('it is asynchronous, leave "$async" out');
  const compiled = { validate, isCostly: costlyKeywords.test(text) };
  kept.set(text, compiled);
  keptLength += text.length;
  for (const oldest of kept.keys()) {
    if (keptLength <= maxKeptLength) break;
    kept.delete(oldest);
    keptLength -= oldest.length;
  }
  return compiled;
}

/** Each schema for itself, so that one's `$id` is nothing to another. */
function compile(draft: Draft, schema: Readonly<Record<string, unknown>>): ValidateFunction {
  const ajv = draft.create({ meta: false, validateSchema: false });
  formats.default(ajv);
  return ajv.compile(schema);
}

/** V8 can be stopped in the midst of a pattern, but only in a script that was started with a time limit. */
const limited = { context: createContext({ check: (): boolean => true }), script: new Script("check()") };

function run({ validate, isCostly }: Compiled, payload: unknown): boolean | "without end" {
  if (!isCostly) return validate(payload);
  limited.context["check"] = () => validate(payload);
  try {
    return limited.script.runInContext(limited.context, { timeout: timeLimitMs }) as boolean;
  } catch {
    // Out of time; or out of stack, by a reference that leads back to itself without a step into the payload.
    return "without end";
  } finally {
    delete limited.context["check"];
  }
}

function draftOf(schema: Readonly<Record<string, unknown>>): Draft | undefined {
  const said = schema["$schema"];
  if (said === undefined) return drafts[0];
  if (typeof said !== "string") return undefined;
  const uri = said.replace(/#$/, "").replace(/^https?:/, "");
  return drafts.find((draft) => draft.uri.replace(/^https?:/, "") === uri);
}

/** Patterns are Unicode's, as JSON Schema asks; one that is right only without, such as `\-`, is taken as it was meant. */
function toPattern(pattern: string, flags: string): RegExp {
  try {
    return new RegExp(pattern, flags);
  } catch (error) {
    if (flags === "") throw error;
    return new RegExp(pattern);
  }
}

/** The steps to what an error speaks of, a member that is missing or too much included. */
function stepsOf({ instancePath, params }: ErrorObject): string[] {
  const steps = instancePath
    .split("/")
    .slice(1)
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  const member: unknown =
    params["missingProperty"] ?? params["additionalProperty"] ?? params["unevaluatedProperty"];
  return typeof member === "string" ? [...steps, member] : steps;
}

function messageOf({ keyword, message = "is wrong", params }: ErrorObject): string {
  switch (keyword) {
    case "required":
    case "dependentRequired":
    case "dependencies":
      return "is required";
    case "additionalProperties":
    case "unevaluatedProperties":
      return "is not a member that the schema has";
    case "enum":
      return `must be one of ${JSON.stringify(params["allowedValues"])}`;
    case "const":
      return `must be ${JSON.stringify(params["allowedValue"])}`;
    default:
      return message;
  }
}

function faultAt(path: readonly (string | number)[], message: string): Fault {
  return { path, message, type: "value_error" };
}
