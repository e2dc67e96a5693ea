import type { ApiDefinition } from "../../resource.ts";
import { paveConnection } from "./client.ts";
import { callback } from "./callback.ts";

export const pave: ApiDefinition = {
  name: "pave",
  title: "PAVE",
  description: "Callbacks of [PAVE](https://docs.paveapi.com), vehicle inspection by phone.",
  account: { connection: paveConnection, servicePath: "/pave/v1" },
  resources: [callback],
};
