import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { seesFlagged, type Caller } from "../core/caller.ts";
import { ServiceError } from "../errors.ts";
import type { EventType, Tx } from "../store/store.ts";
import { notFound } from "./application-access.ts";
import { requiring } from "./auth.ts";
import { schemasFaults } from "./event-type-schemas.ts";
import { eventTypeName, isoTime, nameField, queryFlag, textField, timeOut } from "./fields.ts";
import { given } from "./given.ts";
import { answerOnce, sendAnswer } from "./idempotency.ts";
import { readInput } from "./input.ts";
import { cutPage, mapPage, orderedPageQuery, pageOf, paginate } from "./pagination.ts";
import type { ServerContext } from "./server.ts";

const featureFlag = eventTypeName;

const schemas = z
  .record(nameField("version", 64), z.record(z.string(), z.unknown()))
  .superRefine((versions, issues) => {
    for (const { path, message } of schemasFaults(versions, [])) {
      issues.addIssue({ code: "custom", path: [...path], message });
    }
  });

const members = z.object({
  description: textField("description", 65_536),
  archived: z.boolean(),
  deprecated: z.boolean(),
  schemas: schemas.nullable(),
  groupName: eventTypeName.nullable(),
  // One flag in the contract, several in newer clients: both are read, and both are answered with.
  featureFlag: featureFlag.nullable(),
  featureFlags: z.array(featureFlag).max(100, "An event type has at most 100 feature flags.").nullable(),
});

const eventTypePatch = members.partial().meta({ id: "EventTypePatch" });
const eventTypeUpdate = members.partial().required({ description: true }).meta({ id: "EventTypeUpdate" });
const eventTypeIn = eventTypeUpdate.extend({ name: eventTypeName }).meta({ id: "EventTypeIn" });

type EventTypeUpdate = z.output<typeof eventTypeUpdate>;

/** The contract's `EventTypeOut`, and the members that newer clients know. */
const eventTypeOut = z
  .object({
    name: z.string(),
    description: z.string(),
    archived: z.boolean(),
    deprecated: z.boolean(),
    schemas: z
      .record(z.string(), z.record(z.string(), z.unknown()))
      .nullable()
      .describe("JSON Schemas by version."),
    groupName: z.string().nullable(),
    featureFlag: z.string().nullable(),
    featureFlags: z.array(z.string()).readonly().nullable(),
    createdAt: timeOut,
    updatedAt: timeOut,
  })
  .meta({ id: "EventTypeOut" });

type EventTypeOut = z.output<typeof eventTypeOut>;

const listQuery = orderedPageQuery.extend({
  include_archived: queryFlag(false),
  with_content: queryFlag(false),
});
const deleteQuery = z.object({ expunge: queryFlag(false) });

const tag = "Event Type";
const operations = {
  list: requiring("ViewBase", {
    summary: "List event types",
    tag,
    query: listQuery,
    answers: { 200: pageOf(eventTypeOut) },
  }),
  create: requiring("organization", {
    summary: "Create an event type",
    tag,
    body: eventTypeIn,
    isRepeatable: true,
    answers: { 201: eventTypeOut },
  }),
  get: requiring("ViewBase", { summary: "Get an event type", tag, answers: { 200: eventTypeOut } }),
  update: requiring("organization", {
    summary: "Update an event type",
    description: "Makes it where there is none of this name.",
    tag,
    body: eventTypeUpdate,
    answers: { 200: eventTypeOut, 201: eventTypeOut },
  }),
  patch: requiring("organization", {
    summary: "Patch an event type",
    tag,
    body: eventTypePatch,
    answers: { 200: eventTypeOut },
  }),
  delete: requiring("organization", {
    summary: "Delete an event type",
    description: "Archives it, or removes it where that is asked for.",
    tag,
    query: deleteQuery,
    answers: { 204: null },
  }),
};

interface EventTypeParams {
  readonly name: string;
}

export function registerEventTypes(instance: FastifyInstance, context: ServerContext): void {
  const { store } = context;

  instance.get("/event-type", operations.list, async (request) => {
    const { query } = readInput(request, { query: listQuery });
    const { caller } = request;
    const page = await (caller.limits === null
      ? store.read((tx) =>
          paginate(query, nameOf, (range) =>
            tx.eventTypes.list(caller.organizationId, { ...range, includeArchived: query.include_archived }),
          ),
        )
      : paginate(query, nameOf, cutPage(await listVisible(context, caller, query.include_archived), nameOf)));
    return mapPage(page, (eventType) =>
      query.with_content ? toOut(eventType) : toOut({ ...eventType, schemas: null }),
    );
  });

  instance.post("/event-type", operations.create, async (request, reply) => {
    const { body } = readInput(request, { body: eventTypeIn });
    const answer = await answerOnce(context, request, (keep) =>
      store.write(async (tx) => {
        const existing = await tx.eventTypes.find(request.caller.organizationId, body.name);
        if (existing?.archived === false) {
          throw new ServiceError(
            "conflict",
            `The event type "${body.name}" is there already: change it with PUT.`,
          );
        }
        const eventType = await save(tx, request.caller, existing, body.name, body, context.now());
        const created = { status: 201, body: JSON.stringify(toOut(eventType)) };
        await keep.within(tx, created);
        return created;
      }),
    );
    return sendAnswer(reply, answer);
  });

  instance.get<{ Params: EventTypeParams }>("/event-type/:name", operations.get, async (request) =>
    toOut(await store.read((tx) => requireEventType(tx, request.caller, request.params.name))),
  );

  instance.put<{ Params: EventTypeParams }>(
    "/event-type/:name",
    operations.update,
    async (request, reply) => {
      const { body } = readInput(request, { body: eventTypeUpdate });
      const { name } = request.params;
      if (!eventTypeName.safeParse(name).success) throw notFound("event type", name);
      const { eventType, created } = await store.write(async (tx) => {
        const existing = await tx.eventTypes.find(request.caller.organizationId, name);
        return {
          eventType: await save(tx, request.caller, existing, name, body, context.now()),
          created: existing === undefined,
        };
      });
      return reply.code(created ? 201 : 200).send(toOut(eventType));
    },
  );

  instance.patch<{ Params: EventTypeParams }>("/event-type/:name", operations.patch, async (request) => {
    const { body } = readInput(request, { body: eventTypePatch });
    return store.write(async (tx) => {
      const existing = await requireEventType(tx, request.caller, request.params.name);
      const eventType: EventType = { ...existing, ...toMembers(body), updatedAt: context.now() };
      await tx.eventTypes.update(eventType);
      return toOut(eventType);
    });
  });

  instance.delete<{ Params: EventTypeParams }>(
    "/event-type/:name",
    operations.delete,
    async (request, reply) => {
      const { query } = readInput(request, { query: deleteQuery });
      await store.write(async (tx) => {
        const existing = await requireEventType(tx, request.caller, request.params.name);
        if (query.expunge) await tx.eventTypes.delete(existing.organizationId, existing.name);
        else await tx.eventTypes.update({ ...existing, archived: true, updatedAt: context.now() });
      });
      return reply.code(204).send();
    },
  );
}

/** The event types that the caller sees, by name. */
async function listVisible(
  { directory }: ServerContext,
  caller: Caller,
  includeArchived: boolean,
): Promise<EventType[]> {
  const eventTypes = await directory.eventTypesOf(caller.organizationId);
  return [...eventTypes.values()].filter(
    ({ archived, featureFlags }) => (includeArchived || !archived) && seesFlagged(caller, featureFlags),
  );
}

/** Those of the event types that are archived: no new message may be of one, and no endpoint may start to ask for it. */
export async function findArchived(
  tx: Tx,
  organizationId: string,
  names: readonly string[],
): Promise<readonly string[]> {
  const archived: string[] = [];
  for (const name of names) {
    if ((await tx.eventTypes.find(organizationId, name))?.archived) archived.push(name);
  }
  return archived;
}

/** What is said of an archived event type. */
export function archivedMessage(name: string): string {
  return `The event type "${name}" is archived: create it again to use it.`;
}

/** A caller that is limited to one application never learns of event types behind flags that it does not have. */
async function requireEventType(tx: Tx, caller: Caller, name: string): Promise<EventType> {
  const eventType = await tx.eventTypes.find(caller.organizationId, name);
  if (eventType === undefined || !seesFlagged(caller, eventType.featureFlags)) {
    throw notFound("event type", name);
  }
  return eventType;
}

/** Makes the event type, or replaces all of it but its name and its time of creation. */
async function save(
  tx: Tx,
  { organizationId }: Caller,
  existing: EventType | undefined,
  name: string,
  input: EventTypeUpdate,
  now: number,
): Promise<EventType> {
  const eventType: EventType = {
    organizationId,
    name,
    archived: false,
    deprecated: false,
    schemas: null,
    featureFlags: null,
    groupName: null,
    ...toMembers(input),
    description: input.description,
    createdAt: existing?.createdAt ?? now,
    updatedAt: now,
  };
  if (existing === undefined) await tx.eventTypes.insert(eventType);
  else await tx.eventTypes.update(eventType);
  return eventType;
}

/** The members that the caller has given, as they are stored. */
function toMembers(input: z.output<typeof eventTypePatch>): Partial<EventType> {
  const { featureFlag, featureFlags, schemas, ...plain } = input;
  const onlyFlag = typeof featureFlag === "string" ? [featureFlag] : featureFlag;
  return given({
    ...plain,
    featureFlags: featureFlags === undefined ? onlyFlag : featureFlags,
    schemas: schemas && JSON.stringify(schemas),
  });
}

function toOut(eventType: EventType): EventTypeOut {
  return {
    name: eventType.name,
    description: eventType.description,
    archived: eventType.archived,
    deprecated: eventType.deprecated,
    schemas: eventType.schemas === null ? null : (JSON.parse(eventType.schemas) as EventTypeOut["schemas"]),
    groupName: eventType.groupName,
    featureFlag: eventType.featureFlags?.[0] ?? null,
    featureFlags: eventType.featureFlags,
    createdAt: isoTime(eventType.createdAt),
    updatedAt: isoTime(eventType.updatedAt),
  };
}

function nameOf(eventType: EventType): string {
  return eventType.name;
}
