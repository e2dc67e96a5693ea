// Servers without a store, which say what HTTP in, signing and HTTP out cost by themselves: `node floor.ts <kind> <url>`.
//
// service: the service's own server, routes, validation, signing and sender; only the publisher keeps nothing.
// bare: node:http in, the same signature, undici's dispatch out, nothing else.
// raw: answers from raw sockets and delivers nothing, to know what the generator itself can do.
import { createServer as createHttpServer } from "node:http";
import { createServer as createNetServer, type AddressInfo } from "node:net";
import { Agent } from "undici";
import { createServer, type ServerContext } from "../delivery/api/server.ts";
import type { Application } from "../delivery/core/application.ts";
import type { Endpoint } from "../delivery/core/endpoint.ts";
import { newId } from "../delivery/core/ids.ts";
import type { FullMessage } from "../delivery/core/message.ts";
import { defaultOrganizationId } from "../delivery/core/organization.ts";
import { emptyPolicy } from "../delivery/core/policy.ts";
import { createSigningSecret, signatureHeaders } from "../delivery/core/standard-webhooks.ts";
import { createSvixDialect } from "../delivery/dialects/index.ts";
import { createLogger } from "../delivery/log.ts";
import type { Store } from "../delivery/store/store.ts";
import type { Directory, Entry } from "../delivery/worker/directory.ts";
import { silentNotices } from "../delivery/worker/notices.ts";
import type { Publisher } from "../delivery/worker/publisher.ts";
import { createSender } from "../delivery/worker/send.ts";
import { HttpMessages } from "./http-messages.ts";

/** As many deliveries at a time as the service has for one endpoint. */
const concurrency = 64;

const [kind = "", receiverUrl = ""] = process.argv.slice(2);
const floors: Readonly<Record<string, () => Promise<AddressInfo>>> = {
  service: listenService,
  bare: listenBare,
  raw: listenRaw,
};
const secrets = [{ key: createSigningSecret(), expiresAt: null }];
const { port } = await floors[kind]!();
process.stdout.write(`${JSON.stringify({ event: "ready", url: `http://127.0.0.1:${port}` })}\n`);
process.on("SIGTERM", () => process.exit(0));

/** Sends in order, so many at a time. */
function createQueue<Item>(send: (item: Item) => Promise<unknown>): (item: Item) => void {
  const waiting: Item[] = [];
  let taken = 0;
  let running = 0;
  const advance = (): void => {
    while (running < concurrency && taken < waiting.length) {
      running++;
      void send(waiting[taken++]!).then(() => {
        running--;
        advance();
      });
    }
    if (taken < waiting.length) return;
    waiting.length = 0;
    taken = 0;
  };
  return (item) => {
    waiting.push(item);
    advance();
  };
}

async function listenService(): Promise<AddressInfo> {
  const now = Date.now();
  const application: Application = {
    id: newId("app", now),
    organizationId: defaultOrganizationId,
    uid: "bench",
    name: "bench",
    dialect: "svix",
    throttleRate: null,
    policy: emptyPolicy,
    metadata: {},
    createdAt: now,
    updatedAt: now,
  };
  const endpoint: Endpoint = {
    id: newId("ep", now),
    applicationId: application.id,
    uid: null,
    url: receiverUrl,
    description: "",
    filterTypes: null,
    channels: null,
    headers: {},
    disabled: false,
    throttleRate: null,
    policy: emptyPolicy,
    tls: null,
    version: 1,
    metadata: {},
    settings: {},
    secrets,
    createdAt: now,
    updatedAt: now,
  };
  const dialect = createSvixDialect();
  const sender = createSender({ allowSubnets: ["127.0.0.0/8"], userAgent: "Hookplane/floor", now: Date.now });
  const deliver = createQueue((message: FullMessage) => {
    const request = dialect.encode({ application, endpoint, message, attempt: 0, now: Date.now() });
    return sender.send(request, { timeoutMs: dialect.timeoutMs });
  });
  const publisher: Pick<Publisher, "publish"> = {
    async publish(_application, event, options) {
      const createdAt = Date.now();
      const message: FullMessage = {
        id: newId("msg", createdAt),
        applicationId: application.id,
        eventType: event.eventType,
        eventId: event.eventId ?? null,
        channels: event.channels ?? null,
        tags: event.tags ?? [],
        orderingKey: event.orderingKey ?? null,
        payload: event.payload,
        payloadExpiresAt: event.payloadExpiresAt ?? null,
        createdAt,
      };
      options?.answerTo?.(message);
      deliver(message);
      return message;
    },
  };
  const entry: Entry = {
    application,
    version: 1,
    endpoints: new Map([[endpoint.id, endpoint]]),
    states: new Map(),
  };
  const directory: Directory = {
    find: async () => entry,
    findByName: async () => entry,
    eventTypesOf: async () => new Map(),
    forget: () => undefined,
  };
  const context: ServerContext = {
    // Whoever publishes is known by the administrator's token: the store is never asked.
    store: { onChange: () => undefined } as Partial<Store> as Store,
    publisher: publisher as Publisher,
    notices: silentNotices,
    tasks: { wake: () => undefined },
    directory,
    accounts: [],
    dialectOf: () => dialect,
    adminToken: "floor",
    jwtSecret: null,
    inbox: false,
    httpsOnly: false,
    defaultSignatureType: "hmac256",
    limits: { maxBodyBytes: 1024 * 1024, maxInFlightRequests: 1_000 },
    logger: createLogger("info"),
    now: Date.now,
    publicUrl: () => "http://127.0.0.1",
    version: "floor",
  };
  const server = createServer(context);
  await server.listen({ host: "127.0.0.1", port: 0 });
  return server.server.address() as AddressInfo;
}

interface Event {
  readonly id: string;
  readonly body: Buffer;
}

async function listenBare(): Promise<AddressInfo> {
  const { origin, pathname } = new URL(receiverUrl);
  const agent = new Agent();
  const deliver = createQueue(
    ({ id, body }: Event) =>
      new Promise<void>((resolve, reject) => {
        const headers = {
          "content-type": "application/json",
          ...signatureHeaders(id, body, secrets, Date.now()),
        };
        agent.dispatch(
          { origin, path: pathname, method: "POST", headers, body },
          {
            onRequestStart() {},
            onResponseStart() {},
            onResponseData() {},
            onResponseEnd() {
              resolve();
            },
            onResponseError(_controller, error) {
              reject(error);
            },
          },
        );
      }),
  );
  const server = createHttpServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const id = newId("msg", Date.now());
      const answer = `{"id":"${id}"}`;
      response.writeHead(202, { "content-type": "application/json", "content-length": answer.length });
      response.end(answer);
      deliver({ id, body: Buffer.concat(chunks) });
    });
  });
  await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
  return server.address() as AddressInfo;
}

async function listenRaw(): Promise<AddressInfo> {
  const answer = Buffer.from("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}");
  const server = createNetServer({ noDelay: true }, (socket) => {
    const messages = new HttpMessages(() => socket.write(answer));
    socket.on("data", (chunk) => {
      messages.push(chunk);
    });
    socket.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
  return server.address() as AddressInfo;
}
