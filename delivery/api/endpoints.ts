import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Application } from "../core/application.ts";
import type { Endpoint, SigningSecret } from "../core/endpoint.ts";
import { newId } from "../core/ids.ts";
import { emptyPolicy } from "../core/policy.ts";
import {
  createSigningSecret,
  isSignatureHeader,
  parseSigningSecret,
  verificationKeyOf,
} from "../core/standard-webhooks.ts";
import { headerProblems } from "../core/wire-headers.ts";
import { ServiceError } from "../errors.ts";
import { ConflictError, type Tx } from "../store/store.ts";
import {
  notFound,
  refuseVendorAccount,
  requireApplication,
  type ApplicationParams,
} from "./application-access.ts";
import { requiring } from "./auth.ts";
import { findArchived } from "./event-types.ts";
import {
  channelName,
  endpointUrl,
  eventTypeName,
  isoTime,
  metadata,
  refused,
  textField,
  throttleRate,
  uniqueList,
} from "./fields.ts";
import { given } from "./given.ts";
import { answerOnce, sendAnswer } from "./idempotency.ts";
import { bodyFault, readInput } from "./input.ts";
import { mapPage, orderedPageQuery, paginate } from "./pagination.ts";
import { isSensitiveHeader } from "./sensitive-headers.ts";
import type { ServerContext } from "./server.ts";
import { uidField, uidOfNew, type UidKind } from "./uid.ts";

const kind: UidKind = { title: "endpoint", idPrefix: "ep_" };

const maxHeaders = 50;
const maxHeaderLength = 4096;

const headers = z.record(z.string(), z.string()).superRefine((entries, issues) => {
  for (const message of problemsOfHeaders(entries)) issues.addIssue({ code: "custom", message });
});

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
  // Older clients' member; the contract no longer answers with it.
  version: z.int("The version must be a whole number.").min(1, "The version must be at least 1."),
  filterTypes: refused('it is called "eventTypes".'),
  rateLimit: refused('it is called "throttleRate".'),
});

const endpointPatch = members.partial();
const endpointUpdate = endpointPatch.required({ url: true });
const endpointIn = endpointUpdate.extend({ secret: secret.nullish(), headers: headers.nullish() });

const headersIn = z.object({ headers });
/** A null removes the header, as a name in `deleteHeaders` does. */
const headersPatch = z.object({
  headers: z.record(z.string(), z.string().nullable()).default({}),
  deleteHeaders: z.array(z.string()).default([]),
});

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
  .prefault({});

/** The path parameters of everything that belongs to an endpoint. */
export interface EndpointParams extends ApplicationParams {
  readonly endpoint: string;
}

type EndpointRequest = FastifyRequest<{ Params: EndpointParams }>;

/** The contract's `EndpointOut`. */
export interface EndpointOut {
  readonly id: string;
  readonly uid: string | null;
  readonly url: string;
  readonly description: string;
  readonly disabled: boolean;
  readonly eventTypes: readonly string[] | null;
  readonly channels: readonly string[] | null;
  readonly throttleRate: number | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly createdAt: string;
  readonly updatedAt: string;
}

export function registerEndpoints(instance: FastifyInstance, context: ServerContext): void {
  const { store } = context;

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
      return save(tx, application, existing, apply(existing), context.now());
    });
  }

  async function find({ params, caller }: EndpointRequest): Promise<Endpoint> {
    return store.read(async (tx) =>
      requireEndpoint(tx, await requireApplication(tx, caller, params.app), params.endpoint),
    );
  }

  instance.get<{ Params: ApplicationParams }>(
    "/app/:app/endpoint",
    requiring("ViewBase"),
    async (request) => {
      const { query } = readInput(request, { query: orderedPageQuery });
      const page = await store.read(async (tx) => {
        const { id } = await requireApplication(tx, request.caller, request.params.app);
        return paginate(query, idOf, (range) => tx.endpoints.list(id, range));
      });
      return mapPage(page, toEndpointOut);
    },
  );

  instance.post<{ Params: ApplicationParams }>(
    "/app/:app/endpoint",
    requiring("ManageEndpoint"),
    async (request, reply) => {
      const { body } = readInput(request, { body: endpointIn });
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

  instance.get<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint",
    requiring("ViewBase"),
    async (request) => toEndpointOut(await find(request)),
  );

  instance.put<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint",
    requiring("ManageEndpoint"),
    async (request, reply) => {
      const { body } = readInput(request, { body: endpointUpdate });
      const { endpoint, created } = await store.write(async (tx) => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        refuseVendorAccount(context, application);
        const existing = await tx.endpoints.find(application.id, request.params.endpoint);
        if (existing === undefined) {
          const input = { ...body, uid: uidOfNew(kind, request.params.endpoint, body.uid) };
          return { endpoint: await create(context, tx, application, input), created: true };
        }
        // A uid that is left out stays: it may be how the caller addresses the endpoint.
        const replaced = {
          ...existing,
          ...withDefaults(body),
          uid: body.uid === undefined ? existing.uid : body.uid,
        };
        return { endpoint: await save(tx, application, existing, replaced, context.now()), created: false };
      });
      return reply.code(created ? 201 : 200).send(toEndpointOut(endpoint));
    },
  );

  instance.patch<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint",
    requiring("ManageEndpoint"),
    async (request) => {
      const { body } = readInput(request, { body: endpointPatch });
      return toEndpointOut(await change(request, (endpoint) => ({ ...endpoint, ...toMembers(body) })));
    },
  );

  instance.delete<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint",
    requiring("ManageEndpoint"),
    async (request, reply) => {
      await store.write(async (tx) => {
        const application = await requireApplication(tx, request.caller, request.params.app);
        refuseVendorAccount(context, application);
        await tx.endpoints.delete((await requireEndpoint(tx, application, request.params.endpoint)).id);
      });
      return reply.code(204).send();
    },
  );

  instance.get<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/secret",
    requiring("ViewEndpointSecret"),
    async (request) => {
      const current = (await find(request)).secrets[0];
      if (current === undefined) throw notFound("signing secret of the endpoint", request.params.endpoint);
      return { key: verificationKeyOf(current.key) };
    },
  );

  instance.post<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/secret/rotate",
    requiring("ManageEndpointSecret"),
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
          await save(tx, application, existing, { ...existing, secrets }, context.now());
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
    requiring("ViewBase"),
    async (request) => {
      const entries = Object.entries((await find(request)).headers);
      return {
        headers: Object.fromEntries(entries.filter(([name]) => !isSensitiveHeader(name))),
        sensitive: entries.map(([name]) => name).filter(isSensitiveHeader),
      };
    },
  );

  instance.put<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/headers",
    requiring("ManageEndpoint"),
    async (request, reply) => {
      const { body } = readInput(request, { body: headersIn });
      await change(request, (endpoint) => ({ ...endpoint, headers: body.headers }));
      return reply.code(204).send();
    },
  );

  instance.patch<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/headers",
    requiring("ManageEndpoint"),
    async (request, reply) => {
      const { body } = readInput(request, { body: headersPatch });
      await change(request, (endpoint) => ({
        ...endpoint,
        headers: patchHeaders(endpoint.headers, body.headers, body.deleteHeaders),
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
  return {
    id: endpoint.id,
    uid: endpoint.uid,
    url: endpoint.url,
    description: endpoint.description,
    disabled: endpoint.disabled,
    eventTypes: endpoint.filterTypes,
    channels: endpoint.channels,
    throttleRate: endpoint.throttleRate,
    metadata: endpoint.metadata,
    createdAt: isoTime(endpoint.createdAt),
    updatedAt: isoTime(endpoint.updatedAt),
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
  input: z.output<typeof endpointIn>,
): Promise<Endpoint> {
  const now = context.now();
  const endpoint: Endpoint = {
    id: newId("ep", now),
    applicationId: application.id,
    ...withDefaults(input),
    headers: input.headers ?? {},
    policy: emptyPolicy,
    tls: null,
    settings: {},
    secrets: [{ key: input.secret ?? createSigningSecret(context.defaultSignatureType), expiresAt: null }],
    createdAt: now,
    updatedAt: now,
  };
  await refuseArchived(tx, application.organizationId, endpoint, []);
  await uidConflict(endpoint.uid, () => tx.endpoints.insert(endpoint));
  return endpoint;
}

async function save(
  tx: Tx,
  { organizationId }: Application,
  before: Endpoint,
  after: Endpoint,
  now: number,
): Promise<Endpoint> {
  const endpoint = { ...after, updatedAt: now };
  await refuseArchived(tx, organizationId, endpoint, before.filterTypes ?? []);
  await uidConflict(endpoint.uid, () => tx.endpoints.update(endpoint));
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
  if (archived === undefined) return;
  throw bodyFault(["eventTypes"], `The event type "${archived}" is archived: create it again to use it.`);
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

function withDefaults(input: z.output<typeof endpointUpdate>): EndpointMembers {
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
function toMembers(input: z.output<typeof endpointPatch>): Partial<EndpointMembers> {
  const {
    eventTypes: filterTypes,
    url,
    uid,
    description,
    disabled,
    channels,
    throttleRate,
    metadata,
    version,
  } = input;
  return given({ filterTypes, url, uid, description, disabled, channels, throttleRate, metadata, version });
}

function patchHeaders(
  before: Readonly<Record<string, string>>,
  patch: Readonly<Record<string, string | null>>,
  removed: readonly string[],
): Record<string, string> {
  const touched = new Set([...Object.keys(patch), ...removed].map((name) => name.toLowerCase()));
  const kept = Object.entries(before).filter(([name]) => !touched.has(name.toLowerCase()));
  const set = Object.entries(patch).filter((entry): entry is [string, string] => entry[1] !== null);
  const after = Object.fromEntries([...kept, ...set]);
  const [problem] = problemsOfHeaders(after);
  if (problem !== undefined) throw bodyFault(["headers"], problem);
  return after;
}

function problemsOfHeaders(entries: Readonly<Record<string, string>>): string[] {
  const names = Object.keys(entries);
  const problems = headerProblems(entries);
  for (const name of names.filter(isSignatureHeader)) {
    problems.push(`The header "${name}" signs the delivery and is set by the service: leave it out.`);
  }
  for (const name of names.filter(
    (candidate) => candidate.length + (entries[candidate] ?? "").length > maxHeaderLength,
  )) {
    problems.push(`The header "${name.slice(0, 64)}" is longer than ${maxHeaderLength} characters.`);
  }
  if (names.length > maxHeaders) problems.push(`An endpoint has at most ${maxHeaders} headers.`);
  return problems;
}

function idOf(endpoint: Endpoint): string {
  return endpoint.id;
}
