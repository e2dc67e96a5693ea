import { randomBytes } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { capabilities } from "../core/caller.ts";
import { newId } from "../core/ids.ts";
import type { Token, Tx } from "../store/store.ts";
import { notFound } from "./application-access.ts";
import { requiring } from "./auth.ts";
import { sha256 } from "./callers.ts";
import { isoTime, nameField, textField, timeOut } from "./fields.ts";
import { readInput } from "./input.ts";
import { requireOrganization, type OrganizationParams } from "./organizations.ts";
import { mapPage, orderedPageQuery, pageOf, paginate } from "./pagination.ts";
import type { ServerContext } from "./server.ts";

const maxLifeSeconds = 10 * 365 * 24 * 60 * 60;

/** What a token for one application may do there; null for everything. */
export const capabilitiesField = z
  .array(z.enum(capabilities, `A capability must be one of ${capabilities.join(", ")}.`))
  .refine((given) => given.includes("ViewBase"), 'The capabilities must include "ViewBase".')
  .nullable();

export const featureFlagsField = z
  .array(nameField("feature flag", 256))
  .max(100, "A token has at most 100 feature flags.");

/** How long a token lives. */
export function lifeField(min: number, max: number): z.ZodNumber {
  return z
    .int("The expiry must be a whole number of seconds.")
    .min(min, `The expiry must be at least ${min} seconds.`)
    .max(max, `The expiry must be at most ${max} seconds.`);
}

const tokenIn = z
  .object({
    description: textField("description", 256).default(""),
    application: nameField("application", 256).nullish(),
    capabilities: capabilitiesField.default(null),
    featureFlags: featureFlagsField.default([]),
    expiry: lifeField(1, maxLifeSeconds).nullish(),
  })
  .superRefine((input, issues) => {
    if (typeof input.application === "string") return;
    for (const name of ["capabilities", "featureFlags"] as const) {
      if ((input[name] ?? []).length === 0) continue;
      issues.addIssue({
        code: "custom",
        path: [name],
        message: "This limits what a token may do in one application: name the application too.",
      });
    }
  })
  .meta({ id: "TokenIn" });

/** A token as it is listed. */
const tokenOut = z
  .object({
    id: z.string(),
    applicationId: z
      .string()
      .nullable()
      .describe("The id of the one application that it opens; null for all of the organization's."),
    description: z.string(),
    capabilities: z.array(z.string()).readonly().nullable().describe("Null for all of them."),
    featureFlags: z.array(z.string()).readonly(),
    createdAt: timeOut,
    expiresAt: timeOut.nullable(),
  })
  .meta({ id: "TokenOut" });

type TokenOut = z.output<typeof tokenOut>;

const tokenCreated = tokenOut
  .extend({ token: z.string().describe("Given this once.") })
  .meta({ id: "TokenCreated" });

const tag = "Token";
const operations = {
  list: requiring("admin", {
    summary: "List an organization's tokens",
    tag,
    query: orderedPageQuery,
    answers: { 200: pageOf(tokenOut) },
  }),
  create: requiring("admin", {
    summary: "Create a token",
    tag,
    body: tokenIn,
    answers: { 201: tokenCreated },
  }),
  delete: requiring("admin", { summary: "Delete a token", tag, answers: { 204: null } }),
};

interface TokenParams extends OrganizationParams {
  readonly token: string;
}

/** An organization's tokens, for the administrator. */
export function registerTokens(instance: FastifyInstance, context: ServerContext): void {
  const { store } = context;

  instance.get<{ Params: OrganizationParams }>(
    "/organization/:organization/token",
    operations.list,
    async (request) => {
      const { query } = readInput(request, { query: orderedPageQuery });
      const page = await store.read(async (tx) => {
        const { id } = await requireOrganization(tx, request.params.organization);
        return paginate(query, idOf, (range) => tx.tokens.list(id, range));
      });
      return mapPage(page, toOut);
    },
  );

  instance.post<{ Params: OrganizationParams }>(
    "/organization/:organization/token",
    operations.create,
    async (request, reply) => {
      const { body } = readInput(request, { body: tokenIn });
      const now = context.now();
      const made = await store.write(async (tx) => {
        const { id: organizationId } = await requireOrganization(tx, request.params.organization);
        const { description, application, capabilities, featureFlags, expiry } = body;
        return insertToken(tx, now, {
          organizationId,
          applicationId:
            typeof application === "string" ? await idOfApplication(tx, organizationId, application) : null,
          capabilities,
          featureFlags,
          sessionId: null,
          description,
          expiresAt: typeof expiry === "number" ? now + expiry * 1000 : null,
        });
      });
      return reply.code(201).send({ ...toOut(made.row), token: made.token });
    },
  );

  instance.delete<{ Params: TokenParams }>(
    "/organization/:organization/token/:token",
    operations.delete,
    async (request, reply) => {
      await store.write(async (tx) => {
        const { id } = await requireOrganization(tx, request.params.organization);
        const known = await tx.tokens.find(id, request.params.token);
        if (known === undefined) throw notFound("token", request.params.token);
        await tx.tokens.delete(known.id);
      });
      return reply.code(204).send();
    },
  );
}

/** Makes a token. The text is given this once: the store has its hash. */
export async function insertToken(
  tx: Tx,
  now: number,
  members: Omit<Token, "id" | "hash" | "createdAt">,
): Promise<{ readonly row: Token; readonly token: string }> {
  const token = `hp_${randomBytes(32).toString("base64url")}`;
  const row: Token = { id: newId("tok", now), hash: sha256(token), ...members, createdAt: now };
  await tx.tokens.insert(row);
  return { row, token };
}

async function idOfApplication(tx: Tx, organizationId: string, idOrUid: string): Promise<string> {
  const application = await tx.applications.find(organizationId, idOrUid);
  if (application === undefined) throw notFound("application", idOrUid);
  return application.id;
}

function toOut(token: Token): TokenOut {
  const { id, applicationId, description, capabilities, featureFlags, createdAt, expiresAt } = token;
  return {
    id,
    applicationId,
    description,
    capabilities,
    featureFlags,
    createdAt: isoTime(createdAt),
    expiresAt: expiresAt === null ? null : isoTime(expiresAt),
  };
}

function idOf(token: Token): string {
  return token.id;
}
