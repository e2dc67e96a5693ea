import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, describe, expect, test } from "vitest";
import { openSqliteStore } from "./sqlite-store.ts";
import { describeStore } from "./store.suite.ts";
import type { Store } from "./store.ts";

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-store-"));
  cleanups.push(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

async function open(folder = makeFolder()): Promise<Store> {
  const store = await openSqliteStore(folder, { busyTimeoutMs: 20 });
  cleanups.push(() => store.close().catch(() => undefined));
  return store;
}

describeStore("SQLite", open);

const application = {
  id: "app_1",
  uid: null,
  name: "Shop",
  dialect: "svix",
  throttleRate: null,
  metadata: {},
  createdAt: 1,
  updatedAt: 1,
};

describe("openSqliteStore()", () => {
  test("finds everything again, after a stop", async () => {
    const folder = makeFolder();
    const store = await openSqliteStore(folder);
    await store.write((tx) => tx.applications.insert(application));
    await store.close();
    const again = await open(folder);
    expect(await again.read((tx) => tx.applications.find("app_1"))).toEqual(application);
  });

  test("keeps the master key for its owner alone, and no secret in the files of the database", async () => {
    const folder = makeFolder();
    const store = await open(folder);
    await store.write(async (tx) => {
      await tx.applications.insert(application);
      await tx.endpoints.insert({
        id: "ep_1",
        applicationId: "app_1",
        uid: null,
        url: "https://user:canary-password@example.com/?token=canary-token",
        description: "",
        filterTypes: null,
        channels: null,
        headers: { authorization: "canary-header" },
        disabled: false,
        throttleRate: null,
        version: 1,
        metadata: {},
        settings: { payload: { key: "canary-payload" } },
        secrets: [{ key: "whsec_canary-secret", expiresAt: null }],
        createdAt: 1,
        updatedAt: 1,
      });
    });
    expect(statSync(join(folder, "master.key")).mode & 0o777).toBe(0o600);
    for (const file of readdirSync(folder)) {
      expect(readFileSync(join(folder, file), "latin1")).not.toContain("canary");
    }
  });

  test("refuses writes while somebody else holds the database, and takes them again after", async () => {
    const folder = makeFolder();
    const store = await open(folder);
    const other = new DatabaseSync(join(folder, "hookplane.db"));
    other.exec("begin immediate");
    const writes = [1, 2].map((n) =>
      store.write((tx) => tx.applications.insert({ ...application, id: `app_${n}` })),
    );
    for (const write of writes) {
      await expect(write).rejects.toMatchObject({ code: "unavailable", status: 503 });
    }
    other.exec("rollback");
    other.close();
    await store.write((tx) => tx.applications.insert(application));
    expect(await store.read((tx) => tx.applications.list({ limit: 9 }))).toHaveLength(1);
  });

  test("answers pings until it is closed", async () => {
    const store = await openSqliteStore(makeFolder());
    await store.ping();
    await store.close();
    await expect(store.ping()).rejects.toThrow();
  });
});
