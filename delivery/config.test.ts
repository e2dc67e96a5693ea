import { resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { credentialVariable, defaultConfig, parseConfig, settings } from "./config.ts";

const fields = { admin: ["token"], pave: ["username", "apiKey"] };

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
    });
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
        HOOKPLANE_DATABASE_URL: "postgres://user:canary@db/hooks",
      });
    expect(wrong).toThrow(
      expect.objectContaining({
        code: "settings_invalid",
        exitCode: 2,
        message: [
          '--port "70000": give a whole number from 0 to 65535.',
          "HOOKPLANE_DATABASE_URL: PostgreSQL is not supported by this version: leave it out, and the data goes to the data folder.",
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
