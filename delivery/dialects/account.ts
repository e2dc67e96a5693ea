import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { z } from "zod";
import type { Application } from "../core/application.ts";
import type { Dialect } from "../core/dialect.ts";
import type { DeliveryOptions } from "../core/standard-delivery.ts";
import type { ApiDocumentation } from "../operation.ts";
import type { Store } from "../store/store.ts";
import type { Notices } from "../worker/notices.ts";
import type { Publisher } from "../worker/publisher.ts";

/** What a vendor's management routes work with. */
export interface AccountContext<Credentials> {
  /** The account's own application, made at start. */
  readonly application: Application;
  readonly credentials: Credentials;
  readonly store: Store;
  readonly publisher: Publisher;
  /** Whom changes of endpoints are told to, in the transaction that makes them. */
  readonly notices: Pick<Notices, "endpointChanged">;
  /** Whether URLs that events go to must be `https`; those that are there already stay as they are. */
  readonly httpsOnly: boolean;
  /** The service's own address, without a trailing slash. */
  publicUrl(): string;
  now(): number;
}

/** A vendor whose account the service holds: its API, its credentials and its dialect. One folder of `dialects/` each. */
export interface VendorAccount<Credentials = unknown> {
  /** The API's name: key in the credentials file, `uid` of the application. */
  readonly name: string;
  /** As people write it: `PAVE`. */
  readonly title: string;
  /** Where its routes are, such as `/pave/v1`. */
  readonly prefix: string;
  readonly credentials: z.ZodType<Credentials>;
  /** What its routes have in common in the service's OpenAPI document. */
  readonly documentation: ApiDocumentation;
  /** Fresh random credentials for a first start. */
  generateCredentials(): Credentials;
  /** `options`: what the operator decides where the vendor does not. */
  createDialect(credentials: Credentials, options: DeliveryOptions): Dialect;
  /** Answers with an error in the vendor's form: also a request that is turned down before a route is found for it. */
  sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply;
  /** Registers the management routes on an instance that already has `prefix`. */
  registerRoutes(instance: FastifyInstance, context: AccountContext<Credentials>): void;
}
