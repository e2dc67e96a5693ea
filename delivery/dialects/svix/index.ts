import type { Dialect } from "../../core/dialect.ts";
import { payloadProblems } from "../../core/payload.ts";
import { listensTo } from "../../core/selection.ts";
import {
  signatureHeaders,
  standardRetryDelaysMs,
  verifySignedRequest,
} from "../../core/standard-webhooks.ts";
import { toTarget } from "../../core/target.ts";
import { judgeAnswer } from "../../core/verdict.ts";
import { toWireHeaders } from "../../core/wire-headers.ts";

/** Svix's own rule for the names of event types. */
const eventTypePattern = /^[a-zA-Z0-9\-_.]{1,256}$/;

/**
 * How applications of the Svix-compatible API deliver: the payload's bytes as published, signed by Standard Webhooks in
 * both header families, ten attempts within 75.6 hours, 15 seconds each
 * (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
 */
export const svixDialect: Dialect = {
  name: "svix",
  eventTypes: [],
  retryDelaysMs: standardRetryDelaysMs,
  jitter: 0.2,
  timeoutMs: 15_000,
  problemsOf(eventType, payload) {
    const nameProblems = eventTypePattern.test(eventType)
      ? []
      : [
          `The event type "${eventType.slice(0, 100)}" must be 1 to 256 letters, digits, hyphens, underscores or dots.`,
        ];
    return [...nameProblems, ...payloadProblems(payload)];
  },
  selects: listensTo,
  encode({ endpoint, message, now }) {
    const target = toTarget(endpoint.url);
    return {
      method: "POST",
      url: target.url.href,
      headers: {
        "content-type": "application/json",
        ...target.headers,
        ...toWireHeaders(endpoint.headers),
        ...signatureHeaders(message.id, message.payload, endpoint.secrets, now),
      },
      body: message.payload,
    };
  },
  judge: judgeAnswer,
  verify: (request, endpoint, now) => verifySignedRequest(request, endpoint.secrets, now),
};
