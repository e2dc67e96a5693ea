// A Casey webhook endpoint. Casey has no route to change one: every change makes a new endpoint, with a new secret, before
// the old one goes. For your own organization leave `connection` out and set `hookplane:caseyApiKey`.
import * as hookplane from "hookplane";
import * as pulumi from "@pulumi/pulumi";

const service = new hookplane.DeliveryService("service", {
  dataDir: "data",
  inbox: true,
  allowSubnets: ["127.0.0.0/8"],
  deleteData: true,
});

const endpoint = new hookplane.casey.WebhookEndpoint("agent", {
  url: pulumi.interpolate`${service.url}/inbox/casey`,
  description: "Finished conversations",
  eventTypes: ["conversation.completed", "conversation.abandoned"],
  connection: service.connections.casey,
});

export const endpointId = endpoint.id;
/** For the receiver: the key that verifies each delivery's signature. */
export const signingSecret = endpoint.secret;
