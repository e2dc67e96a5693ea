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
  /** What is to be imported or got is not there. */
  not_found: "Correct the id.",
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
  /** The request's address without its query, such as `https://openapi.paveapi.com/v1/callbacks`. */
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
 * `pave:Callback "SESSION:COMPLETE": update failed: <problem> (PUT https://… answered 400: "<vendor's words>"). <remedy>. [code]`,
 * with the parts that are known. A definition throws it with problem and remedy, or lets the HTTP client's pass: the core
 * adds operation and resource.
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
export class PartlyDoneError extends Error {
  override readonly name = "PartlyDoneError";
  readonly id: string;
  /** As much as is known of the object, as `observe` would answer it. */
  readonly observed: unknown;
  readonly reason: HookplaneError;

  constructor(id: string, observed: unknown, reason: HookplaneError) {
    super(reason.message, { cause: reason });
    this.id = id;
    this.observed = observed;
    this.reason = reason;
  }
}

function format(code: ErrorCode, problem: string, details: ErrorDetails): string {
  const { operation, resource, method, path, status, vendorMessage, remedy = errorTable[code] } = details;
  const place = [resource, operation && `${operation} failed`].filter(Boolean).map((part) => `${part}: `);
  const answer = [status && `answered ${status}`, vendorMessage && JSON.stringify(vendorMessage)].filter(
    Boolean,
  );
  const request = [method && path && `${method} ${path}`, answer.join(": ")].filter(Boolean).join(" ");
  const what = request ? `${problem.replace(/\.$/, "")} (${request})` : problem;
  const sentences = [what, remedy].filter(Boolean).map((sentence) => sentence.replace(/\.?$/, "."));
  return `${place.join("")}${sentences.join(" ")} [${code}]`;
}
