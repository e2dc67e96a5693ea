import { describe, expect, test } from "vitest";
import { judgeHookAnswer } from "./hook.ts";

const answer = (status: number, body: unknown = "") => ({
  status,
  body: typeof body === "string" ? body : JSON.stringify(body),
});
const untouched = { publish: true, changes: {} };

describe("judgeHookAnswer()", () => {
  test.each([
    ["200 with nothing", answer(200)],
    ["200 with {}", answer(200, {})],
    ["204", answer(204)],
    ["202 with white space", answer(202, " \n")],
    ["nothing in time", null],
    ["a redirect", answer(302)],
    ["a body that is not JSON", answer(200, "<Response/>")],
    ["a list", answer(200, ["body"])],
    ["null in a field", answer(200, { body: null })],
  ])("publishes as it is after %s, and says why", (_, given) => {
    expect(judgeHookAnswer("onMessageAdd", given)).toEqual({
      ...untouched,
      reason: expect.stringMatching(/\w+ \w+/),
    });
  });

  test("publishes with the changes of a 200", () => {
    const changes = { body: "hello", author: "bot", attributes: '{"a":1}' };
    expect(judgeHookAnswer("onMessageAdd", answer(200, changes))).toEqual({
      publish: true,
      changes,
      reason: "the receiver changed body, author, attributes",
    });
    expect(judgeHookAnswer("onMessageUpdate", answer(200, { body: "" }))).toMatchObject({
      changes: { body: "" },
    });
  });

  test.each([400, 403, 404, 410, 429, 499, 500, 503])("does not publish after %i", (status) => {
    expect(judgeHookAnswer("onMessageAdd", answer(status, { body: "x" }))).toEqual({
      publish: false,
      reason: `the receiver answered ${status}`,
    });
  });

  test.each([
    ["onMessageAdd", { body: 1 }, "body must be a string"],
    ["onMessageAdd", { attributes: { a: 1 } }, "attributes must be a JSON object encoded as a string"],
    ["onMessageAdd", { attributes: "{" }, "attributes must be a JSON object encoded as a string"],
    ["onConversationAdd", { friendly_name: [] }, "friendly_name must be a string"],
  ])("does not publish %s with the invalid change %j", (eventType, change, reason) => {
    expect(judgeHookAnswer(eventType, answer(200, change))).toEqual({
      publish: false,
      reason: expect.stringContaining(reason),
    });
  });

  test.each([
    ["onConversationUpdate", { friendly_name: "F", body: "x" }, { friendly_name: "F" }, "body"],
    ["onMessageAdd", { body: "b", MessageSid: 1 }, { body: "b" }, "MessageSid"],
    ["onMessageRemove", { body: "b" }, {}, "body"],
    ["onParticipantAdd", { attributes: "{}" }, {}, "attributes"],
  ])("on %s, %j changes only what may be changed", (eventType, given, changes, ignored) => {
    expect(judgeHookAnswer(eventType, answer(200, given))).toEqual({
      publish: true,
      changes,
      reason: expect.stringMatching(`ignored: ${ignored}$`),
    });
  });
});
