import { ServiceError, StartError } from "../errors.ts";
import { resultCode } from "./sqlite.ts";

/** Result codes of SQLite, https://sqlite.org/rescode.html */
const sqlite = {
  perm: 3,
  busy: 5,
  locked: 6,
  readOnly: 8,
  io: 10,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  auth: 23,
  notADatabase: 26,
};

const diskCodes = new Set<unknown>(["ENOSPC", "EDQUOT", "EFBIG", "EIO", sqlite.io, sqlite.full]);
const rightsCodes = new Set<unknown>([
  "EACCES",
  "EPERM",
  "EROFS",
  sqlite.perm,
  sqlite.readOnly,
  sqlite.cannotOpen,
  sqlite.auth,
]);
const lockCodes = new Set<unknown>([sqlite.busy, sqlite.locked]);
const damageCodes = new Set<unknown>([sqlite.corrupt, sqlite.notADatabase]);

/**
 * What stands in the way of a start, by what SQLite or the operating system says of a file that cannot be used.
 *
 * @param otherwise what the code and the remedy are where the cause tells nothing
 */
export function toStartError(
  path: string,
  cause: unknown,
  otherwise: { readonly code: StartError["code"]; readonly remedy: string },
): StartError {
  if (cause instanceof StartError) return cause;
  // Once it is open, a database tells an outage as requests are told it.
  const origin = cause instanceof ServiceError ? cause.cause : cause;
  const code = resultCode(origin) ?? (origin instanceof Error && "code" in origin ? origin.code : undefined);
  const reason = origin instanceof Error ? origin.message : String(origin);
  const failure = (as: StartError["code"], what: string, remedy: string): StartError =>
    new StartError(as, `"${path}" ${what} (${reason}). ${remedy}`, { cause });
  if (diskCodes.has(code)) {
    return failure(
      "disk_unusable",
      "cannot be written or read: the disk is full or failing",
      "Make room on it, or choose a data folder on another disk with --data-dir.",
    );
  }
  if (rightsCodes.has(code)) {
    return failure(
      "data_folder_unusable",
      "cannot be read and written",
      "Give it to the user who runs the service, or choose another data folder with --data-dir.",
    );
  }
  if (lockCodes.has(code)) {
    return failure(
      "database_unusable",
      "is locked by another process, such as an SQL shell or a copy",
      "End that process.",
    );
  }
  if (damageCodes.has(code)) {
    return failure(
      "database_unusable",
      "is damaged, or no database of Hookplane's",
      "Look at it with hookplane db check, and restore it from your backup.",
    );
  }
  return failure(otherwise.code, "cannot be used", otherwise.remedy);
}
