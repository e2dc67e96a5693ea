import { createHash } from "node:crypto";

/**
 * Names an account by a key that must not be shown: the first 12 hex digits of its SHA-256. Only for keys with enough
 * randomness that guessing them is hopeless, as vendors' API keys are.
 */
export function fingerprint(key: string): string {
  return createHash("sha256").update(key).digest("hex").slice(0, 12);
}

/** Shorter texts are no secrets, and blotting them out would make a message unreadable. */
const shortestSecret = 4;

/**
 * Replaces every text of `secrets`, at any depth, by `***`: as it is, as JSON writes it, as a URL writes it, and each
 * word of it (of `Bearer abc`, a vendor may repeat only `abc`; words of fewer than 8 characters are left alone).
 */
export function createRedactor(secrets: readonly unknown[]): (text: string) => string {
  const texts = new Set<string>();
  for (const secret of secrets.flatMap(leaves)) {
    const words = secret.split(/\s+/).filter((word) => word.length >= 8);
    for (const part of [secret, ...words]) {
      if (part.length < shortestSecret) continue;
      for (const form of [part, JSON.stringify(part).slice(1, -1), encodeURIComponent(part)]) texts.add(form);
    }
  }
  // The longest first, so that no part of a secret that holds another one is left over.
  const ordered = [...texts].sort((a, b) => b.length - a.length);
  return (text) => ordered.reduce((shown, secret) => shown.replaceAll(secret, "***"), text);
}

function leaves(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (typeof value === "number") return [String(value)];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(leaves) : [];
}
