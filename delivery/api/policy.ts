import { z } from "zod";
import type { ApplicationPolicy, DeliveryPolicy } from "../core/policy.ts";
import { given } from "./given.ts";

const maxRetries = 20;
const maxRetryDelaySeconds = 30 * 24 * 60 * 60;
const maxTimeoutSeconds = 120;
const maxConcurrency = 256;
const maxStatuses = 50;

const retryDelay = z
  .number("A wait must be a number of seconds.")
  .refine(
    (seconds) => seconds > 0 && seconds <= maxRetryDelaySeconds,
    `A wait must be above 0 and up to ${maxRetryDelaySeconds} seconds, which are 30 days.`,
  );

const policyMembers = {
  retrySchedule: z
    .array(retryDelay)
    .max(maxRetries, `There may be at most ${maxRetries} retries.`)
    .nullable(),
  timeoutSeconds: z
    .number("The time limit must be a number of seconds.")
    .min(1, "The time limit must be at least 1 second.")
    .max(maxTimeoutSeconds, `The time limit must be at most ${maxTimeoutSeconds} seconds.`)
    .nullable(),
  concurrency: z
    .int("The concurrency must be a whole number of requests.")
    .min(1, "The concurrency must be at least 1: disable the endpoint to send nothing.")
    .max(maxConcurrency, `The concurrency must be at most ${maxConcurrency} requests.`)
    .nullable(),
  order: z.enum(["none", "endpoint", "key"], 'The order must be "none", "endpoint" or "key".').nullable(),
  whenExhausted: z.enum(["block", "skip"], 'This must be "block" or "skip".').nullable(),
  successStatuses: z
    .array(
      z
        .int("A status must be a whole number.")
        .min(200, "A status must be from 200 to 599.")
        .max(599, "A status must be from 200 to 599."),
    )
    .min(1, "The list of statuses must not be empty: say null for every 2xx.")
    .max(maxStatuses, `The list of statuses must have at most ${maxStatuses} items.`)
    .nullable(),
};

/** How deliveries to an endpoint are made, as callers give it; what is left out or null is left to the defaults. */
export const deliveryPolicyIn = strict(policyMembers).meta({ id: "DeliveryPolicyIn" });
/** The same for an application: the defaults of its endpoints, and what its events must be like. */
export const applicationPolicyIn = strict({
  ...policyMembers,
  validatePayloads: z.boolean().nullable(),
}).meta({ id: "ApplicationPolicyIn" });

/** A member that is not known is refused: a policy with a slip of the pen in it would be another policy. */
function strict<Shape extends z.ZodRawShape>(shape: Shape) {
  return z
    .strictObject(shape, {
      error: (issue) =>
        issue.code === "unrecognized_keys"
          ? `A policy has no ${issue.keys.map((key) => `"${key}"`).join(", ")}: it has ${Object.keys(shape).join(", ")}.`
          : undefined,
    })
    .partial();
}

type PolicyIn = z.output<typeof applicationPolicyIn>;

const policyOutMembers = z
  .object({
    retrySchedule: z.array(z.number()).readonly(),
    timeoutSeconds: z.number(),
    concurrency: z.int(),
    order: z.enum(["none", "endpoint", "key"]),
    whenExhausted: z.enum(["block", "skip"]),
    successStatuses: z.array(z.int()).readonly(),
  })
  .partial();

/** What is set of a policy, as callers see it. */
export const deliveryPolicyOut = policyOutMembers.meta({ id: "DeliveryPolicyOut" });
/** The same of an application's. */
export const applicationPolicyOut = policyOutMembers
  .extend({ validatePayloads: z.boolean().optional() })
  .meta({ id: "ApplicationPolicyOut" });

type PolicyOut = z.output<typeof applicationPolicyOut>;

/** A policy with the members that are given changed; a null takes what was set away. */
export function changePolicy<Policy extends ApplicationPolicy>(policy: Policy, input: PolicyIn): Policy {
  const { retrySchedule, timeoutSeconds, concurrency, order, whenExhausted, successStatuses } = input;
  return {
    ...policy,
    ...given({
      retryDelaysMs: retrySchedule && retrySchedule.map((seconds) => Math.max(1, Math.round(seconds * 1000))),
      timeoutMs: timeoutSeconds && Math.round(timeoutSeconds * 1000),
      concurrency,
      order,
      whenExhausted,
      successStatuses: successStatuses && [...new Set(successStatuses)],
      validatePayloads: input.validatePayloads === null ? false : input.validatePayloads,
    }),
  };
}

/** Undefined where nothing is set, so that callers who know nothing of policies see none. */
export function toPolicyOut(policy: DeliveryPolicy | ApplicationPolicy): PolicyOut | undefined {
  const { retryDelaysMs, timeoutMs, concurrency, order, whenExhausted, successStatuses } = policy;
  const out = given({
    retrySchedule: retryDelaysMs?.map((delayMs) => delayMs / 1000),
    timeoutSeconds: timeoutMs === null ? undefined : timeoutMs / 1000,
    concurrency: concurrency ?? undefined,
    order: order ?? undefined,
    whenExhausted: whenExhausted ?? undefined,
    successStatuses: successStatuses ?? undefined,
    validatePayloads: "validatePayloads" in policy && policy.validatePayloads ? true : undefined,
  });
  return Object.keys(out).length === 0 ? undefined : out;
}
