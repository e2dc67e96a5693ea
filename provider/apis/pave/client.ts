import { z } from "zod";
import { baseUrl } from "../../fields.ts";
import { HttpError } from "../../http/client.ts";
import { defineConnection, type Context } from "../../resource.ts";
import { fingerprint } from "../../secrets.ts";
import { createAuthHeaders } from "./token.ts";

/** A PAVE account: an API key, which is what a callback belongs to, and what signs with it. */
export const paveConnection = defineConnection({
  name: "pave",
  title: "PAVE",
  schema: z.strictObject({
    url: baseUrl().default("https://openapi.paveapi.com/v1").meta({
      description: "Base of the PAVE API, with its version. Default: PAVE's own.",
    }),
    username: z.string().min(1).meta({
      description:
        "Name of the primary account: of an enterprise the enterprise account's, not a branch's, nor a dashboard user's.",
    }),
    apiKey: z.string().min(1).meta({ description: "The API key. The callbacks belong to it." }),
    apiSecret: z
      .string()
      .min(1)
      .meta({ description: "The API key's secret. Never sent: it signs each request." }),
  }),
  identity: ({ url, apiKey }) => `${url} key ${fingerprint(apiKey)}`,
});

export type PaveConnection = z.output<typeof paveConnection.schema>;

/** PHP writes an empty map as a list, and the documentation has both fields as JSON text and as objects. */
function mapOf<Value>(value: z.ZodType<Value>): z.ZodType<Record<string, Value>> {
  const record = z.record(z.string(), value);
  return z.preprocess((given, context) => {
    if (given === null || given === undefined || given === "") return {};
    const parsed = typeof given === "string" ? parseJson(given) : given;
    if (parsed === undefined) context.addIssue("is neither an object nor JSON text");
    return Array.isArray(parsed) && parsed.length === 0 ? {} : parsed;
  }, record);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const callback = z.object({
  event: z.string(),
  url: z.string(),
  method: z
    .string()
    .nullish()
    .transform((method) => method?.toUpperCase() || "POST"),
  headers: mapOf(z.coerce.string()),
  payload: mapOf(z.json()),
});

/** A callback as PAVE has it. */
export type PaveCallback = z.output<typeof callback>;

/** What can be set of a callback; all of it is sent on each change, as PAVE does not say what an omission means. */
export type PaveSettings = Pick<PaveCallback, "url" | "method" | "headers" | "payload">;

/**
 * PAVE's callback routes: https://docs.paveapi.com/integrations/developer-docs/callbacks. Events are percent-encoded in
 * paths. Each throws `HttpError`.
 */
export interface PaveClient {
  /** Every callback of the API key. PAVE merges its default attributes into `payload` here, and only here. */
  list(): Promise<readonly PaveCallback[]>;
  /** Undefined where the API key has no callback for the event. */
  get(event: string): Promise<PaveCallback | undefined>;
  /** Not tried again where it may have been done. */
  create(event: string, settings: PaveSettings): Promise<PaveCallback>;
  /** Undefined where there is none to update. */
  update(event: string, settings: PaveSettings): Promise<PaveCallback | undefined>;
  /** Whether there was one. */
  delete(event: string): Promise<boolean>;
}

export function createPaveClient({ connection, http, now }: Context<PaveConnection>): PaveClient {
  const api = http.api({
    title: "PAVE",
    url: connection.url,
    authorize: () => createAuthHeaders(connection, now()),
    parseError: (body) => z.object({ message: z.string() }).safeParse(body).data,
  });
  const pathOf = (event: string): string => `/callbacks/${encodeURIComponent(event)}`;

  return {
    list: async () =>
      (
        await api.request({
          method: "GET",
          path: "/callbacks",
          retry: "safe",
          answer: z.object({ data: z.array(callback) }),
        })
      ).data,
    get: (event) =>
      orNone(async () => {
        const answer = z.object({ data: callback });
        return (await api.request({ method: "GET", path: pathOf(event), retry: "safe", answer })).data;
      }),
    create: (event, settings) =>
      api.request({
        method: "POST",
        path: "/callbacks",
        json: { event, ...settings },
        retry: "unsent",
        answer: callback,
      }),
    update: (event, settings) =>
      orNone(() =>
        api.request({ method: "PUT", path: pathOf(event), json: settings, retry: "safe", answer: callback }),
      ),
    delete: async (event) =>
      (await orNone(async () => {
        await api.request({ method: "DELETE", path: pathOf(event), retry: "safe" });
        return true;
      })) ?? false,
  };
}

/**
 * PAVE's own 404 says that there is no callback. One without PAVE's message comes from something else at that address: to
 * take it for "gone" would drop callbacks from the state because of a mistyped base URL.
 */
async function orNone<T>(request: () => Promise<T>): Promise<T | undefined> {
  try {
    return await request();
  } catch (error) {
    if (error instanceof HttpError && error.status === 404 && error.details.vendorMessage !== undefined) {
      return undefined;
    }
    throw error;
  }
}
