import fastify, { type FastifyInstance } from "fastify";
import type { Logger } from "pino";
import type { Application } from "../core/application.ts";
import type { Dialect } from "../core/dialect.ts";
import type { AccountContext, VendorAccount } from "../dialects/account.ts";
import type { Store } from "../store/store.ts";
import type { Publisher } from "../worker/publisher.ts";

/** What the HTTP side of the service works with. */
export interface ServerContext {
  readonly store: Store;
  readonly publisher: Publisher;
  /** The vendor accounts the service holds; their routes are mounted at their prefixes. */
  readonly accounts: readonly ServedAccount[];
  /** The dialect that delivers an application's events. */
  dialectOf(application: Application): Dialect;
  /** The Bearer token of `/api/v1` and of the inbox's reading side. */
  readonly adminToken: string;
  /** Whether `/inbox/:name` is there. */
  readonly inbox: boolean;
  readonly limits: {
    /** The largest request body that is read; a larger one is answered with 413. */
    readonly maxBodyBytes: number;
  };
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  now(): number;
  /** The service's own address, without a trailing slash; known once it listens. */
  publicUrl(): string;
  /** The package's version, as `/healthz` tells it. */
  readonly version: string;
}

/** A vendor account with what its routes and its events need. */
export interface ServedAccount {
  readonly account: VendorAccount;
  readonly context: AccountContext<unknown>;
  readonly dialect: Dialect;
}

/** Builds the HTTP server with every route; it does not listen yet. */
export function createServer(context: ServerContext): FastifyInstance {
  const server = fastify({ bodyLimit: context.limits.maxBodyBytes });
  for (const { account, context: accountContext } of context.accounts) {
    void server.register(
      async (instance) => {
        account.registerRoutes(instance, accountContext);
      },
      { prefix: account.prefix },
    );
  }
  return server;
}
