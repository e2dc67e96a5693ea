import { afterAll, beforeAll, expect, test } from "vitest";
import { declare, openStack, type TestStack } from "./stack.ts";
import { openVendor, type Vendor } from "./vendor.ts";

const scope = new AsyncDisposableStack();
let vendor: Vendor;
let other: Vendor;
let stack: TestStack;

beforeAll(async () => {
  [vendor, other] = await Promise.all([openVendor(), openVendor()]);
  scope.use(vendor);
  scope.use(other);
  stack = scope.use(await openStack("change"));
});
afterAll(() => scope.disposeAsync());

const callback = { event: "SESSION:COMPLETE", url: "https://example.com/pave" };
const conversations = { method: "POST", filters: ["onMessageAdd"], onDelete: "retain" };
const endpoint = {
  url: "https://example.com/casey",
  description: "first",
  eventTypes: ["conversation.started"],
};

interface Declared {
  pave?: object;
  twilio?: object;
  casey?: Readonly<Record<string, object>>;
  connections?: Vendor["connections"];
}

/** The program with one callback, one configuration and an endpoint for each input that replaces one. */
async function declareAll({ pave = {}, twilio = {}, casey = {}, connections }: Declared = {}): Promise<void> {
  const accounts = connections ?? vendor.connections;
  await stack.program(
    [
      declare("pave.Callback", "pave", { ...callback, ...pave, connection: accounts.pave }),
      declare("twilio.ConversationsWebhook", "twilio", {
        ...conversations,
        ...twilio,
        connection: accounts.twilio,
      }),
      ...["url", "description", "eventTypes"].map((name) =>
        declare("casey.WebhookEndpoint", `casey-${name}`, {
          ...endpoint,
          ...casey[name],
          connection: accounts.casey,
        }),
      ),
    ].join(""),
  );
}

test("every input that can be changed in place is, and keeps its object", async () => {
  await declareAll();
  const up = await stack.up();
  expect(up.ok, up.output).toBe(true);
  const before = await stack.ids();

  const pave = {
    url: "http://127.0.0.1:9/changed",
    method: "get",
    headers: { Authorization: "Bearer new" },
    payload: { a: { b: [1, null] } },
  };
  const twilio = {
    method: "GET",
    filters: ["onUserAdded", "onMessageAdded"],
    preWebhookUrl: "https://example.com/pre",
    postWebhookUrl: "https://user:password@example.com/post",
    target: "flex",
  };
  await declareAll({ pave, twilio });
  const change = await stack.up();

  expect(change, change.output).toMatchObject({ ok: true, steps: { pave: "update", twilio: "update" } });
  expect(await stack.ids()).toEqual(before);
  expect(await vendor.raw.pave("GET", callback.event)).toEqual({ ...callback, ...pave, method: "GET" });
  expect(await vendor.raw.twilio()).toMatchObject({
    method: "GET",
    filters: ["onUserAdded", "onMessageAdded"],
    pre_webhook_url: twilio.preWebhookUrl,
    post_webhook_url: twilio.postWebhookUrl,
    target: "flex",
  });
});

test("what is only written in another way, or in another order, changes nothing", async () => {
  await declareAll({
    pave: {
      url: "http://127.0.0.1:9/changed",
      method: "GET",
      headers: { authorization: "Bearer new" },
      payload: { a: { b: [1, null] } },
    },
    twilio: {
      method: "get",
      filters: ["onMessageAdded", "onUserAdded"],
      preWebhookUrl: "https://example.com/pre",
      postWebhookUrl: "https://user:password@example.com/post",
      target: "flex",
    },
  });
  const preview = await stack.preview();
  expect(preview, preview.output).toMatchObject({ ok: true, steps: {} });
});

test("a Twilio value that is no longer declared stays as it is and is no longer watched; an empty one is cleared", async () => {
  await declareAll({ twilio: { filters: [], preWebhookUrl: "", method: undefined } });
  const up = await stack.up();
  expect(up.steps, up.output).toEqual({ pave: "update", twilio: "update" });
  expect(await vendor.raw.twilio()).toMatchObject({
    method: "GET",
    pre_webhook_url: null,
    post_webhook_url: "https://user:password@example.com/post",
    target: "flex",
  });
  expect((await vendor.raw.twilio()).filters ?? []).toEqual([]);

  await vendor.raw.twilio({ Method: "POST", PostWebhookUrl: "https://example.com/ours", Target: "webhook" });
  const drift = await stack.drift();
  expect(drift, drift.output).toMatchObject({ ok: true, steps: {} });
});

test("a changed event and each input of a Casey endpoint makes a new object and removes the old one", async () => {
  await declareAll();
  await stack.up();
  const before = await stack.ids();
  const requests = await vendor.requestsOf(async () => {
    await declareAll({
      pave: { event: "SESSION:NOTE_INSERT" },
      casey: {
        url: { url: "https://example.com/casey/2" },
        description: { description: "second" },
        eventTypes: { eventTypes: ["conversation.started", "test.event"] },
      },
    });
    const up = await stack.up();
    expect(up.steps, up.output).toEqual({
      pave: "replace",
      "casey-url": "replace",
      "casey-description": "replace",
      "casey-eventTypes": "replace",
    });
  });

  const after = await stack.ids();
  expect(await vendor.raw.pave("GET", "SESSION:COMPLETE")).toBeUndefined();
  expect(await vendor.raw.pave("GET", "SESSION:NOTE_INSERT")).toMatchObject({ url: callback.url });
  const replaced = ["casey-url", "casey-description", "casey-eventTypes"];
  const endpoints = await vendor.raw.casey();
  expect(endpoints.map(({ id }) => id).sort()).toEqual(replaced.map((name) => after[name]).sort());
  for (const name of replaced) expect(after[name]).not.toBe(before[name]);
  // Events go on arriving meanwhile: the new one is made before the old one goes.
  const order = requests.filter((request) => /^(POST|DELETE) \/casey/.test(request));
  expect(order.map((request) => request.split(" ")[0])).toEqual([
    ...replaced.map(() => "POST"),
    ...replaced.map(() => "DELETE"),
  ]);
});

test("other credentials of the same account only update the state, without a request that changes anything", async () => {
  await declareAll();
  await stack.up();
  const before = await stack.ids();
  const rotated = { apiSecret: "rotated-api-secret", authToken: "rotated-auth-token-0123456789ab" };
  await vendor.rotate({
    pave: { apiSecret: rotated.apiSecret },
    twilio: { authToken: rotated.authToken },
    casey: { apiKey: "sk_test_rotated_0123456789" },
  });
  await declareAll();

  const requests = await vendor.requestsOf(async () => {
    const up = await stack.up();
    expect(up, up.output).toMatchObject({
      ok: true,
      steps: {
        pave: "update",
        twilio: "update",
        "casey-url": "update",
        "casey-description": "update",
        "casey-eventTypes": "update",
      },
    });
  });

  expect(requests).toEqual([]);
  expect(await stack.ids()).toEqual(before);
  // The new ones are what a refresh and a destroy work with from now on.
  const refresh = await stack.refresh();
  expect(refresh, refresh.output).toMatchObject({ ok: true, steps: {} });
});

test("another account makes new objects there and removes those in the old one", async () => {
  await declareAll({ connections: other.connections });
  const up = await stack.up();

  expect(up, up.output).toMatchObject({
    ok: true,
    steps: {
      pave: "replace",
      twilio: "replace",
      "casey-url": "replace",
      "casey-description": "replace",
      "casey-eventTypes": "replace",
    },
  });
  expect(await vendor.raw.pave("GET", callback.event)).toBeUndefined();
  expect(await vendor.raw.casey()).toEqual([]);
  expect(await other.raw.pave("GET", callback.event)).toMatchObject({ url: callback.url });
  expect(await other.raw.casey()).toHaveLength(3);
  expect(await other.raw.twilio()).toMatchObject({ filters: ["onMessageAdd"] });
});

test("two accounts in one program each get their own objects, with the same names of events", async () => {
  await stack.program(
    [vendor, other]
      .flatMap(({ connections }, index) => [
        declare("pave.Callback", `pave-${index}`, {
          event: "SESSION:STATUS_CHANGE",
          url: `https://example.com/${index}`,
          connection: connections.pave,
        }),
        declare("twilio.ConversationsWebhook", `twilio-${index}`, {
          postWebhookUrl: `https://example.com/${index}`,
          onDelete: index === 0 ? "clear" : "restore",
          connection: connections.twilio,
        }),
        declare("casey.WebhookEndpoint", `casey-${index}`, {
          url: `https://example.com/${index}`,
          connection: connections.casey,
        }),
      ])
      .join(""),
  );
  await vendor.raw.twilio({ PostWebhookUrl: "https://example.com/before" });
  await other.raw.twilio({ PostWebhookUrl: "https://example.com/before" });
  const up = await stack.up();
  expect(up.ok, up.output).toBe(true);

  for (const [index, { raw }] of [vendor, other].entries()) {
    const url = `https://example.com/${index}`;
    expect(await raw.pave("GET", "SESSION:STATUS_CHANGE")).toMatchObject({ url });
    expect(await raw.twilio()).toMatchObject({ post_webhook_url: url });
    expect(await raw.casey()).toMatchObject([{ url }]);
  }
  const drift = await stack.drift();
  expect(drift, drift.output).toMatchObject({ ok: true, steps: {} });
});

test("destroy restores or clears what Twilio had, as the program said", async () => {
  const destroy = await stack.destroy();
  expect(destroy.ok, destroy.output).toBe(true);

  expect(await vendor.raw.twilio()).toMatchObject({ post_webhook_url: null });
  expect(await other.raw.twilio()).toMatchObject({
    post_webhook_url: "https://example.com/before",
    // Of the resource before, which was told to leave everything as it is.
    filters: ["onMessageAdd"],
  });
  for (const { raw } of [vendor, other]) {
    expect(await raw.pave("GET", "SESSION:STATUS_CHANGE")).toBeUndefined();
    expect(await raw.casey()).toEqual([]);
  }
});
