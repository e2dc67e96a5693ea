import { z } from "zod";
import { isDeliverableUrl } from "../core/target.ts";
import { documentedAs } from "../operation.ts";

/** Shapes that several resources have in common, with the contract's patterns and bounds. */

const namePattern = /^[a-zA-Z0-9\-_.]+$/;
const nameRule = "letters, digits, hyphens, underscores and dots";

/** A name of at most `maxLength` characters out of those that the contract allows in one. */
export function nameField(what: string, maxLength: number): z.ZodString {
  return z
    .string()
    .min(1, `The ${what} must not be empty.`)
    .max(maxLength, `The ${what} must have at most ${maxLength} characters.`)
    .regex(namePattern, `The ${what} may have ${nameRule} only.`);
}

/** Text for people. A NUL would end it early in some databases and be refused by others. */
export function textField(what: string, maxLength: number): z.ZodString {
  return z
    .string()
    .max(maxLength, `The ${what} must have at most ${maxLength} characters.`)
    .refine((text) => !text.includes("\0"), `The ${what} must not have a NUL character.`);
}

export const eventTypeName = nameField("event type", 256);

/** Event types as vendors write them, colons and all; which ones there are is the dialect's to say. */
export const vendorEventType = z
  .string()
  .min(1, "The event type must not be empty.")
  .max(256, "The event type must have at most 256 characters.");

export const channelName = nameField("channel", 128);

/** A list without duplicates; `null` says the same as leaving it out. */
export function uniqueList(what: string, item: z.ZodString, maxItems = 1000): z.ZodArray<z.ZodString> {
  return z
    .array(item)
    .min(1, `The list of ${what} must not be empty: say null for all.`)
    .max(maxItems, `The list of ${what} must have at most ${maxItems} items.`)
    .refine(
      (items) => new Set(items).size === items.length,
      `The list of ${what} must not have an item twice.`,
    )
    .meta({ uniqueItems: true });
}

/** Messages per second. */
export const throttleRate = z
  .int("The rate must be a whole number of messages per second.")
  .min(1, "The rate must be at least 1 message per second: say null for no limit.")
  .max(65_535, "The rate must be at most 65535 messages per second.");

export const metadata = z
  .record(z.string(), z.string())
  .refine(
    (entries) => JSON.stringify(entries).length <= 16_384,
    "The metadata must have at most 16384 characters.",
  );

export const endpointUrl = z
  .string()
  .max(65_536, "The URL must have at most 65536 characters.")
  .refine(
    (url) => /^https?:\/\/[^\s]+$/i.test(url) && isDeliverableUrl(url),
    "The URL must be absolute and begin with http:// or https://.",
  );

/** A flag in a query string. */
export function queryFlag(byDefault: boolean): z.ZodType<boolean> {
  const flag = z
    .enum(["true", "false"], 'This must be "true" or "false".')
    .transform((text) => text === "true")
    .default(byDefault);
  return documentedAs(flag, { type: "boolean", default: byDefault });
}

/** A time in a query string, in milliseconds since the epoch. */
export const queryTime = documentedAs(
  z.iso
    .datetime({ offset: true, error: 'This must be a time such as "2026-01-31T12:00:00Z".' })
    .transform((text) => Date.parse(text)),
  { type: "string", format: "date-time" },
);

/** Event types in a query string: separated by commas, or the parameter several times. */
export const queryEventTypes = documentedAs(
  z
    .union([z.string(), z.array(z.string())])
    .transform((value) => [value].flat().flatMap((item) => item.split(",")))
    .pipe(z.array(vendorEventType)),
  z.array(vendorEventType),
);

/** A member that is known elsewhere and not here: better refused than silently without effect. */
export function refused(remedy: string): z.ZodType<null | undefined> {
  return z.null(`This is not supported: ${remedy}`).optional();
}

/** Members that older clients know by another name: by it, the name that the contract has. */
const formerNames = { filterTypes: "eventTypes", rateLimit: "throttleRate" } as const;

/** Takes a member under either of its names; under both, they must say the same. */
export function eitherName<Shape extends z.ZodObject>(shape: Shape): Shape {
  return shape.superRefine((value, issues) => {
    const members = value as Readonly<Record<string, unknown>>;
    for (const [former, current] of Object.entries(formerNames)) {
      const values = [members[former], members[current]];
      if (values.includes(undefined) || JSON.stringify(values[0]) === JSON.stringify(values[1])) continue;
      const message = `This is the former name of "${current}", which says something else: give one of them.`;
      issues.addIssue({ code: "custom", path: [former], message });
    }
  });
}

/** A time in an answer, as `isoTime` writes it. */
export const timeOut = z.string().meta({ format: "date-time" });

/** The answer that says no more than its status. */
export const emptyOut = z.object({}).meta({ id: "EmptyResponse" });

/** How the API writes down a time. */
export function isoTime(time: number): string {
  // Many are written down within one millisecond.
  if (time !== lastTime) {
    lastText = new Date(time).toISOString();
    lastTime = time;
  }
  return lastText;
}

let lastTime = Number.NaN;
let lastText = "";
