import { describe, expect, test } from "vitest";
import type { Application } from "./application.ts";
import type { Answer, Dialect } from "./dialect.ts";
import { defaultConcurrency, effectiveRules, judgeBy, orderKeyOf } from "./effective-rules.ts";
import type { Endpoint } from "./endpoint.ts";
import { emptyPolicy } from "./policy.ts";
import { judgeAnswer } from "./verdict.ts";

const dialect = { retryDelaysMs: [1, 2], jitter: 0.2, timeoutMs: 15_000 } as unknown as Dialect;
const application = { throttleRate: null, policy: emptyPolicy } as Application;
const endpoint = { throttleRate: null, policy: emptyPolicy } as Endpoint;

describe("effectiveRules()", () => {
  test("without any wish they are the dialect's and the defaults", () => {
    expect(effectiveRules(endpoint, application, dialect)).toEqual({
      retryDelaysMs: [1, 2],
      jitter: 0.2,
      timeoutMs: 15_000,
      concurrency: defaultConcurrency,
      ratePerSecond: null,
      order: "none",
      whenExhausted: "block",
      successStatuses: null,
    });
  });

  test("an endpoint's wishes come before its application's, and those before the dialect's", () => {
    const wishing = {
      ...application,
      throttleRate: 5,
      policy: {
        ...emptyPolicy,
        retryDelaysMs: [],
        timeoutMs: 3,
        order: "key",
        whenExhausted: "skip",
      } as const,
    };
    expect(effectiveRules(endpoint, wishing, dialect)).toMatchObject({
      retryDelaysMs: [],
      timeoutMs: 3,
      ratePerSecond: 5,
      order: "key",
      whenExhausted: "skip",
    });
    const own = {
      ...endpoint,
      throttleRate: 2,
      policy: { ...emptyPolicy, timeoutMs: 9, order: "none", concurrency: 1 } as const,
    };
    expect(effectiveRules(own, wishing, dialect)).toMatchObject({
      retryDelaysMs: [],
      timeoutMs: 9,
      ratePerSecond: 2,
      order: "none",
      concurrency: 1,
    });
  });
});

describe("orderKeyOf()", () => {
  const rules = effectiveRules(endpoint, application, dialect);

  test.each([
    ["none", "k", null],
    ["endpoint", "k", ""],
    ["key", "k", "k"],
    ["key", null, ""],
  ] as const)('in the order "%s" a message with the key "%s" has "%s"', (order, key, expected) => {
    expect(orderKeyOf({ ...rules, order }, key)).toBe(expected);
  });
});

describe("judgeBy()", () => {
  const rules = { ...effectiveRules(endpoint, application, dialect), successStatuses: [200, 304] };
  const judge = (answer: Answer) => judgeBy(rules, answer, judgeAnswer(answer));
  const response = (status: number, retryAfterMs: number | null = null): Answer => ({
    kind: "response",
    status,
    retryAfterMs,
  });

  test("takes the statuses that the endpoint names for success, and no other", () => {
    expect(judge(response(304))).toEqual({ kind: "succeeded" });
    expect(judge(response(200))).toEqual({ kind: "succeeded" });
    expect(judge(response(201, 7))).toEqual({ kind: "retry", afterMs: 7 });
  });

  test("leaves what else an answer means to the dialect", () => {
    expect(judge(response(410))).toEqual({ kind: "disable" });
    expect(judge(response(503, 9))).toEqual({ kind: "retry", afterMs: 9 });
    expect(judge({ kind: "error", reason: "reset" })).toEqual({ kind: "retry", afterMs: null });
    const any = { ...rules, successStatuses: null };
    expect(judgeBy(any, response(201), judgeAnswer(response(201)))).toEqual({ kind: "succeeded" });
  });
});
