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
/** A name that took longer than this the last time is a slow one. */
const slowMs = 1_000;
/** Slow names that are asked for at the same time: half of what the threads of the process can do. */
const maxSlowLookups = 16;

interface Lookup {
  addresses: Promise<readonly Address[]>;
  /** Infinity while it goes on. */
  keptUntil: number;
  tookMs: number;
}

/**
 * A resolver that asks for each name only once at a time, and keeps the answer, an error too, for a moment. The system's
 * lookups run on a few threads, which names that nobody answers for would fill up otherwise: those that were slow before
 * never get all of them.
 *
 * @param now milliseconds on a clock that never jumps
 */
export function shareLookups(resolve: Resolve, now: () => number): Resolve {
  const lookups = new Map<string, Lookup>();
  const takeTurn = createTurns(maxSlowLookups);

  const ask = async (hostname: string, lookup: Lookup): Promise<readonly Address[]> => {
    // What it took before says in which queue it stands.
    const endTurn = lookup.tookMs > slowMs ? await takeTurn() : null;
    const startedAt = now();
    try {
      return await resolve(hostname);
    } finally {
      endTurn?.();
      const endedAt = now();
      lookup.tookMs = endedAt - startedAt;
      lookup.keptUntil = endedAt + Math.min(Math.max(lookup.tookMs, minKeptMs), maxKeptMs);
    }
  };

  return (hostname) => {
    const known = lookups.get(hostname);
    if (known && known.keptUntil > now()) return known.addresses;
    lookups.delete(hostname);
    for (const oldest of lookups.keys()) {
      if (lookups.size < maxNames) break;
      lookups.delete(oldest);
    }
    const lookup: Lookup = {
      addresses: Promise.resolve([]),
      keptUntil: Infinity,
      tookMs: known?.tookMs ?? 0,
    };
    lookup.addresses = ask(hostname, lookup);
    lookups.set(hostname, lookup);
    return lookup.addresses;
  };
}

/** Lets so many go on at a time, the others in order; whoever has a turn calls what it got to end it. */
function createTurns(count: number): () => Promise<() => void> {
  let taken = 0;
  const waiting: (() => void)[] = [];
  const end = (): void => {
    const next = waiting.shift();
    if (next) next();
    else taken--;
  };
  return async () => {
    if (taken < count) taken++;
    else {
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
      });
    }
    return end;
  };
}
