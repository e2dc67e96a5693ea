import type { AddressInfo } from "node:net";
import { isIP } from "node:net";
import { join } from "node:path";
import { createServer, type ServedAccount } from "./api/server.ts";
import type { Config } from "./config.ts";
import type { Application } from "./core/application.ts";
import type { Dialect } from "./core/dialect.ts";
import { newId } from "./core/ids.ts";
import { defaultOrganizationId } from "./core/organization.ts";
import { emptyPolicy } from "./core/policy.ts";
import type { DeliveryOptions } from "./core/standard-delivery.ts";
import { loadCredentials, type Credentials } from "./credentials.ts";
import type { VendorAccount } from "./dialects/account.ts";
import { accounts, createSvixDialect } from "./dialects/index.ts";
import { ServiceError, StartError } from "./errors.ts";
import type { Logger } from "./log.ts";
import { openDataFolder } from "./store/data-folder.ts";
import { openPostgresStore } from "./store/postgres-store.ts";
import { openSqliteStore, sqlitePathOf } from "./store/sqlite-store.ts";
import { toStartError } from "./store/start-failure.ts";
import { ConflictError, type Store } from "./store/store.ts";
import { version } from "./version.ts";
import { createDirectory } from "./worker/directory.ts";
import { Dispatcher } from "./worker/dispatch.ts";
import { joinAlone, joinOthers, joinWorkers } from "./worker/membership.ts";
import { createOperationalEvents } from "./worker/operational-events.ts";
import { createReplayKinds } from "./worker/recover.ts";
import { RetentionWorker } from "./worker/retention.ts";
import { createScheduleClock } from "./worker/schedule-clock.ts";
import { openKeyRotation } from "./worker/key-rotation.ts";
import { createSender } from "./worker/send.ts";
import { TaskRunner } from "./worker/tasks.ts";

/** The place of a worker among those of one data folder. */
export interface Seat {
  readonly index: number;
  /** The number of the worker that died in this place, and whose deliveries are taken up; null for none. */
  readonly predecessor: number | null;
}

/** A service that listens. */
export interface Service {
  /** The address it listens on, such as `http://127.0.0.1:8420`. */
  readonly url: string;
  /** What the credentials file says, for clients in the same process. */
  readonly credentials: Credentials;
  /** Takes no more events, lets deliveries under way end (at most `stopTimeoutMs`), and lets go of the data folder. */
  close(): Promise<void>;
}

/**
 * Starts the service: it listens and its store works when this resolves.
 *
 * @param seat where this process is one of several workers, see `openWorkers`; null, the default, where it is alone
 * @param onJoined hears the number under which it takes deliveries
 *
 * In a test: `openService({ ...defaultConfig(), port: 0, dataDir, allowSubnets: ["127.0.0.0/8"] }, createLogger("silent"))`.
 *
 * @throws StartError saying what stands in the way and what to do
 */
export async function openService(
  config: Config,
  logger: Logger,
  seat: Seat | null = null,
  onJoined: (node: number) => void = () => undefined,
): Promise<Service> {
  return await tellingOutages(config, () => open(config, logger, seat, onJoined));
}

/**
 * What comes before any worker: takes the data folder, brings the database up to date, and makes what the first start
 * makes. The folder is held until `close()`.
 *
 * @throws StartError as `openService` does
 */
export async function prepareService(config: Config): Promise<{ close(): Promise<void> }> {
  return await tellingOutages(config, async () => {
    await using opened = new AsyncDisposableStack();
    const folder = openDataFolder(config.dataDir);
    opened.defer(() => {
      folder.close();
    });
    const store = await openStore(config);
    try {
      loadCredentials(config, accounts);
      for (const account of accounts) await ensureApplication(store, account, Date.now());
      // Whoever has the folder knows that nobody else delivers from the database in it.
      if (config.databaseUrl === null) await store.write((tx) => tx.nodes.bury(Number.MAX_SAFE_INTEGER));
    } finally {
      await store.close();
    }
    const closing = opened.move();
    return { close: () => closing.disposeAsync() };
  });
}

async function tellingOutages<T>(config: Config, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    // What failed first is the reason, and not what then could not be closed.
    let reason: unknown = error;
    while (reason instanceof SuppressedError) reason = reason.suppressed;
    // Once the store is open, it tells an outage, such as a full disk, as requests are told it.
    if (!(reason instanceof ServiceError)) throw reason;
    throw toStartError(config.databaseUrl === null ? sqlitePathOf(config.dataDir) : "PostgreSQL", reason, {
      code: "database_unusable",
      remedy: "Try again once the database can be reached.",
    });
  }
}

async function open(
  config: Config,
  logger: Logger,
  seat: Seat | null,
  onJoined: (node: number) => void,
): Promise<Service> {
  // What was opened is closed in the reverse order, also when a later step fails.
  await using opened = new AsyncDisposableStack();
  // A worker's folder is held by the process that started it.
  const folder = seat === null ? openDataFolder(config.dataDir) : null;
  opened.defer(() => {
    folder?.close();
  });
  const store = await openStore(config, logger);
  opened.defer(() => store.close());
  const keyRotation = openKeyRotation({ store, logger });
  opened.defer(() => keyRotation.close());
  const credentials = loadCredentials(config, accounts);

  const now = Date.now;
  const options: DeliveryOptions = {
    retryDelaysMs: config.retryDelaysMs,
    timeoutMs: config.requestTimeoutMs,
    signatureHeaders: config.signatureHeaders,
  };
  const svixDialect = createSvixDialect(options);
  const dialects = new Map<string, Dialect>([[svixDialect.name, svixDialect]]);
  for (const account of accounts) {
    dialects.set(account.name, account.createDialect(credentials[account.name], options));
  }
  const dialectOf = (application: Application): Dialect => {
    const dialect = dialects.get(application.dialect);
    if (dialect) return dialect;
    throw new Error(`This version has no dialect "${application.dialect}", which "${application.id}" needs`);
  };

  const sender = createSender({
    allowSubnets: config.allowSubnets,
    userAgent: `Hookplane/${version}`,
    now,
    proxy: config.proxy,
    noProxy: config.noProxy,
    ca: config.caCertificates.length === 0 ? null : config.caCertificates.join("\n"),
  });
  const clock = createScheduleClock();
  const isShared = config.databaseUrl !== null || seat !== null;
  let discover: () => Promise<void> = async () => undefined;
  const onBuried = (): void => {
    discover().catch((error: unknown) => {
      logger.error({ err: error }, "what a node has left could not be looked for; trying again");
    });
  };
  const membership = await (config.databaseUrl !== null
    ? joinOthers({ store, clock, logger, onBuried })
    : seat !== null
      ? joinWorkers({ store, clock }, seat.predecessor)
      : joinAlone({ store, clock }));
  opened.defer(() => membership.close());
  onJoined(membership.number);
  const directory = createDirectory(store, { isShared });
  const notices = createOperationalEvents({
    store,
    directory,
    publisher: { publishWithin: (...event) => dispatcher.publishWithin(...event) },
  });
  const dispatcher: Dispatcher = new Dispatcher({
    store,
    directory,
    membership,
    sender,
    dialectOf,
    notices,
    logger,
    now,
    clock,
    random: Math.random,
    isShared,
    disableAfterMs: config.disableAfterMs,
    maxBacklog: config.maxBacklog,
  });
  discover = () => dispatcher.discover();
  const kinds = createReplayKinds({ store, dialectOf, clock });
  const tasks = new TaskRunner({ store, membership, kinds, logger, now });
  const retention = new RetentionWorker({
    store,
    membership,
    rules: config,
    logger,
    // PostgreSQL works in processes of its own: a longer transaction there keeps nobody waiting.
    transactionMs: config.databaseUrl === null ? 2 : 20,
  });
  let url = "";
  const publicUrl = (): string => config.publicUrl ?? url;
  const served: ServedAccount[] = [];
  for (const account of accounts) {
    const application = await ensureApplication(store, account, now());
    served.push({
      account,
      dialect: dialectOf(application),
      context: {
        application,
        credentials: credentials[account.name],
        store,
        publisher: dispatcher,
        notices,
        httpsOnly: config.httpsOnly,
        publicUrl,
        now,
      },
    });
  }
  const server = createServer({
    store,
    publisher: dispatcher,
    notices,
    tasks,
    directory,
    accounts: served,
    dialectOf,
    adminToken: credentials.admin.token,
    jwtSecret: config.jwtSecret,
    inbox: config.inbox,
    httpsOnly: config.httpsOnly,
    defaultSignatureType: config.defaultSignatureType,
    limits: { maxBodyBytes: config.maxBodyBytes, maxInFlightRequests: config.maxInFlightRequests },
    logger,
    now,
    publicUrl,
    version,
  });
  opened.defer(async () => {
    // Clients that never finish their request are cut off.
    const timer = setTimeout(() => {
      server.server.closeAllConnections();
    }, config.stopTimeoutMs);
    await server.close();
    clearTimeout(timer);
  });
  url = await listen(server, config);
  // First of all when closing: the server still answers then, so that deliveries to the inbox arrive.
  opened.defer(() => dispatcher.stop(config.stopTimeoutMs));
  await dispatcher.start();
  opened.defer(() => Promise.all([tasks.stop(), retention.stop()]).then());
  tasks.start();
  retention.start();

  const closing = opened.move();
  return { url, credentials, close: () => closing.disposeAsync() };
}

async function openStore(config: Config, logger?: Logger): Promise<Store> {
  if (config.databaseUrl !== null) {
    return await openPostgresStore({
      url: config.databaseUrl,
      masterKeyFile: config.masterKeyFile ?? join(config.dataDir, "master.key"),
    });
  }
  return await openSqliteStore(config.dataDir, {
    masterKeyFile: config.masterKeyFile,
    onCheckpointError: (reason) =>
      logger?.warn({ reason }, "the database's log could not be moved aside yet"),
  });
}

/** The application of a vendor account, made at the first start. */
async function ensureApplication(store: Store, account: VendorAccount, now: number): Promise<Application> {
  try {
    return await findOrMakeApplication(store, account, now);
  } catch (error) {
    // Another node has made it at the same time.
    if (!(error instanceof ConflictError)) throw error;
    return await findOrMakeApplication(store, account, now);
  }
}

async function findOrMakeApplication(
  store: Store,
  account: VendorAccount,
  now: number,
): Promise<Application> {
  return await store.write(async (tx) => {
    const known = await tx.applications.find(defaultOrganizationId, account.name);
    if (known?.dialect === account.name) return known;
    if (known) {
      throw new StartError(
        "database_unusable",
        `The application "${known.id}" has the uid "${account.name}", which is ${account.title}'s: ` +
          "start the version of Hookplane that made it, and give it another uid.",
      );
    }
    const application: Application = {
      id: newId("app", now),
      organizationId: defaultOrganizationId,
      uid: account.name,
      name: account.title,
      dialect: account.name,
      throttleRate: null,
      policy: emptyPolicy,
      metadata: {},
      createdAt: now,
      updatedAt: now,
    };
    await tx.applications.insert(application);
    return application;
  });
}

/** Listens, and answers the address for clients on this machine. */
async function listen(server: ReturnType<typeof createServer>, { host, port }: Config): Promise<string> {
  try {
    await server.listen({ host, port });
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    if (code === "EADDRINUSE") {
      throw new StartError(
        "port_taken",
        `The port ${port} of "${host}" is taken: stop what listens there, or choose another with --port (0 takes a free one).`,
        { cause },
      );
    }
    if (code === "EADDRNOTAVAIL" || code === "EACCES" || code === "ENOTFOUND" || code === "EAI_AGAIN") {
      throw new StartError(
        "address_unusable",
        `Port ${port} of "${host}" cannot be listened on (${code}): choose others with --host and --port.`,
        { cause },
      );
    }
    throw cause;
  }
  const { port: taken } = server.server.address() as AddressInfo;
  const reachable = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return `http://${isIP(reachable) === 6 ? `[${reachable}]` : reachable}:${taken}`;
}
