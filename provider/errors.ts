import type { HttpError } from "./http/client.ts";

/**
 * Every way a resource operation can fail, by its stable code, with the remedy that is given where the place that failed
 * has no better one. Codes are a public contract: programs and docs refer to them, so none is ever renamed.
 */
export const errorTable = {
  /** An input is wrong. `check` reports these per property; this is for what only an operation can find out. */
  invalid_input: "Correct the named input.",
  /** No account to work with: neither the resource nor the configuration nor the environment gives one. */
  connection_missing: "Give the account in one of these ways.",
  /** The account that holds the resource is not the one that is configured, and its credentials are not in the state. */
  connection_mismatch:
    "Configure the account that holds the resource again, or give the resource its own `connection`.",
  /** The vendor refused the credentials (401 or 403). */
  authentication_failed: "Check the credentials of the connection and what they are allowed to do.",
  /** Create found that the vendor already has an object of this identity. */
  already_exists: "Import the existing object, or remove it first.",
  /** The object was deleted outside of Pulumi while the state still has it. */
  gone: "Run `pulumi up --refresh` to make it again.",
  /** The vendor refused the request for its content (another 4xx). */
  rejected: "Correct what the vendor names.",
  /** The vendor still answered 429 after the last try. */
  rate_limited: "Try again later, or with a lower `--parallel`.",
  /** The vendor still answered 5xx after the last try. */
  vendor_failed: "Try again later; the vendor's service has a fault.",
  /** The answer is not what the vendor's contract says: not JSON, another shape, too large. */
  bad_answer: "Check that the connection's `url` is the base of the vendor's API.",
  /** No connection, or it broke or timed out before the request can have been taken. Nothing was changed. */
  unreachable: "Check the connection's `url`, the network and any proxy.",
  /** The request was sent and its answer never came: it may or may not have been carried out. */
  answer_lost: "Run `pulumi up --refresh`: it looks at what is there before it does anything.",
  /** The operation was canceled or its time limit ran out. */
  aborted: "Run the command again.",
  /** What was to be started, stopped or reached locally did not do so (a service of ours, a proof of delivery). */
  not_ready: "See the message.",
  /** A fault in Hookplane. */
  internal: "Please report this, with the message.",
} as const;

export type ErrorCode = keyof typeof errorTable;

export type Operation = "check" | "diff" | "create" | "read" | "update" | "delete";

/** Where and how an operation failed. Never holds a secret: `path` is without query and credentials. */
export interface ErrorDetails {
  readonly operation?: Operation;
  /** The resource's type and, where known, its id: `pave:Callback "SESSION:COMPLETE"`. The core fills it in. */
  readonly resource?: string;
  readonly method?: string;
  /** The request's path without its query. */
  readonly path?: string;
  readonly status?: number;
  /** The vendor's own words, shortened to a line. */
  readonly vendorMessage?: string;
  /** What to do; by default the code's entry in `errorTable`. */
  readonly remedy?: string;
  readonly cause?: unknown;
}

/**
 * The one error that leaves a resource operation. Its message reads
 * `pave:Callback "SESSION:COMPLETE": update failed: <problem>. <remedy>. [code]`, with the parts that are known. A definition
 * throws it with problem and remedy, or lets an `HttpError` pass: the core adds the rest and turns the latter into one.
 */
export class HookplaneError extends Error {
  override readonly name = "HookplaneError";
  readonly code: ErrorCode;
  /** What is wrong, the value in quotes. */
  readonly problem: string;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, problem: string, details: ErrorDetails = {}) {
    super(format(code, problem, details), { cause: details.cause });
    this.code = code;
    this.problem = problem;
    this.details = details;
  }

  /** The same error with the details that it does not have yet. */
  with(details: ErrorDetails): HookplaneError {
    return new HookplaneError(this.code, this.problem, { ...details, ...this.details });
  }

  /** The same error with each text passed through `redact`; the cause, which may quote a request, is dropped. */
  redacted(redact: (text: string) => string): HookplaneError {
    const { cause: _, ...details } = this.details;
    const texts = Object.entries(details).map(([key, value]) => [
      key,
      typeof value === "string" ? redact(value) : value,
    ]);
    return new HookplaneError(this.code, redact(this.problem), Object.fromEntries(texts) as ErrorDetails);
  }
}

/**
 * Thrown by a definition's `create` or `update` when the vendor's object exists but a later step failed: the id is kept in
 * the state, so that the next `up` repairs the object and `destroy` removes it.
 */
export class PartlyDoneError<Observed = unknown> extends Error {
  override readonly name = "PartlyDoneError";
  readonly id: string;
  /** As much as is known of the object, as `observe` would answer it. */
  readonly observed: Observed;
  readonly reason: HookplaneError;

  constructor(id: string, observed: Observed, reason: HookplaneError) {
    super(reason.message, { cause: reason });
    this.id = id;
    this.observed = observed;
    this.reason = reason;
  }
}

function format(code: ErrorCode, problem: string, details: ErrorDetails): string {
  const { operation, resource, remedy = errorTable[code] } = details;
  const place = [resource, operation && `${operation} failed`].filter(Boolean).map((part) => `${part}: `);
  const sentences = [problem, remedy].filter(Boolean).map((sentence) => sentence.replace(/\.?$/, "."));
  return `${place.join("")}${sentences.join(" ")} [${code}]`;
}

/** The stable code of a request that did not succeed. The client's own words already carry a remedy for some of them. */
export function fromHttpError(error: HttpError): HookplaneError {
  const { method, path, status, vendorMessage } = error;
  const code = codeOf(error);
  return new HookplaneError(code, error.message, {
    method,
    path,
    status: status ?? undefined,
    vendorMessage: vendorMessage ?? undefined,
    remedy: toldByClient.has(code) ? "" : undefined,
    cause: error,
  });
}

const toldByClient: ReadonlySet<ErrorCode> = new Set([
  "authentication_failed",
  "bad_answer",
  "unreachable",
  "aborted",
]);

function codeOf({ aborted, status, outcome }: HttpError): ErrorCode {
  if (aborted) return "aborted";
  if (status === 401 || status === 403) return "authentication_failed";
  if (status === 429) return "rate_limited";
  if (status !== null && status >= 500) return "vendor_failed";
  if (status !== null && status >= 400) return "rejected";
  if (status !== null) return "bad_answer";
  return outcome === "unsent" ? "unreachable" : "answer_lost";
}
