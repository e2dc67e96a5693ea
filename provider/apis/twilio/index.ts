import type { ApiDefinition } from "../../resource.ts";
import { twilioConnection } from "./client.ts";
import { conversationsWebhook } from "./conversations-webhook.ts";

/** Twilio Conversations. */
export const twilio: ApiDefinition = {
  name: "twilio",
  title: "Twilio",
  description:
    "Webhooks of [Twilio Conversations](https://www.twilio.com/docs/conversations-classic/conversations-webhooks).",
  account: { connection: twilioConnection, servicePath: "/twilio" },
  resources: [conversationsWebhook],
};
