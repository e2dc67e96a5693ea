import { z } from "zod";
import { baseUrl } from "../../fields.ts";
import { HttpError, type HttpClient, type VendorError } from "../../http/client.ts";
import { defineConnection } from "../../resource.ts";

/** A Casey account. */
export interface CaseyConnection {
  readonly url: string;
  readonly apiKey: string;
}

/**
 * The account is known by its address alone: the only other thing that a program gives is the key, and a new key of the
 * same organization must not replace its endpoints.
 */
export const caseyConnection = defineConnection<CaseyConnection>({
  name: "casey",
  title: "Casey",
  schema: z.object({
    url: baseUrl()
      .default("https://api.tellcasey.com/v1/backend")
      .meta({ description: "Base address of the backend API." }),
    apiKey: z.string().min(1).meta({ description: "An API key, `sk_live_…` or `sk_test_…`." }),
  }),
  identity: ({ url }) => url,
  identifiesAccount: false,
});

/** A webhook endpoint. Source: https://developers.tellcasey.com/docs/api/reference/webhooks */
export interface CaseyWebhook {
  readonly id: string;
  readonly url: string;
  /** Empty for none. */
  readonly description: string;
  readonly eventTypes: string[];
  readonly enabled: boolean;
  /** ISO 8601. */
  readonly createdAt: string;
}

export interface CaseyWebhookSettings {
  readonly url: string;
  readonly description: string;
  readonly eventTypes: readonly string[];
}

export interface CaseyClient {
  /** `GET /webhooks`: all endpoints of the account; the route has no pages. */
  list(): Promise<readonly CaseyWebhook[]>;
  /** `GET /webhooks/{id}`, or undefined on 404. */
  get(id: string): Promise<CaseyWebhook | undefined>;
  /** `POST /webhooks`. The secret is null where the answer does not have it. Never repeated once it may have happened. */
  create(
    settings: CaseyWebhookSettings,
  ): Promise<{ readonly webhook: CaseyWebhook; readonly secret: string | null }>;
  /** `GET /webhooks/{id}/secret`. */
  getSecret(id: string): Promise<string>;
  /** `DELETE /webhooks/{id}`; 404 is done. There is no route that changes one. */
  delete(id: string): Promise<void>;
  /** `POST /webhooks/test`: sends a test event to *all* endpoints of the account; answers its id. */
  sendTestEvent(): Promise<string>;
  /** See `HttpApi.toVendorTime`. */
  toVendorTime(ms: number): number;
}

export function createCaseyClient({
  http,
  connection,
}: {
  readonly http: HttpClient;
  readonly connection: CaseyConnection;
}): CaseyClient {
  const api = http.api({
    title: "Casey",
    url: connection.url,
    authorize: () => ({ authorization: `Bearer ${connection.apiKey}` }),
    parseError,
  });
  const pathOf = (id: string): string => `/webhooks/${encodeURIComponent(id)}`;
  return {
    async list() {
      const answer = z.object({ data: z.array(webhookSchema) });
      const { data } = await api.request({ method: "GET", path: "/webhooks", retry: "safe", answer });
      return data.map(toWebhook);
    },
    async get(id) {
      const answer = z.object({ data: webhookSchema });
      const found = await absentOn404(
        api.request({ method: "GET", path: pathOf(id), retry: "safe", answer }),
      );
      return found && toWebhook(found.data);
    },
    async create({ url, description, eventTypes }) {
      const answer = z.object({ data: webhookSchema.extend({ secret: z.string().min(1).nullish() }) });
      const json = { url, ...(description === "" ? {} : { description }), event_types: eventTypes };
      const { data } = await api.request({
        method: "POST",
        path: "/webhooks",
        json,
        retry: "unsent",
        answer,
      });
      return { webhook: toWebhook(data), secret: data.secret ?? null };
    },
    async getSecret(id) {
      const answer = z.object({ data: z.object({ secret: z.string().min(1) }) });
      const path = `${pathOf(id)}/secret`;
      return (await api.request({ method: "GET", path, retry: "safe", answer })).data.secret;
    },
    async delete(id) {
      await absentOn404(api.request({ method: "DELETE", path: pathOf(id), retry: "safe" }));
    },
    async sendTestEvent() {
      const answer = z.object({ data: z.object({ message_id: z.string() }) });
      const request = { method: "POST", path: "/webhooks/test", retry: "unsent", answer } as const;
      return (await api.request(request)).data.message_id;
    },
    toVendorTime: (ms) => api.toVendorTime(ms),
  };
}

const webhookSchema = z.object({
  id: z.string().min(1),
  url: z.string(),
  description: z.string().nullish(),
  event_types: z.array(z.string()).nullish(),
  enabled: z.boolean().nullish(),
  created_at: z.string(),
});

function toWebhook(body: z.output<typeof webhookSchema>): CaseyWebhook {
  return {
    id: body.id,
    url: body.url,
    description: body.description ?? "",
    eventTypes: body.event_types ?? [],
    enabled: body.enabled ?? true,
    createdAt: body.created_at,
  };
}

/**
 * Casey's own 404 says that there is no such endpoint. One without Casey's message comes from something else at that
 * address: to take it for "gone" would drop endpoints from the state, and make them twice, because of a mistyped base URL.
 */
async function absentOn404<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof HttpError && error.status === 404 && error.details.vendorMessage !== undefined) {
      return undefined;
    }
    throw error;
  }
}

const errorSchema = z.object({ error: z.object({ message: z.string(), code: z.string().optional() }) });

function parseError(body: unknown): VendorError | undefined {
  return errorSchema.safeParse(body).data?.error;
}
