import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Application } from "../core/application.ts";
import type { Attempt, Delivery } from "../core/delivery.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { createIds } from "../core/ids.ts";
import type { Message } from "../core/message.ts";
import { defaultOrganizationId } from "../core/organization.ts";
import { emptyPolicy } from "../core/policy.ts";
import { openSqliteStore } from "./sqlite-store.ts";
import type { NewDelivery, Store, Tx } from "./store.ts";

/** A store of the test's own. */
export interface TestStore extends AsyncDisposable {
  readonly store: Store;
}

export async function openTestStore(): Promise<TestStore & { readonly folder: string }> {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-scene-"));
  const store = await openSqliteStore(folder);
  return {
    store,
    folder,
    async [Symbol.asyncDispose]() {
      await store.close();
      rmSync(folder, { recursive: true });
    },
  };
}

/** The time that the rows of a scene are made at, unless they say otherwise. */
export const sceneTime = 1_800_000_000_000;

// Of their own, so that ids can be made for any time in any order.
const idAt = (prefix: string, time: number): string =>
  createIds((bytes) => crypto.getRandomValues(bytes))(prefix, time);

export function anApplication(given: Partial<Application> = {}): Application {
  return {
    id: idAt("app", sceneTime),
    organizationId: defaultOrganizationId,
    uid: null,
    name: "Shop",
    dialect: "svix",
    throttleRate: null,
    policy: emptyPolicy,
    metadata: {},
    createdAt: sceneTime,
    updatedAt: sceneTime,
    ...given,
  };
}

export function anEndpoint(application: Application, given: Partial<Endpoint> = {}): Endpoint {
  return {
    id: idAt("ep", sceneTime),
    applicationId: application.id,
    uid: null,
    url: "https://example.com/hook",
    description: "",
    filterTypes: null,
    channels: null,
    headers: {},
    disabled: false,
    throttleRate: null,
    policy: emptyPolicy,
    tls: null,
    version: 1,
    metadata: {},
    settings: {},
    secrets: [],
    createdAt: sceneTime,
    updatedAt: sceneTime,
    ...given,
  };
}

/** Its id is of the time that it is made at. */
export function aMessage(application: Application, given: Partial<Message> = {}): Message {
  const createdAt = given.createdAt ?? sceneTime;
  return {
    id: idAt("msg", createdAt),
    applicationId: application.id,
    eventType: "order.paid",
    eventId: null,
    channels: null,
    tags: [],
    orderingKey: null,
    payload: Buffer.from('{"amount":1}'),
    payloadExpiresAt: null,
    createdAt,
    ...given,
  };
}

/** Ended, unless it says otherwise. */
export function aDelivery(
  message: Message,
  endpoint: Endpoint,
  given: Partial<NewDelivery> = {},
): NewDelivery {
  return {
    messageId: message.id,
    endpointId: endpoint.id,
    applicationId: message.applicationId,
    state: "succeeded",
    attempts: 1,
    nextAttemptAt: null,
    leasedBy: null,
    trigger: "scheduled",
    order: null,
    ...given,
  };
}

export function anAttempt(message: Message, endpoint: Endpoint, given: Partial<Attempt> = {}): Attempt {
  return {
    id: idAt("atmpt", message.createdAt),
    messageId: message.id,
    endpointId: endpoint.id,
    applicationId: message.applicationId,
    url: endpoint.url,
    succeeded: true,
    responseStatusCode: 200,
    response: "thanks",
    durationMs: 12,
    trigger: "scheduled",
    startedAt: message.createdAt,
    ...given,
  };
}

/** Stores a message that has been to an endpoint. */
export async function insertDelivered(
  tx: Tx,
  message: Message,
  endpoint: Endpoint,
  given: Partial<NewDelivery> = {},
  attempt: Partial<Attempt> = {},
): Promise<void> {
  await tx.messages.insert(message);
  await tx.deliveries.insert([aDelivery(message, endpoint, given)]);
  const succeeded = given.state !== "failed";
  await tx.attempts.insert([
    anAttempt(message, endpoint, { succeeded, responseStatusCode: succeeded ? 200 : 503, ...attempt }),
  ]);
}

/** An endpoint's deliveries, in the order of their messages. */
export async function deliveriesOf(store: Store, endpoint: Endpoint): Promise<readonly Delivery[]> {
  const due = await store.read((tx) =>
    tx.deliveries.listByEndpoint(endpoint.id, { applicationId: endpoint.applicationId }, { limit: 100_000 }),
  );
  return due.map(({ delivery }) => delivery);
}
