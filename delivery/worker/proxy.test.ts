import { describe, expect, test } from "vitest";
import { parseProxy, toAuthority } from "./proxy.ts";

describe("parseProxy()", () => {
  test.each([
    ["http://proxy.example:3128", { protocol: "http:", hostname: "proxy.example", port: 3128 }],
    ["http://proxy.example", { protocol: "http:", port: 80 }],
    ["https://proxy.example/", { protocol: "https:", port: 443 }],
    ["socks5://proxy.example", { protocol: "socks5:", hostname: "proxy.example", port: 1080 }],
    ["socks5h://[::1]:1081", { protocol: "socks5:", hostname: "::1", port: 1081 }],
    ["http://[fd00::1]:3128", { hostname: "fd00::1" }],
  ])("reads %s", (url, expected) => {
    expect(parseProxy(url)).toMatchObject({ ...expected, credentials: null });
  });

  test.each([
    ["http://user:pass@p.example", { username: "user", password: "pass" }],
    ["http://user@p.example", { username: "user", password: "" }],
    ["http://a%40b:c%3A%2Fd%25@p.example", { username: "a@b", password: "c:/d%" }],
    ["socks5://user:100%@p.example", { username: "user", password: "100%" }],
  ])("reads the credentials of %s", (url, credentials) => {
    expect(parseProxy(url).credentials).toEqual(credentials);
  });

  test.each([
    ["proxy.example:3128", "must be an http, https, socks5 or socks5h URL"],
    ["ftp://user:secret@p.example", "must be an http, https, socks5 or socks5h URL"],
    ["socks4://p.example", "must be an http, https, socks5 or socks5h URL"],
    ["http://", "must be an http, https, socks5 or socks5h URL"],
    ["http://user:secret@p.example/path", '"http://p.example" must have neither path nor query'],
    ["http://user:secret@p.example?a", '"http://p.example" must have neither path nor query'],
    ["http://us%3Aer:secret@p.example", '"http://p.example" takes no user name with a colon'],
    ["socks5://:secret@p.example", "takes a user name of 1 to 255 bytes"],
    [`socks5://user:secret${"x".repeat(300)}@p.example`, "a password of up to 255"],
  ])("refuses %s, without the password", (url, message) => {
    expect(() => parseProxy(url)).toThrow(message);
    expect(() => parseProxy(url)).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining("secret") }),
    );
  });
});

test.each([
  ["10.0.0.1", 443, "10.0.0.1:443"],
  ["::1", 80, "[::1]:80"],
])("toAuthority() joins %s and %i", (hostname, port, expected) => {
  expect(toAuthority(hostname, port)).toBe(expected);
});
