import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StartError } from "../errors.ts";
import { takeFileLock } from "./file-lock.ts";
import { addMasterKey, dropMasterKeys, openSeal } from "./master-key.ts";
import { SqliteConnection } from "./sqlite.ts";

let folder = "";
let sql: SqliteConnection;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hookplane-master-key-"));
  sql = new SqliteConnection(":memory:", { readOnly: false, busyTimeoutMs: 0 });
  sql.execute("create table facts (name text primary key, value text not null)");
});
afterEach(() => {
  sql.close();
  rmSync(folder, { recursive: true });
});

const path = (): string => join(folder, "master.key");
const lines = (): string[] => readFileSync(path(), "utf8").split("\n").slice(0, -1);

describe("openSeal()", () => {
  test("makes a key for a new database, for the owner's eyes only, and keeps it", async () => {
    const seal = await openSeal(sql, path());
    expect(statSync(path()).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(["master.key"]);
    const again = await openSeal(sql, path());
    expect(again.open(seal.close("a", "p"), "p")).toBe("a");
  });

  test("takes a key that is given for a new database, with blank lines and without a last line break", async () => {
    writeFileSync(
      path(),
      `\n  ${randomBytes(32).toString("base64")}\r\n\n${randomBytes(32).toString("base64")}`,
    );
    expect((await openSeal(sql, path())).keyIds).toHaveLength(2);
  });

  test("refuses a database without its key, and makes no other", async () => {
    await openSeal(sql, path());
    rmSync(path());
    await expect(openSeal(sql, path())).rejects.toMatchObject({
      code: "master_key_unusable",
      exitCode: 4,
      message: expect.stringMatching(/master\.key" is missing.*Restore the file from your backup, copy it/s),
    });
    expect(readdirSync(folder)).toEqual([]);
  });

  test("refuses another database's key", async () => {
    await openSeal(sql, path());
    writeFileSync(path(), randomBytes(32).toString("base64"));
    await expect(openSeal(sql, path())).rejects.toMatchObject({
      code: "master_key_unusable",
      message: expect.stringContaining('master.key" has no key that opens this database. Restore the file'),
    });
  });

  test("of two nodes that start on a new database, the later one is told to copy the key, and keeps none", async () => {
    const own = join(folder, "own.key");
    // The other node is between this one's look and its writing.
    const late = {
      ...{ forUpdate: "", skipLocked: "", isListed: "" },
      has: () => "",
      all: sql.all.bind(sql),
      get: sql.get.bind(sql),
      run: async (...statement: Parameters<typeof sql.run>) => {
        await openSeal(sql, path());
        return await sql.run(...statement);
      },
    };
    await expect(openSeal(late, own)).rejects.toThrow("copy it from the node that has made the database");
    expect(readdirSync(folder)).toEqual(["master.key"]);
  });

  test.each([
    ["nothing", ""],
    ["a short key", "c2hvcnQ="],
    ["a key in hex", randomBytes(32).toString("hex")],
    ["a key and something else", `${randomBytes(32).toString("base64")}\nold`],
    [
      "the same key twice",
      `${Buffer.alloc(32).toString("base64")}\n${Buffer.alloc(32).toString("base64")}\n`,
    ],
  ])("refuses a file with %s, and quotes nothing of it", async (_, text) => {
    writeFileSync(path(), text);
    const refused = await openSeal(sql, path()).catch((error: unknown) => error as StartError);
    if (!(refused instanceof StartError)) throw new Error("the file was taken");
    expect(refused.code).toBe("master_key_unusable");
    expect(refused.message).toContain("is not 32 bytes in base64, or several such keys on a line each");
    for (const line of text.split("\n")) {
      if (line.length > 8) expect(refused.message).not.toContain(line);
    }
  });

  test("refuses what cannot be read", async () => {
    mkdirSync(path());
    await expect(openSeal(sql, path())).rejects.toThrow(
      "cannot be read: let the user who runs the service read it",
    );
  });

  test("knows a key as soon as a text needs it, or when asked to look", async () => {
    const seal = await openSeal(sql, path());
    const other = await openSeal(sql, path());
    const [newest] = await addMasterKey(path());
    other.refresh();
    expect(other.keyIds[0]).toBe(newest);
    expect(seal.keyIds).toHaveLength(1);
    expect(seal.open(other.close("a", "p"), "p")).toBe("a");
    expect(seal.keyIds).toEqual(other.keyIds);
  });
});

describe("addMasterKey()", () => {
  test("puts a key in front, and keeps the others in their order", async () => {
    await openSeal(sql, path());
    const before = lines();
    const ids = await addMasterKey(path());
    expect(ids).toHaveLength(2);
    expect(lines()).toEqual([expect.stringMatching(/^.{44}$/), ...before]);
    expect(statSync(path()).mode & 0o777).toBe(0o600);
  });

  test("refuses a file that is missing, or that another process is changing", async () => {
    await expect(addMasterKey(path())).rejects.toThrow("is missing");
    await openSeal(sql, path());
    const lock = takeFileLock(`${path()}.lock`);
    await expect(addMasterKey(path())).rejects.toThrow("is being changed by another process");
    lock?.release();
    expect(await addMasterKey(path())).toHaveLength(2);
  });
});

describe("dropMasterKeys()", () => {
  test("takes out what nothing needs, but never the newest", async () => {
    await openSeal(sql, path());
    await addMasterKey(path());
    const [newest, middle, oldest] = await addMasterKey(path());
    expect(await dropMasterKeys(path(), async () => new Set([middle!, oldest!]))).toEqual([
      newest,
      middle,
      oldest,
    ]);
    expect(await dropMasterKeys(path(), async () => new Set([middle!]))).toEqual([newest, middle]);
    expect(await dropMasterKeys(path(), async () => new Set())).toEqual([newest]);
    expect(lines()).toHaveLength(1);
  });

  test("leaves the file as it is when it is not known what is needed", async () => {
    await openSeal(sql, path());
    await addMasterKey(path());
    const before = lines();
    await expect(dropMasterKeys(path(), () => Promise.reject(new Error("no database")))).rejects.toThrow(
      "no database",
    );
    expect(lines()).toEqual(before);
    expect(await addMasterKey(path())).toHaveLength(3);
  });
});
