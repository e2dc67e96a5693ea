import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createHttpClient } from "../../http/client.ts";
import { openVendorServer, type VendorAnswer, type VendorRequest } from "../../http/vendor-server.suite.ts";
import { createLifecycle, InitFailedError } from "../../lifecycle.ts";
import { createTestHost, testResource } from "../../resource.suite.ts";
import { conversationsWebhook } from "./conversations-webhook.ts";

const accountSid = `AC${"0".repeat(32)}`;
const events = ["onMessageAdd", "onMessageAdded", "onConversationAdded", "onUserUpdated"];
const webhookUrl = fc.oneof(
  fc.constantFrom("", "https://user:password@example.com/hook", "https://example.com/hook#rc=2&ct=1000"),
  fc.webUrl({ withFragments: true, withQueryParameters: true }),
);

testResource({
  resource: conversationsWebhook,
  connection: ({ url, credentials }) => ({ url: `${url}/twilio`, ...credentials.twilio }),
  wrongCredentials: { authToken: "not-the-token" },
  declared: {
    method: "GET",
    filters: ["onMessageAdd", "onMessageAdded"],
    preWebhookUrl: "https://example.com/pre",
    postWebhookUrl: "https://example.com/post",
    target: "flex",
    onDelete: "clear",
  },
  changed: {
    method: "POST",
    filters: ["onUserAdded"],
    preWebhookUrl: "https://example.com/other-pre",
    postWebhookUrl: "https://example.com/other-post",
    target: "webhook",
    onDelete: "retain",
  },
  declarations: fc.record(
    {
      method: fc.constantFrom("get", "GET", "POST"),
      filters: fc.subarray(events),
      preWebhookUrl: webhookUrl,
      postWebhookUrl: webhookUrl,
      target: fc.constantFrom("webhook", "flex"),
      onDelete: fc.constantFrom("restore", "retain", "clear"),
    },
    { requiredKeys: [] },
  ),
  isSingleton: true,
});

/** A Twilio account whose configuration is `held`. */
async function openTwilio(given: Record<string, unknown> = {}) {
  const held: Record<string, unknown> = {
    account_sid: accountSid,
    method: "POST",
    filters: null,
    pre_webhook_url: null,
    post_webhook_url: null,
    target: "webhook",
    ...given,
  };
  const handle = ({ method, body }: VendorRequest): VendorAnswer => {
    const form = new URLSearchParams(body);
    for (const name of method === "POST" ? new Set(form.keys()) : []) {
      const key = name.replace(/(?<!^)[A-Z]/g, "_$&").toLowerCase();
      const values = form.getAll(name).filter((value) => value !== "");
      held[key] = name === "Filters" ? values : (values[0] ?? "");
    }
    return { status: 200, json: held };
  };
  const server = await openVendorServer(handle);
  return {
    url: server.url,
    held,
    misbehave: server.misbehave,
    requests: server.requests,
    posts: () => server.requests.filter(({ method }) => method === "POST").map(({ body }) => body),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

const http = createHttpClient({ limits: { baseDelayMs: 1, maxAttempts: 2, attemptTimeoutMs: 1_000 } });
const lifecycle = createLifecycle(conversationsWebhook, createTestHost({ http }));
const declareAt = (url: string, values: object) => {
  const checked = lifecycle.check({ ...values, connection: { url, accountSid, authToken: "token-1234" } });
  expect(checked.failures).toEqual([]);
  return checked.inputs;
};
const pre = "https://example.com/pre";
const post = "https://example.com/post";

describe("twilio.ConversationsWebhook inputs", () => {
  const reasons = (values: object, connection: object = {}) =>
    lifecycle.check({ ...values, connection: { accountSid, authToken: "token-1234", ...connection } })
      .failures;

  test("names every fault at once, each on its property", () => {
    expect(
      reasons({
        method: "PUT",
        filters: ["onMessageAdd", "onMessageSend", "onMessageAdd"],
        preWebhookUrl: "example.com/pre",
        postWebhookUrl: "ftp://example.com/post",
        target: "phone",
      }).map(({ property }) => property),
    ).toEqual(["method", "filters[1]", "filters[2]", "preWebhookUrl", "postWebhookUrl", "target"]);
  });

  test("names the known events and the nearest one", () => {
    const [failure] = reasons({ filters: ["onMesageAdded"] });
    expect(failure?.reason).toContain('did you mean "onMessageAdded"?');
    expect(failure?.reason).toContain('"onDeliveryUpdated"');
  });

  test("never repeats a url, which may hold credentials", () => {
    expect(JSON.stringify(reasons({ preWebhookUrl: "user:canary@example.com/pre" }))).not.toContain("canary");
  });

  test("takes an API key in place of the auth token, but only a whole one", () => {
    expect(reasons({}, { authToken: undefined, apiKeySid: "SK1", apiKeySecret: "s" })).toEqual([]);
    expect(reasons({}, { apiKeySid: "SK1" })).toMatchObject([{ property: "connection.apiKeySecret" }]);
    expect(reasons({}, { authToken: undefined })).toMatchObject([{ property: "connection.authToken" }]);
    expect(reasons({}, { accountSid: "nobody" })).toMatchObject([{ property: "connection.accountSid" }]);
  });
});

describe("twilio.ConversationsWebhook manages only what is declared", () => {
  test("sends what differs, in Twilio's form, and leaves the rest alone", async () => {
    await using twilio = await openTwilio({ post_webhook_url: post });
    const inputs = declareAt(twilio.url, {
      filters: ["onMessageAdd", "onMessageAdded"],
      preWebhookUrl: "https://user:password@example.com/pre?a=b",
      postWebhookUrl: post,
    });
    const { id, state } = await lifecycle.create(inputs);
    expect(id).toBe(accountSid);
    expect(twilio.posts()).toEqual([
      "Filters=onMessageAdd&Filters=onMessageAdded&" +
        "PreWebhookUrl=https%3A%2F%2Fuser%3Apassword%40example.com%2Fpre%3Fa%3Db",
    ]);
    expect(state).not.toHaveProperty("method");

    twilio.held.method = "GET";
    const found = await lifecycle.read(id, state);
    expect((await lifecycle.diff(id, found?.state ?? {}, inputs)).changes).toEqual({});
  });

  test("sends nothing where all is as declared", async () => {
    await using twilio = await openTwilio({ pre_webhook_url: pre, filters: ["onUserAdded", "onMessageAdd"] });
    await lifecycle.create(
      declareAt(twilio.url, { preWebhookUrl: pre, filters: ["onMessageAdd", "onUserAdded"] }),
    );
    expect(twilio.posts()).toEqual([]);
  });

  test("clears what is declared as empty", async () => {
    await using twilio = await openTwilio({ pre_webhook_url: pre, filters: ["onMessageAdd"] });
    const inputs = declareAt(twilio.url, { preWebhookUrl: "", filters: [] });
    const { id, state } = await lifecycle.create(inputs);
    expect(twilio.posts()).toEqual(["Filters=&PreWebhookUrl="]);
    expect((await lifecycle.diff(id, state, inputs)).changes).toEqual({});

    twilio.held.pre_webhook_url = post;
    const found = await lifecycle.read(id, state);
    expect(await lifecycle.diff(id, found?.state ?? {}, inputs)).toMatchObject({
      action: "update",
      properties: ["preWebhookUrl"],
    });
  });

  test("shows a filter that Twilio knows and the list does not, and repairs it", async () => {
    await using twilio = await openTwilio();
    const inputs = declareAt(twilio.url, { filters: ["onMessageAdd"] });
    const { id, state } = await lifecycle.create(inputs);
    twilio.held.filters = ["onMessageSend"];
    const found = await lifecycle.read(id, state);
    expect(found?.state.filters).toEqual(["onMessageSend"]);
    await lifecycle.update(id, found?.state ?? {}, inputs);
    expect(twilio.held.filters).toEqual(["onMessageAdd"]);
  });

  test("authenticates with the API key where there is one", async () => {
    await using twilio = await openTwilio();
    const inputs = declareAt(twilio.url, {});
    const connection = { url: twilio.url, accountSid, apiKeySid: "SK1", apiKeySecret: "secret" };
    await lifecycle.create({ ...inputs, connection });
    const [user] = twilio.requests.map(({ headers }) => headers.authorization);
    expect(user).toBe(`Basic ${Buffer.from("SK1:secret").toString("base64")}`);
  });

  test("does not touch the account of somebody else's API key", async () => {
    await using twilio = await openTwilio({ account_sid: `AC${"9".repeat(32)}` });
    await expect(lifecycle.create(declareAt(twilio.url, { preWebhookUrl: pre }))).rejects.toMatchObject({
      code: "invalid_input",
    });
    expect(twilio.posts()).toEqual([]);
  });

  test("is imported under its account's SID only", async () => {
    await using twilio = await openTwilio();
    const { connection } = declareAt(twilio.url, {});
    await expect(lifecycle.read("webhook", { connection })).rejects.toMatchObject({ code: "invalid_input" });
  });
});

describe("twilio.ConversationsWebhook when it is deleted", () => {
  const before = { pre_webhook_url: "https://example.com/old", filters: ["onUserAdded"], method: "GET" };
  const wanted = { preWebhookUrl: pre, filters: ["onMessageAdd"], method: "POST" };

  test("gives back what was there before, and only that", async () => {
    await using twilio = await openTwilio(before);
    const { id, state } = await lifecycle.create(declareAt(twilio.url, wanted));
    twilio.held.post_webhook_url = post;
    await lifecycle.delete(id, state);
    expect(twilio.held).toMatchObject({ ...before, post_webhook_url: post });
  });

  test("gives back empty values too", async () => {
    await using twilio = await openTwilio();
    const { id, state } = await lifecycle.create(declareAt(twilio.url, wanted));
    await lifecycle.delete(id, state);
    expect(twilio.held).toMatchObject({ filters: [], pre_webhook_url: "", method: "POST" });
  });

  test("gives back the value from before an input was added", async () => {
    await using twilio = await openTwilio(before);
    const { id, state } = await lifecycle.create(declareAt(twilio.url, wanted));
    twilio.held.post_webhook_url = "https://example.com/meanwhile";
    const more = declareAt(twilio.url, { ...wanted, postWebhookUrl: post });
    const updated = await lifecycle.update(id, state, more);
    expect(twilio.held.post_webhook_url).toBe(post);
    await lifecycle.delete(id, updated.state);
    expect(twilio.held).toMatchObject({ ...before, post_webhook_url: "https://example.com/meanwhile" });
  });

  test("leaves a value alone whose input was removed", async () => {
    await using twilio = await openTwilio(before);
    const { id, state } = await lifecycle.create(declareAt(twilio.url, wanted));
    const updated = await lifecycle.update(id, state, declareAt(twilio.url, { preWebhookUrl: pre }));
    await lifecycle.delete(id, updated.state);
    expect(twilio.held).toMatchObject({
      pre_webhook_url: before.pre_webhook_url,
      filters: ["onMessageAdd"],
      method: "POST",
    });
  });

  test("leaves all as it is with onDelete: retain", async () => {
    await using twilio = await openTwilio(before);
    const { id, state } = await lifecycle.create(declareAt(twilio.url, { ...wanted, onDelete: "retain" }));
    await lifecycle.delete(id, state);
    expect(twilio.held).toMatchObject({ pre_webhook_url: pre, filters: ["onMessageAdd"], method: "POST" });
  });

  test("empties what it managed with onDelete: clear", async () => {
    await using twilio = await openTwilio({ ...before, post_webhook_url: post });
    const { id, state } = await lifecycle.create(declareAt(twilio.url, { ...wanted, onDelete: "clear" }));
    await lifecycle.delete(id, state);
    expect(twilio.held).toMatchObject({ pre_webhook_url: "", filters: [], post_webhook_url: post });
  });

  test("changes nothing after an import, which knows no values from before", async () => {
    await using twilio = await openTwilio(before);
    const { connection } = declareAt(twilio.url, {});
    const found = await lifecycle.read(accountSid, { connection });
    await lifecycle.delete(accountSid, found?.state ?? {});
    expect(twilio.posts()).toEqual([]);
  });

  test("comes before its replacement, which would take our values for those from before", async () => {
    expect(conversationsWebhook.deleteBeforeReplace?.({}, {})).toBe(true);
  });
});

describe("twilio.ConversationsWebhook at a Twilio that misbehaves", () => {
  test("names the request, though the values from before that the state keeps secret have its method", async () => {
    await using twilio = await openTwilio({
      method: "POST",
      post_webhook_url: "https://user:canary-word@example.com/",
    });
    const { id, state } = await lifecycle.create(
      declareAt(twilio.url, { method: "GET", postWebhookUrl: post }),
    );
    expect(state.prior).toMatchObject({ method: "POST" });
    twilio.misbehave({ status: 500, json: { message: "no use for https://user:canary-word@example.com/" } });
    const error = await lifecycle.delete(id, state).catch(String);
    expect(error).toContain(`POST ${twilio.url}/v1/Configuration/Webhooks`);
    expect(error).not.toContain("canary-word");
  });

  test.each(["reset after effect", "truncated", { status: 429 }, { status: 503 }] as const)(
    "is set all the same after %o",
    async (behavior) => {
      await using twilio = await openTwilio();
      twilio.misbehave(null, behavior);
      const { state } = await lifecycle.create(declareAt(twilio.url, { preWebhookUrl: pre }));
      expect(state).toMatchObject({ preWebhookUrl: pre, prior: { preWebhookUrl: "" } });
    },
  );

  test("does not forget what was before when every answer was lost", async () => {
    await using twilio = await openTwilio({ pre_webhook_url: "https://example.com/old" });
    twilio.misbehave(null, "reset after effect", "reset after effect");
    const inputs = declareAt(twilio.url, { preWebhookUrl: pre });
    const failed = await lifecycle.create(inputs).catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(InitFailedError);
    const { made } = failed as InitFailedError;
    const repaired = await lifecycle.update(made.id, made.state, inputs);
    await lifecycle.delete(made.id, repaired.state);
    expect(twilio.held.pre_webhook_url).toBe("https://example.com/old");
  });

  test("shows Twilio's own words and code", async () => {
    await using twilio = await openTwilio();
    const json = { code: 50055, message: "Invalid webhook method", more_info: "https://…", status: 400 };
    twilio.misbehave(null, { status: 400, json });
    await expect(lifecycle.create(declareAt(twilio.url, { method: "GET" }))).rejects.toMatchObject({
      code: "rejected",
      message: expect.stringContaining("Invalid webhook method (code 50055)"),
    });
  });
});
