import { afterAll, beforeAll, expect, test } from "vitest";
import { declare, openStack, type Outcome, type TestStack } from "./stack.ts";
import { openVendor, type Vendor } from "./vendor.ts";

const scope = new AsyncDisposableStack();
/** A vendor for each resource, so that each misbehaves at a request that is known. */
let pave: Vendor;
let twilio: Vendor;
let casey: Vendor;
let stack: TestStack;

beforeAll(async () => {
  [pave, twilio, casey] = await Promise.all([openVendor(), openVendor(), openVendor()]);
  for (const vendor of [pave, twilio, casey]) scope.use(vendor);
  stack = scope.use(await openStack("faults", { env: { HOOKPLANE_REQUEST_TIMEOUT_SECONDS: "3" } }));
});
afterAll(() => scope.disposeAsync());

const receiverToken = "receiver-token-canary";
const urlPassword = "url-password-canary";

async function declareAll(event: string, path: string): Promise<void> {
  await stack.program(
    [
      declare("pave.Callback", "pave", {
        event,
        url: `https://example.com/${path}`,
        headers: { Authorization: `Bearer ${receiverToken}` },
        connection: pave.connections.pave,
      }),
      declare("twilio.ConversationsWebhook", "twilio", {
        postWebhookUrl: `https://user:${urlPassword}@example.com/${path}`,
        connection: twilio.connections.twilio,
      }),
      declare("casey.WebhookEndpoint", "casey", {
        url: `https://example.com/${path}`,
        connection: casey.connections.casey,
      }),
    ].join(""),
  );
}

function expectNoSecret({ output }: Outcome): void {
  const { apiSecret } = pave.connections.pave;
  const { authToken } = twilio.connections.twilio;
  const { apiKey } = casey.connections.casey;
  for (const secret of [
    apiSecret,
    pave.connections.pave.apiKey,
    authToken,
    apiKey,
    receiverToken,
    urlPassword,
  ]) {
    expect(output).not.toContain(secret);
  }
}

/** Exactly what is declared is there, once. */
async function expectInPlace(event: string, path: string): Promise<void> {
  expect(await pave.raw.pave("GET", event)).toMatchObject({ url: `https://example.com/${path}` });
  expect(await twilio.raw.twilio()).toMatchObject({
    post_webhook_url: `https://user:${urlPassword}@example.com/${path}`,
  });
  expect(await casey.raw.casey()).toMatchObject([{ url: `https://example.com/${path}` }]);
}

test("a vendor that refuses, fails or answers nonsense is a clear error for each resource, and shows no secret", async () => {
  const { apiKey } = casey.connections.casey;
  pave.misbehave({ status: 500, json: { message: `No database for ${pave.connections.pave.apiSecret}` } });
  twilio.misbehave("garbage");
  casey.misbehave({
    status: 401,
    json: { error: { code: "unauthorized", message: `No such key: ${apiKey}` } },
  });
  await declareAll("SESSION:COMPLETE", "first");
  const up = await stack.up();

  expect(up).toMatchObject({ ok: false, steps: {} });
  expect(up.output).toMatch(
    /pave:Callback: create failed: PAVE .*GET http:\/\/127\.0\.0\.1:\d+\/pave\/v1\/callbacks\/\S+ answered 500: "No database for \*\*\*".*\[vendor_failed\]/,
  );
  expect(up.output).toMatch(/twilio:ConversationsWebhook: create failed: .* not JSON.*\[bad_answer\]/);
  expect(up.output).toMatch(
    /casey:WebhookEndpoint: create failed: .* answered 401: "No such key: \*\*\*.*\[authentication_failed\]/,
  );
  expectNoSecret(up);
  expect(await casey.raw.casey()).toEqual([]);
});

test("a vendor that asks to wait is asked again after that time, and the next up makes what failed before", async () => {
  const busy = { status: 429, headers: { "retry-after": "1" } };
  pave.misbehave(null, busy);
  twilio.misbehave({ status: 503, headers: { "retry-after": "1" } });
  casey.misbehave(busy);
  const startedAt = Date.now();
  const asked = await pave.requestsOf(async () => {
    const up = await stack.up();
    expect(up, up.output).toMatchObject({
      ok: true,
      steps: { pave: "create", twilio: "create", casey: "create" },
    });
  });

  expect(Date.now() - startedAt).toBeGreaterThan(1_000);
  expect(asked.map((request) => request.split(" ")[0])).toEqual(["GET", "POST", "POST"]);
  await expectInPlace("SESSION:COMPLETE", "first");
});

test("a vendor that asks to wait for hours is an error at once, which says for how long", async () => {
  pave.misbehave({ status: 429, headers: { "retry-after": "7200" }, json: { message: "Slow down" } });
  const refresh = await stack.refresh();
  expect(refresh.ok).toBe(false);
  expect(refresh.output).toMatch(
    /pave:Callback "SESSION:COMPLETE": read failed: .*"Slow down".*7200(\.0)? s.*\[rate_limited\]/,
  );
});

test.each([
  ["after", "SESSION:NOTE_INSERT", "second", 1],
  ["before", "SESSION:STAGE_CHANGE", "third", 2],
] as const)(
  "an answer that is lost %s the effect makes nothing twice",
  async (when, event, path, creates) => {
    const lost = `reset ${when} effect` as const;
    // PAVE is first asked whether there is one, and Twilio what there is now, or at once to change it.
    pave.misbehave(null, lost);
    twilio.misbehave(lost, lost);
    casey.misbehave(lost);
    await declareAll(event, path);
    const [paveAsked, caseyAsked] = [pave.requests.length, casey.requests.length];
    const up = await stack.up();

    expect(up, up.output).toMatchObject({
      ok: true,
      steps: { pave: "replace", twilio: "update", casey: "replace" },
    });
    const countPosts = (vendor: Vendor, from: number) =>
      vendor.requests.slice(from).filter(({ method }) => method === "POST").length;
    expect(countPosts(pave, paveAsked)).toBe(creates);
    expect(countPosts(casey, caseyAsked)).toBe(creates);
    await expectInPlace(event, path);
    const drift = await stack.drift();
    expect(drift, drift.output).toMatchObject({ ok: true, steps: {} });
  },
);

test("a failed update is an error that the next up makes good", async () => {
  await declareAll("SESSION:STAGE_CHANGE", "fourth");
  pave.misbehave("garbage");
  twilio.misbehave({ status: 500 });
  // The endpoint is replaced; its old one is deleted once the new one is there.
  casey.misbehave("truncated");
  const failing = await stack.up();
  expect(failing.ok).toBe(false);
  expect(failing.output).toMatch(/pave:Callback "SESSION:STAGE_CHANGE": update failed: .*\[bad_answer\]/);
  expect(failing.output).toMatch(/twilio:ConversationsWebhook "AC\w+": update failed: .*\[vendor_failed\]/);
  expectNoSecret(failing);

  const up = await stack.up();
  expect(up.ok, up.output).toBe(true);
  await expectInPlace("SESSION:STAGE_CHANGE", "fourth");
});

test("a vendor that takes a request and never answers is an error in time, and nothing is made twice", async () => {
  const never = Array.from({ length: 5 }, () => "nothing" as const);
  pave.misbehave(...never);
  twilio.misbehave(...never);
  await declareAll("SESSION:STAGE_CHANGE", "fifth");
  const failing = await stack.up();
  expect(failing.ok).toBe(false);
  expect(failing.output).toMatch(
    /pave:Callback "SESSION:STAGE_CHANGE": update failed: .*no whole answer within 3\.0 s/,
  );
  expect(failing.output).toMatch(
    /twilio:ConversationsWebhook "AC\w+": update failed: .*no whole answer within 3\.0 s/,
  );
  expectNoSecret(failing);

  for (const vendor of [pave, twilio]) vendor.misbehave();
  const up = await stack.up();
  expect(up.ok, up.output).toBe(true);
  await expectInPlace("SESSION:STAGE_CHANGE", "fifth");
});

test("what something else at the vendor's address answers is not taken for a deletion", async () => {
  for (const vendor of [pave, twilio, casey]) {
    vendor.misbehave({ status: 404 });
    const refresh = await stack.refresh();
    expect(refresh.ok, refresh.output).toBe(false);
  }
  expect(Object.keys(await stack.resources())).toEqual(expect.arrayContaining(["pave", "twilio", "casey"]));

  pave.misbehave("endless");
  const tooLong = await stack.refresh();
  expect(tooLong.output).toMatch(/longer than 1048576 bytes.*\[bad_answer\]/);
});

test("a deletion whose answer is lost is done when it is seen to be done", async () => {
  for (const vendor of [pave, twilio, casey]) vendor.misbehave("reset after effect");
  const destroy = await stack.destroy();
  expect(destroy.ok, destroy.output).toBe(true);
  expect(await pave.raw.pave("GET", "SESSION:STAGE_CHANGE")).toBeUndefined();
  expect(await casey.raw.casey()).toEqual([]);
  expect((await twilio.raw.twilio()).post_webhook_url ?? "").toBe("");
});
