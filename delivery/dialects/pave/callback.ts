import type { Endpoint } from "../../core/endpoint.ts";
import { unknownName } from "../../core/nearest.ts";
import { isJsonObject, type JsonObject } from "../../core/payload.ts";
import { isDeliverableUrl, isHttpsUrl } from "../../core/target.ts";
import { headerProblems } from "../../core/wire-headers.ts";
import { ServiceError } from "../../errors.ts";
import { settingsOf, type CallbackSettings } from "./dialect.ts";
import { paveEvents } from "./events.ts";

/** A callback as PAVE's API has it. */
export interface Callback extends CallbackSettings {
  readonly event: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

export function toCallback(endpoint: Endpoint): Callback {
  const { method, payload } = settingsOf(endpoint);
  return { event: endpoint.uid ?? "", url: endpoint.url, method, headers: endpoint.headers, payload };
}

/** The parts of an endpoint that a callback says. */
export function toEndpointFields(callback: Callback) {
  const { event, url, method, headers, payload } = callback;
  // A callback that was disabled by 410 is in use again once it is set.
  return { uid: event, url, filterTypes: [event], headers, settings: { method, payload }, disabled: false };
}

/**
 * Reads the body that sets a callback
 * (https://docs.paveapi.com/integrations/developer-docs/callbacks/set-a-new-callback).
 *
 * `headers` and `payload` may be objects, or objects encoded as JSON strings. What is left out has its default (method
 * `POST`, nothing in headers and payload), in an update too: PAVE documents no partial update.
 *
 * @param rules.httpsOnly whether other URLs are refused
 * @param rules.event the event of the path in an update; the body's otherwise
 * @throws ServiceError `bad_request` with PAVE's own words where a required field is missing, else with every fault
 */
export function parseCallback(
  body: unknown,
  { httpsOnly, event }: { httpsOnly: boolean; event?: string },
): Callback {
  const fields: Readonly<Record<string, unknown>> = isJsonObject(body) ? body : {};
  const named = event ?? fields["event"];
  const { url } = fields;
  if (isBlank(named) || isBlank(url)) throw new ServiceError("bad_request", "Missing required fields.");

  const problems: string[] = [];
  if (typeof named !== "string" || !paveEvents.includes(named)) {
    problems.push(unknownName("a PAVE event", String(named), paveEvents));
  }
  if (event !== undefined && !isBlank(fields["event"]) && fields["event"] !== event) {
    problems.push(`The event of a callback cannot be changed: remove it and set a new one.`);
  }
  if (typeof url !== "string" || !isDeliverableUrl(url)) {
    problems.push(`The url must be absolute, with http or https, such as https://example.com/callbacks.`);
  } else if (httpsOnly && !isHttpsUrl(url)) {
    problems.push("The url must begin with https://: this service sends to no other.");
  }
  const method = parseMethod(fields["method"], problems);
  const headers = parseHeaders(parseObject("headers", fields["headers"], problems), problems);
  const payload = parseObject("payload", fields["payload"], problems);
  if (problems.length > 0) throw new ServiceError("bad_request", problems.join(" "));
  return { event: String(named), url: String(url), method, headers, payload };
}

function isBlank(value: unknown): boolean {
  return value === undefined || value === null || value === "";
}

function parseMethod(value: unknown, problems: string[]): "GET" | "POST" {
  if (isBlank(value)) return "POST";
  const method = typeof value === "string" ? value.toUpperCase() : "";
  if (method === "GET" || method === "POST") return method;
  problems.push(`The method must be POST or GET.`);
  return "POST";
}

function parseObject(name: string, value: unknown, problems: string[]): JsonObject {
  const parsed = typeof value === "string" && value !== "" ? parseJson(value) : value;
  // PHP writes an empty object as a list.
  if (isBlank(parsed) || (Array.isArray(parsed) && parsed.length === 0)) return {};
  if (isJsonObject(parsed)) return parsed;
  problems.push(`The ${name} must be a JSON object, or one encoded as a string.`);
  return {};
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function parseHeaders(object: JsonObject, problems: string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(object)) {
    if (value === null || typeof value === "object") problems.push(`The header "${name}" must be a string.`);
    else headers[name] = String(value);
  }
  problems.push(...headerProblems(headers));
  return headers;
}
