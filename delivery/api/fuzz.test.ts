import { afterAll } from "vitest";
import { startPostgres, type PostgresServer } from "../store/postgres-server.suite.ts";
import { describeFuzz } from "./fuzz.suite.ts";

describeFuzz("SQLite", { seconds: 4, connections: 80 });

let postgres: PostgresServer | undefined;
afterAll(async () => {
  await postgres?.close();
});

describeFuzz("PostgreSQL", {
  seconds: 3,
  connections: 20,
  settings: async () => {
    postgres = await startPostgres();
    return { databaseUrl: await postgres.createDatabase() };
  },
});
