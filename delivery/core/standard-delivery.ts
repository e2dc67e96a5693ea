import type { Dialect, EncodeInput, OutgoingRequest } from "./dialect.ts";
import { signatureHeaders, standardRetryDelaysMs, verifySignedRequest } from "./standard-webhooks.ts";
import { toTarget } from "./target.ts";
import { judgeAnswer } from "./verdict.ts";
import { toWireHeaders } from "./wire-headers.ts";

/**
 * What all dialects share that deliver as Standard Webhooks say: ten attempts within 75.6 hours, 15 seconds each, verified
 * by the signature (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
 */
export const standardDelivery = {
  retryDelaysMs: standardRetryDelaysMs,
  jitter: 0.2,
  timeoutMs: 15_000,
  judge: judgeAnswer,
  verify: (request, endpoint, now) => verifySignedRequest(request, endpoint.secrets, now),
} satisfies Partial<Dialect>;

/** A POST of JSON bytes, signed in both header families; the endpoint's own headers cannot replace the signature's. */
export function encodeSigned({ endpoint, message, now }: EncodeInput, body: Uint8Array): OutgoingRequest {
  const target = toTarget(endpoint.url);
  return {
    method: "POST",
    url: target.url.href,
    headers: {
      "content-type": "application/json",
      ...target.headers,
      ...toWireHeaders(endpoint.headers),
      ...signatureHeaders(message.id, body, endpoint.secrets, now),
    },
    body,
  };
}
