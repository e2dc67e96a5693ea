import { describe, expect, test } from "vitest";
import { isSameUrl } from "./same-url.ts";

describe("isSameUrl()", () => {
  test.each([
    ["https://example.com", "https://example.com/"],
    ["https://EXAMPLE.com:443/a", "https://example.com/a"],
    ["https://example.com/a b", "https://example.com/a%20b"],
    ["not a url", "not a url"],
  ])("takes %s and %s for one", (left, right) => {
    expect(isSameUrl(left, right)).toBe(true);
  });

  test.each([
    ["https://example.com/a", "https://example.com/a/"],
    ["https://example.com/a", "http://example.com/a"],
    ["https://example.com/#rc=1", "https://example.com/#rc=2"],
    ["https://example.com/A", "https://example.com/a"],
    ["", "https://example.com/"],
  ])("tells %s from %s", (left, right) => {
    expect(isSameUrl(left, right)).toBe(false);
  });
});
