import type { Dialect, EncodeInput, OutgoingRequest } from "./dialect.ts";
import type { Endpoint } from "./endpoint.ts";
import {
  isSignatureHeader,
  signatureHeaders,
  standardRetryDelaysMs,
  verifySignedRequest,
  type SignatureFamily,
} from "./standard-webhooks.ts";
import { toTarget } from "./target.ts";
import { judgeAnswer } from "./verdict.ts";
import { toWireHeaders } from "./wire-headers.ts";

/** What an operator decides of deliveries where the vendor's documentation leaves it open. */
export interface DeliveryOptions {
  /** Waits between attempts, in milliseconds: n waits make n + 1 attempts. */
  readonly retryDelaysMs: readonly number[];
  /** How long an answer may take in all. */
  readonly timeoutMs: number;
  /** The names under which a Standard Webhooks signature is sent. */
  readonly signatureHeaders: SignatureFamily;
}

/**
 * As Standard Webhooks say: ten attempts within 75.6 hours, 15 seconds each
 * (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md); signed under both names.
 */
export const standardDeliveryOptions: DeliveryOptions = {
  retryDelaysMs: standardRetryDelaysMs,
  timeoutMs: 15_000,
  signatureHeaders: "both",
};

/** What all dialects share that deliver as Standard Webhooks say, verified by the signature. */
export function createStandardDelivery({ retryDelaysMs, timeoutMs }: DeliveryOptions) {
  return {
    retryDelaysMs,
    jitter: 0.2,
    timeoutMs,
    judge: judgeAnswer,
    verify: (request, endpoint, now) => verifySignedRequest(request, endpoint.secrets, now),
  } satisfies Partial<Dialect>;
}

/** A POST of JSON bytes, signed; the endpoint's own headers cannot replace the signature's. */
export function encodeSigned(
  { endpoint, message, now }: EncodeInput,
  body: Uint8Array,
  family: SignatureFamily,
): OutgoingRequest {
  const { url, headers } = addressOf(endpoint);
  return {
    method: "POST",
    url,
    headers: { ...headers, ...signatureHeaders(message.id, body, endpoint.secrets, now, family) },
    body,
  };
}

/** What is the same for every request to an endpoint. */
interface Address {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Taking a URL apart costs as much as signing, and endpoints are read once for many messages. */
const addresses = new WeakMap<Endpoint, Address>();

function addressOf(endpoint: Endpoint): Address {
  const known = addresses.get(endpoint);
  if (known !== undefined) return known;
  const target = toTarget(endpoint.url);
  const own = Object.entries(toWireHeaders(endpoint.headers)).filter(([name]) => !isSignatureHeader(name));
  const address = {
    url: target.url.href,
    headers: { "content-type": "application/json", ...target.headers, ...Object.fromEntries(own) },
  };
  addresses.set(endpoint, address);
  return address;
}
