import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startPostgres, type PostgresServer } from "./postgres-server.suite.ts";
import { openPostgresStore, type PostgresOptions } from "./postgres-store.ts";
import { describeResealing } from "./resealing.suite.ts";
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

const cleanups: (() => Promise<unknown> | void)[] = [];
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

describeStore("PostgreSQL", open);
describeTokens("PostgreSQL", open);
