import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Application } from "../core/application.ts";
import type { Attempt } from "../core/delivery.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { createIds, firstIdAt } from "../core/ids.ts";
import type { Message } from "../core/message.ts";
import { defaultOrganizationId } from "../core/organization.ts";
import { emptyPolicy } from "../core/policy.ts";
import { startPostgres, type PostgresServer } from "./postgres-server.suite.ts";
import { openPostgresStore } from "./postgres-store.ts";
import { openSqliteStore, sqlitePathOf } from "./sqlite-store.ts";
import type { NewDelivery, Store, Tx } from "./store.ts";

/** A store of the test's own, in a database of its own. */
export interface TestStore extends AsyncDisposable {
  readonly store: Store;
  /** Runs a statement beside the store, by a connection of its own. */
  query(text: string): Promise<readonly Record<string, unknown>[]>;
  /** The payload `{}` as the database writes it. */
  readonly emptyPayload: string;
}

/** A kind of database, and how to open an empty one. */
export interface TestDatabase {
  readonly name: string;
  open(): Promise<TestStore>;
  /** Ends what the first `open()` has started. */
  close(): Promise<void>;
}

const sqlite: TestDatabase = {
  name: "SQLite",
  async open() {
    const folder = mkdtempSync(join(tmpdir(), "hookplane-scene-"));
    const store = await openSqliteStore(folder);
    const database = new DatabaseSync(sqlitePathOf(folder), { timeout: 10_000 });
    return {
      store,
      emptyPayload: "x'7b7d'",
      query: async (text) => database.prepare(text).all(),
      async [Symbol.asyncDispose]() {
        database.close();
        await store.close();
        rmSync(folder, { recursive: true });
      },
    };
  },
  close: async () => undefined,
};

let server: Promise<PostgresServer> | undefined;
const postgres: TestDatabase = {
  name: "PostgreSQL",
  async open() {
    server ??= startPostgres();
    const running = await server;
    const folder = mkdtempSync(join(tmpdir(), "hookplane-scene-"));
    const url = await running.createDatabase();
    const store = await openPostgresStore({ url, masterKeyFile: join(folder, "master.key") });
    return {
      store,
      emptyPayload: String.raw`'\x7b7d'::bytea`,
      query: (text) => running.query(text, url),
      async [Symbol.asyncDispose]() {
        await store.close();
        rmSync(folder, { recursive: true });
      },
    };
  },
  async close() {
    const started = server;
    server = undefined;
    await (await started)?.close();
  },
};

/** Every database that the service runs on. */
export const testDatabases: readonly TestDatabase[] = [sqlite, postgres];

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

/**
 * Puts in messages that an endpoint had, in the order of their ids, beside the store: through it, it would take a while.
 *
 * @param given `state` of the deliveries, all of one attempt; `from` is when the first one was made, and each further one a
 * millisecond later
 */
export async function fill(
  { query, emptyPayload }: Pick<TestStore, "query" | "emptyPayload">,
  endpoint: Pick<Endpoint, "id" | "applicationId">,
  count: number,
  { state = "succeeded", from = sceneTime }: { state?: "succeeded" | "failed"; from?: number } = {},
): Promise<void> {
  const numbers = `with recursive numbers (n) as (select 0 union all select n + 1 from numbers where n < ${count - 1})`;
  const id = (prefix: string): string => `'${firstIdAt(prefix, from)}' || cast(1000000000000000 + n as text)`;
  const { id: endpointId, applicationId } = endpoint;
  await query(
    `insert into messages (id, application_id, event_type, tags, payload, created_at)
     ${numbers} select ${id("msg")}, '${applicationId}', 'order.paid', '[]', ${emptyPayload}, ${from} + n from numbers`,
  );
  await query(
    `insert into deliveries (message_id, endpoint_id, application_id, state, attempts, leased_by, trigger_type)
     ${numbers} select ${id("msg")}, '${endpointId}', '${applicationId}', '${state}', 1, 0, 'scheduled' from numbers`,
  );
  await query(
    `insert into attempts (id, message_id, endpoint_id, application_id, url, succeeded, response_status_code, response,
       duration_ms, trigger_type, started_at)
     ${numbers} select ${id("atmpt")}, ${id("msg")}, '${endpointId}', '${applicationId}', 'https://example.com/hook',
       ${state === "succeeded" ? 1 : 0}, ${state === "succeeded" ? 200 : 503}, 'thanks', 12, 'scheduled', ${from} + n
     from numbers`,
  );
}
