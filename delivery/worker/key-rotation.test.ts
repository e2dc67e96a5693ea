import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createLogger } from "../log.ts";
import { addMasterKey, dropMasterKeys } from "../store/master-key.ts";
import { fillWithSecrets } from "../store/resealing.suite.ts";
import { openSqliteStore } from "../store/sqlite-store.ts";
import { openKeyRotation } from "./key-rotation.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function openScene(count: number) {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-key-rotation-"));
  const store = await openSqliteStore(folder);
  cleanups.push(async () => {
    await store.close();
    rmSync(folder, { recursive: true });
  });
  const endpoints = await fillWithSecrets(store, count);
  const lines: { level: string; msg: string; endpoints?: unknown }[] = [];
  const logger = createLogger("info", { write: (line: string) => lines.push(JSON.parse(line)) });
  const rotation = openKeyRotation({ store, logger, everyMs: 10 });
  cleanups.push(() => rotation.close());
  const file = join(folder, "master.key");
  const counts = () => store.read((tx) => tx.resealing.countByKey());
  const until = (check: () => unknown) => vi.waitFor(check, { timeout: 15_000, interval: 20 });
  return { store, endpoints, file, counts, lines, rotation, until };
}

describe("openKeyRotation()", () => {
  test("seals everything with a key as soon as it is added, and tells when it is done", async () => {
    const { store, endpoints, file, counts, lines, until } = await openScene(120);
    const [newest, old] = await addMasterKey(file);
    await until(async () => {
      expect([...(await counts()).keys()]).toEqual([newest]);
    });
    await until(() => {
      expect(lines.map(({ msg }) => msg)).toEqual([
        "sealing with a newer master key",
        "everything is sealed with the newest master key",
      ]);
    });
    expect(lines.at(-1)).toMatchObject({ masterKey: newest, endpoints: 120, older: [old] });
    expect(await store.read((tx) => tx.endpoints.list("app_1"))).toEqual(endpoints);
  });

  test("goes on where an earlier process was stopped", async () => {
    const { store, file, counts, rotation, until } = await openScene(60);
    await rotation.close();
    const [newest] = await addMasterKey(file);
    await store.read((tx) => tx.resealing.refreshKeys());
    await store.write((tx) => tx.resealing.reseal("", 20));
    expect([...(await counts()).keys()]).toHaveLength(2);
    const again = openKeyRotation({ store, logger: createLogger("silent"), everyMs: 10 });
    cleanups.push(() => again.close());
    await until(async () => {
      expect([...(await counts()).keys()]).toEqual([newest]);
    });
  });

  test("goes on with the keys it has while the file cannot be used, and complains once", async () => {
    const { store, endpoints, file, counts, lines, until } = await openScene(3);
    const good = readFileSync(file, "utf8");
    writeFileSync(file, "half a k");
    await until(() => {
      expect(lines).toMatchObject([{ level: "error", msg: "the master keys cannot be looked after" }]);
    });
    await store.write((tx) => tx.endpoints.update({ ...endpoints[0]!, description: "changed" }));
    expect(await store.read((tx) => tx.endpoints.find("app_1", endpoints[0]!.id))).toMatchObject({
      description: "changed",
      secrets: endpoints[0]!.secrets,
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(lines).toHaveLength(1);

    writeFileSync(file, good);
    const [newest] = await addMasterKey(file);
    await until(async () => {
      expect([...(await counts()).keys()]).toEqual([newest]);
    });
  });

  test("takes a key that is gone out of use", async () => {
    const { store, file, until, counts } = await openScene(1);
    const [newest] = await addMasterKey(file);
    await until(async () => {
      expect([...(await counts()).keys()]).toEqual([newest]);
    });
    await dropMasterKeys(file, async () => new Set((await counts()).keys()));
    await until(async () => {
      expect(await store.read((tx) => tx.resealing.refreshKeys())).toEqual([newest]);
    });
  });
});
