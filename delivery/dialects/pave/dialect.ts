import { equalInConstantTime } from "../../core/constant-time.ts";
import type { Dialect } from "../../core/dialect.ts";
import type { Endpoint } from "../../core/endpoint.ts";
import type { FullMessage } from "../../core/message.ts";
import { unknownName } from "../../core/nearest.ts";
import { isJsonObject, parsePayload, payloadProblems, type JsonObject } from "../../core/payload.ts";
import { listensTo } from "../../core/selection.ts";
import { standardRetryDelaysMs } from "../../core/standard-webhooks.ts";
import { toTarget, withQuery } from "../../core/target.ts";
import { judgeAnswer } from "../../core/verdict.ts";
import { toWireHeaders } from "../../core/wire-headers.ts";
import { defaultPayload, paveEvents } from "./events.ts";

/** What a callback keeps besides its URL, headers and event: its endpoint's `settings`. */
export interface CallbackSettings {
  readonly method: "GET" | "POST";
  /** Attributes that go along with every event. */
  readonly payload: JsonObject;
}

export function settingsOf(endpoint: Endpoint): CallbackSettings {
  const { method, payload } = endpoint.settings;
  return { method: method === "GET" ? "GET" : "POST", payload: isJsonObject(payload) ? payload : {} };
}

/**
 * How PAVE delivers: the callback's headers on the request, and its payload merged into the event's, at the top level
 * (https://docs.paveapi.com/integrations/developer-docs/callbacks). Nothing is signed: the callback's headers are the
 * only proof of the sender.
 *
 * PAVE does not document the rest. Defaults of this service: where a key is in both, the event's own value wins; the
 * body is `application/json`; with method GET there is no body, and the strings, numbers and booleans of the same object
 * are added to the query string; the retries are Standard Webhooks' example schedule with 15 seconds for an answer, unless
 * the operator decides otherwise; 410 disables the callback until it is set again.
 */
export const paveDialect: Dialect = {
  name: "pave",
  eventTypes: paveEvents,
  retryDelaysMs: standardRetryDelaysMs,
  jitter: 0.2,
  timeoutMs: 15_000,
  problemsOf(eventType, payload) {
    return [
      ...(paveEvents.includes(eventType) ? [] : [unknownName("a PAVE event", eventType, paveEvents)]),
      ...payloadProblems(payload),
    ];
  },
  selects: listensTo,
  encode({ endpoint, message }) {
    const { method, payload } = settingsOf(endpoint);
    const { url, headers } = addressOf(endpoint);
    const additions = { ...payload, ...defaultPayload(message.eventType) };
    if (method === "GET") {
      const query = toQuery({ ...additions, ...parsePayload(message.payload) });
      return { method, url: withQuery(url, query).href, headers, body: null };
    }
    return {
      method,
      url: url.href,
      headers: { "content-type": "application/json", ...headers },
      body: withAdditions(message, additions),
    };
  },
  judge: judgeAnswer,
  verify(request, endpoint) {
    const configured = Object.entries(addressOf(endpoint).headers);
    if (configured.length === 0) return { verified: false, reason: "no credentials configured" };
    const wrong = configured
      .filter(([name, value]) => !equalInConstantTime(request.headers[name] ?? "", value))
      .map(([name]) => name);
    return wrong.length === 0
      ? { verified: true, by: "credentials" }
      : { verified: false, reason: `missing or wrong headers: ${wrong.join(", ")}` };
  },
};

/** Where a callback's requests go, and the credentials they carry: its headers, and its URL's userinfo. */
function addressOf(endpoint: Endpoint) {
  const { url, headers } = toTarget(endpoint.url);
  return { url, headers: { ...headers, ...toWireHeaders(endpoint.headers) } };
}

function toQuery(attributes: JsonObject): URLSearchParams {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && typeof value !== "object") query.append(name, String(value));
  }
  return query;
}

/** The event's JSON text, untouched but for the attributes added at its end. */
function withAdditions(message: FullMessage, additions: JsonObject): Uint8Array {
  if (Object.keys(additions).length === 0) return message.payload;
  const own = parsePayload(message.payload);
  const missing = Object.fromEntries(Object.entries(additions).filter(([name]) => !Object.hasOwn(own, name)));
  if (Object.keys(missing).length === 0) return message.payload;
  const head = message.payload.subarray(0, message.payload.lastIndexOf("}".charCodeAt(0)));
  const separator = Object.keys(own).length === 0 ? "" : ",";
  return Buffer.concat([head, Buffer.from(separator + JSON.stringify(missing).slice(1))]);
}
