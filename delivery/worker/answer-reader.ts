import { toText } from "./answer-text.ts";

/** The longest head of an answer: status line and headers. */
const maxHeadLength = 16 * 1024;
/** How much of a body is read at most; what is longer is cut off. */
export const maxBodyBytes = 64 * 1024;
/** What an answer may take on the wire with everything around its body, such as chunk sizes and interim answers. */
const maxWireBytes = 8 * maxBodyBytes;

/**
 * `more`: not all of it is there yet. `complete`: all is. `cut`: more came than is read, the status counts.
 * `malformed`: it is no HTTP, and `fault` says why.
 */
type ReadState = "more" | "complete" | "cut" | "malformed";

type Phase = "head" | "length" | "chunks" | "close" | "done";

/** Where in a chunked body the next byte stands. */
type ChunkPhase =
  "size" | "extension" | "size-end" | "data" | "data-cr" | "data-lf" | "trailer" | "trailer-end";

/**
 * Reads the answers of one connection, one after the other (RFC 9112), within fixed bounds. It is strict: an answer whose
 * end could be seen in two ways is malformed, or ends the connection.
 */
export class AnswerReader {
  /** 0 until the head of the answer was read. */
  status = 0;
  retryAfter: string | undefined;
  /** As in the header, in lower case; empty without one. */
  contentEncoding = "";
  /** How long the receiver keeps the idle connection, in milliseconds; null when it does not say. */
  keepAliveMs: number | null = null;
  /** Whether the connection can take another request after this answer. */
  isReusable = true;
  /** Whether any byte of the answer has come. */
  hasBegun = false;
  /** Why the answer is malformed. */
  fault = "";

  #phase: Phase = "head";
  #head = "";
  #interimAnswers = 0;
  #wireBytes = 0;
  #bodyBytes = 0;
  /** Of the body, or of the chunk of it. */
  #remaining = 0;
  #chunkPhase: ChunkPhase = "size";
  #sizeDigits = 0;
  #trailerBytes = 0;
  #lineBytes = 0;
  #keptLimit = 0;
  #keptBytes = 0;
  #kept: Buffer[] = [];
  #text: string | null = null;

  /** Makes ready for the next answer, of whose body so many bytes are kept. */
  begin(keptBytes: number): void {
    this.status = 0;
    this.retryAfter = undefined;
    this.contentEncoding = "";
    this.keepAliveMs = null;
    this.isReusable = true;
    this.hasBegun = false;
    this.#phase = "head";
    this.#interimAnswers = 0;
    this.#wireBytes = 0;
    this.#bodyBytes = 0;
    this.#keptLimit = Math.min(keptBytes, maxBodyBytes);
    this.#keptBytes = 0;
    this.#text = null;
    if (this.#head !== "") this.#head = "";
    if (this.#kept.length > 0) this.#kept = [];
  }

  /** Takes the first `length` bytes of what came; they are not needed afterwards. */
  read(bytes: Buffer, length: number): ReadState {
    this.hasBegun = true;
    this.#wireBytes += length;
    let at = 0;
    // Interim answers come before the one that counts.
    while (this.#phase === "head" && at < length) {
      at = this.#readHead(bytes, at, length);
      if (this.fault !== "") return "malformed";
    }
    if (this.#phase === "head") return this.#moreOrCut();
    if (this.#phase === "chunks") at = this.#readChunks(bytes, at, length);
    else if (this.#phase !== "done") at = this.#readBody(bytes, at, length);
    if (this.fault !== "") return "malformed";
    if (this.#bodyBytes > maxBodyBytes) return "cut";
    if (this.#phase !== "done") return this.#moreOrCut();
    // What follows was not asked for.
    if (at < length) this.isReusable = false;
    return "complete";
  }

  /** The receiver has closed its side: whether that was the end of the answer. */
  end(): boolean {
    return this.#phase === "close";
  }

  /** What was kept of the body, as text. */
  get text(): string {
    if (this.#text !== null) return this.#text;
    const bytes = this.bytes;
    return toText(bytes, 0, bytes.length, this.#bodyBytes > bytes.length);
  }

  /** What was kept of the body, as it came. Only for a body with a content encoding, or one that came in pieces. */
  get bytes(): Buffer {
    return this.#kept.length === 1 && this.#kept[0] ? this.#kept[0] : Buffer.concat(this.#kept);
  }

  #moreOrCut(): ReadState {
    if (this.#wireBytes <= maxWireBytes) return "more";
    if (this.status !== 0) return "cut";
    this.fault = `more than ${maxWireBytes} bytes came before the answer`;
    return "malformed";
  }

  /** Reads to the end of a head, and answers where it stopped. */
  #readHead(bytes: Buffer, from: number, length: number): number {
    const known = this.#head.length;
    const to = Math.min(length, from + maxHeadLength - known);
    const text = this.#head + bytes.toString("latin1", from, to);
    const end = text.indexOf("\r\n\r\n", Math.max(0, known - 3));
    if (end === -1) {
      if (text.length >= maxHeadLength) {
        this.fault = `the answer's head is longer than ${maxHeadLength / 1024} KiB`;
      } else if (!"HTTP/1.".startsWith(text.slice(0, 7)) || text.includes("\n\n")) {
        this.fault = notHttp;
      }
      this.#head = text;
      return length;
    }
    if (known > 0) this.#head = "";
    this.#parseHead(text, end);
    return from + end + 4 - known;
  }

  #parseHead(head: string, end: number): void {
    const headers = statusLinePattern.test(head) ? this.#parseHeaders(head, end) : null;
    if (headers === null) {
      this.fault = notHttp;
      return;
    }
    const status = Number(head.slice(9, 12));
    if (status < 200) {
      // 101 answers an upgrade, which nobody asks for.
      if (status === 101 || ++this.#interimAnswers > maxInterimAnswers) this.fault = notHttp;
      return;
    }
    this.status = status;
    this.retryAfter = headers.retryAfter;
    this.contentEncoding = headers.contentEncoding;
    this.keepAliveMs = headers.keepAliveMs;
    // HTTP/1.0 knows no connection that is kept.
    this.isReusable = head.charCodeAt(7) !== zero && !headers.isLast;
    this.#frame(status, headers);
  }

  /** The headers that matter; null when they are no HTTP. */
  #parseHeaders(head: string, end: number): Headers | null {
    const headers = new Headers();
    let at = head.indexOf("\n") + 1;
    if (head.charCodeAt(at - 2) !== carriageReturn) return null;
    while (at < end + 2) {
      const next = head.indexOf("\n", at) + 1;
      if (head.charCodeAt(next - 2) !== carriageReturn) return null;
      const colon = head.indexOf(":", at);
      const first = head.charCodeAt(at);
      if (first === space || first === tab) {
        // A line that goes on with the one before: nothing that frames the answer is written so.
        if (headers.isFraming) return null;
      } else {
        const last = head.charCodeAt(colon - 1);
        if (colon <= at || colon >= next || last === space || last === tab) return null;
        if (!headers.add(head, at, colon, next - 2)) return null;
      }
      at = next;
    }
    return headers;
  }

  /** How the body ends (RFC 9112, section 6.3). */
  #frame(status: number, { contentLength, transferEncoding }: Headers): void {
    if (status === 204 || status === 304) {
      this.#phase = "done";
    } else if (transferEncoding !== null) {
      // Both are how a request is smuggled past somebody who reads the other one.
      if (contentLength !== null) this.isReusable = false;
      // What is around the chunks, such as gzip, is left as it is.
      if (/(?:^|,)[ \t]*chunked$/.test(transferEncoding)) {
        this.#phase = "chunks";
        this.#chunkPhase = "size";
        this.#sizeDigits = 0;
        this.#remaining = 0;
      } else {
        this.#phase = "close";
        this.isReusable = false;
      }
    } else if (contentLength !== null) {
      this.#remaining = contentLength;
      this.#phase = contentLength === 0 ? "done" : "length";
    } else {
      this.#phase = "close";
      this.isReusable = false;
    }
  }

  #readBody(bytes: Buffer, from: number, length: number): number {
    const to = this.#phase === "length" ? Math.min(length, from + this.#remaining) : length;
    if (this.#phase === "length") {
      this.#remaining -= to - from;
      if (this.#remaining === 0) this.#phase = "done";
    }
    this.#keep(bytes, from, to);
    return to;
  }

  #readChunks(bytes: Buffer, from: number, length: number): number {
    let at = from;
    while (at < length && this.#bodyBytes <= maxBodyBytes) {
      if (this.#chunkPhase === "data") {
        const to = Math.min(length, at + this.#remaining);
        this.#remaining -= to - at;
        this.#keep(bytes, at, to);
        if (this.#remaining === 0) this.#chunkPhase = "data-cr";
        at = to;
        continue;
      }
      const byte = bytes[at++] ?? 0;
      if (!this.#readChunkFrame(byte)) {
        this.fault = `${notHttp} (its chunks)`;
        return at;
      }
      // The last chunk's trailers have ended.
      if (this.#phase === "done") return at;
    }
    return at;
  }

  /** Takes a byte that is none of the body; false when it must not stand there. */
  #readChunkFrame(byte: number): boolean {
    switch (this.#chunkPhase) {
      case "size": {
        const digit = hexDigit(byte);
        if (digit >= 0) {
          this.#remaining = this.#remaining * 16 + digit;
          return ++this.#sizeDigits <= maxSizeDigits;
        }
        if (this.#sizeDigits === 0) return false;
        if (byte === carriageReturn) this.#chunkPhase = "size-end";
        else if (byte === semicolon || byte === space || byte === tab) this.#chunkPhase = "extension";
        else return false;
        return true;
      }
      case "extension":
        if (byte === carriageReturn) this.#chunkPhase = "size-end";
        return byte !== lineFeed;
      case "size-end":
        this.#sizeDigits = 0;
        this.#trailerBytes = 0;
        this.#lineBytes = 0;
        this.#chunkPhase = this.#remaining === 0 ? "trailer" : "data";
        return byte === lineFeed;
      case "data-cr":
        this.#chunkPhase = "data-lf";
        return byte === carriageReturn;
      case "data-lf":
        this.#chunkPhase = "size";
        return byte === lineFeed;
      case "trailer":
        if (++this.#trailerBytes > maxHeadLength) return false;
        if (byte === carriageReturn) this.#chunkPhase = "trailer-end";
        else this.#lineBytes++;
        return byte !== lineFeed;
      case "trailer-end":
        // An empty line ends it all.
        if (this.#lineBytes === 0) this.#phase = "done";
        this.#lineBytes = 0;
        this.#chunkPhase = "trailer";
        return byte === lineFeed;
      case "data":
        return false;
    }
  }

  #keep(bytes: Buffer, from: number, to: number): void {
    if (to === from) return;
    const isFirst = this.#bodyBytes === 0;
    this.#bodyBytes += to - from;
    const end = Math.min(to, from + this.#keptLimit - this.#keptBytes);
    if (end <= from) return;
    this.#keptBytes += end - from;
    // A body that is there at once, as nearly all are, becomes text without a copy.
    if (isFirst && this.#phase === "done" && this.contentEncoding === "") {
      this.#text = toText(bytes, from, end, end < to);
    } else {
      this.#kept.push(Buffer.from(bytes.subarray(from, end)));
    }
  }
}

const statusLinePattern = /^HTTP\/1\.\d [1-9]\d\d[ \r]/;
const notHttp = "the answer is not HTTP/1.1";
/** Of 102 and 103, before the answer itself. */
const maxInterimAnswers = 16;
/** A chunk of 4 GiB. */
const maxSizeDigits = 8;
const zero = 0x30;
const space = 0x20;
const tab = 0x09;
const carriageReturn = 0x0d;
const lineFeed = 0x0a;
const semicolon = 0x3b;

/** The headers of an answer that matter to its reader. */
class Headers {
  contentLength: number | null = null;
  transferEncoding: string | null = null;
  contentEncoding = "";
  retryAfter: string | undefined;
  keepAliveMs: number | null = null;
  /** The receiver closes the connection after this answer. */
  isLast = false;
  /** The last one added says where the answer ends. */
  isFraming = false;

  /** Takes a header out of the head; false when it is none. */
  add(head: string, at: number, colon: number, end: number): boolean {
    this.isFraming = false;
    // By length first: most names are not looked at any closer.
    switch (colon - at) {
      case 10: {
        const name = head.slice(at, colon).toLowerCase();
        if (name === "connection") this.isLast ||= /\bclose\b/i.test(head.slice(colon + 1, end));
        else if (name === "keep-alive") this.keepAliveMs = parseKeepAlive(head.slice(colon + 1, end));
        return true;
      }
      case 11:
        if (head.slice(at, colon).toLowerCase() === "retry-after") {
          this.retryAfter ??= head.slice(colon + 1, end).trim();
        }
        return true;
      case 14:
        if (head.slice(at, colon).toLowerCase() === "content-length") {
          this.isFraming = true;
          const value = head.slice(colon + 1, end).trim();
          const length = Number(value);
          if (!/^\d{1,15}$/.test(value)) return false;
          if (this.contentLength !== null && this.contentLength !== length) return false;
          this.contentLength = length;
        }
        return true;
      case 16:
        if (head.slice(at, colon).toLowerCase() === "content-encoding") {
          const value = head
            .slice(colon + 1, end)
            .trim()
            .toLowerCase();
          const isFirst = this.contentEncoding === "";
          if (value !== "identity")
            this.contentEncoding = isFirst ? value : `${this.contentEncoding}, ${value}`;
        }
        return true;
      case 17:
        if (head.slice(at, colon).toLowerCase() === "transfer-encoding") {
          this.isFraming = true;
          const value = head
            .slice(colon + 1, end)
            .trim()
            .toLowerCase();
          this.transferEncoding =
            this.transferEncoding === null ? value : `${this.transferEncoding}, ${value}`;
        }
        return true;
      default:
        return true;
    }
  }
}

/** `timeout=5, max=100` as milliseconds. */
function parseKeepAlive(value: string): number | null {
  const seconds = /\btimeout=(\d{1,6})\b/i.exec(value)?.[1];
  return seconds === undefined ? null : Number(seconds) * 1000;
}

/** -1 when it is none. */
function hexDigit(byte: number): number {
  if (byte >= zero && byte <= 0x39) return byte - zero;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
