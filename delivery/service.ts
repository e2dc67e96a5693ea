import type { Config } from "./config.ts";
import type { Credentials } from "./credentials.ts";
import type { Logger } from "./log.ts";

/** A service that listens. */
export interface Service {
  /** Its address, such as `http://127.0.0.1:8420`: what deliveries, links and clients use. */
  readonly url: string;
  /** What the credentials file says, for clients in the same process. */
  readonly credentials: Credentials;
  /** Takes no more requests, lets deliveries in flight end (at most `stopTimeoutMs`), and lets go of the data folder. */
  close(): Promise<void>;
}

/**
 * Starts the service: it listens and its store works when this resolves.
 *
 * For a test: `openService({ ...defaultConfig(), port: 0, dataDir, inbox: true, allowSubnets: ["127.0.0.0/8"] }, createLogger("silent"))`.
 *
 * @throws StartError naming what stands in the way and what to do
 */
export declare function openService(config: Config, logger: Logger): Promise<Service>;
