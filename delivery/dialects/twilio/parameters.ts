import type { EncodeInput } from "../../core/dialect.ts";
import type { Json } from "../../core/json.ts";
import { parsePayload } from "../../core/payload.ts";

const datePattern = /^(?:Date(?:Created|Updated|Removed)|StateUpdated)$/;

/**
 * An event's parameters (https://www.twilio.com/docs/conversations/conversations-webhooks): the payload's own, and those
 * that every event has: `AccountSid`, `EventType`, `Source`, and `RetryCount`, which Twilio sends and does not document.
 *
 * Where Twilio is silent, this service's defaults: `Source` is the payload's, else `SDK` when it has a `ClientIdentity`
 * and `API` when not; null is left out, a list of plain values repeats the parameter, an object and a list of objects
 * (`Attributes`, `Media`) are sent as JSON text; dates are written as ISO 8601 with milliseconds.
 */
export function toParameters({ message, attempt }: EncodeInput, accountSid: string): URLSearchParams {
  const payload = parsePayload(message.payload);
  const parameters = new URLSearchParams();
  const fields: Readonly<Record<string, Json>> = {
    ...payload,
    AccountSid: accountSid,
    EventType: message.eventType,
    Source: payload["Source"] ?? (payload["ClientIdentity"] ? "SDK" : "API"),
    RetryCount: attempt,
  };
  for (const [name, value] of Object.entries(fields)) {
    for (const text of toTexts(name, value)) parameters.append(name, text);
  }
  return parameters;
}

function toTexts(name: string, value: Json): string[] {
  if (value === null) return [];
  if (typeof value !== "object") return [datePattern.test(name) ? toDateText(value) : String(value)];
  if (Array.isArray(value) && value.every((item) => typeof item !== "object")) return value.map(String);
  return [JSON.stringify(value)];
}

function toDateText(value: string | number | boolean): string {
  const isDate = typeof value === "number" || /^\d{4}-\d\d-\d\dT/.test(String(value));
  const date = new Date(isDate && typeof value !== "boolean" ? value : NaN);
  return Number.isNaN(date.getTime()) ? String(value) : date.toISOString();
}
