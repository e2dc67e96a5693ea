import { describe, expect, test } from "vitest";
import type { FullMessage } from "../../core/message.ts";
import { aMessage, anEndpoint, anInput, describeDialect, received, suiteTime } from "../dialect.suite.ts";
import { paveDialect } from "./dialect.ts";

const callback = anEndpoint({
  uid: "SESSION:COMPLETE",
  filterTypes: ["SESSION:COMPLETE"],
  headers: { Authorization: "Bearer token", "X-Api-Key": "key" },
  settings: { method: "POST", payload: { source: "PAVE" } },
  secrets: [],
});

describeDialect({
  dialect: paveDialect,
  // The suite puts credentials into the URL, which a header of one's own would override.
  endpoint: { ...callback, headers: { "X-Api-Key": "key" } },
  deafEndpoint: { ...callback, uid: "SESSION:STAGE_CHANGE", filterTypes: ["SESSION:STAGE_CHANGE"] },
  eventType: "SESSION:COMPLETE",
  payload: { session: { session_key: "XXX-ABCDE12345" } },
  proof: "credentials",
  proofHeaders: ["x-api-key"],
  covers: [],
  otherFailure: "retry",
  misspelt: ["SESSION:COMPLETED", "SESSION:COMPLETE"],
});

function encode(settings: typeof callback.settings, message: FullMessage) {
  return paveDialect.encode(anInput({ ...callback, settings }, message));
}

describe("a POST callback", () => {
  const settings = { method: "POST", payload: { source: "PAVE", session_key: "configured" } };

  test("adds its headers and its payload to the event's", () => {
    const request = encode(
      callback.settings,
      aMessage("SESSION:STAGE_CHANGE", { session_key: "K", photo_url: "u" }),
    );
    expect(request).toMatchObject({ method: "POST", url: callback.url });
    expect(request.headers).toEqual({
      "content-type": "application/json",
      authorization: "Bearer token",
      "x-api-key": "key",
    });
    expect(JSON.parse(String(request.body))).toEqual({ session_key: "K", photo_url: "u", source: "PAVE" });
  });

  test("lets the event's own value win, and leaves its text as it was published", () => {
    const payload = Buffer.from('{ "session_key": "K", "odometer": 1.0 }\n');
    const body = encode(settings, aMessage("SESSION:STAGE_CHANGE", {}, { payload })).body;
    expect(String(body)).toBe('{ "session_key": "K", "odometer": 1.0 ,"source":"PAVE"}');
  });

  test("sends the published bytes where there is nothing to add", () => {
    const message = aMessage("SESSION:SMS_PROCESS", { phone: "+1", status: "success" });
    expect(encode({ method: "POST", payload: {} }, message).body).toBe(message.payload);
    expect(encode({ method: "POST", payload: { phone: "+2" } }, message).body).toBe(message.payload);
  });

  test("adds to an empty event", () => {
    expect(String(encode(settings, aMessage("SESSION:SMS_PROCESS", {})).body)).toBe(
      '{"source":"PAVE","session_key":"configured"}',
    );
  });

  test.each([
    ["SESSION:COMPLETE", true],
    ["SESSION:STATUS_CHANGE", true],
    ["SESSION:NOTE_INSERT", true],
    ["SESSION:STAGE_CHANGE", false],
    ["SESSION:SMS_PROCESS", false],
  ])("names the event %s in its body: %s", (event, isNamed) => {
    const body = JSON.parse(
      String(encode({ payload: { event: "configured" } }, aMessage(event, { a: 1 })).body),
    );
    expect(body).toEqual({ a: 1, event: isNamed ? event : "configured" });
  });
});

describe("a GET callback", () => {
  test("adds the plain values to the query string and sends no body", () => {
    const message = aMessage("SESSION:STAGE_CHANGE", {
      session_key: "K 1",
      photo_code: 4,
      approved: true,
      message: null,
      vehicle: { vin: "V" },
      photos: [1],
    });
    const request = encode({ method: "GET", payload: { source: "PAVE" } }, message);
    expect(request).toMatchObject({ method: "GET", body: null });
    expect(request.url).toBe(`${callback.url}&source=PAVE&session_key=K+1&photo_code=4&approved=true`);
    expect(request.headers).toEqual({ authorization: "Bearer token", "x-api-key": "key" });
    expect(paveDialect.verify(received(request), callback, suiteTime)).toEqual({
      verified: true,
      by: "credentials",
    });
  });
});

describe("verify()", () => {
  const request = received(encode(callback.settings, aMessage("SESSION:COMPLETE", {})));

  test("names the headers that are wrong, and no value", () => {
    const headers = { ...request.headers, authorization: "Bearer other" };
    expect(paveDialect.verify({ ...request, headers }, callback, suiteTime)).toEqual({
      verified: false,
      reason: "missing or wrong headers: authorization",
    });
  });

  test("takes the credentials of the URL for credentials", () => {
    const open = { ...callback, url: "https://user:pass@receiver.example/", headers: {} };
    const sent = received(paveDialect.encode(anInput(open, aMessage("SESSION:COMPLETE", {}))));
    expect(paveDialect.verify(sent, open, suiteTime)).toEqual({ verified: true, by: "credentials" });
    expect(paveDialect.verify({ ...sent, headers: {} }, open, suiteTime)).toMatchObject({ verified: false });
  });

  test("verifies nothing where the callback has no headers", () => {
    expect(paveDialect.verify(request, { ...callback, headers: {} }, suiteTime)).toEqual({
      verified: false,
      reason: "no credentials configured",
    });
  });
});
