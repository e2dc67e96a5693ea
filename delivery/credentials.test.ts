import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { defaultConfig, type Config } from "./config.ts";
import { credentialFields, loadCredentials } from "./credentials.ts";
import { accounts } from "./dialects/index.ts";

let dataDir = "";
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), "hookplane-credentials-"));
});
afterEach(() => {
  rmSync(dataDir, { recursive: true });
});

const config = (changes: Partial<Config> = {}): Config => ({ ...defaultConfig(), dataDir, ...changes });
const ownFile = (): string => join(dataDir, "credentials.json");

describe("loadCredentials()", () => {
  test("makes random ones at the first start, for the owner's eyes only, and keeps them", () => {
    const first = loadCredentials(config(), accounts);
    expect(Object.keys(first)).toEqual(["admin", "pave", "twilio", "casey"]);
    expect(first.admin.token).toMatch(/^hp_[\w-]{43}$/);
    expect(statSync(ownFile()).mode & 0o777).toBe(0o600);
    expect(readdirSync(dataDir)).toEqual(["credentials.json"]);
    expect(loadCredentials(config(), accounts)).toEqual(first);
  });

  test("adds what a new vendor needs, and leaves the rest", () => {
    const before = loadCredentials(config(), accounts.slice(0, 1));
    const after = loadCredentials(config(), accounts);
    expect(after).toMatchObject(before);
    expect(JSON.parse(readFileSync(ownFile(), "utf8"))).toEqual(after);
  });

  test("takes what another file has, and makes the rest", () => {
    const credentialsFile = join(dataDir, "given.json");
    writeFileSync(credentialsFile, JSON.stringify({ admin: { token: "given-given-given" } }));
    const credentials = loadCredentials(config({ credentialsFile }), accounts);
    expect(credentials.admin.token).toBe("given-given-given");
    expect(Object.keys(JSON.parse(readFileSync(ownFile(), "utf8")))).toEqual(["pave", "twilio", "casey"]);
    expect(readFileSync(credentialsFile, "utf8")).not.toContain("pave");
  });

  test("prefers variables, and does not write them down", () => {
    const variables = { admin: { token: "from-a-variable-1" }, pave: { username: "acme" } };
    const credentials = loadCredentials(config({ credentials: variables }), accounts);
    expect(credentials.admin.token).toBe("from-a-variable-1");
    expect(credentials["pave"]).toMatchObject({ username: "acme" });
    expect(readFileSync(ownFile(), "utf8")).not.toMatch(/from-a-variable-1|acme/);
  });

  test("tells every wrong place and no value", () => {
    writeFileSync(ownFile(), JSON.stringify({ admin: { token: "canary" }, pave: { username: 7 } }));
    expect(() => loadCredentials(config({ credentials: { pave: { apiKey: "k" } } }), accounts)).toThrow(
      expect.objectContaining({
        code: "credentials_unusable",
        message: expect.stringMatching(
          /"admin\.token" in ".*credentials\.json": must have at least 16 characters\.\n"pave\.username" in .*\n"pave\.apiSecret" in/,
        ),
      }),
    );
    expect(() => loadCredentials(config(), accounts)).toThrow(expect.not.stringContaining("canary"));
  });

  test("says which file cannot be written", () => {
    rmSync(dataDir, { recursive: true });
    const wrong = () => loadCredentials(config(), accounts);
    expect(wrong).toThrow(
      expect.objectContaining({
        code: "credentials_unusable",
        message: expect.stringMatching(
          /credentials\.json" cannot be used \(ENOENT.*Let the service write it/s,
        ),
      }),
    );
    mkdirSync(dataDir);
  });

  test("names a file that is not there or no JSON, and quotes nothing of it", () => {
    const credentialsFile = join(dataDir, "missing.json");
    expect(() => loadCredentials(config({ credentialsFile }), accounts)).toThrow(
      'missing.json" cannot be read',
    );
    writeFileSync(ownFile(), "canary");
    expect(() => loadCredentials(config(), accounts)).toThrow("is not a JSON object of sections");
    expect(() => loadCredentials(config(), accounts)).not.toThrow("canary");
  });
});

describe("credentialFields()", () => {
  test("knows the fields of each section, for variables", () => {
    expect(credentialFields(accounts)).toMatchObject({
      admin: ["token"],
      pave: ["username", "apiKey", "apiSecret"],
    });
  });
});
