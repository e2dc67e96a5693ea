import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, describe, expect, test } from "vitest";

const command = join(import.meta.dirname, "../bin/hookplane.js");

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-cli-"));
  cleanups.push(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

/** Starts `hookplane` with these arguments, and gathers what it prints. */
function hookplane(args: readonly string[], environment: Record<string, string> = {}) {
  const child = spawn(process.execPath, [command, ...args], { env: { ...process.env, ...environment } });
  cleanups.push(() => child.kill("SIGKILL"));
  const printed = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (printed.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (printed.stderr += chunk.toString()));
  const exit = once(child, "close").then(([code]) => code as number | null);
  return { child, printed, exit };
}

describe("hookplane serve", () => {
  test("prints one ready line, serves, and stops with 0 on SIGTERM", async () => {
    const dataDir = makeFolder();
    const { child, printed, exit } = hookplane(["serve", "--port", "0"], { HOOKPLANE_DATA_DIR: dataDir });
    const [line] = (await once(createInterface(child.stdout), "line")) as [string];
    const ready = JSON.parse(line);
    expect(ready).toEqual({
      event: "ready",
      url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
      pid: child.pid,
      dataDir,
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
    });
    expect((await fetch(`${ready.url}/readyz`)).status).toBe(200);
    child.kill("SIGTERM");
    expect(await exit).toBe(0);
    expect(printed.stdout).toBe(`${line}\n`);
    const messages = printed.stderr
      .split("\n")
      .filter((text) => text.startsWith("{"))
      .map((text) => JSON.parse(text).msg);
    expect(messages).toEqual(expect.arrayContaining(["ready", "stopping", "stopped"]));
  });

  test("says why it does not start, in one line of JSON, and exits with the code for it", async () => {
    const { printed, exit } = hookplane(["serve", "--port", "many", "--data-dir", makeFolder()]);
    expect(await exit).toBe(2);
    expect(JSON.parse(printed.stderr)).toEqual({
      event: "failed",
      code: "settings_invalid",
      message: '--port "many": give a whole number from 0 to 65535.',
    });
    expect(printed.stdout).toBe("");
  });

  test("takes every setting as a flag, and tells every wrong one at once without the secrets", async () => {
    const { printed, exit } = hookplane(
      [
        ["--retry-schedule", ""],
        ["--no-proxy", "http://nowhere"],
        ["--proxy", "http://user:canary@proxy/path"],
        ["--signature-headers", "none"],
        ["--database-url", "mysql://user:canary@db"],
        ["--https-only"],
        ["--jwt-secret", "canary"],
      ].flatMap((words, index) => (index === 0 ? ["serve", ...words] : words)),
    );
    expect(await exit).toBe(2);
    expect(JSON.parse(printed.stderr).message.split("\n")).toEqual([
      "--database-url: give a URL such as postgres://user:password@host:5432/database.",
      '--signature-headers "none": choose one of webhook, svix, both.',
      "--proxy: give an http, https, socks5 or socks5h URL without a path, such as http://proxy.example.com:3128.",
      '--no-proxy "http://nowhere": give hosts, .domains, addresses and subnets, separated by commas, such as localhost,.example.com,10.0.0.0/8.',
      "--jwt-secret: give at least 16 characters.",
    ]);
  });

  test("does not repeat what a misspelt flag was given", async () => {
    const { printed, exit } = hookplane(["serve", "--jwt-secrt=canary canary"]);
    expect(await exit).toBe(2);
    expect(printed.stderr).toContain("unknown option '--jwt-secrt=…'");
    expect(printed.stderr).not.toContain("canary");
  });

  test("has help for a flag whose name begins with no-", async () => {
    const { printed, exit } = hookplane(["serve", "--help"]);
    expect(await exit).toBe(0);
    expect(printed.stdout).toContain("--no-proxy <hosts>");
    expect(printed.stdout).toContain("HOOKPLANE_NO_PROXY)");
  });

  test("suggests the option that was meant", async () => {
    const { printed, exit } = hookplane(["serve", "--prot", "1"]);
    expect(await exit).toBe(2);
    expect(printed.stderr).toContain("(Did you mean --port?)");
    expect(JSON.parse(printed.stderr.trim().split("\n").at(-1)!)).toMatchObject({
      event: "failed",
      code: "settings_invalid",
    });
  });
});

describe("hookplane", () => {
  test("prints its version and its help", async () => {
    const version = hookplane(["--version"]);
    expect(await version.exit).toBe(0);
    expect(version.printed.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    const help = hookplane(["serve", "--help"]);
    expect(await help.exit).toBe(0);
    expect(help.printed.stdout).toContain("--allow-subnet <cidr...>");
    expect(help.printed.stdout).toContain("Examples:");
  });
});
