import type { Dialect } from "../../core/dialect.ts";
import { payloadProblems } from "../../core/payload.ts";
import { listensTo } from "../../core/selection.ts";
import { encodeSigned, standardDelivery } from "../../core/standard-delivery.ts";

/** Svix's own rule for the names of event types. */
const eventTypePattern = /^[a-zA-Z0-9\-_.]{1,256}$/;

/**
 * How applications of the Svix-compatible API deliver: the payload's bytes as published, signed by Standard Webhooks in
 * both header families, ten attempts within 75.6 hours, 15 seconds each
 * (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
 */
export const svixDialect: Dialect = {
  ...standardDelivery,
  name: "svix",
  eventTypes: [],
  problemsOf(eventType, payload) {
    const nameProblems = eventTypePattern.test(eventType)
      ? []
      : [
          `The event type "${eventType.slice(0, 100)}" must be 1 to 256 letters, digits, hyphens, underscores or dots.`,
        ];
    return [...nameProblems, ...payloadProblems(payload)];
  },
  selects: listensTo,
  encode: (input) => encodeSigned(input, input.message.payload),
};
