import { describe, expect, test } from "vitest";
import { toDestination, toHead } from "./destination.ts";

describe("toDestination()", () => {
  test.each([
    [
      "https://hooks.example.com/a/b?c=d",
      { isTls: true, hostname: "hooks.example.com", port: 443, origin: "https://hooks.example.com" },
    ],
    ["http://hooks.example.com:8080", { isTls: false, port: 8080, origin: "http://hooks.example.com:8080" }],
    ["http://[::1]:81/", { hostname: "::1", port: 81 }],
    ["http://0x7f.1/", { hostname: "127.0.0.1", port: 80 }],
    ["https://BÜCHER.example/", { hostname: "xn--bcher-kva.example" }],
  ])("reads %s", (url, expected) => {
    expect(toDestination(url)).toMatchObject(expected);
  });

  test.each([
    ["/relative", "the URL is not an absolute one"],
    ["http://", "the URL is not an absolute one"],
    ["http://a b/", "the URL is not an absolute one"],
    ["ftp://example.com/", 'the scheme "ftp" is not http or https'],
    ["http://user@example.com/", "the URL has credentials in it"],
  ])("refuses %s", (url, reason) => {
    expect(() => toDestination(url)).toThrow(reason);
  });

  test.each([
    ["http://h.example/a b\r\nx: y", " /a%20bx:%20y HTTP/1.1\r\nhost: h.example\r\n"],
    ["http://h.example/é#part", " /%C3%A9 HTTP/1.1\r\nhost: h.example\r\n"],
    ["http://h.example:80?q", " /?q HTTP/1.1\r\nhost: h.example\r\n"],
  ])("writes %j as HTTP has it", (url, expected) => {
    expect(toDestination(url).headStart).toBe(`${expected}connection: keep-alive\r\n`);
  });
});

describe("toHead()", () => {
  const destination = toDestination("http://h.example/hook");
  const start = "POST /hook HTTP/1.1\r\nhost: h.example\r\nconnection: keep-alive\r\n";
  const head = (headers: Record<string, string>, bodyBytes: number | null = 3): string =>
    toHead(destination, "POST", headers, "Hookplane/1", bodyBytes);

  test("has the request's headers, and what every request has", () => {
    expect(head({ "x-a": "1", "x-b": "" })).toBe(
      `${start}x-a: 1\r\nx-b: \r\nuser-agent: Hookplane/1\r\naccept-encoding: identity\r\ncontent-length: 3\r\n\r\n`,
    );
  });

  test("leaves the request its own user agent and encoding", () => {
    expect(head({ "user-agent": "Twilio", "accept-encoding": "gzip" }, 0)).toBe(
      `${start}user-agent: Twilio\r\naccept-encoding: gzip\r\ncontent-length: 0\r\n\r\n`,
    );
  });

  test("has no length where there is no body", () => {
    expect(head({}, null)).not.toContain("content-length");
  });

  test.each([
    ["x-a", "b\r\nx-injected: c"],
    ["x-a", "b\nc"],
    ["x-a", "b\0"],
    ["x-a", "snow ☃"],
    ["x a", "b"],
    ["x-a:", "b"],
    ["", "b"],
    ["x-a\r\nx-b", "c"],
    ["host", "other.example"],
    ["Host", "other.example"],
    ["content-length", "5"],
    ["transfer-encoding", "chunked"],
    ["connection", "close"],
    ["expect", "100-continue"],
  ])("refuses the header %j with the value %j, each time", (name, value) => {
    for (let n = 0; n < 2; n++) {
      expect(() => head({ "x-good": "1", [name]: value })).toThrow(/^The (value of the )?header/);
    }
  });

  test("does not tell a value that it refuses", () => {
    expect(() => head({ authorization: "secret\n" })).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining("secret") }),
    );
  });
});
