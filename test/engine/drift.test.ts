import { afterAll, beforeAll, expect, test } from "vitest";
import { declare, openStack, type TestStack } from "./stack.ts";
import { openVendor, type Vendor } from "./vendor.ts";

const scope = new AsyncDisposableStack();
let vendor: Vendor;
/** One Twilio account for each field of its one object. */
let accounts: Readonly<Record<keyof typeof twilioChanges, Vendor>>;
let stack: TestStack;

/** What somebody changes, each in a callback of its own, and how it is then found. */
const paveChanges = {
  url: { event: "SESSION:COMPLETE", to: "https://example.com/elsewhere" },
  method: { event: "SESSION:STAGE_CHANGE", to: "GET" },
  headers: { event: "SESSION:STATUS_CHANGE", to: { Authorization: "Bearer somebody-elses" } },
  payload: { event: "SESSION:NOTE_INSERT", to: { source: "PAVE", nested: { list: [1, "two"] } } },
} as const;
const deleted = "SESSION:SMS_PROCESS";

const twilioChanges = {
  method: { field: "Method", to: "GET" },
  filters: { field: "Filters", to: ["onMessageAdded", "onUserAdded"] },
  preWebhookUrl: { field: "PreWebhookUrl", to: "https://example.com/elsewhere" },
  postWebhookUrl: { field: "PostWebhookUrl", to: "" },
  target: { field: "Target", to: "flex" },
} as const;

const callback = {
  url: "https://example.com/pave",
  method: "POST",
  headers: { Authorization: "Bearer receiver-token" },
  payload: { source: "hookplane" },
};
const configuration = {
  method: "POST",
  filters: ["onMessageAdd", "onMessageAdded"],
  preWebhookUrl: "https://example.com/pre",
  postWebhookUrl: "https://example.com/post",
  target: "webhook",
};

beforeAll(async () => {
  vendor = scope.use(await openVendor());
  const opened = Object.keys(twilioChanges).map(async (name) => [name, scope.use(await openVendor())]);
  accounts = Object.fromEntries(await Promise.all(opened)) as typeof accounts;
  stack = scope.use(await openStack("drift"));
  const { pave, casey } = vendor.connections;
  await stack.program(
    [
      ...Object.entries(paveChanges).map(([name, { event }]) =>
        declare("pave.Callback", `pave-${name}`, { event, ...callback, connection: pave }),
      ),
      declare("pave.Callback", "pave-deleted", { event: deleted, ...callback, connection: pave }),
      ...Object.entries(accounts).map(([name, { connections }]) =>
        declare("twilio.ConversationsWebhook", `twilio-${name}`, {
          ...configuration,
          connection: connections.twilio,
        }),
      ),
      declare("casey.WebhookEndpoint", "casey", { url: "https://example.com/casey", connection: casey }),
    ].join(""),
  );
});
afterAll(() => scope.disposeAsync());

const drifted = Object.fromEntries([
  ...Object.keys(paveChanges).map((name) => [`pave-${name}`, "update"]),
  ...Object.keys(twilioChanges).map((name) => [`twilio-${name}`, "update"]),
  ["pave-deleted", "delete"],
  ["casey", "delete"],
]) as Record<string, string>;

test("what was deployed shows no changes and no drift", async () => {
  const up = await stack.up();
  expect(up.steps, up.output).toEqual(
    Object.fromEntries(Object.keys(drifted).map((name) => [name, "create"])),
  );

  const preview = await stack.preview();
  expect(preview, preview.output).toMatchObject({ ok: true, steps: {} });
  const drift = await stack.drift();
  expect(drift, drift.output).toMatchObject({ ok: true, steps: {} });
});

test("each field that was changed at a vendor is found, without anything being done about it", async () => {
  for (const [name, { event, to }] of Object.entries(paveChanges)) {
    await vendor.raw.pave("PUT", event, { ...callback, [name]: to });
  }
  await vendor.raw.pave("DELETE", deleted);
  for (const [name, { field, to }] of Object.entries(twilioChanges)) {
    await accounts[name as keyof typeof accounts].raw.twilio({ [field]: to });
  }
  for (const { id } of await vendor.raw.casey()) await vendor.raw.deleteCasey(id);

  const requests = await vendor.requestsOf(async () => {
    const drift = await stack.drift();
    expect(drift, drift.output).toMatchObject({ ok: false, steps: drifted });
  });
  expect(requests.filter((request) => !request.startsWith("GET "))).toEqual([]);
});

test("a refresh takes the changed values into the state, and a preview shows what would be repaired", async () => {
  const refresh = await stack.refresh();
  expect(refresh, refresh.output).toMatchObject({ ok: true, steps: drifted });

  const resources = await stack.resources();
  for (const [name, { to }] of Object.entries(paveChanges)) {
    expect(resources[`pave-${name}`]?.outputs).toMatchObject({ ...callback, [name]: to });
  }
  for (const [name, { to }] of Object.entries(twilioChanges)) {
    expect(resources[`twilio-${name}`]?.outputs[name]).toEqual(to);
  }
  expect(Object.keys(resources)).not.toContain("casey");

  const preview = await stack.preview();
  const repairs = Object.entries(drifted).map(([name, op]) => [name, op === "delete" ? "create" : op]);
  expect(preview.steps, preview.output).toEqual(Object.fromEntries(repairs));
});

test("up repairs every field and makes again what was deleted", async () => {
  const up = await stack.up();
  expect(up.ok, up.output).toBe(true);

  for (const { event } of [...Object.values(paveChanges), { event: deleted }]) {
    expect(await vendor.raw.pave("GET", event)).toEqual({ event, ...callback });
  }
  for (const account of Object.values(accounts)) {
    expect(await account.raw.twilio()).toMatchObject({
      method: "POST",
      filters: configuration.filters,
      pre_webhook_url: configuration.preWebhookUrl,
      post_webhook_url: configuration.postWebhookUrl,
      target: "webhook",
    });
  }
  expect(await vendor.raw.casey()).toMatchObject([{ url: "https://example.com/casey", enabled: true }]);
  const drift = await stack.drift();
  expect(drift, drift.output).toMatchObject({ ok: true, steps: {} });
});

test("up --refresh finds and repairs at once, also what is secret and what is cleared", async () => {
  await vendor.raw.pave("PUT", paveChanges.url.event, { url: callback.url });
  await vendor.raw.pave("DELETE", deleted);
  await accounts.filters.raw.twilio({ Filters: "", PreWebhookUrl: "", PostWebhookUrl: "" });

  const up = await stack.up({ refresh: true });
  expect(up.ok, up.output).toBe(true);
  expect(await vendor.raw.pave("GET", paveChanges.url.event)).toMatchObject(callback);
  expect(await vendor.raw.pave("GET", deleted)).toMatchObject(callback);
  expect(await accounts.filters.raw.twilio()).toMatchObject({
    filters: configuration.filters,
    pre_webhook_url: configuration.preWebhookUrl,
    post_webhook_url: configuration.postWebhookUrl,
  });
});

test("destroy leaves nothing at the vendors and Twilio as it was before", async () => {
  const destroy = await stack.destroy();
  expect(destroy.ok, destroy.output).toBe(true);

  for (const { event } of [...Object.values(paveChanges), { event: deleted }]) {
    expect(await vendor.raw.pave("GET", event)).toBeUndefined();
  }
  expect(await vendor.raw.casey()).toEqual([]);
  for (const account of Object.values(accounts)) {
    const { filters, pre_webhook_url, post_webhook_url } = await account.raw.twilio();
    expect([filters ?? [], pre_webhook_url ?? "", post_webhook_url ?? ""]).toEqual([[], "", ""]);
  }
});
