import twilio from "twilio";
import { describe, expect, test } from "vitest";
import type { OutgoingRequest } from "../../core/dialect.ts";
import { aMessage, anEndpoint, anInput, describeDialect, received, suiteTime } from "../dialect.suite.ts";
import { freshConfiguration, toEndpointFields, type Configuration } from "./configuration.ts";
import { createTwilioDialect } from "./dialect.ts";
import { filterNames, isPostEvent, isPreEvent, twilioEvents } from "./events.ts";

const accountSid = "AC0123456789abcdef0123456789abcdef";
const authToken = "12345";
const dialect = createTwilioDialect({ accountSid, authToken });

const urls = {
  postWebhookUrl: "https://receiver.example/hooks?tenant=7",
  preWebhookUrl: "https://gate.example/pre",
};

function configured(configuration: Partial<Configuration> = {}) {
  return anEndpoint({
    ...toEndpointFields({ ...freshConfiguration, ...urls, filters: dialect.eventTypes, ...configuration }),
    secrets: [],
  });
}

const message = aMessage("onMessageAdded", {
  ConversationSid: "CH1",
  MessageSid: "IM1",
  Index: 35,
  Author: "dave",
  ClientIdentity: "dave",
  Body: "It's okay & 100% today — Grüße",
  Attributes: { mood: "good" },
  DateCreated: "2021-08-10T18:00:00Z",
  ParticipantSid: null,
  Media: [{ Sid: "ME1" }],
  "MessagingBinding.Address": ["+1415", "+1325"],
});

function parametersOf(request: OutgoingRequest): URLSearchParams {
  return new URLSearchParams(String(request.body));
}

/** As Express gives a form to the official middleware. */
function asObject(parameters: URLSearchParams): Record<string, string | string[]> {
  return Object.fromEntries(
    [...parameters.keys()].map((name) => {
      const values = parameters.getAll(name);
      return [name, values.length > 1 ? values : values[0]!];
    }),
  );
}

describeDialect({
  dialect,
  endpoint: configured(),
  deafEndpoint: configured({ filters: ["onMessageRemoved"] }),
  eventType: "onMessageAdded",
  payload: { Body: "hello" },
  proof: "signature",
  proofHeaders: ["x-twilio-signature"],
  covers: ["body", "url"],
  otherFailure: "failed",
  misspelt: ["onMessageAddded", "onMessageAdded"],
});

describe("a POST webhook", () => {
  const request = dialect.encode(anInput(configured(), message));

  test("sends the event as a form", () => {
    expect(request).toMatchObject({ method: "POST", url: urls.postWebhookUrl });
    expect(request.headers["content-type"]).toBe("application/x-www-form-urlencoded; charset=utf-8");
    expect(asObject(parametersOf(request))).toEqual({
      AccountSid: accountSid,
      EventType: "onMessageAdded",
      Source: "SDK",
      RetryCount: "0",
      ConversationSid: "CH1",
      MessageSid: "IM1",
      Index: "35",
      Author: "dave",
      ClientIdentity: "dave",
      Body: "It's okay & 100% today — Grüße",
      Attributes: '{"mood":"good"}',
      DateCreated: "2021-08-10T18:00:00.000Z",
      Media: '[{"Sid":"ME1"}]',
      "MessagingBinding.Address": ["+1415", "+1325"],
    });
  });

  test.each([
    "https://receiver.example/hooks",
    "https://receiver.example:8443/hooks?a=it's&b=%27+x",
    "http://receiver.example:8080/a%20b?x=1",
    "https://user:pass@receiver.example/hooks#rc=2&ct=500",
    "https://receiver.example",
  ])("is validated by the official package at %s", (postWebhookUrl) => {
    const sent = dialect.encode(anInput(configured({ postWebhookUrl }), message));
    const validate = (url: string) =>
      twilio.validateRequest(
        authToken,
        sent.headers["x-twilio-signature"]!,
        url,
        asObject(parametersOf(sent)),
      );
    expect(validate(sent.url)).toBe(true);
    expect(validate(sent.url.replace("example", "other"))).toBe(false);
  });

  test("is of the API unless a client made it, or the publisher says so", () => {
    const sourceOf = (payload: object) =>
      parametersOf(dialect.encode(anInput(configured(), aMessage("onUserAdded", payload)))).get("Source");
    expect(sourceOf({})).toBe("API");
    expect(sourceOf({ ClientIdentity: "dave" })).toBe("SDK");
    expect(sourceOf({ ClientIdentity: "dave", Source: "API" })).toBe("API");
  });

  test("does not let a payload speak for another account or event", () => {
    const forged = aMessage("onUserAdded", { AccountSid: "AC2", EventType: "onUserUpdated", RetryCount: 9 });
    expect(asObject(parametersOf(dialect.encode(anInput(configured(), forged))))).toMatchObject({
      AccountSid: accountSid,
      EventType: "onUserAdded",
      RetryCount: "0",
    });
  });

  test.each([
    ["2021-08-10T18:00:00.5+02:00", "2021-08-10T16:00:00.500Z"],
    [suiteTime, "2021-08-10T18:00:00.000Z"],
    ["soon", "soon"],
    ["2021-99-99T00:00:00Z", "2021-99-99T00:00:00Z"],
    [true, "true"],
  ])("writes the date %j as %s", (DateUpdated, text) => {
    const sent = dialect.encode(anInput(configured(), aMessage("onUserUpdated", { DateUpdated })));
    expect(parametersOf(sent).get("DateUpdated")).toBe(text);
  });

  test("counts retries, and keeps the idempotency token", () => {
    const again = dialect.encode(anInput(configured(), message, 2));
    const other = dialect.encode(anInput(configured(), { ...message, id: "msg_2" }));
    const token = request.headers["i-twilio-idempotency-token"]!;
    expect(parametersOf(again).get("RetryCount")).toBe("2");
    expect(token).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(again.headers["i-twilio-idempotency-token"]).toBe(token);
    expect(other.headers["i-twilio-idempotency-token"]).not.toBe(token);
  });
});

describe("a GET webhook", () => {
  test("sends the event as a query string, behind the one that is there", () => {
    const request = dialect.encode(anInput(configured({ method: "GET" }), message));
    expect(request).toMatchObject({ method: "GET", body: null });
    expect(request.headers).not.toHaveProperty("content-type");
    expect(request.url).toMatch(/^https:\/\/receiver\.example\/hooks\?tenant=7&ConversationSid=CH1&/);
    expect(request.url).toContain("&Body=It%27s+okay+%26+100%25+today");
    expect(twilio.validateRequest(authToken, request.headers["x-twilio-signature"]!, request.url, {})).toBe(
      true,
    );
    expect(dialect.verify(received(request), configured(), suiteTime).verified).toBe(true);
  });
});

describe("verify()", () => {
  const request = received(dialect.encode(anInput(configured(), message)));

  test("refuses a body that the signature does not cover", () => {
    const headers = { ...request.headers, "content-type": "application/json" };
    expect(dialect.verify({ ...request, headers }, configured(), suiteTime)).toMatchObject({
      verified: false,
      reason: expect.stringContaining("not a form"),
    });
  });

  test("checks the hash of a body that is not a form", () => {
    const url =
      "https://mycompany.com/myapp.php?foo=1&bar=2&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    const headers = {
      "content-type": "application/json",
      "x-twilio-signature": "a9nBmqA0ju/hNViExpshrM61xv4=",
    };
    const verify = (body: string) =>
      dialect.verify({ method: "POST", url, headers, body: Buffer.from(body) }, configured(), suiteTime)
        .verified;
    expect(verify('{"property": "value", "boolean": true}')).toBe(true);
    expect(verify('{"property": "value", "boolean": 1}')).toBe(false);
  });
});

describe("which event goes where", () => {
  const postEvents = [
    "onMessageAdded",
    "onMessageUpdated",
    "onMessageRemoved",
    "onConversationAdded",
    "onConversationUpdated",
    "onConversationRemoved",
    "onConversationStateUpdated",
    "onParticipantAdded",
    "onParticipantUpdated",
    "onParticipantRemoved",
    "onDeliveryUpdated",
    "onUserAdded",
    "onUserUpdated",
  ];

  test("there are 23 events, each of them either before or after", () => {
    expect(twilioEvents).toHaveLength(23);
    expect(twilioEvents.filter(isPostEvent).sort()).toEqual([...postEvents].sort());
    expect(twilioEvents.filter(isPreEvent)).toHaveLength(10);
    expect(filterNames).toContain("onMessageSend");
  });

  test.each(postEvents)("%s is delivered to the post-event URL and asks nobody", (event) => {
    const input = anInput(configured(), aMessage(event, {}));
    expect(dialect.selects(configured(), input.message)).toBe(true);
    expect(dialect.encode(input).url).toBe(urls.postWebhookUrl);
    expect(dialect.encodeHook(input)).toBeNull();
  });

  test.each([
    "onMessageAdd",
    "onMessageUpdate",
    "onMessageRemove",
    "onConversationAdd",
    "onConversationUpdate",
    "onConversationRemove",
    "onParticipantAdd",
    "onParticipantUpdate",
    "onParticipantRemove",
    "onUserUpdate",
  ])("%s asks the pre-event URL and is not delivered", (event) => {
    const input = anInput(configured(), aMessage(event, { Body: "hello" }));
    expect(dialect.selects(configured(), input.message)).toBe(false);
    const request = dialect.encodeHook(input)!;
    expect(request.url).toBe(urls.preWebhookUrl);
    expect(
      twilio.validateRequest(
        authToken,
        request.headers["x-twilio-signature"]!,
        urls.preWebhookUrl,
        asObject(parametersOf(request)),
      ),
    ).toBe(true);
  });

  test("asks and delivers nothing without the URL", () => {
    const bare = configured({ preWebhookUrl: null, postWebhookUrl: null });
    expect(dialect.selects(bare, message)).toBe(false);
    expect(dialect.encodeHook(anInput(bare, aMessage("onMessageAdd", {})))).toBeNull();
  });

  test("fires what the filters name, and nothing where none are set", () => {
    const firesWith = (filters: readonly string[] | null) => [
      dialect.selects(configured({ filters }), message),
      dialect.encodeHook(anInput(configured({ filters }), aMessage("onMessageAdd", {}))) !== null,
    ];
    expect(firesWith(null)).toEqual([false, false]);
    expect(firesWith([])).toEqual([false, false]);
    expect(firesWith(["onMessageAdded"])).toEqual([true, false]);
    expect(firesWith(["onMessageAdd"])).toEqual([false, true]);
  });

  test("leaves endpoints alone that are not the configuration", () => {
    expect(dialect.selects(anEndpoint({ uid: "other" }), message)).toBe(false);
  });

  test("waits five seconds and does not try again", () => {
    expect(dialect).toMatchObject({ timeoutMs: 5_000, hookTimeoutMs: 5_000, retryDelaysMs: [] });
  });
});
