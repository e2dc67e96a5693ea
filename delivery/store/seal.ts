import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";
import { ServiceError } from "../errors.ts";

const cipher = "aes-256-gcm";
const ivBytes = 12;
const tagBytes = 16;

/** Seals texts for storage, so that the database alone gives no secret away. Several master keys may be in use at a time. */
export interface Seal {
  /** The ids of the keys, the newest first: that one seals, all of them open. */
  readonly keyIds: readonly string[];
  /** @param place where the text is kept: a text that was moved elsewhere does not open */
  close(text: string, place: string): string;
  /**
   * @throws ServiceError `unavailable` when the text was sealed with a key that is not there
   * @throws Error when it was sealed for another place, or altered
   */
  open(sealed: string, place: string): string;
  /** Whether the newest key has sealed it. */
  isCurrent(sealed: string): boolean;
  /**
   * Takes the keys as they are now.
   *
   * @throws when they cannot be read; the keys stay as they were
   */
  refresh(): void;
}

/**
 * A seal of AES-256-GCM. A sealed text is `v1.<key id>.<base64url of iv, tag and ciphertext>`.
 *
 * @param masterKeys 32 bytes each, the newest first; at least one
 * @param reload the keys where they have changed since; null where they have not. Asked for by `refresh`, and when a text
 * names a key that is not there: another process may have sealed it with a key that was just made
 */
export function createSeal(
  masterKeys: readonly Uint8Array[],
  reload: () => readonly Uint8Array[] | null = () => null,
): Seal {
  let keys = toRing(masterKeys);
  let [[newestId, newestKey]] = keys;

  function refresh(): void {
    const changed = reload();
    if (changed === null) return;
    keys = toRing(changed);
    [[newestId, newestKey]] = keys;
  }

  function find(id: string): Uint8Array | undefined {
    return keys.find(([known]) => known === id)?.[1];
  }

  function findAnew(id: string): Uint8Array | undefined {
    try {
      refresh();
    } catch {
      // What is wrong with the file is told to those who ask for it: here it means that the key is not there.
    }
    return find(id);
  }

  return {
    get keyIds() {
      return keys.map(([id]) => id);
    },
    close(text, place) {
      const iv = randomBytes(ivBytes);
      const sealing = createCipheriv(cipher, newestKey, iv).setAAD(Buffer.from(place));
      const ciphertext = Buffer.concat([sealing.update(text, "utf8"), sealing.final()]);
      return `v1.${newestId}.${Buffer.concat([iv, sealing.getAuthTag(), ciphertext]).toString("base64url")}`;
    },
    open(sealed, place) {
      const [version, id = "", content] = sealed.split(".");
      if (version !== "v1" || content === undefined) throw damaged(place);
      const key = find(id) ?? findAnew(id);
      if (key === undefined) {
        throw new ServiceError("unavailable", "A secret cannot be read now: its master key is not there", {
          cause: new Error(`${place} is sealed with master key "${id}", and there are only ${keyList(keys)}`),
        });
      }
      const bytes = Buffer.from(content, "base64url");
      try {
        const opening = createDecipheriv(cipher, key, bytes.subarray(0, ivBytes))
          .setAAD(Buffer.from(place))
          .setAuthTag(bytes.subarray(ivBytes, ivBytes + tagBytes));
        return opening.update(bytes.subarray(ivBytes + tagBytes), undefined, "utf8") + opening.final("utf8");
      } catch (cause) {
        throw damaged(place, cause);
      }
    },
    isCurrent: (sealed) => sealed.startsWith(`v1.${newestId}.`),
    refresh,
  };
}

/** What tells a master key from others, and nothing of it. */
export function keyIdOf(masterKey: Uint8Array): string {
  return createHash("sha256").update("hookplane master key").update(masterKey).digest("hex").slice(0, 8);
}

type Ring = [newest: [string, Uint8Array], ...older: [string, Uint8Array][]];

function toRing(masterKeys: readonly Uint8Array[]): Ring {
  const [newest, ...older] = masterKeys.map((key): [string, Uint8Array] => [keyIdOf(key), key]);
  if (newest === undefined) throw new Error("A seal needs a master key");
  return [newest, ...older];
}

function keyList(keys: Ring): string {
  return keys.map(([id]) => `"${id}"`).join(", ");
}

function damaged(place: string, cause?: unknown): Error {
  return new Error(`The sealed text of ${place} is damaged`, { cause });
}
