import { describe, expect, test } from "vitest";
import { parseProxyExceptions } from "./proxy-exceptions.ts";

describe("parseProxyExceptions()", () => {
  test.each<[string, string, number, string[], boolean]>([
    ["*", "any.example", 443, ["8.8.8.8"], true],
    ["hooks.example", "hooks.example", 443, ["8.8.8.8"], true],
    ["HOOKS.example.", "hooks.example", 443, ["8.8.8.8"], true],
    ["hooks.example", "hooks.example.", 443, ["8.8.8.8"], true],
    ["hooks.example", "a.hooks.example", 443, ["8.8.8.8"], false],
    ["hooks.example", "myhooks.example", 443, ["8.8.8.8"], false],
    [".example", "hooks.example", 443, ["8.8.8.8"], true],
    [".example", "a.hooks.example", 443, ["8.8.8.8"], true],
    [".example", "example", 443, ["8.8.8.8"], false],
    [".example", "hooks.notexample", 443, ["8.8.8.8"], false],
    ["*.example", "hooks.example", 443, ["8.8.8.8"], true],
    ["bücher.example", "xn--bcher-kva.example", 443, ["8.8.8.8"], true],
    ["hooks.example:8443", "hooks.example", 8443, ["8.8.8.8"], true],
    ["hooks.example:8443", "hooks.example", 443, ["8.8.8.8"], false],
    ["*:80", "hooks.example", 80, ["8.8.8.8"], true],
    ["*:80", "hooks.example", 443, ["8.8.8.8"], false],
    ["10.1.2.3", "10.1.2.3", 80, ["10.1.2.3"], true],
    ["10.1.2.3", "10.1.2.4", 80, ["10.1.2.4"], false],
    ["10.1.2.3:81", "10.1.2.3", 80, ["10.1.2.3"], false],
    ["10.1.2.3", "internal.example", 80, ["10.1.2.3"], true],
    ["10.0.0.0/8", "internal.example", 80, ["10.1.2.3", "10.9.9.9"], true],
    ["10.0.0.0/8", "internal.example", 80, ["10.1.2.3", "8.8.8.8"], false],
    ["10.0.0.0/8", "internal.example", 80, ["::ffff:10.1.2.3"], true],
    ["10.0.0.0/8:80", "10.1.2.3", 80, ["10.1.2.3"], true],
    ["10.0.0.0/8:81", "10.1.2.3", 80, ["10.1.2.3"], false],
    ["10.0.0.0/8", "10.example", 80, [], false],
    ["::1", "::1", 80, ["::1"], true],
    ["[::1]", "::1", 80, ["::1"], true],
    ["[::1]:81", "::1", 80, ["::1"], false],
    ["fd00::/8", "fd00::1", 80, ["fd00::1"], true],
    ["0.0.0.0/0", "::1", 80, ["::1"], false],
  ])("%s has %s:%i (%j): %s", (entry, hostname, port, addresses, expected) => {
    expect(parseProxyExceptions(["other.test", ` ${entry} `]).has(hostname, port, addresses)).toBe(expected);
  });

  test("has nothing when it is empty", () => {
    expect(parseProxyExceptions([]).has("hooks.example", 80, ["8.8.8.8"])).toBe(false);
  });

  test("names all entries that are none", () => {
    const bad = ["", ".", "http://a.example", "a b", "10.0.0.0/33", "10.0.0.0/x", "::1/129", "a.example:0"];
    const others = ["a.example:99999", "fd00::/8/8", "*.", "a..b"];
    expect(() => parseProxyExceptions([...bad, "good.example", ...others])).toThrow(
      [...bad, ...others].map((entry) => `"${entry}"`).join(", "),
    );
  });
});
