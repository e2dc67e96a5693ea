/**
 * How deliveries to an endpoint are made. What is null is left to the application's defaults, and what they leave null to
 * the dialect and the operator.
 */
export interface DeliveryPolicy {
  /** Waits between attempts, in milliseconds: n waits make n + 1 attempts; empty for a single attempt. */
  readonly retryDelaysMs: readonly number[] | null;
  /** How long an answer may take in all. */
  readonly timeoutMs: number | null;
  /** Requests at a time. */
  readonly concurrency: number | null;
  /**
   * Strict order: `endpoint`, one message after the other; `key`, one after the other for each `orderingKey` (messages
   * without one form an order of their own); `none`.
   */
  readonly order: DeliveryOrder | null;
  /** In a strict order, what becomes of the messages behind one whose attempts are used up: they wait, or go on. */
  readonly whenExhausted: "block" | "skip" | null;
  /** Statuses that count as success, such as `[200, 304]`; null for every 2xx. */
  readonly successStatuses: readonly number[] | null;
}

export type DeliveryOrder = "none" | "endpoint" | "key";

/** What an application asks for: the defaults of its endpoints, and what its events must be like. */
export interface ApplicationPolicy extends DeliveryPolicy {
  /** Whether a payload that does not match the JSON Schema of its event type is refused; left out for no. */
  readonly validatePayloads?: boolean;
}

/** Nothing asked for. */
export const emptyPolicy: DeliveryPolicy = {
  retryDelaysMs: null,
  timeoutMs: null,
  concurrency: null,
  order: null,
  whenExhausted: null,
  successStatuses: null,
};

/** The endpoint's policy with the application's behind it. */
export function mergePolicies(endpoint: DeliveryPolicy, application: DeliveryPolicy): DeliveryPolicy {
  return {
    retryDelaysMs: endpoint.retryDelaysMs ?? application.retryDelaysMs,
    timeoutMs: endpoint.timeoutMs ?? application.timeoutMs,
    concurrency: endpoint.concurrency ?? application.concurrency,
    order: endpoint.order ?? application.order,
    whenExhausted: endpoint.whenExhausted ?? application.whenExhausted,
    successStatuses: endpoint.successStatuses ?? application.successStatuses,
  };
}
