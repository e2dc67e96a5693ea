import { randomBytes } from "node:crypto";
import { Webhook } from "standardwebhooks";
import { Webhook as SvixWebhook } from "svix";
import twilio from "twilio";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { startReceiver, startService, type Receiver, type TestService } from "../api/service.suite.ts";
import type { CaseyCredentials } from "./casey/dialect.ts";
import { accounts, createSvixDialect } from "./index.ts";
import { toApiToken, type PaveCredentials } from "./pave/token.ts";
import type { TwilioCredentials } from "./twilio/dialect.ts";

let running: TestService;
let receiver: Receiver;
beforeAll(async () => {
  [running, receiver] = await Promise.all([startService(), startReceiver()]);
});
afterAll(async () => {
  await running[Symbol.asyncDispose]();
  await receiver[Symbol.asyncDispose]();
});
beforeEach(() => {
  receiver.requests.length = 0;
  receiver.answer = { status: 200, body: "" };
});

async function publish(account: string, eventType: string, payload: object, path = "msg") {
  return await running.request(
    "POST",
    `/api/v1/app/${account}/${path}`,
    { eventType, payload },
    { "content-type": "application/json" },
  );
}

/** The next request that the receiver gets. */
async function delivered() {
  return await vi.waitFor(() => {
    const [request] = receiver.requests;
    if (request === undefined) throw new Error("nothing arrived");
    return request;
  });
}

test("every vendor has its own name, prefix and dialect", () => {
  const names = [createSvixDialect().name, ...accounts.map(({ name }) => name)];
  expect(names).toEqual(["svix", "pave", "twilio", "casey"]);
  for (const { name, prefix } of accounts) expect(prefix.startsWith(`/${name}/`)).toBe(true);
});

describe("events published to the running service", () => {
  test("reach a PAVE callback with its headers and payload", async () => {
    const credentials = running.service.credentials["pave"] as PaveCredentials;
    const timestamp = new Date().toUTCString();
    const headers = {
      "api-key": credentials.apiKey,
      "api-token": toApiToken(credentials, timestamp),
      "api-timestamp": timestamp,
      "content-type": "application/json",
    };
    const set = await running.request(
      "POST",
      "/pave/v1/callbacks",
      {
        event: "SESSION:COMPLETE",
        url: receiver.url,
        headers: { Authorization: "Bearer jwt" },
        payload: { source: "PAVE" },
      },
      headers,
    );
    expect(set.status).toBe(200);
    await publish("pave", "SESSION:COMPLETE", { session: { session_key: "XXX-ABCDE12345" } });
    const request = await delivered();
    expect(request.headers.authorization).toBe("Bearer jwt");
    expect(JSON.parse(request.body)).toEqual({
      event: "SESSION:COMPLETE",
      session: { session_key: "XXX-ABCDE12345" },
      source: "PAVE",
    });
  });

  test("reach a Twilio webhook so that the official package validates them, and ask before", async () => {
    const { accountSid, authToken } = running.service.credentials["twilio"] as TwilioCredentials;
    const url = receiver.url;
    await running.request(
      "POST",
      "/twilio/v1/Configuration/Webhooks",
      new URLSearchParams([
        ["Filters", "onMessageAdd"],
        ["Filters", "onMessageAdded"],
        ["PreWebhookUrl", `${url}?pre`],
        ["PostWebhookUrl", `${url}?post#rc=1`],
      ]).toString(),
      {
        authorization: `Basic ${btoa(`${accountSid}:${authToken}`)}`,
        "content-type": "application/x-www-form-urlencoded",
      },
    );
    await publish("twilio", "onMessageAdded", { Body: "it's here", ConversationSid: "CH1" });
    const request = await delivered();
    expect(request.url).toBe("/hook?post");
    const signature = String(request.headers["x-twilio-signature"]);
    const form = Object.fromEntries(new URLSearchParams(request.body));
    expect(form).toMatchObject({ EventType: "onMessageAdded", AccountSid: accountSid, Body: "it's here" });
    expect(twilio.validateRequest(authToken, signature, `${url}?post`, form)).toBe(true);

    receiver.requests.length = 0;
    receiver.answer = { status: 200, body: '{"body":"changed"}' };
    const asked = await publish("twilio", "onMessageAdd", { Body: "hello" }, "hook");
    expect(asked.json).toMatchObject({ publish: true, changes: { body: "changed" } });
    expect((await delivered()).url).toBe("/hook?pre");
    receiver.answer = { status: 403, body: "" };
    expect((await publish("twilio", "onMessageAdd", { Body: "hello" }, "hook")).json).toMatchObject({
      publish: false,
    });
  });

  test("reach a Casey endpoint, signed with its secret; 410 disables it", async () => {
    const { apiKey } = running.service.credentials["casey"] as CaseyCredentials;
    const headers = { authorization: `Bearer ${apiKey}`, "content-type": "application/json" };
    const path = "/casey/v1/backend/webhooks";
    const { data } = (await running.request("POST", path, { url: receiver.url }, headers)).json;
    await publish("casey", "conversation.completed", { conversation_id: "c1" });
    const request = await delivered();
    expect(
      new Webhook(data.secret).verify(request.body, request.headers as Record<string, string>),
    ).toMatchObject({
      event_type: "conversation.completed",
      data: { conversation_id: "c1" },
    });

    receiver.requests.length = 0;
    receiver.answer = { status: 410, body: "" };
    const tested = await running.request("POST", `${path}/test`, undefined, headers);
    expect(tested.json).toEqual({ data: { success: true, message_id: expect.stringMatching(/^msg_/) } });
    expect(JSON.parse((await delivered()).body)).toMatchObject({
      event_type: "test.event",
      event_id: tested.json.data.message_id,
    });
    await vi.waitFor(async () => {
      const shown = await running.request("GET", `${path}/${data.id}`, undefined, headers);
      expect(shown.json.data.enabled).toBe(false);
    });
  });

  test("reach a Svix endpoint as they were published, signed with its secret", async () => {
    const application = await running.svix.application.create({ name: randomBytes(4).toString("hex") });
    const endpoint = await running.svix.endpoint.create(application.id, { url: receiver.url });
    const { key } = await running.svix.endpoint.getSecret(application.id, endpoint.id);
    await publish(application.id, "invoice.paid", { amount: 1 });
    const request = await delivered();
    new SvixWebhook(key).verify(request.body, request.headers as Record<string, string>);
    expect(request.body).toBe('{"amount":1}');
  });

  test("are refused with the nearest name when the vendor does not have them", async () => {
    const refused = await publish("pave", "SESSION:COMPLETED", {});
    expect(refused.status).toBe(422);
    expect(refused.text).toContain("SESSION:COMPLETE");
  });
});
