import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openVendorServer, type VendorServer } from "../../http/vendor-server.suite.ts";
import { startService, type RunningService } from "../../service.suite.ts";
import { handlerOf } from "./declared.ts";
import { openProviderProcess, type ProviderProcess } from "./process.suite.ts";

const unknownMark = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
const secretOf = (value: unknown) => ({
  "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
  value,
});

describe("Pulumi's dynamic provider process", () => {
  const __provider = handlerOf("pave:Callback");
  const declared = {
    __provider,
    event: "SESSION:COMPLETE",
    url: "https://example.com/hooks/pave",
    headers: { Authorization: "Bearer a-long-token" },
  };
  let service: RunningService;
  let provider: ProviderProcess;
  let connection: Record<string, string>;

  beforeAll(async () => {
    [service, provider] = await Promise.all([startService(), openProviderProcess()]);
    connection = { url: `${service.url}/pave/v1`, ...service.credentials.pave };
    const { username = "", apiKey = "", apiSecret = "" } = service.credentials.pave ?? {};
    await provider.configure({
      "hookplane:paveUrl": connection.url ?? "",
      "hookplane:paveUsername": username,
      "hookplane:paveApiKey": apiKey,
      "hookplane:paveApiSecret": apiSecret,
      "other:paveApiKey": "not-ours",
    });
  });
  afterAll(() => Promise.all([service[Symbol.asyncDispose](), provider[Symbol.asyncDispose]()]));

  test("takes a resource through its life, its secrets marked as such", async () => {
    const { inputs, failures } = await provider.check({ ...declared, connection });
    expect(failures).toEqual([]);
    expect(inputs).toEqual({ ...declared, method: "POST", payload: {}, connection });

    const { id, properties } = await provider.create(inputs);
    expect(id).toBe("SESSION:COMPLETE");
    expect(properties).toEqual({
      ...inputs,
      headers: secretOf(declared.headers),
      connection: secretOf(connection),
      account: expect.stringMatching(/^http.*\/pave\/v1 key [0-9a-f]{12}$/) as string,
    });

    // The engine hands secrets over in the plain.
    const state = { ...properties, headers: declared.headers, connection };
    expect(await provider.diff(id, state, inputs)).toEqual({ changes: false, replaces: [] });
    const found = await provider.read(id, state);
    expect(found).toEqual({
      id,
      properties,
      inputs: { ...inputs, headers: secretOf(declared.headers), connection: secretOf(connection) },
    });

    const wanted = { ...inputs, url: "https://example.com/hooks/other" };
    expect(await provider.diff(id, state, wanted)).toEqual({ changes: true, replaces: [] });
    expect(await provider.update(id, state, wanted)).toMatchObject({ __provider, url: wanted.url });
    expect(await provider.diff(id, state, { ...inputs, event: "SESSION:NOTE_INSERT" })).toEqual({
      changes: true,
      replaces: ["event"],
    });

    await provider.delete(id, state);
    expect((await provider.read(id, state)).id).toBe("");
    await provider.delete(id, state);
  });

  test("takes the account from the stack's configuration where the resource has none", async () => {
    const { inputs, failures } = await provider.check(declared);
    expect(failures).toEqual([]);
    const { id, properties } = await provider.create(inputs);
    expect(properties).not.toHaveProperty("connection");
    await provider.delete(id, properties);
  });

  test("lets what a preview does not know pass, wherever it is", async () => {
    const unknowns = { ...declared, url: unknownMark, headers: { Authorization: unknownMark } };
    const { inputs, failures } = await provider.check({ ...unknowns, connection: unknownMark });
    expect(failures).toEqual([]);
    expect(inputs).toMatchObject({ ...unknowns, connection: unknownMark });
    const state = { ...declared, method: "POST", payload: {}, connection, account: "some account" };
    expect(await provider.diff("SESSION:COMPLETE", state, inputs)).toEqual({ changes: true, replaces: [] });
  });

  test("reports every wrong input, and gives no property, beside which Pulumi would print the value", async () => {
    const { failures } = await provider.check({
      __provider,
      event: "SESSION:DONE",
      url: "nowhere",
      connection,
    });
    expect(failures).toEqual([
      {
        property: "",
        reason: expect.stringContaining('event: there is no PAVE event "SESSION:DONE"') as string,
      },
      {
        property: "",
        reason: expect.stringContaining("url: must be an absolute http or https URL") as string,
      },
    ]);
  });

  test("fails with one message: no stack, no secret", async () => {
    const wrong = { ...connection, apiSecret: "canary-secret" };
    const { inputs } = await provider.check({ ...declared, connection: wrong });
    const failed = (await provider.create(inputs).catch((error: unknown) => error)) as Error & {
      details: string;
    };
    expect(failed.details).toMatch(
      /^pave:Callback: create failed: .* answered 401: .*\[authentication_failed\]$/,
    );
    expect(failed.details).not.toContain("canary-secret");
  });

  describe("with a Casey endpoint", () => {
    const endpoint = {
      id: "wh_1",
      url: "https://example.com/casey",
      description: "",
      event_types: ["test.event"],
    };
    const created_at = "2026-01-02T03:04:05Z";
    const inputs = {
      __provider: handlerOf("casey:WebhookEndpoint"),
      url: endpoint.url,
      description: "",
      eventTypes: ["test.event"],
      replaceWhenDisabled: false,
    };
    let vendor: VendorServer;
    let secretStatus = 200;

    beforeAll(async () => {
      vendor = await openVendorServer(({ method, path }) => {
        if (path.endsWith("/secret"))
          return { status: secretStatus, json: { data: { secret: "whsec_canary" } } };
        return {
          status: method === "POST" ? 201 : 200,
          json: { data: { ...endpoint, created_at, enabled: false } },
        };
      });
    });
    afterAll(() => vendor[Symbol.asyncDispose]());

    test("shows the user what only a replacement repairs", async () => {
      const state = {
        ...inputs,
        connection: { url: vendor.url, apiKey: "sk_test_canary" },
        account: vendor.url,
      };
      const found = await provider.read("wh_1", state);
      expect(found.properties).toMatchObject({ enabled: false, secret: secretOf("whsec_canary") });
      expect(
        await provider.diff("wh_1", { ...found.properties, ...state, secret: "whsec_canary" }, state),
      ).toEqual({
        changes: true,
        replaces: [],
      });
      await expect
        .poll(() => provider.messages)
        .toContainEqual(
          expect.stringMatching(/^WARNING: casey:WebhookEndpoint "wh_1": .*only a replacement repairs it/),
        );
    });

    test("keeps what was half made, with its provider, so that the next run finds it", async () => {
      secretStatus = 403;
      const declaredHere = { ...inputs, connection: { url: vendor.url, apiKey: "sk_test_canary" } };
      const failed = (await provider.create(declaredHere).catch((error: unknown) => error)) as {
        metadata: { get(key: string): Buffer[] };
      };
      const [details] = failed.metadata.get("grpc-status-details-bin");
      expect(details?.toString("latin1")).toContain("pulumirpc.ErrorResourceInitFailed");
      expect(details?.toString("latin1")).toContain("wh_1");
      expect(details?.toString("latin1")).toContain(inputs.__provider);
    });
  });
});
