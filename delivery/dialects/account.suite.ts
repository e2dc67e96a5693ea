import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fastify from "fastify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Application } from "../core/application.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { newId } from "../core/ids.ts";
import { defaultOrganizationId } from "../core/organization.ts";
import { emptyPolicy } from "../core/policy.ts";
import { standardDeliveryOptions } from "../core/standard-delivery.ts";
import { ServiceError } from "../errors.ts";
import { openSqliteStore } from "../store/sqlite-store.ts";
import type { Store } from "../store/store.ts";
import { silentNotices } from "../worker/notices.ts";
import type { NewEvent, Publisher } from "../worker/publisher.ts";
import type { VendorAccount } from "./account.ts";

const maxBodyBytes = 64 * 1024;

/** A vendor account that listens on a free port, on a store of its own. */
export interface RunningAccount {
  /** The account's address with its prefix. */
  readonly url: string;
  readonly store: Store;
  /** What its routes have published. */
  readonly published: readonly NewEvent[];
  endpoints(): Promise<Endpoint[]>;
  close(): Promise<void>;
}

/**
 * @param options.failure what its store answers everything with
 * @param options.httpsOnly it takes `https` URLs alone
 */
export async function runAccount<Credentials>(
  account: VendorAccount<Credentials>,
  credentials: Credentials,
  options: { failure?: Error; httpsOnly?: boolean } = {},
): Promise<RunningAccount> {
  const dataDir = await mkdtemp(join(tmpdir(), "hookplane-account-"));
  const store = await openSqliteStore(dataDir);
  const now = Date.now();
  const application: Application = {
    id: newId("app", now),
    organizationId: defaultOrganizationId,
    uid: account.name,
    name: account.title,
    dialect: account.name,
    throttleRate: null,
    policy: emptyPolicy,
    metadata: {},
    createdAt: now,
    updatedAt: now,
  };
  await store.write((tx) => tx.applications.insert(application));

  const published: NewEvent[] = [];
  const publisher: Publisher = {
    publish: async (to, event) => {
      published.push(event);
      return {
        id: newId("msg", now),
        applicationId: to.id,
        eventType: event.eventType,
        eventId: null,
        channels: null,
        tags: [],
        orderingKey: null,
        payload: event.payload,
        payloadExpiresAt: null,
        createdAt: now,
      };
    },
    publishWithin: async () => {
      throw new Error("no vendor's route does this");
    },
    hook: async () => ({ publish: true, changes: {}, reason: "" }),
    resend: async () => undefined,
  };

  let address = "";
  const server = fastify({ bodyLimit: maxBodyBytes });
  await server.register(
    async (instance) => {
      account.registerRoutes(instance, {
        application,
        credentials,
        store: options.failure === undefined ? store : createBrokenStore(options.failure),
        publisher,
        notices: silentNotices,
        httpsOnly: options.httpsOnly ?? false,
        publicUrl: () => address,
        now: () => Date.now(),
      });
    },
    { prefix: account.prefix },
  );
  await server.listen({ port: 0, host: "127.0.0.1" });
  address = `http://127.0.0.1:${(server.server.address() as AddressInfo).port}`;

  return {
    url: address + account.prefix,
    store,
    published,
    endpoints: () => store.read((tx) => tx.endpoints.list(application.id)),
    async close() {
      await server.close();
      await store.close();
      await rm(dataDir, { recursive: true });
    },
  };
}

function createBrokenStore(failure: Error): Store {
  const breakDown = () => Promise.reject(failure);
  return {
    read: breakDown,
    write: breakDown,
    accept: breakDown,
    settle: breakDown,
    claim: breakDown,
    onChange: () => undefined,
    now: breakDown,
    sizeBytes: breakDown,
    ping: breakDown,
    close: breakDown,
  };
}

/** What the suite needs to know about an account. */
export interface AccountCase<Credentials> {
  readonly account: VendorAccount<Credentials>;
  /** A route with a body, without the prefix. */
  readonly route: { readonly method: string; readonly path: string; readonly contentType: string };
  /** The headers that authenticate a request. */
  authenticate(credentials: Credentials): Record<string, string>;
  /** The vendor's error body for a status. */
  errorBody(status: number): unknown;
}

/** The contract of every vendor account. */
export function describeAccount<Credentials>(given: AccountCase<Credentials>): void {
  const { account, route } = given;
  const credentials = account.generateCredentials();
  let running: RunningAccount;

  beforeAll(async () => {
    running = await runAccount(account, credentials);
  });
  afterAll(() => running.close());

  function send(path: string, headers: Record<string, string>, body = "") {
    return fetch(running.url + path, {
      method: route.method,
      headers: { "content-type": route.contentType, ...headers },
      body,
    });
  }

  describe(`every account: ${account.name}`, () => {
    test("makes credentials that it accepts, others each time", () => {
      expect(account.credentials.parse(credentials)).toEqual(credentials);
      expect(account.generateCredentials()).not.toEqual(credentials);
    });

    test("has a dialect of its name", () => {
      expect(account.createDialect(credentials, standardDeliveryOptions).name).toBe(account.name);
    });

    test.each(["route", "/nowhere"])("refuses a request without credentials, also for %s", async (path) => {
      const answer = await send(path === "route" ? route.path : path, {});
      expect(answer.status).toBe(401);
      expect(await answer.json()).toEqual(given.errorBody(401));
    });

    test("refuses another account's credentials", async () => {
      const answer = await send(route.path, given.authenticate(account.generateCredentials()));
      expect(answer.status).toBe(401);
      const text = await answer.text();
      for (const secret of Object.values(credentials as Record<string, string>))
        expect(text).not.toContain(secret);
    });

    test("does not know another path", async () => {
      const answer = await send("/nowhere", given.authenticate(credentials));
      expect(answer.status).toBe(404);
      expect(await answer.json()).toEqual(given.errorBody(404));
    });

    test("refuses a body that is too large", async () => {
      const answer = await send(route.path, given.authenticate(credentials), "x".repeat(maxBodyBytes + 1));
      expect(answer.status).toBe(413);
      expect(await answer.json()).toEqual(given.errorBody(413));
    });

    test("refuses a body of another type", async () => {
      const headers = { ...given.authenticate(credentials), "content-type": "text/csv" };
      const answer = await send(route.path, headers, "a,b");
      expect(answer.status).toBe(415);
      expect(await answer.json()).toEqual(given.errorBody(415));
    });

    test("says nothing of what broke inside", async () => {
      const failure = new Error("no space left at /var/lib/somewhere");
      const broken = await runAccount(account, credentials, { failure });
      const answer = await fetch(broken.url + route.path, { headers: given.authenticate(credentials) });
      expect(answer.status).toBe(500);
      expect(await answer.json()).toEqual(given.errorBody(500));
      await broken.close();
    });

    test("says when to come back after an outage", async () => {
      const failure = new ServiceError("unavailable", "The database is away.", { retryAfterSeconds: 7 });
      const away = await runAccount(account, credentials, { failure });
      const answer = await fetch(away.url + route.path, { headers: given.authenticate(credentials) });
      expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "7"]);
      expect(await answer.json()).toEqual(given.errorBody(503));
      await away.close();
    });
  });
}
