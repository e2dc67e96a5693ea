import fc from "fast-check";
import type { JsonSchema } from "../operation.ts";

/** Values that are right by a schema, and hostile ones in their stead. */

/** What some members mean beyond what their schemas say, by their names. */
export type Hints = Readonly<Record<string, fc.Arbitrary<unknown>>>;

const maxText = 40;
const maxItems = 5;

/**
 * Values that are right by the schema. What the schema cannot say they may still break.
 *
 * @param named the schemas that it may refer to
 */
export function rightBy(
  schema: JsonSchema,
  named: Readonly<Record<string, JsonSchema>>,
  hints: Hints,
): fc.Arbitrary<unknown> {
  const right = (part: JsonSchema): fc.Arbitrary<unknown> => rightBy(part, named, hints);
  if (schema.$ref !== undefined) {
    const target = named[schema.$ref.replace("#/components/schemas/", "")];
    if (target === undefined) throw new Error(`There is no ${schema.$ref}`);
    return right(target);
  }
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  if (schema.anyOf !== undefined) return fc.oneof(...schema.anyOf.map((part) => right(part)));
  if (Array.isArray(schema.type)) {
    return fc.oneof(...schema.type.map((type: JsonSchema["type"]) => right({ ...schema, type })));
  }
  switch (schema.type) {
    case "null":
      return fc.constant(null);
    case "boolean":
      return fc.boolean();
    case "integer":
      return fc.integer({ min: schema.minimum ?? -1000, max: schema.maximum ?? 100_000 });
    case "number":
      return fc.double({ min: schema.minimum ?? 0.001, max: schema.maximum ?? 1000, noNaN: true });
    case "string":
      return rightText(schema);
    case "array":
      return rightList(schema, right);
    case "object":
      return rightObject(schema, right, hints);
    default:
      return fc.jsonValue({ maxDepth: 2 });
  }
}

function rightText({
  format,
  pattern,
  minLength = 0,
  maxLength = maxText,
}: JsonSchema): fc.Arbitrary<string> {
  const max = Math.min(maxLength, Math.max(maxText, minLength));
  if (format === "date-time") {
    return fc
      .date({ min: new Date(0), max: new Date("2100-01-01"), noInvalidDate: true })
      .map((date) => date.toISOString());
  }
  if (format === "uri") return fc.constantFrom("https://127.0.0.1/hook", "http://[::1]:1/a?b=c");
  if (pattern === undefined) return fc.string({ minLength, maxLength: max });
  return fc
    .stringMatching(new RegExp(pattern))
    .filter((text) => text.length >= minLength && text.length <= maxLength);
}

function rightList(
  { items = {}, minItems = 0, maxItems: most = maxItems, uniqueItems }: JsonSchema,
  right: (part: JsonSchema) => fc.Arbitrary<unknown>,
): fc.Arbitrary<unknown[]> {
  const item = right(items as JsonSchema);
  const bounds = { minLength: minItems, maxLength: Math.min(most, Math.max(maxItems, minItems)) };
  return uniqueItems === true
    ? fc.uniqueArray(item, { ...bounds, selector: (value) => JSON.stringify(value) })
    : fc.array(item, bounds);
}

function rightObject(
  { properties = {}, required = [], additionalProperties, propertyNames }: JsonSchema,
  right: (part: JsonSchema) => fc.Arbitrary<unknown>,
  hints: Hints,
): fc.Arbitrary<unknown> {
  const members = Object.fromEntries(
    Object.entries(properties).map(([name, part]) => {
      const member = hints[name] ?? right(part as JsonSchema);
      // Few at a time: many together are more likely to break a rule that the schema has no words for.
      return [name, required.includes(name) ? member : mostly(fc.constant(absent), member)];
    }),
  );
  const known = fc
    .record(members)
    .map((made) => Object.fromEntries(Object.entries(made).filter(([, value]) => value !== absent)));
  if (typeof additionalProperties !== "object") return known;
  const name =
    propertyNames === undefined ? fc.string({ maxLength: 20 }) : right(propertyNames as JsonSchema);
  const more = fc.dictionary(name as fc.Arbitrary<string>, right(additionalProperties), {
    maxKeys: maxItems,
  });
  return fc.tuple(more, known).map(([others, own]) => ({ ...others, ...own }));
}

const absent = Symbol("absent");

/** The first three times out of four. */
function mostly<T, U>(first: fc.Arbitrary<T>, other: fc.Arbitrary<U>): fc.Arbitrary<T | U> {
  return fc.oneof({ weight: 3, arbitrary: first }, { weight: 1, arbitrary: other });
}

const prototypeNames = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "valueOf"];

/** Texts that have broken others. */
export const hostileText: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(
    ...prototypeNames,
    ...["", " ", "\0", "a\0b", "\u{feff}", "\ud800", "\udfff\ud800", "a\u202eb", "\u0000".repeat(300)],
    ...["\r\nX-Injected: 1", "a\nb", "\t", "\x7f", "\x1b[31m", "é", "😀".repeat(300), "ﷺ".repeat(64)],
    ...["../../etc/passwd", "..", ".", "%00", "%", "%2e%2e%2f", "'; drop table messages; --", "' or 1=1 --"],
    ...["-", "-.", "app_", "ep_", "msg_", "msg_0", "atmpt_", "qtask_", "tok_", "org_default", "1e400", "NaN"],
    ...["${7*7}", "{{7*7}}", "<script>", "javascript:alert(1)", "null", "undefined", "true", "0", "-1"],
    ...["whsec_", "whsec_AAAA", "whsk_AAAA", `whsec_${"A".repeat(100_000)}`, "(a+)+$", "[", "\\u0000"],
    ...["http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://[::ffff:127.0.0.1]/"],
    ...["http://u:p@127.0.0.1./", "HTTP://127.0.0.1:0/", "http://127.0.0.1:99999/", "http:127.0.0.1", "//a"],
    ...["http://127.0.0.1/\r\nX: 1", "http://127.0.0.1/\0", "file:///etc/passwd", "https://127.0.0.1/\ud800"],
    ...[
      "9999-12-31T23:59:59.999Z",
      "0000-01-01T00:00:00Z",
      "2026-02-30T00:00:00Z",
      "+275760-09-13T00:00:00Z",
    ],
    ...["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "x".repeat(257), "x".repeat(100_000)],
  ),
  fc.string({ unit: "binary", maxLength: 50 }),
);

/** Numbers of which 5 to 60,000 are left out: they are waits that a service is told to make. */
const hostileNumber = fc.constantFrom(
  ...[0, -0, -1, 1.5, 2, 65_536, 2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 53), 2 ** 63, 1e21, 1e308, -1e308, 5e-324],
);

function nested(depth: number, isList: boolean): unknown {
  let value: unknown = 1;
  for (let level = 0; level < depth; level++) value = isList ? [value] : { a: value };
  return value;
}

const hostileObject = fc
  .array(fc.tuple(fc.oneof(fc.constantFrom(...prototypeNames), hostileText), fc.jsonValue({ maxDepth: 1 })), {
    maxLength: 4,
  })
  // As `JSON.parse` would make it: `__proto__` is a member like any other.
  .map((entries) => Object.fromEntries(entries));

/** JSON values of every kind, none of them harmless. */
export const hostileValue: fc.Arbitrary<unknown> = fc.oneof(
  hostileText,
  hostileNumber,
  fc.constantFrom(null, true, false, [], {}, [null], [[]], [{}]),
  hostileObject,
  fc.array(hostileText, { maxLength: 3 }),
  fc
    .constantFrom(126, 127, 128, 129, 3_000)
    .chain((depth) => fc.boolean().map((isList) => nested(depth, isList))),
  fc.constant(Array.from({ length: 3_000 }, (_, at) => at)),
);

/** A value with something wrong in it: a member replaced, left out, added or wrapped, anywhere. */
export function nearlyRight(right: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  const change = fc.record({
    path: fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { maxLength: 4 }),
    kind: fc.constantFrom("replace", "replace", "replace", "remove", "add", "wrap"),
    name: fc.constantFrom(...prototypeNames, "unknown", ""),
    value: hostileValue,
  });
  return fc
    .tuple(right, fc.array(change, { minLength: 1, maxLength: 3 }))
    .map(([value, changes]) =>
      changes.reduce<unknown>((before, each) => changed(before, each, each.path), value),
    );
}

interface Change {
  readonly kind: string;
  readonly name: string;
  readonly value: unknown;
}

function changed(value: unknown, change: Change, [step, ...path]: readonly number[]): unknown {
  const entries = Object.entries(typeof value === "object" && value !== null ? value : {});
  if (step === undefined || entries.length === 0) {
    switch (change.kind) {
      case "wrap":
        return [value];
      case "add":
        return Object.fromEntries([...entries, [change.name, change.value]]);
      default:
        return change.value;
    }
  }
  const at = Math.floor(step * entries.length);
  const remaining = entries.flatMap(([name, member], index): [string, unknown][] => {
    if (index !== at) return [[name, member]];
    return change.kind === "remove" && path.length === 0 ? [] : [[name, changed(member, change, path)]];
  });
  return Array.isArray(value) ? remaining.map(([, member]) => member) : Object.fromEntries(remaining);
}
