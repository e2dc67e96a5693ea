import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { z } from "zod";
import {
  signatureFamilies,
  signatureTypes,
  standardRetryDelaysMs,
  type SignatureFamily,
  type SignatureType,
} from "./core/standard-webhooks.ts";
import { StartError } from "./errors.ts";
import { logLevels, type LogLevel } from "./log.ts";
import { parseProxyExceptions } from "./worker/proxy-exceptions.ts";
import { parseProxy } from "./worker/proxy.ts";

/** Where the service keeps its data, and the key that seals the secrets in it. */
export interface StorageConfig {
  /** Absolute. Credentials, the master key and, without `databaseUrl`, the database live in it; made when missing. */
  readonly dataDir: string;
  /** A `postgres://` or `postgresql://` URL, which may hold a password; null for SQLite in the data folder. */
  readonly databaseUrl: string | null;
  /** Absolute; null for `master.key` in the data folder. */
  readonly masterKeyFile: string | null;
}

/** How the service runs. `defaultConfig` has every default. */
export interface Config extends StorageConfig {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
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
  /** Publishing requests that a process handles at a time; those beyond are answered 429. */
  readonly maxInFlightRequests: number;
  /** Pending deliveries of one application, beyond which its publishers are answered 429; null for no bound. */
  readonly maxBacklog: number | null;
  /**
   * Waits between attempts where a vendor, an application or an endpoint has no schedule of its own: n waits make n + 1
   * attempts, none makes one.
   */
  readonly retryDelaysMs: readonly number[];
  /** How long an answer may take in all, where a vendor or an endpoint does not say. */
  readonly requestTimeoutMs: number;
  /** How long an endpoint must fail without a break before it is disabled; null for never. */
  readonly disableAfterMs: number | null;
  /** Whether endpoints must have `https:` URLs. */
  readonly httpsOnly: boolean;
  /** What a generated signing secret is. */
  readonly defaultSignatureType: SignatureType;
  /** The names under which the signature is sent. */
  readonly signatureHeaders: SignatureFamily;
  /** How long payloads are kept; null for as long as their messages. */
  readonly payloadRetentionMs: number | null;
  /** How long finished messages are kept with their attempts; null for ever. */
  readonly retentionMs: number | null;
  /** Bytes of stored data above which the oldest finished messages go; null for no bound. */
  readonly retentionMaxBytes: number | null;
  /** Processes that serve and deliver. With the inbox, which is in memory, one. */
  readonly workers: number;
  /** The `http:`, `https:` or `socks5:` proxy of deliveries, which may hold a password; null for none. */
  readonly proxy: string | null;
  /** What is reached without the proxy, in lower case: hosts, `.domains`, addresses, subnets, each with a port or without; `*`. */
  readonly noProxy: readonly string[];
  /** Certificates in PEM that deliveries trust besides Node's own. */
  readonly caCertificates: readonly string[];
  /** The key of HS256 tokens whose `sub` is an organization; null where none are accepted. */
  readonly jwtSecret: string | null;
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
  /** An empty variable is a value, and not the same as none. */
  readonly emptyCounts?: boolean;
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
    description: "PostgreSQL database that several nodes may share (secret: prefer the variable)",
    defaultText: "SQLite in the data folder",
    isSecret: true,
  },
  masterKeyFile: {
    flag: "--master-key-file <file>",
    variable: "HOOKPLANE_MASTER_KEY_FILE",
    description: "keys that seal the secrets in the database, the newest first; the same for all nodes",
    defaultText: "<data-dir>/master.key",
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
  maxInFlightRequests: {
    flag: "--max-in-flight-requests <number>",
    variable: "HOOKPLANE_MAX_IN_FLIGHT_REQUESTS",
    description: "publishing requests that a process handles at a time; more are answered 429",
    defaultText: "1000",
  },
  maxBacklog: {
    flag: "--max-backlog <number>",
    variable: "HOOKPLANE_MAX_BACKLOG",
    description: "pending deliveries of an application above which its publishers get 429; 0 is no bound",
    defaultText: "10000000",
  },
  retrySchedule: {
    flag: "--retry-schedule <seconds>",
    variable: "HOOKPLANE_RETRY_SCHEDULE",
    description:
      "waits between attempts in seconds, separated by commas; empty, also the variable, is no retries",
    defaultText: standardRetryDelaysMs.map((delayMs) => delayMs / 1000).join(","),
    emptyCounts: true,
  },
  requestTimeout: {
    flag: "--request-timeout <seconds>",
    variable: "HOOKPLANE_REQUEST_TIMEOUT",
    description: "how long a receiver's answer may take",
    defaultText: "15",
  },
  disableAfter: {
    flag: "--disable-after <seconds>",
    variable: "HOOKPLANE_DISABLE_AFTER",
    description: "how long an endpoint must fail without a break before it is disabled; 0 is never",
    defaultText: "432000",
  },
  httpsOnly: {
    flag: "--https-only",
    variable: "HOOKPLANE_HTTPS_ONLY",
    description: "refuse endpoints whose URL is not https",
    defaultText: "",
  },
  defaultSignatureType: {
    flag: "--default-signature-type <type>",
    variable: "HOOKPLANE_DEFAULT_SIGNATURE_TYPE",
    description: `generated signing secrets: ${signatureTypes.join(" (whsec_) or ")} (whsk_)`,
    defaultText: "hmac256",
  },
  signatureHeaders: {
    flag: "--signature-headers <names>",
    variable: "HOOKPLANE_SIGNATURE_HEADERS",
    description: "sign as webhook-…, svix-… or both, with the same signature",
    defaultText: "both",
  },
  payloadRetention: {
    flag: "--payload-retention <days>",
    variable: "HOOKPLANE_PAYLOAD_RETENTION",
    description: "how long payloads are kept; 0 is as long as their messages",
    defaultText: "90",
  },
  retention: {
    flag: "--retention <days>",
    variable: "HOOKPLANE_RETENTION",
    description: "how long finished messages are kept with their attempts; 0 is for ever",
    defaultText: "90",
  },
  retentionMaxBytes: {
    flag: "--retention-max-bytes <number>",
    variable: "HOOKPLANE_RETENTION_MAX_BYTES",
    description: "bytes of stored data above which the oldest finished messages go; 0 is no bound",
    defaultText: "0",
  },
  workers: {
    flag: "--workers <number>",
    variable: "HOOKPLANE_WORKERS",
    description: "processes that serve and deliver; one with --inbox, which is kept in memory",
    defaultText: "the cores but one, 1 to 8",
  },
  proxy: {
    flag: "--proxy <url>",
    variable: "HOOKPLANE_PROXY",
    description:
      "http, https or socks5 proxy of deliveries (secret where it has a password: prefer the variable)",
    defaultText: "",
    isSecret: true,
  },
  noProxy: {
    flag: "--no-proxy <hosts>",
    variable: "HOOKPLANE_NO_PROXY",
    description:
      "what deliveries reach without the proxy: hosts, .domains, addresses, subnets, separated by commas",
    defaultText: "",
  },
  caFile: {
    flag: "--ca-file <file>",
    variable: "HOOKPLANE_CA_FILE",
    description: "certificates in PEM that deliveries trust besides the public ones",
    defaultText: "",
  },
  jwtSecret: {
    flag: "--jwt-secret <secret>",
    variable: "HOOKPLANE_JWT_SECRET",
    description:
      "accept HS256 tokens of this key, whose sub is an organization (secret: prefer the variable or the file)",
    defaultText: "",
    isSecret: true,
  },
  jwtSecretFile: {
    flag: "--jwt-secret-file <file>",
    variable: "HOOKPLANE_JWT_SECRET_FILE",
    description: "file that holds the key of --jwt-secret",
    defaultText: "",
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
  const read = readSettings(schema, flags, environment);
  return {
    host: read.host,
    port: read.port,
    dataDir: read.dataDir,
    databaseUrl: read.databaseUrl,
    masterKeyFile: read.masterKeyFile,
    allowSubnets: read.allowSubnet,
    inbox: read.inbox,
    credentialsFile: read.credentialsFile,
    credentials: readCredentials(environment, credentialFields),
    publicUrl: read.publicUrl,
    logLevel: read.logLevel,
    stopTimeoutMs: read.stopTimeoutSeconds * 1000,
    maxBodyBytes: read.maxBodyBytes,
    maxInFlightRequests: read.maxInFlightRequests,
    maxBacklog: unlessZero(read.maxBacklog),
    retryDelaysMs: read.retrySchedule,
    requestTimeoutMs: read.requestTimeout * 1000,
    disableAfterMs: unlessZero(read.disableAfter * 1000),
    httpsOnly: read.httpsOnly,
    defaultSignatureType: read.defaultSignatureType,
    signatureHeaders: read.signatureHeaders,
    payloadRetentionMs: unlessZero(read.payloadRetention * dayMs),
    retentionMs: unlessZero(read.retention * dayMs),
    retentionMaxBytes: unlessZero(read.retentionMaxBytes),
    workers: read.workers ?? (read.inbox ? 1 : defaultWorkers()),
    proxy: read.proxy,
    noProxy: read.noProxy,
    caCertificates: read.caFile,
    jwtSecret: read.jwtSecret ?? read.jwtSecretFile,
  };
}

/**
 * The settings of a command that works on the stored data alone, as `parseConfig` reads them.
 *
 * @param environment the process's by default
 * @throws StartError `settings_invalid` with every wrong setting
 */
export function parseStorageConfig(
  flags: Flags,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): StorageConfig {
  return readSettings(
    schema.pick({ dataDir: true, databaseUrl: true, masterKeyFile: true }),
    flags,
    environment,
  );
}

function readSettings<S extends z.ZodObject>(
  wanted: S,
  flags: Flags,
  environment: Readonly<Record<string, string | undefined>>,
): z.output<S> {
  const given: Partial<Record<SettingName, unknown>> = {};
  const sourceOf = (name: SettingName): string =>
    flags[name] === undefined ? settings[name].variable : String(settings[name].flag.split(" ", 1)[0]);
  for (const name of Object.keys(wanted.shape) as SettingName[]) {
    const setting: Setting = settings[name];
    const variable = environment[setting.variable];
    // An empty variable is one that is not set, but where emptiness means something.
    const value = flags[name] ?? (variable === "" && !setting.emptyCounts ? undefined : variable);
    if (value !== undefined) given[name] = value;
  }
  const result = wanted.safeParse(given);
  const faults = (result.error?.issues ?? []).map((issue) => {
    const name = issue.path[0] as SettingName;
    const setting: Setting = settings[name];
    const value = setting.isSecret ? "" : ` "${String(given[name])}"`;
    return `${sourceOf(name)}${value}: ${issue.message}.`;
  });
  if (given.jwtSecret !== undefined && given.jwtSecretFile !== undefined) {
    faults.push(`${sourceOf("jwtSecret")} and ${sourceOf("jwtSecretFile")}: give one of the two.`);
  }
  if (result.success && faults.length === 0) return result.data;
  throw new StartError("settings_invalid", faults.join("\n"));
}

const dayMs = 24 * 60 * 60 * 1000;
const maxRetries = 50;
const maxRetryDelaySeconds = 30 * 24 * 60 * 60;
/** As short as a secret may be that nobody can guess. */
const minSecretLength = 16;

const schema = z.object({
  host: z.string().min(1, "give an address to listen on, such as 127.0.0.1").default("127.0.0.1"),
  port: wholeNumber(0, 65_535).default(8420),
  dataDir: z
    .string()
    .min(1, "give a folder")
    .default(".hookplane")
    .transform((folder) => resolve(folder)),
  databaseUrl: z
    .string()
    .refine(isDatabaseUrl, "give a URL such as postgres://user:password@host:5432/database")
    .nullable()
    .default(null),
  masterKeyFile: filePath(),
  allowSubnet: z
    .union([z.string(), z.array(z.string())])
    .default([])
    .transform((given) => [given].flat().flatMap(splitList))
    .refine((subnets) => subnets.every(isSubnet), "write each subnet as address/prefix, such as 10.0.0.0/8"),
  inbox: yesOrNo(),
  credentialsFile: filePath(),
  publicUrl: z
    .string()
    .refine(isBaseUrl, "give an absolute http or https URL without query and credentials")
    .transform((url) => url.replace(/\/+$/, ""))
    .nullable()
    .default(null),
  logLevel: z.enum(logLevels, `choose one of ${logLevels.join(", ")}`).default("info"),
  stopTimeoutSeconds: wholeNumber(0, 3600).default(10),
  maxBodyBytes: wholeNumber(1024, 64 * 1024 * 1024).default(1024 * 1024),
  maxInFlightRequests: wholeNumber(1, 1_000_000).default(1_000),
  maxBacklog: wholeNumber(0, Number.MAX_SAFE_INTEGER).default(10_000_000),
  retrySchedule: z
    .string()
    .transform(splitList)
    .refine(
      (waits) =>
        waits.length <= maxRetries &&
        waits.every((wait) => isDecimal(wait) && Number(wait) > 0 && Number(wait) <= maxRetryDelaySeconds),
      `give at most ${maxRetries} numbers of seconds, separated by commas, each above 0 and up to ${maxRetryDelaySeconds}`,
    )
    .transform((waits) => waits.map((wait) => Math.round(Number(wait) * 1000)))
    .default([...standardRetryDelaysMs]),
  requestTimeout: decimalNumber(0.1, 300).default(15),
  disableAfter: wholeNumber(0, 365 * 24 * 60 * 60).default(5 * 24 * 60 * 60),
  httpsOnly: yesOrNo(),
  defaultSignatureType: z
    .enum(signatureTypes, `choose one of ${signatureTypes.join(", ")}`)
    .default("hmac256"),
  signatureHeaders: z
    .enum(signatureFamilies, `choose one of ${signatureFamilies.join(", ")}`)
    .default("both"),
  payloadRetention: decimalNumber(0, 36_500).default(90),
  retention: decimalNumber(0, 36_500).default(90),
  retentionMaxBytes: wholeNumber(0, Number.MAX_SAFE_INTEGER).default(0),
  workers: wholeNumber(1, 256).nullable().default(null),
  proxy: z
    .string()
    .refine(
      canRead(parseProxy),
      "give an http, https, socks5 or socks5h URL without a path, such as http://proxy.example.com:3128",
    )
    .nullable()
    .default(null),
  noProxy: z
    .string()
    .transform((text) => splitList(text.toLowerCase()))
    .refine(
      canRead<string[]>(parseProxyExceptions),
      "give hosts, .domains, addresses and subnets, separated by commas, such as localhost,.example.com,10.0.0.0/8",
    )
    .default([]),
  caFile: z
    .string()
    .transform((file, context) => readOr(context, file, [], parseCertificates))
    .default([]),
  jwtSecret: z
    .string()
    .min(minSecretLength, `give at least ${minSecretLength} characters`)
    .nullable()
    .default(null),
  jwtSecretFile: z
    .string()
    .transform((file, context) => readOr(context, file, null, parseSecret))
    .nullable()
    .default(null),
});

/** Seconds, days and bytes for which 0 says that there is no bound. */
function unlessZero(value: number): number | null {
  return value === 0 ? null : value;
}

function filePath() {
  return z
    .string()
    .min(1, "give a file")
    .transform((file) => resolve(file))
    .nullable()
    .default(null);
}

function yesOrNo() {
  return z
    .union(
      [z.boolean(), z.enum(["true", "1", "false", "0"]).transform((text) => text === "true" || text === "1")],
      "say true or false",
    )
    .default(false);
}

function wholeNumber(min: number, max: number) {
  const message = `give a whole number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d+$/, message)
    .transform(Number)
    .refine((value) => value >= min && value <= max, message);
}

function decimalNumber(min: number, max: number) {
  const message = `give a number from ${min} to ${max}`;
  return z
    .string()
    .refine(isDecimal, message)
    .transform(Number)
    .refine((value) => value >= min && value <= max, message);
}

function isDecimal(text: string): boolean {
  return /^\d+(?:\.\d{1,3})?$/.test(text);
}

/** The members of a list that is separated by commas; none of an empty text. */
function splitList(text: string): string[] {
  return text.trim() === "" ? [] : text.split(",").map((member) => member.trim());
}

/** What a file holds, as `parse` reads it; a file that cannot be read or used is a fault, and `otherwise` stands for it. */
function readOr<T, U>(
  context: z.RefinementCtx,
  file: string,
  otherwise: U,
  parse: (text: string) => { readonly value: T } | { readonly problem: string },
): T | U {
  let problem: string;
  try {
    const result = parse(readFileSync(file, "utf8"));
    if ("value" in result) return result.value;
    ({ problem } = result);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    problem = `the file cannot be read (${code})`;
  }
  context.addIssue({ code: "custom", message: problem });
  return otherwise;
}

function parseCertificates(text: string) {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const isUsable = blocks.length > 0 && blocks.every(isCertificate);
  return isUsable
    ? { value: blocks }
    : { problem: "the file must hold certificates in PEM, all of them readable" };
}

function isCertificate(pem: string): boolean {
  try {
    new X509Certificate(pem);
    return true;
  } catch {
    return false;
  }
}

function parseSecret(text: string) {
  const value = text.trim();
  return value.length >= minSecretLength
    ? { value }
    : { problem: `the file must hold at least ${minSecretLength} characters` };
}

function isDatabaseUrl(text: string): boolean {
  return /^postgres(?:ql)?:\/\/./.test(text) && URL.canParse(text);
}

/** Whether the part of the service that reads it in earnest can. */
function canRead<T>(read: (value: T) => unknown): (value: T) => boolean {
  return (value) => {
    try {
      read(value);
      return true;
    } catch {
      return false;
    }
  };
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

/** More than a few cannot help while all of them write to one database. */
const mostDefaultWorkers = 8;

function defaultWorkers(): number {
  return Math.min(Math.max(1, availableParallelism() - 1), mostDefaultWorkers);
}

/** The variable of a credential: `HOOKPLANE_TWILIO_AUTH_TOKEN` for `authToken` of `twilio`. */
export function credentialVariable(section: string, name: string): string {
  const words = name.replace(/[A-Z]/g, (letter) => `_${letter}`);
  return `HOOKPLANE_${section}_${words}`.toUpperCase();
}
