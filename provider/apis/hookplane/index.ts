import type { ApiDefinition } from "../../resource.ts";
import { deliveryProof } from "./delivery-proof.ts";
import { deliveryService } from "./delivery-service.ts";

/** Hookplane's own: the delivery service on this machine, and the proof that a deployment works. */
export const hookplane: ApiDefinition = {
  name: "hookplane",
  title: "Hookplane",
  description: "A delivery service of one's own, and the proof that a deployment delivers.",
  resources: [deliveryService, deliveryProof],
};
