import { randomUUID } from "node:crypto";
import fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from "fastify";
import type { Application } from "../core/application.ts";
import type { Dialect } from "../core/dialect.ts";
import type { SignatureType } from "../core/standard-webhooks.ts";
import type { AccountContext, VendorAccount } from "../dialects/account.ts";
import type { Logger } from "../log.ts";
import type { Store } from "../store/store.ts";
import type { Directory } from "../worker/directory.ts";
import type { Notices } from "../worker/notices.ts";
import type { Publisher } from "../worker/publisher.ts";
import type { TaskRunner } from "../worker/tasks.ts";
import { limitBodies, limitPublishing, type AdmissionLimits } from "./admission.ts";
import { registerAppPortal } from "./app-portal.ts";
import { registerApplications } from "./applications.ts";
import { registerAttempts } from "./attempts.ts";
import { authenticate } from "./auth.ts";
import { createCallers } from "./callers.ts";
import { answerClientError } from "./client-error.ts";
import { registerEndpoints } from "./endpoints.ts";
import { sendError, type ErrorBody } from "./errors.ts";
import { registerEventTypes } from "./event-types.ts";
import { registerHealth } from "./health.ts";
import { registerHook } from "./hook.ts";
import { registerInbox } from "./inbox.ts";
import { addJsonParser } from "./input.ts";
import { registerMessageBatch } from "./message-batch.ts";
import { registerMessages } from "./messages.ts";
import { makeOperational, toOperationalPath } from "./operational-webhooks.ts";
import { registerOpenApi } from "./openapi.ts";
import { registerOrder } from "./order.ts";
import { registerOrganizations } from "./organizations.ts";
import { registerRecover } from "./recover.ts";
import { registerSendExample } from "./send-example.ts";
import { registerStats } from "./stats.ts";
import { registerTail } from "./tail.ts";
import { registerTasks } from "./tasks.ts";
import { registerTokens } from "./tokens.ts";

/** What the HTTP side of the service works with. */
export interface ServerContext {
  readonly store: Store;
  readonly publisher: Publisher;
  /** Whom changes of endpoints are told to. */
  readonly notices: Pick<Notices, "endpointChanged">;
  /** To be woken when there is a new background task. */
  readonly tasks: Pick<TaskRunner, "wake">;
  /** Applications and event types as last committed, from memory. */
  readonly directory: Directory;
  /** The vendor accounts the service holds; their routes are mounted at their prefixes. */
  readonly accounts: readonly ServedAccount[];
  /** The dialect that delivers an application's events. */
  dialectOf(application: Application): Dialect;
  /** The administrator's Bearer token. */
  readonly adminToken: string;
  /** The key of JWTs that name an organization; null where none are accepted. */
  readonly jwtSecret: string | null;
  /** Whether `/inbox/:name` is there. */
  readonly inbox: boolean;
  /** Whether endpoints may have `https` URLs alone. */
  readonly httpsOnly: boolean;
  /** What a signing secret is that the service makes. */
  readonly defaultSignatureType: SignatureType;
  readonly limits: AdmissionLimits;
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

/** The request line and all headers together, in bytes; more is answered with 431. */
const maxHeadBytes = 16 * 1024;
/** How long a client may take to send a whole request. */
const requestTimeoutMs = 60_000;
/** The longest name is 256 characters, percent-encoded three times as long. */
const maxParamLength = 768;

/** Builds the HTTP server with every route; it does not listen yet. */
export function createServer(context: ServerContext): FastifyInstance {
  const loggerInstance: FastifyBaseLogger = context.logger;
  const server = fastify({
    bodyLimit: context.limits.maxBodyBytes,
    http: { maxHeaderSize: maxHeadBytes },
    requestTimeout: requestTimeoutMs,
    rewriteUrl: ({ url = "" }) => toOperationalPath(url),
    // Older clients of Svix's API end every path with a slash.
    routerOptions: { maxParamLength, ignoreTrailingSlash: true },
    loggerInstance,
    logController: new LogController({ disableRequestLogging: true }),
    requestIdHeader: false,
    genReqId: createRequestIds(),
    // A logger of its own for each request costs more than the routing: what logs names the request itself.
    childLoggerFactory: (logger) => logger,
    // A request that Fastify turns down before a route is found, and before any hook.
    frameworkErrors: (error, request, reply) => {
      void reply.header("x-request-id", request.id);
      const served = context.accounts.find(({ account }) => request.url.startsWith(`${account.prefix}/`));
      if (served === undefined) sendError(error, request, reply);
      else served.account.sendError(error, request, reply);
    },
    clientErrorHandler: answerClientError,
  });
  const allowedMethods = collectMethods(server);
  const authenticated = authenticate(createCallers(context));

  server.decorateRequest("caller");
  server.setErrorHandler(sendError);
  server.setNotFoundHandler(answerNotFound(allowedMethods));
  server.addHook("onRequest", (request, reply, done) => {
    void reply.header("x-request-id", request.id);
    done();
  });
  if (context.logger.isLevelEnabled("debug")) server.addHook("onResponse", logRequest);

  registerOpenApi(server, context);
  limitBodies(server, context.limits);
  registerHealth(server, context);
  void server.register(
    async (api) => {
      addJsonParser(api);
      api.addHook("onRequest", authenticated);
      limitPublishing(api, context.limits);
      api.addHook("preHandler", makeOperational(context));
      // Its own handler, so that only callers with the token learn which routes there are.
      api.setNotFoundHandler(answerNotFound(allowedMethods));
      registerApplications(api, context);
      registerEventTypes(api, context);
      registerEndpoints(api, context);
      registerStats(api, context);
      registerOrder(api, context);
      registerSendExample(api, context);
      registerMessages(api, context);
      registerMessageBatch(api, context);
      registerAttempts(api, context);
      registerRecover(api, context);
      registerTasks(api, context);
      registerTail(api, context, authenticated);
      registerHook(api, context);
      registerAppPortal(api, context);
      registerOrganizations(api, context);
      registerTokens(api, context);
    },
    { prefix: "/api/v1" },
  );
  if (context.inbox) registerInbox(server, context, authenticated);
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

/** Ids of requests, unique over all processes: a random start, and a number behind it. */
function createRequestIds(): () => string {
  const start = randomUUID();
  let count = 0;
  return () => `${start}-${(count++).toString(36)}`;
}

async function logRequest(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  request.log.debug({
    requestId: request.id,
    method: request.method,
    // The route rather than the URL: a query may hold what is not meant for a log.
    route: request.routeOptions.url ?? null,
    status: reply.statusCode,
    ms: Math.round(reply.elapsedTime),
  });
}

/** Which methods a path is served with, learned from the routes as they are registered. */
function collectMethods(server: FastifyInstance): (path: string) => readonly string[] {
  const routes: { pattern: RegExp; methods: readonly string[] }[] = [];
  server.addHook("onRoute", ({ url, method }) => {
    const pattern = new RegExp(`^${url.replaceAll(/:[^/]+/g, "[^/]+")}/?$`);
    routes.push({ pattern, methods: [method].flat() });
  });
  return (path) => {
    const matching = routes.filter(({ pattern }) => pattern.test(path));
    return [...new Set(matching.flatMap(({ methods }) => methods))];
  };
}

function answerNotFound(allowedMethods: (path: string) => readonly string[]) {
  return (request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const path = request.url.split("?", 1)[0] ?? "";
    const allowed = allowedMethods(path);
    const body: ErrorBody =
      allowed.length === 0
        ? { code: "not_found", detail: "There is nothing at this path." }
        : {
            code: "method_not_allowed",
            detail: `"${request.method}" is not served here: use ${allowed.join(", ")}.`,
          };
    if (allowed.length > 0) void reply.header("allow", allowed.join(", "));
    return reply.code(allowed.length === 0 ? 404 : 405).send(body);
  };
}
