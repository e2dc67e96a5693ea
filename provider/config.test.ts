import { describe, expect, test } from "vitest";
import { findConnection, requestLimits } from "./config.ts";
import { sampleConnection } from "./sample.suite.ts";

function find(configuration: Record<string, string>, environment: Record<string, string> = {}) {
  return findConnection(sampleConnection, {
    get: (key) => configuration[key],
    environment: (name) => environment[name],
  });
}

describe("findConnection()", () => {
  test("takes each field from the configuration, else from its own variable, else from the vendor's usual one", () => {
    const environment = {
      HOOKPLANE_SAMPLE_API_KEY: "own-variable",
      HOOKPLANE_SAMPLE_URL: "https://own.example/v1/",
      SAMPLE_TOKEN: "usual-variable",
    };
    expect(find({ sampleApiKey: "configured" }, environment)).toEqual({
      url: "https://own.example/v1",
      apiKey: "configured",
      apiToken: "usual-variable",
    });
    expect(find({}, { ...environment, HOOKPLANE_SAMPLE_API_TOKEN: "own" }).apiToken).toBe("own");
  });

  test("an empty setting is none", () => {
    expect(() => find({ sampleApiKey: "", sampleApiToken: "" })).toThrow("No Sample account is configured");
  });

  test("names what is missing of an account that is there in part, and every way to give it", () => {
    expect(() => find({ sampleApiKey: "key-1234" })).toThrow(
      'The configured Sample account is not complete; missing "apiToken". Give the resource the input "connection" ' +
        "({ apiKey, apiToken }), or run `pulumi config set --secret` for hookplane:sampleApiKey, hookplane:sampleApiToken, " +
        "or set the environment variables HOOKPLANE_SAMPLE_API_KEY, HOOKPLANE_SAMPLE_API_TOKEN or SAMPLE_TOKEN. " +
        "[connection_missing]",
    );
  });

  test("names a setting that is wrong", () => {
    const settings = { sampleApiKey: "k", sampleApiToken: "t", sampleUrl: "sample.example" };
    expect(() => find(settings)).toThrow("not complete; url: must be an absolute http or https URL");
  });
});

describe("requestLimits()", () => {
  const limits = (configured?: string, variable?: string) =>
    requestLimits({ get: () => configured, environment: () => variable });

  test("are the defaults where nothing is set", () => {
    expect(limits()).toEqual({});
  });

  test("come from the configuration, else from the variable, and leave time for a second try", () => {
    expect(limits("2.5", "7")).toMatchObject({ attemptTimeoutMs: 2_500, totalTimeoutMs: 120_000 });
    expect(limits(undefined, "300")).toMatchObject({ headersTimeoutMs: 300_000, totalTimeoutMs: 600_000 });
  });

  test.each(["0", "-1", "3601", "soon"])("are not %j", (value) => {
    expect(() => limits(value)).toThrow(`The request timeout "${value}" is not from 0.1 to 3600 seconds`);
  });
});
