import { Transform } from "node:stream";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ServiceError } from "../errors.ts";
import type { Operation } from "../operation.ts";
import { requiring } from "./auth.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** The place of a publishing request among those that are handled at a time; null for others. */
    place: Place | null;
  }
  interface FastifyContextConfig {
    /** Whether the route takes events in: so many of its requests are handled at a time, and no more. */
    publishes?: boolean;
  }
}

/** The options of a route that takes events in, for tokens of the organization. */
export function publishing(operation: Operation) {
  return { config: { ...requiring("organization", operation).config, publishes: true } };
}

interface Place {
  /** Whether the handler has the request: then the place is taken until it has answered, also when nobody waits for that. */
  isHandled: boolean;
  isLeft: boolean;
}

/** Bodies that say they are shorter are not counted: as many of them as there are connections cost less than those do. */
const countedBytes = 16 * 1024;
/** What the other bodies may take up together, also those of which only a part has come. */
const heldBytes = 64 * 1024 * 1024;

export interface AdmissionLimits {
  /** The largest request body that is read; a larger one is answered with 413. */
  readonly maxBodyBytes: number;
  /** Publishing requests that are handled at a time; one more is answered with 429. */
  readonly maxInFlightRequests: number;
}

/**
 * Turns publishing requests beyond the limit away as soon as their headers are there: with 429, and before their bodies are
 * read. A request counts from its headers to its answer, however slowly its body comes. To be added behind what finds out
 * who calls, so that strangers take no places.
 */
export function limitPublishing(instance: FastifyInstance, { maxInFlightRequests }: AdmissionLimits): void {
  let inFlight = 0;

  function leave(place: Place | null): void {
    if (place === null || place.isLeft) return;
    place.isLeft = true;
    inFlight--;
  }

  function enter(request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void {
    if (inFlight >= maxInFlightRequests) {
      done(tooMany(`The service handles ${maxInFlightRequests} publishing requests at a time already`));
      return;
    }
    inFlight++;
    const place: Place = { isHandled: false, isLeft: false };
    request.place = place;
    // A client that goes away before its request is there.
    reply.raw.once("close", () => {
      if (!place.isHandled) leave(place);
    });
    done();
  }

  instance.decorateRequest("place", null);
  instance.addHook("onRoute", (route) => {
    if (route.config?.publishes !== true) return;
    route.onRequest = [...[route.onRequest ?? []].flat(), enter];
    route.preHandler = [
      (request, _reply, done) => {
        if (request.place !== null) request.place.isHandled = true;
        done();
      },
      ...[route.preHandler ?? []].flat(),
    ];
    route.onSend = [
      ...[route.onSend ?? []].flat(),
      (request: FastifyRequest, _reply: FastifyReply, _payload: unknown, done: () => void) => {
        leave(request.place);
        done();
      },
    ];
  });
}

/**
 * Bounds the memory that request bodies take up together, on every route of the instance, whatever slow clients do: a body
 * for which there is no more room is answered with 429.
 */
export function limitBodies(instance: FastifyInstance, { maxBodyBytes }: AdmissionLimits): void {
  const limit = Math.max(heldBytes, 2 * maxBodyBytes);
  let held = 0;

  instance.addHook("preParsing", (request, reply, payload, done) => {
    const length = request.headers["content-length"];
    const isSmall =
      request.headers["transfer-encoding"] === undefined && !(Number(length ?? 0) > countedBytes);
    if (isSmall) {
      done(null);
      return;
    }
    let bytes = 0;
    let isOver = false;
    const counted = new Transform({
      transform(chunk: Buffer, _encoding, pass) {
        if (isOver) {
          pass();
          return;
        }
        if (held + chunk.length > limit) {
          // The rest of the body is not read: it would be taken for the next request on this connection.
          void reply.header("connection", "close");
          pass(tooMany("The service has no room for the request's body"));
          return;
        }
        held += chunk.length;
        bytes += chunk.length;
        pass(null, chunk);
      },
    });
    reply.raw.once("close", () => {
      isOver = true;
      held -= bytes;
      // A body that nobody has read would stand before the next request on this connection.
      payload.unpipe(counted);
      payload.resume();
    });
    done(null, payload.pipe(counted));
  });
}

function tooMany(what: string): ServiceError {
  return new ServiceError("too_many_requests", `${what}: try again in a moment.`, { retryAfterSeconds: 1 });
}
