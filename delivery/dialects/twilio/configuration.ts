import type { Endpoint } from "../../core/endpoint.ts";
import { unknownName } from "../../core/nearest.ts";
import { isDeliverableUrl, isHttpsUrl } from "../../core/target.ts";
import { filterNames } from "./events.ts";

/** The `uid` of the account's one endpoint. */
export const configurationUid = "configuration";

/**
 * The account's webhook configuration
 * (https://www.twilio.com/docs/conversations-classic/api/webhook-configuration-resource.md).
 */
export interface Configuration {
  readonly method: "GET" | "POST";
  /** The events that fire; null while nobody has set any: none, as in an empty list. */
  readonly filters: readonly string[] | null;
  readonly preWebhookUrl: string | null;
  readonly postWebhookUrl: string | null;
  /** Kept and shown; events go to the URLs whatever it says. */
  readonly target: "webhook" | "flex";
}

/** What an account has that nobody has configured. */
export const freshConfiguration: Configuration = {
  method: "POST",
  filters: null,
  preWebhookUrl: null,
  postWebhookUrl: null,
  target: "webhook",
};

export function toConfiguration(endpoint: Endpoint): Configuration {
  const { method, preWebhookUrl, target } = endpoint.settings;
  return {
    method: method === "GET" ? "GET" : "POST",
    filters: endpoint.filterTypes,
    preWebhookUrl: typeof preWebhookUrl === "string" ? preWebhookUrl : null,
    postWebhookUrl: endpoint.url === "" ? null : endpoint.url,
    target: target === "flex" ? "flex" : "webhook",
  };
}

/** The parts of an endpoint that a configuration says. */
export function toEndpointFields(configuration: Configuration) {
  const { method, filters, preWebhookUrl, postWebhookUrl, target } = configuration;
  // An endpoint that was disabled by 410 is in use again once it is configured.
  return {
    uid: configurationUid,
    url: postWebhookUrl ?? "",
    filterTypes: filters,
    settings: { method, preWebhookUrl, target },
    disabled: false,
  };
}

/** Whether the configuration lets an event fire. */
export function fires(configuration: Configuration, eventType: string): boolean {
  return configuration.filters?.includes(eventType) ?? false;
}

/** A parameter that cannot be taken, with Twilio's nearest error code (https://www.twilio.com/docs/api/errors). */
interface ParameterProblem {
  readonly code: number;
  readonly message: string;
}

/** What a form asks to change; what it does not name stays as it is. */
export interface ConfigurationUpdate {
  readonly changes: Partial<Configuration>;
  readonly problems: readonly ParameterProblem[];
}

/**
 * Reads the form of an update. Names that Twilio does not have are passed over. Where Twilio is silent, this service's
 * defaults: an empty `PreWebhookUrl` or `PostWebhookUrl` clears it; a single empty `Filters` clears the list, and then
 * nothing fires; an empty `Method` or `Target` takes the default back; repeated filters count once; a wrong method is
 * 50055, a wrong target 50364, an unknown filter 50365, a wrong URL 11100.
 *
 * @param httpsOnly whether other URLs are refused
 */
export function parseUpdate(form: URLSearchParams, httpsOnly: boolean): ConfigurationUpdate {
  const changes: { -readonly [Name in keyof Configuration]?: Configuration[Name] } = {};
  const problems: ParameterProblem[] = [];

  const method = form.get("Method")?.toUpperCase();
  if (method === "") changes.method = freshConfiguration.method;
  else if (method === "GET" || method === "POST") changes.method = method;
  else if (method !== undefined) {
    problems.push({ code: 50055, message: "Invalid webhook method: use GET or POST." });
  }

  const target = form.get("Target");
  if (target === "") changes.target = freshConfiguration.target;
  else if (target === "webhook" || target === "flex") changes.target = target;
  else if (target !== null) {
    problems.push({ code: 50364, message: "Invalid webhook target: use webhook or flex." });
  }

  if (form.has("Filters")) {
    const filters = [...new Set(form.getAll("Filters"))];
    changes.filters = filters.length === 1 && filters[0] === "" ? [] : filters;
    for (const filter of changes.filters) {
      if (!filterNames.includes(filter)) {
        problems.push({
          code: 50365,
          message: `Invalid webhook filter: ${unknownName("a Conversations event", filter, filterNames)}`,
        });
      }
    }
  }

  for (const [name, property] of [
    ["PreWebhookUrl", "preWebhookUrl"],
    ["PostWebhookUrl", "postWebhookUrl"],
  ] as const) {
    const url = form.get(name);
    if (url === null) continue;
    changes[property] = url === "" ? null : url;
    if (url !== "" && !isDeliverableUrl(url)) {
      problems.push({
        code: 11100,
        message: `Invalid URL format: ${name} must be absolute, with http or https, such as https://example.com/hooks.`,
      });
    } else if (httpsOnly && url !== "" && !isHttpsUrl(url)) {
      problems.push({
        code: 11100,
        message: `Invalid URL format: ${name} must begin with https://, this service sends to no other.`,
      });
    }
  }
  return { changes, problems };
}
