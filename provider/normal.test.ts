import { describe, expect, test } from "vitest";
import { isSame } from "./normal.ts";

describe("isSame()", () => {
  test.each([
    [null, "", undefined],
    [[], {}, undefined],
    [undefined, [], "set"],
    [{ a: 1, b: 2 }, { b: 2, a: 1 }, undefined],
    [["b", "a", "b"], ["a", "b"], "set"],
    [{ "X-A": "1" }, { "x-a": "1" }, "headers"],
  ] as const)("%j is the same as %j", (left, right, compare) => {
    expect(isSame(left, right, compare)).toBe(true);
  });

  test.each([
    [0, undefined, undefined],
    [false, undefined, undefined],
    [["b", "a"], ["a", "b"], undefined],
    [["a"], ["a", "b"], "set"],
    [{ "X-A": "1" }, { "x-a": "1" }, undefined],
    [{ "X-A": "a" }, { "X-A": "A" }, "headers"],
    [{ a: null }, {}, undefined],
  ] as const)("%j is not the same as %j", (left, right, compare) => {
    expect(isSame(left, right, compare)).toBe(false);
  });
});
