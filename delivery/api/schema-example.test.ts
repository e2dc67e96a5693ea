import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { EventType } from "../store/store.ts";
import { payloadFaults } from "./event-type-schemas.ts";
import { exampleOf } from "./schema-example.ts";

describe("exampleOf()", () => {
  test.each([
    ["a schema's own example", { type: "object", example: { a: 1 } }, { a: 1 }],
    ["the first of its examples", { examples: [{ a: 1 }, { a: 2 }], default: { a: 3 } }, { a: 1 }],
    ["its default", { type: "object", default: { a: 3 } }, { a: 3 }],
    ["a member's example", { properties: { a: { type: "string", example: "x" } } }, { a: "x" }],
    ["a constant", { properties: { a: { const: "x" } } }, { a: "x" }],
    ["the first of a choice", { properties: { a: { enum: ["x", "y"] } } }, { a: "x" }],
    [
      "every type",
      {
        type: "object",
        properties: {
          text: { type: "string" },
          whole: { type: "integer" },
          share: { type: "number" },
          flag: { type: "boolean" },
          nothing: { type: "null" },
          maybe: { type: ["null", "string"] },
          list: { type: "array", items: { type: "integer" } },
          inner: { type: "object", properties: { a: { type: "integer" } } },
        },
      },
      {
        text: "text",
        whole: 0,
        share: 0,
        flag: true,
        nothing: null,
        maybe: "text",
        list: [0],
        inner: { a: 0 },
      },
    ],
    [
      "formats",
      {
        properties: { at: { type: "string", format: "date-time" }, to: { type: "string", format: "email" } },
      },
      { at: "2026-01-31T12:00:00Z", to: "user@example.com" },
    ],
    [
      "a reference within the schema",
      {
        $ref: "#/$defs/a~1b",
        $defs: { "a/b": { properties: { a: { $ref: "#/$defs/n" } } }, n: { type: "integer" } },
      },
      { a: 0 },
    ],
    [
      "all that must hold together, and the first of the others",
      {
        allOf: [{ properties: { a: { type: "integer" } } }, { properties: { b: { type: "boolean" } } }],
        oneOf: [{ properties: { kind: { const: "x" } } }, { properties: { kind: { const: "y" } } }],
        properties: { c: { type: "null" } },
      },
      { a: 0, b: true, kind: "x", c: null },
    ],
    ["a member that must be there and is not described", { type: "object", required: ["a"] }, { a: "text" }],
    [
      "a member of any name",
      JSON.parse(
        '{"type":"object","properties":{"__proto__":{"type":"integer"}},"allOf":[{"required":["a"]}]}',
      ),
      JSON.parse('{"__proto__":0,"a":"text"}'),
    ],
    ["no member that must not be there", { properties: { a: false, b: true } }, { b: null }],
    [
      "items by their places",
      {
        properties: {
          pair: { type: "array", prefixItems: [{ type: "integer" }, { type: "boolean" }], items: false },
        },
      },
      { pair: [0, true] },
    ],
  ])("has %s", (_, schema, expected) => {
    expect(exampleOf(schema)).toEqual(expected);
  });

  test("is the one of the schema's examples that is asked for", () => {
    const schema = { examples: [{ n: 0 }, { n: 1 }] };
    expect(exampleOf(schema, 1)).toEqual({ n: 1 });
    expect(exampleOf(schema, 2)).toBeUndefined();
    expect(exampleOf({ type: "object" }, 2)).toEqual({});
  });

  test("comes to an end where a schema leads back to itself, or into breadth", () => {
    const tree = {
      $ref: "#/$defs/node",
      $defs: {
        node: {
          type: "object",
          required: ["next"],
          properties: { next: { $ref: "#/$defs/node" }, left: { $ref: "#/$defs/node" } },
        },
      },
    };
    expect(JSON.stringify(exampleOf(tree)).length).toBeLessThan(20_000);
    expect(exampleOf({ $ref: "#" })).toBeNull();
  });

  const bounds = fc.tuple(fc.integer({ min: -50, max: 50 }), fc.integer({ min: 0, max: 30 }));
  const { schema } = fc.letrec<{ schema: object; scalar: object; list: object; object: object }>((tie) => ({
    scalar: fc.oneof(
      fc.constantFrom(
        { type: "boolean" },
        { type: "null" },
        { enum: [7, "x"] },
        { type: ["null", "integer"] },
      ),
      bounds.map(([low, width]) => ({ type: "integer", minimum: low, maximum: low + width })),
      bounds.map(([low, width]) => ({
        type: "number",
        exclusiveMinimum: low,
        exclusiveMaximum: low + width + 1,
      })),
      bounds.map(([low]) => ({ type: "integer", minimum: low, multipleOf: 7 })),
      fc
        .nat(20)
        .chain((low) =>
          fc.nat(20).map((more) => ({ type: "string", minLength: low, maxLength: low + more })),
        ),
      fc
        .constantFrom(
          "date-time",
          "date",
          "time",
          "duration",
          "email",
          "hostname",
          "ipv4",
          "ipv6",
          "uri",
          "uuid",
        )
        .map((format) => ({ type: "string", format })),
    ),
    list: fc
      .tuple(tie("schema"), fc.nat(4), fc.nat(4))
      .map(([items, low, more]) => ({ type: "array", items, minItems: low, maxItems: low + more })),
    object: fc
      .dictionary(fc.constantFrom("a", "b", "c d", "__proto__"), tie("schema"), { maxKeys: 3 })
      .map((properties) => ({ type: "object", properties, required: Object.keys(properties) })),
    schema: fc.oneof({ maxDepth: 3, withCrossShrink: true }, tie("scalar"), tie("list"), tie("object")),
  }));

  test("is valid by the schema it was made of", () => {
    fc.assert(
      fc.property(schema, (payload) => {
        const whole = { type: "object", required: ["payload"], properties: { payload } };
        const eventType = { name: "a", schemas: JSON.stringify({ "1": whole }) } as EventType;
        expect(payloadFaults(eventType, exampleOf(whole), [])).toEqual([]);
      }),
    );
  });
});
