import { machineText, type Machine } from "./machine.ts";
import type { Measurement } from "./measurement.ts";
import type { Row } from "./run.ts";
import { toSpread } from "./statistics.ts";

/** A row with what its rounds came to. */
export interface RowResult extends Pick<Row, "letter" | "id" | "title"> {
  readonly rounds: readonly Measurement[];
  /** Why rounds are missing; empty when none is. */
  readonly failures: readonly string[];
}

/** What a run came to, as `--json` writes it. */
export interface Report {
  readonly machine: Machine;
  readonly rounds: number;
  readonly seconds: number;
  readonly isQuick: boolean;
  readonly rows: readonly RowResult[];
}

/** The rows that others are held against. */
const floorIds = ["a", "a-bare"] as const;

interface Column {
  readonly title: string;
  readonly isText?: true;
  cell(row: RowResult, report: Report): string;
}

const columns: readonly Column[] = [
  { title: "row", isText: true, cell: ({ id }) => id },
  { title: "what", isText: true, cell: ({ title }) => title },
  { title: "events/s", cell: (row) => spread(row, (round) => round.eventsPerSecond) },
  { title: "of the floor", cell: (row, report) => ofFloor(row, report, floorIds[0]) },
  { title: "of the bare floor", cell: (row, report) => ofFloor(row, report, floorIds[1]) },
  { title: "of the floor, by CPU", cell: ofFloorByCpu },
  { title: "p50 ms", cell: (row) => spread(row, (round) => round.latency?.p50) },
  { title: "p95 ms", cell: (row) => spread(row, (round) => round.latency?.p95) },
  { title: "p99 ms", cell: (row) => spread(row, (round) => round.latency?.p99) },
  { title: "max ms", cell: (row) => spread(row, (round) => round.latency?.max) },
  { title: "accepted", cell: (row) => total(row, (round) => round.account.accepted) },
  {
    title: "lost",
    cell: (row) => (row.id === "a-generator" ? none : total(row, (round) => round.account.lost)),
  },
  { title: "twice", cell: (row) => total(row, (round) => round.account.twice) },
  { title: "CPU µs/event", cell: (row) => spread(row, (round) => round.service.cpuUsPerEvent) },
  { title: "CPU s", cell: (row) => spread(row, (round) => round.service.cpuSeconds) },
  { title: "RSS MiB", cell: (row) => spread(row, (round) => round.service.rssMiB) },
  { title: "database: CPU µs/event", cell: (row) => spread(row, (round) => round.database?.cpuUsPerEvent) },
  { title: "database: RSS MiB", cell: (row) => spread(row, (round) => round.database?.rssMiB) },
  { title: "bench: CPU µs/event", cell: (row) => spread(row, (round) => round.harness.cpuUsPerEvent) },
  { title: "also", isText: true, cell: alsoOf },
];

const none = "–";

/** The machine, then the table, in Markdown. */
export function reportText(report: Report): string {
  const lines = [
    columns.map(({ title }) => title),
    columns.map(({ isText }) => (isText ? "---" : "---:")),
    ...report.rows.map((row) => columns.map((column) => column.cell(row, report))),
  ].map((cells) => `| ${cells.join(" | ")} |`);
  const much = report.isQuick ? "Quick run, not to be quoted" : "Medians (least–most)";
  return [
    `${machineText(report.machine)}. ${much} of ${report.rounds} rounds of ${report.seconds} s. ${othersText(report)}`,
    lines.join("\n"),
  ].join("\n\n");
}

/** How much of the machine the bench did not have. */
function othersText({ rows }: Report): string {
  const { median, max } = toSpread(rows.flatMap(({ rounds }) => rounds.map((round) => round.othersShare)));
  const percent = (share: number): string => `${Math.round(share * 100)} %`;
  return Number.isNaN(median)
    ? ""
    : `Other processes took ${percent(median)} of the cores meanwhile, at most ${percent(max)}.`;
}

/** `median (min–max)`; a dash where the row has no such figure. */
function spread(row: RowResult, figure: (round: Measurement) => number | null | undefined): string {
  const values = row.rounds.map(figure).filter((value) => value !== null && value !== undefined);
  return values.length === 0 ? none : spreadText(values);
}

function spreadText(values: readonly number[]): string {
  const { median, min, max } = toSpread(values);
  if (values.length === 1 || min === max) return format(median);
  return `${format(median)} (${format(min)}–${format(max)})`;
}

/** Three digits that mean something, or all in front of the point. */
export function format(value: number): string {
  if (!Number.isFinite(value)) return none;
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.max(Math.abs(value), 1e-3))));
  return value.toLocaleString("en", { minimumFractionDigits: 0, maximumFractionDigits: Math.min(digits, 3) });
}

function total(row: RowResult, figure: (round: Measurement) => number): string {
  if (row.rounds.length === 0) return none;
  return format(row.rounds.reduce((sum, round) => sum + figure(round), 0));
}

/** The rate against a floor's, round by round: what disturbs a round disturbs both. */
function ofFloor(row: RowResult, { rows }: Report, floorId: string): string {
  const floor = rows.find(({ id }) => id === floorId);
  if (floor === undefined || row.id === floorId || row.id === "a-generator") return none;
  const ratios = row.rounds.flatMap(({ eventsPerSecond }, round) => {
    const floorRate = floor.rounds[round]?.eventsPerSecond;
    return eventsPerSecond === null || !floorRate ? [] : [eventsPerSecond / floorRate];
  });
  return ratios.length === 0 ? none : spreadText(ratios);
}

/** The floor's CPU time per event against the row's: the same comparison where other processes are in the way. */
function ofFloorByCpu(row: RowResult, { rows }: Report): string {
  const floor = rows.find(({ id }) => id === floorIds[0]);
  if (floor === undefined || floor.id === row.id || row.id === "a-generator") return none;
  const ratios = row.rounds.flatMap(({ eventsPerSecond, service }, round) => {
    const floorCpu = floor.rounds[round]?.service.cpuUsPerEvent;
    return eventsPerSecond === null || floorCpu === undefined ? [] : [floorCpu / service.cpuUsPerEvent];
  });
  return ratios.length === 0 ? none : spreadText(ratios);
}

/** The figures that only some rows have, answers other than 2xx, and what went wrong. */
function alsoOf({ rounds, failures }: RowResult): string {
  const names = new Set(rounds.flatMap(({ figures }) => Object.keys(figures)));
  const figures = [...names].map((name) => {
    const values = rounds.flatMap((round) => round.figures[name] ?? []);
    return `${name}: ${spreadText(values)}`;
  });
  const refused = new Map<string, number>();
  for (const { statuses } of rounds) {
    for (const [status, count] of Object.entries(statuses)) {
      if (!status.startsWith("2")) refused.set(status, (refused.get(status) ?? 0) + count);
    }
  }
  const unacknowledged = rounds.reduce((sum, { account }) => sum + account.unacknowledged, 0);
  return [
    ...figures,
    ...[...refused].map(([status, count]) => `answered ${status}: ${format(count)}`),
    ...(unacknowledged > 0 ? [`delivered without an acknowledgement: ${format(unacknowledged)}`] : []),
    ...failures.map((failure) => `failed: ${failure.replaceAll(/\s+/g, " ").replaceAll("|", "/")}`),
  ].join("; ");
}

const begin = "<!-- bench:begin -->";
const end = "<!-- bench:end -->";

/**
 * The page with the report between its markers.
 *
 * @throws Error when the page does not have both markers
 */
export function fillPage(page: string, report: Report): string {
  const [before, rest] = page.split(begin);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined) {
    throw new Error(`The page has no "${begin}" followed by "${end}"`);
  }
  return `${before}${begin}\n\n${reportText(report)}\n\n${end}${after}`;
}
