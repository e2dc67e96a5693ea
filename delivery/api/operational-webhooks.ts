import type { preHandlerHookHandler } from "fastify";
import { ConflictError } from "../store/store.ts";
import { ensureOperational, operationalUid } from "../worker/operational-events.ts";
import type { ApplicationParams } from "./application-access.ts";
import type { ServerContext } from "./server.ts";

const hostedPath = /^\/api\/v1\/operational-webhook\/endpoint(?=[/?]|$)/;

/**
 * The path of a request, where it is one of Svix's hosted API for endpoints of operational webhooks: they are endpoints of
 * an application here, managed by the same routes as any other's.
 */
export function toOperationalPath(url: string): string {
  return url.replace(hostedPath, `/api/v1/app/${operationalUid}/endpoint`);
}

/** Makes the application for operational events when an organization first addresses it. */
export function makeOperational(context: ServerContext): preHandlerHookHandler {
  const { store, directory } = context;
  async function ensure(organizationId: string): Promise<void> {
    if (await directory.findByName(organizationId, operationalUid)) return;
    try {
      await store.write((tx) => ensureOperational(tx, organizationId, context.now()));
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
    }
  }
  // With a callback: nearly every request goes on at once.
  return (request, _reply, done) => {
    const { app } = request.params as Partial<ApplicationParams>;
    if (app !== operationalUid || request.caller.limits !== null) done();
    else
      ensure(request.caller.organizationId).then(() => {
        done();
      }, done);
  };
}
