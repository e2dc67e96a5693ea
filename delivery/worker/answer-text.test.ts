import { brotliCompressSync, constants, createGzip, deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { decodedText, toText } from "./answer-text.ts";

describe("toText()", () => {
  const text = (bytes: Buffer | string, isCut = false): string => {
    const buffer = Buffer.from(bytes);
    return toText(buffer, 0, buffer.length, isCut);
  };

  test("reads UTF-8, and marks what is none", () => {
    expect(text("aé€😀")).toBe("aé€😀");
    expect(text(Buffer.from([0x61, 0xff, 0x62]))).toBe("a\ufffdb");
    expect(text("")).toBe("");
  });

  test("has no NUL in it", () => {
    expect(text("a\0b\0")).toBe("a\ufffdb\ufffd");
  });

  test.each([1, 2, 3])("leaves out what is left of a character of 4 bytes after %i of them", (kept) => {
    const bytes = Buffer.from("a😀").subarray(0, 1 + kept);
    expect(text(bytes, true)).toBe("a");
    // Not cut: then the receiver sent it so.
    expect(text(bytes, false)).toBe("a\ufffd");
  });

  test("keeps a last character that is whole", () => {
    expect(text("a😀", true)).toBe("a😀");
    expect(text("aé", true)).toBe("aé");
    expect(text("ab", true)).toBe("ab");
  });

  test("reads a part of the bytes alone", () => {
    expect(toText(Buffer.from("xhellox"), 1, 6, false)).toBe("hello");
  });
});

describe("decodedText()", () => {
  const body = JSON.stringify({ message: "hällo ".repeat(100) });

  test.each<[string, Buffer]>([
    ["gzip", gzipSync(body)],
    ["x-gzip", gzipSync(body)],
    ["deflate", deflateSync(body)],
    ["deflate", deflateRawSync(body)],
    ["br", brotliCompressSync(body)],
  ])("decodes %s", async (encoding, bytes) => {
    expect(await decodedText(bytes, encoding, 16_384)).toBe(body);
  });

  test("decodes what there is of a body that was cut", async () => {
    const random = Array.from({ length: 4_000 }, (_, n) => String((n * 7919) % 10_007)).join(" ");
    for (const [encoding, bytes] of [
      ["gzip", gzipSync(random)],
      ["br", brotliCompressSync(random, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } })],
    ] as const) {
      const text = await decodedText(bytes.subarray(0, bytes.length / 2), encoding, 100_000);
      expect(text.length).toBeGreaterThan(1_000);
      expect(random.startsWith(text)).toBe(true);
    }
  });

  test("stops where enough is decoded: a bomb does not go off", async () => {
    // 64 KiB that would become 60 MB.
    const gzip = createGzip();
    const zeros = Buffer.alloc(60_000_000, "0");
    gzip.end(zeros);
    const bomb = Buffer.concat(await gzip.toArray()).subarray(0, 65_536);
    const before = process.memoryUsage().arrayBuffers;
    const text = await decodedText(bomb, "gzip", 16_384);
    expect(text).toBe("0".repeat(16_384));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000_000);
  });

  test.each([
    ["gzip", "this is no gzip"],
    ["br", "this is no brotli"],
    ["deflate", "this is no deflate"],
    ["zstd", "what nobody asked for"],
    ["gzip, gzip", "twice"],
  ])("takes what is no %s as it came", async (encoding, text) => {
    expect(await decodedText(Buffer.from(text), encoding, 16_384)).toBe(text);
    expect(await decodedText(Buffer.from(text), encoding, 4)).toBe(text.slice(0, 4));
  });

  test("decodes nothing of an empty body", async () => {
    expect(await decodedText(Buffer.alloc(0), "gzip", 100)).toBe("");
  });
});
