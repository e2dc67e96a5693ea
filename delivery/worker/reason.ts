/** Codes of Node's and the system's whose message says too little about what to do, or about who did it. */
const reasons: Readonly<Record<string, string>> = {
  ECONNRESET: "the receiver reset the connection (ECONNRESET)",
  EPIPE: "the receiver closed the connection (EPIPE)",
  EMFILE: "the service has too many open files (EMFILE): raise its limit, see ulimit -n",
  ENFILE: "the machine has too many open files (ENFILE): raise its limit",
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: "the receiver asks for a client certificate",
};

/**
 * An error of a connection in words for the attempt's record; of several tries (one for each address of a host), the
 * first one's.
 */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  const known = "code" in error && typeof error.code === "string" ? reasons[error.code] : undefined;
  if (known !== undefined) return known;
  // OpenSSL's message has its source's lines and numbers around the words.
  if ("reason" in error && typeof error.reason === "string") return `TLS failed: ${error.reason}`;
  return error.message === "" ? error.name : error.message;
}
