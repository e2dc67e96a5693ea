import { describe, expect, test } from "vitest";
import type { Delivery } from "./delivery.ts";
import { settleAttempt, settleDisabled } from "./settlement.ts";

const delivery: Delivery = {
  messageId: "msg_1",
  endpointId: "ep_1",
  applicationId: "app_1",
  state: "pending",
  attempts: 0,
  nextAttemptAt: 500,
  leasedUntil: 9_000,
  trigger: "manual",
};
const dialect = { retryDelaysMs: [100], jitter: 0 };

describe("settleAttempt()", () => {
  test("an accepted request ends the delivery", () => {
    expect(settleAttempt(delivery, { kind: "succeeded" }, dialect, 1_000, 0)).toEqual({
      ...delivery,
      state: "succeeded",
      attempts: 1,
      nextAttemptAt: null,
      leasedUntil: null,
      trigger: "scheduled",
    });
  });

  test("a failed one waits for its turn, given back", () => {
    expect(settleAttempt(delivery, { kind: "retry", afterMs: null }, dialect, 1_000, 0)).toMatchObject({
      state: "pending",
      attempts: 1,
      nextAttemptAt: 1_100,
      leasedUntil: null,
    });
  });

  test("the last failure of the schedule ends it", () => {
    const second = { ...delivery, attempts: 1 };
    expect(settleAttempt(second, { kind: "retry", afterMs: 5 }, dialect, 1_000, 0)).toMatchObject({
      state: "failed",
      attempts: 2,
      nextAttemptAt: null,
    });
  });

  test.each(["failed", "disable"] as const)('the verdict "%s" leaves no attempts', (kind) => {
    expect(settleAttempt(delivery, { kind }, dialect, 1_000, 0)).toMatchObject({
      state: "failed",
      attempts: 1,
    });
  });
});

describe("settleDisabled()", () => {
  test("ends the delivery without counting an attempt", () => {
    expect(settleDisabled(delivery)).toMatchObject({ state: "failed", attempts: 0, nextAttemptAt: null });
  });
});
