// `npm run bench:delivery`: what the delivery service does in a second, how long an event takes and what it costs, in one
// table. docs/performance.md says how each row is measured and what limits it.
import { mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import prettier from "prettier";
import { Child } from "./child.ts";
import type { GeneratorMethods } from "./generator.ts";
import { describeMachine } from "./machine.ts";
import type { Measurement } from "./measurement.ts";
import { startPostgres, type PostgresServer } from "./postgres.ts";
import type { ReceiverMethods } from "./receiver.ts";
import { fillPage, format, reportText, type Report, type RowResult } from "./report.ts";
import { floorRows } from "./rows/floor.ts";
import { isolationRows } from "./rows/isolation.ts";
import { preEventRows } from "./rows/pre-event.ts";
import { scaleRows } from "./rows/scale.ts";
import { throughputRows, workerRows } from "./rows/throughput.ts";
import type { Row, Run } from "./run.ts";
import { killServers, removeFolder } from "./server-process.ts";

const root = path.resolve(import.meta.dirname, "..");
const page = path.join(root, "docs", "performance.md");
const allRows = [
  ...floorRows,
  ...throughputRows,
  ...preEventRows,
  ...isolationRows,
  ...scaleRows,
  ...workerRows,
];

const usage = `npm run bench:delivery -- [options]
  --only <rows>       letters or ids of rows, separated by commas: b,e1000 (all by default)
  --rounds <number>   how often each row is measured (3 by default)
  --seconds <number>  how long a closed loop is measured; open loops take three times as long (5 by default)
  --quick             small numbers: shows that everything works, and is not to be quoted
  --json <file>       writes every round's figures too
  --write             puts the table into docs/performance.md
  --profile <folder>  writes CPU profiles of the service there; node bench/profile.ts <file> sums them up
  --data-dir <folder> where the data is, on a disk (.tmp by default)

Rows: ${allRows.map(({ id }) => id).join(", ")}`;

const flags = readFlags();
await mkdir(flags.dataDir, { recursive: true });
const folder = await mkdtemp(path.join(flags.dataDir, "bench-"));
let postgres: Promise<PostgresServer> | undefined;
const interruption = new AbortController();

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    interruption.abort();
    killServers();
  });
}

try {
  const report = await measureAll();
  if (interruption.signal.aborted) process.exitCode = 130;
  else await tell(report);
} finally {
  // One that did not start has nothing to stop.
  const server = await postgres?.catch(() => undefined);
  await server?.[Symbol.asyncDispose]();
  await removeFolder(folder);
}

async function tell(report: Report): Promise<void> {
  console.log(`\n${await prettier.format(reportText(report), { parser: "markdown" })}`);
  if (flags.json !== undefined) await writeFile(flags.json, `${JSON.stringify(report, null, 2)}\n`);
  const hasFailed = report.rows.some(({ failures }) => failures.length > 0);
  const hasLost = report.rows.some(({ rounds }) => rounds.some(({ account }) => account.lost > 0));
  if (hasFailed || hasLost) process.exitCode = 1;
  if (!flags.write) return;
  if (hasFailed) console.log("docs/performance.md stays as it is: rows have failed.");
  else await writePage(report);
}

async function measureAll(): Promise<Report> {
  let machine = describeMachine(folder);
  await using generator = new Child<GeneratorMethods>("generator.ts");
  await using receiver = new Child<ReceiverMethods>("receiver.ts");
  let nextNumber = 0;
  const run: Run = {
    generator,
    receiver,
    receiverPort: await receiver.call("listen"),
    folder,
    seconds: flags.seconds,
    isQuick: flags.isQuick,
    profileFolder: flags.profileFolder,
    takeNumbers(count) {
      nextNumber += count;
      return nextNumber - count;
    },
    postgres: () => (postgres ??= startPostgres(folder)),
  };
  const rows = flags.rows.map((row) => ({ row, rounds: [] as Measurement[], failures: [] as string[] }));
  for (let round = 1; round <= flags.rounds; round += 1) {
    for (const { row, rounds, failures } of rows) {
      if (interruption.signal.aborted) break;
      try {
        const measured = await row.measure(run);
        rounds.push(measured);
        note(round, row, summaryOf(measured));
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error));
        note(round, row, `failed: ${String(failures.at(-1))}`);
      }
    }
  }
  const server = await postgres?.catch(() => undefined);
  if (server !== undefined) machine = { ...machine, postgres: server.version };
  return {
    machine,
    rounds: flags.rounds,
    seconds: flags.seconds,
    isQuick: flags.isQuick,
    rows: rows.map(({ row: { letter, id, title }, rounds, failures }): RowResult => ({
      letter,
      id,
      title,
      rounds,
      failures,
    })),
  };
}

function note(round: number, { id }: Row, text: string): void {
  console.log(`${round}/${flags.rounds} ${id.padEnd(15)} ${text}`);
}

function summaryOf({ eventsPerSecond, latency, account, service, othersShare }: Measurement): string {
  return [
    ...(eventsPerSecond === null ? [] : [`${format(eventsPerSecond)}/s`]),
    ...(latency === null ? [] : [`p50 ${format(latency.p50)} ms`, `p99 ${format(latency.p99)} ms`]),
    `${format(account.accepted)} accepted`,
    `${format(account.lost)} lost`,
    `${format(account.twice)} twice`,
    `${format(service.cpuUsPerEvent)} µs/event`,
    `${format(service.rssMiB)} MiB`,
    `others ${Math.round(othersShare * 100)} %`,
  ].join(", ");
}

async function writePage(report: Report): Promise<void> {
  const options = await prettier.resolveConfig(page);
  const text = fillPage(await readFile(page, "utf8"), report);
  await writeFile(page, await prettier.format(text, { ...options, parser: "markdown" }));
}

function readFlags() {
  try {
    const { values } = parseArgs({
      options: {
        only: { type: "string" },
        rounds: { type: "string" },
        seconds: { type: "string" },
        quick: { type: "boolean", default: false },
        json: { type: "string" },
        write: { type: "boolean", default: false },
        profile: { type: "string" },
        "data-dir": { type: "string", default: path.join(root, ".tmp") },
        help: { type: "boolean", default: false },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    const only = values.only?.split(",") ?? [];
    const unknown = only.filter((name) => !allRows.some(({ id, letter }) => name === id || name === letter));
    const problems = [
      ...unknown.map((name) => `there is no row "${name}"`),
      ...(values.quick && values.write ? ["--quick's figures are not for the page: leave --write out"] : []),
      ...numberProblem("rounds", values.rounds),
      ...numberProblem("seconds", values.seconds),
    ];
    if (problems.length > 0) throw new Error(problems.join("\n"));
    return {
      rows: allRows.filter(
        ({ id, letter }) => only.length === 0 || only.includes(id) || only.includes(letter),
      ),
      rounds: Number(values.rounds ?? (values.quick ? 1 : 3)),
      seconds: Number(values.seconds ?? (values.quick ? 2 : 5)),
      isQuick: values.quick,
      json: values.json,
      write: values.write,
      profileFolder: values.profile === undefined ? null : path.resolve(values.profile),
      dataDir: path.resolve(values["data-dir"]),
    };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n\n${usage}`);
    process.exit(2);
  }
}

function numberProblem(name: string, value: string | undefined): string[] {
  return value === undefined || /^[1-9]\d{0,3}$/.test(value)
    ? []
    : [`--${name} "${value}" is not a whole number from 1 to 9999`];
}
