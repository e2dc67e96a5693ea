import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { ServiceError, type Fault } from "../errors.ts";
import { ConflictError } from "../store/store.ts";

/** The contract's `HttpErrorOut`. */
export const errorOut = z
  .object({ code: z.string().describe("Stable, for programs."), detail: z.string().describe("For people.") })
  .meta({ id: "HttpErrorOut" });

export type ErrorBody = z.output<typeof errorOut>;

/** The contract's `HTTPValidationError`. */
export const validationErrorOut = z
  .object({
    detail: z.array(
      z.object({
        loc: z.array(z.string()).describe("The path to what is wrong, such as body, channels, 0."),
        msg: z.string(),
        type: z.string(),
      }),
    ),
  })
  .meta({ id: "HTTPValidationError" });

type ValidationErrorBody = z.output<typeof validationErrorOut>;

interface ErrorAnswer {
  readonly status: number;
  readonly body: ErrorBody | ValidationErrorBody;
  readonly retryAfterSeconds: number | null;
}

/** Answers with an error: the one place that knows how the Svix-compatible API writes one down. */
export function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const answer = toErrorAnswer(error);
  if (answer.status >= 500)
    request.log.error(
      { err: error, requestId: request.id, route: request.routeOptions.url },
      "request failed",
    );
  if (answer.retryAfterSeconds !== null) void reply.header("retry-after", String(answer.retryAfterSeconds));
  // A body that was refused half-read would be taken for the next request on this connection.
  if (answer.status === 413) void reply.header("connection", "close");
  return reply.code(answer.status).send(answer.body);
}

/** What an error looks like to the caller. What is not the caller's fault says nothing about the inside. */
export function toErrorAnswer(error: unknown): ErrorAnswer {
  if (error instanceof ServiceError) {
    const { status, code, message, retryAfterSeconds } = error;
    const body =
      code === "validation" ? { detail: toDetail(error.faults, message) } : { code, detail: message };
    return { status, body, retryAfterSeconds };
  }
  if (error instanceof ConflictError) {
    return {
      status: 409,
      body: { code: "conflict", detail: `${capitalize(error.message)}.` },
      retryAfterSeconds: null,
    };
  }
  const { statusCode, code, message } = (error ?? {}) as Partial<FastifyError>;
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return {
      status: statusCode,
      body: {
        code: codeOf[statusCode] ?? "bad_request",
        detail: detailOf(code) ?? message ?? "The request is wrong.",
      },
      retryAfterSeconds: null,
    };
  }
  return {
    status: 500,
    body: {
      code: "internal_error",
      detail: "The service failed; its log has the reason under the request's id.",
    },
    retryAfterSeconds: null,
  };
}

function toDetail(faults: readonly Fault[], message: string): ValidationErrorBody["detail"] {
  if (faults.length === 0) return [{ loc: ["body"], msg: message, type: "value_error" }];
  return faults.map((fault) => ({ loc: fault.path.map(String), msg: fault.message, type: fault.type }));
}

const codeOf: Partial<Record<number, string>> = {
  404: "not_found",
  405: "method_not_allowed",
  413: "payload_too_large",
  414: "uri_too_long",
  415: "unsupported_media_type",
  431: "headers_too_large",
};

/** Fastify's own findings, in this API's words. */
function detailOf(code: string | undefined): string | undefined {
  switch (code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return "The request's body is larger than the service reads: send less, or raise the service's limit.";
    case "FST_ERR_BAD_URL":
      return "The request's path is not UTF-8 that is percent-encoded.";
    case "FST_ERR_MAX_PARAM_LENGTH":
      return "A name in the request's path is too long.";
    case "FST_ERR_CTP_INVALID_CONTENT_LENGTH":
      return "The request's body is not as long as its Content-Length says.";
    default:
      return undefined;
  }
}

function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
