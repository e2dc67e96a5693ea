import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AnswerReader, maxBodyBytes } from "./answer-reader.ts";

interface Outcome {
  readonly state: string;
  readonly status: number;
  readonly text: string;
  readonly isReusable: boolean;
}

/** Reads an answer that comes in the given pieces, and then the connection's end. */
function readAll(
  pieces: readonly (string | Buffer)[],
  keptBytes = 16_384,
): Outcome & { reader: AnswerReader } {
  const reader = new AnswerReader();
  reader.begin(keptBytes);
  let state = "more";
  for (const piece of pieces) {
    const bytes = typeof piece === "string" ? Buffer.from(piece, "latin1") : Buffer.from(piece);
    state = reader.read(bytes, bytes.length);
    // What was read may be overwritten.
    bytes.fill(0x2a);
    if (state !== "more") break;
  }
  if (state === "more") state = reader.end() ? "complete" : "more";
  const { status, isReusable } = reader;
  return { state, status, text: state === "malformed" ? "" : reader.text, isReusable, reader };
}

const ok = "HTTP/1.1 200 OK\r\n";
const bytewise = (answer: string): string[] => answer.match(/[^]/g) ?? [];

describe("AnswerReader", () => {
  test.each<[string, string, Partial<Outcome>]>([
    ["with a length", `${ok}Content-Length: 5\r\n\r\nhello`, { text: "hello", isReusable: true }],
    ["without a body", `${ok}content-length: 0\r\n\r\n`, { text: "", isReusable: true }],
    [
      "with chunks",
      `${ok}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n`,
      { text: "hello" },
    ],
    [
      "with chunk extensions and trailers",
      `${ok}transfer-encoding: Chunked\r\n\r\n5;a=b;c\r\nhello\r\n0 \r\nx: y\r\nz:\r\n\r\n`,
      { text: "hello", isReusable: true },
    ],
    ["that ends with the connection", `${ok}x: y\r\n\r\nhello`, { text: "hello", isReusable: false }],
    ["without headers", `${ok}\r\nhello`, { text: "hello", isReusable: false }],
    ["of 204", "HTTP/1.1 204 No Content\r\n\r\n", { status: 204, isReusable: true }],
    [
      "of 304 with a length",
      "HTTP/1.1 304 X\r\ncontent-length: 9\r\n\r\n",
      { status: 304, isReusable: true },
    ],
    ["without a reason", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", { isReusable: true }],
    ["with an odd reason", "HTTP/1.1 503 :\tno\xff\r\ncontent-length: 0\r\n\r\n", { status: 503 }],
    ["of HTTP/1.0", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", { text: "ok", isReusable: false }],
    [
      "that closes",
      `${ok}content-length: 2\r\nConnection: x, Close\r\n\r\nok`,
      { text: "ok", isReusable: false },
    ],
    ["with the same length twice", `${ok}content-length: 2\r\ncontent-length: 02\r\n\r\nok`, { text: "ok" }],
    [
      "with length and chunks",
      `${ok}content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n`,
      { text: "ok", isReusable: false },
    ],
    [
      "with chunks of something encoded",
      `${ok}transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n`,
      { text: "ok", isReusable: true },
    ],
    [
      "with chunks, in two headers",
      `${ok}transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n`,
      { text: "ok", isReusable: true },
    ],
    [
      "in another transfer encoding, to the end",
      `${ok}transfer-encoding: gzip\r\n\r\nhello`,
      { text: "hello", isReusable: false },
    ],
    [
      "after interim ones",
      `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\ncontent-length: 7\r\n\r\n${ok}content-length: 2\r\n\r\nok`,
      { text: "ok", isReusable: true },
    ],
    [
      "with a folded header",
      `${ok}x: a\r\n b\r\n\tc\r\ncontent-length: 2\r\n\r\nok`,
      { text: "ok", isReusable: true },
    ],
    [
      "with more behind it",
      `${ok}content-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n`,
      { text: "ok", isReusable: false },
    ],
  ])("reads an answer %s", (_name, answer, expected) => {
    const whole = readAll([answer]);
    expect(whole).toMatchObject({ state: "complete", status: 200, ...expected });
    // Byte by byte, what follows the answer never comes.
    const { state, status, text } = readAll(bytewise(answer));
    expect({ state, status, text }).toEqual({ state: "complete", status: whole.status, text: whole.text });
  });

  test("tells what the headers say", () => {
    const { reader } = readAll([
      `${ok}RETRY-AFTER:  120 \r\nKeep-Alive: timeout=5, max=100\r\nContent-Encoding: GZIP\r\ncontent-length: 1\r\n\r\nx`,
    ]);
    expect(reader).toMatchObject({ retryAfter: "120", keepAliveMs: 5_000, contentEncoding: "gzip" });
    reader.begin(10);
    expect(reader).toMatchObject({
      status: 0,
      retryAfter: undefined,
      keepAliveMs: null,
      contentEncoding: "",
    });
  });

  test("reads one answer after the other", () => {
    const reader = new AnswerReader();
    for (const text of ["one", "", "three"]) {
      reader.begin(100);
      const answer = Buffer.from(`${ok}content-length: ${text.length}\r\n\r\n${text}`);
      expect(reader.hasBegun).toBe(false);
      expect(reader.read(answer.subarray(0, 30), 30)).toBe("more");
      expect(reader.hasBegun).toBe(true);
      expect(reader.read(answer.subarray(30), answer.length - 30)).toBe("complete");
      expect(reader.text).toBe(text);
    }
  });

  test.each<[string, string]>([
    ["another protocol", "220 mail.example ESMTP\r\n"],
    ["another version", "HTTP/2.0 200 OK\r\n\r\n"],
    ["lower case", "http/1.1 200 OK\r\n\r\n"],
    ["a status of two digits", "HTTP/1.1 20 OK\r\n\r\n"],
    ["a status of four digits", "HTTP/1.1 2000 OK\r\n\r\n"],
    ["a status that is a number in other words", "HTTP/1.1 2e2 OK\r\n\r\n"],
    ["a status below 100", "HTTP/1.1 099 OK\r\n\r\n"],
    ["two spaces before the status", "HTTP/1.1  200 OK\r\n\r\n"],
    ["line feeds alone", "HTTP/1.1 200 OK\ncontent-length: 0\n\n"],
    ["a line feed alone among others", `${ok}a: b\ncontent-length: 0\r\n\r\n`],
    ["a header without a colon", `${ok}content-length 5\r\n\r\n`],
    ["a header without a name", `${ok}: 5\r\n\r\n`],
    ["a space before the colon", `${ok}content-length : 5\r\n\r\n`],
    ["a length that is no number", `${ok}content-length: 5x\r\n\r\n`],
    ["a negative length", `${ok}content-length: -5\r\n\r\n`],
    ["an empty length", `${ok}content-length:\r\n\r\n`],
    ["a list of lengths", `${ok}content-length: 5, 6\r\n\r\n`],
    ["an endless length", `${ok}content-length: 9999999999999999\r\n\r\n`],
    ["two lengths", `${ok}content-length: 5\r\ncontent-length: 6\r\n\r\n`],
    ["a folded length", `${ok}content-length: 5\r\n 6\r\n\r\n`],
    ["a folded transfer encoding", `${ok}transfer-encoding: x\r\n chunked\r\n\r\n`],
    ["a switch of protocols", "HTTP/1.1 101 Switching Protocols\r\n\r\n"],
    ["interim answers without an end", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(17)],
    ["a chunk size that is none", `${ok}transfer-encoding: chunked\r\n\r\nx\r\n`],
    ["a chunk without a size", `${ok}transfer-encoding: chunked\r\n\r\n\r\nhello`],
    ["a chunk size that is too large", `${ok}transfer-encoding: chunked\r\n\r\n123456789\r\n`],
    ["a line feed alone behind a chunk size", `${ok}transfer-encoding: chunked\r\n\r\n5\nhello`],
    ["a chunk longer than its size", `${ok}transfer-encoding: chunked\r\n\r\n2\r\nhello\r\n`],
    ["a trailer with a line feed alone", `${ok}transfer-encoding: chunked\r\n\r\n0\r\nx: y\n\r\n`],
  ])("takes %s for no HTTP", (_name, answer) => {
    for (const pieces of [[answer], bytewise(answer)]) {
      const { state, reader } = readAll(pieces);
      expect(state).toBe("malformed");
      expect(reader.fault).toMatch(/^the answer is not HTTP\/1.1/);
    }
  });

  test.each<[string, string]>([
    ["nothing", ""],
    ["a piece of the head", "HTTP/1.1 200 OK\r\ncontent-len"],
    ["a piece of the body", `${ok}content-length: 5\r\n\r\nhell`],
    ["chunks without the last one", `${ok}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n`],
    ["the last chunk without its trailers' end", `${ok}transfer-encoding: chunked\r\n\r\n0\r\n`],
    ["an interim answer", "HTTP/1.1 100 Continue\r\n\r\n"],
  ])("does not take %s for an answer when the connection ends", (_name, answer) => {
    expect(readAll([answer]).state).toBe("more");
  });

  describe("bounds", () => {
    test("a head of 16 KiB is read, a longer one is not", () => {
      const head = (length: number): string => {
        const rest = "\r\ncontent-length: 2\r\n\r\n";
        return `${ok}x: ${"a".repeat(length - ok.length - 3 - rest.length)}${rest}`;
      };
      expect(readAll([`${head(16_384)}ok`])).toMatchObject({ state: "complete", text: "ok" });
      for (const pieces of [[head(16_400)], bytewise(head(16_400))]) {
        expect(readAll(pieces).reader.fault).toBe("the answer's head is longer than 16 KiB");
      }
    });

    test("a body of 64 KiB is read, a longer one is cut, and its status counts", () => {
      const body = (length: number): string => `${ok}content-length: ${length}\r\n\r\n${"a".repeat(length)}`;
      const whole = readAll([body(maxBodyBytes)], maxBodyBytes);
      expect(whole).toMatchObject({ state: "complete", text: "a".repeat(maxBodyBytes) });
      const long = readAll([body(maxBodyBytes + 1)], maxBodyBytes);
      expect(long).toMatchObject({ state: "cut", status: 200, text: "a".repeat(maxBodyBytes) });
      const chunk = `8000\r\n${"a".repeat(0x8000)}\r\n`;
      const chunked = [`${ok}transfer-encoding: chunked\r\n\r\n`, chunk, chunk, chunk];
      expect(readAll(chunked)).toMatchObject({ state: "cut", status: 200, text: "a".repeat(16_384) });
    });

    test("keeps as much as was asked for, and no broken character at the end", () => {
      const answer = `${ok}content-length: 6\r\n\r\n`;
      const body = Buffer.from("aéü€".slice(0, 4)).subarray(0, 6);
      for (const pieces of [
        [Buffer.concat([Buffer.from(answer), body])],
        [answer, body.subarray(0, 2), body.subarray(2)],
      ]) {
        expect(readAll(pieces, 3).text).toBe("aé");
        expect(readAll(pieces, 4).text).toBe("aé");
        expect(readAll(pieces, 5).text).toBe("aéü");
        expect(readAll(pieces, 0).text).toBe("");
      }
    });

    test.each([
      ["chunk extensions", `${ok}transfer-encoding: chunked\r\n\r\n5;`, "cut"],
      ["trailers", `${ok}transfer-encoding: chunked\r\n\r\n0\r\n`, "malformed"],
    ])("endless %s come to an end", (_name, start, expected) => {
      const reader = new AnswerReader();
      reader.begin(100);
      reader.read(Buffer.from(start), start.length);
      const bytes = Buffer.alloc(4_096, "a");
      let state = "more";
      let pieces = 0;
      while (state === "more" && pieces++ < 1_000) state = reader.read(bytes, bytes.length);
      expect(state).toBe(expected);
      expect(pieces).toBeLessThan(200);
    });
  });

  const headerValue = fc.stringMatching(/^[!-~]{0,20}$/);
  const anAnswer = fc
    .record({
      status: fc.integer({ min: 200, max: 999 }),
      reason: headerValue,
      headers: fc.array(fc.tuple(fc.stringMatching(/^x-[a-z]{1,12}$/), headerValue), { maxLength: 5 }),
      body: fc.uint8Array({ maxLength: 300 }),
      framing: fc.constantFrom("length", "chunks", "close"),
      chunkBytes: fc.integer({ min: 1, max: 50 }),
      interim: fc.integer({ min: 0, max: 3 }),
    })
    .map(({ status, reason, headers, body, framing, chunkBytes, interim }) => {
      const hasBody = status !== 204 && status !== 304;
      const bytes = Buffer.from(hasBody ? body : []);
      const framed =
        framing === "length"
          ? `content-length: ${bytes.length}\r\n`
          : framing === "chunks"
            ? "transfer-encoding: chunked\r\n"
            : "";
      const head =
        "HTTP/1.1 103 Early\r\nlink: </a>\r\n\r\n".repeat(interim) +
        `HTTP/1.1 ${status} ${reason}\r\n` +
        headers.map(([name, value]) => `${name}: ${value}\r\n`).join("") +
        `${framed}\r\n`;
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length; at += chunkBytes) {
        const chunk = bytes.subarray(at, at + chunkBytes);
        chunks.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from("\r\n"));
      }
      const content = framing === "chunks" ? [...chunks, Buffer.from("0\r\n\r\n")] : [bytes];
      return {
        wire: Buffer.concat([Buffer.from(head, "latin1"), ...(hasBody ? content : [])]),
        status,
        text: bytes.toString("utf8").replaceAll("\0", "\ufffd"),
      };
    });

  /** Cuts bytes at the given places. */
  function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
    const ends = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
    return [...ends, bytes.length]
      .map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end))
      .filter(({ length }) => length > 0);
  }

  test("reads any answer the same, however it is cut into pieces", () => {
    fc.assert(
      fc.property(anAnswer, fc.array(fc.nat(), { maxLength: 8 }), ({ wire, status, text }, places) => {
        expect(readAll(cut(wire, places))).toMatchObject({ state: "complete", status, text });
      }),
    );
  });

  test("ends for whatever comes, and the same for any pieces of it", () => {
    const anything = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      // Answers with something wrong somewhere.
      fc
        .tuple(anAnswer, fc.nat(), fc.constantFrom("\r", "\n", " ", ":", "\0", "0", "f", ";", "\xff", ""))
        .map(([{ wire }, place, mutation]) => {
          const at = place % (wire.length + 1);
          return Buffer.concat([
            wire.subarray(0, at),
            Buffer.from(mutation, "latin1"),
            wire.subarray(at + 1),
          ]);
        }),
    );
    fc.assert(
      fc.property(anything, fc.array(fc.nat(), { maxLength: 8 }), (wire, places) => {
        const whole = readAll([wire]);
        const pieces = readAll(cut(wire, places));
        expect(pieces.state).toBe(whole.state);
        if (whole.state === "complete") {
          expect([pieces.status, pieces.text]).toEqual([whole.status, whole.text]);
        }
      }),
      { numRuns: 500 },
    );
  });
});
