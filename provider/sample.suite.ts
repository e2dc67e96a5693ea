import { z } from "zod";
import { baseUrl, distinctList, headerMap, httpMethod, httpUrl, knownName } from "./fields.ts";
import { defineConnection, defineResource, type Context } from "./resource.ts";
import { fingerprint } from "./secrets.ts";

/** An account of a vendor that does not exist, for tests of the core. */
export const sampleConnection = defineConnection({
  name: "sample",
  title: "Sample",
  schema: z.strictObject({
    url: baseUrl().default("https://sample.example/v1").meta({ description: "Base." }),
    apiKey: z.string().min(1).meta({ description: "The account.", secret: true }),
    apiToken: z.string().min(1).meta({ description: "Its token.", secret: true }),
  }),
  environment: { apiToken: "SAMPLE_TOKEN" },
  identity: ({ url, apiKey }) => `${url} key ${fingerprint(apiKey)}`,
});

type SampleContext = Context<z.output<typeof sampleConnection.schema>>;

/** What the sample's vendor holds, and what it was asked. */
export interface SampleVendor {
  object: Record<string, unknown> | undefined;
  readonly calls: string[];
  /** Thrown by the next call. */
  failure?: Error;
}

/** A resource kind with an input of every sort, over a vendor in memory. */
export function createSample(vendor: SampleVendor) {
  function call<T>(context: SampleContext, name: string, result: () => T): T {
    vendor.calls.push(`${name} as ${context.connection.apiToken}`);
    const { failure } = vendor;
    delete vendor.failure;
    if (failure) throw failure;
    return result();
  }

  return defineResource({
    type: "sample:Thing",
    description: "A thing.",
    example: 'import * as hookplane from "hookplane";',
    inputs: z.object({
      kind: knownName("kind", ["alpha", "beta"]).meta({ description: "Which.", replaces: true }),
      url: httpUrl().meta({ description: "Where." }),
      method: httpMethod().default("POST").meta({ description: "How." }),
      headers: headerMap().default({}).meta({ description: "With.", secret: true, compare: "headers" }),
      tags: distinctList(z.string()).default([]).meta({ description: "Sorts.", compare: "set" }),
      note: z.string().optional().meta({ description: "Ours if given.", unmanaged: true }),
      label: z.string().optional().meta({ description: "Empty if left out." }),
      onDelete: knownName("onDelete", ["remove", "keep"])
        .default("remove")
        .meta({ description: "What a delete does.", local: true }),
    }),
    outputs: z.object({
      key: z.string().meta({ description: "Made by the vendor.", secret: true }),
      enabled: z.boolean().meta({ description: "Whether it works." }),
    }),
    connection: sampleConnection,
    deleteBeforeReplace: (state, inputs) => state.kind === inputs.kind,
    observe: async (context) => call(context, "observe", () => vendor.object),
    list: async (context) => call(context, "list", () => ["one", "two"]),
    create: async (context, inputs) =>
      call(context, "create", () => {
        vendor.object = { note: "the vendor's own", ...inputs, key: "made-by-the-vendor", enabled: true };
        return { id: "thing-1", observed: vendor.object };
      }),
    update: async (context, _id, inputs, { changed }) =>
      call(context, `update ${[...changed].join()}`, () => {
        const sent = Object.fromEntries([...changed].map((name) => [name, inputs[name]]));
        vendor.object = { ...vendor.object, ...sent };
        return vendor.object;
      }),
    delete: async (context, _id, state) => {
      call(context, `delete (${state.onDelete})`, () => (vendor.object = undefined));
    },
    toState: (observed) => observed as never,
    warnings: ({ enabled }) => (enabled === false ? ["it was disabled"] : []),
  });
}
