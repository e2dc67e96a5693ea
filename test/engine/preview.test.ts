import { afterAll, beforeAll, expect, test } from "vitest";
import path from "node:path";
import { declare, openStack, type TestStack } from "./stack.ts";
import { openVendor, type Vendor } from "./vendor.ts";

const scope = new AsyncDisposableStack();
let vendor: Vendor;
let stack: TestStack;

beforeAll(async () => {
  vendor = scope.use(await openVendor());
  stack = scope.use(await openStack("preview"));
});
afterAll(() => scope.disposeAsync());

/** A program in which `later(…)` is not known before the endpoint `source` is made. */
async function declareLater(sourceUrl: string, body: string): Promise<void> {
  const { pave, twilio, casey, svix } = vendor.connections;
  await stack.program(`
    const source = ${declare("casey.WebhookEndpoint", "source", { url: sourceUrl, connection: casey })}
    const later = (value: any): any => source.secret.apply(() => value);
    /** Each part of a value by itself. */
    const parts = (value: any): any => Array.isArray(value)
      ? value.map(later)
      : Object.fromEntries(Object.entries(value).map(([key, part]) => [key, later(part)]));
    const accounts: any = ${JSON.stringify({ pave, twilio, casey, svix })};
    ${body}
  `);
}

const inputsOf = {
  "pave.Callback": {
    url: "https://example.com/later",
    method: "GET",
    headers: { Authorization: "Bearer later" },
    payload: { source: "later", list: [1] },
  },
  "twilio.ConversationsWebhook": {
    method: "GET",
    filters: ["onMessageAdd", "onUserAdded"],
    preWebhookUrl: "https://example.com/pre",
    postWebhookUrl: "https://example.com/post",
    target: "flex",
    onDelete: "clear",
  },
  "casey.WebhookEndpoint": {
    url: "https://example.com/later",
    description: "later",
    eventTypes: ["conversation.started", "test.event"],
    replaceWhenDisabled: true,
  },
} as const;

/** Each resource with each of its values known only later: as a whole, and part by part where it has parts. */
const everythingLater = Object.entries(inputsOf)
  .map(([kind, inputs]) => {
    const api = kind.split(".")[0] ?? "";
    const isPave = api === "pave";
    const whole = Object.entries(inputs).map(([name, value]) => `${name}: later(${JSON.stringify(value)})`);
    const nested = Object.entries(inputs).map(([name, value]) =>
      typeof value === "object"
        ? `${name}: parts(${JSON.stringify(value)})`
        : `${name}: ${JSON.stringify(value)}`,
    );
    const event = (name: string) => (isPave ? `event: later("SESSION:${name}"),` : "");
    // An account has one Twilio configuration only.
    const second =
      api === "twilio"
        ? ""
        : `new hookplane.${kind}("${api}-parts", { ${event("NOTE_INSERT")} ${nested.join()}, connection: parts(accounts.${api}) });`;
    return `new hookplane.${kind}("${api}-whole", { ${event("COMPLETE")} ${whole.join()}, connection: later(accounts.${api}) });
      ${second}`;
  })
  .join("\n");

const names = ["pave-whole", "pave-parts", "twilio-whole", "casey-whole", "casey-parts"];

test("a preview works while no input is known yet, and calls nothing", async () => {
  await declareLater(
    "https://example.com/source",
    `${everythingLater}
    new hookplane.DeliveryService("service", {
      dataDir: later(${JSON.stringify(path.join(stack.directory, "data"))}),
      host: later("127.0.0.1"),
      port: later(8420),
      allowSubnets: parts(["127.0.0.0/8"]),
      inbox: later(true),
      publicUrl: later("https://example.com"),
      logLevel: later("debug"),
      running: later(false),
      deleteData: later(true),
      startTimeoutSeconds: later(10),
    });
    new hookplane.DeliveryProof("proof", {
      connection: parts(accounts.svix),
      events: [{ application: later("pave"), eventType: later("SESSION:COMPLETE"), payload: parts({ a: 1 }) }],
      timeoutSeconds: later(1),
      triggers: [later("x")],
    });`,
  );
  const requests = await vendor.requestsOf(async () => {
    const preview = await stack.preview();
    expect(preview.ok, preview.output).toBe(true);
    expect(preview.steps).toEqual(
      Object.fromEntries(["source", ...names, "service", "proof"].map((name) => [name, "create"])),
    );
  });
  expect(requests).toEqual([]);
});

test("up then has the values, and what changes later is previewed too", async () => {
  await declareLater("https://example.com/source", everythingLater);
  const up = await stack.up();
  expect(up.ok, up.output).toBe(true);
  const complete = { event: "SESSION:COMPLETE", ...inputsOf["pave.Callback"] };
  expect(await vendor.raw.pave("GET", "SESSION:COMPLETE")).toEqual(complete);
  expect(await vendor.raw.pave("GET", "SESSION:NOTE_INSERT")).toMatchObject(inputsOf["pave.Callback"]);
  expect(await vendor.raw.twilio()).toMatchObject({ method: "GET", target: "flex" });
  const clean = await stack.preview();
  expect(clean, clean.output).toMatchObject({ ok: true, steps: {} });

  // The source is replaced, so its secret is not known, and so is nothing that comes from it.
  await declareLater("https://example.com/another", everythingLater);
  const requests = await vendor.requestsOf(async () => {
    const preview = await stack.preview();
    expect(preview.ok, preview.output).toBe(true);
    expect(Object.keys(preview.steps).sort()).toEqual([...names, "source"].sort());
  });
  expect(requests).toEqual([]);
  // In the end all is as it was, so nothing but the source changes.
  const change = await stack.up();
  expect(change, change.output).toMatchObject({ ok: true, steps: { source: "replace" } });
});

test.each([
  [
    "pave.Callback",
    {
      event: "SESSION:COMPLETED",
      url: "/relative",
      method: "PUT",
      headers: { "Bad Name": "x", "X-Canary": "canary\r\nInjected: 1" },
      payload: "canary",
      hedaers: {},
    },
    [/SESSION:COMPLETED.*SESSION:COMPLETE/, /url/, /PUT/, /Bad Name/, /X-Canary/, /payload/, /hedaers/],
  ],
  [
    "twilio.ConversationsWebhook",
    {
      filters: ["onMessageAdded", "onMessageAdded", "onMessageAddd"],
      preWebhookUrl: "ftp://user:canary@example.com",
      method: "DELETE",
      target: "studio",
      onDelete: "keep",
    },
    [/filters\[1\]/, /onMessageAddd/, /preWebhookUrl/, /DELETE/, /studio/, /keep/],
  ],
  [
    "casey.WebhookEndpoint",
    { url: "https://user:canary@example.com", eventTypes: [], description: 7 },
    [/url/, /eventTypes/, /description/],
  ],
] as const)(
  "everything that is wrong with a %s is told at once, and nothing is called",
  async (kind, inputs, told) => {
    const bad = scope.use(await openStack("bad"));
    const api = kind.split(".")[0] as "pave" | "twilio" | "casey";
    await bad.program(declare(kind, "bad", { ...inputs, connection: vendor.connections[api] }));
    const requests = await vendor.requestsOf(async () => {
      const preview = await bad.preview();
      expect(preview.ok).toBe(false);
      for (const fault of told) expect(preview.output).toMatch(fault);
      expect(preview.output).not.toContain("canary");
    });
    expect(requests).toEqual([]);
  },
);
