import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { addMasterKey } from "./master-key.ts";
import { describeResealing, fillWithSecrets } from "./resealing.suite.ts";
import { openSqliteStore } from "./sqlite-store.ts";

describeResealing("SQLite", async () => {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-resealing-"));
  return {
    open: (masterKeyFile) => openSqliteStore(folder, { masterKeyFile }),
    drop: async () => {
      rmSync(folder, { recursive: true });
    },
  };
});

test("a text that no key opens is named, and does not keep the others from being sealed anew", async () => {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-resealing-"));
  const store = await openSqliteStore(folder);
  const endpoints = await fillWithSecrets(store, 5);
  const [newest, old] = await addMasterKey(join(folder, "master.key"));
  const database = new DatabaseSync(join(folder, "hookplane.db"));
  database.prepare("update endpoints set secrets = ? where id = ?").run(`v1.${old}.AAAA`, endpoints[2]!.id);
  database.close();
  await store.read((tx) => tx.resealing.refreshKeys());
  expect(await store.write((tx) => tx.resealing.reseal("", 10))).toEqual({
    count: 4,
    failed: [endpoints[2]!.id],
    last: null,
  });
  const counts = await store.read((tx) => tx.resealing.countByKey());
  expect([...counts.keys()].sort()).toEqual([newest, old].sort());
  await store.close();
  rmSync(folder, { recursive: true });
});
