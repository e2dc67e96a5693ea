import { expect, test } from "vitest";
import { nearestName, unknownName } from "./nearest.ts";

const known = ["SESSION:COMPLETE", "SESSION:STAGE_CHANGE", "SESSION:STATUS_CHANGE", "a.b"];

test.each([
  ["SESSION:COMPLETED", "SESSION:COMPLETE"],
  ["session:complete", "SESSION:COMPLETE"],
  ["SESSION_STATE_CHANGE", "SESSION:STAGE_CHANGE"],
  ["SESSION:STATUSCHANGE", "SESSION:STATUS_CHANGE"],
  ["a-b", "a.b"],
])("%s was probably meant to be %s", (wrong, right) => {
  expect(nearestName(wrong, known)).toBe(right);
});

test.each(["", "photo.taken", "x".repeat(100_000)])("nothing is near %.20s", (wrong) => {
  expect(nearestName(wrong, known)).toBeUndefined();
});

test("says what is wrong, the nearest, and what is known", () => {
  expect(unknownName("a letter", "aa", ["a", "b"])).toBe(
    '"aa" is not a letter. Did you mean "a"? Known: a, b.',
  );
  expect(unknownName("a letter", "12345", ["a", "b"])).toBe('"12345" is not a letter. Known: a, b.');
  expect(unknownName("a letter", "x".repeat(1_000), ["a"]).length).toBeLessThan(200);
});
