// The Conversations webhook of a Twilio account. The account has exactly one: Hookplane adopts it, changes what is
// declared here and nothing else, and puts back what was there on `destroy`. For your own account leave `connection` out
// and set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN.
import * as hookplane from "hookplane";
import * as pulumi from "@pulumi/pulumi";

const service = new hookplane.DeliveryService("service", {
  dataDir: "data",
  inbox: true,
  allowSubnets: ["127.0.0.0/8"],
  deleteData: true,
});

const webhook = new hookplane.twilio.ConversationsWebhook("conversations", {
  filters: ["onMessageAdd", "onMessageAdded", "onConversationStateUpdated"],
  preWebhookUrl: pulumi.interpolate`${service.url}/inbox/before`,
  postWebhookUrl: pulumi.interpolate`${service.url}/inbox/after`,
  method: "POST",
  onDelete: "restore",
  connection: service.connections.twilio,
});

export const filters = webhook.filters;
export const accountSid = webhook.accountSid;
