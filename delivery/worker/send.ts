import type { ClientTls } from "../core/client-tls.ts";
import type { OutgoingRequest } from "../core/dialect.ts";
import { ConnectionPools, type Pool } from "./connection-pools.ts";
import { createConnector, type Target } from "./connector.ts";
import { Deadlines } from "./deadlines.ts";
import { toDestination, toHead, type Destination } from "./destination.ts";
import { Exchange, type Sent } from "./exchange.ts";
import { createAddressGuard } from "./guard.ts";
import { shareLookups, systemResolve, type Resolve } from "./names.ts";
import { parseProxyExceptions } from "./proxy-exceptions.ts";
import { parseProxy } from "./proxy.ts";
import { reasonOf } from "./reason.ts";
import { createTlsIdentities } from "./tls-identities.ts";

export type { Sent } from "./exchange.ts";

/** How long a connection may take to be made. */
const connectTimeoutMs = 10_000;
/** How much of an answer is kept for the record. */
const defaultKeptBytes = 16 * 1024;
/** How long a free connection is kept where the receiver says nothing about it. */
const keepAliveMs = 4_000;
/** URLs that are not parsed anew for each request. */
const maxKnownUrls = 50_000;

interface SendLimits {
  /** How long the answer may take in all, connecting included. */
  readonly timeoutMs: number;
  /** How much of the answer is kept: 16 KiB by default, at most 64 KiB. */
  readonly keptBytes?: number;
  /** What is shown and believed on a TLS connection; null, the default, for the service's own. */
  readonly tls?: ClientTls | null;
}

/** Makes requests and tells what came of them: it never throws, and never follows a redirect. */
export interface Sender {
  send(request: OutgoingRequest, limits: SendLimits): Promise<Sent>;
  /** Cuts off what is still on its way. */
  close(): Promise<void>;
  /** Whether `close` was called: requests that fail from then on say nothing about their receiver. */
  readonly isClosed: boolean;
}

export interface SenderOptions {
  /** Subnets that may be reached although they are not public. */
  readonly allowSubnets: readonly string[];
  /** Sent where the request has no `user-agent` of its own. */
  readonly userAgent: string;
  /** The system's resolver by default. */
  readonly resolve?: Resolve;
  /** For Retry-After dates. */
  readonly now: () => number;
  /** URL of an http, https or socks5 proxy, which may hold a user name and password; null, the default, for none. */
  readonly proxy?: string | null;
  /** What is reached without the proxy; see `parseProxyExceptions`. */
  readonly noProxy?: readonly string[];
  /** Certificates in PEM that are believed besides the public ones; null, the default, for none. */
  readonly ca?: string | null;
  /** How many connections one origin has at most: 1,024 by default. Many endpoints may share one, and those that hang
   * must not keep the others from it: each is bounded by its lane. */
  readonly connections?: number;
  /** How many requests wait at most where an origin's connections are all in use: 10,000 by default. */
  readonly maxWaitingRequests?: number;
  /** How many free connections are kept at most, of all origins: 1,024 by default. */
  readonly maxIdleConnections?: number;
}

/** Where a request goes, and as whom. */
interface Route extends Target {
  readonly name: string;
}

/** A URL that requests went to before. */
interface KnownUrl {
  readonly destination: Destination;
  /** For requests that show no certificate of their own. */
  pool: Pool<Route> | null;
}

/**
 * A sender that keeps connections alive for each origin and goes only where the address guard lets it.
 *
 * @throws Error for a proxy, an exception from it or a certificate that cannot be used
 */
export function createSender(options: SenderOptions): Sender {
  const { userAgent, proxy = null, noProxy = [], ca = null, connections = 1_024 } = options;
  const identities = createTlsIdentities(ca);
  const resolve = shareLookups(options.resolve ?? systemResolve, () => performance.now());
  const connect = createConnector({
    guard: createAddressGuard({ allowSubnets: options.allowSubnets, resolve }),
    proxy: proxy === null ? null : parseProxy(proxy),
    proxyExceptions: parseProxyExceptions(noProxy),
    serviceIdentity: identities.service,
    timeoutMs: connectTimeoutMs,
  });
  const pools = new ConnectionPools<Route>({
    connect,
    connections,
    maxWaiting: options.maxWaitingRequests ?? 10_000,
    maxIdle: options.maxIdleConnections ?? 1_024,
    keepAliveMs,
    now: options.now,
  });
  const deadlines = new Deadlines<Exchange>((exchange, timeoutMs) => {
    exchange.giveUp(timeoutMs);
  });
  const knownUrls = new Map<string, KnownUrl>();

  const find = (url: string): KnownUrl => {
    const known = knownUrls.get(url);
    if (known) return known;
    const added = { destination: toDestination(url), pool: null };
    // Which one goes matters little: the busy ones are soon back.
    for (const oldest of knownUrls.keys()) {
      if (knownUrls.size < maxKnownUrls) break;
      knownUrls.delete(oldest);
    }
    knownUrls.set(url, added);
    return added;
  };
  const poolOf = (known: KnownUrl, tls: ClientTls | null | undefined): Pool<Route> => {
    const { destination } = known;
    const { isTls, hostname, port, origin } = destination;
    const identity = tls && isTls ? identities.of(tls) : identities.service;
    if (identity === identities.service && known.pool?.isRetired === false) return known.pool;
    const key = `${identity.id} ${origin}`;
    const pool = pools.of({ key, name: origin, isTls, hostname, port, identity });
    if (identity === identities.service) known.pool = pool;
    return pool;
  };

  return {
    send: ({ url, method, headers, body }, { timeoutMs, keptBytes = defaultKeptBytes, tls }) =>
      new Promise((resolve) => {
        const startedAt = performance.now();
        try {
          if (pools.isClosed) throw new Error("the service is stopping");
          const known = find(url);
          const head = toHead(
            known.destination,
            method,
            headers,
            userAgent,
            body?.byteLength ?? (method === "POST" ? 0 : null),
          );
          const pool = poolOf(known, tls);
          const exchange = new Exchange({ head, body, keptBytes }, startedAt, resolve);
          deadlines.add(exchange, timeoutMs, startedAt);
          pool.add(exchange);
        } catch (error) {
          const reason = `not sent: ${reasonOf(error)}`;
          resolve({ answer: { kind: "error", reason }, body: reason, durationMs: 0 });
        }
      }),
    close: async () => {
      pools.close("the service is stopping");
      deadlines.close();
    },
    get isClosed() {
      return pools.isClosed;
    },
  };
}
