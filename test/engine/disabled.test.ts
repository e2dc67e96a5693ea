import { afterAll, beforeAll, expect, test } from "vitest";
import { declare, openStack, type TestStack } from "./stack.ts";
import { openVendor, type Vendor } from "./vendor.ts";

const scope = new AsyncDisposableStack();
let vendor: Vendor;
let stack: TestStack;

beforeAll(async () => {
  vendor = scope.use(await openVendor());
  stack = scope.use(await openStack("disabled"));
});
afterAll(() => scope.disposeAsync());

async function declareEndpoint(inputs: object = {}): Promise<void> {
  const url = vendor.inboxUrl("receiver");
  const connection = vendor.connections.casey;
  await stack.program(declare("casey.WebhookEndpoint", "casey", { url, connection, ...inputs }));
}

/** The receiver answers an event with 410, at which the endpoint is disabled. */
async function disable(): Promise<void> {
  await vendor.raw.answerWith("receiver", 410);
  await vendor.raw.publish("casey", "conversation.completed", { conversation_id: "c" });
  const endsAt = Date.now() + 5_000;
  while ((await vendor.raw.casey())[0]?.enabled !== false) {
    if (Date.now() > endsAt) throw new Error("The endpoint was not disabled.");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await vendor.raw.answerWith("receiver", 204);
}

test("an endpoint that was disabled shows as drift, with the word that only a replacement repairs it", async () => {
  await declareEndpoint();
  const up = await stack.up();
  expect(up.ok, up.output).toBe(true);
  const { outputs } = (await stack.resources())["casey"] ?? { outputs: {} };
  expect(outputs).toMatchObject({ enabled: true });

  await disable();
  const drift = await stack.drift();
  expect(drift, drift.output).toMatchObject({ ok: false, steps: { casey: "update" } });
  expect(drift.output).toMatch(/disabled .*only a\s+replacement repairs it.*pulumi up --replace/s);
});

test("an up repairs nothing by itself, since the secret would change, and goes on saying so", async () => {
  const up = await stack.up({ refresh: true });
  expect(up.ok, up.output).toBe(true);
  expect(up.output).toMatch(/only a\s+replacement repairs it/);
  expect(await vendor.raw.casey()).toMatchObject([{ enabled: false }]);
  const after = await stack.up();
  expect(after, after.output).toMatchObject({ ok: true, steps: {} });
  expect(after.output).toMatch(/only a\s+replacement repairs it/);
});

test("up --replace makes an endpoint that gets events again, with another secret", async () => {
  const before = (await stack.resources())["casey"];
  const up = await stack.up({ replace: [before?.urn ?? ""] });
  expect(up, up.output).toMatchObject({ ok: true, steps: { casey: "replace" } });

  const after = (await stack.resources())["casey"];
  expect(after?.outputs).toMatchObject({ enabled: true });
  expect(after?.outputs["secret"]).not.toBe(before?.outputs["secret"]);
  expect(after?.outputs["secret"]).toBe(await vendor.raw.caseySecret(after?.id ?? ""));
  expect(await vendor.raw.casey()).toMatchObject([{ id: after?.id, enabled: true }]);
  const preview = await stack.preview();
  expect(preview, preview.output).toMatchObject({ ok: true, steps: {} });
  expect(preview.output).not.toMatch(/only a\s+replacement/);
});

test("with replaceWhenDisabled the next up replaces it by itself", async () => {
  await declareEndpoint({ replaceWhenDisabled: true });
  const change = await stack.up();
  expect(change, change.output).toMatchObject({ ok: true, steps: { casey: "update" } });
  await disable();

  const up = await stack.up({ refresh: true });
  expect(up.ok, up.output).toBe(true);
  expect(up.steps).toMatchObject({ casey: "replace" });
  expect(await vendor.raw.casey()).toMatchObject([{ enabled: true }]);
  const drift = await stack.drift();
  expect(drift, drift.output).toMatchObject({ ok: true, steps: {} });
});
