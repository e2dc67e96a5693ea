import type { ClientTls } from "./client-tls.ts";
import type { Json } from "./json.ts";
import type { DeliveryPolicy } from "./policy.ts";

/** A key that signs deliveries; the first of an endpoint's list is the current one. */
export interface SigningSecret {
  /** `whsec_` and base64. */
  readonly key: string;
  /** When an old key stops signing, in milliseconds since the epoch; null for the current key. */
  readonly expiresAt: number | null;
}

/** Where an application's events go. A PAVE callback, a Casey webhook and Twilio's configuration are one each. */
export interface Endpoint {
  /** `ep_` and a time-ordered id. */
  readonly id: string;
  readonly applicationId: string;
  /** The caller's own name for it, unique in the application (for PAVE: the event). */
  readonly uid: string | null;
  /** Empty only where a vendor's object exists without an address (Twilio before its URLs are set). */
  readonly url: string;
  readonly description: string;
  /** The event types it gets; null for all. */
  readonly filterTypes: readonly string[] | null;
  /** The channels it listens to; null for all. */
  readonly channels: readonly string[] | null;
  /** Sent with every request. Secret: never in a log or an error. */
  readonly headers: Readonly<Record<string, string>>;
  readonly disabled: boolean;
  /** Deliveries per second; null for no limit. */
  readonly throttleRate: number | null;
  readonly policy: DeliveryPolicy;
  /** What the service shows and trusts on TLS connections to it; null for the usual. Secret. */
  readonly tls: ClientTls | null;
  readonly version: number;
  readonly metadata: Readonly<Record<string, string>>;
  /** What only its dialect understands (PAVE: method and payload; Twilio: its configuration). */
  readonly settings: Readonly<Record<string, Json>>;
  /** Current key first, then those that still sign until they expire. Empty where the dialect signs otherwise. */
  readonly secrets: readonly SigningSecret[];
  readonly createdAt: number;
  readonly updatedAt: number;
}
