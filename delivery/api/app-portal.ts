import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { ServiceError } from "../errors.ts";
import { requireApplication, type ApplicationParams } from "./application-access.ts";
import { applicationIn } from "./applications.ts";
import { requiring } from "./auth.ts";
import { nameField } from "./fields.ts";
import { readInput } from "./input.ts";
import { findOrBringAlong } from "./messages.ts";
import type { ServerContext } from "./server.ts";
import { capabilitiesField, featureFlagsField, insertToken, lifeField } from "./tokens.ts";

const hour = 60 * 60;
const defaultLifeSeconds = 7 * 24 * hour;

const sessionIdField = nameField("session id", 256);

/** The contract's `AppPortalAccessIn`, and what newer clients know. */
const accessIn = z
  .object({
    application: applicationIn.nullish(),
    featureFlags: featureFlagsField.nullish(),
    expiry: lifeField(hour, defaultLifeSeconds).nullish(),
    capabilities: capabilitiesField.default(null),
    readOnly: z.boolean().nullish(),
    sessionId: sessionIdField.nullish(),
  })
  .meta({ id: "AppPortalAccessIn" })
  .prefault({});

/** Newer clients' `ApplicationTokenExpireIn`. */
const expireIn = z
  .object({
    expiry: lifeField(0, defaultLifeSeconds).nullish(),
    sessionIds: z.array(sessionIdField).max(100, "Give at most 100 session ids.").default([]),
  })
  .meta({ id: "ApplicationTokenExpireIn" })
  .prefault({});

/** The contract's `AppPortalAccessOut`. */
const accessOut = z.object({ url: z.string(), token: z.string() }).meta({ id: "AppPortalAccessOut" });

const tag = "Authentication";
const operations = {
  access: requiring("organization", {
    summary: "Give access to the app portal",
    tag,
    body: accessIn,
    answers: { 200: accessOut },
  }),
  expire: requiring("organization", {
    summary: "End an application's tokens",
    tag,
    body: expireIn,
    answers: { 204: null },
  }),
  logout: requiring("ViewBase", { summary: "Log out", tag, answers: { 204: null } }),
};

/** Tokens for the customers of an organization, who see to the endpoints of their own application. */
export function registerAppPortal(instance: FastifyInstance, context: ServerContext): void {
  const { store } = context;

  instance.post<{ Params: ApplicationParams }>(
    "/auth/app-portal-access/:app",
    operations.access,
    async (request) => {
      const { body } = readInput(request, { body: accessIn });
      const { organizationId } = request.caller;
      const now = context.now();
      const { appId, token } = await store.write(async (tx) => {
        const { app } = request.params;
        const { id: appId } = await findOrBringAlong(tx, organizationId, app, body.application, now);
        const { token } = await insertToken(tx, now, {
          organizationId,
          applicationId: appId,
          capabilities: body.readOnly === true ? ["ViewBase"] : body.capabilities,
          featureFlags: body.featureFlags ?? [],
          sessionId: body.sessionId ?? null,
          description: "app portal",
          expiresAt: now + (body.expiry ?? defaultLifeSeconds) * 1000,
        });
        return { appId, token };
      });
      return { url: toPortalUrl(context.publicUrl(), appId, token), token };
    },
  );

  instance.post<{ Params: ApplicationParams }>(
    "/auth/app/:app/expire-all",
    operations.expire,
    async (request, reply) => {
      const { body } = readInput(request, { body: expireIn });
      await store.write(async (tx) => {
        const { id } = await requireApplication(tx, request.caller, request.params.app);
        const expiresAt = context.now() + (body.expiry ?? 0) * 1000;
        await tx.tokens.expireByApplication(
          id,
          expiresAt,
          body.sessionIds.length === 0 ? undefined : body.sessionIds,
        );
      });
      return reply.code(204).send();
    },
  );

  instance.post("/auth/logout", operations.logout, async (request, reply) => {
    const { limits, tokenId } = request.caller;
    if (limits === null || tokenId === null) {
      throw new ServiceError(
        "forbidden",
        "Only a token that this service made for one application can be logged out.",
      );
    }
    await store.write((tx) => tx.tokens.delete(tokenId));
    return reply.code(204).send();
  });
}

/** The token is in the fragment, which no browser sends to a server and no log records. */
function toPortalUrl(publicUrl: string, appId: string, token: string): string {
  const key = Buffer.from(JSON.stringify({ appId, token })).toString("base64url");
  return `${publicUrl}/portal#key=${key}`;
}
