import type { AnyResource, ApiDefinition } from "../resource.ts";
import { casey } from "./casey/index.ts";
import { createHookplane } from "./hookplane/index.ts";
import { pave } from "./pave/index.ts";
import { twilio } from "./twilio/index.ts";

/** The vendors. A new one is its folder and a name here. */
const vendors: readonly ApiDefinition[] = [pave, twilio, casey];

/** Every API that the provider knows. */
export const apis: readonly ApiDefinition[] = [...vendors, createHookplane(vendors)];

/** The resource kind of a type such as `pave:Callback`. Throws for a type that no API has. */
export function findResource(type: string): AnyResource {
  const found = apis.flatMap(({ resources }) => resources).find((resource) => resource.type === type);
  if (!found)
    throw new Error(`hookplane has no resource type "${type}"; the state may be of a newer version`);
  return found;
}
