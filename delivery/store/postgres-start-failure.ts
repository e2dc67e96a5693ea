import { ServiceError, StartError } from "../errors.ts";

const remedies: readonly (readonly [codes: RegExp, remedy: string])[] = [
  [/^28/, "Correct the user and password in the database URL."],
  [/^3D000$/, "Create it, or name another in the database URL."],
  [/^(?:42501|3F000)$/, "Give its user a schema to create tables in."],
  [/^(?:25006|57P03)$/, "Name the primary server in the database URL, or wait until it takes connections."],
  [/^53300$/, "Let the server take more connections, or end some."],
  [/^(?:ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOENT|EACCES)$/, ""],
];
const reachable = "Start the server, or correct the host and port in the database URL.";

/**
 * What stands in the way of a start on PostgreSQL. The URL, which may hold a password, is not told.
 *
 * @param name the database's own name
 */
export function toPostgresStartError(name: string, error: unknown): StartError {
  if (error instanceof StartError) return error;
  const origin = error instanceof ServiceError ? error.cause : error;
  const code = origin instanceof Error && "code" in origin ? String(origin.code) : "";
  // The parts of a URL that cannot be read are in the error that says so.
  if (code === "ERR_INVALID_URL") {
    return new StartError(
      "database_unusable",
      "The database URL cannot be read. Write it as postgres://user:password@host:5432/database.",
    );
  }
  const reason = describe(origin);
  const remedy = remedies.find(([codes]) => codes.test(code))?.[1] || reachable;
  return new StartError(
    "database_unusable",
    `The PostgreSQL database "${name}" cannot be used: ${reason}. ${remedy}`,
  );
}

function describe(error: unknown): string {
  if (error instanceof AggregateError) {
    return error.errors
      .map((part: unknown) => (part instanceof Error ? part.message : String(part)))
      .join("; ");
  }
  return error instanceof Error ? error.message : String(error);
}
