import { isIP } from "node:net";
import { resolve } from "node:path";
import { z } from "zod";
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

/** Each setting when nothing is said about it; `dataDir` is relative to the folder one is in. */
export function defaultConfig(): Config {
  return {
    host: "127.0.0.1",
    port: 8420,
    dataDir: resolve(".hookplane"),
    allowSubnets: [],
    inbox: false,
    credentialsFile: null,
    credentials: {},
    logLevel: "info",
    stopTimeoutMs: 10_000,
    publicUrl: null,
    maxBodyBytes: 1024 * 1024,
  };
}
