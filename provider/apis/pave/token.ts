import { createHmac } from "node:crypto";

/** Who signs a request to PAVE. */
export interface PaveIdentity {
  /** The primary account's name, never sent. */
  readonly username: string;
  readonly apiKey: string;
  readonly apiSecret: string;
}

/**
 * The headers that authenticate one request: the token is the HMAC-SHA256 of `username:apiKey@timestamp` under the API
 * secret, in hex, over the very text of `API-Timestamp`.
 * https://docs.paveapi.com/integrations/developer-docs/authentication/generate-access-token
 *
 * @param now milliseconds since the epoch; PAVE refuses stale timestamps
 */
export function createAuthHeaders(
  { username, apiKey, apiSecret }: PaveIdentity,
  now: number,
): Record<string, string> {
  const timestamp = new Date(now).toISOString().replace(/\.\d+Z$/, "Z");
  const token = createHmac("sha256", apiSecret).update(`${username}:${apiKey}@${timestamp}`).digest("hex");
  return { "API-Key": apiKey, "API-Token": token, "API-Timestamp": timestamp };
}
