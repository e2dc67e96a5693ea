import path from "node:path";
import type { Management } from "../management.ts";
import { measureLoad, subjectOf, type Demand } from "../measurement.ts";
import {
  application,
  batchEvents,
  batchRequest,
  closedBatchLoop,
  closedLoop,
  messageRequest,
  openLoop,
} from "../publishing.ts";
import { receiverUrl, withService, type Row, type Run } from "../run.ts";
import { removeFolder, startService, type ServerProcess } from "../server-process.ts";

type Heading = Pick<Row, "letter" | "id" | "title">;
type Requests = (run: Run, token: string) => Pick<Demand, "request" | "pace"> & Partial<Demand>;

const oneByOne: Requests = (_run, token) => ({ request: messageRequest(token), pace: closedLoop });
const inBatches: Requests = (_run, token) => ({ request: batchRequest(token), pace: closedBatchLoop });

/** An open loop is measured for longer: at 200/s it takes a while until a p99 means something. */
function atRate(requestsPerSecond: number): Requests {
  return (run, token) => ({
    request: messageRequest(token),
    pace: openLoop(requestsPerSecond),
    seconds: run.seconds * 3,
  });
}

/** (b) to (e) and (j): one application with one endpoint that answers at once. */
export const throughputRows: readonly Row[] = [
  sqliteRow({ letter: "b", id: "b", title: "SQLite, one event a request, 64 connections" }, oneByOne),
  sqliteRow(
    { letter: "c", id: "c", title: `SQLite, ${batchEvents} events a request, 8 connections` },
    inBatches,
  ),
  postgresRow({ letter: "d", id: "d", title: "PostgreSQL, one node, as (b)" }, 1, oneByOne),
  postgresRow({ letter: "d", id: "d-two", title: "PostgreSQL, two nodes, as (b)" }, 2, oneByOne),
  postgresRow({ letter: "d", id: "d-batch", title: "PostgreSQL, one node, as (c)" }, 1, inBatches),
  sqliteRow({ letter: "e", id: "e200", title: "SQLite, open loop 200/s" }, atRate(200)),
  sqliteRow({ letter: "e", id: "e1000", title: "SQLite, open loop 1,000/s" }, atRate(1_000)),
];

/** (j): the machine's cores. */
export const workerRows: readonly Row[] = [1, 2].map((workers) =>
  sqliteRow({ letter: "j", id: `j${workers}`, title: `SQLite, as (b), --workers ${workers}` }, oneByOne, [
    ...["--workers", String(workers)],
  ]),
);

/** One application with one endpoint. */
async function prepare(run: Run, management: Management): Promise<void> {
  await management.application(application);
  await management.endpoint(application, { url: receiverUrl(run, "fast") });
}

function sqliteRow(heading: Heading, requests: Requests, flags: readonly string[] = []): Row {
  return {
    ...heading,
    measure: (run) =>
      withService(run, heading.id, { flags }, async ({ server, management }) => {
        await prepare(run, management);
        return await measureLoad(run, subjectOf([server]), {
          ports: [server.port],
          seconds: run.seconds,
          targets: 1,
          ...requests(run, server.token),
        });
      }),
  };
}

function postgresRow(heading: Heading, nodes: 1 | 2, requests: Requests): Row {
  return {
    ...heading,
    async measure(run) {
      const postgres = await run.postgres();
      const database = `bench_${heading.id.replaceAll("-", "_")}`;
      // The password is for the environment.
      const environment = { HOOKPLANE_DATABASE_URL: await postgres.createDatabase(database) };
      const secondDir = path.join(run.folder, `${heading.id}-second`);
      try {
        return await withService(
          run,
          heading.id,
          { environment },
          async ({ server, management, dataDir }) => {
            await prepare(run, management);
            await using servers = new AsyncDisposableStack();
            const all: ServerProcess[] = [server];
            if (nodes === 2) {
              const flags = ["--workers", "1"];
              all.push(
                servers.use(
                  await startService({ dataDir: secondDir, sharedWith: dataDir, environment, flags }),
                ),
              );
            }
            return await measureLoad(run, subjectOf(all, postgres.pid), {
              ports: all.map(({ port }) => port),
              seconds: run.seconds,
              targets: 1,
              ...requests(run, server.token),
            });
          },
        );
      } finally {
        await removeFolder(secondDir);
        await postgres.dropDatabase(database);
      }
    },
  };
}
