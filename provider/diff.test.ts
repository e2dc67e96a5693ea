import { describe, expect, test } from "vitest";
import { checkInputs } from "./check.ts";
import type { Settings } from "./config.ts";
import { diffInputs } from "./diff.ts";
import { createSample, sampleConnection } from "./sample.suite.ts";
import { unknown } from "./unknown.ts";

const resource = createSample({ object: undefined, calls: [] });
const none: Settings = { get: () => undefined, environment: () => undefined };
const connection = { url: "https://sample.example/v1", apiKey: "key-1234", apiToken: "token-1234" };
const declared = {
  kind: "alpha",
  url: "https://example.com/hook",
  headers: { Authorization: "Bearer x", "X-Tenant": "blue" },
  tags: ["a", "b"],
  connection,
};
const state = {
  ...checkInputs(resource, declared, none).inputs,
  key: "made-by-the-vendor",
  enabled: true,
  account: sampleConnection.identity(connection),
};

function diff(changes: Record<string, unknown>, before: Record<string, unknown> = {}, settings = none) {
  const { inputs, failures } = checkInputs(resource, { ...declared, ...changes }, settings);
  expect(failures).toEqual([]);
  return diffInputs(resource, { ...state, ...before }, inputs, settings);
}

describe("diffInputs()", () => {
  test.each([
    ["the same", {}, {}],
    ["a set in another order", { tags: ["b", "a"] }, {}],
    ["a set that the vendor repeats", {}, { tags: ["b", "a", "b"] }],
    ["header names in another case", { headers: { authorization: "Bearer x", "x-tenant": "blue" } }, {}],
    ["a method in another case", { method: "post" }, {}],
    ["an empty label where there is none", { label: "" }, {}],
    ["no label where it is null", {}, { label: null }],
    ["no headers where PHP has a list", { headers: {} }, { headers: [] }],
    ["no tags where they are null", { tags: [] }, { tags: null }],
  ])("sees no change in %s", (_what, changes, before) => {
    expect(diff(changes, before)).toMatchObject({
      action: "none",
      changes: {},
      properties: [],
      replaces: [],
    });
  });

  test("tells each difference by its path, with what happens to it", () => {
    const { changes, action, replaces } = diff({
      kind: "beta",
      url: "https://example.com/other",
      headers: { authorization: "Bearer y", "X-New": "1" },
      tags: ["a", "c"],
      label: "new",
    });
    expect(action).toBe("replace");
    expect(replaces).toEqual(["kind"]);
    expect(changes).toEqual({
      kind: { kind: "update", replaces: true },
      url: { kind: "update", replaces: false },
      "headers.authorization": { kind: "update", replaces: false },
      'headers["X-Tenant"]': { kind: "delete", replaces: false },
      'headers["X-New"]': { kind: "add", replaces: false },
      tags: { kind: "update", replaces: false },
      label: { kind: "add", replaces: false },
    });
  });

  test("an optional input that was left out is emptied", () => {
    expect(diff({}, { label: "old" }).changes).toEqual({ label: { kind: "delete", replaces: false } });
  });

  test("what comes under management, or leaves it, is a change; what stays outside is not", () => {
    expect(diff({ note: "mine" }).changes).toEqual({ note: { kind: "add", replaces: false } });
    expect(diff({ note: "" }).changes).toEqual({ note: { kind: "add", replaces: false } });
    expect(diff({}, { note: "mine" }).changes).toEqual({ note: { kind: "delete", replaces: false } });
    expect(diff({ note: "" }, { note: "" }).changes).toEqual({});
  });

  test("what is unknown differs, and replaces only where its input does", () => {
    expect(diff({ headers: { Authorization: unknown, "X-Tenant": "blue" } }).changes).toEqual({
      "headers.Authorization": { kind: "update", replaces: false },
    });
    expect(diff({ kind: unknown }).action).toBe("replace");
  });

  test("the old object goes first only where both have one identity", () => {
    expect(diff({ kind: "beta" }).deleteBeforeReplace).toBe(false);
    expect(diff({}).deleteBeforeReplace).toBe(true);
    expect(diff({ connection: { ...connection, apiKey: "another-key" } }).deleteBeforeReplace).toBe(false);
  });

  test("another account replaces, other credentials do not", () => {
    expect(diff({ connection: { ...connection, apiKey: "another-key" } })).toMatchObject({
      action: "replace",
      changes: { "connection.apiKey": { kind: "update", replaces: true } },
    });
    expect(diff({ connection: { ...connection, apiToken: "another-token" } })).toMatchObject({
      action: "update",
      changes: { "connection.apiToken": { kind: "update", replaces: false } },
    });
    expect(diff({ connection: { ...connection, url: "https://sample.example/v1/" } }).action).toBe("none");
  });

  test("an account that moves into the configuration leaves the state, and stays the same account", () => {
    const settings = {
      get: (key: string) => ({ sampleApiKey: "key-1234", sampleApiToken: "new" })[key],
      environment: () => undefined,
    };
    expect(diff({ connection: undefined }, {}, settings)).toMatchObject({
      action: "update",
      changes: { connection: { kind: "delete", replaces: false } },
    });
    expect(diff({ connection: undefined }, { connection: undefined }, settings).action).toBe("none");
    expect(
      diff({ connection: undefined }, { connection: undefined, account: "another" }, settings),
    ).toMatchObject({
      action: "replace",
      replaces: ["account"],
    });
  });
});
