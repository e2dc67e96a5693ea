import { isDeepStrictEqual } from "node:util";
import type { Marks } from "./marks.ts";

/**
 * What a value means, apart from how it is written: two values are the same where their normal forms are deeply equal.
 * Absence has many spellings (null, `""`, `[]`, and the `[]` that PHP makes of an empty map); here it is undefined.
 */
export function normalForm(value: unknown, compare: Marks["compare"]): unknown {
  if (isEmpty(value)) return undefined;
  if (compare === "set" && Array.isArray(value)) {
    return [...new Set(value.map((item) => JSON.stringify(item)))].sort();
  }
  if (compare === "headers" && isPlainObject(value)) {
    return Object.fromEntries(Object.entries(value).map(([name, text]) => [name.toLowerCase(), text]));
  }
  return value;
}

/** Whether the two mean the same to the vendor. An unknown value is the same as nothing, not even itself. */
export function isSame(left: unknown, right: unknown, compare: Marks["compare"]): boolean {
  return isDeepStrictEqual(normalForm(left, compare), normalForm(right, compare));
}

export function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a property was left out; Pulumi cannot tell null from absent. */
export function isAbsent(value: unknown): value is undefined | null {
  return value === undefined || value === null;
}

function isEmpty(value: unknown): boolean {
  if (isAbsent(value) || value === "") return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}
