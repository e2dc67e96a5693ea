import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { credentialVariable, type Config } from "./config.ts";
import type { VendorAccount } from "./dialects/account.ts";
import { StartError } from "./errors.ts";
import { writeFileAtomically } from "./store/atomic-file.ts";
import { toStartError } from "./store/start-failure.ts";

/** Who may call the service: the administrator's token, and for each vendor account what its dialect folder declares. */
export interface Credentials {
  readonly admin: { readonly token: string };
  readonly [account: string]: unknown;
}

interface Section {
  readonly schema: z.ZodType;
  generate(): unknown;
}

const adminSchema = z.object({ token: z.string().min(16, "must have at least 16 characters") });
const fileSchema = z.record(z.string(), z.record(z.string(), z.unknown()));

/** The fields of each section, to be found in variables by `parseConfig`. */
export function credentialFields(accounts: readonly VendorAccount[]): Record<string, readonly string[]> {
  const fields: Record<string, readonly string[]> = {};
  for (const [name, { schema }] of Object.entries(sectionsOf(accounts))) {
    fields[name] = schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
  }
  return fields;
}

/**
 * The credentials of the administrator and of each vendor account: from variables, else from the credentials file, else
 * from `credentials.json` in the data folder. What none of them has is generated into the latter, which only its owner
 * may read.
 *
 * @throws StartError `credentials_unusable` with every wrong place, and no value
 */
export function loadCredentials(config: Config, accounts: readonly VendorAccount[]): Credentials {
  const ownFile = join(config.dataDir, "credentials.json");
  const own = existsSync(ownFile) ? readSections(ownFile) : {};
  const given = config.credentialsFile === null ? {} : readSections(config.credentialsFile);
  const credentials: Record<string, unknown> = {};
  const generated: Record<string, unknown> = {};
  const faults: string[] = [];
  for (const [name, section] of Object.entries(sectionsOf(accounts))) {
    const variables = config.credentials[name] ?? {};
    let known = given[name] ?? own[name];
    if (known === undefined && !section.schema.safeParse(variables).success) {
      known = section.generate() as Record<string, unknown>;
      generated[name] = known;
    }
    const result = section.schema.safeParse({ ...known, ...variables });
    credentials[name] = result.data;
    for (const issue of result.error?.issues ?? []) {
      const [field] = issue.path.map(String);
      const source =
        field !== undefined && field in variables
          ? credentialVariable(name, field)
          : `"${[name, ...issue.path].join(".")}" in "${given[name] ? String(config.credentialsFile) : ownFile}"`;
      faults.push(`${source}: ${issue.message}.`);
    }
  }
  if (faults.length > 0) {
    throw new StartError("credentials_unusable", `Correct the credentials:\n${faults.join("\n")}`);
  }
  if (Object.keys(generated).length > 0) {
    try {
      writeFileAtomically(ownFile, `${JSON.stringify({ ...own, ...generated }, null, 2)}\n`);
    } catch (cause) {
      throw toStartError(ownFile, cause, {
        code: "credentials_unusable",
        remedy: "Let the service write it, or give it every section with --credentials-file.",
      });
    }
  }
  return credentials as unknown as Credentials;
}

function sectionsOf(accounts: readonly VendorAccount[]): Record<string, Section> {
  const admin: Section = {
    schema: adminSchema,
    generate: () => ({ token: `hp_${randomBytes(32).toString("base64url")}` }),
  };
  const vendors = accounts.map((account): [string, Section] => [
    account.name,
    { schema: account.credentials, generate: () => account.generateCredentials() },
  ]);
  return { admin, ...Object.fromEntries(vendors) };
}

function readSections(file: string): Record<string, Record<string, unknown>> {
  try {
    return fileSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (cause) {
    // Neither the parser's nor zod's message is repeated: both may quote a secret.
    const isUnreadable = cause instanceof Error && "syscall" in cause;
    throw new StartError(
      "credentials_unusable",
      isUnreadable
        ? `The credentials file "${file}" cannot be read: let the user who runs the service read it, or name another.`
        : `The credentials file "${file}" is not a JSON object of sections: {"admin": {"token": "…"}, …}.`,
      { cause: isUnreadable ? cause : undefined },
    );
  }
}
