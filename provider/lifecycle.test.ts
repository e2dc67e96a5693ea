import { describe, expect, test } from "vitest";
import { HookplaneError, PartlyDoneError } from "./errors.ts";
import { createLifecycle, InitFailedError, type Host } from "./lifecycle.ts";
import { createTestHost } from "./resource.suite.ts";
import { createSample, sampleConnection, type SampleVendor } from "./sample.suite.ts";

const connection = { url: "https://sample.example/v1", apiKey: "key-1234", apiToken: "token-1234" };
const declared = {
  kind: "alpha",
  url: "https://example.com/hook",
  headers: { "X-Key": "canary-header" },
  connection,
};

function open(parts: Partial<Host> = {}) {
  const vendor: SampleVendor = { object: undefined, calls: [] };
  const lifecycle = createLifecycle(createSample(vendor), createTestHost(parts));
  return { vendor, lifecycle, inputs: lifecycle.check(declared).inputs };
}

function configured(values: Record<string, string>): Pick<Host, "settings"> {
  return { settings: { get: (key) => values[key], environment: () => undefined } };
}

describe("a resource's life", () => {
  test("leaves what is not managed out of the state, until an import", async () => {
    const { lifecycle, inputs } = open();
    const { id, state } = await lifecycle.create(inputs);
    expect(state).not.toHaveProperty("note");
    expect((await lifecycle.read(id, state))?.state).not.toHaveProperty("note");
    expect((await lifecycle.read(id, { connection }))?.inputs).toMatchObject({ note: "the vendor's own" });
  });

  test("sends only what differs, and nothing for what only the state keeps", async () => {
    const { lifecycle, inputs, vendor } = open();
    const { id, state } = await lifecycle.create(inputs);
    const wanted = { ...inputs, tags: ["x"], note: "mine", onDelete: "keep" };
    const updated = await lifecycle.update(id, state, wanted);
    expect(updated.state).toMatchObject({ tags: ["x"], note: "mine", onDelete: "keep" });
    const released = await lifecycle.update(id, updated.state, { ...wanted, note: undefined });
    expect(released.state).not.toHaveProperty("note");
    await lifecycle.delete(id, released.state);
    expect(vendor.calls).toEqual([
      "create as token-1234",
      "update tags,note as token-1234",
      "delete (keep) as token-1234",
    ]);
  });

  test("keeps the program's way of writing a value that means the same", async () => {
    const { lifecycle, inputs, vendor } = open();
    const { id, state } = await lifecycle.create({ ...inputs, tags: ["b", "a"] });
    vendor.object = {
      ...vendor.object,
      tags: ["a", "b"],
      headers: { "x-key": "canary-header" },
      label: null,
    };
    const found = await lifecycle.read(id, state);
    expect(found?.state).toEqual(state);
  });

  test("answers undefined for what is gone, and names what there is when an import finds nothing", async () => {
    const { lifecycle, inputs, vendor } = open();
    const { id, state } = await lifecycle.create(inputs);
    vendor.object = undefined;
    expect(await lifecycle.read(id, state)).toBeUndefined();
    await expect(lifecycle.read("three", { connection })).rejects.toThrow(
      'The account has no sample:Thing "three"; there are "one", "two"',
    );
  });

  test("tells what a state should make the user know, once for each command that meets it", async () => {
    const messages: string[] = [];
    const { lifecycle, inputs, vendor } = open({
      log: (severity, message) => messages.push(`${severity}: ${message}`),
    });
    const { id, state } = await lifecycle.create(inputs);
    await lifecycle.diff(id, state, inputs);
    expect(messages).toEqual([]);
    vendor.object = { ...vendor.object, enabled: false };
    const found = await lifecycle.read(id, state);
    await lifecycle.diff(id, found?.state ?? {}, inputs);
    expect(messages).toEqual(['warning: sample:Thing "thing-1": it was disabled']);
  });

  test("an output that changed outside is drift to the refresh that finds it, and to nothing after it", async () => {
    const { lifecycle, inputs, vendor } = open();
    const { id, state } = await lifecycle.create(inputs);
    vendor.object = { ...vendor.object, enabled: false };
    const found = await lifecycle.read(id, state);
    const drifted = found?.state ?? {};
    expect(await lifecycle.diff(id, drifted, inputs)).toMatchObject({
      action: "update",
      changes: { enabled: { kind: "update", replaces: false } },
      replaces: [],
    });
    expect((await lifecycle.diff(id, drifted, inputs)).action).toBe("none");
    await lifecycle.read(id, drifted);
    expect((await lifecycle.diff(id, drifted, inputs)).action).toBe("none");
  });
});

describe("which account an operation works in", () => {
  const inConfiguration = { sampleApiKey: "key-1234", sampleApiToken: "rotated-token" };

  test("newer credentials of the same account win over those in the state, for refresh and destroy", async () => {
    const { lifecycle, inputs, vendor } = open(configured(inConfiguration));
    const { id, state } = await lifecycle.create(inputs);
    await lifecycle.read(id, state);
    await lifecycle.delete(id, state);
    expect(vendor.calls).toEqual([
      "create as token-1234",
      "observe as rotated-token",
      "delete (remove) as rotated-token",
    ]);
  });

  test("credentials of another account do not", async () => {
    const { lifecycle, inputs, vendor } = open(
      configured({ ...inConfiguration, sampleApiKey: "another-key" }),
    );
    const { id, state } = await lifecycle.create(inputs);
    await lifecycle.read(id, state);
    expect(vendor.calls.at(-1)).toBe("observe as token-1234");
  });

  test("without a connection of its own it uses the configured account, and the state has no credentials", async () => {
    const { lifecycle } = open(configured(inConfiguration));
    const { connection: _, ...rest } = declared;
    const { inputs } = lifecycle.check(rest);
    const { id, state } = await lifecycle.create(inputs);
    expect(state).not.toHaveProperty("connection");
    expect(state.account).toBe(sampleConnection.identity(connection));
    expect(JSON.stringify(state)).not.toContain("rotated-token");
    expect((await lifecycle.diff(id, state, inputs)).action).toBe("none");
  });

  test("refuses to look for it in another account than the one that holds it", async () => {
    const { lifecycle, inputs } = open();
    const { state } = await lifecycle.create(inputs);
    const elsewhere = open(configured({ ...inConfiguration, sampleApiKey: "another-key" }));
    const withoutOwn = { ...state, connection: undefined };
    for (const operation of ["read", "delete"] as const) {
      const refused = elsewhere.lifecycle[operation]("thing-1", withoutOwn);
      await expect(refused).rejects.toMatchObject({ code: "connection_mismatch" });
    }
    expect(elsewhere.vendor.calls).toEqual([]);
  });

  test("says so when there is no account at all", async () => {
    const { lifecycle, inputs } = open();
    const { id, state } = await lifecycle.create(inputs);
    await expect(lifecycle.delete(id, { ...state, connection: undefined })).rejects.toMatchObject({
      code: "connection_missing",
    });
  });
});

describe("what a failed operation tells", () => {
  test("names operation and resource, and blots out every secret", async () => {
    const { lifecycle, inputs, vendor } = open();
    const { id, state } = await lifecycle.create(inputs);
    vendor.failure = new HookplaneError(
      "rejected",
      'wrong: canary-header, "token-1234", key-1234, made-by-the-vendor',
      {
        vendorMessage: "canary-header",
        cause: new Error("canary-header"),
      },
    );
    const failed: unknown = await lifecycle
      .update(id, state, { ...inputs, label: "x" })
      .catch((error: unknown) => error);
    expect(failed).toMatchObject({
      message:
        'sample:Thing "thing-1": update failed: wrong: ***, "***", ***, *** ("***"). Correct what the vendor names. [rejected]',
      details: { operation: "update", resource: 'sample:Thing "thing-1"', vendorMessage: "***" },
      cause: undefined,
    });
  });

  test("turns an unforeseen error into one with a code", async () => {
    const { lifecycle, inputs, vendor } = open();
    vendor.failure = new TypeError("x is not a function");
    await expect(lifecycle.create(inputs)).rejects.toMatchObject({
      code: "internal",
      message: expect.stringContaining("sample:Thing: create failed: x is not a function.") as string,
    });
  });

  test("keeps what was half made", async () => {
    const { lifecycle, inputs, vendor } = open();
    const observed = { ...inputs, key: "made-by-the-vendor", enabled: false };
    vendor.failure = new PartlyDoneError(
      "thing-2",
      observed,
      new HookplaneError("vendor_failed", "canary-header is no good"),
    );
    const failed: unknown = await lifecycle.create(inputs).catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(InitFailedError);
    expect(failed).toMatchObject({
      message: expect.stringContaining("create failed: *** is no good.") as string,
      made: { id: "thing-2", state: { enabled: false, kind: "alpha", connection } },
    });
  });

  test("what is told to the user shows no secret either", async () => {
    const messages: string[] = [];
    const vendor: SampleVendor = { object: undefined, calls: [] };
    const resource = {
      ...createSample(vendor),
      warnings: () => ["beware of canary-header"],
    };
    const host = createTestHost({ log: (_severity, message) => messages.push(message) });
    const lifecycle = createLifecycle(resource, host);
    const { inputs } = lifecycle.check(declared);
    const { id, state } = await lifecycle.create(inputs);
    await lifecycle.diff(id, state, inputs);
    expect(messages).toEqual(['sample:Thing "thing-1": beware of ***']);
  });
});
