import { z } from "zod";
import { baseUrl } from "../../fields.ts";
import type { HttpClient, VendorError } from "../../http/client.ts";
import { defineConnection } from "../../resource.ts";

/** An account of the Svix-compatible API: a service of one's own, Svix's cloud or Svix's open server. */
export interface SvixConnection {
  readonly url: string;
  readonly token: string;
}

export const svixConnection = defineConnection<SvixConnection>({
  name: "svix",
  title: "Svix",
  schema: z.object({
    url: baseUrl().default("https://api.svix.com").meta({
      description: "Base address, without `/api/v1`: `connections.svix` of a `DeliveryService` has its own.",
    }),
    token: z.string().min(1).meta({ description: "The Bearer token." }),
  }),
  environment: { token: "SVIX_TOKEN" },
  identity: ({ url }) => url,
  identifiesAccount: false,
});

/** An event to publish. */
export interface PublishedEvent {
  /** The application's uid or id. */
  readonly application: string;
  readonly eventType: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** Where a message goes, and how far it is. */
export interface Destination {
  readonly endpointId: string;
  readonly url: string;
  readonly status: "success" | "pending" | "failed";
  /** ISO 8601; null when no attempt is due. */
  readonly nextAttempt: string | null;
}

export interface DeliveryAttempt {
  readonly endpointId: string;
  /** As requested. */
  readonly url: string;
  readonly succeeded: boolean;
  /** 0 when no answer came. */
  readonly statusCode: number;
  /** The answer's first bytes, or why there was none. */
  readonly response: string;
  /** When it began, in ISO 8601. */
  readonly timestamp: string;
}

/** A request that the service's inbox received. */
export interface InboxRequest {
  readonly receivedAt: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly verified: boolean;
  readonly by: "signature" | "credentials" | null;
  readonly endpointId: string | null;
  readonly reasons: readonly string[];
}

export interface DeliveryClient {
  /** Publishes an event and answers the message's id. The key makes a repetition the same message. */
  publish(event: PublishedEvent, idempotencyKey: string): Promise<string>;
  listDestinations(application: string, messageId: string): Promise<readonly Destination[]>;
  /** Oldest first. */
  listAttempts(application: string, messageId: string): Promise<readonly DeliveryAttempt[]>;
  /** What an inbox of the service received, oldest first. */
  listInboxRequests(name: string): Promise<readonly InboxRequest[]>;
}

export function createDeliveryClient({
  http,
  connection,
}: {
  readonly http: HttpClient;
  readonly connection: SvixConnection;
}): DeliveryClient {
  const api = http.api({
    title: "The delivery service",
    url: connection.url,
    authorize: () => ({ authorization: `Bearer ${connection.token}` }),
    parseError,
  });

  /** All pages of a list. */
  async function list<T>(path: string, item: z.ZodType<T>): Promise<T[]> {
    const answer = z.object({ data: z.array(item), done: z.boolean(), iterator: z.string().nullish() });
    const items: T[] = [];
    let iterator = "";
    for (;;) {
      const page = await api.request({
        method: "GET",
        path: `${path}?limit=250${iterator}`,
        retry: "safe",
        answer,
      });
      items.push(...page.data);
      if (page.done || !page.iterator) return items;
      iterator = `&iterator=${encodeURIComponent(page.iterator)}`;
    }
  }

  const appPath = (application: string): string => `/api/v1/app/${encodeURIComponent(application)}`;
  return {
    async publish({ application, eventType, payload }, idempotencyKey) {
      const { id } = await api.request({
        method: "POST",
        path: `${appPath(application)}/msg`,
        headers: { "idempotency-key": idempotencyKey },
        json: { eventType, payload },
        retry: "safe",
        answer: z.object({ id: z.string() }),
      });
      return id;
    },
    listDestinations: (application, messageId) =>
      list(`${appPath(application)}/msg/${encodeURIComponent(messageId)}/endpoint`, destinationSchema),
    async listAttempts(application, messageId) {
      const path = `${appPath(application)}/attempt/msg/${encodeURIComponent(messageId)}`;
      const attempts = await list(path, attemptSchema);
      return attempts.sort((left, right) => left.timestamp.localeCompare(right.timestamp));
    },
    async listInboxRequests(name) {
      const path = `/inbox/${encodeURIComponent(name)}/requests`;
      const answer = z.object({ data: z.array(inboxRequestSchema) });
      return (await api.request({ method: "GET", path, retry: "safe", answer })).data;
    },
  };
}

/** `MessageStatus` of the Svix API: 3 is being sent, which has no answer yet. */
const statuses = { 0: "success", 1: "pending", 2: "failed", 3: "pending" } as const;

const destinationSchema = z
  .object({
    id: z.string(),
    url: z.string(),
    status: z.union([z.literal(0), z.literal(1), z.literal(2), z.literal(3)]),
    nextAttempt: z.string().nullish(),
  })
  .transform(({ id, url, status, nextAttempt }): Destination => ({
    endpointId: id,
    url,
    status: statuses[status],
    nextAttempt: nextAttempt ?? null,
  }));

const attemptSchema = z
  .object({
    endpointId: z.string(),
    url: z.string(),
    status: z.number(),
    responseStatusCode: z.number(),
    response: z.string(),
    timestamp: z.string(),
  })
  .transform(({ status, responseStatusCode, ...attempt }): DeliveryAttempt => ({
    ...attempt,
    succeeded: status === 0,
    statusCode: responseStatusCode,
  }));

const inboxRequestSchema = z.object({
  receivedAt: z.string(),
  headers: z.record(z.string(), z.string()),
  verified: z.boolean(),
  by: z.enum(["signature", "credentials"]).nullable(),
  endpointId: z.string().nullable(),
  reasons: z.array(z.string()),
});

const errorSchema = z.object({
  code: z.string().optional(),
  detail: z.union([z.string(), z.array(z.object({ loc: z.array(z.string()), msg: z.string() }))]),
});

/** `HttpErrorOut` and `HTTPValidationError` of the Svix API. */
function parseError(body: unknown): VendorError | undefined {
  const { data } = errorSchema.safeParse(body);
  if (!data) return undefined;
  const message =
    typeof data.detail === "string"
      ? data.detail
      : data.detail.map(({ loc, msg }) => `${loc.join(".")}: ${msg}`).join("; ");
  return { message, code: data.code };
}
