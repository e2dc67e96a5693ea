import { z } from "zod";
import { isSignatureHeader } from "../core/standard-webhooks.ts";
import { headerProblems } from "../core/wire-headers.ts";
import { validationError } from "./input.ts";
import { isSensitiveHeader } from "./sensitive-headers.ts";

const maxHeaders = 50;
const maxHeaderLength = 4096;

/** An endpoint's own headers, names as they were given. */
type Headers = Readonly<Record<string, string>>;

/** The headers that are sent with every delivery to an endpoint. */
export const headersField = z.record(z.string(), z.string()).superRefine((entries, issues) => {
  for (const message of problemsOf(entries)) issues.addIssue({ code: "custom", message });
});

/** The contract's `EndpointHeadersIn`. */
export const headersIn = z.object({ headers: headersField }).meta({ id: "EndpointHeadersIn" });

/** The contract's `EndpointHeadersPatchIn`, and what newer clients say: a null removes the header, as its name does. */
export const headersPatch = z
  .object({
    headers: z.record(z.string(), z.string().nullable()).default({}),
    deleteHeaders: z.array(z.string()).default([]),
  })
  .meta({ id: "EndpointHeadersPatchIn" });

/**
 * The headers after a patch; names are compared without regard to case.
 *
 * @throws ServiceError `validation` with everything that is wrong with what comes of it
 */
export function patchHeaders(before: Headers, patch: z.output<typeof headersPatch>): Headers {
  const removed = [...Object.keys(patch.headers), ...patch.deleteHeaders];
  const touched = new Set(removed.map((name) => name.toLowerCase()));
  const kept = Object.entries(before).filter(([name]) => !touched.has(name.toLowerCase()));
  const set = Object.entries(patch.headers).filter((entry): entry is [string, string] => entry[1] !== null);
  const after = Object.fromEntries([...kept, ...set]);
  const problems = problemsOf(after);
  if (problems.length > 0) {
    throw validationError(
      problems.map((message) => ({ path: ["body", "headers"], message, type: "value_error" })),
    );
  }
  return after;
}

/** The contract's `EndpointHeadersOut`. */
export const headersOut = z
  .object({
    headers: z.record(z.string(), z.string()),
    sensitive: z.array(z.string()).describe("The names of those whose values are not shown."),
  })
  .meta({ id: "EndpointHeadersOut" });

export function toHeadersOut(headers: Headers): z.output<typeof headersOut> {
  const entries = Object.entries(headers);
  return {
    headers: Object.fromEntries(entries.filter(([name]) => !isSensitiveHeader(name))),
    sensitive: entries.map(([name]) => name).filter(isSensitiveHeader),
  };
}

function problemsOf(entries: Headers): string[] {
  const names = Object.keys(entries);
  const problems = headerProblems(entries);
  for (const name of names.filter(isReserved)) {
    problems.push(`The header "${name}" is the signature's and set by the service: leave it out.`);
  }
  for (const [name] of Object.entries(entries).filter(
    ([candidate, value]) => candidate.length + value.length > maxHeaderLength,
  )) {
    problems.push(`The header "${name.slice(0, 64)}" is longer than ${maxHeaderLength} characters.`);
  }
  if (names.length > maxHeaders) problems.push(`An endpoint has at most ${maxHeaders} headers.`);
  return problems;
}

/** Svix keeps all names with its own in front for itself, so what is refused there is refused here. */
function isReserved(name: string): boolean {
  return isSignatureHeader(name) || /^(?:x-)?svix-/i.test(name);
}
