import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Application } from "../core/application.ts";
import type { Json } from "../core/json.ts";
import type { Message } from "../core/message.ts";
import type { Tx } from "../store/store.ts";
import { notFound, requireApplication, type ApplicationParams } from "./application-access.ts";
import { applicationIn, insertApplication } from "./applications.ts";
import { requiring } from "./auth.ts";
import {
  channelName,
  eventTypeName,
  isoTime,
  nameField,
  queryEventTypes,
  queryFlag,
  queryTime,
  refused,
  uniqueList,
  vendorEventType,
} from "./fields.ts";
import { answerOnce, sendAnswer, type Answer } from "./idempotency.ts";
import { bodyFault, bodyText, readInput } from "./input.ts";
import { mapPage, pageJson, pageQuery, paginate } from "./pagination.ts";
import { findRawMember } from "./raw-member.ts";
import type { ServerContext } from "./server.ts";
import { uidField, type UidKind } from "./uid.ts";

const kind: UidKind = { title: "message", idPrefix: "msg_" };

const payload = z.record(z.string(), z.unknown(), "The payload must be a JSON object.");

/** The contract's `MessageIn`. */
const messageIn = z.object({
  eventType: eventTypeName,
  payload,
  eventId: uidField(kind, "event id").nullish(),
  channels: uniqueList("channels", channelName, 5).nullish(),
  tags: uniqueList("tags", nameField("tag", 128), 8).nullish(),
  application: applicationIn.nullish(),
  // Read and of no effect: messages are kept.
  payloadRetentionPeriod: z
    .int("The retention must be a whole number of days.")
    .min(5, "The retention must be at least 5 days.")
    .max(90, "The retention must be at most 90 days.")
    .nullish(),
  deliverAt: refused("messages are delivered when they come; publish it later."),
  transformationsParams: refused("a payload is delivered as it is; give it as a JSON object."),
});
const vendorMessageIn = messageIn.extend({ eventType: vendorEventType });

const contentQuery = z.object({ with_content: queryFlag(true) });

/** The query of a list of messages. */
export const messageListQuery = pageQuery.extend({
  with_content: queryFlag(true),
  channel: channelName.optional(),
  tag: nameField("tag", 128).optional(),
  before: queryTime.optional(),
  after: queryTime.optional(),
  event_types: queryEventTypes.optional(),
});

/** The path parameters of everything that belongs to a message. */
export interface MessageParams extends ApplicationParams {
  readonly message: string;
}

/** The contract's `MessageOut`, and the tags that newer clients know; its `payload` is added as it was published. */
interface MessageOut {
  readonly id: string;
  readonly eventType: string;
  readonly eventId: string | null;
  readonly channels: readonly string[] | null;
  readonly tags: readonly string[] | null;
  readonly timestamp: string;
}

export function registerMessages(instance: FastifyInstance, context: ServerContext): void {
  const { store, publisher, directory } = context;

  instance.post<{ Params: ApplicationParams }>("/app/:app/msg", async (request, reply) => {
    const { organizationId } = request.caller;
    const known = (await directory.findByName(organizationId, request.params.app))?.application;
    const isVendor = known !== undefined && context.dialectOf(known).eventTypes.length > 0;
    const { body, query } = readInput(request, {
      body: isVendor ? vendorMessageIn : messageIn,
      query: contentQuery,
    });
    const application =
      known ??
      (await store.write((tx) =>
        findOrBringAlong(tx, organizationId, request.params.app, body.application, context.now()),
      ));
    const toAnswer = (message: Message): Answer => ({
      status: 202,
      body: messageJson(message, query.with_content),
    });
    const answer = await answerOnce(context, request, async (keep) => {
      if (!isVendor) await refuseArchived(context, organizationId, body.eventType);
      return toAnswer(
        await publisher.publish(application, toEvent(request, body), {
          answerTo: (message) => keep.of(toAnswer(message)),
        }),
      );
    });
    return sendAnswer(reply, answer);
  });

  instance.get<{ Params: ApplicationParams }>(
    "/app/:app/msg",
    requiring("ViewBase"),
    async (request, reply) => {
      const { query } = readInput(request, { query: messageListQuery });
      const page = await store.read(async (tx) => {
        const { id } = await requireApplication(tx, request.caller, request.params.app);
        return paginate({ ...query, order: "descending" }, idOf, (range) =>
          tx.messages.list({ ...toMessageFilter(query), applicationId: id }, range),
        );
      });
      const body = pageJson(mapPage(page, (message) => messageJson(message, query.with_content)));
      return sendAnswer(reply, { status: 200, body });
    },
  );

  instance.get<{ Params: MessageParams }>(
    "/app/:app/msg/:message",
    requiring("ViewBase"),
    async (request, reply) => {
      const { query } = readInput(request, { query: contentQuery });
      const message = await store.read(async (tx) =>
        requireMessage(
          tx,
          await requireApplication(tx, request.caller, request.params.app),
          request.params.message,
        ),
      );
      return sendAnswer(reply, { status: 200, body: messageJson(message, query.with_content) });
    },
  );
}

/**
 * The message of an application with this id or event id.
 *
 * @throws ServiceError `not_found`
 */
export async function requireMessage(
  tx: Tx,
  application: Application,
  idOrEventId: string,
): Promise<Message> {
  const message = await tx.messages.find(application.id, idOrEventId);
  if (message === undefined) throw notFound("message", idOrEventId);
  return message;
}

/** The store's filter out of the contract's query. */
export function toMessageFilter(query: z.output<typeof messageListQuery>) {
  const { channel, tag, before, after, event_types: eventTypes } = query;
  return { channel, tag, before, after, eventTypes };
}

/** A message as JSON, its payload's text as it was published; `more` adds members. */
export function messageJson(message: Message, withContent: boolean, more: object = {}): string {
  const out: MessageOut = {
    id: message.id,
    eventType: message.eventType,
    eventId: message.eventId,
    channels: message.channels,
    tags: message.tags.length === 0 ? null : message.tags,
    timestamp: isoTime(message.createdAt),
  };
  const text = withContent && message.payload !== null ? Buffer.from(message.payload).toString() : "{}";
  return `${JSON.stringify({ ...out, ...more }).slice(0, -1)},"payload":${text}}`;
}

/** The event that a body publishes; its payload is the text between the body's own braces. */
export function toEvent(
  request: FastifyRequest,
  body: Pick<z.output<typeof vendorMessageIn>, "eventType" | "payload" | "eventId" | "channels" | "tags">,
) {
  return {
    eventType: body.eventType,
    payload: Buffer.from(findRawMember(bodyText(request), "payload") ?? ""),
    json: body.payload as Json,
    eventId: body.eventId ?? null,
    channels: body.channels ?? null,
    tags: body.tags ?? [],
  };
}

/** The application in the path or, where there is none, the one that the body brings along. */
export async function findOrBringAlong(
  tx: Tx,
  organizationId: string,
  pathName: string,
  input: z.output<typeof applicationIn> | null | undefined,
  now: number,
): Promise<Application> {
  const existing = await tx.applications.find(organizationId, pathName);
  if (existing !== undefined) return existing;
  if (input === undefined || input === null) throw notFound("application", pathName);
  if (input.uid !== pathName) {
    throw bodyFault(
      ["application", "uid"],
      `The uid of a new application must be the one in the path: "${pathName}".`,
    );
  }
  return insertApplication(tx, organizationId, input, now);
}

async function refuseArchived(
  { directory }: ServerContext,
  organizationId: string,
  eventType: string,
): Promise<void> {
  const eventTypes = await directory.eventTypesOf(organizationId);
  if (eventTypes.get(eventType)?.archived !== true) return;
  throw bodyFault(["eventType"], `The event type "${eventType}" is archived: create it again to use it.`);
}

function idOf(message: Message): string {
  return message.id;
}
