import { describe, expect, test } from "vitest";
import { createIds, firstIdAt, newId } from "./ids.ts";

describe("newId()", () => {
  test("ids sort by the time they were made at", () => {
    const makeId = createIds((bytes) => bytes.fill(255));
    expect(makeId("app", 1_900_000_000_000) < makeId("app", 1_900_000_000_001)).toBe(true);
  });

  test("ids of one millisecond sort in the order they were made in, and none comes twice", () => {
    const ids = Array.from({ length: 5000 }, () => newId("ep", 1_900_000_000_002));
    expect(ids.toSorted()).toEqual(ids);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("counting up carries over when half of the random part is full", () => {
    const makeId = createIds((bytes) => bytes.fill(0).fill(255, 5));
    expect(makeId("x", 1)).toBe("x_0000000001" + "00000000" + "zzzzzzzz");
    expect(makeId("x", 1)).toBe("x_0000000001" + "00000001" + "00000000");
  });

  test("a clock that goes back does not break the order", () => {
    const before = newId("msg", 1_900_000_000_004);
    expect(newId("msg", 1_900_000_000_003) > before).toBe(true);
  });

  test("an id is its prefix and 26 characters that every API takes in a path", () => {
    expect(newId("atmpt", 1_900_000_000_005)).toMatch(/^atmpt_[0-9a-z]{26}$/);
  });
});

describe("firstIdAt()", () => {
  test("parts the ids of a time from those before it", () => {
    const time = 1_900_000_001_000;
    const before = newId("msg", time - 1);
    expect(before < firstIdAt("msg", time)).toBe(true);
    expect(firstIdAt("msg", time) < newId("msg", time)).toBe(true);
  });
});
