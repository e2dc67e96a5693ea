import type { Application } from "../core/application.ts";
import type { Attempt } from "../core/delivery.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { Message } from "../core/message.ts";
import type { Tx } from "../store/store.ts";

/** What became of an endpoint. One that is disabled or enabled by hand was updated too. */
type EndpointChange = "created" | "updated" | "deleted" | "disabled" | "enabled";

/** Why an endpoint was disabled: by somebody's hand, or by the service after it had failed since then. */
type DisabledBy =
  { readonly trigger: "manual" } | { readonly trigger: "automatic"; readonly failingSince: number };

/**
 * What became of a message on its way to an endpoint: its fourth attempt has failed and others follow; its last one has
 * failed; or one has succeeded after that had been told.
 */
export type AttemptNotice = "failing" | "exhausted" | "recovered";

/**
 * Tells an organization what happens to its endpoints and deliveries, within the transaction in which it happens. Where
 * nobody listens, nothing is written.
 */
export interface Notices {
  /** The endpoint as it is now; as it was, when it is deleted. */
  endpointChanged(
    tx: Tx,
    application: Application,
    endpoint: Endpoint,
    change: EndpointChange,
    by?: DisabledBy,
  ): Promise<void>;
  /** `attempt` is the one that decided it. */
  attempt(
    tx: Tx,
    application: Application,
    message: Message,
    endpoint: Endpoint,
    attempt: Attempt,
    kind: AttemptNotice,
  ): Promise<void>;
  /** Whether anybody in the organization listens at all: from memory, at most a second old. */
  isWanted(organizationId: string): Promise<boolean>;
}

/** Tells nobody. */
export const silentNotices: Notices = {
  endpointChanged: async () => undefined,
  attempt: async () => undefined,
  isWanted: async () => false,
};
