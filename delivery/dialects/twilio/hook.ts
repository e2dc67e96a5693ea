import type { HookOutcome } from "../../core/dialect.ts";
import { isJsonObject, type JsonObject } from "../../core/payload.ts";
import { modifiableFields } from "./events.ts";

/**
 * What a receiver's answer to a pre-event decides
 * (https://www.twilio.com/docs/conversations/conversations-webhooks):
 *
 * | answer | outcome |
 * |---|---|
 * | 200 with `{}` or nothing | publish as it is |
 * | 200 with JSON | publish with the changes; what is not named stays |
 * | 200 with a change that is not valid | do not publish, and say why |
 * | 4xx or 5xx | do not publish |
 * | none in time | publish as it is |
 *
 * Twilio does not say what else there is. Defaults of this service: any 2xx counts as 200; a redirect or another status,
 * and a body that is no JSON object, publish as it is, since only a 4xx or 5xx objects; fields that the event does not
 * let a receiver change are passed over and named in the reason; null leaves a field as it is.
 */
export function judgeHookAnswer(
  eventType: string,
  answer: { readonly status: number; readonly body: string } | null,
): HookOutcome {
  if (answer === null) return unchanged("no answer came in time");
  const { status, body } = answer;
  if (status >= 400) return { publish: false, reason: `the receiver answered ${status}` };
  if (status < 200 || status >= 300)
    return unchanged(`the receiver answered ${status}, which changes nothing`);
  if (body.trim() === "") return unchanged("the receiver accepted it");
  const fields = parseObject(body);
  if (fields === null) return unchanged("the receiver's answer is not a JSON object, and changes nothing");
  return toOutcome(eventType, fields);
}

function toOutcome(eventType: string, fields: JsonObject): HookOutcome {
  const modifiable = modifiableFields(eventType);
  const changes: Record<string, string> = {};
  const ignored: string[] = [];
  for (const [name, value] of Object.entries(fields)) {
    if (!modifiable.includes(name)) {
      ignored.push(name);
    } else if (typeof value === "string" && (name !== "attributes" || parseObject(value) !== null)) {
      changes[name] = value;
    } else if (value !== null) {
      const rule = name === "attributes" ? "a JSON object encoded as a string" : "a string";
      return { publish: false, reason: `the receiver's change is not valid: ${name} must be ${rule}` };
    }
  }
  const changed = Object.keys(changes);
  const said =
    changed.length === 0 ? "the receiver accepted it" : `the receiver changed ${changed.join(", ")}`;
  const rest =
    ignored.length === 0 ? "" : `; not modifiable on ${eventType}, and ignored: ${ignored.join(", ")}`;
  return { publish: true, changes, reason: said + rest };
}

function unchanged(reason: string): HookOutcome {
  return { publish: true, changes: {}, reason };
}

function parseObject(text: string): JsonObject | null {
  try {
    const value: unknown = JSON.parse(text);
    return isJsonObject(value) ? value : null;
  } catch {
    return null;
  }
}
