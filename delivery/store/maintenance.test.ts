import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { afterEach, describe, expect, test } from "vitest";
import type { StorageConfig } from "../config.ts";
import { backupDatabase, checkDatabase } from "./maintenance.ts";
import { addMasterKey } from "./master-key.ts";
import { fillWithSecrets } from "./resealing.suite.ts";
import { openSqliteStore } from "./sqlite-store.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-maintenance-"));
  cleanups.push(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

const storageIn = (dataDir: string): StorageConfig => ({ dataDir, databaseUrl: null, masterKeyFile: null });

/** A data folder with so many endpoints, closed in order. */
async function makeDatabase(endpoints = 3) {
  const folder = makeFolder();
  const store = await openSqliteStore(folder);
  const filled = await fillWithSecrets(store, endpoints);
  await store.close();
  const path = join(folder, "hookplane.db");
  /** Runs statements on the database as nobody of the service would. */
  const meddle = (statements: string): void => {
    const database = new DatabaseSync(path, { enableForeignKeyConstraints: false });
    database.exec(statements);
    database.close();
  };
  return { folder, path, storage: storageIn(folder), endpoints: filled, meddle };
}

async function problemsOf(storage: StorageConfig): Promise<readonly string[]> {
  return (await checkDatabase(storage)).problems;
}

describe("checkDatabase()", () => {
  test("finds nothing in a sound database, and counts what it has", async () => {
    const { storage, meddle } = await makeDatabase(3);
    meddle(`
      insert into messages (id, application_id, event_type, tags, created_at) values ('msg_1', 'app_1', 'a', '[]', 1);
      insert into deliveries (message_id, endpoint_id, application_id, state, attempts, leased_by, trigger_type)
      values ('msg_1', 'ep_000000', 'app_1', 'pending', 0, 0, 'scheduled'),
             ('msg_1', 'ep_000001', 'app_1', 'succeeded', 1, 0, 'scheduled')`);
    expect(await checkDatabase(storage)).toEqual({
      problems: [],
      rows: { organizations: 1, applications: 1, endpoints: 3, messages: 1, deliveries: 2, attempts: 0 },
      pending: 1,
    });
  });

  test("finds rows without what they belong to", async () => {
    const { storage, meddle } = await makeDatabase();
    meddle(`
      insert into deliveries (message_id, endpoint_id, application_id, state, attempts, leased_by, trigger_type)
      values ('msg_9', 'ep_000000', 'app_1', 'pending', 0, 0, 'scheduled');
      update endpoints set application_id = 'app_9' where id <> 'ep_000000';
      update applications set organization_id = 'org_9'`);
    const problems = await problemsOf(storage);
    expect(problems).toEqual(
      expect.arrayContaining([
        "There are 1 deliveries of messages that are not there.",
        "There are 2 endpoints of applications that are not there.",
        "There are 1 applications of organizations that are not there.",
      ]),
    );
  });

  test("finds secrets that do not open, names 20 of them, and quotes none", async () => {
    const { storage, folder, meddle, endpoints } = await makeDatabase(30);
    meddle("update endpoints set headers = secrets where id = 'ep_000003'");
    expect(await problemsOf(storage)).toEqual([
      'The headers of the endpoint "ep_000003" cannot be read with the master keys that are there.',
    ]);
    writeFileSync(join(folder, "master.key"), `${Buffer.alloc(32).toString("base64")}\n`);
    const problems = await problemsOf(storage);
    expect(problems).toHaveLength(21);
    // Four texts of each, and a fifth where there is a certificate.
    expect(problems.at(-1)).toBe(`There are ${30 * 4 + 15 - 20} more secrets like that.`);
    for (const { secrets } of endpoints) expect(problems.join()).not.toContain(secrets[0]!.key);
    rmSync(join(folder, "master.key"));
    expect(await problemsOf(storage)).toEqual([expect.stringContaining('master.key" is missing')]);
  });

  test("opens what any of several master keys has sealed", async () => {
    const { storage, folder } = await makeDatabase();
    await addMasterKey(join(folder, "master.key"));
    expect(await problemsOf(storage)).toEqual([]);
  });

  test("finds damage, also in what a start does not look at, and goes on as far as it can", async () => {
    const { storage, path } = await makeDatabase(200);
    const database = new DatabaseSync(path);
    const root = database.prepare("select rootpage from sqlite_schema where name = 'attempts'").get();
    database.close();
    const file = openSync(path, "r+");
    writeSync(file, Buffer.alloc(256, 0xff), 0, 256, (Number(root?.["rootpage"]) - 1) * 4096);
    closeSync(file);
    const { problems, rows } = await checkDatabase(storage);
    expect(problems.length).toBeGreaterThan(0);
    expect(problems.join()).toMatch(/page|malformed|attempts/i);
    expect(rows.endpoints).toBe(200);
  });

  test("does not look at what it does not know", async () => {
    await expect(checkDatabase(storageIn(makeFolder()))).rejects.toMatchObject({
      code: "database_unusable",
      message: expect.stringContaining("There is no database in"),
    });
    const { storage, path, meddle } = await makeDatabase();
    meddle("pragma user_version = 1");
    await expect(checkDatabase(storage)).rejects.toThrow(/has version 1, and .* Start the service once/);
    meddle("pragma user_version = 999");
    await expect(checkDatabase(storage)).rejects.toThrow(/has version 999, and .* Run the newer Hookplane/);
    writeFileSync(path, "no database at all".repeat(100));
    await expect(checkDatabase(storage)).rejects.toThrow("is damaged, or no database of Hookplane's");
  });
});

describe("backupDatabase()", () => {
  test("makes one sound file for its owner alone, and tells how far it is", async () => {
    const { storage, folder } = await makeDatabase(2_000);
    const progress: [number, number][] = [];
    const target = join(folder, "backup.db");
    const made = await backupDatabase(storage, target, (...step) => progress.push(step));
    expect(made).toEqual({ file: target, bytes: statSync(target).size });
    expect(statSync(target).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder).filter((name) => name.startsWith("backup"))).toEqual(["backup.db"]);
    expect(progress.length).toBeGreaterThan(0);
    const totals = new Set(progress.map(([, total]) => total));
    expect(totals.size).toBe(1);
    expect(progress.map(([copied]) => copied)).toEqual(
      progress.map(([copied]) => copied).toSorted((a, b) => a - b),
    );
    expect(readFileSync(target, "latin1")).not.toContain("whsec_");
  });

  test("replaces nothing, and leaves nothing where it fails", async () => {
    const { storage, folder, path } = await makeDatabase();
    const target = join(folder, "backup.db");
    writeFileSync(target, "the last one");
    await expect(backupDatabase(storage, target)).rejects.toMatchObject({
      code: "settings_invalid",
      message: `The file "${target}" is there already: name another, or delete it first.`,
    });
    expect(readFileSync(target, "utf8")).toBe("the last one");
    await expect(backupDatabase(storage, join(folder, "missing", "backup.db"))).rejects.toMatchObject({
      code: "disk_unusable",
      message: expect.stringMatching(/cannot be made \(ENOENT.*Name a file on a disk/s),
    });
    await expect(
      backupDatabase({ ...storage, databaseUrl: "postgres://db/hooks" }, join(folder, "new.db")),
    ).rejects.toThrow("A PostgreSQL database is backed up with its own tools");

    const file = openSync(path, "r+");
    const database = new DatabaseSync(path, { readOnly: true });
    const root = database.prepare("select rootpage from sqlite_schema where name = 'attempts'").get();
    database.close();
    writeSync(file, Buffer.alloc(256, 0xff), 0, 256, (Number(root?.["rootpage"]) - 1) * 4096);
    closeSync(file);
    await expect(backupDatabase(storage, join(folder, "damaged.db"))).rejects.toThrow("cannot be made");
    expect(readdirSync(folder).filter((name) => name.startsWith("damaged"))).toEqual([]);
  });

  // Two starts of the service, on a machine that may be busy.
  test(
    "of a service under load holds all that was acknowledged before, and can be put in place",
    { timeout: 120_000 },
    async () => {
      const dataDir = join(makeFolder(), "data");
      const service = await serve(dataDir);
      await service.call("/app", { name: "Shop", uid: "shop" });
      await service.call("/app/shop/endpoint", { url: `${service.url}/inbox/shop`, uid: "hook" });
      const acknowledged: string[] = [];
      let isOver = false;
      const payload = { text: "x".repeat(4_000) };
      const publishers = Array.from({ length: 8 }, async () => {
        while (!isOver)
          acknowledged.push((await service.call("/app/shop/msg", { eventType: "a", payload })).id);
      });
      while (acknowledged.length < 500) await new Promise((resolve) => setTimeout(resolve, 5));
      const before = acknowledged.slice();
      const target = join(dataDir, "..", "backup.db");
      const during: number[] = [];
      await backupDatabase(storageIn(dataDir), target, () => during.push(acknowledged.length));
      const after = acknowledged.length;
      isOver = true;
      await Promise.all(publishers);
      await service.end();
      // The service was not held up by the copying, and the copying not by the service.
      expect(after).toBeGreaterThan(before.length);
      expect(during.length).toBeGreaterThan(0);

      const restored = join(dataDir, "..", "restored");
      mkdirSync(restored);
      copyFileSync(target, join(restored, "hookplane.db"));
      for (const name of ["master.key", "credentials.json"]) {
        copyFileSync(join(dataDir, name), join(restored, name));
      }
      const { problems, rows } = await checkDatabase(storageIn(restored));
      expect(problems).toEqual([]);
      expect(rows.messages).toBeGreaterThanOrEqual(before.length);
      expect(rows.messages).toBeLessThanOrEqual(acknowledged.length);
      expect(rows.deliveries).toBe(rows.messages);

      const again = await serve(restored);
      const messages = new Set<string>();
      for (let iterator = ""; ;) {
        const page = await again.call(`/app/shop/msg?limit=250&with_content=false${iterator}`);
        for (const { id } of page.data) messages.add(id);
        if (page.done) break;
        iterator = `&iterator=${page.iterator}`;
      }
      expect(before.filter((id) => !messages.has(id))).toEqual([]);
      expect(await again.call("/app/shop/endpoint/hook/secret")).toEqual({
        key: expect.stringMatching(/^whsec_/),
      });
      await again.end();
    },
  );
});

/** Starts a real `hookplane serve`. */
async function serve(dataDir: string) {
  const command = join(import.meta.dirname, "../../bin/hookplane.js");
  const args = ["serve", "--port", "0", "--data-dir", dataDir, "--inbox", "--allow-subnet", "127.0.0.0/8"];
  const child = spawn(process.execPath, [command, ...args, "--log-level", "silent"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  cleanups.push(() => child.kill("SIGKILL"));
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  const { url } = JSON.parse(line) as { url: string };
  const { admin } = JSON.parse(readFileSync(join(dataDir, "credentials.json"), "utf8"));
  return {
    url,
    // eslint-disable-next-line @typescript-eslint/no-explicit-any -- the test looks into answers whose shape it asserts.
    async call(path: string, body?: unknown): Promise<any> {
      const response = await fetch(`${url}/api/v1${path}`, {
        method: body === undefined ? "GET" : "POST",
        headers: { authorization: `Bearer ${admin.token}`, "content-type": "application/json" },
        body: body === undefined ? null : JSON.stringify(body),
      });
      if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
      return await response.json();
    },
    async end(): Promise<void> {
      child.kill("SIGTERM");
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    },
  };
}
