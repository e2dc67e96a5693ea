import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { Application } from "../core/application.ts";
import { newId } from "../core/ids.ts";
import { emptyPolicy, type ApplicationPolicy } from "../core/policy.ts";
import { ServiceError } from "../errors.ts";
import { ConflictError, type Tx } from "../store/store.ts";
import { refuseVendorAccount, requireApplication, type ApplicationParams } from "./application-access.ts";
import { requiring } from "./auth.ts";
import { eitherName, isoTime, metadata, queryFlag, textField, throttleRate, timeOut } from "./fields.ts";
import { given } from "./given.ts";
import { answerOnce, sendAnswer } from "./idempotency.ts";
import { readInput } from "./input.ts";
import { mapPage, orderedPageQuery, pageOf, paginate } from "./pagination.ts";
import { applicationPolicyIn, applicationPolicyOut, changePolicy, toPolicyOut } from "./policy.ts";
import type { ServerContext } from "./server.ts";
import { uidAfter, uidField, uidOfNew, type UidKind } from "./uid.ts";

const kind: UidKind = { title: "application", idPrefix: "app_" };

const members = z.object({
  name: textField("name", 256).min(1, "The name must not be empty."),
  uid: uidField(kind).nullable(),
  throttleRate: throttleRate.nullable(),
  metadata,
  policy: applicationPolicyIn.nullable(),
  // Older clients' member.
  rateLimit: throttleRate.nullable(),
});

/** The contract's `ApplicationIn`; also what a message may bring along. */
export const applicationIn = eitherName(members.partial().required({ name: true })).meta({
  id: "ApplicationIn",
});
const applicationPatch = eitherName(members.partial()).meta({ id: "ApplicationPatch" });

type ApplicationIn = z.output<typeof applicationIn>;

/** The contract's `ApplicationOut`, the member that older clients know, and that of this service where it is set. */
const applicationOut = z
  .object({
    id: z.string(),
    uid: z.string().nullable(),
    name: z.string(),
    throttleRate: z.int().nullable(),
    metadata: z.record(z.string(), z.string()),
    createdAt: timeOut,
    updatedAt: timeOut,
    rateLimit: z.int().nullable(),
    policy: applicationPolicyOut.optional(),
  })
  .meta({ id: "ApplicationOut" });

type ApplicationOut = z.output<typeof applicationOut>;

const createQuery = z.object({ get_if_exists: queryFlag(false) });

const tag = "Application";
const operations = {
  list: requiring("organization", {
    summary: "List applications",
    tag,
    query: orderedPageQuery,
    answers: { 200: pageOf(applicationOut) },
  }),
  create: requiring("organization", {
    summary: "Create an application",
    tag,
    query: createQuery,
    body: applicationIn,
    isRepeatable: true,
    answers: { 200: applicationOut, 201: applicationOut },
  }),
  get: requiring("ViewBase", { summary: "Get an application", tag, answers: { 200: applicationOut } }),
  update: requiring("organization", {
    summary: "Update an application",
    description: "Makes it where there is none of this uid.",
    tag,
    body: applicationIn,
    answers: { 200: applicationOut, 201: applicationOut },
  }),
  patch: requiring("organization", {
    summary: "Patch an application",
    tag,
    body: applicationPatch,
    answers: { 200: applicationOut },
  }),
  delete: requiring("organization", { summary: "Delete an application", tag, answers: { 204: null } }),
};

export function registerApplications(instance: FastifyInstance, context: ServerContext): void {
  const { store } = context;

  instance.get("/app", operations.list, async (request) => {
    const { query } = readInput(request, { query: orderedPageQuery });
    const page = await store.read((tx) =>
      paginate(query, idOf, (range) => tx.applications.list(request.caller.organizationId, range)),
    );
    return mapPage(page, toOut);
  });

  instance.post("/app", operations.create, async (request, reply) => {
    const { body, query } = readInput(request, {
      body: applicationIn,
      query: createQuery,
    });
    const { organizationId } = request.caller;
    const answer = await answerOnce(context, request, (keep) =>
      store.write(async (tx) => {
        const existing =
          query.get_if_exists && typeof body.uid === "string"
            ? await tx.applications.find(organizationId, body.uid)
            : undefined;
        const application = existing ?? (await insertApplication(tx, organizationId, body, context.now()));
        const created = { status: existing ? 200 : 201, body: JSON.stringify(toOut(application)) };
        await keep.within(tx, created);
        return created;
      }),
    );
    return sendAnswer(reply, answer);
  });

  instance.get<{ Params: ApplicationParams }>("/app/:app", operations.get, async (request) =>
    toOut(await requireApplication(store, request.caller, request.params.app)),
  );

  instance.put<{ Params: ApplicationParams }>("/app/:app", operations.update, async (request, reply) => {
    const { body } = readInput(request, { body: applicationIn });
    const { organizationId } = request.caller;
    const { application, created } = await store.write(async (tx) => {
      const existing = await tx.applications.find(organizationId, request.params.app);
      if (existing === undefined) {
        const input = { ...body, uid: uidOfNew(kind, request.params.app, body.uid) };
        return {
          application: await insertApplication(tx, organizationId, input, context.now()),
          created: true,
        };
      }
      refuseVendorAccount(context, existing);
      const changed = {
        ...withDefaults(body),
        ...policyMember(emptyPolicy, body),
        uid: uidAfter(existing, request.params.app, body.uid),
      };
      return { application: await updateApplication(tx, existing, changed, context.now()), created: false };
    });
    return reply.code(created ? 201 : 200).send(toOut(application));
  });

  instance.patch<{ Params: ApplicationParams }>("/app/:app", operations.patch, async (request) => {
    const { body } = readInput(request, { body: applicationPatch });
    return store.write(async (tx) => {
      const existing = await requireApplication(tx, request.caller, request.params.app);
      refuseVendorAccount(context, existing);
      const changes = { ...toMembers(body), ...policyMember(existing.policy, body) };
      return toOut(await updateApplication(tx, existing, changes, context.now()));
    });
  });

  instance.delete<{ Params: ApplicationParams }>("/app/:app", operations.delete, async (request, reply) => {
    await store.write(async (tx) => {
      const existing = await requireApplication(tx, request.caller, request.params.app);
      refuseVendorAccount(context, existing);
      await tx.applications.delete(existing.id);
    });
    return reply.code(204).send();
  });
}

/**
 * Makes an application that is delivered to in Svix's way.
 *
 * @throws ServiceError `conflict` when the uid is taken
 */
export async function insertApplication(
  tx: Tx,
  organizationId: string,
  input: ApplicationIn,
  now: number,
): Promise<Application> {
  const application: Application = {
    id: newId("app", now),
    organizationId,
    dialect: "svix",
    policy: emptyPolicy,
    ...withDefaults(input),
    ...policyMember(emptyPolicy, input),
    createdAt: now,
    updatedAt: now,
  };
  await nameConflict(application.uid, () => tx.applications.insert(application));
  return application;
}

type ApplicationMembers = Pick<Application, "name" | "uid" | "throttleRate" | "metadata">;

function withDefaults(input: ApplicationIn): ApplicationMembers {
  return { uid: null, throttleRate: null, metadata: {}, ...toMembers(input), name: input.name };
}

/** The members that the caller has given, as they are stored. */
function toMembers(input: z.output<typeof applicationPatch>): Partial<ApplicationMembers> {
  const { name, uid, metadata } = input;
  const throttleRate = input.throttleRate === undefined ? input.rateLimit : input.throttleRate;
  return given({ name, uid, throttleRate, metadata });
}

/** Left out it stays as it is, in a PUT too: callers who replace an application by the contract know nothing of it. */
function policyMember(
  before: ApplicationPolicy,
  { policy }: z.output<typeof applicationPatch>,
): Partial<Pick<Application, "policy">> {
  return given({ policy: policy === null ? emptyPolicy : policy && changePolicy(before, policy) });
}

async function updateApplication(
  tx: Tx,
  existing: Application,
  changes: Partial<Application>,
  now: number,
): Promise<Application> {
  const application: Application = { ...existing, ...changes, updatedAt: now };
  await nameConflict(application.uid, () => tx.applications.update(application));
  return application;
}

async function nameConflict(uid: string | null, write: () => Promise<unknown>): Promise<void> {
  try {
    await write();
  } catch (cause) {
    if (!(cause instanceof ConflictError)) throw cause;
    throw new ServiceError("conflict", `The uid "${uid ?? ""}" belongs to another application.`, { cause });
  }
}

function toOut(application: Application): ApplicationOut {
  const { id, uid, name, throttleRate, metadata, createdAt, updatedAt } = application;
  const policy = toPolicyOut(application.policy);
  return {
    id,
    uid,
    name,
    throttleRate,
    metadata,
    createdAt: isoTime(createdAt),
    updatedAt: isoTime(updatedAt),
    rateLimit: throttleRate,
    ...(policy && { policy }),
  };
}

function idOf(application: Application): string {
  return application.id;
}
