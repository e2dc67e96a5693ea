import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { Attempt, Delivery, DeliveryState } from "../core/delivery.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { AttemptFilter, DueDelivery, Tx } from "../store/store.ts";
import { notFound, requireApplication } from "./application-access.ts";
import { requiring } from "./auth.ts";
import { endpointOut, requireEndpoint, toEndpointOut, type EndpointParams } from "./endpoints.ts";
import { emptyOut, isoTime, queryFlag, timeOut } from "./fields.ts";
import { answerAtLeastOnce, sendAnswer } from "./idempotency.ts";
import { readInput } from "./input.ts";
import {
  messageJson,
  messageListQuery,
  messageOut,
  requireMessage,
  toMessageFilter,
  type MessageParams,
} from "./messages.ts";
import { cutPage, mapPage, pageJson, pageOf, pageQuery, paginate, type ListPage } from "./pagination.ts";
import type { ServerContext } from "./server.ts";

/** The contract's `MessageStatus`. A delivery that is being sent shows as pending: it has no answer yet. */
const statuses = { succeeded: 0, pending: 1, failed: 2 } as const satisfies Record<DeliveryState, number>;
const statusTexts = { succeeded: "success", pending: "pending", failed: "fail" } as const;
const stateOf: Readonly<Record<string, DeliveryState | undefined>> = {
  "0": "succeeded",
  "1": "pending",
  "2": "failed",
};

const statusQuery = messageListQuery.extend({
  status: z
    .enum(["0", "1", "2", "3"], "The status must be 0, 1, 2 or 3: success, pending, fail or sending.")
    .optional(),
});
const attemptListQuery = statusQuery.extend({
  status_code_class: z
    .enum(["0", "100", "200", "300", "400", "500"], "The class must be 0, 100, 200, 300, 400 or 500.")
    .transform(Number)
    .optional(),
  endpoint_id: z.string().optional(),
  with_msg: queryFlag(false),
});

interface AttemptParams extends MessageParams {
  readonly attempt: string;
}

const status = z.object({
  status: z.int().describe("0 for success, 1 for pending, 2 for fail."),
  statusText: z.enum(["success", "pending", "fail"]),
});

type Status = z.output<typeof status>;

/** The contract's `MessageAttemptOut`. */
const attemptOut = status
  .extend({
    id: z.string(),
    msgId: z.string(),
    endpointId: z.string(),
    url: z.string(),
    response: z.string(),
    responseStatusCode: z.int().describe("0 when no answer came."),
    responseDurationMs: z.int(),
    triggerType: z.int().describe("0 for the schedule, 1 for a resend."),
    timestamp: timeOut,
  })
  .meta({ id: "MessageAttemptOut" });

type AttemptOut = z.output<typeof attemptOut>;

/** The contract's `MessageEndpointOut`. */
const destinationOut = endpointOut
  .omit({ metadata: true, policy: true, tls: true })
  .extend({ ...status.shape, nextAttempt: timeOut.nullable() })
  .meta({ id: "MessageEndpointOut" });

type DestinationOut = z.output<typeof destinationOut>;

/** The contract's `EndpointMessageOut`. */
const endpointMessageOut = messageOut
  .extend({ ...status.shape, nextAttempt: timeOut.nullable() })
  .meta({ id: "EndpointMessageOut" });

const listedAttempts = pageOf(
  attemptOut
    .extend({ msg: messageOut.nullable().optional().describe("The message, where it is asked for.") })
    .meta({ id: "ListedMessageAttemptOut" }),
);

const tag = "Message Attempt";
const operations = {
  listByMessage: requiring("ViewBase", {
    summary: "List a message's attempts",
    tag,
    query: attemptListQuery,
    answers: { 200: listedAttempts },
  }),
  listByEndpoint: requiring("ViewBase", {
    summary: "List an endpoint's attempts",
    tag,
    query: attemptListQuery,
    answers: { 200: listedAttempts },
  }),
  get: requiring("ViewBase", { summary: "Get an attempt", tag, answers: { 200: attemptOut } }),
  destinations: requiring("ViewBase", {
    summary: "List a message's destinations",
    tag,
    query: pageQuery,
    answers: { 200: pageOf(destinationOut) },
  }),
  messages: requiring("ViewBase", {
    summary: "List an endpoint's messages",
    tag,
    query: statusQuery,
    answers: { 200: pageOf(endpointMessageOut) },
  }),
  resend: requiring("CreateAttempts", {
    summary: "Resend a message",
    tag,
    isRepeatable: true,
    answers: { 202: emptyOut },
  }),
  expunge: requiring("organization", {
    summary: "Delete an attempt's content",
    tag,
    answers: { 204: null },
  }),
};

export function registerAttempts(instance: FastifyInstance, context: ServerContext): void {
  const { store, publisher } = context;

  instance.get<{ Params: MessageParams }>(
    "/app/:app/attempt/msg/:message",
    operations.listByMessage,
    async (request, reply) => {
      const { query } = readInput(request, { query: attemptListQuery });
      const page = await store.read(async (tx) => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        const { id: messageId } = await requireMessage(tx, application, request.params.message);
        const endpointId =
          query.endpoint_id === undefined
            ? undefined
            : (await requireEndpoint(tx, application, query.endpoint_id)).id;
        return listAttempts(tx, query, { applicationId: application.id, messageId, endpointId });
      });
      return sendAnswer(reply, { status: 200, body: pageJson(page) });
    },
  );

  instance.get<{ Params: EndpointParams }>(
    "/app/:app/attempt/endpoint/:endpoint",
    operations.listByEndpoint,
    async (request, reply) => {
      const { query } = readInput(request, { query: attemptListQuery });
      const page = await store.read(async (tx) => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        const { id: endpointId } = await requireEndpoint(tx, application, request.params.endpoint);
        return listAttempts(tx, query, { applicationId: application.id, endpointId });
      });
      return sendAnswer(reply, { status: 200, body: pageJson(page) });
    },
  );

  instance.get<{ Params: AttemptParams }>(
    "/app/:app/msg/:message/attempt/:attempt",
    operations.get,
    async (request) =>
      store.read(async (tx) => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        const message = await requireMessage(tx, application, request.params.message);
        const attempt = await tx.attempts.find(message.id, request.params.attempt);
        if (attempt === undefined) throw notFound("attempt", request.params.attempt);
        return toOut(attempt, true);
      }),
  );

  instance.get<{ Params: MessageParams }>(
    "/app/:app/msg/:message/endpoint",
    operations.destinations,
    async (request) => {
      const { query } = readInput(request, { query: pageQuery });
      return store.read(async (tx): Promise<ListPage<DestinationOut>> => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        const message = await requireMessage(tx, application, request.params.message);
        const deliveries = (await tx.deliveries.listByMessage(message.id)).toSorted((left, right) =>
          endpointIdOf(left) < endpointIdOf(right) ? -1 : 1,
        );
        const page = await paginate(query, endpointIdOf, cutPage(deliveries, endpointIdOf));
        const destinations: DestinationOut[] = [];
        for (const delivery of page.data) {
          const endpoint = await tx.endpoints.find(application.id, delivery.endpointId);
          // An endpoint that has been deleted since cannot be shown; its attempts still are.
          if (endpoint !== undefined) destinations.push(toDestination(endpoint, delivery));
        }
        return { ...page, data: destinations };
      });
    },
  );

  instance.get<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/msg",
    operations.messages,
    async (request, reply) => {
      const { query } = readInput(request, { query: statusQuery });
      const page = await store.read(async (tx): Promise<ListPage<DueDelivery>> => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        const endpoint = await requireEndpoint(tx, application, request.params.endpoint);
        const state = query.status === undefined ? undefined : stateOf[query.status];
        if (query.status !== undefined && state === undefined) return emptyPage;
        const filter = { ...toMessageFilter(query), applicationId: application.id, state };
        return paginate(
          { ...query, order: "descending" },
          ({ message }) => message.id,
          (range) => tx.deliveries.listByEndpoint(endpoint.id, filter, range),
        );
      });
      const texts = mapPage(page, ({ message, delivery }) =>
        messageJson(message, query.with_content, {
          ...toStatus(delivery.state),
          nextAttempt: nextAttemptOf(delivery),
        }),
      );
      return sendAnswer(reply, { status: 200, body: pageJson(texts) });
    },
  );

  instance.post<{ Params: MessageParams & EndpointParams }>(
    "/app/:app/msg/:message/endpoint/:endpoint/resend",
    operations.resend,
    async (request, reply) => {
      const { application, message, endpoint } = await store.read(async (tx) => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        return {
          application,
          message: await requireMessage(tx, application, request.params.message),
          endpoint: await requireEndpoint(tx, application, request.params.endpoint),
        };
      });
      const answer = await answerAtLeastOnce(context, request, async () => {
        await publisher.resend(application, message.id, endpoint.id);
        return { status: 202, body: "{}" };
      });
      return sendAnswer(reply, answer);
    },
  );

  instance.delete<{ Params: AttemptParams }>(
    "/app/:app/msg/:message/attempt/:attempt/content",
    operations.expunge,
    async (request, reply) => {
      await store.write(async (tx) => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        const message = await requireMessage(tx, application, request.params.message);
        const isThere = await tx.attempts.expunge(message.id, request.params.attempt);
        if (!isThere) throw notFound("attempt", request.params.attempt);
      });
      return reply.code(204).send();
    },
  );
}

const emptyPage: ListPage<never> = { data: [], iterator: null, prevIterator: null, done: true };

async function listAttempts(
  tx: Tx,
  query: z.output<typeof attemptListQuery>,
  of: Pick<AttemptFilter, "applicationId" | "messageId" | "endpointId">,
): Promise<ListPage<string>> {
  // An attempt has been made: it is neither pending nor being sent.
  if (query.status === "1" || query.status === "3") return emptyPage;
  const filter: AttemptFilter = {
    ...toMessageFilter(query),
    ...of,
    succeeded: query.status === undefined ? undefined : query.status === "0",
    statusCodeClass: query.status_code_class,
  };
  const page = await paginate(
    { ...query, order: "descending" },
    (attempt: Attempt) => attempt.id,
    (range) => tx.attempts.list(filter, range),
  );
  const messages = new Map<string, string>();
  if (query.with_msg) {
    for (const messageId of new Set(page.data.map((attempt) => attempt.messageId))) {
      const message = await tx.messages.find(of.applicationId, messageId);
      if (message !== undefined) messages.set(messageId, messageJson(message, query.with_content));
    }
  }
  return mapPage(page, (attempt) => {
    const text = JSON.stringify(toOut(attempt, query.with_content));
    // The payload's text stands in the message's as it was published, so the message is put in as text as well.
    return query.with_msg ? `${text.slice(0, -1)},"msg":${messages.get(attempt.messageId) ?? "null"}}` : text;
  });
}

function toOut(attempt: Attempt, withContent: boolean): AttemptOut {
  return {
    id: attempt.id,
    msgId: attempt.messageId,
    endpointId: attempt.endpointId,
    url: attempt.url,
    response: withContent ? attempt.response : "{}",
    responseStatusCode: attempt.responseStatusCode,
    responseDurationMs: attempt.durationMs,
    ...toStatus(attempt.succeeded ? "succeeded" : "failed"),
    triggerType: attempt.trigger === "manual" ? 1 : 0,
    timestamp: isoTime(attempt.startedAt),
  };
}

function toDestination(endpoint: Endpoint, delivery: Delivery): DestinationOut {
  const { metadata: _, policy: __, tls: ___, ...out } = toEndpointOut(endpoint);
  return { ...out, ...toStatus(delivery.state), nextAttempt: nextAttemptOf(delivery) };
}

function toStatus(state: DeliveryState): Status {
  return { status: statuses[state], statusText: statusTexts[state] };
}

function nextAttemptOf(delivery: Delivery): string | null {
  return delivery.nextAttemptAt === null ? null : isoTime(delivery.nextAttemptAt);
}

function endpointIdOf(delivery: Delivery): string {
  return delivery.endpointId;
}
