import type { FastifyRequest, onRequestHookHandler } from "fastify";
import { mayUse, type Access, type Caller } from "../core/caller.ts";
import { ServiceError } from "../errors.ts";
import type { Operation } from "../operation.ts";
import type { Callers } from "./callers.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Who makes the request; there on every route that is behind `authenticate`. */
    caller: Caller;
  }
  interface FastifyContextConfig {
    /** What the route asks of its caller, see `requiring`; without a word, a token of the whole organization. */
    access?: Access;
  }
}

/** A route's options: what it asks of its caller, and what the OpenAPI document says of it. */
export function requiring(
  access: Access,
  operation: Operation,
): { config: { access: Access; operation: Operation } } {
  return { config: { access, operation } };
}

/**
 * Lets requests through whose `Authorization: Bearer <token>` says who calls, to routes that the caller may use: a token
 * of one application only to those that ask for a capability that it has. Whether it is that application's
 * route, `requireApplication` knows.
 */
export function authenticate(callers: Callers): onRequestHookHandler {
  return (request, reply, done) => {
    const admit = (caller: Caller): void => {
      request.caller = caller;
      done(refusalOf(request, caller));
    };
    const refuse = (error: Error): void => {
      const isAuthentication = error instanceof ServiceError && error.code === "authentication_failed";
      if (isAuthentication) void reply.header("www-authenticate", "Bearer");
      done(error);
    };
    try {
      const found = callers.find(requireBearer(request));
      // Nearly always at hand: then without a turn of the event loop.
      if (found instanceof Promise) found.then(admit, refuse);
      else admit(found);
    } catch (error) {
      refuse(error as Error);
    }
  };
}

function requireBearer(request: FastifyRequest): string {
  const given = /^bearer +(\S+) *$/i.exec(request.headers.authorization ?? "")?.[1];
  if (given !== undefined) return given;
  throw new ServiceError(
    "authentication_failed",
    'The request has no token: send the header "Authorization: Bearer <token>".',
  );
}

function refusalOf(request: FastifyRequest, caller: Caller): ServiceError | undefined {
  if (request.is404) return undefined;
  const { access = "organization" } = request.routeOptions.config;
  if (mayUse(caller, access)) return undefined;
  switch (access) {
    case "admin":
      return new ServiceError("forbidden", "Only the administrator's token may do this.");
    case "organization":
      return new ServiceError(
        "forbidden",
        "The token is for one application, and this is not for such tokens: use one of the whole organization.",
      );
    default:
      return new ServiceError(
        "forbidden",
        `The token lacks the capability "${access}": ask for one that has it.`,
      );
  }
}
