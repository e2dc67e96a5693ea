import { expect, test } from "vitest";
import { emptyPolicy, mergePolicies, type DeliveryPolicy } from "./policy.ts";

const own: DeliveryPolicy = {
  retryDelaysMs: [],
  timeoutMs: 1,
  concurrency: 2,
  order: "none",
  whenExhausted: "skip",
  successStatuses: [],
};
const others: DeliveryPolicy = {
  retryDelaysMs: [5],
  timeoutMs: 6,
  concurrency: 7,
  order: "key",
  whenExhausted: "block",
  successStatuses: [304],
};

test("mergePolicies() takes each of the endpoint's wishes before the application's, empty lists and `none` too", () => {
  expect(mergePolicies(own, others)).toEqual(own);
  expect(mergePolicies(emptyPolicy, others)).toEqual(others);
  expect(mergePolicies(own, emptyPolicy)).toEqual(own);
  for (const name of Object.keys(own) as (keyof DeliveryPolicy)[]) {
    expect(mergePolicies({ ...own, [name]: null }, others)).toEqual({ ...own, [name]: others[name] });
  }
});
