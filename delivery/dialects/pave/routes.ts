import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Endpoint } from "../../core/endpoint.ts";
import { ServiceError } from "../../errors.ts";
import type { Tx } from "../../store/store.ts";
import type { AccountContext } from "../account.ts";
import { toFailure } from "../failure.ts";
import { readJsonBodies } from "../json-body.ts";
import { newEndpoint } from "../new-endpoint.ts";
import { parseCallback, toCallback, toEndpointFields } from "./callback.ts";
import { operations } from "./documentation.ts";
import { paveEvents } from "./events.ts";
import { authenticationProblem, type PaveCredentials } from "./token.ts";

interface EventParams {
  Params: { event: string };
}

/**
 * PAVE's callback routes (https://docs.paveapi.com/integrations/developer-docs/callbacks). Where PAVE is silent:
 * authentication that fails is 401 `{message}`; setting a callback that is there already is 409 `{api_key, message}`;
 * reading one that is not there is the documented 404 of update and remove.
 */
export function registerPaveRoutes(
  instance: FastifyInstance,
  context: AccountContext<PaveCredentials>,
  freshnessWindowMs: number,
): void {
  const { application, credentials, store, notices, httpsOnly } = context;
  const api_key = credentials.apiKey;
  const optionsOf = (name: keyof typeof operations) => ({ config: { operation: operations[name] } });

  readJsonBodies(instance);

  instance.addHook("onRequest", async (request) => {
    const problem = authenticationProblem(request.headers, credentials, context.now(), freshnessWindowMs);
    if (problem !== null) throw new ServiceError("authentication_failed", problem);
  });

  instance.setErrorHandler((error, request, reply) => sendPaveError(error, request, reply, api_key));

  instance.setNotFoundHandler(async (request, reply) =>
    reply
      .status(404)
      .send({ message: `There is no ${request.method} ${request.url.split("?", 1)[0] ?? ""}.` }),
  );

  instance.get("/callbacks", optionsOf("list"), async () => {
    const endpoints = await store.read((tx) => tx.endpoints.list(application.id));
    const callbacks = endpoints.filter(({ uid }) => uid !== null && paveEvents.includes(uid)).map(toCallback);
    return { api_key, data: callbacks };
  });

  instance.get<EventParams>("/callbacks/:event", optionsOf("get"), async ({ params }) => {
    const endpoint = await store.read((tx) => findCallback(tx, params.event));
    return { api_key, data: toCallback(endpoint) };
  });

  instance.post("/callbacks", optionsOf("set"), async ({ body }) => {
    const callback = parseCallback(body, { httpsOnly });
    const endpoint = newEndpoint(application.id, context.now(), toEndpointFields(callback));
    await store.write(async (tx) => {
      if ((await tx.endpoints.find(application.id, callback.event)) !== undefined) {
        throw new ServiceError(
          "conflict",
          `Your API Key already has a callback setting for the event ${callback.event}. ` +
            `Update it with PUT /v1/callbacks/${callback.event}.`,
        );
      }
      await tx.endpoints.insert(endpoint);
      await notices.endpointChanged(tx, application, endpoint, "created");
    });
    return { api_key, ...callback };
  });

  instance.put<EventParams>("/callbacks/:event", optionsOf("update"), async ({ params, body }) => {
    const updatedAt = context.now();
    // A callback that is not there is told before anything that is wrong with the body.
    await store.read((tx) => findCallback(tx, params.event));
    const callback = parseCallback(body, { httpsOnly, event: params.event });
    await store.write(async (tx) => {
      const endpoint = await findCallback(tx, params.event);
      const updated = { ...endpoint, ...toEndpointFields(callback), updatedAt };
      await tx.endpoints.update(updated);
      await notices.endpointChanged(tx, application, updated, "updated");
    });
    return { api_key, ...callback };
  });

  instance.delete<EventParams>("/callbacks/:event", optionsOf("remove"), async ({ params }) => {
    await store.write(async (tx) => {
      const endpoint = await findCallback(tx, params.event);
      await tx.endpoints.delete(endpoint.id);
      await notices.endpointChanged(tx, application, endpoint, "deleted");
    });
    return { api_key, message: `Callback setting ${params.event} has been successfully removed.` };
  });

  async function findCallback(tx: Tx, event: string): Promise<Endpoint> {
    const endpoint = paveEvents.includes(event) ? await tx.endpoints.find(application.id, event) : undefined;
    if (endpoint !== undefined) return endpoint;
    throw new ServiceError(
      "not_found",
      `Your API Key does not have callback setting for the event ${event}.`,
    );
  }
}

/**
 * Answers with an error as PAVE writes one.
 *
 * @param apiKey the account's: as documented, what concerns its callbacks names it
 */
export function sendPaveError(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  apiKey?: string,
): FastifyReply {
  const { status, message, retryAfterSeconds } = toFailure(error, request);
  if (retryAfterSeconds !== null) void reply.header("retry-after", retryAfterSeconds);
  const concernsCallbacks = status === 404 || status === 409;
  return reply
    .status(status)
    .send(concernsCallbacks && apiKey !== undefined ? { api_key: apiKey, message } : { message });
}
