import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe } from "vitest";
import { openPostgresStore } from "./postgres-store.ts";
import { startPostgres, type PostgresServer } from "./postgres-server.suite.ts";
import { openSqliteStore } from "./sqlite-store.ts";
import type { Store } from "./store.ts";
import { describeTokens } from "./tokens.suite.ts";

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-tokens-"));
  cleanups.push(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

function keepOpen(store: Store): Store {
  cleanups.push(() => store.close());
  return store;
}

describeTokens("SQLite", async () => keepOpen(await openSqliteStore(makeFolder())));

describe("on a server", () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server.close());

  describeTokens("PostgreSQL", async () =>
    keepOpen(
      await openPostgresStore({
        url: await server.createDatabase(),
        masterKeyFile: join(makeFolder(), "master.key"),
      }),
    ),
  );
});
