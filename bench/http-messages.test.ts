import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HttpMessages, readDigits, statusOf, writeDigits } from "./http-messages.ts";

interface Seen {
  readonly head: string;
  readonly body: string;
}

/** What the parser finds in the pieces, each of which is overwritten once it was pushed. */
function parse(pieces: readonly Buffer[]): Seen[] {
  const seen: Seen[] = [];
  const messages = new HttpMessages((bytes, start, bodyStart, end) => {
    seen.push({
      head: bytes.toString("latin1", start, bodyStart),
      body: bytes.toString("utf8", bodyStart, end),
    });
  });
  for (const piece of pieces) {
    const reused = Buffer.from(piece);
    messages.push(reused);
    reused.fill(0);
  }
  return seen;
}

const wire = [
  { head: "HTTP/1.1 202 Accepted\r\nContent-Length: 11\r\nx-request-id: a\r\n\r\n", body: '{"id":"ü"}' },
  { head: "HTTP/1.1 204 No Content\r\ndate: today\r\n\r\n", body: "" },
  {
    head: "POST /fast HTTP/1.1\r\nhost: a\r\ncontent-length:4\r\nx-content-length: 9\r\n\r\n",
    body: "\r\n\r\n",
  },
  { head: "HTTP/1.1 500 No\r\nCONTENT-LENGTH:   3\r\n\r\n", body: "abc" },
];
const bytes = Buffer.from(wire.map(({ head, body }) => head + body).join(""));

describe("HttpMessages", () => {
  test("finds every message, however the bytes are cut", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: bytes.length - 1 }), { maxLength: 30 }), (cuts) => {
        const edges = [0, ...new Set(cuts.toSorted((a, b) => a - b)), bytes.length];
        const pieces = edges.slice(1).map((edge, index) => bytes.subarray(edges[index], edge));
        expect(parse(pieces)).toEqual(wire);
      }),
    );
  });

  test("finds messages that come byte by byte", () => {
    expect(parse(Array.from(bytes, (_, index) => bytes.subarray(index, index + 1)))).toEqual(wire);
  });

  test("tells nothing of a message that has not come whole", () => {
    expect(parse([bytes.subarray(0, wire[0]!.head.length + 5)])).toEqual([]);
  });

  test.each([
    ["a transfer encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["a length that is no number", "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"],
  ])("refuses %s", (_, text) => {
    expect(() => parse([Buffer.from(text)])).toThrow();
  });
});

test("statusOf() reads a response's status", () => {
  expect(statusOf(Buffer.from("xxHTTP/1.1 429 Too Many Requests\r\n"), 2)).toBe(429);
});

test("numbers are read as they were written", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 999_999_999_999 }), (value) => {
      const digits = Buffer.alloc(18, 0x78);
      writeDigits(digits, 1, 16, value);
      expect(digits.toString()).toBe(`x${String(value).padStart(16, "0")}x`);
      expect(readDigits(digits, 1, 16)).toBe(value);
    }),
  );
});
