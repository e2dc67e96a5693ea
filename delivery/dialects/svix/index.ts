import type { Dialect } from "../../core/dialect.ts";
import { payloadProblems } from "../../core/payload.ts";
import { listensTo } from "../../core/selection.ts";
import {
  createStandardDelivery,
  encodeSigned,
  standardDeliveryOptions,
  type DeliveryOptions,
} from "../../core/standard-delivery.ts";

/** Svix's own rule for the names of event types. */
const eventTypePattern = /^[a-zA-Z0-9\-_.]{1,256}$/;

/**
 * How applications of the Svix-compatible API deliver: the payload's bytes as published, signed and tried again as
 * Standard Webhooks say, unless the operator has decided otherwise.
 */
export function createSvixDialect(options: DeliveryOptions = standardDeliveryOptions): Dialect {
  return {
    ...createStandardDelivery(options),
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
    encode: (input) => encodeSigned(input, input.message.payload, options.signatureHeaders),
  };
}
