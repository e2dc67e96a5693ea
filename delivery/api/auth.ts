import type { onRequestAsyncHookHandler } from "fastify";
import { equalInConstantTime } from "../core/constant-time.ts";
import { ServiceError } from "../errors.ts";

/** Lets only requests with `Authorization: Bearer <token>` through. */
export function requireToken(token: string): onRequestAsyncHookHandler {
  return async (request, reply) => {
    const given = /^bearer +(\S+) *$/i.exec(request.headers.authorization ?? "")?.[1];
    if (given !== undefined && equalInConstantTime(given, token)) return;
    void reply.header("www-authenticate", "Bearer");
    throw new ServiceError(
      "authentication_failed",
      given === undefined
        ? 'The request has no token: send the header "Authorization: Bearer <token>".'
        : "The token is not valid: send the administrator's token of the service's credentials file.",
    );
  };
}
