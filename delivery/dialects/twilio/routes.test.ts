import twilio from "twilio";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { describeAccount, runAccount, type RunningAccount } from "../account.suite.ts";
import type { TwilioCredentials } from "./dialect.ts";
import { twilioAccount } from "./index.ts";

const credentials: TwilioCredentials = { accountSid: `AC${"0a".repeat(16)}`, authToken: "f".repeat(32) };
const path = "/Configuration/Webhooks";
const codes: Record<number, number> = {
  401: 20003,
  404: 20404,
  413: 20001,
  415: 20001,
  500: 20500,
  503: 20503,
};

function authenticate({ accountSid, authToken }: TwilioCredentials) {
  return { authorization: `Basic ${btoa(`${accountSid}:${authToken}`)}` };
}

describeAccount<TwilioCredentials>({
  account: twilioAccount,
  route: { method: "POST", path, contentType: "application/x-www-form-urlencoded" },
  authenticate,
  errorBody: (status) => ({
    code: codes[status],
    ...(status === 401 && { detail: "Your AccountSid or AuthToken was incorrect." }),
    message: status === 401 ? "Authenticate" : expect.stringMatching(/\w+ \w+/),
    more_info: `https://www.twilio.com/docs/errors/${codes[status]}`,
    status,
  }),
});

let service: RunningAccount;
beforeAll(async () => {
  service = await runAccount(twilioAccount, credentials);
});
afterAll(() => service.close());
beforeEach(async () => {
  const endpoints = await service.endpoints();
  await service.store.write(async (tx) => {
    for (const endpoint of endpoints) await tx.endpoints.delete(endpoint.id);
  });
});

async function call(method: string, body?: string, at = path) {
  const answer = await fetch(service.url + at, {
    method,
    headers: { ...authenticate(credentials), "content-type": "application/x-www-form-urlencoded" },
    body: body ?? null,
  });
  return { status: answer.status, body: (await answer.json()) as { message?: string } };
}

/** The account as nobody has configured it. */
const fresh = () => ({
  account_sid: credentials.accountSid,
  pre_webhook_url: null,
  post_webhook_url: null,
  method: "POST",
  filters: null,
  target: "webhook",
  url: `${service.url}${path}`,
});
const full =
  "Method=GET&Filters=onMessageAdd&Filters=onMessageAdded&Target=flex" +
  "&PreWebhookUrl=https%3A%2F%2Fgate.example%2Fpre&PostWebhookUrl=https%3A%2F%2Freceiver.example%2F%23rc%3D2";
const fullBody = () => ({
  ...fresh(),
  method: "GET",
  filters: ["onMessageAdd", "onMessageAdded"],
  target: "flex",
  pre_webhook_url: "https://gate.example/pre",
  post_webhook_url: "https://receiver.example/#rc=2",
});

describe("GET /Configuration/Webhooks", () => {
  test("is always there, and makes nothing", async () => {
    expect(await call("GET")).toEqual({ status: 200, body: fresh() });
    expect(await service.endpoints()).toEqual([]);
  });
});

describe("POST /Configuration/Webhooks", () => {
  test("sets everything, answers 200, and keeps it in one endpoint", async () => {
    expect(await call("POST", full)).toEqual({ status: 200, body: fullBody() });
    expect(await call("GET")).toEqual({ status: 200, body: fullBody() });
    await call("POST", full);
    expect(await service.endpoints()).toMatchObject([
      { uid: "configuration", url: "https://receiver.example/#rc=2", secrets: [], disabled: false },
    ]);
  });

  test.each([
    ["Method=post", { method: "POST" }],
    ["Filters=onUserAdded", { filters: ["onUserAdded"] }],
    ["Filters=onUserAdded&Filters=onUserAdded", { filters: ["onUserAdded"] }],
    ["Filters=onMessageSend", { filters: ["onMessageSend"] }],
    ["Target=webhook", { target: "webhook" }],
    ["PreWebhookUrl=http%3A%2F%2Fg.example", { pre_webhook_url: "http://g.example" }],
    ["PostWebhookUrl=", { post_webhook_url: null }],
    ["PreWebhookUrl=", { pre_webhook_url: null }],
    ["Filters=", { filters: [] }],
    ["Method=&Target=", { method: "POST", target: "webhook" }],
    ["", {}],
    ["Unknown=1&Filters%5B0%5D=onUserAdded", {}],
  ])("%j changes that alone", async (form, changes) => {
    await call("POST", full);
    expect(await call("POST", form)).toEqual({ status: 200, body: { ...fullBody(), ...changes } });
    expect(await call("GET")).toEqual({ status: 200, body: { ...fullBody(), ...changes } });
  });

  test("takes a request without a body as one that changes nothing", async () => {
    const answer = await fetch(service.url + path, { method: "POST", headers: authenticate(credentials) });
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual(fresh());
  });

  test.each([
    ["Method=PUT", 50055, "Invalid webhook method"],
    ["Target=studio", 50364, "Invalid webhook target"],
    ["Filters=onMessageAddded", 50365, 'Did you mean "onMessageAdded"?'],
    ["Filters=onMessageAdded&Filters=", 50365, "Invalid webhook filter"],
    ["PostWebhookUrl=receiver.example", 11100, "PostWebhookUrl must be absolute"],
    ["PreWebhookUrl=ftp%3A%2F%2Fx", 11100, "PreWebhookUrl must be absolute"],
  ])("refuses %s with 400 and code %i", async (form, code, message) => {
    await call("POST", full);
    expect(await call("POST", form)).toEqual({
      status: 400,
      body: {
        code,
        message: expect.stringContaining(message),
        more_info: `https://www.twilio.com/docs/errors/${code}`,
        status: 400,
      },
    });
    expect(await call("GET")).toMatchObject({ body: fullBody() });
  });

  test("names all that is wrong at once", async () => {
    const { body } = await call("POST", "Method=PUT&Target=x&Filters=y&PreWebhookUrl=z&PostWebhookUrl=z");
    for (const part of ["method", "target", '"y"', "PreWebhookUrl", "PostWebhookUrl"]) {
      expect(body.message).toContain(part);
    }
    expect(await service.endpoints()).toEqual([]);
  });

  test("puts a configuration that was disabled into use again", async () => {
    await call("POST", full);
    const [endpoint] = await service.endpoints();
    await service.store.write((tx) => tx.endpoints.update({ ...endpoint!, disabled: true }));
    await call("POST", "Method=POST");
    expect(await service.endpoints()).toMatchObject([{ disabled: false }]);
  });
});

test.each(["PUT", "PATCH", "DELETE"])("%s is not allowed", async (method) => {
  expect(await call(method)).toMatchObject({ status: 405, body: { code: 20004, status: 405 } });
});

test("another resource is not found, in Twilio's words", async () => {
  expect(await call("GET", undefined, "/Services?PageSize=1")).toEqual({
    status: 404,
    body: {
      code: 20404,
      message: "The requested resource /twilio/v1/Services was not found",
      more_info: "https://www.twilio.com/docs/errors/20404",
      status: 404,
    },
  });
});

describe("the official twilio package", () => {
  /** Its own client, sent to this service instead of Twilio. */
  function client(authToken = credentials.authToken) {
    const httpClient = new twilio.RequestClient();
    const send = httpClient.request.bind(httpClient);
    httpClient.request = (options) =>
      send({ ...options, uri: options.uri.replace("https://conversations.twilio.com/v1", service.url) });
    return twilio(credentials.accountSid, authToken, { httpClient }).conversations.v1.configuration;
  }

  test("fetches and updates the configuration", async () => {
    const updated = await client()
      .webhooks()
      .update({
        filters: ["onMessageAdd", "onMessageAdded"],
        postWebhookUrl: "https://receiver.example/a?b=c&d=e",
        method: "GET",
      });
    expect(updated).toMatchObject({
      accountSid: credentials.accountSid,
      filters: ["onMessageAdd", "onMessageAdded"],
      postWebhookUrl: "https://receiver.example/a?b=c&d=e",
      preWebhookUrl: null,
      method: "GET",
      target: "webhook",
    });
    expect((await client().webhooks().fetch()).toJSON()).toEqual(updated.toJSON());
  });

  test("keeps what it leaves out, and clears with an empty text", async () => {
    await client().webhooks().update({ preWebhookUrl: "https://gate.example/", method: "GET" });
    await client().webhooks().update({});
    expect(await client().webhooks().fetch()).toMatchObject({
      preWebhookUrl: "https://gate.example/",
      method: "GET",
    });
    expect(await client().webhooks().update({ preWebhookUrl: "" })).toMatchObject({
      preWebhookUrl: null,
      method: "GET",
    });
  });

  test("understands the errors", async () => {
    await expect(client("wrong").webhooks().fetch()).rejects.toMatchObject({
      status: 401,
      code: 20003,
      message: "Authenticate",
      moreInfo: "https://www.twilio.com/docs/errors/20003",
    });
    await expect(client().webhooks().update({ method: "PUT" })).rejects.toMatchObject({
      status: 400,
      code: 50055,
    });
  });
});

test("where the service sends to https alone, other URLs are refused, and none is none", async () => {
  const strict = await runAccount(twilioAccount, credentials, { httpsOnly: true });
  const send = async (form: Record<string, string>) => {
    const body = new URLSearchParams(form);
    const answer = await fetch(strict.url + path, {
      method: "POST",
      headers: authenticate(credentials),
      body,
    });
    return { status: answer.status, body: await answer.json() };
  };
  const plain = "http://receiver.example/hook";
  expect(await send({ PreWebhookUrl: plain, PostWebhookUrl: plain })).toMatchObject({
    status: 400,
    body: {
      code: 11100,
      message:
        "Invalid URL format: PreWebhookUrl must begin with https://, this service sends to no other. " +
        "Invalid URL format: PostWebhookUrl must begin with https://, this service sends to no other.",
    },
  });
  expect(await send({ PreWebhookUrl: "", PostWebhookUrl: "https://receiver.example/hook" })).toMatchObject({
    status: 200,
    body: { pre_webhook_url: null, post_webhook_url: "https://receiver.example/hook" },
  });
  await strict.close();
});
