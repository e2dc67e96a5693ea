import { promises as dns } from "node:dns";

export interface Address {
  readonly address: string;
  /** 4 or 6. */
  readonly family: number;
}

/** Finds all addresses of a host name. */
export type Resolve = (hostname: string) => Promise<readonly Address[]>;

/** The system's resolver, which knows the hosts file and search domains too. */
export const systemResolve: Resolve = (hostname) => dns.lookup(hostname, { all: true });

/** How long an answer is kept at least and at most. In between, it is kept as long as it took. */
const minKeptMs = 1_000;
const maxKeptMs = 30_000;
/** Names whose answers are kept. */
const maxNames = 10_000;

interface Lookup {
  readonly addresses: Promise<readonly Address[]>;
  /** Infinity while it goes on. */
  keptUntil: number;
}

/**
 * A resolver that asks for each name only once at a time, and keeps the answer, an error too, for a moment. The system's
 * lookups run on a few threads, which some names that nobody answers for would fill up otherwise.
 *
 * @param now milliseconds on a clock that never jumps
 */
export function shareLookups(resolve: Resolve, now: () => number): Resolve {
  const lookups = new Map<string, Lookup>();
  return (hostname) => {
    const startedAt = now();
    const known = lookups.get(hostname);
    if (known && known.keptUntil > startedAt) return known.addresses;
    lookups.delete(hostname);
    for (const oldest of lookups.keys()) {
      if (lookups.size < maxNames) break;
      lookups.delete(oldest);
    }
    const lookup: Lookup = { addresses: resolve(hostname), keptUntil: Infinity };
    const keep = (): void => {
      const tookMs = now() - startedAt;
      lookup.keptUntil = now() + Math.min(Math.max(tookMs, minKeptMs), maxKeptMs);
    };
    lookup.addresses.then(keep, keep);
    lookups.set(hostname, lookup);
    return lookup.addresses;
  };
}
