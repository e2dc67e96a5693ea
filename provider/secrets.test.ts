import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createRedactor } from "./secrets.ts";

describe("createRedactor()", () => {
  test("blots out every text of the values, at any depth", () => {
    const redact = createRedactor([{ a: ["first-secret", { b: "second-secret" }] }, "third-secret", 424242]);
    expect(redact("first-secret, second-secret and third-secret, 424242")).toBe("***, *** and ***, ***");
  });

  test("blots out the token of a header that a vendor repeats alone", () => {
    expect(createRedactor(["Bearer tok-12345678"])("token tok-12345678 is wrong")).toBe("token *** is wrong");
  });

  test("blots out a secret that holds another one whole", () => {
    expect(createRedactor(["abcd", "abcd-efgh"])("abcd-efgh abcd")).toBe("*** ***");
  });

  test("leaves what is too short to be a secret, and what is unknown", () => {
    expect(createRedactor(["a", "", null, undefined, Symbol("unknown")])("a plain message")).toBe(
      "a plain message",
    );
  });

  test("finds any secret as it is, in JSON and in a URL", () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 4 }).filter((text) => !/[<>*]/.test(text)),
        (secret) => {
          const redact = createRedactor([secret]);
          for (const form of [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret)]) {
            expect(redact(`<<${form}>>`)).toBe("<<***>>");
          }
        },
      ),
    );
  });
});
