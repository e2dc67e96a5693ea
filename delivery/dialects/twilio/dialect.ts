import { derivedUuid } from "../../core/derived-uuid.ts";
import type {
  BlockingDialect,
  EncodeInput,
  OutgoingRequest,
  ReceivedRequest,
  Verification,
} from "../../core/dialect.ts";
import type { Endpoint } from "../../core/endpoint.ts";
import { unknownName } from "../../core/nearest.ts";
import { payloadProblems } from "../../core/payload.ts";
import { toTarget, withQuery } from "../../core/target.ts";
import { judgeAnswer } from "../../core/verdict.ts";
import { toWireHeaders } from "../../core/wire-headers.ts";
import { configurationUid, fires, toConfiguration } from "./configuration.ts";
import { isPostEvent, isPreEvent, twilioEvents } from "./events.ts";
import { judgeHookAnswer } from "./hook.ts";
import { toParameters } from "./parameters.ts";
import { isBodyHashRight, isSignatureRight, toSignature, toSignedUrl } from "./signature.ts";

/** Twilio's account. */
export interface TwilioCredentials {
  /** `AC` and 32 hex digits. */
  readonly accountSid: string;
  /** Also the key of every signature. */
  readonly authToken: string;
}

/** Statuses after which Twilio tries again, where retries are on (as documented for Chat's services). */
const retriedStatuses = new Set([429, 503, 504]);

/** The longest wait for any Conversations webhook, as documented. */
const timeoutMs = 5_000;

/**
 * How Twilio Conversations delivers: form-encoded to the post-event URL, or as a query string with method GET, and signed
 * with `X-Twilio-Signature` (https://www.twilio.com/docs/conversations/conversations-webhooks).
 *
 * Where Twilio is silent, this service's defaults: no retries, as the sibling Chat service has it; every event fires
 * until filters are set; 410 disables the endpoint until it is configured again. Connection overrides (a URL's fragment,
 * such as `#rc=2`) are neither sent, signed nor followed: Twilio does not say whether Conversations does.
 *
 * Pre-events are never delivered: they are asked through `encodeHook`.
 */
export function createTwilioDialect({ accountSid, authToken }: TwilioCredentials): BlockingDialect {
  return {
    name: "twilio",
    eventTypes: twilioEvents,
    retryDelaysMs: [],
    jitter: 0,
    timeoutMs,
    hookTimeoutMs: timeoutMs,
    problemsOf(eventType, payload) {
      const isKnown = twilioEvents.includes(eventType);
      return [
        ...(isKnown ? [] : [unknownName("a Twilio Conversations event", eventType, twilioEvents)]),
        ...payloadProblems(payload),
      ];
    },
    selects: (endpoint, { eventType }) => isPostEvent(eventType) && urlFor(endpoint, eventType) !== null,
    encode: (input) => encodeFor(input.endpoint.url, input),
    judge(answer) {
      const verdict = judgeAnswer(answer);
      const isFinal = answer.kind === "response" && !retriedStatuses.has(answer.status);
      return verdict.kind === "retry" && isFinal ? { kind: "failed" } : verdict;
    },
    verify: (request) => verifyRequest(request, authToken),
    encodeHook(input) {
      const { endpoint, message } = input;
      const url = isPreEvent(message.eventType) ? urlFor(endpoint, message.eventType) : null;
      return url === null ? null : encodeFor(url, input);
    },
    judgeHook: judgeHookAnswer,
  };

  function encodeFor(endpointUrl: string, input: EncodeInput): OutgoingRequest {
    const { method } = toConfiguration(input.endpoint);
    const target = toTarget(endpointUrl);
    const parameters = toParameters(input, accountSid);
    const url = method === "GET" ? withQuery(target.url, parameters) : target.url;
    const signed = method === "GET" ? new URLSearchParams() : parameters;
    return {
      method,
      url: url.href,
      headers: {
        accept: "*/*",
        "user-agent": "TwilioProxy/1.1",
        ...target.headers,
        ...toWireHeaders(input.endpoint.headers),
        ...(method === "POST" && { "content-type": "application/x-www-form-urlencoded; charset=utf-8" }),
        "i-twilio-idempotency-token": derivedUuid(`twilio event ${input.message.id}`),
        "x-twilio-signature": toSignature(authToken, toSignedUrl(url), signed),
      },
      body: method === "GET" ? null : Buffer.from(parameters.toString()),
    };
  }
}

/** Where the configuration sends an event; null when it does not. */
function urlFor(endpoint: Endpoint, eventType: string): string | null {
  if (endpoint.uid !== configurationUid) return null;
  const configuration = toConfiguration(endpoint);
  if (!fires(configuration, eventType)) return null;
  return isPreEvent(eventType) ? configuration.preWebhookUrl : configuration.postWebhookUrl;
}

function verifyRequest(request: ReceivedRequest, authToken: string): Verification {
  const refusal = (reason: string): Verification => ({ verified: false, reason });
  const signature = request.headers["x-twilio-signature"];
  if (signature === undefined || signature === "") return refusal("the header X-Twilio-Signature is missing");
  const hasBodyHash = request.url.includes("bodySHA256");
  const isForm = /^application\/x-www-form-urlencoded\b/i.test(request.headers["content-type"] ?? "");
  if (hasBodyHash && !isBodyHashRight(request.url, request.body)) {
    return refusal("bodySHA256 is not the body's hash");
  }
  if (!hasBodyHash && !isForm && request.body.length > 0) {
    return refusal("the body is not a form, and not signed");
  }
  const parameters = new URLSearchParams(hasBodyHash ? "" : new TextDecoder().decode(request.body));
  return isSignatureRight(authToken, signature, request.url, parameters)
    ? { verified: true, by: "signature" }
    : refusal("X-Twilio-Signature does not match the auth token, the URL and the parameters");
}
