import type { Application } from "../core/application.ts";
import type { Attempt } from "../core/delivery.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { newId } from "../core/ids.ts";
import type { Message } from "../core/message.ts";
import { emptyPolicy } from "../core/policy.ts";
import { listensTo } from "../core/selection.ts";
import type { Store, Tx } from "../store/store.ts";
import type { Directory } from "./directory.ts";
import type { Notices } from "./notices.ts";
import type { Publisher } from "./publisher.ts";

/** The `uid` of the application that an organization's operational events are published to. */
export const operationalUid = "operational";

/** How long it is taken for true that an organization has no such application. */
const missingMs = 1_000;

export interface OperationalEventsOptions {
  readonly store: Pick<Store, "onChange">;
  readonly directory: Pick<Directory, "findByName">;
  readonly publisher: Pick<Publisher, "publishWithin">;
  /** Milliseconds since any moment. */
  readonly clock?: () => number;
}

/**
 * Publishes what happens to an organization's endpoints and deliveries to an application of its own: whoever wants to
 * know adds an endpoint to that. The events are those of Svix's API, which calls them operational webhooks, and are
 * accepted in the very transaction of what they tell of. Nothing is told of that application itself.
 */
export function createOperationalEvents(options: OperationalEventsOptions): Notices {
  const { store, directory, publisher, clock = () => performance.now() } = options;
  /** Until when an organization is known to have none. */
  const missing = new Map<string, number>();
  store.onChange(({ applicationIds }) => {
    if (applicationIds.size > 0) missing.clear();
  });

  async function tell(tx: Tx, about: Application, eventType: string, data: object): Promise<void> {
    if (isOperational(about)) return;
    const application = await tx.applications.find(about.organizationId, operationalUid);
    if (application === undefined) return;
    const endpoints = await tx.endpoints.list(application.id);
    const isHeard = endpoints.some(
      (endpoint) => !endpoint.disabled && listensTo(endpoint, { eventType, channels: null }),
    );
    if (!isHeard) return;
    const json = { type: eventType, data: { appId: about.id, appUid: about.uid, ...data } };
    await publisher.publishWithin(tx, application, {
      eventType,
      payload: Buffer.from(JSON.stringify(json)),
      json,
    });
  }

  return {
    async endpointChanged(tx, application, endpoint, change, by) {
      await tell(tx, application, `endpoint.${change}`, {
        endpointId: endpoint.id,
        endpointUid: endpoint.uid,
        ...(by && {
          trigger: by.trigger,
          failSince: by.trigger === "automatic" ? isoTime(by.failingSince) : null,
        }),
      });
    },

    async attempt(tx, application, message, endpoint, attempt, kind) {
      await tell(tx, application, `message.attempt.${kind}`, toAttemptData(message, endpoint, attempt));
    },

    async isWanted(organizationId) {
      const missingUntil = missing.get(organizationId);
      if (missingUntil !== undefined && clock() < missingUntil) return false;
      const entry = await directory.findByName(organizationId, operationalUid);
      if (entry === undefined) {
        missing.set(organizationId, clock() + missingMs);
        return false;
      }
      for (const endpoint of entry.endpoints.values()) if (!endpoint.disabled) return true;
      return false;
    },
  };
}

/** Whether it is the application that operational events go to, of which nothing is told. */
function isOperational(application: Application): boolean {
  return application.uid === operationalUid;
}

/**
 * Makes the application for an organization's operational events, if it has none yet.
 *
 * @throws ConflictError when another node makes it at this moment
 */
export async function ensureOperational(tx: Tx, organizationId: string, now: number): Promise<void> {
  if (await tx.applications.find(organizationId, operationalUid)) return;
  await tx.applications.insert({
    id: newId("app", now),
    organizationId,
    uid: operationalUid,
    name: "Operational events",
    dialect: "svix",
    throttleRate: null,
    policy: emptyPolicy,
    metadata: {},
    createdAt: now,
    updatedAt: now,
  });
}

function toAttemptData(message: Message, endpoint: Endpoint, attempt: Attempt): object {
  return {
    msgId: message.id,
    msgEventId: message.eventId,
    endpointId: endpoint.id,
    lastAttempt: {
      id: attempt.id,
      responseStatusCode: attempt.responseStatusCode,
      timestamp: isoTime(attempt.startedAt),
    },
  };
}

function isoTime(time: number): string {
  return new Date(time).toISOString();
}
