import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import { ServiceError } from "../errors.ts";
import { insertReplay, type ReplayKind, type ReplaySelection } from "../worker/recover.ts";
import { requireApplication } from "./application-access.ts";
import { requiring } from "./auth.ts";
import { requireEndpoint, type EndpointParams } from "./endpoints.ts";
import {
  channelName,
  isoTime,
  nameField,
  queryTime,
  timeOut,
  uniqueList,
  vendorEventType,
} from "./fields.ts";
import { answerOnce, sendAnswer, type Answer } from "./idempotency.ts";
import { readInput } from "./input.ts";
import type { ServerContext } from "./server.ts";

const range = z.object({ since: queryTime, until: queryTime.nullish() });

/** The contract's `RecoverIn`, and the `ReplayIn` of newer clients. */
const recoverIn = range.superRefine(refuseReversed).meta({ id: "RecoverIn" });

/** `BulkReplayIn` of newer clients. */
const replayIn = range
  .extend({
    eventTypes: uniqueList("event types", vendorEventType).nullish(),
    channel: channelName.nullish(),
    tag: nameField("tag", 128).nullish(),
    status: z
      .union([z.literal(0), z.literal(2)], {
        error: "The status must be 0 or 2, success or fail: what is pending is on its way already.",
      })
      .nullish(),
    statusCodeClass: z
      .union(
        [0, 100, 200, 300, 400, 500].map((from) => z.literal(from)),
        { error: "The class must be 0, 100, 200, 300, 400 or 500." },
      )
      .nullish(),
  })
  .superRefine(refuseReversed)
  .meta({ id: "BulkReplayIn" });

/** What is answered when a task has begun; what becomes of it, `/background-task/<id>` tells. */
const begunOut = z
  .object({
    id: z.string(),
    status: z.enum(["running", "finished", "failed"]),
    task: z.string(),
    updatedAt: timeOut,
  })
  .meta({ id: "BackgroundTaskBegun" });

function beginning(summary: string, description: string, body: z.ZodType) {
  const answers = { 202: begunOut };
  return requiring("CreateAttempts", {
    summary,
    description,
    tag: "Endpoint",
    body,
    isRepeatable: true,
    answers,
  });
}

const operations = {
  recover: beginning("Recover an endpoint", "Sends the messages that have failed again.", recoverIn),
  replayMissing: beginning(
    "Replay an endpoint's missing messages",
    "Sends the messages that were never sent there.",
    recoverIn,
  ),
  bulkReplay: beginning(
    "Replay many of an endpoint's messages",
    "Sends the messages again that were sent and are selected.",
    replayIn,
  ),
  replay: beginning(
    "Replay an endpoint's messages",
    "Sends the selected messages that the endpoint would have, whether they were sent before or not.",
    replayIn,
  ),
};

type ReplayRequest = FastifyRequest<{ Params: EndpointParams }>;

const everything = { eventTypes: null, channel: null, tag: null, statusCodeClass: null } as const;

/** Sending messages of the past to an endpoint again, in the background. */
export function registerRecover(instance: FastifyInstance, context: ServerContext): void {
  async function begin(
    request: ReplayRequest,
    kind: ReplayKind,
    selection: Omit<ReplaySelection, "endpointId">,
  ): Promise<Answer> {
    const answer = await answerOnce(context, request, (keep) =>
      context.store.write(async (tx) => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        const endpoint = await requireEndpoint(tx, application, request.params.endpoint);
        if (endpoint.disabled) {
          throw new ServiceError(
            "bad_request",
            `The endpoint "${request.params.endpoint}" is disabled: enable it first.`,
          );
        }
        const task = await insertReplay(
          tx,
          application,
          kind,
          { endpointId: endpoint.id, ...selection },
          context.now(),
        );
        const { id, status } = task;
        const body = JSON.stringify({ id, status, task: kind, updatedAt: isoTime(task.updatedAt) });
        const begun = { status: 202, body };
        await keep.within(tx, begun);
        return begun;
      }),
    );
    context.tasks.wake();
    return answer;
  }

  instance.post<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/recover",
    operations.recover,
    async (request, reply) => {
      const { body } = readInput(request, { body: recoverIn });
      const answer = await begin(request, "endpoint.recover", {
        ...toRange(body),
        ...everything,
        states: ["failed"],
        isMissing: false,
      });
      return sendAnswer(reply, answer);
    },
  );

  instance.post<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/replay-missing",
    operations.replayMissing,
    async (request, reply) => {
      const { body } = readInput(request, { body: recoverIn });
      const answer = await begin(request, "endpoint.replay", {
        ...toRange(body),
        ...everything,
        states: [],
        isMissing: true,
      });
      return sendAnswer(reply, answer);
    },
  );

  instance.post<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/bulk-replay",
    operations.bulkReplay,
    async (request, reply) => {
      const { body } = readInput(request, { body: replayIn });
      const answer = await begin(request, "endpoint.bulk-replay", { ...toSelection(body), isMissing: false });
      return sendAnswer(reply, answer);
    },
  );

  // Ours: everything that the endpoint would have, whether it was sent before or not.
  instance.post<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/replay",
    operations.replay,
    async (request, reply) => {
      const { body } = readInput(request, { body: replayIn });
      const { status, statusCodeClass } = body;
      const isMissing = typeof status !== "number" && typeof statusCodeClass !== "number";
      const answer = await begin(request, "endpoint.bulk-replay", { ...toSelection(body), isMissing });
      return sendAnswer(reply, answer);
    },
  );
}

function refuseReversed({ since, until }: z.output<typeof range>, issues: z.core.$RefinementCtx): void {
  if (typeof until !== "number" || until >= since) return;
  issues.addIssue({ code: "custom", path: ["until"], message: "The end must not be before the beginning." });
}

function toRange({ since, until }: z.output<typeof range>): Pick<ReplaySelection, "since" | "until"> {
  return { since, until: until ?? null };
}

function toSelection(body: z.output<typeof replayIn>): Omit<ReplaySelection, "endpointId" | "isMissing"> {
  const { eventTypes, channel, tag, status, statusCodeClass } = body;
  return {
    ...toRange(body),
    eventTypes: eventTypes ?? null,
    channel: channel ?? null,
    tag: tag ?? null,
    statusCodeClass: statusCodeClass ?? null,
    states: status === 0 ? ["succeeded"] : status === 2 ? ["failed"] : ["succeeded", "failed"],
  };
}
