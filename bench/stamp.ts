import { readDigits, writeDigits } from "./http-messages.ts";

/**
 * What an event carries through the service: its number and when it was to start, in microseconds of the shared clock,
 * as `stamp.0000000042.0000001234567890.`, of characters that JSON and form encoding leave alone.
 */
const mark = Buffer.from("stamp.");
const numberWidth = 10;
const timeWidth = 16;
const timeOffset = mark.length + numberWidth + 1;

/** A stamp to be filled in. */
export const emptyStamp = `${mark.toString()}${"0".repeat(numberWidth)}.${"0".repeat(timeWidth)}.`;

/** Where the stamp begins in a message's body, or -1. */
export function findStamp(bytes: Buffer, bodyStart: number, end: number): number {
  const position = bytes.indexOf(mark, bodyStart);
  return position === -1 || position + emptyStamp.length > end ? -1 : position;
}

export function stampNumber(bytes: Buffer, position: number): number {
  return readDigits(bytes, position + mark.length, numberWidth);
}

export function stampTimeUs(bytes: Buffer, position: number): number {
  return readDigits(bytes, position + timeOffset, timeWidth);
}

export function writeStamp(bytes: Buffer, position: number, number: number, timeUs: number): void {
  writeDigits(bytes, position + mark.length, numberWidth, number);
  writeDigits(bytes, position + timeOffset, timeWidth, Math.floor(timeUs));
}
