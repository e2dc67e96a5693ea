import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startService, type TestService } from "./service.suite.ts";

let service: TestService;
beforeAll(async () => {
  service = await startService();
  const { accountSid, authToken } = service.service.credentials["twilio"] as {
    accountSid: string;
    authToken: string;
  };
  const response = await fetch(`${service.url}/twilio/v1/Configuration/Webhooks`, {
    method: "POST",
    headers: { authorization: `Basic ${Buffer.from(`${accountSid}:${authToken}`).toString("base64")}` },
    body: new URLSearchParams({ PreWebhookUrl: `${service.url}/inbox/pre`, Filters: "onMessageAdd" }),
  });
  expect(response.status).toBe(200);
});
afterAll(() => service[Symbol.asyncDispose]());

const event = {
  eventType: "onMessageAdd",
  payload: { ConversationSid: "CH00000000000000000000000000000001", Body: "hello", Author: "dave" },
};

describe("POST …/hook", () => {
  test("answers what the receiver changes", async () => {
    await service.request("PUT", "/inbox/pre/answer", { status: 200, body: '{"body":"goodbye"}' });
    expect(await service.request("POST", "/api/v1/app/twilio/hook", event)).toMatchObject({
      status: 200,
      json: { publish: true, changes: { body: "goodbye" }, reason: expect.any(String) },
    });
  });

  test("answers that the receiver objects", async () => {
    await service.request("PUT", "/inbox/pre/answer", { status: 403 });
    expect(await service.request("POST", "/api/v1/app/twilio/hook", event)).toMatchObject({
      status: 200,
      json: { publish: false, changes: {}, reason: expect.stringContaining("403") },
    });
  });

  test("an event that the vendor does not have is answered with 422", async () => {
    const answer = await service.request("POST", "/api/v1/app/twilio/hook", {
      ...event,
      eventType: "onNothing",
    });
    expect(answer.status).toBe(422);
    expect(answer.json.detail[0].msg).toContain("onNothing");
  });

  test("faults are told all at once", async () => {
    const answer = await service.request("POST", "/api/v1/app/twilio/hook", { payload: [] });
    expect(answer.status).toBe(422);
    expect(answer.json.detail.map(({ loc }: { loc: string[] }) => loc.join())).toEqual([
      "body,eventType",
      "body,payload",
    ]);
  });

  test.each([["pave"], ["casey"]])(
    "the application %s, which has none, is answered with 404",
    async (application) => {
      const answer = await service.request("POST", `/api/v1/app/${application}/hook`, event);
      expect(answer).toMatchObject({
        status: 404,
        json: { code: "not_found", detail: expect.stringContaining("no blocking pre-events") },
      });
    },
  );

  test("an application that is not there is answered with 404", async () => {
    expect((await service.request("POST", "/api/v1/app/missing/hook", event)).status).toBe(404);
  });
});
