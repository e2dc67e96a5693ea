import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { createSeal, keyIdOf } from "./seal.ts";

const key = randomBytes(32);
const seal = createSeal([key]);

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

  test("a text of a key that is not there tells which, to the log and not to the caller", () => {
    const other = createSeal([randomBytes(32)]);
    const open = () => other.open(seal.close("a", "p"), "p");
    expect(open).toThrow(
      expect.objectContaining({
        code: "unavailable",
        message: expect.not.stringContaining(keyIdOf(key)),
        cause: expect.objectContaining({
          message: `p is sealed with master key "${keyIdOf(key)}", and there are only "${other.keyIds[0]}"`,
        }),
      }),
    );
  });
});

describe("createSeal() with several keys", () => {
  const newest = randomBytes(32);

  test("opens what each of them has sealed, and seals with the first", () => {
    const both = createSeal([newest, key]);
    expect(both.keyIds).toEqual([keyIdOf(newest), keyIdOf(key)]);
    const [old, fresh] = [seal.close("a", "p"), both.close("b", "p")];
    expect([both.open(old, "p"), both.open(fresh, "p")]).toEqual(["a", "b"]);
    expect([both.isCurrent(old), both.isCurrent(fresh)]).toEqual([false, true]);
    expect(createSeal([newest]).open(fresh, "p")).toBe("b");
    expect(() => createSeal([newest]).open(old, "p")).toThrow("its master key is not there");
  });

  test("looks for a key that is not there before it gives up, and seals with the newest from then on", () => {
    let changed: readonly Uint8Array[] | null = null;
    const live = createSeal([key], () => changed);
    const fresh = createSeal([newest, key]).close("b", "p");
    expect(() => live.open(fresh, "p")).toThrow("its master key is not there");
    changed = [newest, key];
    expect(live.open(fresh, "p")).toBe("b");
    expect(live.isCurrent(live.close("c", "p"))).toBe(true);
    expect(live.keyIds).toEqual([keyIdOf(newest), keyIdOf(key)]);
  });

  test("keeps its keys when they cannot be read again, and says so to who asks for it", () => {
    const live = createSeal([key], () => {
      throw new Error("the file is gone");
    });
    const sealed = live.close("a", "p");
    expect(() => {
      live.refresh();
    }).toThrow("the file is gone");
    expect(() => live.open(createSeal([newest]).close("b", "p"), "p")).toThrow("its master key is not there");
    expect(live.open(sealed, "p")).toBe("a");
    expect(live.keyIds).toEqual([keyIdOf(key)]);
  });
});
