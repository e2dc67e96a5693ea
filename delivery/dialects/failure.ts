import type { FastifyRequest } from "fastify";
import { ServiceError } from "../errors.ts";

/** What went wrong with a request, for a vendor's error body. */
export interface Failure {
  readonly status: number;
  /** All faults at once, one sentence each. */
  readonly message: string;
  readonly retryAfterSeconds: number | null;
}

/**
 * Tells a caller's mistake from a failure of the service. The latter is logged and answered with 500 and no details.
 */
export function toFailure(error: unknown, request: FastifyRequest): Failure {
  if (error instanceof ServiceError) {
    return { status: error.status, message: error.message, retryAfterSeconds: error.retryAfterSeconds };
  }
  if (error instanceof Error && "statusCode" in error && typeof error.statusCode === "number") {
    // Fastify's own refusals: a body that is too large, not JSON, or of another type.
    const status = error.statusCode;
    if (status >= 400 && status < 500) return { status, message: error.message, retryAfterSeconds: null };
  }
  request.log.error({ err: error }, "a vendor route failed");
  return { status: 500, message: "The service failed; its log says why.", retryAfterSeconds: null };
}
