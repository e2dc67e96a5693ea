import type { z } from "zod";
import { notFound } from "./application-access.ts";
import { nameField } from "./fields.ts";
import { bodyFault } from "./input.ts";

/** A kind of thing that callers may name themselves. */
export interface UidKind {
  /** As in a sentence: `application`. */
  readonly title: string;
  readonly idPrefix: string;
}

/** The caller's own name for something. One that looks like a server-made id would be ambiguous in a path. */
export function uidField(kind: UidKind, what = "uid"): z.ZodString {
  return nameField(what, 256).refine(
    (uid) => !uid.startsWith(kind.idPrefix),
    `The ${what} must not begin with "${kind.idPrefix}": that is how the service's own ids begin.`,
  );
}

/**
 * The uid of what a PUT makes under the name in its path.
 *
 * @param inBody the uid that the body gives, if any
 * @throws ServiceError `not_found` for a path that is no uid: ids are the service's to give; `validation` when path and
 * body disagree
 */
export function uidOfNew(kind: UidKind, inPath: string, inBody: string | null | undefined): string {
  if (!uidField(kind).safeParse(inPath).success) throw notFound(kind.title, inPath);
  if (typeof inBody === "string" && inBody !== inPath) {
    throw bodyFault(
      ["uid"],
      `There is no ${kind.title} "${inPath}" yet: its uid must be the one in the path.`,
    );
  }
  return inPath;
}

/**
 * The uid after a PUT. One that is left out goes, as every member does, unless the caller has just called it by that name.
 *
 * @param inPath what the caller called it by
 */
export function uidAfter(
  existing: { readonly id: string; readonly uid: string | null },
  inPath: string,
  inBody: string | null | undefined,
): string | null {
  if (inBody !== undefined) return inBody;
  return inPath === existing.id ? null : existing.uid;
}
