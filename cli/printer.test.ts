import fc from "fast-check";
import { expect, test } from "vitest";
import { counted, shownTime, visible, visibleLines } from "./printer.ts";

test("visible() leaves nothing that steers a terminal, and keeps everything else", () => {
  expect(visible("a\u001b[31mb\r\n\u009b\u202ec ü日")).toBe(String.raw`a\x1b[31mb\x0d\x0a\x9b\u202ec ü日`);
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      expect(visible(text)).not.toMatch(/\p{Cc}/u);
      expect(visibleLines(text)).not.toMatch(/(?![\n\t])\p{Cc}/u);
      if (!/[\p{Cc}\p{Cf}\u2028\u2029]/u.test(text)) expect(visible(text)).toBe(text);
    }),
  );
});

test("shownTime() and counted() are for people", () => {
  expect([shownTime("2026-01-31T12:00:00.123Z"), shownTime(null)]).toEqual(["2026-01-31 12:00:00.123Z", "-"]);
  expect([counted(1, "message"), counted(0, "message"), counted(1234, "message")]).toEqual([
    "1 message",
    "0 messages",
    "1,234 messages",
  ]);
});
