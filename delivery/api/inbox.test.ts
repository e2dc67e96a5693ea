import { createHmac } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Webhook } from "svix";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { InboxRequest } from "./inbox.ts";
import { eventually, startService, type TestService } from "./service.suite.ts";

let service: TestService;
beforeAll(async () => {
  service = await startService();
  await service.svix.application.create({ name: "a", uid: "a" });
});
afterAll(() => service[Symbol.asyncDispose]());

async function received(name: string, after = ""): Promise<InboxRequest[]> {
  return (await service.request("GET", `/inbox/${name}/requests?after=${after}`)).json.data as InboxRequest[];
}

async function receivedOne(name: string): Promise<InboxRequest> {
  await eventually(async () => {
    expect(await received(name)).toHaveLength(1);
  });
  return (await received(name))[0]!;
}

describe("receiving", () => {
  test("needs no token, answers 204 and keeps the request", async () => {
    const response = await fetch(`${service.url}/inbox/any?x=1`, {
      method: "PUT",
      headers: { "x-team": "core", "content-type": "text/plain" },
      body: "hello",
    });
    expect(response.status).toBe(204);
    expect(await received("any")).toEqual([
      {
        id: expect.stringMatching(/^req_/),
        receivedAt: expect.any(String),
        method: "PUT",
        url: `${service.url}/inbox/any?x=1`,
        headers: expect.objectContaining({ "x-team": "core" }),
        body: "hello",
        verified: false,
        by: null,
        application: null,
        endpointId: null,
        reasons: ["no endpoint has this address"],
      },
    ]);
  });

  test("what may be a secret is not shown", async () => {
    await fetch(`${service.url}/inbox/secret`, {
      headers: { authorization: "Bearer canary", cookie: "a=canary", "x-api-key": "canary" },
    });
    const answer = await service.request("GET", "/inbox/secret/requests");
    expect(answer.json.data[0].headers).toMatchObject({
      authorization: "***",
      cookie: "***",
      "x-api-key": "***",
    });
    expect(answer.text).not.toContain("canary");
  });

  test("a long body is cut", async () => {
    await fetch(`${service.url}/inbox/long`, { method: "POST", body: "a".repeat(70_000) });
    expect((await received("long"))[0]!.body).toHaveLength(65_536);
  });

  test("what came after a request can be asked for", async () => {
    for (const n of [1, 2, 3]) await fetch(`${service.url}/inbox/after?n=${n}`);
    const [first] = await received("after");
    expect((await received("after", first!.id)).map(({ url }) => url.at(-1))).toEqual(["2", "3"]);
  });

  test("reading, programming and clearing need the token", async () => {
    for (const [method, path] of [
      ["GET", "/requests"],
      ["PUT", "/answer"],
      ["DELETE", ""],
    ] as const) {
      expect((await fetch(`${service.url}/inbox/any${path}`, { method })).status).toBe(401);
    }
  });

  test("clearing forgets the requests and the programmed answer", async () => {
    await service.request("PUT", "/inbox/cleared/answer", { status: 500 });
    await fetch(`${service.url}/inbox/cleared`);
    expect((await service.request("DELETE", "/inbox/cleared")).status).toBe(204);
    expect(await received("cleared")).toEqual([]);
    expect((await fetch(`${service.url}/inbox/cleared`)).status).toBe(204);
  });

  test("without --inbox there is none", async () => {
    await using plain = await startService({ inbox: false });
    expect((await plain.request("POST", "/inbox/any", {})).status).toBe(404);
    expect((await plain.request("GET", "/inbox/any/requests")).status).toBe(404);
  });
});

describe("the programmed answer", () => {
  test("is given from then on", async () => {
    await service.request("PUT", "/inbox/answer/answer", {
      status: 201,
      headers: { "content-type": "application/json", "x-more": "yes" },
      body: '{"a":1}',
    });
    for (const n of [1, 2]) {
      const response = await fetch(`${service.url}/inbox/answer?n=${n}`, { method: "POST", body: "{}" });
      expect([response.status, response.headers.get("x-more"), await response.json()]).toEqual([
        201,
        "yes",
        { a: 1 },
      ]);
    }
  });

  test("is given late when asked for", async () => {
    await service.request("PUT", "/inbox/late/answer", { delayMs: 80 });
    const started = performance.now();
    expect((await fetch(`${service.url}/inbox/late`)).status).toBe(204);
    expect(performance.now() - started).toBeGreaterThanOrEqual(75);
  });

  test("does not hold up the service when it stops", async () => {
    const stopping = await startService();
    await stopping.request("PUT", "/inbox/late/answer", { delayMs: 60_000 });
    const late = fetch(`${stopping.url}/inbox/late`).catch(() => undefined);
    await sleep(50);
    const started = performance.now();
    await stopping[Symbol.asyncDispose]();
    await late;
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test.each([
    ["a status that ends no answer", { status: 100 }, "status"],
    ["a status that there is not", { status: 600 }, "status"],
    ["a header that HTTP forbids", { headers: { "a b": "c" } }, "headers"],
    ["a header that frames the answer", { headers: { "content-length": "5" } }, "headers"],
    ["a header that clients give up on", { headers: { a: "x".repeat(10_000) } }, "headers"],
    ["a delay over a minute", { delayMs: 60_001 }, "delayMs"],
    ["a body that is no text", { body: {} }, "body"],
  ])("%s is answered with 422", async (_, body, member) => {
    expect(await service.request("PUT", "/inbox/wrong/answer", body)).toMatchObject({
      status: 422,
      json: { detail: [{ loc: ["body", member] }] },
    });
  });
});

describe("verification", () => {
  test("a delivery is known by its signature", async () => {
    const { id } = await service.svix.endpoint.create("a", {
      url: `${service.url}/inbox/svix`,
      eventTypes: ["svix"],
    });
    await service.svix.message.create("a", { eventType: "svix", payload: { n: 1 } });
    expect(await receivedOne("svix")).toMatchObject({
      method: "POST",
      body: '{"n":1}',
      verified: true,
      by: "signature",
      application: "a",
      endpointId: id,
      reasons: [],
    });
  });

  test("a delivery that was changed on the way is not, and the reason is told", async () => {
    const { id } = await service.svix.endpoint.create("a", { url: `${service.url}/inbox/forged` });
    await fetch(`${service.url}/inbox/forged`, {
      method: "POST",
      headers: {
        "webhook-id": "msg_1",
        "webhook-timestamp": String(Math.floor(Date.now() / 1000)),
        "webhook-signature": "v1,AAAA",
      },
      body: "{}",
    });
    expect(await receivedOne("forged")).toMatchObject({
      verified: false,
      endpointId: null,
      reasons: [`${id} of a: no signature matches a valid secret`],
    });
  });

  test("a delivery to another name of the same host verifies too", async () => {
    const url = `${service.url.replace("127.0.0.1", "localhost")}/inbox/host?a=b`;
    const { id } = await service.svix.endpoint.create("a", { url, eventTypes: ["host"] });
    const { key } = await service.svix.endpoint.getSecret("a", id);
    const now = new Date();
    const headers = {
      "webhook-id": "msg_1",
      "webhook-timestamp": String(Math.floor(now.getTime() / 1000)),
      "webhook-signature": new Webhook(key).sign("msg_1", now, "{}"),
    };
    await fetch(url, { method: "POST", headers, body: "{}" });
    expect(await receivedOne("host")).toMatchObject({ verified: true, endpointId: id });
  });

  test("a PAVE delivery, which has no signature, is known by the callback's own headers", async () => {
    const { username, apiKey, apiSecret } = service.service.credentials["pave"] as Record<string, string>;
    const timestamp = new Date().toISOString().replace(/\.\d+/, "");
    const token = createHmac("sha256", apiSecret!).update(`${username}:${apiKey}@${timestamp}`).digest("hex");
    const created = await fetch(`${service.url}/pave/v1/callbacks`, {
      method: "POST",
      headers: {
        "api-key": apiKey!,
        "api-token": token,
        "api-timestamp": timestamp,
        "content-type": "application/json",
      },
      body: JSON.stringify({
        event: "SESSION:COMPLETE",
        url: `${service.url}/inbox/pave`,
        headers: { Authorization: "Bearer canary" },
      }),
    });
    expect(created.status).toBe(200);
    await service.svix.message.create("pave", { eventType: "SESSION:COMPLETE", payload: { session: {} } });
    expect(await receivedOne("pave")).toMatchObject({
      headers: expect.objectContaining({ authorization: "***" }),
      verified: true,
      by: "credentials",
      application: "pave",
    });
  });

  test.each([
    ["by GET, which adds parameters to the URL,", "twilio-get", "GET", (url: string) => `${url}?a=b`],
    [
      "to a URL with credentials and connection settings",
      "twilio-post",
      "POST",
      (url: string) => `${url.replace("://", "://user:password@")}#rc=1`,
    ],
  ] as const)("a Twilio delivery %s is known by its signature", async (_title, name, method, addressOf) => {
    const { accountSid, authToken } = service.service.credentials["twilio"] as Record<string, string>;
    await fetch(`${service.url}/twilio/v1/Configuration/Webhooks`, {
      method: "POST",
      headers: { authorization: `Basic ${Buffer.from(`${accountSid}:${authToken}`).toString("base64")}` },
      body: new URLSearchParams({
        PostWebhookUrl: addressOf(`${service.url}/inbox/${name}`),
        Method: method,
        Filters: "onMessageAdded",
      }),
    });
    await service.svix.message.create("twilio", {
      eventType: "onMessageAdded",
      payload: { ConversationSid: "CH00000000000000000000000000000001", Body: "it's & more", Author: "dave" },
    });
    expect(await receivedOne(name)).toMatchObject({
      method,
      verified: true,
      by: "signature",
      application: "twilio",
    });
  });
});
