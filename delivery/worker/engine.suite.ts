import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished, vi } from "vitest";
import type { Application } from "../core/application.ts";
import type { Attempt, Delivery } from "../core/delivery.ts";
import type { Dialect } from "../core/dialect.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { EndpointState } from "../core/endpoint-state.ts";
import { defaultOrganizationId } from "../core/organization.ts";
import { emptyPolicy, type DeliveryPolicy } from "../core/policy.ts";
import { judgeAnswer } from "../core/verdict.ts";
import { createLogger } from "../log.ts";
import { openSqliteStore } from "../store/sqlite-store.ts";
import type { Store } from "../store/store.ts";
import { createDirectory } from "./directory.ts";
import { Dispatcher, type DispatcherOptions } from "./dispatch.ts";
import { joinAlone, joinOthers, type Membership } from "./membership.ts";
import { silentNotices } from "./notices.ts";
import type { NewEvent } from "./publisher.ts";
import { createScheduleClock, type ScheduleClock } from "./schedule-clock.ts";
import { createSender } from "./send.ts";

/** Waits until it holds; long enough for a busy machine. */
export function eventually<T>(check: () => T | Promise<T>, timeoutMs = 15_000): Promise<T> {
  return vi.waitFor(check, { timeout: timeoutMs, interval: 5 });
}

/** Sends the payload as it is, with the ids in headers; retries twice, quickly. */
export const plainDialect: Dialect = {
  name: "plain",
  eventTypes: [],
  retryDelaysMs: [30, 30],
  jitter: 0,
  timeoutMs: 1_000,
  problemsOf: (eventType, payload) => [
    ...(eventType.startsWith("x") ? [`The event type "${eventType}" is unknown.`] : []),
    ...(typeof payload === "object" ? [] : ["The payload must be an object."]),
  ],
  selects: (endpoint, message) => endpoint.filterTypes?.includes(message.eventType) ?? true,
  encode: ({ endpoint, message, attempt }) => {
    if (endpoint.settings["broken"] === true) throw new Error("the template has no end");
    return {
      method: "POST",
      url: endpoint.url,
      headers: { "x-message": message.id, "x-attempt": String(attempt) },
      body: message.payload,
    };
  },
  judge: judgeAnswer,
  verify: () => ({ verified: false, reason: "not asked" }),
};

export const application: Application = {
  id: "app_1",
  organizationId: defaultOrganizationId,
  uid: "shop",
  name: "Shop",
  dialect: "plain",
  throttleRate: null,
  policy: emptyPolicy,
  metadata: {},
  createdAt: 1,
  updatedAt: 1,
};

/** The endpoint `ep_1` of the application, unless `changes` say otherwise. */
export function endpointTo(
  url: string,
  { policy, ...changes }: Partial<Omit<Endpoint, "policy">> & { policy?: Partial<DeliveryPolicy> } = {},
): Endpoint {
  return {
    id: "ep_1",
    applicationId: "app_1",
    uid: null,
    url,
    description: "",
    filterTypes: null,
    channels: null,
    headers: {},
    disabled: false,
    throttleRate: null,
    policy: { ...emptyPolicy, ...policy },
    tls: null,
    version: 1,
    metadata: {},
    settings: {},
    secrets: [],
    createdAt: 1,
    updatedAt: 1,
    ...changes,
  };
}

export function event(eventType = "order.paid", text = '{ "amount": 1.0 }'): NewEvent {
  return { eventType, payload: Buffer.from(text) };
}

export interface ReceivedDelivery {
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** Milliseconds since the process began. */
  readonly at: number;
  /** The message's id. */
  readonly id: string;
}

export interface Reply {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

/** What a receiver answers; null for nothing at all. `count` has the request itself. */
export type Respond = (request: ReceivedDelivery, count: number) => Reply | null | Promise<Reply | null>;

/** A receiver that answers as told. */
export async function openReceiver(respond: Respond = () => ({ status: 200 })) {
  const requests: ReceivedDelivery[] = [];
  const receiver = {
    url: "",
    requests,
    respond,
    /** Requests that it has and has not answered. */
    open: 0,
    /** The most it ever had open at a time. */
    mostOpen: 0,
    /** Ids in the order of their first requests. */
    ids: (): string[] => [...new Set(requests.map(({ id }) => id))],
  };
  const reply = async (request: ReceivedDelivery, response: ServerResponse): Promise<void> => {
    const answer = await receiver.respond(request, requests.length);
    if (answer) response.writeHead(answer.status, answer.headers).end(answer.body);
  };
  const server = createServer((incoming, response) => {
    receiver.open++;
    receiver.mostOpen = Math.max(receiver.mostOpen, receiver.open);
    response.on("close", () => receiver.open--);
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const { url = "", headers } = incoming;
      const id = String(headers["x-message"]);
      const request = { url, headers, body: Buffer.concat(chunks).toString(), at: performance.now(), id };
      requests.push(request);
      void reply(request, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  receiver.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return receiver;
}

/** A clock that goes on by itself, and further when told. */
export interface TestClock extends ScheduleClock {
  skip(ms: number): void;
}

export function createTestClock(): TestClock {
  let skippedMs = 0;
  const clock = createScheduleClock(
    () => Date.now() + skippedMs,
    () => performance.now() + skippedMs,
  );
  return {
    now: () => clock.now(),
    setOffset: () => undefined,
    notBefore: (time) => {
      clock.notBefore(time);
    },
    skip(ms) {
      skippedMs += ms;
    },
  };
}

/** An empty SQLite store in a folder of its own. */
export async function openStore(): Promise<Store> {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-engine-"));
  const store = await openSqliteStore(folder);
  onTestFinished(async () => {
    await store.close();
    rmSync(folder, { recursive: true });
  });
  return store;
}

/** A store with the application and these endpoints of it. */
export async function openFilledStore(endpoints: readonly Endpoint[]): Promise<Store> {
  const store = await openStore();
  await store.write(async (tx) => {
    await tx.applications.insert(application);
    for (const endpoint of endpoints) await tx.endpoints.insert(endpoint);
  });
  return store;
}

export interface TestNode {
  readonly dispatcher: Dispatcher;
  readonly membership: Membership;
  /** Stops it and gives back what it holds. Done at the end of the test too. */
  stop(timeoutMs?: number): Promise<void>;
}

export interface NodeOptions extends Partial<DispatcherOptions> {
  /** For `isShared`: milliseconds since any moment, as the node's membership counts them. */
  readonly monotonic?: () => number;
}

/** A delivery engine over the store: the only one, or one of several where `isShared` is set. */
export async function startNode(
  store: Store,
  { monotonic, ...options }: NodeOptions = {},
): Promise<TestNode> {
  const logger = options.logger ?? createLogger("silent");
  const clock = options.clock ?? createScheduleClock();
  const isShared = options.isShared ?? false;
  let discover: () => Promise<void> = async () => undefined;
  const membership = isShared
    ? await joinOthers({
        store,
        clock,
        logger,
        onBuried: () => {
          // In an outage it is found at the next look.
          discover().catch(() => undefined);
        },
        ...(monotonic && { monotonic }),
      })
    : await joinAlone({ store, clock });
  const now = Date.now;
  const dispatcher = new Dispatcher({
    store,
    directory: createDirectory(store, { isShared }),
    membership,
    sender: createSender({ allowSubnets: ["127.0.0.0/8"], userAgent: "Hookplane/test", now }),
    dialectOf: () => plainDialect,
    notices: silentNotices,
    logger,
    now,
    clock,
    random: () => 0.5,
    isShared,
    disableAfterMs: null,
    maxBacklog: null,
    ...options,
  });
  discover = () => dispatcher.discover();
  await dispatcher.start();
  let stopping: Promise<void> | null = null;
  const stop = (timeoutMs = 0): Promise<void> =>
    (stopping ??= dispatcher.stop(timeoutMs).then(() => membership.close()));
  onTestFinished(() => stop());
  return { dispatcher, membership, stop };
}

/** A store with the application and these endpoints of it, and a node that delivers from it. */
export async function openEngine(endpoints: readonly Endpoint[], options: NodeOptions = {}) {
  const store = await openFilledStore(endpoints);
  const node = await startNode(store, options);
  return { store, node, dispatcher: node.dispatcher, ...lookInto(store) };
}

/** What a store says of the application `app_1`. */
export function lookInto(store: Store) {
  return {
    stateOf: (messageId: string, endpointId = "ep_1"): Promise<Delivery | undefined> =>
      store.read((tx) => tx.deliveries.find(messageId, endpointId)),
    attemptsOf: (messageId: string): Promise<Attempt[]> =>
      store.read((tx) => tx.attempts.list({ applicationId: "app_1", messageId }, { limit: 100 })),
    breakerOf: async (endpointId = "ep_1"): Promise<EndpointState | undefined> =>
      (await store.read((tx) => tx.endpointStates.list("app_1"))).get(endpointId),
    endpointOf: (endpointId = "ep_1"): Promise<Endpoint | undefined> =>
      store.read((tx) => tx.endpoints.find("app_1", endpointId)),
    pending: async (): Promise<number> =>
      (await store.read((tx) => tx.deliveries.countPending())).get("app_1") ?? 0,
  };
}
