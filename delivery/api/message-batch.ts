import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { Message } from "../core/message.ts";
import { ServiceError, type Fault } from "../errors.ts";
import { documentedAs } from "../operation.ts";
import { ConflictError } from "../store/store.ts";
import { publishing } from "./admission.ts";
import { notFound, type ApplicationParams } from "./application-access.ts";
import { toErrorAnswer, validationErrorOut } from "./errors.ts";
import { queryFlag } from "./fields.ts";
import { answerParts, type Answer } from "./idempotency.ts";
import { bodyText, faultsOf, readInput, validationError } from "./input.ts";
import {
  catalogueOf,
  messageJson,
  messageOut,
  messageShape,
  publish,
  toNewEvent,
  vendorMessageIn,
} from "./messages.ts";
import { findRawMembers } from "./raw-member.ts";
import type { ServerContext } from "./server.ts";

const maxMessages = 100;

const batchIn = z
  .object({
    messages: z
      // Each is looked at by itself, so that one that is wrong is refused alone.
      .array(documentedAs(z.unknown(), vendorMessageIn))
      .min(1, "The list of messages must not be empty.")
      .max(maxMessages, `A batch has at most ${maxMessages} messages: send more of them.`),
  })
  .meta({ id: "MessageBatchIn" });

const failureOut = z
  .object({
    status: z.int(),
    retryAfterSeconds: z.number().optional(),
    code: z.string().optional().describe("There where detail is a text."),
    detail: z.union([z.string(), validationErrorOut.shape.detail]),
  })
  .describe("What the message alone would have been answered with.");

const batchOut = z
  .object({
    data: z
      .array(z.union([messageOut, z.object({ error: failureOut })]))
      .describe("For each message, in their order, the message or why it is refused."),
  })
  .meta({ id: "MessageBatchOut" });

const batchQuery = z.object({ with_content: queryFlag(false) });

const operation = publishing({
  summary: "Create several messages",
  description:
    "Each is accepted or refused for itself. Where all are to be tried again later, so is the request.",
  tag: "Message",
  query: batchQuery,
  body: batchIn,
  isRepeatable: true,
  answers: { 202: batchOut },
});

/**
 * Many messages in one request, which is this service's own: each is accepted or refused for itself, and those that are
 * accepted together are stored together.
 */
export function registerMessageBatch(instance: FastifyInstance, context: ServerContext): void {
  const { directory } = context;

  instance.post<{ Params: ApplicationParams }>("/app/:app/msg/batch", operation, async (request, reply) => {
    const { body, query } = readInput(request, { body: batchIn, query: batchQuery });
    const known = await directory.findByName(request.caller.organizationId, request.params.app);
    if (known === undefined) throw notFound("application", request.params.app);
    const { application } = known;
    const shape = messageShape(context, application);
    const catalogue = await catalogueOf(context, application);
    const answers = await answerParts(context, request);
    const payloads = findRawMembers(bodyText(request), "messages", "payload");
    const toAnswer = (message: Message): Answer => ({
      status: 202,
      body: messageJson(message, query.with_content),
    });

    /** Takes no turn of the event loop of its own, so that all of the batch share a commit. */
    async function accept(item: unknown, at: number): Promise<string> {
      try {
        const parsed = shape.safeParse(item, { reportInput: true });
        if (!parsed.success) throw validationError(faultsOf(parsed.error, ["body"]));
        const event = toNewEvent(parsed.data, payloads[at] ?? "", context.now());
        const message = await publish(context, application, catalogue, event, (made) =>
          answers === null ? null : answers.of(at, toAnswer(made)),
        );
        return toAnswer(message).body;
      } catch (error) {
        if (!(error instanceof ServiceError || error instanceof ConflictError)) throw error;
        const before = await answers?.find(at);
        if (before === undefined) throw error;
        return before.body;
      }
    }

    const outcomes = await Promise.allSettled(body.messages.map(accept));
    const failures = outcomes
      .filter((outcome) => outcome.status === "rejected")
      .map(({ reason }) => reason as unknown);
    const toComeBack = failures.find(isForLater);
    // A client that looks at the status alone is to try again.
    if (toComeBack instanceof Error && failures.length === outcomes.length) throw toComeBack;
    for (const error of failures.filter((failure) => toErrorAnswer(failure).status >= 500)) {
      request.log.error({ err: error, requestId: request.id }, "a message of a batch failed");
    }
    const items = outcomes.map((outcome, at) =>
      outcome.status === "fulfilled" ? outcome.value : errorJson(outcome.reason, at),
    );
    return reply
      .code(202)
      .type("application/json; charset=utf-8")
      .send(`{"data":[${items.join(",")}]}`);
  });
}

function isForLater(error: unknown): boolean {
  const { status } = toErrorAnswer(error);
  return status === 429 || status === 503;
}

/** What a message of the batch was refused with, as the message alone would have been; its place is in the batch. */
function errorJson(error: unknown, at: number): string {
  const placed =
    error instanceof ServiceError && error.code === "validation"
      ? validationError(error.faults.map((fault) => inBatch(fault, at)))
      : error;
  const { status, body, retryAfterSeconds } = toErrorAnswer(placed);
  return JSON.stringify({
    error: { status, ...body, ...(retryAfterSeconds !== null && { retryAfterSeconds }) },
  });
}

function inBatch(fault: Fault, at: number): Fault {
  const [, ...path] = fault.path;
  return { ...fault, path: ["body", "messages", at, ...path] };
}
