import { describe, expect, test } from "vitest";
import { createSubnets, toFinalAddress } from "./subnets.ts";

describe("createSubnets()", () => {
  test.each([
    ["10.0.0.0/8", "10.255.0.1", true],
    ["10.0.0.0/8", "11.0.0.1", false],
    ["10.0.0.0/8", "::ffff:10.1.2.3", true],
    ["10.0.0.0/8", "64:ff9b::10.1.2.3", true],
    ["127.0.0.1", "127.0.0.1", true],
    ["127.0.0.1", "127.0.0.2", false],
    ["::1", "::1", true],
    ["fd00::/8", "fd12::1", true],
    ["fd00::/8", "fe80::1", false],
    ["fd00::/8", "fd12::1%eth0", false],
    ["10.0.0.0/8", "example.com", false],
    ["10.0.0.0/8", "", false],
  ])("%s has %s: %s", (subnet, ip, expected) => {
    expect(createSubnets([subnet]).has(ip)).toBe(expected);
  });

  test("an IPv6 subnet has no IPv4 address, however large it is", () => {
    expect(createSubnets(["::/0"]).has("8.8.8.8")).toBe(false);
    expect(createSubnets(["::/0"]).has("2606:4700::1")).toBe(true);
    expect(createSubnets(["0.0.0.0/0"]).has("2606:4700::1")).toBe(false);
  });

  test("nothing is in no subnet", () => {
    expect(createSubnets([]).has("10.0.0.1")).toBe(false);
  });
});

describe("toFinalAddress()", () => {
  test.each([
    ["10.0.0.1", "10.0.0.1"],
    ["::ffff:10.0.0.1", "10.0.0.1"],
    ["0:0:0:0:0:FFFF:0a00:0001", "10.0.0.1"],
    ["64:ff9b::a00:1", "10.0.0.1"],
    ["2606:4700::1", "2606:4700::1"],
    ["::ffff:0:10.0.0.1", "::ffff:0:10.0.0.1"],
    ["fe80::1%eth0", null],
    ["010.0.0.1", null],
    ["example.com", null],
  ])("%s is %s", (ip, expected) => {
    expect(toFinalAddress(ip)).toBe(expected);
  });
});
