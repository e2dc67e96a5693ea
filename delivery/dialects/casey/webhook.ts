import type { Endpoint } from "../../core/endpoint.ts";
import { unknownName } from "../../core/nearest.ts";
import { isJsonObject } from "../../core/payload.ts";
import { isDeliverableUrl, isHttpsUrl } from "../../core/target.ts";
import { ServiceError } from "../../errors.ts";
import { caseyEvents, defaultEventTypes } from "./events.ts";

/** What a webhook endpoint is made from. */
export interface WebhookInput {
  readonly url: string;
  readonly description: string;
  readonly eventTypes: readonly string[];
}

/** A webhook endpoint as the API shows it, without its secret. */
export function toWebhook(endpoint: Endpoint) {
  return {
    id: endpoint.id,
    url: endpoint.url,
    description: endpoint.description,
    event_types: endpoint.filterTypes ?? caseyEvents,
    enabled: !endpoint.disabled,
    created_at: new Date(endpoint.createdAt).toISOString(),
  };
}

/**
 * Reads the body of `POST /webhooks` (https://developers.tellcasey.com/docs/api/reference/webhooks). Where Casey is
 * silent: `description` is empty by default, repeated event types count once, and unknown ones are refused.
 *
 * @param httpsOnly whether other URLs are refused
 * @throws ServiceError `validation` with every fault
 */
export function parseWebhook(body: unknown, httpsOnly: boolean): WebhookInput {
  const fields: Readonly<Record<string, unknown>> = isJsonObject(body) ? body : {};
  const problems: string[] = [];
  const url = fields["url"];
  if (typeof url !== "string" || !isDeliverableUrl(url)) {
    problems.push(
      "url is required and must be absolute, with http or https, such as https://example.com/hooks.",
    );
  } else if (httpsOnly && !isHttpsUrl(url)) {
    problems.push("url must begin with https://: this service sends to no other.");
  }
  const description = fields["description"] ?? "";
  if (typeof description !== "string") problems.push("description must be a string.");
  const eventTypes = parseEventTypes(fields["event_types"] ?? defaultEventTypes, problems);
  if (typeof url !== "string" || typeof description !== "string" || problems.length > 0) {
    throw new ServiceError("validation", problems.join(" "));
  }
  return { url, description, eventTypes };
}

function parseEventTypes(value: unknown, problems: string[]): string[] {
  if (!Array.isArray(value) || value.length === 0) {
    problems.push("event_types must be a list with at least one event type; leave it out for the default.");
    return [];
  }
  const known: readonly string[] = caseyEvents;
  const names = [...new Set(value.map(String))];
  for (const name of names) {
    if (!known.includes(name)) problems.push(unknownName("a Casey event type", name, known));
  }
  return names;
}
