import { afterAll, beforeAll, expect, test } from "vitest";
import { declare, openStack, type TestStack } from "./stack.ts";
import { openVendor, type Vendor } from "./vendor.ts";

const scope = new AsyncDisposableStack();
let vendor: Vendor;
let stack: TestStack;

/** What somebody set by hand. */
const event = "SESSION:COMPLETE";
const callback = {
  url: "https://example.com/by-hand",
  method: "GET",
  headers: { Authorization: "Bearer set-by-hand" },
  payload: { source: "by hand" },
};

beforeAll(async () => {
  vendor = scope.use(await openVendor());
  stack = scope.use(await openStack("existing"));
});
afterAll(() => scope.disposeAsync());

/** Sets an account in a stack's configuration: `apiKey` of `pave` is `hookplane:paveApiKey`. */
async function configure(of: TestStack, api: string, connection: object): Promise<void> {
  for (const [field, value] of Object.entries(connection)) {
    await of.setConfig(`hookplane:${api}${field.charAt(0).toUpperCase()}${field.slice(1)}`, String(value));
  }
}

test("a callback that exists already is not taken over: the error says how to import it", async () => {
  await vendor.raw.pave("POST", event, { event, ...callback });
  const { pave } = vendor.connections;
  await stack.program(
    declare("pave.Callback", "done", { event, url: "https://example.com", connection: pave }),
  );
  const up = await stack.up();
  expect(up.ok).toBe(false);
  expect(up.output).toMatch(/already has a callback for "SESSION:COMPLETE".*import it.*\[already_exists\]/s);
  expect(await vendor.raw.pave("GET", event)).toEqual({ event, ...callback });
});

test("what an account has is imported as it is: the preview after it is clean", async () => {
  const { pave } = vendor.connections;
  // How a secret is written in a state that is to be imported.
  const seal = (value: unknown) => ({
    "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
    plaintext: JSON.stringify(value),
  });
  const __provider = 'exports.handler=()=>require("hookplane/dynamic").provider("pave:Callback")';
  const values = { __provider, event, ...callback, headers: seal(callback.headers), connection: seal(pave) };
  const requests = await vendor.requestsOf(async () => {
    const imported = await stack.import([
      {
        type: "pulumi-nodejs:dynamic/pave:Callback",
        name: "done",
        id: event,
        inputs: values,
        outputs: values,
      },
    ]);
    expect(imported.ok, imported.output).toBe(true);
  });
  expect(requests.filter((request) => !request.startsWith("GET "))).toEqual([]);
  await stack.program(declare("pave.Callback", "done", { event, ...callback, connection: pave }));
  const preview = await stack.preview();
  expect(preview, preview.output).toMatchObject({ ok: true, steps: {} });

  // It is managed from then on like any other.
  await stack.program(
    declare("pave.Callback", "done", {
      event,
      ...callback,
      url: "https://example.com/ours",
      connection: pave,
    }),
  );
  const up = await stack.up();
  expect(up, up.output).toMatchObject({ ok: true, steps: { done: "update" } });
  expect(await vendor.raw.pave("GET", event)).toMatchObject({ url: "https://example.com/ours" });
});

test("get reads what is managed elsewhere, and leaves it alone", async () => {
  const { pave, twilio, casey } = vendor.connections;
  const other = scope.use(await openStack("get"));
  await vendor.raw.twilio({ PostWebhookUrl: "https://example.com/post" });
  const made = await fetch(`${vendor.url}/casey/v1/backend/webhooks`, {
    method: "POST",
    headers: { authorization: `Bearer ${casey.apiKey}`, "content-type": "application/json" },
    body: JSON.stringify({ url: "https://example.com/casey", event_types: ["test.event"] }),
  });
  const { data } = (await made.json()) as { data: { id: string; secret: string } };
  const get = (kind: string, id: string, connection: object) =>
    `hookplane.${kind}.get("${kind}", ${JSON.stringify(id)}, ${JSON.stringify({ connection })})`;
  await other.program(`
    const callback = ${get("pave.Callback", event, pave)};
    const conversations = ${get("twilio.ConversationsWebhook", twilio.accountSid, twilio)};
    const endpoint = ${get("casey.WebhookEndpoint", data.id, casey)};
    export const read = {
      url: callback.url,
      headers: callback.headers,
      post: conversations.postWebhookUrl,
      eventTypes: endpoint.eventTypes,
      secret: endpoint.secret,
    };
  `);
  const up = await other.up();
  expect(up.ok, up.output).toBe(true);
  expect(await other.outputs()).toEqual({
    read: {
      url: "https://example.com/ours",
      headers: callback.headers,
      post: "https://example.com/post",
      eventTypes: ["test.event"],
      secret: data.secret,
    },
  });
  const destroy = await other.destroy();
  expect(destroy.ok, destroy.output).toBe(true);
  expect(await vendor.raw.pave("GET", event)).toMatchObject({ url: "https://example.com/ours" });
  expect(await vendor.raw.casey()).toHaveLength(1);

  await other.program(`export const read = ${get("pave.Callback", "SESSION:NOTE_INSERT", pave)}.url;`);
  const missing = await other.up();
  expect(missing.ok).toBe(false);
  expect(missing.output).toMatch(/no pave:Callback "SESSION:NOTE_INSERT"; there are "SESSION:COMPLETE"/);
});

test("without a connection the stack's configuration is the account, and its credentials stay out of the state", async () => {
  const { pave, twilio, casey } = vendor.connections;
  const configured = scope.use(await openStack("configured"));
  const callbackAlone = declare("pave.Callback", "pave", {
    event: "SESSION:STATUS_CHANGE",
    url: "https://example.com",
  });
  await configured.program(callbackAlone);
  const none = await configured.up();
  expect(none.ok).toBe(false);
  expect(none.output).toMatch(
    /No PAVE account is configured.*hookplane:paveApiSecret.*HOOKPLANE_PAVE_API_SECRET/,
  );

  await configured.program(
    callbackAlone +
      declare("twilio.ConversationsWebhook", "twilio", { preWebhookUrl: "https://example.com/pre" }) +
      declare("casey.WebhookEndpoint", "casey", { url: "https://example.com/configured" }),
  );
  for (const [api, connection] of Object.entries({ pave, twilio, casey }))
    await configure(configured, api, connection);
  const up = await configured.up();
  expect(up, up.output).toMatchObject({
    ok: true,
    steps: { pave: "create", twilio: "create", casey: "create" },
  });
  const resources = Object.values(await configured.resources());
  const ours = JSON.stringify(resources.filter(({ type }) => type.includes("dynamic")));
  const { output: state } = await configured.pulumi("stack", "export");
  for (const secret of [pave.apiSecret, twilio.authToken, casey.apiKey]) {
    expect(ours).not.toContain(secret);
    // Pulumi's own provider resource has the configuration, encrypted.
    expect(state).not.toContain(secret);
  }
  const drift = await configured.drift();
  expect(drift, drift.output).toMatchObject({ ok: true, steps: {} });

  // After a rotation the configuration is all that has to follow.
  const rotated = {
    apiSecret: "rotated-secret",
    authToken: "rotated-token-0123456789abcdef",
    apiKey: "sk_test_2",
  };
  await vendor.rotate({
    pave: { apiSecret: rotated.apiSecret },
    twilio: { authToken: rotated.authToken },
    casey: { apiKey: rotated.apiKey },
  });
  await configured.setConfig("hookplane:paveApiSecret", rotated.apiSecret);
  await configured.setConfig("hookplane:twilioAuthToken", rotated.authToken);
  await configured.setConfig("hookplane:caseyApiKey", rotated.apiKey);
  const refresh = await configured.refresh({ runProgram: true });
  expect(refresh, refresh.output).toMatchObject({ ok: true, steps: {} });
  const destroy = await configured.destroy();
  expect(destroy.ok, destroy.output).toBe(true);
  expect(await vendor.raw.pave("GET", "SESSION:STATUS_CHANGE")).toBeUndefined();
});

test("credentials that the configuration has for the same account win over old ones in the state", async () => {
  // The state of the imported callback has the secret from before the rotation.
  const refused = await stack.refresh();
  expect(refused.ok).toBe(false);
  expect(refused.output).toMatch(/\[authentication_failed\]/);

  await configure(stack, "pave", vendor.connections.pave);
  const refresh = await stack.refresh({ runProgram: true });
  expect(refresh, refresh.output).toMatchObject({ ok: true, steps: {} });
  const destroy = await stack.destroy();
  expect(destroy.ok, destroy.output).toBe(true);
  expect(await vendor.raw.pave("GET", event)).toBeUndefined();
});
