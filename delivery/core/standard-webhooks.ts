import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
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

/** Kinds of signing secrets: `hmac256` is a key that both sides hold, `ed25519` a private key with a public part. */
export const signatureTypes = ["hmac256", "ed25519"] as const;
export type SignatureType = (typeof signatureTypes)[number];

/** The names of a signature's headers: Standard Webhooks' own (`webhook-id`), Svix's (`svix-id`), or both. */
export const signatureFamilies = ["webhook", "svix", "both"] as const;
export type SignatureFamily = (typeof signatureFamilies)[number];

/** Whether a header of this name holds a signature, or what is signed: no endpoint's own header may. */
export function isSignatureHeader(name: string): boolean {
  return /^(?:svix|webhook)-(?:id|timestamp|signature)$/i.test(name);
}

/** A new secret: `whsec_` and 24 random bytes in base64, or `whsk_` and an ed25519 seed with its public key behind it. */
export function createSigningSecret(type: SignatureType = "hmac256"): string {
  if (type === "hmac256") return `whsec_${randomBytes(24).toString("base64")}`;
  const { x = "", d = "" } = generateKeyPairSync("ed25519").privateKey.export({ format: "jwk" });
  return toPrivateKeyText(Buffer.from(d, "base64url"), Buffer.from(x, "base64url"));
}

/**
 * A signing secret in its normal form, as the Svix API takes it: 24 to 75 bytes in base64, with or without `whsec_` in
 * front; or `whsk_` and an ed25519 seed of 32 bytes, with or without its public key behind it. The problem does not hold
 * the secret.
 */
export function parseSigningSecret(
  text: string,
): { readonly key: string; readonly problem?: never } | { readonly problem: string } {
  if (text.startsWith("whpk_")) {
    return { problem: 'The secret is a public key: give the private one, which begins with "whsk_".' };
  }
  if (!text.startsWith("whsk_")) {
    const base64 = text.replace(/^whsec_/, "");
    const bytes = parseBase64(base64);
    return bytes && bytes.length >= minSecretBytes && bytes.length <= maxSecretBytes
      ? { key: `whsec_${base64}` }
      : {
          problem:
            `The secret must be ${minSecretBytes} to ${maxSecretBytes} bytes in base64, optionally behind "whsec_"; ` +
            'or "whsk_" and an ed25519 key of 32 or 64 bytes in base64.',
        };
  }
  const bytes = parseBase64(text.slice("whsk_".length));
  if (bytes?.length !== seedBytes && bytes?.length !== 2 * seedBytes) {
    return { problem: 'The secret must have an ed25519 key of 32 or 64 bytes in base64 behind "whsk_".' };
  }
  const seed = bytes.subarray(0, seedBytes);
  const publicKey = publicBytesOf(seed);
  if (bytes.length === 2 * seedBytes && !publicKey.equals(bytes.subarray(seedBytes))) {
    return { problem: "The second half of the ed25519 key is not the public key of its first half." };
  }
  return { key: toPrivateKeyText(seed, publicKey) };
}

/** The limits of the Svix API; Standard Webhooks recommends 24 to 64. */
const minSecretBytes = 24;
const maxSecretBytes = 75;
const seedBytes = 32;

/**
 * What receivers check signatures with: `whpk_` and the public key of a `whsk_` secret, and a symmetric secret itself.
 *
 * @throws Error when the key cannot be read; the message does not hold it
 */
export function verificationKeyOf(key: string): string {
  return key.startsWith("whsk_") ? `whpk_${publicBytesOf(toSeed(key)).toString("base64")}` : key;
}

function toPrivateKeyText(seed: Uint8Array, publicKey: Uint8Array): string {
  return `whsk_${Buffer.concat([seed, publicKey]).toString("base64")}`;
}

/** The bytes of a text in base64, padded as RFC 4648 has it; undefined where it is none. */
function parseBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : undefined;
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
export function signContent({ id, timestamp, body }: SignedContent, keys: readonly string[]): string {
  return keys.map((key) => toSigner(key).sign(`${id}.${timestamp}.`, body)).join(" ");
}

/**
 * The headers that sign a body with the current key and with each that has not expired, under the names that the
 * receivers' libraries read.
 *
 * Called for every attempt: with one key it costs little more than the HMAC itself.
 */
export function signatureHeaders(
  messageId: string,
  body: Uint8Array,
  secrets: readonly SigningSecret[],
  now: number,
  family: SignatureFamily = "both",
): Record<string, string> {
  const timestamp = String(Math.floor(now / 1_000));
  const prefix = `${messageId}.${timestamp}.`;
  let signature = "";
  for (const { key, expiresAt } of secrets) {
    if (expiresAt !== null && expiresAt <= now) continue;
    const one = toSigner(key).sign(prefix, body);
    signature = signature === "" ? one : `${signature} ${one}`;
  }
  switch (family) {
    case "webhook":
      return { "webhook-id": messageId, "webhook-timestamp": timestamp, "webhook-signature": signature };
    case "svix":
      return { "svix-id": messageId, "svix-timestamp": timestamp, "svix-signature": signature };
    case "both":
      return {
        "webhook-id": messageId,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature,
        "svix-id": messageId,
        "svix-timestamp": timestamp,
        "svix-signature": signature,
      };
  }
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
  const hasSvix = Object.keys(request.headers).some(
    (name) => name.startsWith("svix-") && isSignatureHeader(name),
  );
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
  const entries = signature.split(" ", maxSignatures);
  const matches = validKeys(secrets, now).some((key) =>
    toSigner(key).matches(`${id}.${timestamp}.`, request.body, entries),
  );
  return matches ? { verified: true, by: "signature" } : refusal("no signature matches a valid secret");
}

function refusal(reason: string): Verification {
  return { verified: false, reason };
}

function validKeys(secrets: readonly SigningSecret[], now: number): string[] {
  return secrets.filter(({ expiresAt }) => expiresAt === null || expiresAt > now).map(({ key }) => key);
}

/** One key, prepared. What it signs is the prefix, which is id and time, and then the body. */
interface Signer {
  /** The signature with its version: `v1,…`. */
  sign(prefix: string, body: Uint8Array): string;
  /** Whether one of the entries is the content's signature by this key. */
  matches(prefix: string, body: Uint8Array, entries: readonly string[]): boolean;
}

/** Preparing a key costs as much as signing: those of as many endpoints are kept, at about half a KiB each. */
const signers = new Map<string, Signer>();
const maxSigners = 50_000;

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
  const signWithSecret = (prefix: string, body: Uint8Array): string =>
    `v1,${createHmac("sha256", secret).update(prefix).update(body).digest("base64")}`;
  return {
    sign: signWithSecret,
    matches(prefix, body, entries) {
      const expected = signWithSecret(prefix, body);
      return entries.some((entry) => equalInConstantTime(entry, expected));
    },
  };
}

function toEd25519Signer(key: string): Signer {
  const privateKey = toPrivateKey(toSeed(key));
  const publicKey = createPublicKey(privateKey);
  const toBytes = (prefix: string, body: Uint8Array) => Buffer.concat([Buffer.from(prefix), body]);
  return {
    sign: (prefix, body) => `v1a,${sign(null, toBytes(prefix, body), privateKey).toString("base64")}`,
    matches(prefix, body, entries) {
      const bytes = toBytes(prefix, body);
      return entries
        .filter((entry) => entry.startsWith("v1a,"))
        .some((entry) => verify(null, bytes, publicKey, Buffer.from(entry.slice("v1a,".length), "base64")));
    },
  };
}

/** The seed of a `whsk_` key, which may have the public key behind it. */
function toSeed(key: string): Uint8Array {
  const seed = Buffer.from(key.slice("whsk_".length), "base64").subarray(0, seedBytes);
  if (seed.length === seedBytes) return seed;
  throw new Error("An ed25519 signing key is too short: write whsk_ and 32 or 64 bytes in base64.");
}

/** DER in front of a bare ed25519 seed, which makes it PKCS #8 (RFC 8410). */
const ed25519Prefix = Buffer.from("302e020100300506032b657004220420", "hex");

function toPrivateKey(seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([ed25519Prefix, seed]), format: "der", type: "pkcs8" });
}

function publicBytesOf(seed: Uint8Array): Buffer {
  const { x = "" } = createPublicKey(toPrivateKey(seed)).export({ format: "jwk" });
  return Buffer.from(x, "base64url");
}
