import type { Application } from "./application.ts";
import type { Answer, Dialect, Verdict } from "./dialect.ts";
import type { Endpoint } from "./endpoint.ts";
import { mergePolicies, type DeliveryOrder } from "./policy.ts";

/** Requests at a time at one endpoint. With 16, a lane fell behind 64 publishers and half of it went through the store. */
export const defaultConcurrency = 64;

/** How deliveries to an endpoint are made, with every default filled in. */
export interface EffectiveRules {
  readonly retryDelaysMs: readonly number[];
  readonly jitter: number;
  readonly timeoutMs: number;
  readonly concurrency: number;
  readonly ratePerSecond: number | null;
  readonly order: DeliveryOrder;
  readonly whenExhausted: "block" | "skip";
  readonly successStatuses: readonly number[] | null;
}

/** The endpoint's own wishes, then its application's, then its dialect's. */
export function effectiveRules(
  endpoint: Endpoint,
  application: Application,
  dialect: Dialect,
): EffectiveRules {
  const policy = mergePolicies(endpoint.policy, application.policy);
  return {
    retryDelaysMs: policy.retryDelaysMs ?? dialect.retryDelaysMs,
    jitter: dialect.jitter,
    timeoutMs: policy.timeoutMs ?? dialect.timeoutMs,
    concurrency: policy.concurrency ?? defaultConcurrency,
    ratePerSecond: endpoint.throttleRate ?? application.throttleRate,
    order: policy.order ?? "none",
    whenExhausted: policy.whenExhausted ?? "block",
    successStatuses: policy.successStatuses,
  };
}

/** The key of the order that a message takes its place in; null outside of one. */
export function orderKeyOf({ order }: EffectiveRules, orderingKey: string | null): string | null {
  if (order === "none") return null;
  return order === "key" ? (orderingKey ?? "") : "";
}

/** What an answer means where the endpoint says which statuses are a success. */
export function judgeBy(rules: EffectiveRules, answer: Answer, verdict: Verdict): Verdict {
  if (rules.successStatuses === null || answer.kind === "error") return verdict;
  if (rules.successStatuses.includes(answer.status)) return { kind: "succeeded" };
  return verdict.kind === "succeeded" ? { kind: "retry", afterMs: answer.retryAfterMs } : verdict;
}
