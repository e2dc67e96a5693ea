import { derivedUuid } from "../../core/derived-uuid.ts";
import type { Dialect } from "../../core/dialect.ts";
import type { FullMessage } from "../../core/message.ts";
import { unknownName } from "../../core/nearest.ts";
import { payloadProblems } from "../../core/payload.ts";
import { listensTo } from "../../core/selection.ts";
import { createStandardDelivery, encodeSigned, type DeliveryOptions } from "../../core/standard-delivery.ts";
import { caseyEvents, testEvent } from "./events.ts";

/** Casey's account: its API key, sent as a Bearer token. */
export interface CaseyCredentials {
  /** `sk_live_…` or `sk_test_…`. */
  readonly apiKey: string;
}

/**
 * How Casey delivers: the published payload as `data` of Casey's envelope
 * (https://developers.tellcasey.com/docs/api/reference/webhook-events).
 *
 * Casey documents neither signature nor retries. Defaults of this service: Standard Webhooks signatures, retries and time
 * limit, as the operator has decided them; 410 disables the endpoint; `event_id` is the
 * publisher's `eventId`, else the message's id; `organization_id` is a UUID derived from the API key.
 */
export function createCaseyDialect(credentials: CaseyCredentials, options: DeliveryOptions): Dialect {
  const organizationId = derivedUuid(`casey organization ${credentials.apiKey}`);
  return {
    ...createStandardDelivery(options),
    name: "casey",
    eventTypes: caseyEvents,
    problemsOf(eventType, payload) {
      const known: readonly string[] = caseyEvents;
      return [
        ...(known.includes(eventType) ? [] : [unknownName("a Casey event", eventType, known)]),
        ...payloadProblems(payload),
      ];
    },
    selects: (endpoint, message) => message.eventType === testEvent || listensTo(endpoint, message),
    encode: (input) =>
      encodeSigned(input, toEnvelope(input.message, organizationId), options.signatureHeaders),
  };
}

/** The envelope around the payload's bytes, which stay as they were published. */
function toEnvelope(message: FullMessage, organizationId: string): Uint8Array {
  const head = JSON.stringify({
    event_type: message.eventType,
    event_id: message.eventId ?? message.id,
    timestamp: new Date(message.createdAt).toISOString(),
    organization_id: organizationId,
  });
  return Buffer.concat([Buffer.from(`${head.slice(0, -1)},"data":`), message.payload, Buffer.from("}")]);
}
