import type { ApiDefinition } from "../../resource.ts";
import { svixConnection } from "./client.ts";
import { deliveryProof } from "./delivery-proof.ts";
import { createDeliveryService } from "./delivery-service.ts";

/** Hookplane's own: the delivery service on this machine, and the proof that a deployment works. */
export function createHookplane(vendors: readonly ApiDefinition[]): ApiDefinition {
  return {
    name: "hookplane",
    title: "Hookplane",
    description: "A delivery service of one's own, and the proof that a deployment delivers.",
    account: { connection: svixConnection, servicePath: "" },
    resources: [createDeliveryService(vendors), deliveryProof],
  };
}
