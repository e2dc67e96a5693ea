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
  leasedBy: 9,
  trigger: "manual",
  place: null,
};
const inOrder: Delivery = { ...delivery, place: { key: "k", sequence: 3 } };
const rules = { retryDelaysMs: [100], jitter: 0, whenExhausted: "block" } as const;

describe("settleAttempt()", () => {
  test.each([delivery, inOrder])("an accepted request ends the delivery", (sent) => {
    expect(settleAttempt(sent, { kind: "succeeded" }, rules, 1_000, 0)).toEqual({
      ...sent,
      state: "succeeded",
      attempts: 1,
      nextAttemptAt: null,
      leasedBy: null,
      trigger: "scheduled",
    });
  });

  test.each([delivery, inOrder])("a failed one waits for its turn, given back", (sent) => {
    expect(settleAttempt(sent, { kind: "retry", afterMs: null }, rules, 1_000, 0)).toEqual({
      ...sent,
      state: "pending",
      attempts: 1,
      nextAttemptAt: 1_100,
      leasedBy: null,
      trigger: "scheduled",
    });
  });

  test("the last failure of the schedule ends it", () => {
    const second = { ...delivery, attempts: 1 };
    expect(settleAttempt(second, { kind: "retry", afterMs: 5 }, rules, 1_000, 0)).toMatchObject({
      state: "failed",
      attempts: 2,
      nextAttemptAt: null,
    });
  });

  test.each(["failed", "disable"] as const)('the verdict "%s" leaves no attempts', (kind) => {
    expect(settleAttempt(delivery, { kind }, rules, 1_000, 0)).toMatchObject({
      state: "failed",
      attempts: 1,
      nextAttemptAt: null,
    });
  });

  test("in an order, what has used its attempts up keeps its place and is not due", () => {
    const last = { ...inOrder, attempts: 1 };
    expect(settleAttempt(last, { kind: "retry", afterMs: null }, rules, 1_000, 0)).toMatchObject({
      state: "pending",
      attempts: 2,
      nextAttemptAt: null,
      leasedBy: null,
      place: inOrder.place,
    });
    expect(settleAttempt(inOrder, { kind: "failed" }, rules, 1_000, 0)).toMatchObject({
      state: "pending",
      nextAttemptAt: null,
    });
  });

  test("in an order that goes on, it ends", () => {
    const goesOn = { ...rules, whenExhausted: "skip" } as const;
    expect(
      settleAttempt({ ...inOrder, attempts: 1 }, { kind: "retry", afterMs: null }, goesOn, 1_000, 0),
    ).toMatchObject({ state: "failed", attempts: 2, nextAttemptAt: null });
  });
});

describe("settleDisabled()", () => {
  test("ends the delivery without counting an attempt", () => {
    expect(settleDisabled(delivery)).toEqual({
      ...delivery,
      state: "failed",
      nextAttemptAt: null,
      leasedBy: null,
      trigger: "scheduled",
    });
  });
});
