import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { StartError } from "../errors.ts";
import { writeFileAtomically } from "./atomic-file.ts";

const keyBytes = 32;

/**
 * Reads the master key that seals secrets, or makes one for a new database.
 *
 * @param isNew whether the database is yet to be made: only then a missing key is made
 * @throws StartError `master_key_unusable`
 */
export function loadMasterKey(path: string, isNew: boolean): Uint8Array {
  if (!existsSync(path)) {
    if (!isNew) {
      throw new StartError(
        "master_key_unusable",
        `The master key "${path}" is missing, and the secrets in the database beside it cannot be read without it. ` +
          "Restore the file from your backup, or start with an empty data folder.",
      );
    }
    writeFileAtomically(path, `${randomBytes(keyBytes).toString("base64")}\n`);
  }
  let text: string;
  try {
    text = readFileSync(path, "utf8").trim();
  } catch (cause) {
    throw new StartError(
      "master_key_unusable",
      `The master key "${path}" cannot be read: let the user who runs the service read it.`,
      { cause },
    );
  }
  const key = Buffer.from(text, "base64");
  if (key.length !== keyBytes || key.toString("base64") !== text) {
    throw new StartError(
      "master_key_unusable",
      `The master key "${path}" is not ${keyBytes} bytes in base64. Restore the file from your backup.`,
    );
  }
  return key;
}
