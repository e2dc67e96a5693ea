import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, describe, expect, test } from "vitest";
import { anApplication, anEndpoint } from "./scene.suite.ts";
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

const application = anApplication();

describe("openSqliteStore()", () => {
  test("finds everything again, after a stop", async () => {
    const folder = makeFolder();
    const store = await openSqliteStore(folder);
    await store.write((tx) => tx.applications.insert(application));
    await store.close();
    const again = await open(folder);
    expect(await again.read((tx) => tx.applications.get(application.id))).toMatchObject({ application });
  });

  test("keeps the master key for its owner alone, and no secret in the files of the database", async () => {
    const folder = makeFolder();
    const store = await open(folder);
    await store.write(async (tx) => {
      await tx.applications.insert(application);
      await tx.endpoints.insert(
        anEndpoint(application, {
          url: "https://user:canary-password@example.com/?token=canary-token",
          headers: { authorization: "canary-header" },
          settings: { payload: { key: "canary-payload" } },
          secrets: [{ key: "whsec_canary-secret", expiresAt: null }],
          tls: { certificate: "canary-certificate", key: "canary-key", ca: null },
        }),
      );
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
    expect(await store.read((tx) => tx.applications.list("default", { limit: 9 }))).toHaveLength(1);
  });

  test("answers pings until it is closed", async () => {
    const store = await openSqliteStore(makeFolder());
    await store.ping();
    await store.close();
    await expect(store.ping()).rejects.toThrow();
  });
});
