import type { Endpoint } from "../core/endpoint.ts";
import { newId } from "../core/ids.ts";
import { emptyPolicy } from "../core/policy.ts";

/** An endpoint that is about to be stored: enabled, without limits, and otherwise as the fields say. */
export function newEndpoint(
  applicationId: string,
  now: number,
  fields: Pick<Endpoint, "url"> & Partial<Omit<Endpoint, "id" | "applicationId" | "createdAt" | "updatedAt">>,
): Endpoint {
  return {
    id: newId("ep", now),
    applicationId,
    uid: null,
    description: "",
    filterTypes: null,
    channels: null,
    headers: {},
    disabled: false,
    throttleRate: null,
    policy: emptyPolicy,
    tls: null,
    version: 1,
    metadata: {},
    settings: {},
    secrets: [],
    createdAt: now,
    updatedAt: now,
    ...fields,
  };
}
