import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { Application } from "../core/application.ts";
import { seesFlagged, type Caller } from "../core/caller.ts";
import type { Json } from "../core/json.ts";
import { isJsonObject } from "../core/payload.ts";
import { ServiceError } from "../errors.ts";
import { notFound, requireApplication } from "./application-access.ts";
import { requiring } from "./auth.ts";
import { requireEndpoint, type EndpointParams } from "./endpoints.ts";
import { currentSchema } from "./event-type-schemas.ts";
import { archivedMessage } from "./event-types.ts";
import { eventTypeName } from "./fields.ts";
import { answerOnce, sendAnswer } from "./idempotency.ts";
import { bodyFault, readInput, validationError } from "./input.ts";
import { catalogueFaults, catalogueOf, messageJson, messageOut } from "./messages.ts";
import { exampleOf } from "./schema-example.ts";
import type { ServerContext } from "./server.ts";

/** The contract's `EventExampleIn`, and which of several examples newer clients ask for. */
const exampleIn = z
  .object({
    eventType: eventTypeName,
    exampleIndex: z
      .int("The index must be a whole number.")
      .min(0, "The index must be at least 0.")
      .nullish(),
  })
  .meta({ id: "EventExampleIn" });

const operation = requiring("CreateAttempts", {
  summary: "Send an example to an endpoint",
  tag: "Endpoint",
  body: exampleIn,
  isRepeatable: true,
  answers: { 200: messageOut },
});

/** An event type that needs no catalogue: Svix's own, to see whether an endpoint is there. */
const ping = { eventType: "svix.ping", payload: { success: true } };

/** Sends an example of an event to one endpoint, whatever it listens to. */
export function registerSendExample(instance: FastifyInstance, context: ServerContext): void {
  const { store, publisher } = context;

  instance.post<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/send-example",
    operation,
    async (request, reply) => {
      const { body } = readInput(request, { body: exampleIn });
      const { caller, params } = request;
      const answer = await answerOnce(context, request, async (keep) => {
        const application = await requireApplication(store, caller, params.app);
        const json = await makeExample(context, caller, application, body);
        const event = { eventType: body.eventType, payload: Buffer.from(JSON.stringify(json)), json };
        return store.write(async (tx) => {
          const endpoint = await requireEndpoint(tx, application, params.endpoint);
          if (endpoint.disabled) {
            throw new ServiceError(
              "bad_request",
              `The endpoint "${params.endpoint}" is disabled: enable it first.`,
            );
          }
          const message = await publisher.publishWithin(tx, application, event, [endpoint.id]);
          const sent = { status: 200, body: messageJson(message, true) };
          await keep.within(tx, sent);
          return sent;
        });
      });
      return sendAnswer(reply, answer);
    },
  );
}

/** @throws ServiceError for an event type that is not there, that is archived, or that no example can be made of */
async function makeExample(
  context: ServerContext,
  caller: Caller,
  application: Application,
  { eventType: name, exampleIndex }: z.output<typeof exampleIn>,
): Promise<Json> {
  if (name === ping.eventType) return ping.payload;
  const catalogue = await catalogueOf(context, application);
  const eventType = catalogue.get(name);
  if (eventType === undefined || !seesFlagged(caller, eventType.featureFlags)) {
    throw notFound("event type", name);
  }
  if (eventType.archived) throw bodyFault(["eventType"], archivedMessage(name));
  const current = currentSchema(eventType);
  if (current === undefined) {
    throw new ServiceError(
      "bad_request",
      `The event type "${name}" has no schema to make an example of: give it one, such as {"1": {"type": "object", "example": {"id": 1}}}.`,
    );
  }
  // A payload is an object, whether its schema says so or not.
  const example = exampleOf({ type: "object", ...current.schema }, exampleIndex ?? 0);
  if (example === undefined) {
    throw bodyFault(["exampleIndex"], `The schema of "${name}" has fewer examples: give a lower index.`);
  }
  if (!isJsonObject(example)) {
    throw new ServiceError(
      "bad_request",
      `The example of "${name}" is no JSON object, which a payload must be: give its schema another.`,
    );
  }
  const faults = catalogueFaults(catalogue, application, { eventType: name, json: example });
  if (faults.length > 0) {
    throw validationError(
      faults.map(({ path, message, type }) => ({
        path: ["body", "eventType"],
        message: `At "${path.slice(2).join(".")}" of its example: ${message}`,
        type,
      })),
    );
  }
  return example;
}
