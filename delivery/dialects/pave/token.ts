import { createHmac } from "node:crypto";
import { equalInConstantTime } from "../../core/constant-time.ts";

/** PAVE's account. */
export interface PaveCredentials {
  /** The account's name: part of what is signed, never on the wire. */
  readonly username: string;
  readonly apiKey: string;
  readonly apiSecret: string;
}

/**
 * How far a request's `API-Timestamp` may be from now, either way. PAVE asks for a fresh timestamp and names no limit:
 * this is our default.
 */
export const defaultFreshnessWindowMs = 15 * 60_000;

/**
 * The `API-Token` for a timestamp, which is signed exactly as it is sent
 * (https://docs.paveapi.com/integrations/developer-docs/authentication/generate-access-token).
 */
export function toApiToken(credentials: PaveCredentials, timestamp: string): string {
  return createHmac("sha256", credentials.apiSecret)
    .update(`${credentials.username}:${credentials.apiKey}@${timestamp}`)
    .digest("hex");
}

/**
 * Why a request is not the account's, or null when it is.
 *
 * @param headers names in lower case
 */
export function authenticationProblem(
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
  credentials: PaveCredentials,
  now: number,
  freshnessWindowMs: number,
): string | null {
  const [apiKey, token, timestamp] = ["api-key", "api-token", "api-timestamp"].map((name) => {
    const value = headers[name];
    return typeof value === "string" ? value : "";
  });
  if (!apiKey || !token || !timestamp) {
    return "The headers API-Key, API-Token and API-Timestamp are required.";
  }
  const isKeyRight = equalInConstantTime(apiKey, credentials.apiKey);
  const isTokenRight = equalInConstantTime(token, toApiToken(credentials, timestamp));
  if (!isKeyRight || !isTokenRight) {
    return (
      "API-Key or API-Token is wrong: the token is the lowercase hex HMAC-SHA256 of username:api_key@timestamp, keyed " +
      "with the API secret, with the timestamp exactly as in API-Timestamp."
    );
  }
  const time = parseTimestamp(timestamp);
  if (time === null) return "API-Timestamp is not a UTC time such as 2021-05-30T12:49:19Z.";
  if (Math.abs(now - time) > freshnessWindowMs) {
    const minutes = freshnessWindowMs / 60_000;
    return `API-Timestamp is more than ${minutes} minutes from now, ${new Date(now).toISOString()}.`;
  }
  return null;
}

/**
 * A timestamp in any of the forms that PAVE's samples and clients send: ISO 8601 (UTC where it names no zone), seconds
 * since the epoch, or `Date.toUTCString()`. Milliseconds since the epoch; null for anything else.
 */
export function parseTimestamp(text: string): number | null {
  if (/^\d{1,11}$/.test(text)) return Number(text) * 1_000;
  const iso = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d+)?)(Z|[+-]\d\d:\d\d)?$/i.exec(text);
  const isHttpDate = /^[A-Z][a-z]{2}, \d\d? [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/.test(text);
  if (iso === null && !isHttpDate) return null;
  const time = Date.parse(
    iso === null ? text : `${iso[1] ?? ""}T${iso[2] ?? ""}${iso[3]?.toUpperCase() ?? "Z"}`,
  );
  return Number.isNaN(time) ? null : time;
}
