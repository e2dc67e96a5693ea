const lineFeed = 0x0a;
const carriageReturn = 0x0d;
const space = 0x20;
const digitZero = 0x30;
const digitNine = 0x39;
const contentLength = Buffer.from("content-length:");
const nothing: Buffer = Buffer.alloc(0);

/** Told of a whole message: its head is `bytes` from `start` to `bodyStart`, its body from there to `end`. */
export type OnMessage = (bytes: Buffer, start: number, bodyStart: number, end: number) => void;

/**
 * Finds the HTTP/1.1 requests or responses in what a connection brings, wherever the network has cut it. It knows
 * bodies with Content-Length and messages without a body, which is all that a load generator and its receiver need, and
 * costs less than a microsecond a message.
 */
export class HttpMessages {
  readonly #onMessage: OnMessage;
  /** The beginning of a message whose end has not come yet. */
  #rest = nothing;
  /** How much of `#rest` and what follows a message needs at least. */
  #needed = 0;

  constructor(onMessage: OnMessage) {
    this.#onMessage = onMessage;
  }

  /**
   * @param chunk may be used again by the caller afterwards
   * @throws Error when a message has a transfer encoding, or a length that is no number
   */
  push(chunk: Buffer): void {
    let bytes = chunk;
    if (this.#rest.length > 0) {
      bytes = Buffer.concat([this.#rest, chunk]);
      if (bytes.length < this.#needed) {
        this.#rest = bytes;
        return;
      }
    }
    let start = 0;
    this.#needed = 0;
    while (start < bytes.length) {
      const bodyStart = endOfHead(bytes, start);
      if (bodyStart === -1) break;
      const end = bodyStart + bodyLength;
      if (end > bytes.length) {
        this.#needed = end - start;
        break;
      }
      this.#onMessage(bytes, start, bodyStart, end);
      start = end;
    }
    // A copy, since the chunk is the caller's.
    this.#rest = start === bytes.length ? nothing : Buffer.from(bytes.subarray(start));
  }
}

/** What `endOfHead` has found beside the position: a second result that needs no object. */
let bodyLength = 0;

/** The position behind the empty line, or -1 when it is not there yet. */
function endOfHead(bytes: Buffer, start: number): number {
  bodyLength = 0;
  for (let position = start; position < bytes.length; position += 1) {
    if (bytes[position] !== lineFeed) continue;
    const first = bytes[position + 1];
    if (first === carriageReturn) {
      if (position + 2 >= bytes.length) return -1;
      if (Number.isNaN(bodyLength)) throw new Error("A Content-Length is not a number");
      return position + 3;
    }
    if (first === 0x63 || first === 0x43) {
      if (isContentLength(bytes, position + 1)) bodyLength = readLength(bytes, position + 16);
    } else if (first === 0x74 || first === 0x54) {
      const name = bytes.toString("latin1", position + 1, position + 19).toLowerCase();
      if (name === "transfer-encoding:") throw new Error("A message has a transfer encoding, not a length");
    }
  }
  return -1;
}

function isContentLength(bytes: Buffer, position: number): boolean {
  for (let index = 0; index < contentLength.length; index += 1) {
    const byte = bytes[position + index] ?? 0;
    const lower = byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte;
    if (lower !== contentLength[index]) return false;
  }
  return true;
}

function readLength(bytes: Buffer, start: number): number {
  let position = start;
  while (bytes[position] === space) position += 1;
  let value = 0;
  let byte = bytes[position] ?? 0;
  // Unless the rest of it is still to come: only a whole head is judged.
  if (byte < digitZero || byte > digitNine) return Number.NaN;
  while (byte >= digitZero && byte <= digitNine) {
    value = value * 10 + byte - digitZero;
    position += 1;
    byte = bytes[position] ?? 0;
  }
  return value;
}

/** The three digits of a response's status. */
export function statusOf(bytes: Buffer, start: number): number {
  return readDigits(bytes, start + "HTTP/1.1 ".length, 3);
}

/** The number that stands in `width` decimal digits. */
export function readDigits(bytes: Buffer, start: number, width: number): number {
  let value = 0;
  for (let index = 0; index < width; index += 1) {
    value = value * 10 + (bytes[start + index] ?? digitZero) - digitZero;
  }
  return value;
}

/** Writes a whole number in `width` decimal digits, with zeros in front. */
export function writeDigits(bytes: Buffer, start: number, width: number, value: number): void {
  let rest = value;
  for (let position = start + width - 1; position >= start; position -= 1) {
    const tens = Math.floor(rest / 10);
    bytes[position] = digitZero + rest - tens * 10;
    rest = tens;
  }
}
