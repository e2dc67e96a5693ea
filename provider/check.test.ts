import { describe, expect, test } from "vitest";
import { checkInputs } from "./check.ts";
import { createSample } from "./sample.suite.ts";
import { unknown } from "./unknown.ts";

const resource = createSample({ object: undefined, calls: [] });
const none = { get: () => undefined, environment: () => undefined };
const connection = { apiKey: "key-1234", apiToken: "token-1234" };
const valid = { kind: "alpha", url: "https://example.com/hook", connection };
const check = (news: Record<string, unknown>) => checkInputs(resource, news, none);

describe("checkInputs()", () => {
  test("fills in defaults and writes values in one way", () => {
    expect(check({ ...valid, method: "get", label: null })).toEqual({
      failures: [],
      inputs: {
        kind: "alpha",
        url: "https://example.com/hook",
        method: "GET",
        headers: {},
        tags: [],
        onDelete: "remove",
        connection: { url: "https://sample.example/v1", ...connection },
      },
    });
  });

  test("reports every fault at once, each on its property", () => {
    const { failures } = check({
      kind: "gamma",
      url: "/relative",
      method: "PUT",
      headers: { "X Bad": "v", "X-Line": "a\nb", "X-Twice": "1", "x-twice": "2" },
      tags: ["a", "b", "a"],
      label: 5,
      speling: 1,
      connection: { apiKey: "", url: "ftp://example.com", extra: "x" },
    });
    expect(failures.map(({ property }) => property)).toEqual([
      "kind",
      "url",
      "method",
      'headers["X Bad"]',
      'headers["X-Line"]',
      'headers["x-twice"]',
      "tags[2]",
      "label",
      "connection.url",
      "connection.apiKey",
      "connection.apiToken",
      "connection.extra",
      "speling",
    ]);
  });

  test.each([
    ["kind", "alhpa", 'there is no kind "alhpa"; did you mean "alpha"? Known are "alpha", "beta"'],
    ["kind", undefined, '"kind" is required'],
    [
      "url",
      "example.com/x",
      'must be an absolute http or https URL, such as "https://example.com/hooks", not "example.com/x"',
    ],
    ["url", "ftp://example.com/", 'must be an http or https URL, not "ftp://example.com/"'],
    ["url", "http:/example.com/", 'must have "//" after "http:"'],
    ["url", " https://example.com", "must not hold spaces or control characters; percent-encode them"],
    ["url", "https://example.com/a b", "must not hold spaces or control characters; percent-encode them"],
    ["method", "PUT", 'must be "GET" or "POST", not "PUT"'],
    ["tags", ["a", "a"], '"a" is in the list twice'],
    ["headers", { a: "1", A: "2" }, '"A" and "a" are one header: names have no case'],
  ])("says what is wrong with a %s of %j", (name, value, reason) => {
    expect(check({ ...valid, [name]: value }).failures.map((failure) => failure.reason)).toEqual([reason]);
  });

  test.each([
    "https://user:hunter22@example.com/x",
    "https://hunter22@example.com/x",
    "ftp://user:hunter22@example.com",
  ])("does not repeat the credentials of %s", (url) => {
    const [failure] = check({ ...valid, url }).failures;
    expect(failure?.property).toBe("url");
    expect(failure?.reason).not.toContain("hunter22");
  });

  test("does not repeat the value of a header", () => {
    const [failure] = check({ ...valid, headers: { "X-Key": "hunter22\r\nEvil: 1" } }).failures;
    expect(failure?.property).toBe('headers["X-Key"]');
    expect(failure?.reason).not.toContain("hunter22");
  });

  test.each(["kind", "url", "method", "headers", "tags", "note", "label", "onDelete", "connection"])(
    "lets an unknown %s pass and keeps it",
    (name) => {
      const { inputs, failures } = check({ ...valid, [name]: unknown });
      expect(failures).toEqual([]);
      expect(inputs[name]).toBe(unknown);
    },
  );

  test("validates what is known beside what is not", () => {
    const { failures } = check({
      kind: unknown,
      url: "nonsense",
      headers: { "X Bad": unknown, "X-Line": "a\nb", "X-Fine": unknown },
      tags: [unknown, 5],
      connection: { url: unknown, apiKey: unknown },
    });
    expect(failures.map(({ property }) => property)).toEqual([
      "url",
      'headers["X Bad"]',
      'headers["X-Line"]',
      "tags[1]",
      "connection.apiToken",
    ]);
  });

  test("names the three ways to give an account when there is none", () => {
    const { failures } = check({ ...valid, connection: undefined });
    expect(failures).toHaveLength(1);
    expect(failures[0]).toMatchObject({ property: "connection" });
    for (const way of [
      '"connection" ({ apiKey, apiToken })',
      "hookplane:sampleApiKey",
      "HOOKPLANE_SAMPLE_API_KEY",
      "SAMPLE_TOKEN",
    ]) {
      expect(failures[0]?.reason).toContain(way);
    }
  });
});
