import { z } from "zod";
import type { ApiDocumentation, Operation } from "../../operation.ts";
import { caseyEvents, defaultEventTypes } from "./events.ts";

const failureOut = z
  .object({ error: z.object({ code: z.string(), message: z.string() }) })
  .meta({ id: "CaseyError" });

/** What the routes of Casey's account have in common. */
export const caseyDocumentation: ApiDocumentation = {
  security: { casey: { type: "http", scheme: "bearer", description: "The account's API key, sk_…." } },
  errors: { "4XX": failureOut, "5XX": failureOut },
};

const webhookOut = z
  .object({
    id: z.string(),
    url: z.string(),
    description: z.string(),
    event_types: z.array(z.string()),
    enabled: z.boolean(),
    created_at: z.string().meta({ format: "date-time" }),
  })
  .meta({ id: "CaseyWebhook" });

const secret = z.string().describe("What deliveries are signed with: whsec_….");

const webhookIn = z
  .object({
    url: z.url({ protocol: /^https?$/ }),
    description: z.string().default(""),
    event_types: z
      .array(z.enum(caseyEvents))
      .min(1)
      .optional()
      .describe(`Left out, they are ${defaultEventTypes.join(", ")}.`),
  })
  .meta({ id: "CaseyWebhookIn" });

const dataOf = (data: z.ZodType) => z.object({ data });

const tag = "Casey";

/** What the document says of each route. */
export const operations = {
  list: { summary: "List Casey webhooks", tag, answers: { 200: dataOf(z.array(webhookOut)) } },
  create: {
    summary: "Create a Casey webhook",
    tag,
    body: webhookIn,
    answers: { 201: dataOf(webhookOut.extend({ secret }).meta({ id: "CaseyWebhookCreated" })) },
  },
  test: {
    summary: "Send a test event to the Casey webhooks",
    tag,
    answers: { 200: dataOf(z.object({ success: z.boolean(), message_id: z.string() })) },
  },
  get: { summary: "Get a Casey webhook", tag, answers: { 200: dataOf(webhookOut) } },
  secret: {
    summary: "Get a Casey webhook's secret",
    tag,
    answers: { 200: dataOf(z.object({ secret })) },
  },
  delete: { summary: "Delete a Casey webhook", tag, answers: { 204: null } },
} satisfies Record<string, Operation>;
