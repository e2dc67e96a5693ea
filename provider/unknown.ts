/**
 * A value that a preview cannot know yet. Hosts translate their own mark to and from it, at any depth, so that the core
 * never sees how one of them writes it.
 */
export const unknown: unique symbol = Symbol("unknown");

/** Whether the value is unknown or holds something that is. */
export function containsUnknown(value: unknown): boolean {
  if (value === unknown) return true;
  if (typeof value !== "object" || value === null) return false;
  return Object.values(value).some(containsUnknown);
}

/** A copy with each value that is `from` replaced by `to`; properties that are undefined are left out. */
export function replaceDeep(value: unknown, from: unknown, to: unknown): unknown {
  if (value === from) return to;
  if (Array.isArray(value)) return value.map((item) => replaceDeep(item, from, to));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .map(([key, item]) => [key, replaceDeep(item, from, to)]),
  );
}
