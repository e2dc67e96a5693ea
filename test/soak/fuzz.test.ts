import { afterAll } from "vitest";
import { describeFuzz } from "../../delivery/api/fuzz.suite.ts";
import { startPostgres, type PostgresServer } from "../../delivery/store/postgres-server.suite.ts";

describeFuzz("SQLite", { seconds: 300, connections: 5_000, isLong: true });

let postgres: PostgresServer | undefined;
afterAll(async () => {
  await postgres?.close();
});

describeFuzz("PostgreSQL", {
  seconds: 180,
  connections: 2_000,
  isLong: true,
  settings: async () => {
    postgres = await startPostgres();
    return { databaseUrl: await postgres.createDatabase() };
  },
});
