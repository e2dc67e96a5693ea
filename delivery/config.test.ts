import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { rootCertificates } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  credentialVariable,
  defaultConfig,
  parseConfig,
  parseStorageConfig,
  settings,
  type Setting,
} from "./config.ts";
import { standardRetryDelaysMs } from "./core/standard-webhooks.ts";

const fields = { admin: ["token"], pave: ["username", "apiKey"] };

const certificates = rootCertificates.slice(0, 2);
const jwtSecret = "a-secret-of-more-than-16";

let folder = "";
const inFolder = (name: string): string => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookplane-config-"));
  writeFileSync(inFolder("ca.pem"), `# two authorities\n${certificates.join("\n")}\n`);
  writeFileSync(inFolder("broken.pem"), certificates[0]!.replace(/[A-Z]{4}/, "AAAA"));
  writeFileSync(inFolder("jwt-secret"), `${jwtSecret}\n`);
  writeFileSync(inFolder("short"), "canary\n");
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe("parseConfig()", () => {
  test("has a default for everything, which the help text tells", () => {
    expect(defaultConfig()).toEqual({
      host: settings.host.defaultText,
      port: Number(settings.port.defaultText),
      dataDir: resolve(settings.dataDir.defaultText),
      allowSubnets: [],
      inbox: false,
      credentialsFile: null,
      credentials: {},
      logLevel: settings.logLevel.defaultText,
      stopTimeoutMs: Number(settings.stopTimeoutSeconds.defaultText) * 1000,
      publicUrl: null,
      maxBodyBytes: Number(settings.maxBodyBytes.defaultText),
      databaseUrl: null,
      masterKeyFile: null,
      maxInFlightRequests: Number(settings.maxInFlightRequests.defaultText),
      maxBacklog: Number(settings.maxBacklog.defaultText),
      retryDelaysMs: settings.retrySchedule.defaultText.split(",").map((seconds) => Number(seconds) * 1000),
      requestTimeoutMs: Number(settings.requestTimeout.defaultText) * 1000,
      disableAfterMs: Number(settings.disableAfter.defaultText) * 1000,
      httpsOnly: false,
      defaultSignatureType: settings.defaultSignatureType.defaultText,
      signatureHeaders: settings.signatureHeaders.defaultText,
      payloadRetentionMs: Number(settings.payloadRetention.defaultText) * 86_400_000,
      retentionMs: Number(settings.retention.defaultText) * 86_400_000,
      retentionMaxBytes: null,
      workers: Math.max(1, availableParallelism() - 1),
      proxy: null,
      noProxy: [],
      caCertificates: [],
      jwtSecret: null,
    });
    expect(defaultConfig().retryDelaysMs).toEqual(standardRetryDelaysMs);
  });

  test("takes each setting as a flag and as a variable", () => {
    const flags = {
      host: "::1",
      port: "0",
      dataDir: "/data",
      allowSubnet: ["10.0.0.0/8", "fd00::/8,127.0.0.1/32"],
      inbox: true,
      credentialsFile: "/etc/credentials.json",
      logLevel: "debug",
      stopTimeoutSeconds: "2",
      publicUrl: "https://hooks.example.com/base/",
      maxBodyBytes: "2048",
      databaseUrl: "postgres://user:password@db.example.com:5432/hooks?sslmode=require",
      masterKeyFile: "/run/secrets/master.key",
      maxInFlightRequests: "10",
      maxBacklog: "0",
      retrySchedule: "1, 0.25,2592000",
      requestTimeout: "2.5",
      disableAfter: "60",
      httpsOnly: true,
      defaultSignatureType: "ed25519",
      signatureHeaders: "webhook",
      payloadRetention: "0",
      retention: "0.5",
      retentionMaxBytes: "1000000000",
      workers: "3",
      proxy: "socks5://user:password@proxy.example.com:1080",
      noProxy: "localhost, .Example.com,10.0.0.0/8,fd00::/8,::1,[::1]:8080,hooks.example.org:443,*.internal",
      caFile: inFolder("ca.pem"),
      jwtSecretFile: inFolder("jwt-secret"),
    };
    const environment = {
      HOOKPLANE_HOST: "::1",
      HOOKPLANE_PORT: "0",
      HOOKPLANE_DATA_DIR: "/data",
      HOOKPLANE_ALLOW_SUBNET: "10.0.0.0/8, fd00::/8, 127.0.0.1/32",
      HOOKPLANE_INBOX: "true",
      HOOKPLANE_CREDENTIALS_FILE: "/etc/credentials.json",
      HOOKPLANE_LOG_LEVEL: "debug",
      HOOKPLANE_STOP_TIMEOUT_SECONDS: "2",
      HOOKPLANE_PUBLIC_URL: "https://hooks.example.com/base/",
      HOOKPLANE_MAX_BODY_BYTES: "2048",
      HOOKPLANE_DATABASE_URL: flags.databaseUrl,
      HOOKPLANE_MASTER_KEY_FILE: flags.masterKeyFile,
      HOOKPLANE_MAX_IN_FLIGHT_REQUESTS: flags.maxInFlightRequests,
      HOOKPLANE_MAX_BACKLOG: flags.maxBacklog,
      HOOKPLANE_RETRY_SCHEDULE: flags.retrySchedule,
      HOOKPLANE_REQUEST_TIMEOUT: flags.requestTimeout,
      HOOKPLANE_DISABLE_AFTER: flags.disableAfter,
      HOOKPLANE_HTTPS_ONLY: "1",
      HOOKPLANE_DEFAULT_SIGNATURE_TYPE: flags.defaultSignatureType,
      HOOKPLANE_SIGNATURE_HEADERS: flags.signatureHeaders,
      HOOKPLANE_PAYLOAD_RETENTION: flags.payloadRetention,
      HOOKPLANE_RETENTION: flags.retention,
      HOOKPLANE_RETENTION_MAX_BYTES: flags.retentionMaxBytes,
      HOOKPLANE_WORKERS: flags.workers,
      HOOKPLANE_PROXY: flags.proxy,
      HOOKPLANE_NO_PROXY: flags.noProxy,
      HOOKPLANE_CA_FILE: flags.caFile,
      HOOKPLANE_JWT_SECRET_FILE: flags.jwtSecretFile,
    };
    const expected = {
      host: "::1",
      port: 0,
      dataDir: "/data",
      allowSubnets: ["10.0.0.0/8", "fd00::/8", "127.0.0.1/32"],
      inbox: true,
      credentialsFile: "/etc/credentials.json",
      credentials: {},
      logLevel: "debug",
      stopTimeoutMs: 2_000,
      publicUrl: "https://hooks.example.com/base",
      maxBodyBytes: 2048,
      databaseUrl: flags.databaseUrl,
      masterKeyFile: "/run/secrets/master.key",
      maxInFlightRequests: 10,
      maxBacklog: null,
      retryDelaysMs: [1_000, 250, 2_592_000_000],
      requestTimeoutMs: 2_500,
      disableAfterMs: 60_000,
      httpsOnly: true,
      defaultSignatureType: "ed25519",
      signatureHeaders: "webhook",
      payloadRetentionMs: null,
      retentionMs: 43_200_000,
      retentionMaxBytes: 1_000_000_000,
      workers: 3,
      proxy: flags.proxy,
      noProxy: [
        "localhost",
        ".example.com",
        "10.0.0.0/8",
        "fd00::/8",
        "::1",
        "[::1]:8080",
        "hooks.example.org:443",
        "*.internal",
      ],
      caCertificates: certificates.map((pem) => pem.trim()),
      jwtSecret,
    };
    expect(parseConfig(flags, fields, {})).toEqual(expected);
    expect(parseConfig({}, fields, environment)).toEqual(expected);
  });

  test("prefers a flag to its variable, and takes an empty variable for none", () => {
    expect(parseConfig({ port: "1" }, fields, { HOOKPLANE_PORT: "2" }).port).toBe(1);
    expect(parseConfig({}, fields, { HOOKPLANE_PORT: "", HOOKPLANE_INBOX: "false" })).toEqual(
      defaultConfig(),
    );
  });

  test("makes no retries of an empty schedule, also of an empty variable", () => {
    expect(parseConfig({ retrySchedule: "" }, fields, {}).retryDelaysMs).toEqual([]);
    expect(parseConfig({}, fields, { HOOKPLANE_RETRY_SCHEDULE: "" }).retryDelaysMs).toEqual([]);
  });

  test("takes 0 for no bound, or for never", () => {
    const flags = { disableAfter: "0", retention: "0", retentionMaxBytes: "0", maxBacklog: "0" };
    expect(parseConfig(flags, fields, {})).toMatchObject({
      disableAfterMs: null,
      retentionMs: null,
      retentionMaxBytes: null,
      maxBacklog: null,
    });
  });

  test("reads the key of tokens as it is given, or from its file, but not both", () => {
    expect(parseConfig({}, fields, { HOOKPLANE_JWT_SECRET: jwtSecret }).jwtSecret).toBe(jwtSecret);
    const both = () =>
      parseConfig({ jwtSecretFile: inFolder("jwt-secret") }, fields, { HOOKPLANE_JWT_SECRET: jwtSecret });
    expect(both).toThrow("HOOKPLANE_JWT_SECRET and --jwt-secret-file: give one of the two.");
  });

  test.each([
    ["retrySchedule", "5,,5", "numbers of seconds"],
    ["retrySchedule", "0", "each above 0"],
    ["retrySchedule", "5,-5", "numbers of seconds"],
    ["retrySchedule", "2592001", "up to 2592000"],
    ["retrySchedule", "1e3", "numbers of seconds"],
    ["retrySchedule", Array(51).fill("5").join(","), "at most 50"],
    ["requestTimeout", "0", "give a number from 0.1 to 300"],
    ["requestTimeout", "15s", "give a number from 0.1 to 300"],
    ["disableAfter", "1.5", "give a whole number"],
    ["defaultSignatureType", "rsa", "choose one of hmac256, ed25519"],
    ["signatureHeaders", "none", "choose one of webhook, svix, both"],
    ["retention", "-1", "give a number from 0 to 36500"],
    ["workers", "0", "give a whole number from 1 to 256"],
    ["maxInFlightRequests", "0", "give a whole number from 1"],
    ["noProxy", "http://localhost", "give hosts, .domains"],
    ["noProxy", "localhost,,a", "give hosts, .domains"],
    ["noProxy", "10.0.0.0/33", "give hosts, .domains"],
    ["noProxy", "[localhost]:80", "give hosts, .domains"],
    ["httpsOnly", "yes", "say true or false"],
  ] as const)("refuses %s %j", (name, value, reason) => {
    const [flag] = settings[name].flag.split(" ");
    const wrong = () => parseConfig({ [name]: value }, fields, {});
    expect(wrong).toThrow(
      expect.objectContaining({ message: expect.stringContaining(`${flag} "${value}": `) }),
    );
    expect(wrong).toThrow(reason);
  });

  test.each([
    ["databaseUrl", "mysql://user:canary@db/hooks", "give a URL such as postgres://"],
    ["databaseUrl", "postgres:canary", "give a URL such as postgres://"],
    ["proxy", "canary.example.com:3128", "give an http, https, socks5 or socks5h URL"],
    ["proxy", "http://user:canary@proxy/path", "give an http, https, socks5 or socks5h URL"],
    ["proxy", "ftp://user:canary@proxy", "give an http, https, socks5 or socks5h URL"],
    ["jwtSecret", "canary", "give at least 16 characters"],
  ] as const)("refuses a secret %s, and does not repeat it", (name, value, reason) => {
    const setting: Setting = settings[name];
    expect(setting.isSecret).toBe(true);
    const [flag] = setting.flag.split(" ");
    expect(() => parseConfig({ [name]: value }, fields, {})).toThrow(`${flag}: ${reason}`);
    expect(() => parseConfig({}, fields, { [setting.variable]: value })).toThrow(`${setting.variable}: `);
    expect(() => parseConfig({ [name]: value }, fields, {})).not.toThrow("canary");
  });

  test("refuses files that are missing or hold something else, and quotes nothing of them", () => {
    const refused = (name: "caFile" | "jwtSecretFile", file: string) =>
      expect(() => parseConfig({ [name]: inFolder(file) }, fields, {}));
    refused("caFile", "missing.pem").toThrow('missing.pem": the file cannot be read (ENOENT).');
    refused("caFile", "jwt-secret").toThrow("the file must hold certificates in PEM, all of them readable.");
    refused("caFile", "broken.pem").toThrow("the file must hold certificates in PEM, all of them readable.");
    refused("caFile", "jwt-secret").not.toThrow(jwtSecret);
    refused("jwtSecretFile", "missing").toThrow('missing": the file cannot be read (ENOENT).');
    refused("jwtSecretFile", ".").toThrow("the file cannot be read (EISDIR).");
    refused("jwtSecretFile", "short").toThrow("the file must hold at least 16 characters.");
    refused("jwtSecretFile", "short").not.toThrow("canary");
  });

  test("reads credentials from variables", () => {
    expect(credentialVariable("twilio", "authToken")).toBe("HOOKPLANE_TWILIO_AUTH_TOKEN");
    const environment = {
      HOOKPLANE_ADMIN_TOKEN: "t",
      HOOKPLANE_PAVE_API_KEY: "k",
      HOOKPLANE_PAVE_OTHER: "x",
    };
    expect(parseConfig({}, fields, environment).credentials).toEqual({
      admin: { token: "t" },
      pave: { apiKey: "k" },
    });
  });

  test("tells every wrong setting at once, where it is from and what to do", () => {
    const wrong = (): unknown =>
      parseConfig({ port: "70000", allowSubnet: ["10.0.0.1"], publicUrl: "hooks.example.com" }, fields, {
        HOOKPLANE_LOG_LEVEL: "loud",
        HOOKPLANE_INBOX: "maybe",
        HOOKPLANE_STOP_TIMEOUT_SECONDS: "-1",
        HOOKPLANE_DATABASE_URL: "mysql://user:canary@db/hooks",
      });
    expect(wrong).toThrow(
      expect.objectContaining({
        code: "settings_invalid",
        exitCode: 2,
        message: [
          '--port "70000": give a whole number from 0 to 65535.',
          "HOOKPLANE_DATABASE_URL: give a URL such as postgres://user:password@host:5432/database.",
          '--allow-subnet "10.0.0.1": write each subnet as address/prefix, such as 10.0.0.0/8.',
          'HOOKPLANE_INBOX "maybe": say true or false.',
          '--public-url "hooks.example.com": give an absolute http or https URL without query and credentials.',
          'HOOKPLANE_LOG_LEVEL "loud": choose one of fatal, error, warn, info, debug, trace, silent.',
          'HOOKPLANE_STOP_TIMEOUT_SECONDS "-1": give a whole number from 0 to 3600.',
        ].join("\n"),
      }),
    );
  });
});

describe("parseStorageConfig()", () => {
  test("reads what concerns the stored data, and asks for nothing else to be right", () => {
    const environment = { HOOKPLANE_DATA_DIR: "/data", HOOKPLANE_PORT: "many", HOOKPLANE_DATABASE_URL: "" };
    expect(parseStorageConfig({ masterKeyFile: "/run/master.key" }, environment)).toEqual({
      dataDir: "/data",
      databaseUrl: null,
      masterKeyFile: "/run/master.key",
    });
    expect(() => parseStorageConfig({ databaseUrl: "mysql://canary@db" }, {})).toThrow(
      "--database-url: give a URL such as postgres://",
    );
  });
});
