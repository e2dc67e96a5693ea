/** What an outage, such as of the database, is given to be over, unless whoever tells of it knows better. */
const outageSeconds = 5;

/**
 * What a caller did wrong, or what the service cannot do now. The API that was spoken decides how it is written down
 * (Svix's, PAVE's, Twilio's or Casey's error body); the code and the status are the same everywhere.
 */
export class ServiceError extends Error {
  override readonly name = "ServiceError";
  readonly code: ServiceErrorCode;
  readonly status: number;
  /** Where the fault is, for each fault; empty where it is the request as a whole. */
  readonly faults: readonly Fault[];
  /** Seconds after which another try makes sense: 5 by default for `unavailable`, null for the others. */
  readonly retryAfterSeconds: number | null;

  constructor(
    code: ServiceErrorCode,
    message: string,
    options: { faults?: readonly Fault[]; retryAfterSeconds?: number; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.code = code;
    this.status = statusOf[code];
    this.faults = options.faults ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds ?? (code === "unavailable" ? outageSeconds : null);
  }
}

/** One wrong place in a request. */
export interface Fault {
  /** The path to it: `["body", "url"]`. */
  readonly path: readonly (string | number)[];
  readonly message: string;
  readonly type: string;
}

/** The HTTP status of each error code. */
export const statusOf = {
  bad_request: 400,
  authentication_failed: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  payload_too_large: 413,
  validation: 422,
  too_many_requests: 429,
  unavailable: 503,
} as const;

export type ServiceErrorCode = keyof typeof statusOf;

/** Why the service did not start. Its code decides the exit code of the process. */
export class StartError extends Error {
  override readonly name = "StartError";
  readonly code: StartErrorCode;
  readonly exitCode: number;

  constructor(code: StartErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.code = code;
    this.exitCode = exitCodeOf[code];
  }
}

/** Exit codes of `hookplane serve`; 0 is a service that was asked to stop and did, 1 a failure nobody foresaw. */
export const exitCodeOf = {
  settings_invalid: 2,
  port_taken: 3,
  address_unusable: 3,
  data_folder_in_use: 4,
  data_folder_unusable: 4,
  disk_unusable: 4,
  database_unusable: 4,
  master_key_unusable: 4,
  credentials_unusable: 5,
} as const;

export type StartErrorCode = keyof typeof exitCodeOf;
