import { z } from "zod";
import type { ApiDocumentation, Operation } from "../../operation.ts";
import { paveEvents } from "./events.ts";

const failureOut = z
  .object({
    api_key: z.string().optional().describe("There where it is about the account's callbacks."),
    message: z.string(),
  })
  .meta({ id: "PaveError" });

/** What the routes of PAVE's account have in common. */
export const paveDocumentation: ApiDocumentation = {
  security: {
    paveKey: { type: "apiKey", in: "header", name: "API-Key" },
    paveTimestamp: {
      type: "apiKey",
      in: "header",
      name: "API-Timestamp",
      description: "A time close to now, in UTC, such as 2026-01-31T12:00:00Z.",
    },
    paveToken: {
      type: "apiKey",
      in: "header",
      name: "API-Token",
      description: "Lowercase hex HMAC-SHA256 of username:api_key@timestamp, keyed with the API secret.",
    },
  },
  errors: { "4XX": failureOut, "5XX": failureOut },
};

const object = z.record(z.string(), z.unknown());
const objectOrText = z.union([object, z.string().describe("The object as JSON.")]);

const callback = z
  .object({
    event: z.enum(paveEvents),
    url: z.string(),
    method: z.enum(["GET", "POST"]),
    headers: z.record(z.string(), z.string()),
    payload: object,
  })
  .meta({ id: "PaveCallback" });

const callbackUpdate = z
  .object({
    url: z.url({ protocol: /^https?$/ }),
    method: z.enum(["GET", "POST"]).default("POST"),
    headers: objectOrText.optional().describe("Sent with each delivery."),
    payload: objectOrText.optional().describe("Merged into the body of each delivery."),
  })
  .meta({ id: "PaveCallbackUpdate" });

const callbackIn = callbackUpdate.extend({ event: z.enum(paveEvents) }).meta({ id: "PaveCallbackIn" });

const api_key = z.string();
const flat = callback.extend({ api_key }).meta({ id: "PaveCallbackSet" });

const tag = "PAVE";

/** What the document says of each route. */
export const operations = {
  list: {
    summary: "List PAVE callbacks",
    tag,
    answers: { 200: z.object({ api_key, data: z.array(callback) }) },
  },
  get: { summary: "Get a PAVE callback", tag, answers: { 200: z.object({ api_key, data: callback }) } },
  set: { summary: "Set a PAVE callback", tag, body: callbackIn, answers: { 200: flat } },
  update: { summary: "Update a PAVE callback", tag, body: callbackUpdate, answers: { 200: flat } },
  remove: {
    summary: "Remove a PAVE callback",
    tag,
    answers: { 200: z.object({ api_key, message: z.string() }) },
  },
} satisfies Record<string, Operation>;
