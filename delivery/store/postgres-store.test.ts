import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { startPostgres, type PostgresServer } from "./postgres-server.suite.ts";
import { openPostgresStore, type PostgresOptions } from "./postgres-store.ts";
import { describeResealing } from "./resealing.suite.ts";
import { anApplication, anEndpoint, aMessage } from "./scene.suite.ts";
import { describeStore } from "./store.suite.ts";
import type { Store } from "./store.ts";
import { describeTokens } from "./tokens.suite.ts";

let server: PostgresServer;
let folder: string;
beforeAll(async () => {
  server = await startPostgres();
  folder = mkdtempSync(join(tmpdir(), "hookplane-postgres-store-"));
}, 120_000);
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function open(given: Partial<PostgresOptions> = {}): Promise<Store> {
  const store = await openPostgresStore({
    url: given.url ?? (await server.createDatabase()),
    masterKeyFile: join(folder, "master.key"),
    ...given,
  });
  cleanups.push(() => store.close());
  return store;
}

describeStore("PostgreSQL", () => open({ masterKeyFile: aKeyFile() }));
describeTokens("PostgreSQL", () => open({ masterKeyFile: aKeyFile() }));
describeResealing("PostgreSQL", async () => {
  const url = await server.createDatabase();
  return {
    open: (masterKeyFile) => openPostgresStore({ url, masterKeyFile }),
    drop: async () => undefined,
  };
});

let keyFiles = 0;
/** A key file that is yet to be made. */
function aKeyFile(): string {
  return join(folder, `master-${++keyFiles}.key`);
}

describe("openPostgresStore()", () => {
  test("finds everything again, and no secret is in the tables", async () => {
    const options = { url: await server.createDatabase(), masterKeyFile: aKeyFile() };
    const application = anApplication();
    const endpoint = anEndpoint(application, {
      url: "https://user:canary-password@example.com/?token=canary-token",
      headers: { authorization: "canary-header" },
      settings: { payload: { key: "canary-payload" } },
      secrets: [{ key: "whsec_canary-secret", expiresAt: null }],
      tls: { certificate: "canary-certificate", key: "canary-key", ca: null },
    });
    const store = await openPostgresStore(options);
    await store.write(async (tx) => {
      await tx.applications.insert(application);
      await tx.endpoints.insert(endpoint);
    });
    await store.close();
    const again = await open(options);
    expect(await again.read((tx) => tx.endpoints.find(application.id, endpoint.id))).toEqual(endpoint);
    const rows = await server.query("select endpoints::text from endpoints", options.url);
    expect(JSON.stringify(rows)).not.toContain("canary");
  });

  test("refuses a master key that is another one, or missing", async () => {
    const url = await server.createDatabase();
    const masterKeyFile = aKeyFile();
    await (await openPostgresStore({ url, masterKeyFile })).close();
    const other = aKeyFile();
    writeFileSync(other, randomBytes(32).toString("base64"));
    await expect(openPostgresStore({ url, masterKeyFile: other })).rejects.toMatchObject({
      code: "master_key_unusable",
      message: expect.stringContaining("has no key that opens this database") as string,
    });
    await expect(openPostgresStore({ url, masterKeyFile: aKeyFile() })).rejects.toMatchObject({
      code: "master_key_unusable",
      message: expect.stringContaining("is missing") as string,
    });
  });

  test("says what stands in the way, and nothing of the password", async () => {
    const url = new URL(await server.createDatabase());
    const change = (parts: Partial<URL>): string => Object.assign(new URL(url), parts).href;
    await server.query("create database latin encoding latin1 template template0");
    await server.query("create role reader login password 'canary-reader'");
    await server.query("revoke create on schema public from public", url.href);
    const cases: [url: string, told: RegExp][] = [
      [change({ port: "1" }), /"test_\w+" cannot be used: connect ECONNREFUSED.*\. Start the server/],
      [
        change({ hostname: "nowhere.invalid" }),
        /cannot be used: getaddrinfo.*Start the server, or correct the host/,
      ],
      [change({ password: "canary-wrong" }), /password authentication failed.*Correct the user and password/],
      [
        change({ pathname: "/missing" }),
        /"missing" cannot be used: database "missing" does not exist\. Create it/,
      ],
      [server.urlOf("latin"), /has the encoding "LATIN1": make one with encoding UTF8/],
      [
        change({ username: "reader", password: "canary-reader" }),
        /permission denied for schema public\. Give its user a schema/,
      ],
      [`${url.href}?sslmode=require`, /does not support SSL/],
    ];
    for (const [wrong, told] of cases) {
      const error: unknown = await openPostgresStore({ url: wrong, masterKeyFile: aKeyFile() }).catch(
        (thrown: unknown) => thrown,
      );
      expect(error).toMatchObject({
        code: "database_unusable",
        message: expect.stringMatching(told) as string,
      });
      const { message, stack, cause } = error as Error;
      expect([message, stack, JSON.stringify(error), String(cause)].join()).not.toMatch(
        /canary|postgres:\/\//,
      );
    }
  });

  test("gives up on a server that takes connections and says nothing", async () => {
    const url = await server.createDatabase();
    server.freeze();
    try {
      await expect(
        openPostgresStore({ url, masterKeyFile: aKeyFile(), connectTimeoutMs: 300 }),
      ).rejects.toMatchObject({ code: "database_unusable" });
    } finally {
      server.thaw();
    }
  });

  test("has no more connections than it may, each with its name", async () => {
    const url = await server.createDatabase();
    const store = await open({ url, masterKeyFile: aKeyFile(), maxConnections: 7 });
    const application = anApplication();
    await store.write((tx) => tx.applications.insert(application));
    const accepted = Array.from({ length: 40 }, () =>
      store.accept({ message: aMessage(application), version: 1, deliveries: [], answer: null }),
    );
    const reads = Array.from({ length: 40 }, () => store.read((tx) => tx.applications.get(application.id)));
    await Promise.all([...accepted, ...reads]);
    const sessions = await server.query(
      `select application_name as name from pg_stat_activity
       where datname = current_database() and pid <> pg_backend_pid()`,
      url,
    );
    expect(new Set(sessions.map(({ name }) => name))).toEqual(new Set(["hookplane"]));
    expect(sessions.length).toBeLessThanOrEqual(7);
  });

  test("takes no write that goes on where the database has given up", async () => {
    const store = await open({ masterKeyFile: aKeyFile() });
    const application = anApplication();
    await store.write((tx) => tx.applications.insert(application));
    const making = store.write(async (tx) => {
      await tx.applications.insert(application).catch(() => undefined);
      await tx.organizations.insert({ id: "org_1", name: "", createdAt: 1 }).catch(() => undefined);
    });
    await expect(making).rejects.toMatchObject({ rule: "applications.id" });
    expect(await store.read((tx) => tx.organizations.find("org_1"))).toBeUndefined();
  });

  test("counts the bytes of what is there, and no longer of what was deleted", async () => {
    const options = { url: await server.createDatabase(), masterKeyFile: aKeyFile() };
    const filling = await openPostgresStore(options);
    const application = anApplication();
    await filling.write((tx) => tx.applications.insert(application));
    const payload = randomBytes(3_000);
    const accept = (): Promise<void> =>
      filling.accept({
        message: aMessage(application, { payload }),
        ...{ version: 1, deliveries: [], answer: null },
      });
    await Promise.all(Array.from({ length: 2_000 }, accept));
    // Connections that end tell at once what they have done.
    await filling.close();
    const bytes = 2_000 * payload.length;
    const store = await open(options);
    const sizeBecomes = (test: (size: number) => boolean): Promise<boolean> =>
      vi.waitUntil(async () => test(await store.sizeBytes()), { timeout: 60_000, interval: 50 });
    await sizeBecomes((size) => size > bytes && size < bytes * 2);
    await server.query(
      "delete from messages where ctid in (select ctid from messages limit 1500)",
      options.url,
    );
    await sizeBecomes((size) => size > bytes / 4 && size < bytes / 2);
    await server.query("delete from messages", options.url);
    await sizeBecomes((size) => size < bytes / 8);
  });
});
