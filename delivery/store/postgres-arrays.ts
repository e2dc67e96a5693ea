/**
 * Arrays as PostgreSQL sends and receives them in binary (`array_recv` in its sources): a parameter that is a `Buffer` goes
 * over the wire as it is. A column of a batch is one such parameter; compared with the text form there is nothing to
 * escape, and payloads are not doubled by being written in hex.
 */

/** Types of elements, by their numbers in `pg_type`. */
const textType = 25;
const bigintType = 20;
const byteaType = 17;

const headerBytes = 20;
const largestInteger = 2 ** 32;

/** A `text[]` of what `pick` takes from each item. PostgreSQL has no NUL in texts: it is replaced by U+FFFD. */
export function textArray<T>(items: readonly T[], pick: (item: T) => string | null): Buffer {
  let buffer: Buffer = Buffer.allocUnsafe(headerBytes + items.length * 48);
  let at = headerBytes;
  let hasNull = 0;
  for (const item of items) {
    const value = pick(item);
    // A UTF-16 code unit makes three bytes of UTF-8 at most.
    buffer = withRoom(buffer, at, 4 + (value === null ? 0 : value.length * 3));
    if (value === null) {
      hasNull = 1;
      at = buffer.writeInt32BE(-1, at);
    } else {
      const length = buffer.write(withoutNul(value), at + 4);
      at = buffer.writeInt32BE(length, at) + length;
    }
  }
  writeHeader(buffer, textType, items.length, hasNull);
  return items.length === 0 ? emptyArray(textType) : buffer.subarray(0, at);
}

/** A `bigint[]` of what `pick` takes from each item: whole numbers that JavaScript holds exactly. */
export function bigintArray<T>(items: readonly T[], pick: (item: T) => number | null): Buffer {
  const buffer = Buffer.allocUnsafe(headerBytes + items.length * 12);
  let at = headerBytes;
  let hasNull = 0;
  for (const item of items) {
    const value = pick(item);
    if (value === null) {
      hasNull = 1;
      at = buffer.writeInt32BE(-1, at);
    } else {
      at = buffer.writeInt32BE(8, at);
      at = buffer.writeInt32BE(Math.floor(value / largestInteger), at);
      at = buffer.writeUInt32BE(value >>> 0, at);
    }
  }
  writeHeader(buffer, bigintType, items.length, hasNull);
  return items.length === 0 ? emptyArray(bigintType) : buffer.subarray(0, at);
}

/** A `bytea[]` of what `pick` takes from each item. */
export function byteaArray<T>(items: readonly T[], pick: (item: T) => Uint8Array | null): Buffer {
  const values = items.map(pick);
  const buffer = Buffer.allocUnsafe(
    values.reduce((sum, value) => sum + 4 + (value === null ? 0 : value.length), headerBytes),
  );
  let at = headerBytes;
  let hasNull = 0;
  for (const value of values) {
    if (value === null) {
      hasNull = 1;
      at = buffer.writeInt32BE(-1, at);
    } else {
      at = buffer.writeInt32BE(value.length, at);
      buffer.set(value, at);
      at += value.length;
    }
  }
  writeHeader(buffer, byteaType, items.length, hasNull);
  return items.length === 0 ? emptyArray(byteaType) : buffer;
}

/** A text as PostgreSQL can hold it. */
export function withoutNul(text: string): string {
  return text.includes("\0") ? text.replaceAll("\0", "\u{fffd}") : text;
}

/** Dimensions, whether there are nulls, the elements' type, and of the only dimension the length and the first index. */
function writeHeader(buffer: Buffer, type: number, length: number, hasNull: number): void {
  buffer.writeInt32BE(1, 0);
  buffer.writeInt32BE(hasNull, 4);
  buffer.writeInt32BE(type, 8);
  buffer.writeInt32BE(length, 12);
  buffer.writeInt32BE(1, 16);
}

function emptyArray(type: number): Buffer {
  const buffer = Buffer.alloc(12);
  buffer.writeInt32BE(type, 8);
  return buffer;
}

function withRoom(buffer: Buffer, at: number, bytes: number): Buffer {
  if (at + bytes <= buffer.length) return buffer;
  const larger = Buffer.allocUnsafe((at + bytes) * 2);
  buffer.copy(larger, 0, 0, at);
  return larger;
}
