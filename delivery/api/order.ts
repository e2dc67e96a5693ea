import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Delivery } from "../core/delivery.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { Message } from "../core/message.ts";
import { ServiceError } from "../errors.ts";
import type { OrderHead, Tx } from "../store/store.ts";
import { notFound, requireApplication } from "./application-access.ts";
import { requiring } from "./auth.ts";
import { requireEndpoint, type EndpointParams } from "./endpoints.ts";
import { emptyOut, isoTime, timeOut } from "./fields.ts";
import { answerAtLeastOnce, answerOnce, sendAnswer, type Answer } from "./idempotency.ts";
import { readInput } from "./input.ts";
import { requireMessage } from "./messages.ts";
import { pageQuery } from "./pagination.ts";
import type { ServerContext } from "./server.ts";

/** By id or event id. */
const messageIn = z.object({ messageId: z.string().min(1).max(256) }).meta({ id: "OrderedMessageIn" });

/** What stands first in an order. */
const orderHeadOut = z
  .object({
    key: z
      .string()
      .nullable()
      .describe(
        "The ordering key; null where the endpoint as a whole is in order, and for messages without one.",
      ),
    msgId: z.string(),
    eventType: z.string().nullable(),
    eventId: z.string().nullable(),
    attempts: z.int().describe("Attempts made so far, since the last resend."),
    status: z
      .enum(["waiting", "sending", "blocked"])
      .describe(
        "blocked: its attempts are used up, and those behind it wait until it is skipped or sent again.",
      ),
    nextAttempt: timeOut.nullable(),
    behind: z.int().describe("How many wait behind it."),
  })
  .meta({ id: "OrderHeadOut" });

type OrderHeadOut = z.output<typeof orderHeadOut>;

const headsQuery = pageQuery.pick({ limit: true });

const tag = "Order";
const operations = {
  heads: requiring("ViewBase", {
    summary: "List what stands first in an endpoint's order",
    tag,
    query: headsQuery,
    answers: { 200: z.object({ data: z.array(orderHeadOut), done: z.boolean() }) },
  }),
  skip: requiring("ManageEndpoint", {
    summary: "Skip a message in an endpoint's order",
    description: "It fails, and what is behind it goes on.",
    tag,
    body: messageIn,
    isRepeatable: true,
    answers: { 202: emptyOut },
  }),
  retry: requiring("CreateAttempts", {
    summary: "Retry what stands first in an endpoint's order",
    tag,
    body: messageIn,
    isRepeatable: true,
    answers: { 202: emptyOut },
  }),
};

/**
 * Endpoints that take messages in order, which is this service's own: what stands first, and a hand for what is blocked.
 */
export function registerOrder(instance: FastifyInstance, context: ServerContext): void {
  const { store, publisher } = context;

  instance.get<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/order",
    operations.heads,
    async (request) => {
      const { limit } = readInput(request, { query: headsQuery }).query;
      return store.read(async (tx) => {
        const { application, endpoint } = await findEndpoint(tx, request);
        const heads = await tx.deliveries.listHeads(endpoint.id, limit + 1);
        const data: OrderHeadOut[] = [];
        for (const head of heads.slice(0, limit)) {
          data.push(toOut(head, await tx.messages.find(application.id, head.delivery.messageId)));
        }
        return { data, done: heads.length <= limit };
      });
    },
  );

  instance.post<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/order/skip",
    operations.skip,
    async (request, reply) => {
      const { body } = readInput(request, { body: messageIn });
      const now = await store.now();
      const answer = await answerOnce(context, request, (keep) =>
        store.write(async (tx) => {
          const { delivery } = await findInOrder(tx, request, body.messageId);
          const skipped = { ...delivery, state: "failed", nextAttemptAt: null } as const;
          // A node may have taken it since it was looked at.
          if (!(await tx.deliveries.settleUnheld(skipped, now))) throw beingSent(body.messageId);
          await keep.within(tx, done);
          return done;
        }),
      );
      return sendAnswer(reply, answer);
    },
  );

  instance.post<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/order/retry",
    operations.retry,
    async (request, reply) => {
      const { body } = readInput(request, { body: messageIn });
      const answer = await answerAtLeastOnce(context, request, async () => {
        const { application, endpoint, message } = await store.read(async (tx) => {
          const found = await findInOrder(tx, request, body.messageId);
          await requireHead(tx, found.endpoint, found.delivery);
          return found;
        });
        await publisher.resend(application, message.id, endpoint.id);
        return done;
      });
      return sendAnswer(reply, answer);
    },
  );
}

const done: Answer = { status: 202, body: "{}" };

type EndpointRequest = FastifyRequest<{ Params: EndpointParams }>;

async function findEndpoint(tx: Tx, { caller, params }: EndpointRequest) {
  const application = await requireApplication(tx, caller, params.app);
  return { application, endpoint: await requireEndpoint(tx, application, params.endpoint) };
}

/** @throws ServiceError `not_found`; `conflict` for a message that is in no order there, or is being sent */
async function findInOrder(tx: Tx, request: EndpointRequest, messageId: string) {
  const { application, endpoint } = await findEndpoint(tx, request);
  const message = await requireMessage(tx, application, messageId);
  const delivery = await tx.deliveries.find(message.id, endpoint.id);
  if (delivery === undefined) throw notFound(`delivery to "${endpoint.id}" of the message`, messageId);
  if (delivery.state !== "pending" || delivery.place === null) {
    throw new ServiceError(
      "conflict",
      `The message "${messageId}" is not waiting in an order of this endpoint: it has ended, or is delivered out of order.`,
    );
  }
  if (delivery.leasedBy !== null) throw beingSent(messageId);
  return { application, endpoint, message, delivery };
}

function beingSent(messageId: string): ServiceError {
  return new ServiceError(
    "conflict",
    `The message "${messageId}" is being sent just now: look again in a moment.`,
  );
}

/** @throws ServiceError `conflict` for a message that is behind others */
async function requireHead(tx: Tx, endpoint: Endpoint, delivery: Delivery): Promise<void> {
  // One that is due has come first; one that has no time may be blocked, or not have had its turn.
  if (delivery.nextAttemptAt !== null) return;
  const heads = await tx.deliveries.listHeads(endpoint.id, Number.MAX_SAFE_INTEGER);
  if (heads.some((head) => head.delivery.messageId === delivery.messageId)) return;
  throw new ServiceError(
    "conflict",
    `The message "${delivery.messageId}" waits behind others: retry or skip what stands first.`,
  );
}

function toOut({ delivery, behind }: OrderHead, message: Message | undefined): OrderHeadOut {
  const { attempts, nextAttemptAt, leasedBy, place } = delivery;
  return {
    key: place === null || place.key === "" ? null : place.key,
    msgId: delivery.messageId,
    eventType: message?.eventType ?? null,
    eventId: message?.eventId ?? null,
    attempts,
    status: leasedBy !== null ? "sending" : nextAttemptAt === null ? "blocked" : "waiting",
    nextAttempt: nextAttemptAt === null ? null : isoTime(nextAttemptAt),
    behind,
  };
}
