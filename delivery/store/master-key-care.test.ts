import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { checkDatabase } from "./maintenance.ts";
import {
  completeRotation,
  pruneMasterKeys,
  readMasterKeyStatus,
  rotateMasterKey,
} from "./master-key-care.ts";
import { startPostgres, type PostgresServer } from "./postgres-server.suite.ts";
import { openPostgresStore } from "./postgres-store.ts";
import { describeResealing, fillWithSecrets } from "./resealing.suite.ts";

// What the commands do on a database that several nodes share; on SQLite the tests of the commands show it.

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
}, 120_000);
afterAll(() => server.close());

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

describeResealing("PostgreSQL", async () => {
  const url = await server.createDatabase();
  return {
    open: (masterKeyFile) => openPostgresStore({ url, masterKeyFile }),
    drop: () => Promise.resolve(),
  };
});

async function openScene(count: number) {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-master-key-care-"));
  cleanups.push(() => {
    rmSync(folder, { recursive: true });
  });
  const url = await server.createDatabase();
  const storage = { dataDir: folder, databaseUrl: url, masterKeyFile: join(folder, "shared.key") };
  /** A node with a key file of its own, or the shared one. */
  const openNode = async (masterKeyFile = storage.masterKeyFile) => {
    const store = await openPostgresStore({ url, masterKeyFile });
    cleanups.push(() => store.close().catch(() => undefined));
    return store;
  };
  const store = await openNode();
  const endpoints = await fillWithSecrets(store, count);
  return { folder, url, storage, openNode, store, endpoints };
}

describe("master keys of a database that several nodes share", () => {
  test("a key is added, everything sealed with it and the old one dropped, while nodes work", async () => {
    const { storage, store, openNode, endpoints } = await openScene(120);
    const other = await openNode();
    const [old] = (await readMasterKeyStatus(storage)).keys;
    const rotated = await rotateMasterKey(storage);
    expect(rotated).toMatchObject({ keys: [{ texts: 0 }, { id: old!.id }], isComplete: false });

    // One node has noticed, and what it seals the other one reads.
    await store.read((tx) => tx.resealing.refreshKeys());
    const changed = { ...endpoints[0]!, headers: { authorization: "Bearer new" } };
    await store.write((tx) => tx.endpoints.update(changed));
    expect(await other.read((tx) => tx.endpoints.find("app_1", changed.id))).toEqual(changed);

    const progress: boolean[] = [];
    const done = await completeRotation(storage, ({ isComplete }) => progress.push(isComplete));
    expect(done).toMatchObject({
      keys: [{ id: rotated.keys[0]!.id }, { id: old!.id, texts: 0 }],
      isComplete: true,
    });
    expect(progress).not.toContain(true);
    expect(await checkDatabase(storage)).toMatchObject({ problems: [], rows: { endpoints: 120 } });
    expect((await pruneMasterKeys(storage)).keys.map(({ id }) => id)).toEqual([rotated.keys[0]!.id]);
    expect(await other.read((tx) => tx.endpoints.list("app_1"))).toEqual([changed, ...endpoints.slice(1)]);
  });

  test("a node with another key, or with none, is refused and told to copy the file", async () => {
    const { folder, openNode, storage } = await openScene(1);
    await expect(openNode(join(folder, "missing.key"))).rejects.toMatchObject({
      code: "master_key_unusable",
      message: expect.stringMatching(/is missing.*copy it from the node that has made the database/s),
    });
    writeFileSync(join(folder, "other.key"), `${Buffer.alloc(32, 7).toString("base64")}\n`);
    await expect(openNode(join(folder, "other.key"))).rejects.toThrow("has no key that opens this database");
    writeFileSync(join(folder, "copied.key"), readFileSync(storage.masterKeyFile));
    await openNode(join(folder, "copied.key"));
  });

  test("of nodes that start at once on an empty database, one makes the key of all that share its file", async () => {
    const folder = mkdtempSync(join(tmpdir(), "hookplane-master-key-care-"));
    cleanups.push(() => {
      rmSync(folder, { recursive: true });
    });
    const url = await server.createDatabase();
    const files = ["a.key", "b.key", "a.key", "b.key", "a.key", "b.key"];
    const results = await Promise.allSettled(
      files.map(async (name) => {
        const store = await openPostgresStore({ url, masterKeyFile: join(folder, name) });
        cleanups.push(() => store.close());
      }),
    );
    const [shared] = readdirSync(folder);
    expect(readdirSync(folder)).toEqual([shared]);
    for (const [index, result] of results.entries()) {
      if (result.status === "rejected") {
        expect(files[index]).not.toBe(shared);
        expect(result.reason).toMatchObject({ code: "master_key_unusable" });
      } else {
        expect(files[index]).toBe(shared);
      }
    }
  });

  test("a database that cannot be reached is named, and its password is not", async () => {
    const { storage, url } = await openScene(0);
    const wrong = url.replace("canary-database-password", "canary-wrong");
    const failure = await readMasterKeyStatus({ ...storage, databaseUrl: wrong }).catch(
      (error: unknown) => error,
    );
    expect(failure).toMatchObject({
      code: "database_unusable",
      message: expect.not.stringContaining("canary"),
    });
    const empty = await server.createDatabase();
    await expect(readMasterKeyStatus({ ...storage, databaseUrl: empty })).rejects.toMatchObject({
      code: "database_unusable",
    });
  });
});
