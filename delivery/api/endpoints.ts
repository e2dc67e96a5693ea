import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Application } from "../core/application.ts";
import type { Endpoint, SigningSecret } from "../core/endpoint.ts";
import { newId } from "../core/ids.ts";
import { emptyPolicy, type DeliveryPolicy } from "../core/policy.ts";
import { createSigningSecret, parseSigningSecret, verificationKeyOf } from "../core/standard-webhooks.ts";
import { isHttpsUrl } from "../core/target.ts";
import { ServiceError } from "../errors.ts";
import { ConflictError, type Tx } from "../store/store.ts";
import {
  notFound,
  refuseVendorAccount,
  requireApplication,
  type ApplicationParams,
} from "./application-access.ts";
import { requiring } from "./auth.ts";
import { clientTlsIn, clientTlsOut, toClientTlsOut } from "./client-tls.ts";
import {
  headersField,
  headersIn,
  headersOut,
  headersPatch,
  patchHeaders,
  toHeadersOut,
} from "./endpoint-headers.ts";
import { archivedMessage, findArchived } from "./event-types.ts";
import {
  channelName,
  eitherName,
  endpointUrl,
  eventTypeName,
  isoTime,
  metadata,
  textField,
  throttleRate,
  timeOut,
  uniqueList,
} from "./fields.ts";
import { given } from "./given.ts";
import { answerOnce, sendAnswer } from "./idempotency.ts";
import { readInput, validationError } from "./input.ts";
import { mapPage, pageOf, paginate, reversedPageQuery } from "./pagination.ts";
import { changePolicy, deliveryPolicyIn, deliveryPolicyOut, toPolicyOut } from "./policy.ts";
import type { ServerContext } from "./server.ts";
import { uidAfter, uidField, uidOfNew, type UidKind } from "./uid.ts";

const kind: UidKind = { title: "endpoint", idPrefix: "ep_" };

const secret = z.string().transform((text, issues) => {
  const parsed = parseSigningSecret(text);
  if (parsed.problem === undefined) return parsed.key;
  issues.addIssue({ code: "custom", message: parsed.problem });
  return z.NEVER;
});

const members = z.object({
  url: endpointUrl,
  uid: uidField(kind).nullable(),
  description: textField("description", 4096),
  disabled: z.boolean(),
  eventTypes: uniqueList("event types", eventTypeName).nullable(),
  channels: uniqueList("channels", channelName, 10).nullable(),
  throttleRate: throttleRate.nullable(),
  metadata,
  policy: deliveryPolicyIn.nullable(),
  // Older clients' members.
  version: z.int("The version must be a whole number.").min(1, "The version must be at least 1."),
  filterTypes: uniqueList("event types", eventTypeName).nullable(),
  rateLimit: throttleRate.nullable(),
});

/** The contract's `EndpointPatch`, `EndpointUpdate` and `EndpointIn`, with the members that are this service's own. */
function createShapes(context: ServerContext) {
  const url = context.httpsOnly ? endpointUrl.refine(isHttpsUrl, httpsRule) : endpointUrl;
  const tls = clientTlsIn(() => context.now()).nullable();
  const patch = members.extend({ url, tls }).partial();
  const update = patch.required({ url: true });
  const create = update.extend({ secret: secret.nullish(), headers: headersField.nullish() });
  return {
    patch: eitherName(patch).meta({ id: "EndpointPatch" }),
    update: eitherName(update).meta({ id: "EndpointUpdate" }),
    create: eitherName(create).meta({ id: "EndpointIn" }),
  };
}

type Shapes = ReturnType<typeof createShapes>;

const httpsRule = "The URL must begin with https://: this service sends to no other.";

const defaultOverlapSeconds = 24 * 60 * 60;
const maxOverlapSeconds = 7 * 24 * 60 * 60;
/** Each old key adds a signature to every delivery. */
const maxOldSecrets = 10;

const rotateIn = z
  .object({
    key: secret.nullish(),
    gracePeriodSeconds: z
      .int("The grace period must be a whole number of seconds.")
      .min(0, "The grace period must be at least 0 seconds.")
      .max(
        maxOverlapSeconds,
        `The grace period must be at most ${maxOverlapSeconds} seconds, which are 7 days.`,
      )
      .nullish(),
  })
  .meta({ id: "EndpointSecretRotateIn" })
  .prefault({});

/** The path parameters of everything that belongs to an endpoint. */
export interface EndpointParams extends ApplicationParams {
  readonly endpoint: string;
}

type EndpointRequest = FastifyRequest<{ Params: EndpointParams }>;

/** The contract's `EndpointOut`, the members that older clients know, and those of this service where they are set. */
export const endpointOut = z
  .object({
    id: z.string(),
    uid: z.string().nullable(),
    url: z.string(),
    description: z.string(),
    disabled: z.boolean(),
    eventTypes: z.array(z.string()).readonly().nullable().describe("Null for all."),
    channels: z.array(z.string()).readonly().nullable().describe("Null for all."),
    throttleRate: z.int().nullable().describe("Messages per second; null for no limit."),
    metadata: z.record(z.string(), z.string()),
    createdAt: timeOut,
    updatedAt: timeOut,
    filterTypes: z.array(z.string()).readonly().nullable().describe("The former name of eventTypes."),
    rateLimit: z.int().nullable().describe("The former name of throttleRate."),
    version: z.int(),
    policy: deliveryPolicyOut.optional(),
    tls: clientTlsOut.optional(),
  })
  .meta({ id: "EndpointOut" });

type EndpointOut = z.output<typeof endpointOut>;

/** The contract's `EndpointSecretOut`. */
const secretOut = z
  .object({ key: z.string().describe("What the receiver checks signatures with: whsec_… or whpk_….") })
  .meta({ id: "EndpointSecretOut" });

function createOperations({ create, update, patch }: Shapes) {
  const tag = "Endpoint";
  return {
    list: requiring("ViewBase", {
      summary: "List endpoints",
      tag,
      query: reversedPageQuery,
      answers: { 200: pageOf(endpointOut) },
    }),
    create: requiring("ManageEndpoint", {
      summary: "Create an endpoint",
      tag,
      body: create,
      isRepeatable: true,
      answers: { 201: endpointOut },
    }),
    get: requiring("ViewBase", { summary: "Get an endpoint", tag, answers: { 200: endpointOut } }),
    update: requiring("ManageEndpoint", {
      summary: "Update an endpoint",
      description: "Makes it where there is none of this uid.",
      tag,
      body: update,
      answers: { 200: endpointOut, 201: endpointOut },
    }),
    patch: requiring("ManageEndpoint", {
      summary: "Patch an endpoint",
      tag,
      body: patch,
      answers: { 200: endpointOut },
    }),
    delete: requiring("ManageEndpoint", { summary: "Delete an endpoint", tag, answers: { 204: null } }),
    secret: requiring("ViewEndpointSecret", {
      summary: "Get an endpoint's secret",
      tag,
      answers: { 200: secretOut },
    }),
    rotate: requiring("ManageEndpointSecret", {
      summary: "Rotate an endpoint's secret",
      tag,
      body: rotateIn,
      isRepeatable: true,
      answers: { 204: null },
    }),
    headers: requiring("ViewBase", {
      summary: "Get an endpoint's headers",
      tag,
      answers: { 200: headersOut },
    }),
    updateHeaders: requiring("ManageEndpoint", {
      summary: "Update an endpoint's headers",
      tag,
      body: headersIn,
      answers: { 204: null },
    }),
    patchHeaders: requiring("ManageEndpoint", {
      summary: "Patch an endpoint's headers",
      tag,
      body: headersPatch,
      answers: { 204: null },
    }),
  };
}

export function registerEndpoints(instance: FastifyInstance, context: ServerContext): void {
  const { store } = context;
  const shapes = createShapes(context);
  const operations = createOperations(shapes);

  /** Finds an endpoint that this API may change, and stores what it becomes. */
  async function change(
    request: EndpointRequest,
    apply: (endpoint: Endpoint) => Endpoint,
  ): Promise<Endpoint> {
    const { params, caller } = request;
    return store.write(async (tx) => {
      const application = await requireApplication(tx, caller, params.app);
      refuseVendorAccount(context, application);
      const existing = await requireEndpoint(tx, application, params.endpoint);
      return save(context, tx, application, existing, apply(existing));
    });
  }

  async function find({ params, caller }: EndpointRequest): Promise<Endpoint> {
    return store.read(async (tx) =>
      requireEndpoint(tx, await requireApplication(tx, caller, params.app), params.endpoint),
    );
  }

  instance.get<{ Params: ApplicationParams }>("/app/:app/endpoint", operations.list, async (request) => {
    const { query } = readInput(request, { query: reversedPageQuery });
    const page = await store.read(async (tx) => {
      const { id } = await requireApplication(tx, request.caller, request.params.app);
      return paginate(query, idOf, (range) => tx.endpoints.list(id, range));
    });
    return mapPage(page, toEndpointOut);
  });

  instance.post<{ Params: ApplicationParams }>(
    "/app/:app/endpoint",
    operations.create,
    async (request, reply) => {
      const { body } = readInput(request, { body: shapes.create });
      const answer = await answerOnce(context, request, (keep) =>
        store.write(async (tx) => {
          const application = await requireApplication(tx, request.caller, request.params.app);
          refuseVendorAccount(context, application);
          const endpoint = await create(context, tx, application, body);
          const created = { status: 201, body: JSON.stringify(toEndpointOut(endpoint)) };
          await keep.within(tx, created);
          return created;
        }),
      );
      return sendAnswer(reply, answer);
    },
  );

  instance.get<{ Params: EndpointParams }>("/app/:app/endpoint/:endpoint", operations.get, async (request) =>
    toEndpointOut(await find(request)),
  );

  instance.put<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint",
    operations.update,
    async (request, reply) => {
      const { body } = readInput(request, { body: shapes.update });
      const { endpoint, created } = await store.write(async (tx) => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        refuseVendorAccount(context, application);
        const existing = await tx.endpoints.find(application.id, request.params.endpoint);
        if (existing === undefined) {
          const input = { ...body, uid: uidOfNew(kind, request.params.endpoint, body.uid) };
          return { endpoint: await create(context, tx, application, input), created: true };
        }
        const replaced = {
          ...existing,
          ...withDefaults(body),
          ...ownMembers(emptyPolicy, body),
          uid: uidAfter(existing, request.params.endpoint, body.uid),
        };
        return { endpoint: await save(context, tx, application, existing, replaced), created: false };
      });
      return reply.code(created ? 201 : 200).send(toEndpointOut(endpoint));
    },
  );

  instance.patch<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint",
    operations.patch,
    async (request) => {
      const { body } = readInput(request, { body: shapes.patch });
      const patched = await change(request, (endpoint) => ({
        ...endpoint,
        ...toMembers(body),
        ...ownMembers(endpoint.policy, body),
      }));
      return toEndpointOut(patched);
    },
  );

  instance.delete<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint",
    operations.delete,
    async (request, reply) => {
      await store.write(async (tx) => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        refuseVendorAccount(context, application);
        const endpoint = await requireEndpoint(tx, application, request.params.endpoint);
        await tx.endpoints.delete(endpoint.id);
        await context.notices.endpointChanged(tx, application, endpoint, "deleted");
      });
      return reply.code(204).send();
    },
  );

  instance.get<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/secret",
    operations.secret,
    async (request) => {
      const current = (await find(request)).secrets[0];
      if (current === undefined) throw notFound("signing secret of the endpoint", request.params.endpoint);
      return { key: verificationKeyOf(current.key) };
    },
  );

  instance.post<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/secret/rotate",
    operations.rotate,
    async (request, reply) => {
      const { body } = readInput(request, { body: rotateIn });
      const overlapMs = (body.gracePeriodSeconds ?? defaultOverlapSeconds) * 1000;
      const key = body.key ?? createSigningSecret(context.defaultSignatureType);
      const answer = await answerOnce(context, request, (keep) =>
        store.write(async (tx) => {
          const application = await requireApplication(tx, request.caller, request.params.app);
          refuseVendorAccount(context, application);
          const existing = await requireEndpoint(tx, application, request.params.endpoint);
          const secrets = rotate(existing.secrets, key, context.now(), overlapMs);
          await save(context, tx, application, existing, { ...existing, secrets });
          const rotated = { status: 204, body: "" };
          await keep.within(tx, rotated);
          return rotated;
        }),
      );
      return sendAnswer(reply, answer);
    },
  );

  instance.get<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/headers",
    operations.headers,
    async (request) => {
      return toHeadersOut((await find(request)).headers);
    },
  );

  instance.put<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/headers",
    operations.updateHeaders,
    async (request, reply) => {
      const { body } = readInput(request, { body: headersIn });
      await change(request, (endpoint) => ({ ...endpoint, headers: body.headers }));
      return reply.code(204).send();
    },
  );

  instance.patch<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/headers",
    operations.patchHeaders,
    async (request, reply) => {
      const { body } = readInput(request, { body: headersPatch });
      await change(request, (endpoint) => ({
        ...endpoint,
        headers: patchHeaders(endpoint.headers, body),
      }));
      return reply.code(204).send();
    },
  );
}

/**
 * The endpoint of an application with this id or uid.
 *
 * @throws ServiceError `not_found`
 */
export async function requireEndpoint(tx: Tx, application: Application, idOrUid: string): Promise<Endpoint> {
  const endpoint = await tx.endpoints.find(application.id, idOrUid);
  if (endpoint === undefined) throw notFound("endpoint", idOrUid);
  return endpoint;
}

export function toEndpointOut(endpoint: Endpoint): EndpointOut {
  const { filterTypes, throttleRate, tls } = endpoint;
  const policy = toPolicyOut(endpoint.policy);
  return {
    id: endpoint.id,
    uid: endpoint.uid,
    url: endpoint.url,
    description: endpoint.description,
    disabled: endpoint.disabled,
    eventTypes: filterTypes,
    channels: endpoint.channels,
    throttleRate,
    metadata: endpoint.metadata,
    createdAt: isoTime(endpoint.createdAt),
    updatedAt: isoTime(endpoint.updatedAt),
    filterTypes,
    rateLimit: throttleRate,
    version: endpoint.version,
    ...(policy && { policy }),
    ...(tls && { tls: toClientTlsOut(tls) }),
  };
}

/**
 * The keys after a rotation: the new one, then those that still sign. A key that is the current one already changes
 * nothing, so that a rotation may be tried again.
 *
 * @throws ServiceError `bad_request` when too many old keys still sign
 */
export function rotate(
  secrets: readonly SigningSecret[],
  key: string,
  now: number,
  overlapMs: number,
): readonly SigningSecret[] {
  if (secrets[0]?.key === key) return secrets;
  const old = secrets
    .map((former) => ({ key: former.key, expiresAt: former.expiresAt ?? now + overlapMs }))
    .filter((former) => former.expiresAt > now && former.key !== key);
  if (old.length > maxOldSecrets) {
    throw new ServiceError(
      "bad_request",
      `The endpoint has ${maxOldSecrets} old secrets that still sign: wait until one expires, or rotate without a grace period.`,
    );
  }
  return [{ key, expiresAt: null }, ...old];
}

async function create(
  context: ServerContext,
  tx: Tx,
  application: Application,
  input: z.output<Shapes["create"]>,
): Promise<Endpoint> {
  const now = context.now();
  const endpoint: Endpoint = {
    id: newId("ep", now),
    applicationId: application.id,
    ...withDefaults(input),
    headers: input.headers ?? {},
    policy: emptyPolicy,
    tls: null,
    ...ownMembers(emptyPolicy, input),
    settings: {},
    secrets: [{ key: input.secret ?? createSigningSecret(context.defaultSignatureType), expiresAt: null }],
    createdAt: now,
    updatedAt: now,
  };
  await refuseArchived(tx, application.organizationId, endpoint, []);
  await uidConflict(endpoint.uid, () => tx.endpoints.insert(endpoint));
  await context.notices.endpointChanged(tx, application, endpoint, "created");
  return endpoint;
}

async function save(
  context: ServerContext,
  tx: Tx,
  application: Application,
  before: Endpoint,
  after: Endpoint,
): Promise<Endpoint> {
  const { notices } = context;
  const endpoint = { ...after, updatedAt: context.now() };
  await refuseArchived(tx, application.organizationId, endpoint, before.filterTypes ?? []);
  await uidConflict(endpoint.uid, () => tx.endpoints.update(endpoint));
  await notices.endpointChanged(tx, application, endpoint, "updated");
  if (endpoint.disabled && !before.disabled) {
    await notices.endpointChanged(tx, application, endpoint, "disabled", { trigger: "manual" });
  } else if (before.disabled && !endpoint.disabled) {
    await notices.endpointChanged(tx, application, endpoint, "enabled");
  }
  return endpoint;
}

/** An endpoint that asks for an event type already goes on to do so after it is archived. */
async function refuseArchived(
  tx: Tx,
  organizationId: string,
  endpoint: Endpoint,
  before: readonly string[],
): Promise<void> {
  const added = (endpoint.filterTypes ?? []).filter((name) => !before.includes(name));
  const archived = await findArchived(tx, organizationId, added);
  if (archived.length === 0) return;
  throw validationError(
    archived.map((name) => ({
      path: ["body", "eventTypes"],
      message: archivedMessage(name),
      type: "value_error",
    })),
  );
}

async function uidConflict(uid: string | null, write: () => Promise<unknown>): Promise<void> {
  try {
    await write();
  } catch (cause) {
    if (!(cause instanceof ConflictError)) throw cause;
    throw new ServiceError(
      "conflict",
      `The uid "${uid ?? ""}" belongs to another endpoint of the application.`,
      { cause },
    );
  }
}

type EndpointMembers = Pick<
  Endpoint,
  | "url"
  | "uid"
  | "description"
  | "disabled"
  | "filterTypes"
  | "channels"
  | "throttleRate"
  | "metadata"
  | "version"
>;

function withDefaults(input: z.output<Shapes["update"]>): EndpointMembers {
  return {
    uid: null,
    description: "",
    disabled: false,
    filterTypes: null,
    channels: null,
    throttleRate: null,
    metadata: {},
    version: 1,
    ...toMembers(input),
    url: input.url,
  };
}

/** The members that the caller has given, as they are stored. */
function toMembers(input: z.output<Shapes["patch"]>): Partial<EndpointMembers> {
  const { url, uid, description, disabled, channels, metadata, version } = input;
  const filterTypes = input.eventTypes === undefined ? input.filterTypes : input.eventTypes;
  const throttleRate = input.throttleRate === undefined ? input.rateLimit : input.throttleRate;
  return given({ filterTypes, url, uid, description, disabled, channels, throttleRate, metadata, version });
}

/**
 * The members that are this service's own. Left out they stay as they are, in a PUT too: callers who replace an endpoint
 * by the contract know nothing of them.
 *
 * @param before what the members of a policy are changed from
 */
function ownMembers(
  before: DeliveryPolicy,
  { policy, tls }: z.output<Shapes["patch"]>,
): Partial<Pick<Endpoint, "policy" | "tls">> {
  return given({ policy: policy === null ? emptyPolicy : policy && changePolicy(before, policy), tls });
}

function idOf(endpoint: Endpoint): string {
  return endpoint.id;
}
