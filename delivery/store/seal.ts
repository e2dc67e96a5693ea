import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";

const cipher = "aes-256-gcm";
const ivBytes = 12;
const tagBytes = 16;

/** Seals texts for storage, so that the database file alone gives no secret away. */
export interface Seal {
  /** @param place where the text is kept: a text that was moved elsewhere does not open */
  close(text: string, place: string): string;
  /** @throws Error when the text was sealed with another key, for another place, or altered */
  open(sealed: string, place: string): string;
}

/**
 * A seal of AES-256-GCM. A sealed text is `v1.<key id>.<base64url of iv, tag and ciphertext>`; the key id says which
 * master key it needs.
 *
 * @param masterKey 32 bytes
 */
export function createSeal(masterKey: Uint8Array): Seal {
  const keyId = createHash("sha256")
    .update("hookplane master key")
    .update(masterKey)
    .digest("hex")
    .slice(0, 8);
  return {
    close(text, place) {
      const iv = randomBytes(ivBytes);
      const sealing = createCipheriv(cipher, masterKey, iv).setAAD(Buffer.from(place));
      const ciphertext = Buffer.concat([sealing.update(text, "utf8"), sealing.final()]);
      return `v1.${keyId}.${Buffer.concat([iv, sealing.getAuthTag(), ciphertext]).toString("base64url")}`;
    },
    open(sealed, place) {
      const [version, sealedWith, content] = sealed.split(".");
      if (version !== "v1" || content === undefined)
        throw new Error(`The sealed text of ${place} is damaged`);
      if (sealedWith !== keyId) {
        throw new Error(`${place} is sealed with master key "${String(sealedWith)}", this one is "${keyId}"`);
      }
      const bytes = Buffer.from(content, "base64url");
      try {
        const opening = createDecipheriv(cipher, masterKey, bytes.subarray(0, ivBytes))
          .setAAD(Buffer.from(place))
          .setAuthTag(bytes.subarray(ivBytes, ivBytes + tagBytes));
        return opening.update(bytes.subarray(ivBytes + tagBytes), undefined, "utf8") + opening.final("utf8");
      } catch (cause) {
        throw new Error(`The sealed text of ${place} is damaged`, { cause });
      }
    },
  };
}
