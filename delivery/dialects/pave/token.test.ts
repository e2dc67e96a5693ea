import { describe, expect, test } from "vitest";
import { authenticationProblem, parseTimestamp, toApiToken } from "./token.ts";

const credentials = { username: "acme", apiKey: "key123", apiSecret: "secret" };
const timestamp = "2021-05-30T12:49:19Z";
const now = Date.parse(timestamp);
const windowMs = 15 * 60_000;

function headersFor(sent: string, overrides: Record<string, string | undefined> = {}) {
  return {
    "api-key": credentials.apiKey,
    "api-token": toApiToken(credentials, sent),
    "api-timestamp": sent,
    ...overrides,
  };
}

test("toApiToken() is the lowercase hex HMAC of username, key and timestamp", () => {
  expect(toApiToken(credentials, timestamp)).toBe(
    "f6432e886396f8c834ee2bf6b61a27fc9f8271f93b2f933017c70f34d5d14ec8",
  );
});

describe("authenticationProblem()", () => {
  test.each([
    timestamp,
    "2021-05-30T12:49:19.250Z",
    "2021-05-30T14:49:19+02:00",
    "2021-05-30 12:49:19",
    String(now / 1_000),
    new Date(now).toUTCString(),
  ])("accepts a token for the timestamp %s", (sent) => {
    expect(authenticationProblem(headersFor(sent), credentials, now, windowMs)).toBeNull();
  });

  test("signs the timestamp as it was sent, not the time it means", () => {
    const headers = headersFor(timestamp, { "api-timestamp": String(now / 1_000) });
    expect(authenticationProblem(headers, credentials, now, windowMs)).toContain("wrong");
  });

  test.each([1, -1])("accepts a timestamp up to the window away, and none beyond", (direction) => {
    const at = (offsetMs: number) =>
      authenticationProblem(headersFor(timestamp), credentials, now + direction * offsetMs, windowMs);
    expect(at(windowMs)).toBeNull();
    expect(at(windowMs + 1)).toContain("more than 15 minutes");
  });

  test.each(["api-key", "api-token", "api-timestamp"])("refuses a request without %s", (name) => {
    const headers = headersFor(timestamp, { [name]: undefined });
    expect(authenticationProblem(headers, credentials, now, windowMs)).toContain("are required");
  });

  test.each([
    ["another key", { "api-key": "key124" }],
    ["another token", { "api-token": "0".repeat(64) }],
    ["a short token", { "api-token": "f6" }],
    ["a token in upper case", { "api-token": toApiToken(credentials, timestamp).toUpperCase() }],
  ])("refuses %s and tells no secret", (_, overrides) => {
    const problem = authenticationProblem(headersFor(timestamp, overrides), credentials, now, windowMs);
    expect(problem).toContain("API-Key or API-Token is wrong");
    expect(problem).not.toContain(toApiToken(credentials, timestamp));
  });

  test("refuses a signed timestamp that is none", () => {
    expect(authenticationProblem(headersFor("yesterday"), credentials, now, windowMs)).toContain(
      "not a UTC time",
    );
  });
});

test.each([
  "",
  "now",
  "2021-13-45T99:00:00Z",
  "2021-05-30",
  "99999999999999",
  "Mon, 99 Zug 2021 12:00:00 GMT",
])("parseTimestamp() does not take %j", (text) => {
  expect(parseTimestamp(text)).toBeNull();
});
