import { afterAll, beforeAll, expect, test } from "vitest";
import { startPostgres, type PostgresServer } from "../../delivery/store/postgres-server.suite.ts";
import { killAgainAndAgain, type KillingFigures } from "../../delivery/worker/killing.suite.ts";

const rounds = 50;
/** After the ready line of a restarted service. */
const latestMs = 5_000;

let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres.close());

function expectKept(what: string, figures: KillingFigures): void {
  const { acknowledged, lost, twice, mostTwice, slowestMs } = figures;
  console.log(
    `${what}: killed ${figures.rounds} times; of ${acknowledged} acknowledged events ${lost} lost, ${twice} twice ` +
      `(at most ${mostTwice} after a killing), slowest ${slowestMs} ms after the restart`,
  );
  expect(figures).toMatchObject({ rounds, lost: 0 });
  expect(mostTwice).toBeLessThanOrEqual(2 * 64);
  expect(slowestMs).toBeLessThanOrEqual(latestMs);
}

test(`SQLite: ${rounds} times kill -9 under load`, async () => {
  expectKept("SQLite", await killAgainAndAgain(rounds));
});

test(`PostgreSQL: ${rounds} times kill -9 under load`, async () => {
  expectKept("PostgreSQL", await killAgainAndAgain(rounds, { databaseUrl: await postgres.createDatabase() }));
});
