import { describe, expect, test } from "vitest";
import type { EventType } from "../store/store.ts";
import { currentSchema, payloadFaults, schemasFaults, type Schemas } from "./event-type-schemas.ts";

function eventTypeWith(schemas: Schemas | null): EventType {
  return {
    organizationId: "default",
    name: "user.created",
    description: "",
    archived: false,
    deprecated: false,
    schemas: schemas && JSON.stringify(schemas),
    featureFlags: null,
    groupName: null,
    createdAt: 0,
    updatedAt: 0,
  };
}

/** Where the faults are. */
function pathsOf(faults: readonly { readonly path: readonly (string | number)[] }[]): string[] {
  return faults.map(({ path }) => path.join("."));
}

const at = ["body", "schemas"];

describe("schemasFaults()", () => {
  test.each([
    ["no draft", {}],
    ["draft-07", { $schema: "http://json-schema.org/draft-07/schema#" }],
    ["draft-07 by its other spellings", { $schema: "https://json-schema.org/draft-07/schema" }],
    [
      "2020-12",
      { $schema: "https://json-schema.org/draft/2020-12/schema", prefixItems: [{ type: "string" }] },
    ],
    ["keywords for people", { title: "A", description: "B", examples: [{}], example: {}, "x-order": 1 }],
    ["references within", { $ref: "#/$defs/a", $defs: { a: { type: "object" } } }],
    ["a format nobody knows", { properties: { a: { format: "shoe-size" } } }],
    ["a pattern that is none of Unicode's", { properties: { a: { pattern: "^\\-[\\w\\-]+$" } } }],
  ])("takes a schema with %s", (_, schema) => {
    expect(schemasFaults({ "1": schema }, at)).toEqual([]);
  });

  test.each([
    ["a keyword of the wrong type", { readOnly: 15 }, "1.readOnly"],
    ["a type that there is not", { properties: { a: { type: "strin" } } }, "1.properties.a.type"],
    ["another draft", { $schema: "http://json-schema.org/draft-04/schema#" }, "1.$schema"],
    ["a draft that is no text", { $schema: 7 }, "1.$schema"],
    ["a reference to nowhere", { $ref: "#/definitions/none" }, "1"],
    ["a reference to somewhere else", { $ref: "https://example.com/schema.json" }, "1"],
    [
      "references in a circle",
      { $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } } },
      "1",
    ],
    ["a pattern that is none", { properties: { a: { pattern: "(" } } }, "1"],
    ["an answer that comes later", { $async: true }, "1"],
  ])("refuses %s", (_, schema, path) => {
    const paths = pathsOf(schemasFaults({ "1": schema }, at));
    expect(paths.length).toBeGreaterThan(0);
    expect(new Set(paths)).toEqual(new Set([`body.schemas.${path}`]));
  });

  test("finds the faults of all versions at once", () => {
    const faults = schemasFaults({ "1": { type: 1 }, "2": {}, "3": { minLength: -1, title: 5 } }, at);
    expect(new Set(pathsOf(faults))).toEqual(
      new Set(["body.schemas.1.type", "body.schemas.3.minLength", "body.schemas.3.title"]),
    );
  });

  test("refuses schemas that would take too long to make ready", () => {
    const properties = Object.fromEntries(Array.from({ length: 20_000 }, (_, n) => [`p${n}`, {}]));
    expect(schemasFaults({ "1": { properties } }, at)).toMatchObject([
      { path: at, message: expect.stringContaining("131072") },
    ]);
    const versions = Object.fromEntries(Array.from({ length: 101 }, (_, n) => [String(n), {}]));
    expect(schemasFaults(versions, at)).toMatchObject([
      { path: at, message: expect.stringContaining("100") },
    ]);
  });

  test("one schema's $id is nothing to another", () => {
    const id = "https://example.com/shared";
    expect(schemasFaults({ "1": { $id: id, type: "object" } }, at)).toEqual([]);
    expect(schemasFaults({ "1": { $id: id, type: "array" } }, at)).toEqual([]);
    expect(pathsOf(schemasFaults({ "1": { $ref: id } }, at))).toEqual(["body.schemas.1"]);
  });
});

describe("currentSchema()", () => {
  test("is the highest version by number", () => {
    const schemas = { "9": { title: "old" }, "10": { title: "new" }, "2": {} };
    expect(currentSchema(eventTypeWith(schemas))).toEqual({ version: "10", schema: { title: "new" } });
  });

  test("is none where there is none", () => {
    expect(currentSchema(eventTypeWith(null))).toBeUndefined();
    expect(currentSchema(eventTypeWith({}))).toBeUndefined();
  });
});

describe("payloadFaults()", () => {
  const path = ["body", "payload"];
  const user = {
    type: "object",
    required: ["id", "email"],
    additionalProperties: false,
    properties: {
      id: { type: "integer" },
      email: { type: "string", format: "email" },
      "a/b~c": { enum: ["x", "y"] },
    },
  };

  test("are none for a payload that matches, or an event type without a schema", () => {
    expect(payloadFaults(eventTypeWith({ "1": user }), { id: 1, email: "a@example.com" }, path)).toEqual([]);
    expect(payloadFaults(eventTypeWith(null), { anything: true }, path)).toEqual([]);
  });

  test("are all of them, each at its place", () => {
    const payload = { id: "1", more: true, "a/b~c": "z" };
    const faults = payloadFaults(eventTypeWith({ "1": { type: "null" }, "2": user }), payload, path);
    expect(new Map(faults.map((fault) => [fault.path.join("."), fault.message]))).toEqual(
      new Map([
        [
          "body.payload.email",
          'This does not match version 2 of the schema of "user.created": it is required.',
        ],
        [
          "body.payload.more",
          'This does not match version 2 of the schema of "user.created": it is not a member that the schema has.',
        ],
        [
          "body.payload.id",
          'This does not match version 2 of the schema of "user.created": it must be integer.',
        ],
        [
          "body.payload.a/b~c",
          'This does not match version 2 of the schema of "user.created": it must be one of ["x","y"].',
        ],
      ]),
    );
  });

  test("do not repeat what the payload says", () => {
    const schema = { properties: { card: { type: "integer" }, pin: { pattern: "^[0-9]+$" } } };
    const faults = payloadFaults(eventTypeWith({ "1": schema }), { card: "canary", pin: "canary" }, path);
    expect(faults).toHaveLength(2);
    expect(JSON.stringify(faults)).not.toContain("canary");
  });

  test("are not listed without end", () => {
    const schema = { properties: { list: { items: { type: "string" } } } };
    const list = Array.from({ length: 1000 }, (_, n) => n);
    expect(payloadFaults(eventTypeWith({ "1": schema }), { list }, path)).toHaveLength(50);
  });

  test("tell of a check that would never end, and the next payload is checked again", () => {
    const eventType = eventTypeWith({ "1": { properties: { name: { pattern: "^(a+)+$" } } } });
    expect(payloadFaults(eventType, { name: `${"a".repeat(60)}!` }, path)).toMatchObject([
      { path, message: expect.stringContaining("takes too long") },
    ]);
    expect(payloadFaults(eventType, { name: "aaa" }, path)).toEqual([]);
  });

  test("tell of a schema that leads back to itself", () => {
    expect(payloadFaults(eventTypeWith({ "1": { $ref: "#" } }), {}, path)).toMatchObject([
      { path, message: expect.stringContaining("simplify its patterns and references") },
    ]);
  });

  test("tell of a schema that cannot be used: what an earlier version stored was not looked at", () => {
    for (const schema of [{ $ref: "#/none" }, { $async: true }, { $schema: "https://example.com/own" }]) {
      expect(payloadFaults(eventTypeWith({ "1": schema }), {}, path)).toMatchObject([
        { path, message: expect.stringContaining("cannot be used") },
      ]);
    }
  });

  test("draft 2020-12 is checked by its own rules", () => {
    const $schema = "https://json-schema.org/draft/2020-12/schema";
    const schema = { $schema, properties: { pair: { prefixItems: [{ type: "string" }], items: false } } };
    const eventType = eventTypeWith({ "1": schema });
    expect(payloadFaults(eventType, { pair: ["a"] }, path)).toEqual([]);
    expect(pathsOf(payloadFaults(eventType, { pair: ["a", "b"] }, path))).toEqual(["body.payload.pair"]);
  });
});
