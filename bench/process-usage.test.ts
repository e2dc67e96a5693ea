import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { parseMachineTicks, parseStat, parseStatusKiB, usageOf } from "./process-usage.ts";

describe("parseStat()", () => {
  test("reads past a command with spaces and parentheses, and counts exited children", () => {
    const text = "42 (my (odd) name) S 7 42 42 0 -1 4194304 100 0 0 0 250 31 6 3 20 0 11 0 900 1 2";
    expect(parseStat(text)).toEqual({ parent: 7, ticks: 290 });
  });

  test("is null for a process that has ended", () => {
    expect(parseStat("")).toBeNull();
  });
});

test("parseMachineTicks() counts what ran and what was withheld", () => {
  expect(parseMachineTicks("cpu  1 20 300 4000 50000 600000 7 80 900 900\ncpu0 1 1 1 1\n")).toBe(
    1 + 20 + 300 + 80,
  );
});

test("parseStatusKiB() takes the line of that very name", () => {
  const text = "VmHWM:\t  300 kB\nVmRSS:\t  200 kB\nRssAnon:\t 150 kB\n";
  expect(parseStatusKiB(text, "VmRSS")).toBe(200);
  expect(parseStatusKiB(text, "RssShmem")).toBe(0);
});

test("usageOf() counts a process with its children", async () => {
  const script = `
    const { spawn } = require("node:child_process");
    const busy = 'const until = Date.now() + 300; while (Date.now() < until); console.log("done"); setInterval(() => {}, 1000)';
    const child = spawn(process.execPath, ["-e", busy], { stdio: ["ignore", "inherit", "inherit"] });
    process.on("SIGTERM", () => { child.kill("SIGKILL"); process.exit(0); });`;
  const parent = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    await once(parent.stdout, "data");
    const { cpuMs, rssBytes } = usageOf([parent.pid!]);
    expect(cpuMs).toBeGreaterThan(0);
    // Two Nodes: one has far less.
    expect(rssBytes).toBeGreaterThan(60 * 2 ** 20);
    expect(usageOf([parent.pid!, parent.pid!]).rssBytes).toBeLessThan(rssBytes * 1.5);
  } finally {
    parent.kill("SIGTERM");
    await once(parent, "exit");
  }
  expect(usageOf([parent.pid!])).toEqual({ cpuMs: 0, rssBytes: 0 });
});
