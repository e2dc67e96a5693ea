import { isAscii, isUtf8 } from "node:buffer";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import { ServiceError, type Fault } from "../errors.ts";
import type { Operation } from "../operation.ts";
import { isDeeperThan } from "./raw-member.ts";

/** A request's body: its JSON as text and as a value. */
interface JsonBody {
  readonly text: string;
  readonly value: unknown;
}

/** Deeper bodies are refused: what reads or prints them later works recursively. */
export const maxNesting = 128;

/** Reads every body as JSON, whatever content type it is sent with; a request without one has the body undefined. */
export function addJsonParser(instance: FastifyInstance): void {
  instance.removeAllContentTypeParsers();
  instance.addContentTypeParser(
    "*",
    { parseAs: "buffer" },
    (_request: FastifyRequest, bytes: Buffer, done: (error: Error | null, body?: JsonBody) => void) => {
      try {
        done(null, bytes.length === 0 ? undefined : parseJson(bytes));
      } catch (error) {
        done(error as Error);
      }
    },
  );
}

function parseJson(bytes: Buffer): JsonBody {
  const body = toJsonBody(bytes);
  if (isDeeperThan(maxNesting, body.text)) {
    throw new ServiceError(
      "bad_request",
      `The body nests deeper than ${maxNesting} levels: send a flatter one.`,
    );
  }
  return body;
}

function toJsonBody(bytes: Buffer): JsonBody {
  try {
    // Nearly every body is ASCII, which is read in a fraction of the time.
    const text = isAscii(bytes) ? bytes.toString("latin1") : utf8Text(bytes);
    return { text, value: JSON.parse(text) };
  } catch (cause) {
    throw new ServiceError("bad_request", "The body is not JSON in UTF-8.", { cause });
  }
}

function utf8Text(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new TypeError("not UTF-8");
  return bytes.toString("utf8");
}

/** The request's JSON body as text; empty when it has none. */
export function bodyText(request: FastifyRequest): string {
  return (request.body as JsonBody | undefined)?.text ?? "";
}

/**
 * Reads a request's body and query by their shapes, which are those that its route is documented with.
 *
 * @throws ServiceError `validation` with every fault of both; `bad_request` when a body is needed and missing
 */
export function readInput<Body extends z.ZodType = z.ZodUndefined, Query extends z.ZodType = z.ZodUndefined>(
  request: FastifyRequest,
  shapes: { body?: Body; query?: Query },
): { body: z.output<Body>; query: z.output<Query> } {
  requireDocumented(request, shapes);
  const value = (request.body as JsonBody | undefined)?.value;
  const body = shapes.body?.safeParse(value, { reportInput: true });
  if (body?.success === false && value === undefined) {
    throw new ServiceError("bad_request", "The request has no body: send a JSON object.");
  }
  const query = shapes.query?.safeParse(request.query, { reportInput: true });
  const faults = [...faultsOf(body?.error, ["body"]), ...faultsOf(query?.error, ["query"])];
  if (faults.length > 0) throw validationError(faults);
  return { body: body?.data as z.output<Body>, query: query?.data as z.output<Query> };
}

/** So that the OpenAPI document cannot say one thing and the route do another. */
function requireDocumented(
  { method, routeOptions: { url, config } }: FastifyRequest,
  { body, query }: { body?: z.ZodType; query?: z.ZodType },
): void {
  const { operation } = config;
  const isBody = body === undefined || operation?.body === body || isAmong(operation?.body, body);
  if (isBody && (query === undefined || operation?.query === query)) return;
  throw new Error(`${method} ${url ?? ""} reads by a shape that it is not documented with`);
}

function isAmong(shapes: Operation["body"], shape: z.ZodType): boolean {
  return Array.isArray(shapes) && shapes.includes(shape);
}

/** What is wrong with a value by its shape, which was parsed with `reportInput`; nothing without an error. */
export function faultsOf(error: z.ZodError | undefined, root: readonly (string | number)[]): Fault[] {
  return (error?.issues ?? []).flatMap((issue) => toFaults(issue, root));
}

/** The error for faults that a shape cannot know of. */
export function validationError(faults: readonly Fault[]): ServiceError {
  return new ServiceError("validation", faults.map((fault) => fault.message).join(" "), { faults });
}

/** One wrong member of the body. */
export function bodyFault(path: readonly (string | number)[], message: string): ServiceError {
  return validationError([{ path: ["body", ...path], message, type: "value_error" }]);
}

function toFaults(issue: z.core.$ZodIssue, root: readonly (string | number)[]): Fault[] {
  const path = [...root, ...issue.path.map((step) => (typeof step === "symbol" ? String(step) : step))];
  if (issue.code === "invalid_key") {
    return issue.issues.map(({ message }) => ({ path, message, type: "value_error" }));
  }
  if (issue.code === "invalid_type") {
    if (issue.input === undefined) {
      return [{ path, message: "This member is required.", type: "value_error.missing" }];
    }
    // A shape that has words of its own for this fault says more than its type does.
    const isGeneral = issue.message.startsWith("Invalid input");
    const message = isGeneral ? `This must be ${withArticle(issue.expected)}.` : issue.message;
    return [{ path, message, type: "type_error" }];
  }
  return [{ path, message: issue.message, type: "value_error" }];
}

const nouns: Partial<Record<string, string>> = { record: "object", int: "whole number" };

function withArticle(expected: string): string {
  const noun = nouns[expected] ?? expected;
  return `${/^[aeiou]/.test(noun) ? "an" : "a"} ${noun}`;
}
