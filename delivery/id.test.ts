import { describe, expect, test } from "vitest";
import { createId } from "./id.ts";

describe("createId()", () => {
  test("ids sort by the time they were made at", () => {
    expect(createId("app_", 1_900_000_000_000) < createId("app_", 1_900_000_000_001)).toBe(true);
  });

  test("ids of one millisecond sort in the order of creation, and none comes twice", () => {
    const ids = Array.from({ length: 2000 }, () => createId("ep_", 1_900_000_000_002));
    expect(ids.toSorted()).toEqual(ids);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("a clock that steps back does not break the order", () => {
    const before = createId("msg_", 1_900_000_000_003);
    expect(createId("msg_", 1_900_000_000_000) > before).toBe(true);
  });

  test("an id is its prefix and 26 characters that every API takes in a path", () => {
    expect(createId("atmpt_", 1_900_000_000_004)).toMatch(/^atmpt_[0-9a-z]{26}$/);
  });
});
