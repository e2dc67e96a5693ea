import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, describe, expect, test } from "vitest";
import { openDataFolder } from "./data-folder.ts";
import { refuseDamage } from "./sqlite-damage.ts";
import { openSqliteStore } from "./sqlite-store.ts";
import { SqliteConnection } from "./sqlite.ts";

// What may stand in the way of a start, each caused for real.

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-opening-"));
  cleanups.push(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

/** A folder with a database that was closed in order, and the path of that. */
async function makeDatabase(): Promise<{ folder: string; path: string }> {
  const folder = makeFolder();
  await (await openSqliteStore(folder)).close();
  return { folder, path: join(folder, "hookplane.db") };
}

/** Writes over the page where a table or index begins. */
function damagePage(path: string, name: string): void {
  const database = new DatabaseSync(path);
  database.exec("pragma wal_checkpoint(truncate)");
  const { rootpage } = database.prepare("select rootpage from sqlite_schema where name = ?").get(name) as {
    rootpage: number;
  };
  const { page_size: pageSize } = database.prepare("pragma page_size").get() as { page_size: number };
  database.close();
  const file = openSync(path, "r+");
  writeSync(file, Buffer.alloc(256, 0xff), 0, 256, (rootpage - 1) * pageSize);
  closeSync(file);
}

async function reasonOf(opening: Promise<unknown>): Promise<{ code: string; message: string }> {
  return await opening.then(
    () => {
      throw new Error("it was opened");
    },
    (error: unknown) => error as { code: string; message: string },
  );
}

describe("a database", () => {
  test("that is newer than the program is refused", async () => {
    const { folder, path } = await makeDatabase();
    const database = new DatabaseSync(path);
    database.exec("pragma user_version = 999");
    database.close();
    await expect(openSqliteStore(folder)).rejects.toMatchObject({
      code: "database_unusable",
      message: expect.stringMatching(
        /has version 999, and this program knows versions up to \d+\. Run the newer/,
      ),
    });
  });

  test.each([
    [
      "is none",
      (path: string) => {
        writeFileSync(path, "this is not a database, but long enough".repeat(40));
      },
    ],
    [
      "has lost its header",
      (path: string) => {
        writeOver(path, 0, Buffer.alloc(100, 0xff));
      },
    ],
    [
      "was cut off",
      (path: string) => {
        truncateSync(path, Math.floor(statSync(path).size / 8192) * 4096);
      },
    ],
    [
      "has a damaged table",
      (path: string) => {
        damagePage(path, "endpoints");
      },
    ],
    [
      "has a damaged index",
      (path: string) => {
        damagePage(path, "endpoints_by_target");
      },
    ],
    [
      "has a damaged history",
      (path: string) => {
        damagePage(path, "deliveries");
      },
    ],
  ])("that %s is refused, and left as it is", async (_, damage) => {
    const { folder, path } = await makeDatabase();
    damage(path);
    const before = readFileSync(path);
    const { code, message } = await reasonOf(openSqliteStore(folder));
    expect(code).toBe("database_unusable");
    expect(message).toMatch(
      /hookplane\.db" is damaged.*Look at it with hookplane db check, and restore it from your backup/s,
    );
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test("that is gone while its log is there is not taken for a new one", async () => {
    const { folder, path } = await makeDatabase();
    const database = new DatabaseSync(path);
    database.exec("pragma journal_mode = wal; pragma user_version = 1");
    const log = readFileSync(`${path}-wal`);
    database.close();
    for (const lose of [
      () => {
        rmSync(path);
      },
      () => {
        writeFileSync(path, "");
      },
    ]) {
      lose();
      writeFileSync(`${path}-wal`, log);
      const { code, message } = await reasonOf(openSqliteStore(folder));
      expect(code).toBe("database_unusable");
      expect(message).toMatch(/is missing or empty, and its log ".*-wal" is not\. Restore both/);
      expect(readFileSync(`${path}-wal`).equals(log)).toBe(true);
    }
  });

  test("that another process has locked is refused, until that one ends", async () => {
    const { folder, path } = await makeDatabase();
    const other = new DatabaseSync(path);
    other.exec("pragma locking_mode = exclusive; begin exclusive");
    const { code, message } = await reasonOf(openSqliteStore(folder, { busyTimeoutMs: 20 }));
    expect(code).toBe("database_unusable");
    expect(message).toMatch(/is locked by another process.*End that process/s);
    other.close();
    await (await openSqliteStore(folder)).close();
  });
});

describe("refuseDamage()", () => {
  async function check(path: string): Promise<void> {
    const connection = new SqliteConnection(path, { readOnly: true, busyTimeoutMs: 0 });
    try {
      await refuseDamage(connection, path, 0);
    } finally {
      connection.close();
    }
  }

  test("looks at everything but the history of a large database", async () => {
    const { path } = await makeDatabase();
    damagePage(path, "attempts");
    await check(path);
    damagePage(path, "applications");
    await expect(check(path)).rejects.toThrow(/is damaged|malformed/);
  });
});

describe("a master key", () => {
  test("that is missing is not made anew for a database that has one", async () => {
    const { folder } = await makeDatabase();
    rmSync(join(folder, "master.key"));
    await expect(openSqliteStore(folder)).rejects.toMatchObject({
      code: "master_key_unusable",
      message: expect.stringMatching(/master\.key" is missing.*Restore the file from your backup/s),
    });
    expect(readdirSync(folder)).not.toContain("master.key");
  });

  test("of another database is refused", async () => {
    const { folder } = await makeDatabase();
    writeFileSync(join(folder, "master.key"), randomBytes(32).toString("base64"));
    await expect(openSqliteStore(folder)).rejects.toThrow("has no key that opens this database");
  });

  test("may lie outside of the data folder", async () => {
    const folder = makeFolder();
    const masterKeyFile = join(makeFolder(), "hookplane.key");
    await (await openSqliteStore(folder, { masterKeyFile })).close();
    expect(readdirSync(folder)).not.toContain("master.key");
    await (await openSqliteStore(folder, { masterKeyFile })).close();
    await expect(openSqliteStore(folder)).rejects.toThrow('master.key" is missing');
  });
});

describe("openDataFolder()", () => {
  test("makes the folder for its owner alone, and refuses a second holder by naming it", () => {
    const path = join(makeFolder(), "deep", "data");
    const folder = openDataFolder(path);
    expect(statSync(path).mode & 0o777).toBe(0o700);
    expect(() => openDataFolder(path)).toThrow(`The data folder "${path}" is in use by another process`);
    folder.close();
    openDataFolder(path).close();
  });

  test("names a folder that cannot be made", () => {
    const file = join(makeFolder(), "file");
    writeFileSync(file, "");
    expect(() => openDataFolder(join(file, "data"))).toThrow(
      expect.objectContaining({
        code: "data_folder_unusable",
        message: expect.stringMatching(/cannot be used \(ENOTDIR.*--data-dir/s),
      }),
    );
    expect(() => openDataFolder(file)).toThrow("--data-dir");
  });

  // Node's recursive mkdir never comes back from there.
  test("names a folder whose parent takes none, at once", () => {
    const parent = process.platform === "linux" ? "/proc" : "/dev/fd";
    expect(() => openDataFolder(join(parent, "nope", "data"))).toThrow(/cannot be .* \(E.*--data-dir/s);
  });
});

describe("without the rights that it needs, the service names", () => {
  test.each([
    ["the data folder", ".", 0o500, "data_folder_unusable"],
    ["the database", "hookplane.db", 0o400, "data_folder_unusable"],
    ["a database that it may not even read", "hookplane.db", 0o000, "data_folder_unusable"],
    ["the lock", "lock", 0o400, "data_folder_unusable"],
    ["the master key", "master.key", 0o000, "master_key_unusable"],
  ])("%s", async (_, name, mode, code) => {
    const { folder } = await makeDatabase();
    openDataFolder(folder).close();
    const path = join(folder, name);
    chmodSync(path, mode);
    cleanups.push(() => {
      chmodSync(path, 0o700);
    });
    const failure = await openWithoutPrivileges(folder);
    expect(failure.code).toBe(code);
    expect(failure.message).toContain(`"${path}" cannot be read`);
    expect(failure.message).toMatch(/user who runs the service/);
  });
});

/**
 * Opens a data folder in a process that has no more rights than the folder's owner. Root would be let in everywhere: it
 * gives the folder to another user and becomes that one, once its modules are loaded.
 */
async function openWithoutPrivileges(folder: string): Promise<{ code: string; message: string }> {
  const isRoot = process.getuid?.() === 0;
  const nobody = 65_534;
  if (isRoot) {
    for (const path of [folder, ...readdirSync(folder).map((name) => join(folder, name))]) {
      chownSync(path, nobody, nobody);
    }
  }
  const child = spawn(
    process.execPath,
    [
      "--input-type=module",
      "--eval",
      `const { openDataFolder } = await import(${JSON.stringify(join(import.meta.dirname, "data-folder.ts"))});
       const { openSqliteStore } = await import(${JSON.stringify(join(import.meta.dirname, "sqlite-store.ts"))});
       if (${String(isRoot)}) {
         process.setgroups([]);
         process.setgid(${nobody});
         process.setuid(${nobody});
       }
       try {
         openDataFolder(${JSON.stringify(folder)});
         await openSqliteStore(${JSON.stringify(folder)});
         console.log("{}");
       } catch ({ code, message }) {
         console.log(JSON.stringify({ code, message }));
       }
       process.exit();`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  let printed = "";
  for await (const chunk of child.stdout) printed += String(chunk);
  return JSON.parse(printed) as { code: string; message: string };
}

describe("hookplane serve on a full disk", () => {
  // No file grows beyond as many blocks of 512 bytes; writing on is an error and not a signal.
  test.each([0, 8, 64, 500])(
    "of %d blocks says so, and starts once there is room",
    { timeout: 60_000 },
    async (blocks) => {
      const folder = join(makeFolder(), "data");
      const { code, stderr } = await serve(folder, `trap '' XFSZ; ulimit -f ${blocks};`);
      const failure = JSON.parse(stderr.trim().split("\n").at(-1) ?? "") as { code: string; message: string };
      expect(failure).toMatchObject({
        code: "disk_unusable",
        message: expect.stringMatching(
          /cannot be written or read: the disk is full or failing.*Make room on it/s,
        ),
      });
      expect(code).toBe(4);
      openDataFolder(folder).close();
      await (await openSqliteStore(folder)).close();
    },
  );
});

/** Runs `hookplane serve` until it ends by itself. */
async function serve(folder: string, limits: string): Promise<{ code: number | null; stderr: string }> {
  const command = join(import.meta.dirname, "../../bin/hookplane.js");
  const args = [command, "serve", "--port", "0", "--data-dir", folder, "--log-level", "silent"];
  const child = spawn("sh", ["-c", `${limits} exec "$@"`, "sh", process.execPath, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  cleanups.push(() => {
    child.kill("SIGKILL");
  });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, stderr };
}

function writeOver(path: string, position: number, bytes: Uint8Array): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, position);
  closeSync(file);
}
