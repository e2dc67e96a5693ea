import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { createSeal } from "./seal.ts";

const seal = createSeal(randomBytes(32));

describe("createSeal()", () => {
  test("what was sealed opens at its place, and is nowhere in the sealed text", () => {
    const sealed = seal.close("whsec_canary ü", "ep_1.secrets");
    expect(sealed).toMatch(/^v1\.[0-9a-f]{8}\.[\w-]+$/);
    expect(Buffer.from(sealed.split(".")[2]!, "base64url").toString("latin1")).not.toContain("canary");
    expect(seal.open(sealed, "ep_1.secrets")).toBe("whsec_canary ü");
  });

  test("the same text never looks the same", () => {
    expect(seal.close("a", "p")).not.toBe(seal.close("a", "p"));
  });

  test("a text moved to another place does not open", () => {
    expect(() => seal.open(seal.close("a", "ep_1.secrets"), "ep_2.secrets")).toThrow(
      "ep_2.secrets is damaged",
    );
  });

  test("an altered text does not open", () => {
    const sealed = seal.close("a longer text", "p");
    const altered = sealed.slice(0, -2) + (sealed.endsWith("AA") ? "BB" : "AA");
    expect(() => seal.open(altered, "p")).toThrow("damaged");
    expect(() => seal.open("whsec_plain", "p")).toThrow("damaged");
  });

  test("another master key is named as the reason", () => {
    const other = createSeal(randomBytes(32));
    expect(() => other.open(seal.close("a", "p"), "p")).toThrow(/is sealed with master key "[0-9a-f]{8}"/);
  });
});
