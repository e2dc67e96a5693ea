import type { OptionReader } from "./option-reader.ts";

/** How many items of a list are shown where nobody says otherwise. */
export const defaultListLimit = 50;

/** The option of every command that lists. */
export const limitOption = [
  "--limit <number>",
  `how many to list at most, or "all" (default: ${defaultListLimit})`,
] as const;

export function readLimit(options: OptionReader): number {
  if (options.text("limit") === "all") return Infinity;
  return options.wholeNumber("limit", 1, 1_000_000_000) ?? defaultListLimit;
}
