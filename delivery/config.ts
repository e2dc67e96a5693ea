import { isIP } from "node:net";
import { resolve } from "node:path";
import { z } from "zod";
import { StartError } from "./errors.ts";
import { logLevels, type LogLevel } from "./log.ts";

/** How the service runs. `defaultConfig` has every default. */
export interface Config {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Absolute. The database, its master key and the credentials live in it; made when missing. */
  readonly dataDir: string;
  /** Subnets that deliveries may reach although they are not globally routable, such as `127.0.0.0/8`. */
  readonly allowSubnets: readonly string[];
  /** Whether `/inbox/:name` receives and verifies. */
  readonly inbox: boolean;
  /** Absolute; null for `credentials.json` in the data folder. */
  readonly credentialsFile: string | null;
  /** Credentials that win over the file's, as `{ admin: { token }, pave: { username } }`. */
  readonly credentials: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly logLevel: LogLevel;
  /** How long a stop waits for deliveries in flight. */
  readonly stopTimeoutMs: number;
  /** The address the world knows the service by, without a trailing slash; null for the one it listens on. */
  readonly publicUrl: string | null;
  /** The largest request body that is read. */
  readonly maxBodyBytes: number;
}

/** A setting as people give it: a flag of `hookplane serve`, or its variable. */
export interface Setting {
  /** As commander takes it. */
  readonly flag: string;
  /** `HOOKPLANE_…`; where the flag may be repeated, its values are separated by commas. */
  readonly variable: string;
  readonly description: string;
  /** For the help text; empty where nothing is set. */
  readonly defaultText: string;
  /** Its value never appears in an error. */
  readonly isSecret?: boolean;
}

/** Every setting of `hookplane serve`, by its name in commander's options. */
export const settings = {
  host: {
    flag: "--host <address>",
    variable: "HOOKPLANE_HOST",
    description: "address to listen on",
    defaultText: "127.0.0.1",
  },
  port: {
    flag: "--port <number>",
    variable: "HOOKPLANE_PORT",
    description: "port to listen on; 0 takes a free one",
    defaultText: "8420",
  },
  dataDir: {
    flag: "--data-dir <folder>",
    variable: "HOOKPLANE_DATA_DIR",
    description: "folder of the database, its key and the credentials",
    defaultText: ".hookplane",
  },
  databaseUrl: {
    flag: "--database-url <url>",
    variable: "HOOKPLANE_DATABASE_URL",
    description: "PostgreSQL database; not in this version, which stores in the data folder",
    defaultText: "",
    isSecret: true,
  },
  allowSubnet: {
    flag: "--allow-subnet <cidr...>",
    variable: "HOOKPLANE_ALLOW_SUBNET",
    description: "let deliveries reach a subnet that is not public, such as 127.0.0.0/8; may be repeated",
    defaultText: "",
  },
  inbox: {
    flag: "--inbox",
    variable: "HOOKPLANE_INBOX",
    description: "receive, verify and keep what is sent to /inbox/<name>",
    defaultText: "",
  },
  credentialsFile: {
    flag: "--credentials-file <file>",
    variable: "HOOKPLANE_CREDENTIALS_FILE",
    description: "credentials of the service's callers; generated into the data folder where it has none",
    defaultText: "<data-dir>/credentials.json",
  },
  publicUrl: {
    flag: "--public-url <url>",
    variable: "HOOKPLANE_PUBLIC_URL",
    description: "address that the world knows the service by",
    defaultText: "the one it listens on",
  },
  logLevel: {
    flag: "--log-level <level>",
    variable: "HOOKPLANE_LOG_LEVEL",
    description: `how much to log: ${logLevels.join(", ")}`,
    defaultText: "info",
  },
  stopTimeoutSeconds: {
    flag: "--stop-timeout-seconds <number>",
    variable: "HOOKPLANE_STOP_TIMEOUT_SECONDS",
    description: "how long a stop waits for requests and deliveries under way",
    defaultText: "10",
  },
  maxBodyBytes: {
    flag: "--max-body-bytes <number>",
    variable: "HOOKPLANE_MAX_BODY_BYTES",
    description: "largest request body that is read",
    defaultText: "1048576",
  },
} satisfies Record<string, Setting>;

type SettingName = keyof typeof settings;

/** What commander read from the command line. */
export type Flags = Readonly<Partial<Record<SettingName, unknown>>>;

/** Each setting when nothing is said about it; `dataDir` is relative to the folder one is in. */
export function defaultConfig(): Config {
  return parseConfig({}, {}, {});
}

/**
 * The settings: a flag wins over its variable, and that over the default.
 *
 * @param credentialFields the fields of each section of the credentials: `HOOKPLANE_PAVE_API_KEY` is `apiKey` of `pave`
 * @param environment the process's by default
 * @throws StartError `settings_invalid` with every wrong setting
 */
export function parseConfig(
  flags: Flags,
  credentialFields: Readonly<Record<string, readonly string[]>>,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Config {
  const given: Partial<Record<SettingName, unknown>> = {};
  for (const [name, setting] of Object.entries(settings)) {
    // An empty variable is one that is not set.
    const value = flags[name as SettingName] ?? (environment[setting.variable] || undefined);
    if (value !== undefined) given[name as SettingName] = value;
  }
  const result = schema.safeParse(given);
  if (!result.success) {
    const faults = result.error.issues.map((issue) => {
      const name = issue.path[0] as SettingName;
      const setting: Setting = settings[name];
      const source = flags[name] === undefined ? setting.variable : setting.flag.split(" ", 1)[0];
      const value = setting.isSecret ? "" : ` "${String(given[name])}"`;
      return `${String(source)}${value}: ${issue.message}.`;
    });
    throw new StartError("settings_invalid", faults.join("\n"));
  }
  const { allowSubnet, stopTimeoutSeconds, databaseUrl: _, ...rest } = result.data;
  return {
    ...rest,
    allowSubnets: allowSubnet,
    stopTimeoutMs: stopTimeoutSeconds * 1000,
    credentials: readCredentials(environment, credentialFields),
  };
}

const schema = z.object({
  host: z.string().min(1, "give an address to listen on, such as 127.0.0.1").default("127.0.0.1"),
  port: wholeNumber(0, 65_535).default(8420),
  dataDir: z
    .string()
    .min(1, "give a folder")
    .default(".hookplane")
    .transform((folder) => resolve(folder)),
  databaseUrl: z
    .never("PostgreSQL is not supported by this version: leave it out, and the data goes to the data folder")
    .optional(),
  allowSubnet: z
    .union([z.string(), z.array(z.string())])
    .default([])
    .transform((given) => [given].flat().flatMap((text) => text.split(",")))
    .transform((subnets) => subnets.map((subnet) => subnet.trim()))
    .refine((subnets) => subnets.every(isSubnet), "write each subnet as address/prefix, such as 10.0.0.0/8"),
  inbox: z
    .union(
      [z.boolean(), z.enum(["true", "1", "false", "0"]).transform((text) => text === "true" || text === "1")],
      "say true or false",
    )
    .default(false),
  credentialsFile: z
    .string()
    .min(1, "give a file")
    .transform((file) => resolve(file))
    .nullable()
    .default(null),
  publicUrl: z
    .string()
    .refine(isBaseUrl, "give an absolute http or https URL without query and credentials")
    .transform((url) => url.replace(/\/+$/, ""))
    .nullable()
    .default(null),
  logLevel: z.enum(logLevels, `choose one of ${logLevels.join(", ")}`).default("info"),
  stopTimeoutSeconds: wholeNumber(0, 3600).default(10),
  maxBodyBytes: wholeNumber(1024, 64 * 1024 * 1024).default(1024 * 1024),
});

function wholeNumber(min: number, max: number) {
  const message = `give a whole number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d+$/, message)
    .transform(Number)
    .refine((value) => value >= min && value <= max, message);
}

function isSubnet(text: string): boolean {
  const [, address = "", prefix = ""] = /^(.+)\/(\d{1,3})$/.exec(text) ?? [];
  const version = isIP(address);
  return version !== 0 && Number(prefix) <= (version === 4 ? 32 : 128);
}

function isBaseUrl(text: string): boolean {
  const url = URL.parse(text);
  return (
    url !== null &&
    /^https?:$/.test(url.protocol) &&
    url.username + url.password + url.search + url.hash === ""
  );
}

function readCredentials(
  environment: Readonly<Record<string, string | undefined>>,
  fields: Readonly<Record<string, readonly string[]>>,
): Record<string, Record<string, string>> {
  const credentials: Record<string, Record<string, string>> = {};
  for (const [section, names] of Object.entries(fields)) {
    for (const name of names) {
      const value = environment[credentialVariable(section, name)];
      if (value) (credentials[section] ??= {})[name] = value;
    }
  }
  return credentials;
}

/** The variable of a credential: `HOOKPLANE_TWILIO_AUTH_TOKEN` for `authToken` of `twilio`. */
export function credentialVariable(section: string, name: string): string {
  const words = name.replace(/[A-Z]/g, (letter) => `_${letter}`);
  return `HOOKPLANE_${section}_${words}`.toUpperCase();
}
