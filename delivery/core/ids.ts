import { randomFillSync } from "node:crypto";

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
/** Bits per half of the random part: eight characters of five bits, exact in a double. */
const half = 2 ** 40;

/**
 * Builds a source of ids such as `msg_06ekx1v3n5…`: the prefix, 10 characters of time and 16 of randomness (a ULID in
 * lower case). Ids of one source sort as they were made, also within one millisecond and when the clock goes back.
 *
 * @param fillRandom fills the given bytes with randomness
 */
export function createIds(fillRandom: (bytes: Uint8Array) => void): (prefix: string, now: number) => string {
  const seed = new Uint8Array(10);
  let time = -1;
  let timeText = "";
  let high = 0;
  let low = 0;
  return (prefix, now) => {
    if (now > time) {
      time = now;
      timeText = encode(now, 10);
      fillRandom(seed);
      // The top bit stays clear, so that counting up within the millisecond cannot overflow.
      high = readHalf(seed, 0) % (half / 2);
      low = readHalf(seed, 5);
    } else if (++low === half) {
      low = 0;
      high++;
    }
    return `${prefix}_${timeText}${encode(high, 8)}${encode(low, 8)}`;
  };
}

/** Sorts before every id of this kind that was made at the time or later, and behind those made before it. */
export function firstIdAt(prefix: string, time: number): string {
  return `${prefix}_${encode(Math.max(0, Math.floor(time)), 10)}`;
}

/** A new id of this process: `newId("msg", now)`. See `createIds`. */
export const newId = createIds((bytes) => randomFillSync(bytes));

function readHalf(bytes: Uint8Array, offset: number): number {
  let value = 0;
  for (const byte of bytes.subarray(offset, offset + 5)) value = value * 256 + byte;
  return value;
}

function encode(value: number, length: number): string {
  let text = "";
  for (let rest = value; text.length < length; rest = Math.floor(rest / 32)) {
    text = alphabet.charAt(rest % 32) + text;
  }
  return text;
}
