import { randomBytes } from "node:crypto";
import { z } from "zod";
import type { VendorAccount } from "../account.ts";
import { createTwilioDialect, type TwilioCredentials } from "./dialect.ts";
import { twilioDocumentation } from "./documentation.ts";
import { registerTwilioRoutes, sendTwilioError } from "./routes.ts";

/** Twilio Conversations (https://www.twilio.com/docs/conversations-classic). */
export const twilioAccount: VendorAccount<TwilioCredentials> = {
  name: "twilio",
  title: "Twilio",
  prefix: "/twilio/v1",
  credentials: z.strictObject({
    accountSid: z.string().regex(/^AC[0-9a-fA-F]{32}$/, "must be AC and 32 hex digits"),
    authToken: z.string().min(1),
  }),
  documentation: twilioDocumentation,
  generateCredentials: () => ({
    accountSid: `AC${randomBytes(16).toString("hex")}`,
    authToken: randomBytes(16).toString("hex"),
  }),
  createDialect: createTwilioDialect,
  sendError: sendTwilioError,
  registerRoutes: registerTwilioRoutes,
};
