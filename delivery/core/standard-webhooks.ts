import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  randomBytes,
  sign,
  verify,
  type KeyObject,
} from "node:crypto";
import { equalInConstantTime } from "./constant-time.ts";
import type { ReceivedRequest, Verification } from "./dialect.ts";
import type { SigningSecret } from "./endpoint.ts";

/**
 * Waits between attempts, in milliseconds: the example schedule of the Standard Webhooks specification, ten attempts
 * within 75 hours, 35 minutes and 5 seconds.
 */
export const standardRetryDelaysMs: readonly number[] = [
  5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400,
].map((seconds) => seconds * 1_000);

/** How many signatures of a request are looked at: more than any rotation makes, few enough for a hostile sender. */
const maxSignatures = 32;

/** How old or how far ahead a timestamp may be: five minutes, as in every official library. */
const toleranceSeconds = 300;

/** A new symmetric secret: `whsec_` and 24 random bytes in base64. */
export function createSigningSecret(): string {
  return `whsec_${randomBytes(24).toString("base64")}`;
}

/** A message to sign or to check. */
export interface SignedContent {
  readonly id: string;
  /** Seconds since the epoch, as in the header. */
  readonly timestamp: string;
  readonly body: Uint8Array;
}

/**
 * The value of a signature header: one signature per key, separated by spaces; `v1` (HMAC-SHA256) for a `whsec_` key,
 * `v1a` (ed25519) for a `whsk_` key.
 *
 * @throws Error when a key cannot be read; the message does not hold it
 */
export function signContent(content: SignedContent, keys: readonly string[]): string {
  return keys.map((key) => toSigner(key).sign(content)).join(" ");
}

/**
 * The headers that sign a body with the current key and with each that has not expired, in both families that receivers'
 * libraries read: Standard Webhooks' own and Svix's.
 */
export function signatureHeaders(
  messageId: string,
  body: Uint8Array,
  secrets: readonly SigningSecret[],
  now: number,
): Record<string, string> {
  const timestamp = String(Math.floor(now / 1_000));
  const signature = signContent({ id: messageId, timestamp, body }, validKeys(secrets, now));
  return {
    "webhook-id": messageId,
    "webhook-timestamp": timestamp,
    "webhook-signature": signature,
    "svix-id": messageId,
    "svix-timestamp": timestamp,
    "svix-signature": signature,
  };
}

/**
 * Checks a request as the official libraries do: any of its signatures by any valid key will do, entries of unknown
 * versions are passed over, and the timestamp is within five minutes of now.
 */
export function verifySignedRequest(
  request: ReceivedRequest,
  secrets: readonly SigningSecret[],
  now: number,
): Verification {
  // Svix's libraries prefer their own family, and so receivers check that one.
  const hasSvix = Object.keys(request.headers).some((name) => /^svix-(?:id|timestamp|signature)$/.test(name));
  const family = hasSvix ? "svix" : "webhook";
  const id = request.headers[`${family}-id`] ?? "";
  const timestamp = request.headers[`${family}-timestamp`] ?? "";
  const signature = request.headers[`${family}-signature`] ?? "";
  if (id === "" || timestamp === "" || signature === "") {
    return refusal(`the headers ${family}-id, ${family}-timestamp and ${family}-signature are needed`);
  }
  if (!/^\d{1,12}$/.test(timestamp)) return refusal(`${family}-timestamp is not a number of seconds`);
  const ageSeconds = Math.floor(now / 1_000) - Number(timestamp);
  if (ageSeconds > toleranceSeconds) return refusal("the timestamp is more than five minutes old");
  if (ageSeconds < -toleranceSeconds) return refusal("the timestamp is more than five minutes ahead");
  const content = { id, timestamp, body: request.body };
  const entries = signature.split(" ", maxSignatures);
  const matches = validKeys(secrets, now).some((key) => toSigner(key).matches(content, entries));
  return matches ? { verified: true, by: "signature" } : refusal("no signature matches a valid secret");
}

function refusal(reason: string): Verification {
  return { verified: false, reason };
}

function validKeys(secrets: readonly SigningSecret[], now: number): string[] {
  return secrets.filter(({ expiresAt }) => expiresAt === null || expiresAt > now).map(({ key }) => key);
}

/** One key, prepared. */
interface Signer {
  /** The signature with its version: `v1,…`. */
  sign(content: SignedContent): string;
  /** Whether one of the entries is the content's signature by this key. */
  matches(content: SignedContent, entries: readonly string[]): boolean;
}

/** Preparing a key costs as much as signing: the last ones used are kept. */
const signers = new Map<string, Signer>();
const maxSigners = 10_000;

function toSigner(key: string): Signer {
  const known = signers.get(key);
  if (known !== undefined) return known;
  const signer = key.startsWith("whsk_") ? toEd25519Signer(key) : toHmacSigner(key);
  const oldest = signers.keys().next();
  if (signers.size >= maxSigners && oldest.done !== true) signers.delete(oldest.value);
  signers.set(key, signer);
  return signer;
}

function toHmacSigner(key: string): Signer {
  const bytes = Buffer.from(key.replace(/^whsec_/, ""), "base64");
  if (bytes.length === 0) throw new Error("A signing secret is empty: write whsec_ and base64.");
  const secret = createSecretKey(bytes);
  const signContentWithSecret = ({ id, timestamp, body }: SignedContent) =>
    `v1,${createHmac("sha256", secret).update(`${id}.${timestamp}.`).update(body).digest("base64")}`;
  return {
    sign: signContentWithSecret,
    matches(content, entries) {
      const expected = signContentWithSecret(content);
      return entries.some((entry) => equalInConstantTime(entry, expected));
    },
  };
}

/** DER in front of a bare ed25519 seed, which makes it PKCS #8 (RFC 8410). */
const ed25519Prefix = Buffer.from("302e020100300506032b657004220420", "hex");

function toEd25519Signer(key: string): Signer {
  // The key is the seed, with or without the public key behind it.
  const seed = Buffer.from(key.slice("whsk_".length), "base64").subarray(0, 32);
  if (seed.length < 32) {
    throw new Error("An ed25519 signing key is too short: write whsk_ and 32 or 64 bytes in base64.");
  }
  const privateKey: KeyObject = createPrivateKey({
    key: Buffer.concat([ed25519Prefix, seed]),
    format: "der",
    type: "pkcs8",
  });
  const publicKey = createPublicKey(privateKey);
  const toBytes = ({ id, timestamp, body }: SignedContent) =>
    Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  return {
    sign: (content) => `v1a,${sign(null, toBytes(content), privateKey).toString("base64")}`,
    matches(content, entries) {
      const bytes = toBytes(content);
      return entries
        .filter((entry) => entry.startsWith("v1a,"))
        .some((entry) => verify(null, bytes, publicKey, Buffer.from(entry.slice("v1a,".length), "base64")));
    },
  };
}
