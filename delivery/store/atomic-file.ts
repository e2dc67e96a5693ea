import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, linkSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Writes a file that only its owner may read, so that a crash or a full disk leaves the old content or the new one, never
 * a part: the text is synced under another name first, and the folder after the renaming.
 */
export function writeFileAtomically(path: string, text: string): void {
  writeAside(path, text, (aside) => {
    renameSync(aside, path);
  });
}

/**
 * Writes a file as `writeFileAtomically` does, unless it is there already. Of several processes that do this at once, one
 * does, and all of them find that file whole. Answers whether it was this one.
 */
export function createFileAtomically(path: string, text: string): boolean {
  let isCreated = true;
  writeAside(path, text, (aside) => {
    try {
      linkSync(aside, path);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      isCreated = false;
    }
    rmSync(aside);
  });
  return isCreated;
}

function writeAside(path: string, text: string, putInPlace: (aside: string) => void): void {
  const aside = `${path}.${process.pid}.${randomBytes(4).toString("hex")}.new`;
  try {
    const file = openSync(aside, "wx", 0o600);
    try {
      writeFileSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    putInPlace(aside);
  } catch (error) {
    rmSync(aside, { force: true });
    throw error;
  }
  syncFolder(dirname(path));
}

/** Makes what was created, renamed or deleted in a folder outlast a crash. */
export function syncFolder(path: string): void {
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
