import { Webhook as StandardWebhook } from "standardwebhooks";
import { Webhook as SvixWebhook } from "svix";
import { describe, expect, test } from "vitest";
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
});
