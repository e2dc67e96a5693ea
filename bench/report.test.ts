import { describe, expect, test } from "vitest";
import type { Measurement } from "./measurement.ts";
import { fillPage, format, reportText, type Report, type RowResult } from "./report.ts";

const cost = { cpuSeconds: 1, cpuUsPerEvent: 50, rssMiB: 100 };

function round(changes: Partial<Measurement>): Measurement {
  return {
    eventsPerSecond: 1_000,
    latency: { count: 10, p50: 0.5, p95: 2, p99: 12.34, max: 1_234.5 },
    account: { accepted: 5_000, delivered: 5_000, lost: 0, twice: 0, unacknowledged: 0 },
    statuses: { 202: 5_000 },
    service: cost,
    database: null,
    harness: cost,
    othersShare: 0.1,
    figures: {},
    ...changes,
  };
}

function reportOf(rows: readonly Partial<RowResult>[]): Report {
  return {
    machine: {
      cores: 2,
      processor: "Some",
      memoryGiB: 8,
      kernel: "Linux 6",
      node: "v24.0.0",
      postgres: null,
      fdatasyncP50Ms: 0.1,
    },
    rounds: 3,
    seconds: 5,
    isQuick: false,
    rows: rows.map((row) => ({ letter: "b", id: "b", title: "some", rounds: [], failures: [], ...row })),
  };
}

/** The table's rows by id: each a record of its cells by column. */
function table(text: string): Record<string, Record<string, string>> {
  const lines = text.split("\n").filter((line) => line.startsWith("|"));
  const cellsOf = (line: string): string[] =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim());
  const [titles = []] = lines.map(cellsOf);
  return Object.fromEntries(
    lines
      .slice(2)
      .map(cellsOf)
      .map((cells) => [cells[0], Object.fromEntries(titles.map((title, index) => [title, cells[index]]))]),
  );
}

describe("reportText()", () => {
  test("has the median with the least and the most, and holds rounds against the floor's of the same round", () => {
    const rates = (values: number[], cpuUsPerEvent: number) =>
      values.map((eventsPerSecond) => round({ eventsPerSecond, service: { ...cost, cpuUsPerEvent } }));
    const text = reportText(
      reportOf([
        { id: "a", rounds: rates([10_000, 20_000, 30_000], 50) },
        { id: "b", rounds: rates([9_000, 12_000, 27_000], 80) },
      ]),
    );
    expect(table(text)["b"]).toMatchObject({
      "events/s": "12,000 (9,000–27,000)",
      "of the floor": "0.9 (0.6–0.9)",
      "of the bare floor": "–",
      "of the floor, by CPU": "0.625",
      "p99 ms": "12.3",
      "max ms": "1,235",
      accepted: "15,000",
      lost: "0",
    });
    expect(text).toContain("Other processes took 10 % of the cores");
  });

  test("tells what was lost, doubled, refused or failed", () => {
    const account = { accepted: 100, delivered: 97, lost: 3, twice: 2, unacknowledged: 1 };
    const text = reportText(
      reportOf([
        {
          rounds: [round({ account, statuses: { 202: 100, 503: 7 }, figures: { "drained/s": 1_500 } })],
          failures: ["it | did\nnot start"],
        },
      ]),
    );
    expect(table(text)["b"]).toMatchObject({ accepted: "100", lost: "3", twice: "2" });
    const { also } = table(text)["b"]!;
    expect(also).toContain("drained/s: 1,500");
    expect(also).toContain("answered 503: 7");
    expect(also).toContain("delivered without an acknowledgement: 1");
    expect(also).toContain("failed: it / did not start");
  });

  test("says that a quick run's figures mean nothing", () => {
    expect(reportText({ ...reportOf([]), isQuick: true })).toContain("not to be quoted");
  });
});

test.each([
  [0, "0"],
  [0.123456, "0.123"],
  [1.2345, "1.23"],
  [45.678, "45.7"],
  [456.78, "457"],
  [12_345.6, "12,346"],
  [Number.NaN, "–"],
])("format(%d) is %s", (value, text) => {
  expect(format(value)).toBe(text);
});

describe("fillPage()", () => {
  test("replaces what is between the markers, and nothing else", () => {
    const page = "# T\n\n<!-- bench:begin -->\nold\n<!-- bench:end -->\n\nafter\n";
    const once = fillPage(page, reportOf([{}]));
    expect(once).toMatch(/^# T\n\n<!-- bench:begin -->\n\n2 cores/);
    expect(once).toMatch(/\n<!-- bench:end -->\n\nafter\n$/);
    expect(once).not.toContain("old");
    expect(fillPage(once, reportOf([{}]))).toBe(once);
  });

  test.each(["# no markers", "<!-- bench:end --> <!-- bench:begin -->"])("refuses a page %j", (page) => {
    expect(() => fillPage(page, reportOf([]))).toThrow("bench:begin");
  });
});
