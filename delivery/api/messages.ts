import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Application } from "../core/application.ts";
import type { Json } from "../core/json.ts";
import type { Message } from "../core/message.ts";
import type { Fault } from "../errors.ts";
import type { EventType, NewKeptAnswer, Tx } from "../store/store.ts";
import type { NewEvent } from "../worker/publisher.ts";
import { publishing } from "./admission.ts";
import { notFound, requireApplication, type ApplicationParams } from "./application-access.ts";
import { applicationIn, insertApplication } from "./applications.ts";
import { requiring } from "./auth.ts";
import { archivedMessage } from "./event-types.ts";
import { payloadFaults } from "./event-type-schemas.ts";
import {
  channelName,
  eventTypeName,
  isoTime,
  nameField,
  queryEventTypes,
  queryFlag,
  queryTime,
  refused,
  textField,
  timeOut,
  uniqueList,
  vendorEventType,
} from "./fields.ts";
import { answerOnce, sendAnswer, type Answer } from "./idempotency.ts";
import { bodyFault, bodyText, maxNesting, readInput, validationError } from "./input.ts";
import { mapPage, pageJson, pageOf, pageQuery, paginate } from "./pagination.ts";
import { findRawMember, isDeeperThan } from "./raw-member.ts";
import type { ServerContext } from "./server.ts";
import { uidField, type UidKind } from "./uid.ts";

const kind: UidKind = { title: "message", idPrefix: "msg_" };

const payload = z.record(z.string(), z.unknown(), "The payload must be a JSON object.");

const rawRefusal = "This is not supported: payloads are not transformed, and delivered as they are.";

/** How clients give the exact text of a payload: `messageInRaw` of the SDKs, with `application/json`. */
const rawPayloadIn = z.strictObject(
  {
    rawPayload: z
      .string(rawRefusal)
      .refine(isJsonObjectText, "The payload must be the text of a JSON object."),
    headers: z
      .record(z.string(), z.string())
      .refine(
        (headers) =>
          Object.entries(headers).every(
            ([name, value]) => name.toLowerCase() === "content-type" && /^application\/json\b/i.test(value),
          ),
        "A payload is delivered as application/json, and with the endpoint's own headers.",
      )
      .nullish(),
  },
  rawRefusal,
);

/** The contract's `MessageIn`, what newer clients give, and the ordering key, which is this service's own. */
function createMessageIn(eventType: z.ZodString) {
  return z
    .object({
      eventType,
      payload,
      eventId: uidField(kind, "event id").nullish(),
      channels: uniqueList("channels", channelName, 5).nullish(),
      tags: uniqueList("tags", nameField("tag", 128), 8).nullish(),
      orderingKey: textField("ordering key", 256).min(1, "The ordering key must not be empty.").nullish(),
      application: applicationIn.nullish(),
      payloadRetentionPeriod: z
        .int("The retention must be a whole number of days.")
        .min(5, "The retention must be at least 5 days: give fewer as payloadRetentionHours.")
        .max(90, "The retention must be at most 90 days.")
        .nullish(),
      payloadRetentionHours: z
        .int("The retention must be a whole number of hours.")
        .min(1, "The retention must be at least 1 hour.")
        .max(90 * 24, `The retention must be at most ${90 * 24} hours, which are 90 days.`)
        .nullish(),
      deliverAt: refused("messages are delivered when they come; publish it later."),
      transformationsParams: rawPayloadIn.nullish(),
    })
    .refine(
      ({ payloadRetentionPeriod: days, payloadRetentionHours: hours }) =>
        (days ?? hours ?? null) === (hours ?? days ?? null),
      {
        path: ["payloadRetentionHours"],
        message: "The retention is given in days as well: give one of them.",
      },
    );
}

const messageIn = createMessageIn(eventTypeName);
export const vendorMessageIn = createMessageIn(vendorEventType).meta({ id: "MessageIn" });

/** A message as it is given. */
export type MessageIn = Omit<z.output<typeof messageIn>, "deliverAt">;

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

/** The contract's `MessageOut`, and what newer clients know; its `payload` is added as it was published. */
export const messageOut = z
  .object({
    id: z.string(),
    eventType: z.string(),
    eventId: z.string().nullable(),
    channels: z.array(z.string()).readonly().nullable(),
    tags: z.array(z.string()).readonly().nullable(),
    timestamp: timeOut,
    orderingKey: z.string().optional().describe("This service's own; there where the message has one."),
    payload: z
      .record(z.string(), z.unknown())
      .describe("As it was published, byte for byte; {} without content, expired where it was expunged."),
  })
  .meta({ id: "MessageOut" });

type MessageOut = Omit<z.output<typeof messageOut>, "payload">;

const tag = "Message";
const operations = {
  create: publishing({
    summary: "Create a message",
    description:
      "Publishes an event: when this is answered, the message and its deliveries are on disk. An application that is " +
      "not there may be brought along.",
    tag,
    query: contentQuery,
    body: [vendorMessageIn, messageIn],
    isRepeatable: true,
    answers: { 202: messageOut },
  }),
  list: requiring("ViewBase", {
    summary: "List messages",
    tag,
    query: messageListQuery,
    answers: { 200: pageOf(messageOut) },
  }),
  get: requiring("ViewBase", {
    summary: "Get a message",
    tag,
    query: contentQuery,
    answers: { 200: messageOut },
  }),
  expunge: requiring("organization", {
    summary: "Delete a message's content",
    tag,
    answers: { 204: null },
  }),
};

export function registerMessages(instance: FastifyInstance, context: ServerContext): void {
  const { store, directory } = context;

  instance.post<{ Params: ApplicationParams }>("/app/:app/msg", operations.create, async (request, reply) => {
    const { organizationId } = request.caller;
    const known = (await directory.findByName(organizationId, request.params.app))?.application;
    const { body, query } = readInput(request, { body: messageShape(context, known), query: contentQuery });
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
      const catalogue = await catalogueOf(context, application);
      const message = await publish(
        context,
        application,
        catalogue,
        toEvent(request, body, context.now()),
        (made) => keep.of(toAnswer(made)),
      );
      return toAnswer(message);
    });
    return sendAnswer(reply, answer);
  });

  instance.get<{ Params: ApplicationParams }>("/app/:app/msg", operations.list, async (request, reply) => {
    const { query } = readInput(request, { query: messageListQuery });
    const page = await store.read(async (tx) => {
      const { id } = await requireApplication(tx, request.caller, request.params.app);
      return paginate({ ...query, order: "descending" }, idOf, (range) =>
        tx.messages.list({ ...toMessageFilter(query), applicationId: id }, range),
      );
    });
    const body = pageJson(mapPage(page, (message) => messageJson(message, query.with_content)));
    return sendAnswer(reply, { status: 200, body });
  });

  instance.get<{ Params: MessageParams }>(
    "/app/:app/msg/:message",
    operations.get,
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

  instance.delete<{ Params: MessageParams }>(
    "/app/:app/msg/:message/content",
    operations.expunge,
    async (request, reply) => {
      await store.write(async (tx) => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        const message = await requireMessage(tx, application, request.params.message);
        await tx.messages.expunge(application.id, message.id);
      });
      return reply.code(204).send();
    },
  );
}

/** The shape of what is published to an application; one that is not there yet is none of a vendor's. */
export function messageShape(
  context: ServerContext,
  application: Application | undefined,
): z.ZodType<MessageIn> {
  return application !== undefined && isVendor(context, application) ? vendorMessageIn : messageIn;
}

/** A vendor's events are its own, whatever the catalogue says. */
function isVendor(context: ServerContext, application: Application): boolean {
  return context.dialectOf(application).eventTypes.length > 0;
}

/** The event types that an application's events are held to, by name. */
export async function catalogueOf(
  context: ServerContext,
  application: Application,
): Promise<ReadonlyMap<string, EventType>> {
  if (isVendor(context, application)) return new Map();
  return context.directory.eventTypesOf(application.organizationId);
}

/**
 * Accepts an event that the catalogue has nothing against.
 *
 * @param answerTo the answer to keep with it
 * @throws ServiceError `validation` with everything that is wrong with it, and as `Publisher.publish`
 */
export async function publish(
  { publisher }: ServerContext,
  application: Application,
  catalogue: ReadonlyMap<string, EventType>,
  event: NewEvent,
  answerTo: (message: Message) => NewKeptAnswer | null,
): Promise<Message> {
  const faults = catalogueFaults(catalogue, application, event);
  if (faults.length > 0) throw validationError(faults);
  return publisher.publish(application, event, { answerTo });
}

/** What the catalogue has against an event; event types that it does not have are free. */
export function catalogueFaults(
  catalogue: ReadonlyMap<string, EventType>,
  application: Application,
  event: Pick<NewEvent, "eventType" | "json">,
): readonly Fault[] {
  const eventType = catalogue.get(event.eventType);
  if (eventType === undefined) return [];
  const faults: Fault[] = [];
  if (eventType.archived) {
    faults.push({
      path: ["body", "eventType"],
      message: archivedMessage(eventType.name),
      type: "value_error",
    });
  }
  if (application.policy.validatePayloads === true) {
    faults.push(...payloadFaults(eventType, event.json, ["body", "payload"]));
  }
  return faults;
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

/** What is shown for a payload that was expunged, as Svix's server shows it. */
const expunged = '{"expired":true}';

function textOf({ payload }: Message): string {
  return payload === null
    ? expunged
    : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString();
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
    ...(message.orderingKey !== null && { orderingKey: message.orderingKey }),
  };
  const text = withContent ? textOf(message) : "{}";
  return `${JSON.stringify({ ...out, ...more }).slice(0, -1)},"payload":${text}}`;
}

/** The event that a body publishes; its payload is the text between the body's own braces. */
export function toEvent(request: FastifyRequest, body: MessageIn, now: number): NewEvent {
  return toNewEvent(body, findRawMember(bodyText(request), "payload") ?? "", now);
}

/**
 * The event that a message publishes.
 *
 * @param payloadText the payload as it was given
 */
export function toNewEvent(body: MessageIn, payloadText: string, now: number): NewEvent {
  const raw = body.transformationsParams?.rawPayload;
  return {
    eventType: body.eventType,
    payload: Buffer.from(raw ?? payloadText),
    json: raw === undefined ? (body.payload as Json) : (JSON.parse(raw) as Json),
    eventId: body.eventId ?? null,
    channels: body.channels ?? null,
    tags: body.tags ?? [],
    orderingKey: body.orderingKey ?? null,
    payloadExpiresAt: expiryOf(body, now),
  };
}

const hourMs = 60 * 60 * 1000;

function expiryOf(
  { payloadRetentionPeriod: days, payloadRetentionHours: hours }: MessageIn,
  now: number,
): number | null {
  if (typeof hours === "number") return now + hours * hourMs;
  return typeof days === "number" ? now + days * 24 * hourMs : null;
}

function isJsonObjectText(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return (
      typeof value === "object" && value !== null && !Array.isArray(value) && !isDeeperThan(maxNesting, text)
    );
  } catch {
    return false;
  }
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

function idOf(message: Message): string {
  return message.id;
}
