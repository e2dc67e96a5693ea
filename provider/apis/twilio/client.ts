import { z } from "zod";
import { baseUrl } from "../../fields.ts";
import type { HttpApi, HttpClient, VendorError } from "../../http/client.ts";
import { defineConnection } from "../../resource.ts";

/** A Twilio account: the auth token or, better, an API key, which can be revoked by itself. */
export interface TwilioConnection {
  readonly url: string;
  readonly accountSid: string;
  readonly authToken?: string;
  readonly apiKeySid?: string;
  readonly apiKeySecret?: string;
}

const connectionSchema = z
  .object({
    url: baseUrl()
      .default("https://conversations.twilio.com")
      .meta({ description: "Base address of the Conversations API." }),
    accountSid: z
      .string()
      .regex(/^AC[0-9a-fA-F]{32}$/, 'must be "AC" and 32 hexadecimal digits, as the Twilio console shows it')
      .meta({ description: "The account's SID, `AC…`." }),
    authToken: z.string().min(1).optional().meta({ description: "The account's auth token." }),
    apiKeySid: z
      .string()
      .min(1)
      .optional()
      .meta({ description: "SID of an API key, `SK…`, that is used instead of the auth token." }),
    apiKeySecret: z.string().min(1).optional().meta({ description: "The API key's secret." }),
  })
  .superRefine((connection, context) => {
    if ((connection.apiKeySid === undefined) !== (connection.apiKeySecret === undefined)) {
      const missing = connection.apiKeySid === undefined ? "apiKeySid" : "apiKeySecret";
      context.addIssue({ code: "custom", path: [missing], message: "an API key needs both SID and secret" });
    } else if (connection.apiKeySid === undefined && connection.authToken === undefined) {
      const message = "is missing; give it, or an API key's apiKeySid and apiKeySecret";
      context.addIssue({ code: "custom", path: ["authToken"], message });
    }
  });

/** The account is the base address and the account's SID. */
export const twilioConnection = defineConnection<TwilioConnection>({
  name: "twilio",
  title: "Twilio",
  schema: connectionSchema,
  environment: {
    accountSid: "TWILIO_ACCOUNT_SID",
    authToken: "TWILIO_AUTH_TOKEN",
    apiKeySid: "TWILIO_API_KEY",
    apiKeySecret: "TWILIO_API_SECRET",
  },
  identity: ({ url, accountSid }) => `${url}/${accountSid}`,
});

/**
 * The account's webhook configuration as the API answers it. Values that are not known are let through: Twilio's own
 * example has a filter that its list lacks.
 * Source: https://www.twilio.com/docs/conversations-classic/api/webhook-configuration-resource
 */
export interface WebhookConfiguration {
  readonly accountSid: string | null;
  readonly method: string | null;
  readonly filters: string[];
  /** Empty for none. */
  readonly preWebhookUrl: string;
  /** Empty for none. */
  readonly postWebhookUrl: string;
  readonly target: string | null;
}

/** What a POST changes. A field that is left out stays as it is; an empty one is cleared. */
export type ConfigurationChange = Partial<Omit<WebhookConfiguration, "accountSid">>;

export interface TwilioClient {
  /** `GET /v1/Configuration/Webhooks`. */
  fetchConfiguration(): Promise<WebhookConfiguration>;
  /** `POST /v1/Configuration/Webhooks`: answers the whole configuration after the change. */
  updateConfiguration(change: ConfigurationChange): Promise<WebhookConfiguration>;
}

export function createTwilioClient(http: HttpClient, connection: TwilioConnection): TwilioClient {
  const api: HttpApi = http.api({
    title: "Twilio",
    url: connection.url,
    authorize: () => ({ authorization: basicAuthorization(connection) }),
    parseError,
  });
  const path = "/v1/Configuration/Webhooks";
  const answer = configurationSchema;
  return {
    fetchConfiguration: () => api.request({ method: "GET", path, retry: "safe", answer }),
    // It sets values, so doing it twice is doing it once.
    updateConfiguration: (change) =>
      api.request({ method: "POST", path, form: toForm(change), retry: "safe", answer }),
  };
}

const configurationSchema = z
  .object({
    account_sid: z.string().nullish(),
    method: z.string().nullish(),
    filters: z.array(z.string()).nullish(),
    pre_webhook_url: z.string().nullish(),
    post_webhook_url: z.string().nullish(),
    target: z.string().nullish(),
  })
  .transform((body): WebhookConfiguration => ({
    accountSid: body.account_sid ?? null,
    method: body.method?.toUpperCase() ?? null,
    filters: body.filters ?? [],
    preWebhookUrl: body.pre_webhook_url ?? "",
    postWebhookUrl: body.post_webhook_url ?? "",
    target: body.target ?? null,
  }));

function basicAuthorization(connection: TwilioConnection): string {
  const user = connection.apiKeySid ?? connection.accountSid;
  const password = connection.apiKeySecret ?? connection.authToken ?? "";
  return `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
}

/**
 * Lists are repeated keys. An empty list is one empty key: without any, Twilio would take the list as not given.
 * Source: RequestClient.ts of twilio-node (`arrayFormat: "repeat"`); clearing is not documented for this resource, and
 * an empty value is what clears a URL elsewhere in Twilio's API.
 */
function toForm(change: ConfigurationChange): URLSearchParams {
  const form = new URLSearchParams();
  const set = (name: string, value: string | null | undefined): void => {
    if (value !== undefined && value !== null) form.append(name, value);
  };
  set("Method", change.method);
  if (change.filters?.length === 0) form.append("Filters", "");
  for (const filter of change.filters ?? []) form.append("Filters", filter);
  set("PreWebhookUrl", change.preWebhookUrl);
  set("PostWebhookUrl", change.postWebhookUrl);
  set("Target", change.target);
  return form;
}

const errorSchema = z.object({ message: z.string(), code: z.number().optional() });

/** Source: RestException.ts of twilio-node. */
function parseError(body: unknown): VendorError | undefined {
  return errorSchema.safeParse(body).data;
}
