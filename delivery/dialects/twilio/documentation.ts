import { z } from "zod";
import type { ApiDocumentation, Operation } from "../../operation.ts";
import { filterNames } from "./events.ts";

const failureOut = z
  .object({
    code: z.int().describe("https://www.twilio.com/docs/api/errors"),
    detail: z.string().optional(),
    message: z.string(),
    more_info: z.string(),
    status: z.int(),
  })
  .meta({ id: "TwilioError" });

/** What the routes of Twilio's account have in common. */
export const twilioDocumentation: ApiDocumentation = {
  security: {
    twilio: { type: "http", scheme: "basic", description: "The account's SID and its auth token." },
  },
  errors: { "4XX": failureOut, "5XX": failureOut },
};

const configurationOut = z
  .object({
    account_sid: z.string(),
    pre_webhook_url: z.string().nullable(),
    post_webhook_url: z.string().nullable(),
    method: z.enum(["GET", "POST"]),
    filters: z.array(z.string()).nullable(),
    target: z.enum(["webhook", "flex"]),
    url: z.string(),
  })
  .meta({ id: "TwilioConfiguration" });

const configurationIn = z
  .object({
    Method: z.enum(["GET", "POST", ""]),
    Filters: z.array(z.enum(filterNames)).describe("A single empty one clears the list."),
    PreWebhookUrl: z.string().describe("Empty for none."),
    PostWebhookUrl: z.string().describe("Empty for none."),
    Target: z.enum(["webhook", "flex", ""]),
  })
  .partial()
  .describe("What is left out stays as it is.")
  .meta({ id: "TwilioConfigurationIn" })
  .optional();

const tag = "Twilio";

/** What the document says of each route. */
export const operations = {
  fetch: { summary: "Fetch Twilio's webhook configuration", tag, answers: { 200: configurationOut } },
  update: {
    summary: "Update Twilio's webhook configuration",
    tag,
    body: configurationIn,
    bodyType: "application/x-www-form-urlencoded",
    answers: { 200: configurationOut },
  },
} satisfies Record<string, Operation>;
