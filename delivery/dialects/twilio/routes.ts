import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { equalInConstantTime } from "../../core/constant-time.ts";
import type { AccountContext } from "../account.ts";
import { toFailure } from "../failure.ts";
import { newEndpoint } from "../new-endpoint.ts";
import {
  configurationUid,
  freshConfiguration,
  parseUpdate,
  toConfiguration,
  toEndpointFields,
  type Configuration,
} from "./configuration.ts";
import type { TwilioCredentials } from "./dialect.ts";
import { operations } from "./documentation.ts";

const path = "/Configuration/Webhooks";

/** An answer in Twilio's error form (https://www.twilio.com/docs/usage/twilios-response). */
class TwilioError extends Error {
  override readonly name = "TwilioError";
  readonly status: number;
  readonly code: number;
  readonly detail: string | undefined;

  constructor(status: number, code: number, message: string, detail?: string) {
    super(message);
    this.status = status;
    this.code = code;
    this.detail = detail;
  }
}

/** Twilio's codes for what goes wrong before its own rules are asked; anything else a caller did is 20001. */
const codeOf: Readonly<Record<number, number>> = {
  404: 20404,
  405: 20004,
  429: 20429,
  500: 20500,
  503: 20503,
};

/**
 * Twilio's account-wide webhook configuration: fetched with GET, partly updated with POST, 200 both
 * (https://www.twilio.com/docs/conversations-classic/api/webhook-configuration-resource.md). The object is always there;
 * its endpoint is made by the first update. Only the account's own SID and auth token authenticate, not API keys.
 */
export function registerTwilioRoutes(
  instance: FastifyInstance,
  context: AccountContext<TwilioCredentials>,
): void {
  const { application, credentials, store, notices } = context;

  instance.removeAllContentTypeParsers();
  instance.addContentTypeParser<string>(
    "application/x-www-form-urlencoded",
    { parseAs: "string" },
    (_request, body, done) => {
      done(null, new URLSearchParams(body));
    },
  );

  instance.addHook("onRequest", async (request) => {
    if (isAuthentic(request.headers.authorization ?? "", credentials)) return;
    // As the vendor answers, word for word.
    throw new TwilioError(401, 20003, "Authenticate", "Your AccountSid or AuthToken was incorrect.");
  });

  instance.setErrorHandler(sendTwilioError);

  instance.setNotFoundHandler(async (request) => {
    const resource = request.url.split("?", 1)[0] ?? "";
    if (resource === instance.prefix + path) throw new TwilioError(405, 20004, "Method not allowed");
    throw new TwilioError(404, 20404, `The requested resource ${resource} was not found`);
  });

  instance.get(path, { config: { operation: operations.fetch } }, async () =>
    toBody((await readConfiguration()) ?? freshConfiguration),
  );

  instance.post(path, { config: { operation: operations.update } }, async ({ body }) => {
    const form = body instanceof URLSearchParams ? body : new URLSearchParams();
    const { changes, problems } = parseUpdate(form, context.httpsOnly);
    const [first] = problems;
    if (first !== undefined) {
      throw new TwilioError(400, first.code, problems.map(({ message }) => message).join(" "));
    }
    const now = context.now();
    const created = newEndpoint(application.id, now, toEndpointFields({ ...freshConfiguration, ...changes }));
    const configuration = await store.write(async (tx) => {
      const endpoint = await tx.endpoints.find(application.id, configurationUid);
      if (endpoint === undefined) {
        await tx.endpoints.insert(created);
        await notices.endpointChanged(tx, application, created, "created");
        return toConfiguration(created);
      }
      const updated = {
        ...endpoint,
        ...toEndpointFields({ ...toConfiguration(endpoint), ...changes }),
        updatedAt: now,
      };
      await tx.endpoints.update(updated);
      await notices.endpointChanged(tx, application, updated, "updated");
      return toConfiguration(updated);
    });
    return toBody(configuration);
  });

  async function readConfiguration(): Promise<Configuration | undefined> {
    const endpoint = await store.read((tx) => tx.endpoints.find(application.id, configurationUid));
    return endpoint && toConfiguration(endpoint);
  }

  function toBody(configuration: Configuration) {
    return {
      account_sid: credentials.accountSid,
      pre_webhook_url: configuration.preWebhookUrl,
      post_webhook_url: configuration.postWebhookUrl,
      method: configuration.method,
      filters: configuration.filters,
      target: configuration.target,
      url: `${context.publicUrl()}/twilio/v1${path}`,
    };
  }
}

/** Answers with an error as Twilio writes one. */
export function sendTwilioError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  let answer: TwilioError;
  if (error instanceof TwilioError) answer = error;
  else {
    const { status, message, retryAfterSeconds } = toFailure(error, request);
    if (retryAfterSeconds !== null) void reply.header("retry-after", retryAfterSeconds);
    answer = new TwilioError(status, codeOf[status] ?? 20001, message);
  }
  if (answer.status === 401) void reply.header("www-authenticate", 'Basic realm="Twilio API"');
  return reply.status(answer.status).send({
    code: answer.code,
    ...(answer.detail !== undefined && { detail: answer.detail }),
    message: answer.message,
    more_info: `https://www.twilio.com/docs/errors/${answer.code}`,
    status: answer.status,
  });
}

function isAuthentic(authorization: string, { accountSid, authToken }: TwilioCredentials): boolean {
  const [, encoded = ""] = /^Basic +([A-Za-z0-9+/=_-]+)$/i.exec(authorization) ?? [];
  return equalInConstantTime(Buffer.from(encoded, "base64").toString(), `${accountSid}:${authToken}`);
}
