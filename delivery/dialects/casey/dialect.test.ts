import { Webhook } from "standardwebhooks";
import { describe, expect, test } from "vitest";
import { standardDeliveryOptions } from "../../core/standard-delivery.ts";
import { aMessage, anEndpoint, anInput, describeDialect } from "../dialect.suite.ts";
import { createCaseyDialect } from "./dialect.ts";

const dialect = createCaseyDialect({ apiKey: "sk_test_1" }, standardDeliveryOptions);

describeDialect({
  dialect,
  endpoint: anEndpoint({ filterTypes: ["conversation.completed"] }),
  deafEndpoint: anEndpoint({ filterTypes: ["conversation.started"] }),
  eventType: "conversation.completed",
  payload: { conversation_id: "c1" },
  proof: "signature",
  proofHeaders: ["svix-id", "svix-timestamp", "svix-signature"],
  covers: ["body"],
  otherFailure: "retry",
  misspelt: ["conversation.complete", "conversation.completed"],
});

describe("createCaseyDialect()", () => {
  const published = '{"turns": 1.0, "big": 12345678901234567890}';
  const message = aMessage(
    "conversation.started",
    {},
    { payload: Buffer.from(published), eventId: "evt_1234567890" },
  );
  const text = (input = message, by = dialect) => String(by.encode(anInput(anEndpoint(), input)).body);

  test("sends Casey's envelope around the payload's text", () => {
    expect(JSON.parse(text())).toEqual({
      event_type: "conversation.started",
      event_id: "evt_1234567890",
      timestamp: "2021-08-10T18:00:00.000Z",
      organization_id: expect.stringMatching(
        /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
      ),
      data: JSON.parse(published),
    });
    expect(text()).toContain(`"data":${published}}`);
  });

  test("uses the message's id where the publisher named none", () => {
    expect(JSON.parse(text({ ...message, eventId: null }))).toMatchObject({ event_id: "msg_1" });
  });

  test("keeps an account's organization id, and gives another account another one", () => {
    const organization = (apiKey: string) =>
      JSON.parse(text(message, createCaseyDialect({ apiKey }, standardDeliveryOptions)))
        .organization_id as string;
    expect(organization("sk_test_1")).toBe(organization("sk_test_1"));
    expect(organization("sk_test_1")).not.toBe(organization("sk_test_2"));
  });

  test("is verified by the official package", () => {
    const { headers, body } = dialect.encode({ ...anInput(anEndpoint(), message), now: Date.now() });
    const secret = anEndpoint().secrets[0]!.key;
    expect(new Webhook(secret).verify(Buffer.from(body!), headers)).toMatchObject({
      event_id: "evt_1234567890",
    });
  });

  test("sends test.event to every endpoint, whatever its event types", () => {
    const testEvent = aMessage("test.event", {});
    expect(dialect.selects(anEndpoint({ filterTypes: ["conversation.started"] }), testEvent)).toBe(true);
  });
});
