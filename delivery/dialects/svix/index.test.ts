import { Webhook as StandardWebhook } from "standardwebhooks";
import { Webhook as SvixWebhook } from "svix";
import { describe, expect, test } from "vitest";
import { standardDeliveryOptions } from "../../core/standard-delivery.ts";
import { aMessage, anEndpoint, anInput, describeDialect, suiteTime } from "../dialect.suite.ts";
import { createSvixDialect } from "./index.ts";

const svixDialect = createSvixDialect();
const [secret] = anEndpoint().secrets;

describeDialect({
  dialect: svixDialect,
  endpoint: anEndpoint({ filterTypes: ["invoice.paid"] }),
  deafEndpoint: anEndpoint({ filterTypes: ["invoice.sent"] }),
  eventType: "invoice.paid",
  payload: { id: 1, note: "Grüße" },
  proof: "signature",
  proofHeaders: ["svix-signature", "svix-timestamp", "svix-id"],
  covers: ["body"],
  otherFailure: "retry",
});

describe("createSvixDialect()", () => {
  const published = Buffer.from('{ "amount": 1.0, "big": 12345678901234567890 }');
  const message = aMessage("invoice.paid", {}, { payload: published });
  const request = svixDialect.encode(anInput(anEndpoint(), message));

  test("sends the payload's bytes as they were published", () => {
    expect(request.body).toBe(published);
    expect(request).toMatchObject({ method: "POST", headers: { "content-type": "application/json" } });
  });

  test("is verified by the official packages, in both header families", () => {
    const now = Date.now();
    const { headers } = svixDialect.encode({ ...anInput(anEndpoint(), message), now });
    const only = (family: string) =>
      Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith(family)));
    new SvixWebhook(secret!.key).verify(published, only("svix-"));
    new SvixWebhook(secret!.key).verify(published, only("webhook-"));
    expect(new StandardWebhook(secret!.key).verify(published, only("webhook-"))).toMatchObject({ amount: 1 });
    expect(() => {
      new SvixWebhook(secret!.key).verify("{}", headers);
    }).toThrow("No matching signature");
  });

  test("keeps the id and renews the timestamp with each attempt", () => {
    const later = svixDialect.encode({ ...anInput(anEndpoint(), message, 1), now: suiteTime + 60_000 });
    expect(later.headers["webhook-id"]).toBe(request.headers["webhook-id"]);
    expect(Number(later.headers["webhook-timestamp"])).toBe(
      Number(request.headers["webhook-timestamp"]) + 60,
    );
    expect(later.headers["webhook-signature"]).not.toBe(request.headers["webhook-signature"]);
  });

  test("sends messages with channels to those that listen to one, and to those that name none", () => {
    const inRoom = { ...message, channels: ["room_1", "room_2"] };
    expect(svixDialect.selects(anEndpoint({ channels: ["room_2"] }), inRoom)).toBe(true);
    expect(svixDialect.selects(anEndpoint({ channels: ["room_3"] }), inRoom)).toBe(false);
    expect(svixDialect.selects(anEndpoint({ channels: null }), inRoom)).toBe(true);
    expect(svixDialect.selects(anEndpoint({ channels: ["room_3"] }), message)).toBe(false);
  });

  test("makes ten attempts within 75 hours, 35 minutes and 5 seconds", () => {
    expect(svixDialect.retryDelaysMs).toHaveLength(9);
    const total = svixDialect.retryDelaysMs.reduce((sum, delayMs) => sum + delayMs, 0);
    expect(total).toBe(((75 * 60 + 35) * 60 + 5) * 1_000);
  });

  test("delivers as the operator decides", () => {
    const decided = createSvixDialect({
      retryDelaysMs: [1_000],
      timeoutMs: 30_000,
      signatureHeaders: "webhook",
    });
    expect(decided).toMatchObject({ retryDelaysMs: [1_000], timeoutMs: 30_000 });
    const { headers } = decided.encode(anInput(anEndpoint(), message));
    expect(Object.keys(headers).filter((name) => name.startsWith("svix-"))).toEqual([]);
    expect(decided.verify({ ...request, headers, body: published }, anEndpoint(), suiteTime)).toEqual({
      verified: true,
      by: "signature",
    });
  });

  test("lets no header of the endpoint's pass for a signature, under names that are not sent either", () => {
    const endpoint = anEndpoint({ headers: { "Svix-Signature": "v1,forged", "x-team": "blue" } });
    const webhookOnly = createSvixDialect({ ...standardDeliveryOptions, signatureHeaders: "webhook" });
    const { headers } = webhookOnly.encode(anInput(endpoint, message));
    expect(headers).toMatchObject({ "x-team": "blue" });
    expect(headers).not.toHaveProperty("svix-signature");
  });

  test("goes to the new address and with the new headers once an endpoint has changed", () => {
    const before = anEndpoint({ url: "https://one.example/a", headers: { "x-team": "blue" } });
    const after = { ...before, url: "https://two.example/b", headers: { "x-team": "red" } };
    for (const [endpoint, url, team] of [
      [before, "https://one.example/a", "blue"],
      [after, "https://two.example/b", "red"],
      [before, "https://one.example/a", "blue"],
    ] as const) {
      const { url: to, headers } = svixDialect.encode(anInput(endpoint, message));
      expect([to, headers["x-team"]]).toEqual([url, team]);
    }
  });
});
