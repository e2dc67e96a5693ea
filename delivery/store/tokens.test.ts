import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach } from "vitest";
import { openSqliteStore } from "./sqlite-store.ts";
import { describeTokens } from "./tokens.suite.ts";

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

describeTokens("SQLite", async () => {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-tokens-"));
  cleanups.push(() => {
    rmSync(folder, { recursive: true });
  });
  const store = await openSqliteStore(folder);
  cleanups.push(() => store.close());
  return store;
});
