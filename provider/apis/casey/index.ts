import type { ApiDefinition } from "../../resource.ts";
import { caseyConnection } from "./client.ts";
import { webhookEndpoint } from "./webhook-endpoint.ts";

/** Casey, the platform for conversational agents. */
export const casey: ApiDefinition = {
  name: "casey",
  title: "Casey",
  description: "Webhook endpoints of [Casey](https://developers.tellcasey.com), conversational agents.",
  account: { connection: caseyConnection, servicePath: "/casey/v1/backend" },
  resources: [webhookEndpoint],
};
