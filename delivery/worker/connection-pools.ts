import type { Socket } from "node:net";
import { Connection, type ConnectionOwner } from "./connection.ts";
import type { Exchange } from "./exchange.ts";

/** Where connections lead: those of one key are alike, and may take each other's requests. */
export interface Origin {
  /** Scheme, host and port, and who the service shows itself as. */
  readonly key: string;
  /** As people read it, such as `https://hooks.example.com`. */
  readonly name: string;
}

export interface PoolOptions<O extends Origin> {
  /** Makes a connection to the origin, gives it what comes, and stops when the signal says so. */
  readonly connect: (origin: O, receive: Connection["receive"], signal: AbortSignal) => Promise<Socket>;
  /** How many connections one origin has at most. */
  readonly connections: number;
  /** How many requests wait for one of them at most. */
  readonly maxWaiting: number;
  /** How many free connections are kept at most, of all origins. */
  readonly maxIdle: number;
  /** How long a free connection is kept where the receiver says nothing about it. */
  readonly keepAliveMs: number;
  /** For Retry-After dates. */
  readonly now: () => number;
}

/** The longest that a free connection is kept, whatever the receiver offers. */
const maxKeepAliveMs = 60_000;
/** A connection is let go so long before its receiver would close it: a request takes a moment to get there. */
const keepAliveMarginMs = 1_000;
/** How often those that were kept long enough are closed. */
const sweepMs = 1_000;

/**
 * Keeps connections, apart for each origin: one that hangs takes no other's. Origins come and go with their connections.
 *
 * What is asked for in a turn of the event loop is sent at its end. That a kept connection was closed by its receiver, or
 * that something came on it which nobody asked for, is then noticed before it is used again.
 */
export class ConnectionPools<O extends Origin> {
  readonly options: PoolOptions<O>;
  readonly #pools = new Map<string, Pool<O>>();
  /** Those with free connections; the one that has had some for longest is the first. */
  readonly #idlePools = new Set<Pool<O>>();
  #idle = 0;
  #changed: Pool<O>[] = [];
  #sweep: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: PoolOptions<O>) {
    this.options = options;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** How many connections there are: busy, free and being made. */
  get size(): number {
    let size = 0;
    for (const pool of this.#pools.values()) size += pool.size;
    return size;
  }

  /** The origin's pool; another one once it `isRetired`. */
  of(origin: O): Pool<O> {
    let pool = this.#pools.get(origin.key);
    if (!pool) {
      pool = new Pool(this, origin);
      this.#pools.set(origin.key, pool);
    }
    return pool;
  }

  /** Cuts off all connections; what waits fails with the reason. */
  close(reason: string): void {
    this.#isClosed = true;
    clearInterval(this.#sweep);
    for (const pool of this.#pools.values()) pool.close(reason);
    this.#pools.clear();
  }

  /** The pool has something to do at the end of this turn. */
  onChanged(pool: Pool<O>): void {
    if (this.#changed.push(pool) > 1) return;
    setImmediate(() => {
      this.#flush();
    });
  }

  /** The pool has more or fewer free connections. */
  onIdleChanged(pool: Pool<O>, change: number): void {
    if (change === 0) return;
    this.#idle += change;
    if (pool.idle === 0) this.#idlePools.delete(pool);
    else this.#idlePools.add(pool);
    this.#sweep ??= setInterval(() => {
      this.#closeExpired();
    }, sweepMs).unref();
  }

  #flush(): void {
    const changed = this.#changed;
    this.#changed = [];
    if (this.#isClosed) return;
    const now = performance.now();
    for (const pool of changed) {
      pool.flush(now);
      if (pool.isEmpty) this.#retire(pool);
    }
    for (const pool of this.#idlePools) {
      if (this.#idle <= this.options.maxIdle) break;
      pool.closeIdle(this.#idle - this.options.maxIdle);
    }
  }

  #retire(pool: Pool<O>): void {
    pool.isRetired = true;
    if (this.#pools.get(pool.origin.key) === pool) this.#pools.delete(pool.origin.key);
  }

  #closeExpired(): void {
    const now = performance.now();
    for (const pool of this.#idlePools) pool.closeExpired(now);
    if (this.#idle > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }
}

/** The connections of one origin. */
export class Pool<O extends Origin> implements ConnectionOwner {
  readonly origin: O;
  readonly now: () => number;
  /** It has neither connections nor requests, and another one took its place. */
  isRetired = false;

  readonly #pools: ConnectionPools<O>;
  readonly #connections = new Set<Connection>();
  /** The one that was used last is the last, and the next to be used. */
  readonly #free: Connection[] = [];
  /** Will be free at the end of this turn. */
  readonly #resting: Connection[] = [];
  /** Came in this turn. */
  #arrived: Exchange[] = [];
  readonly #waiting = new Set<Exchange>();
  #hasChanged = false;

  constructor(pools: ConnectionPools<O>, origin: O) {
    this.#pools = pools;
    this.origin = origin;
    this.now = pools.options.now;
  }

  get size(): number {
    return this.#connections.size;
  }

  get idle(): number {
    return this.#free.length;
  }

  get isEmpty(): boolean {
    return this.#connections.size === 0 && this.#waiting.size === 0 && this.#arrived.length === 0;
  }

  /** Takes a request, to be sent as soon as a connection can have it. */
  add(exchange: Exchange): void {
    this.#arrived.push(exchange);
    this.#change();
  }

  flush(now: number): void {
    this.#hasChanged = false;
    const idle = this.idle;
    for (const connection of this.#resting) {
      if (!connection.isClosed) this.#free.push(connection);
    }
    this.#resting.length = 0;
    for (const exchange of this.#waiting) {
      if (!this.#assign(exchange, now)) break;
      this.#waiting.delete(exchange);
      exchange.queue = null;
    }
    const arrived = this.#arrived;
    this.#arrived = [];
    for (const exchange of arrived) {
      if (!exchange.isSettled && !this.#assign(exchange, now)) this.#wait(exchange);
    }
    this.#pools.onIdleChanged(this, this.idle - idle);
  }

  /** Closes the given number of free connections, the one that has been free for longest first. */
  closeIdle(count: number): void {
    for (const connection of this.#free.slice(0, count)) connection.destroy();
  }

  closeExpired(now: number): void {
    for (const connection of this.#free.filter(({ idleUntil }) => idleUntil <= now)) connection.destroy();
  }

  close(reason: string): void {
    for (const connection of this.#connections) {
      connection.exchange?.fail(reason);
      connection.destroy();
    }
    for (const exchange of this.#arrived) exchange.fail(reason);
    for (const exchange of this.#waiting) exchange.fail(reason);
  }

  onFree(connection: Connection, offeredMs: number | null): void {
    const keptMs =
      offeredMs === null
        ? this.#pools.options.keepAliveMs
        : Math.min(offeredMs - keepAliveMarginMs, maxKeepAliveMs);
    if (keptMs <= 0) {
      connection.destroy();
      return;
    }
    connection.idleUntil = performance.now() + keptMs;
    this.#resting.push(connection);
    this.#change();
  }

  onClosed(connection: Connection): void {
    this.#connections.delete(connection);
    const index = this.#free.indexOf(connection);
    if (index >= 0) {
      this.#free.splice(index, 1);
      this.#pools.onIdleChanged(this, -1);
    }
    this.#change();
  }

  onStale(exchange: Exchange): void {
    // Others that were kept may be closed as well.
    this.#open(exchange);
  }

  #change(): void {
    if (this.#hasChanged) return;
    this.#hasChanged = true;
    this.#pools.onChanged(this);
  }

  /** Finds the request a connection, or has one made; false where it must wait. */
  #assign(exchange: Exchange, now: number): boolean {
    let connection: Connection | undefined;
    while ((connection = this.#free.pop())) {
      if (connection.idleUntil > now) {
        connection.send(exchange);
        return true;
      }
      connection.destroy();
    }
    if (this.size >= this.#pools.options.connections) return false;
    this.#open(exchange);
    return true;
  }

  #open(exchange: Exchange): void {
    const { connect } = this.#pools.options;
    this.#connections.add(
      new Connection(this, (receive, signal) => connect(this.origin, receive, signal), exchange),
    );
  }

  #wait(exchange: Exchange): void {
    const { maxWaiting, connections } = this.#pools.options;
    if (this.#waiting.size < maxWaiting) {
      this.#waiting.add(exchange);
      exchange.queue = this.#waiting;
    } else {
      exchange.fail(
        `not sent: all ${connections} connections to "${this.origin.name}" are in use and ${maxWaiting} requests wait for one`,
      );
    }
  }
}
