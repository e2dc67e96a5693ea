// The full system in one program: the delivery service, a callback or endpoint at each vendor's API, and a proof that a
// signed event reaches every one of them. `pulumi up` in the checkout's root deploys it; `npm run demo` shows it off.
import { createHmac } from "node:crypto";
import path from "node:path";
import * as hookplane from "hookplane";
import * as pulumi from "@pulumi/pulumi";

const service = new hookplane.DeliveryService("service", {
  dataDir: path.join(import.meta.dirname, "..", ".hookplane"),
  // The receivers of this demo live in the service itself, so it may deliver to this machine.
  inbox: true,
  allowSubnets: ["127.0.0.0/8"],
  deleteData: true,
});

/** A receiver that records what it gets and checks its signature. */
const inbox = (name: string) => pulumi.interpolate`${service.url}/inbox/${name}`;

// PAVE signs nothing: a header that only the vendor and the receiver know tells a real callback from a forged one.
const receiverToken = pulumi.secret(
  service.connections.apply(({ svix }) => createHmac("sha256", svix.token).update("receiver").digest("hex")),
);

const complete = new hookplane.pave.Callback("inspection-complete", {
  event: "SESSION:COMPLETE",
  url: inbox("pave-complete"),
  headers: { Authorization: pulumi.interpolate`Bearer ${receiverToken}` },
  payload: { source: "hookplane-demo" },
  connection: service.connections.pave,
});

const statusChange = new hookplane.pave.Callback("inspection-status", {
  event: "SESSION:STATUS_CHANGE",
  url: inbox("pave-status"),
  headers: { Authorization: pulumi.interpolate`Bearer ${receiverToken}` },
  connection: service.connections.pave,
});

const conversations = new hookplane.twilio.ConversationsWebhook("conversations", {
  filters: ["onMessageAdd", "onMessageAdded"],
  preWebhookUrl: inbox("twilio-pre"),
  postWebhookUrl: inbox("twilio-post"),
  connection: service.connections.twilio,
});

const agent = new hookplane.casey.WebhookEndpoint("agent", {
  url: inbox("casey"),
  description: "Finished conversations",
  eventTypes: ["conversation.completed"],
  connection: service.connections.casey,
});

new hookplane.DeliveryProof(
  "proof",
  {
    connection: service.connections.svix,
    events: [
      {
        application: "pave",
        eventType: "SESSION:STATUS_CHANGE",
        payload: { session_key: "PRF-0000000001", status: "STARTED" },
      },
      {
        application: "twilio",
        eventType: "onMessageAdded",
        payload: { ConversationSid: "CH00000000000000000000000000000000", Body: "proof" },
      },
      {
        application: "casey",
        eventType: "conversation.completed",
        payload: { conversation_id: "00000000-0000-4000-8000-000000000000" },
      },
    ],
    triggers: [complete.url, statusChange.url, conversations.postWebhookUrl, agent.id],
  },
  { dependsOn: [complete, statusChange, conversations, agent] },
);

export const url = service.url;
export const connections = service.connections;
