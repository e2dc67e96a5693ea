import type { Json } from "../core/json.ts";

type Schema = Readonly<Record<string, unknown>>;

/** Deeper than this, and beyond this many values, nothing more is made up: schemas may lead back to themselves. */
const maxDepth = 12;
const maxValues = 2_000;
const maxItems = 10;
const maxStringLength = 10_000;

/**
 * A value of the kind that a JSON Schema (draft-07 or 2020-12) describes: its own `example`, one of its `examples`, its
 * `default`, or one that is made up from its keywords. What is made up keeps to types, members, bounds, formats and
 * choices; patterns and conditions are beyond it.
 *
 * @param index which of the schema's own `examples`; left out for the first
 * @returns undefined when the schema has a list of examples, and none at the index
 */
export function exampleOf(schema: Schema, index = 0): Json | undefined {
  const { examples } = schema;
  if (Array.isArray(examples) && examples.length > 0) return examples[index] as Json | undefined;
  return new ExampleMaker(schema).make(schema, 0);
}

class ExampleMaker {
  readonly #root: Schema;
  #values = 0;

  constructor(root: Schema) {
    this.#root = root;
  }

  make(schema: unknown, depth: number): Json {
    if (!isSchema(schema) || depth > maxDepth || ++this.#values > maxValues) return null;
    const given = givenIn(schema);
    if (given !== undefined) return given;
    const target = this.#resolve(schema["$ref"]);
    if (target !== undefined) return this.make(target, depth + 1);
    const parts = partsOf(schema).map((part) => this.make(part, depth + 1));
    const type = typeOf(schema);
    const objects = parts.filter(isObject);
    if (type === "object" || (type === undefined && objects.length > 0)) {
      return Object.fromEntries([...objects, this.#object(schema, depth)].flatMap(Object.entries<Json>));
    }
    if (type === undefined) return parts[0] ?? "text";
    if (type === "array") return this.#array(schema, depth);
    // A type that says no more than its parts do.
    const part = parts.find((candidate) => candidate !== null);
    return part === undefined || typeOf({ const: part }) !== type ? scalarOf(schema, type) : part;
  }

  #object(schema: Schema, depth: number): { readonly [key: string]: Json } {
    const properties = isSchema(schema["properties"]) ? schema["properties"] : {};
    const required = Array.isArray(schema["required"]) ? schema["required"].map(String) : [];
    const names = new Set([...Object.keys(properties), ...required]);
    const entries: [string, Json][] = [];
    for (const name of names) {
      const property = properties[name];
      if (property === false) continue;
      // A schema that leads back to itself ends with what it must have.
      const isOptional = !required.includes(name);
      if (isOptional && (depth >= maxDepth / 2 || this.#values >= maxValues)) continue;
      entries.push([name, Object.hasOwn(properties, name) ? this.make(property, depth + 1) : "text"]);
    }
    return Object.fromEntries(entries);
  }

  #array(schema: Schema, depth: number): Json {
    const { items } = schema;
    const first = [schema["prefixItems"], items].find((list) => Array.isArray(list)) ?? [];
    const rest = Array.isArray(items) ? schema["additionalItems"] : items;
    const atLeast = numberIn(schema, "minItems") ?? 1;
    const atMost = Math.min(numberIn(schema, "maxItems") ?? maxItems, maxItems);
    const length = Math.min(Math.max(first.length, rest === false ? 0 : atLeast), atMost);
    return Array.from({ length }, (_, at) =>
      at < first.length
        ? this.make(first[at], depth + 1)
        : rest === undefined
          ? "text"
          : this.make(rest, depth + 1),
    );
  }

  /** What a reference within the schema points to. */
  #resolve(reference: unknown): unknown {
    if (typeof reference !== "string" || !reference.startsWith("#")) return undefined;
    const steps = decodeURIComponent(reference.slice(1)).split("/").slice(1);
    let target: unknown = this.#root;
    for (const step of steps) {
      const name = step.replaceAll("~1", "/").replaceAll("~0", "~");
      if (typeof target !== "object" || target === null || !Object.hasOwn(target, name)) return undefined;
      target = (target as Schema)[name];
    }
    return target;
  }
}

function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isObject(value: Json): value is { readonly [key: string]: Json } {
  return isSchema(value);
}

/** What the schema says itself. */
function givenIn(schema: Schema): Json | undefined {
  if (Object.hasOwn(schema, "const")) return schema["const"] as Json;
  if (Object.hasOwn(schema, "example")) return schema["example"] as Json;
  for (const list of [schema["examples"], schema["enum"]]) {
    if (Array.isArray(list) && list.length > 0) return list[0] as Json;
  }
  return Object.hasOwn(schema, "default") ? (schema["default"] as Json) : undefined;
}

/** All that must hold, and the first of each choice. */
function partsOf(schema: Schema): unknown[] {
  const all = Array.isArray(schema["allOf"]) ? (schema["allOf"] as unknown[]) : [];
  const choices = [schema["anyOf"], schema["oneOf"]].filter((list) => Array.isArray(list));
  return [...all, ...choices.flatMap((list) => (list as unknown[]).slice(0, 1))];
}

function typeOf(schema: Schema): string | undefined {
  const { type } = schema;
  if (typeof type === "string") return type;
  if (Array.isArray(type)) return (type as unknown[]).map(String).find((name) => name !== "null") ?? "null";
  if (Object.hasOwn(schema, "const")) return typeOfValue(schema["const"]);
  if ("properties" in schema || "required" in schema) return "object";
  if ("items" in schema || "prefixItems" in schema) return "array";
  if ("format" in schema || "minLength" in schema || "maxLength" in schema) return "string";
  if ("minimum" in schema || "maximum" in schema || "multipleOf" in schema) return "number";
  return undefined;
}

function typeOfValue(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}

function scalarOf(schema: Schema, type: string): Json {
  switch (type) {
    case "string":
      return stringOf(schema);
    case "integer":
    case "number":
      return numberOf(schema, type === "integer");
    case "boolean":
      return true;
    default:
      return null;
  }
}

/** Addresses and names are those that RFC 2606 and RFC 5737 keep for examples. */
const formats: Readonly<Record<string, string>> = {
  "date-time": "2026-01-31T12:00:00Z",
  date: "2026-01-31",
  time: "12:00:00Z",
  duration: "P1D",
  email: "user@example.com",
  "idn-email": "user@example.com",
  hostname: "example.com",
  "idn-hostname": "example.com",
  ipv4: "192.0.2.1",
  ipv6: "2001:db8::1",
  uri: "https://example.com/",
  url: "https://example.com/",
  iri: "https://example.com/",
  "uri-reference": "/path",
  "iri-reference": "/path",
  "uri-template": "/path/{id}",
  uuid: "123e4567-e89b-42d3-a456-426614174000",
  "json-pointer": "/a/b",
  "relative-json-pointer": "0/a",
  regex: "^a*$",
  byte: "dGV4dA==",
};

function stringOf(schema: Schema): string {
  const { format } = schema;
  const known = typeof format === "string" && Object.hasOwn(formats, format) ? formats[format] : undefined;
  if (known !== undefined) return known;
  const atLeast = Math.min(numberIn(schema, "minLength") ?? 0, maxStringLength);
  return "text".padEnd(atLeast, "text").slice(0, numberIn(schema, "maxLength") ?? Infinity);
}

function numberOf(schema: Schema, isInteger: boolean): number {
  const step = numberIn(schema, "multipleOf") ?? (isInteger ? 1 : 0.5);
  const above = numberIn(schema, "exclusiveMinimum");
  const below = numberIn(schema, "exclusiveMaximum");
  const low = Math.max(numberIn(schema, "minimum") ?? -Infinity, above ?? -Infinity);
  const high = Math.min(numberIn(schema, "maximum") ?? Infinity, below ?? Infinity);
  let value = 0;
  if (low > 0 || (low === 0 && above === 0)) {
    value = Math.ceil(low / step) * step;
    if (value === above) value += step;
  } else if (high < 0 || (high === 0 && below === 0)) {
    value = Math.floor(high / step) * step;
    if (value === below) value -= step;
  }
  // Between bounds that are nearer to each other than a step.
  const isOutside = value > high || value < low || value === above || value === below;
  return isOutside && !isInteger && Number.isFinite(low + high) ? (low + high) / 2 : value;
}

function numberIn(schema: Schema, name: string): number | undefined {
  const value = schema[name];
  return typeof value === "number" ? value : undefined;
}
