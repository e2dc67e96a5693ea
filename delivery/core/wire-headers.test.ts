import { expect, test } from "vitest";
import { headerProblems, toWireHeaders } from "./wire-headers.ts";

test("sends names in lower case and values without space around them", () => {
  expect(toWireHeaders({ "X-Key": " a b\t", Accept: "" })).toEqual({ "x-key": "a b", accept: "" });
});

test("finds nothing wrong with ordinary headers", () => {
  expect(headerProblems({ Authorization: "Bearer a.b.c", "X-Ünï": "" })).toHaveLength(1);
  expect(headerProblems({ Authorization: "Bearer a.b.c", "X-Latin": "Grüße" })).toEqual([]);
});

test("names every header that cannot be sent, and no value", () => {
  const problems = headerProblems({
    "X Space": "secret1",
    "": "secret2",
    "Content-Length": "1",
    "X-Break": "secret3\r\nx: y",
    "X-Emoji": "secret4 🙂",
    "x-twice": "a",
    "X-Twice": "b",
  });
  expect(problems).toEqual([
    expect.stringContaining('"X Space" is not allowed'),
    expect.stringContaining('"" is not allowed'),
    expect.stringContaining('"Content-Length" is set by the service'),
    expect.stringContaining('"X-Break" has characters'),
    expect.stringContaining('"X-Emoji" has characters'),
    expect.stringContaining('"X-Twice" is given twice'),
  ]);
  expect(problems.join()).not.toContain("secret");
});
