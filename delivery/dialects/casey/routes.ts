import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { equalInConstantTime } from "../../core/constant-time.ts";
import type { Endpoint } from "../../core/endpoint.ts";
import { createSigningSecret } from "../../core/standard-webhooks.ts";
import { ServiceError } from "../../errors.ts";
import type { AccountContext } from "../account.ts";
import { toFailure } from "../failure.ts";
import { readJsonBodies } from "../json-body.ts";
import { newEndpoint } from "../new-endpoint.ts";
import type { CaseyCredentials } from "./dialect.ts";
import { operations } from "./documentation.ts";
import { testEvent } from "./events.ts";
import { parseWebhook, toWebhook } from "./webhook.ts";

interface IdParams {
  Params: { id: string };
}

/** The `code` of an error body. Casey shows the envelope and names no codes: these are ours. */
const codeOf: Readonly<Record<number, string>> = {
  400: "bad_request",
  401: "unauthorized",
  404: "not_found",
  409: "conflict",
  413: "payload_too_large",
  415: "unsupported_media_type",
  422: "validation_error",
  429: "rate_limited",
  503: "unavailable",
};

/**
 * Casey's webhook routes (https://developers.tellcasey.com/docs/api/reference/webhooks). Where Casey is silent: creating
 * answers 201 and removing 204; a body that breaks a rule is 422; `POST /webhooks/test` publishes one `test.event`, which
 * goes to every enabled endpoint. There is no route that changes an endpoint, as with the vendor.
 */
export function registerCaseyRoutes(
  instance: FastifyInstance,
  context: AccountContext<CaseyCredentials>,
): void {
  const { application, credentials, store, publisher, notices } = context;

  const optionsOf = (name: keyof typeof operations) => ({ config: { operation: operations[name] } });

  readJsonBodies(instance);

  instance.addHook("onRequest", async (request) => {
    const [, apiKey] = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? "") ?? [];
    if (apiKey === undefined || !equalInConstantTime(apiKey, credentials.apiKey)) {
      throw new ServiceError(
        "authentication_failed",
        "Send the account's API key as Authorization: Bearer sk_….",
      );
    }
  });

  instance.setErrorHandler(sendCaseyError);

  instance.setNotFoundHandler(async (request) => {
    throw new ServiceError(
      "not_found",
      `There is no ${request.method} ${request.url.split("?", 1)[0] ?? ""}.`,
    );
  });

  instance.get("/webhooks", optionsOf("list"), async () => {
    const endpoints = await store.read((tx) => tx.endpoints.list(application.id));
    return { data: endpoints.map(toWebhook) };
  });

  instance.post("/webhooks", optionsOf("create"), async ({ body }, reply) => {
    const { url, description, eventTypes } = parseWebhook(body, context.httpsOnly);
    const secret = createSigningSecret();
    const endpoint = newEndpoint(application.id, context.now(), {
      url,
      description,
      filterTypes: eventTypes,
      secrets: [{ key: secret, expiresAt: null }],
    });
    await store.write(async (tx) => {
      await tx.endpoints.insert(endpoint);
      await notices.endpointChanged(tx, application, endpoint, "created");
    });
    return reply.status(201).send({ data: { ...toWebhook(endpoint), secret } });
  });

  instance.post("/webhooks/test", optionsOf("test"), async () => {
    const payload = Buffer.from(JSON.stringify({ message: "This is a test event." }));
    const message = await publisher.publish(application, { eventType: testEvent, payload });
    return { data: { success: true, message_id: message.id } };
  });

  instance.get<IdParams>("/webhooks/:id", optionsOf("get"), async ({ params }) => ({
    data: toWebhook(await read(params.id)),
  }));

  instance.get<IdParams>("/webhooks/:id/secret", optionsOf("secret"), async ({ params }) => {
    const endpoint = await read(params.id);
    return { data: { secret: endpoint.secrets[0]?.key ?? "" } };
  });

  instance.delete<IdParams>("/webhooks/:id", optionsOf("delete"), async ({ params }, reply) => {
    await store.write(async (tx) => {
      const endpoint = orNotFound(await tx.endpoints.find(application.id, params.id), params.id);
      await tx.endpoints.delete(endpoint.id);
      await notices.endpointChanged(tx, application, endpoint, "deleted");
    });
    return reply.status(204).send();
  });

  async function read(id: string): Promise<Endpoint> {
    return orNotFound(await store.read((tx) => tx.endpoints.find(application.id, id)), id);
  }
}

/** Answers with an error as Casey writes one. */
export function sendCaseyError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { status, message, retryAfterSeconds } = toFailure(error, request);
  if (retryAfterSeconds !== null) void reply.header("retry-after", retryAfterSeconds);
  return reply.status(status).send({ error: { code: codeOf[status] ?? "internal_error", message } });
}

function orNotFound(endpoint: Endpoint | undefined, id: string): Endpoint {
  if (endpoint === undefined) throw new ServiceError("not_found", `There is no webhook endpoint "${id}".`);
  return endpoint;
}
