// A PAVE callback, delivered and proven on this machine. For your own account leave `connection` out and set
// `pulumi config set --secret hookplane:paveApiSecret …` (and paveApiKey, paveUsername).
import * as hookplane from "hookplane";
import * as pulumi from "@pulumi/pulumi";

// The header that tells the receiver a real callback from a forged one, since PAVE signs nothing.
const authorization =
  new pulumi.Config().getSecret("authorization") ?? pulumi.secret("Bearer only-for-this-example");

const service = new hookplane.DeliveryService("service", {
  dataDir: "data",
  inbox: true,
  allowSubnets: ["127.0.0.0/8"],
  deleteData: true,
});

const callback = new hookplane.pave.Callback("inspection-complete", {
  event: "SESSION:COMPLETE",
  url: pulumi.interpolate`${service.url}/inbox/pave`,
  headers: { Authorization: authorization },
  payload: { source: "PAVE" },
  connection: service.connections.pave,
});

const proof = new hookplane.DeliveryProof("proof", {
  connection: service.connections.svix,
  events: [
    { application: "pave", eventType: "SESSION:COMPLETE", payload: { session_key: "XXX-ABCDE12345" } },
  ],
  triggers: [callback.url, callback.headers],
});

export const callbackUrl = callback.url;
export const deliveries = proof.deliveries;
