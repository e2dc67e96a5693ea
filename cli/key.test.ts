import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { afterEach, describe, expect, test, vi } from "vitest";
import { fillWithSecrets } from "../delivery/store/resealing.suite.ts";
import { openSqliteStore } from "../delivery/store/sqlite-store.ts";

const command = join(import.meta.dirname, "../bin/hookplane.js");

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-key-"));
  cleanups.push(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

/** Runs `hookplane key …` on a data folder until it ends. */
async function key(dataDir: string, ...args: string[]) {
  const child = spawn(process.execPath, [command, "key", ...args, "--data-dir", dataDir]);
  cleanups.push(() => child.kill("SIGKILL"));
  const printed = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (printed.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (printed.stderr += chunk.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  const toLines = (text: string) =>
    text
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
  return { code, lines: toLines(printed.stdout), errors: toLines(printed.stderr) };
}

async function serve(dataDir: string): Promise<{ child: ChildProcess; log: { msg?: string }[] }> {
  const args = ["serve", "--port", "0", "--data-dir", dataDir, "--log-level", "info"];
  const child = spawn(process.execPath, [command, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  cleanups.push(() => child.kill("SIGKILL"));
  const log: { msg?: string }[] = [];
  createInterface(child.stderr).on("line", (line) => log.push(JSON.parse(line)));
  await once(createInterface(child.stdout), "line");
  return { child, log };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  child.kill(signal);
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

/** How many endpoints each key has sealed the secrets of, by the key's id. */
function secretsByKey(dataDir: string): Map<string, number> {
  const database = new DatabaseSync(join(dataDir, "hookplane.db"), { readOnly: true });
  const rows = database
    .prepare("select substr(secrets, 4, 8) as id, count(*) as endpoints from endpoints group by 1")
    .all() as { id: string; endpoints: number }[];
  database.close();
  return new Map(rows.map(({ id, endpoints }) => [id, endpoints]));
}

describe("hookplane key, while no service runs", () => {
  test("adds a key, seals everything with it when told to wait, and drops the old one", async () => {
    const dataDir = makeFolder();
    const store = await openSqliteStore(dataDir);
    const endpoints = await fillWithSecrets(store, 250);
    await store.close();
    const [old] = secretsByKey(dataDir).keys();
    expect(await key(dataDir, "status")).toMatchObject({
      code: 0,
      lines: [{ event: "status", keys: [{ id: old }], missing: [], complete: true }],
    });

    const rotated = await key(dataDir, "rotate", "--wait");
    const newest: string = rotated.lines[0].keys[0].id;
    expect(rotated).toMatchObject({
      code: 0,
      lines: [
        { event: "rotated", keys: [{ id: newest, texts: 0 }, { id: old }], complete: false },
        { event: "resealed", keys: [{ id: newest }, { id: old, texts: 0 }], complete: true },
      ],
    });
    expect(await key(dataDir, "rotate", "--prune")).toMatchObject({
      code: 0,
      lines: [{ event: "pruned", keys: [{ id: newest }], complete: true }],
    });
    expect(readFileSync(join(dataDir, "master.key"), "utf8")).toMatch(/^.{44}\n$/);
    const again = await openSqliteStore(dataDir);
    expect(await again.read((tx) => tx.endpoints.list("app_1"))).toEqual(endpoints);
    await again.close();
  });

  test("keeps a key that is needed, and says with 6 that there is one", async () => {
    const dataDir = makeFolder();
    const store = await openSqliteStore(dataDir);
    await fillWithSecrets(store, 1);
    await store.close();
    expect((await key(dataDir, "rotate")).code).toBe(0);
    expect((await key(dataDir, "rotate", "--prune")).lines[0].keys).toHaveLength(2);
    expect(await key(dataDir, "status")).toMatchObject({ code: 6, lines: [{ complete: false }] });
  });

  test("tells which key is missing", async () => {
    const dataDir = makeFolder();
    const store = await openSqliteStore(dataDir);
    await fillWithSecrets(store, 1);
    await store.close();
    const [lost] = secretsByKey(dataDir).keys();
    writeFileSync(join(dataDir, "master.key"), `${Buffer.alloc(32).toString("base64")}\n`);
    expect(await key(dataDir, "status")).toMatchObject({
      code: 6,
      lines: [{ missing: [{ id: lost, texts: 5 }], complete: false }],
    });
  });

  test("says why it can do nothing", async () => {
    const dataDir = makeFolder();
    expect(await key(dataDir, "rotate")).toMatchObject({
      code: 4,
      errors: [
        {
          event: "failed",
          code: "database_unusable",
          message: expect.stringContaining("There is no database"),
        },
      ],
    });
    await (await openSqliteStore(dataDir)).close();
    rmSync(join(dataDir, "master.key"));
    expect(await key(dataDir, "rotate")).toMatchObject({
      code: 4,
      errors: [{ code: "master_key_unusable", message: expect.stringContaining("is missing") }],
    });
    expect(await key(dataDir, "status", "--database-url", "canary")).toMatchObject({
      code: 2,
      errors: [{ code: "settings_invalid", message: expect.not.stringContaining("canary") }],
    });
  });
});

describe("hookplane key, while a service runs", () => {
  // Three starts of the service and as many of the command, on a machine that may be busy.
  test(
    "the service seals everything anew, also when it is killed in the middle",
    { timeout: 120_000 },
    async () => {
      const dataDir = makeFolder();
      const count = 3_000;
      const store = await openSqliteStore(dataDir);
      const endpoints = await fillWithSecrets(store, count);
      await store.close();
      const [old] = secretsByKey(dataDir).keys();

      const { child } = await serve(dataDir);
      const newest: string = (await key(dataDir, "rotate")).lines[0].keys[0].id;
      const done = (): number => secretsByKey(dataDir).get(newest) ?? 0;
      await vi.waitFor(
        () => {
          expect(done()).toBeGreaterThan(0);
        },
        { timeout: 60_000, interval: 1 },
      );
      await end(child, "SIGKILL");
      expect(done()).toBeLessThan(count);
      expect(secretsByKey(dataDir).get(old!)).toBe(count - done());

      const { child: next, log } = await serve(dataDir);
      const waited = await key(dataDir, "rotate", "--wait");
      const newer: string = waited.lines[0].keys[0].id;
      expect(waited).toMatchObject({
        code: 0,
        lines: [
          { event: "rotated", keys: [{ id: newer, texts: 0 }, { id: newest }, { id: old }] },
          {
            event: "resealed",
            keys: [{ id: newer }, { id: newest, texts: 0 }, { id: old, texts: 0 }],
            complete: true,
          },
        ],
      });
      await vi.waitFor(
        () => {
          expect(log.map(({ msg }) => msg)).toContain("everything is sealed with the newest master key");
        },
        { timeout: 60_000 },
      );
      expect((await key(dataDir, "rotate", "--prune")).lines[0].keys).toEqual([
        { id: newer, texts: expect.any(Number) },
      ]);
      await end(next, "SIGTERM");

      const again = await openSqliteStore(dataDir);
      expect(await again.read((tx) => tx.endpoints.list("app_1"))).toEqual(endpoints);
      await again.close();
    },
  );
});
