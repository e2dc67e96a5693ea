import { randomBytes } from "node:crypto";

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
const randomLength = 16;

let last = { now: 0, random: "" };

/**
 * A new id: the prefix (`app_`, `ep_`, `msg_`, `atmpt_`), the time in 10 characters and 80 random bits in 16. Ids sort
 * by time, and those that one process makes within a millisecond sort in the order in which they were made.
 */
export function createId(prefix: string, now: number): string {
  // Within a millisecond, and when the clock steps back, the order of creation is kept by counting on.
  last = now > last.now ? { now, random: randomDigits() } : { now: last.now, random: successor(last.random) };
  let rest = last.now;
  let time = "";
  for (let digit = 0; digit < 10; digit += 1) {
    time = alphabet.charAt(rest % 32) + time;
    rest = Math.floor(rest / 32);
  }
  return prefix + time + last.random;
}

/** 16 digits; the first is below 16, so that counting on has room for 2^79 ids in a millisecond. */
function randomDigits(): string {
  let digits = "";
  for (const [index, byte] of randomBytes(randomLength).entries()) {
    digits += alphabet.charAt(index === 0 ? byte % 16 : byte % 32);
  }
  return digits;
}

function successor(digits: string): string {
  let index = digits.length - 1;
  while (digits.charAt(index) === "z") index -= 1;
  return (
    digits.slice(0, index) +
    alphabet.charAt(alphabet.indexOf(digits.charAt(index)) + 1) +
    "0".repeat(digits.length - 1 - index)
  );
}
