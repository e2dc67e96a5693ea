import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { findRawMember, findRawMembers, isDeeperThan } from "./raw-member.ts";

/** White space as JSON allows it between any two tokens. */
const space = fc.string({ unit: fc.constantFrom(" ", "\t", "\n", "\r"), maxLength: 3 });

/** Any JSON value as text, with white space and escapes that `JSON.stringify` would not print. */
const valueText = fc
  .tuple(fc.json({ maxDepth: 4 }), fc.constantFrom(undefined, 1, "\t"), fc.boolean())
  .map(([json, indent, escape]) => {
    const text = JSON.stringify(JSON.parse(json), null, indent);
    return escape ? text.replaceAll(/[a-f/](?=[^"\\]*")/g, escaped) : text;
  })
  .filter(isJson);

const members = fc.array(
  fc.tuple(fc.oneof(fc.constantFrom("payload", "Payload", "x"), fc.string()), valueText),
  {
    maxLength: 6,
  },
);

describe("findRawMember()", () => {
  test("finds each member's own text, whatever stands around it", () => {
    fc.assert(
      fc.property(members, fc.array(space, { minLength: 4, maxLength: 4 }), (entries, [a, b, c, d]) => {
        const json = `${a}{${b}${entries.map(([key, value]) => `${JSON.stringify(key)}${c}:${d}${value}${a}`).join(`,${b}`)}}${c}`;
        JSON.parse(json);
        for (const name of ["payload", "absent", ...entries.map(([key]) => key)]) {
          expect(findRawMember(json, name)).toBe(entries.findLast(([key]) => key === name)?.[1]);
        }
      }),
    );
  });

  test("reads to the same value as JSON.parse does", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (object) => {
        const json = JSON.stringify(object, null, 2);
        for (const [name, value] of Object.entries(JSON.parse(json) as object)) {
          expect(JSON.parse(findRawMember(json, name) ?? "")).toEqual(value);
        }
      }),
    );
  });

  test.each([
    [
      "keeps white space and number spelling",
      '{"payload" : { "n" : 1.0e+2,\n "big":12345678901234567890 } }',
      '{ "n" : 1.0e+2,\n "big":12345678901234567890 }',
    ],
    ["does not take a member of a nested object", '{"a":{"payload":1},"payload":2}', "2"],
    ["knows an escaped name", String.raw`{"p\u0061yload":[1]}`, "[1]"],
    ["takes the last of two", '{"payload":1,"payload":2}', "2"],
    [
      "is not misled by brackets and quotes in strings",
      String.raw`{"a":"}\\\"]","payload":"{\"\\"}`,
      String.raw`"{\"\\"`,
    ],
    ["reads a value that ends with the object", '{"payload":null}', "null"],
    ["finds nothing in an empty object", " { } ", undefined],
  ])("%s", (_, json, expected) => {
    JSON.parse(json);
    expect(findRawMember(json, "payload")).toBe(expected);
  });
});

describe("findRawMembers()", () => {
  test("finds each item's own text, whatever stands around it", () => {
    fc.assert(
      fc.property(
        fc.array(members, { maxLength: 5 }),
        fc.tuple(space, space, space),
        members,
        (items, spaces, around) => {
          const [a, b, c] = spaces;
          const toObject = (entries: readonly (readonly [string, string])[]) =>
            `{${entries.map(([key, value]) => `${a}${JSON.stringify(key)}${b}:${c}${value}`).join(`${a},`)}${b}}`;
          const others = around.filter(([key]) => key !== "items");
          const list = `[${a}${items.map(toObject).join(`${b},${c}`)}${a}]`;
          const json = `${a}${toObject([...others, ["items", "[1]"], ...others, ["items", list], ...others])}${b}`;
          JSON.parse(json);
          expect(findRawMembers(json, "items", "payload")).toEqual(
            items.map((entries) => entries.findLast(([key]) => key === "payload")?.[1]),
          );
        },
      ),
    );
  });

  test.each([
    ["there is no list", '{"a":[]}', []],
    ["it is empty", '{"items":[ ]}', []],
    ["it is none", '{"items":{"payload":1}}', []],
    ["the last of two is none", '{"items":[{"payload":1}],"items":null}', []],
    [
      "items are no objects",
      '{"items":[1,[{"payload":2}],"x",{"payload":3}]}',
      [undefined, undefined, undefined, "3"],
    ],
  ])("where %s", (_, json, expected) => {
    JSON.parse(json);
    expect(findRawMembers(json, "items", "payload")).toEqual(expected);
  });
});

describe("isDeeperThan()", () => {
  test.each([
    ["1", 0],
    ["{}", 1],
    ['{"a":[{}],"b":[]}', 3],
    [String.raw`["[[[\"[["]`, 1],
    ["[[],[],[],[],[]]", 2],
  ])("%s nests %i deep", (json, depth) => {
    JSON.parse(json);
    expect(isDeeperThan(depth, json)).toBe(false);
    if (depth > 0) expect(isDeeperThan(depth - 1, json)).toBe(true);
  });
});

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
