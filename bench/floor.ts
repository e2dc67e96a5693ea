// Servers without a store, which say what HTTP in, signing and HTTP out cost by themselves: `node floor.ts <kind> <url>`.
//
// fastify: the service's own server, routes, validation, signing and sender; only the publisher keeps nothing.
// bare: node:http in, the same signature, undici's dispatch out, nothing else.
// raw: answers from raw sockets and delivers nothing, to know what the generator itself can do.
import { createServer as createHttpServer } from "node:http";
import { createServer as createNetServer, type AddressInfo } from "node:net";
import { Agent } from "undici";
import { createServer, type ServerContext } from "../delivery/api/server.ts";
import type { Application } from "../delivery/core/application.ts";
import type { Endpoint } from "../delivery/core/endpoint.ts";
import { newId } from "../delivery/core/ids.ts";
import type { Message } from "../delivery/core/message.ts";
import { createSigningSecret, signatureHeaders } from "../delivery/core/standard-webhooks.ts";
import { svixDialect } from "../delivery/dialects/index.ts";
import { createLogger } from "../delivery/log.ts";
import type { Store, Tx } from "../delivery/store/store.ts";
import type { Publisher } from "../delivery/worker/publisher.ts";
import { createSender } from "../delivery/worker/send.ts";
import { HttpMessages } from "./http-messages.ts";

/** As many deliveries at a time as the service has for one endpoint. */
const concurrency = 64;

const [kind = "", receiverUrl = ""] = process.argv.slice(2);
const secrets = [{ key: createSigningSecret(), expiresAt: null }];
const port = await listen();
process.stdout.write(`${JSON.stringify({ event: "ready", url: `http://127.0.0.1:${port}` })}\n`);
process.on("SIGTERM", () => process.exit(0));

async function listen(): Promise<number> {
  switch (kind) {
    case "fastify":
      return listenFastify();
    case "bare":
      return listenBare();
    case "raw":
      return listenRaw();
    default:
      throw new Error(`There is no floor "${kind}": use fastify, bare or raw`);
  }
}

/** Runs deliveries in order, so many at a time. */
function createQueue(send: (message: Message) => Promise<unknown>): (message: Message) => void {
  const waiting: Message[] = [];
  let taken = 0;
  let running = 0;
  const next = (): void => {
    while (running < concurrency && taken < waiting.length) {
      running++;
      void send(waiting[taken++]!).then(() => {
        running--;
        next();
      });
    }
    if (taken < waiting.length) return;
    waiting.length = 0;
    taken = 0;
  };
  return (message) => {
    waiting.push(message);
    next();
  };
}

async function listenFastify(): Promise<number> {
  const now = Date.now();
  const application: Application = {
    id: newId("app", now),
    uid: "bench",
    name: "bench",
    dialect: "svix",
    throttleRate: null,
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
    version: 1,
    metadata: {},
    settings: {},
    secrets,
    createdAt: now,
    updatedAt: now,
  };
  // Only what the route of a message asks for.
  const tx = {
    applications: { find: async () => application },
    eventTypes: { find: async () => undefined },
    idempotency: { find: async () => undefined, insert: async () => undefined },
  } as unknown as Tx;
  const store = {
    read: (fn: (tx: Tx) => Promise<unknown>) => fn(tx),
    write: (fn: (tx: Tx) => Promise<unknown>) => fn(tx),
    onChange: () => undefined,
  } as unknown as Store;
  const sender = createSender({ allowSubnets: ["127.0.0.0/8"], userAgent: "Hookplane/floor", now: Date.now });
  const deliver = createQueue(async (message) => {
    const request = svixDialect.encode({ application, endpoint, message, attempt: 0, now: Date.now() });
    return await sender.send(request, { timeoutMs: svixDialect.timeoutMs });
  });
  const publisher = {
    async publish(_application, event, alongside) {
      const createdAt = Date.now();
      const message: Message = {
        id: newId("msg", createdAt),
        applicationId: application.id,
        eventType: event.eventType,
        eventId: event.eventId ?? null,
        channels: event.channels ?? null,
        tags: event.tags ?? [],
        payload: event.payload,
        createdAt,
      };
      await alongside?.(tx, message);
      deliver(message);
      return message;
    },
  } as Partial<Publisher> as Publisher;
  const context: ServerContext = {
    store,
    publisher,
    accounts: [],
    dialectOf: () => svixDialect,
    adminToken: "floor",
    jwtSecret: null,
    inbox: false,
    limits: { maxBodyBytes: 1024 * 1024 },
    logger: createLogger("info"),
    now: Date.now,
    publicUrl: () => "http://127.0.0.1",
    version: "floor",
  };
  const server = createServer(context);
  await server.listen({ host: "127.0.0.1", port: 0 });
  return (server.server.address() as AddressInfo).port;
}

async function listenBare(): Promise<number> {
  const { origin, pathname } = new URL(receiverUrl);
  const agent = new Agent();
  const send = (id: string, body: Buffer): Promise<void> =>
    new Promise((resolve, reject) => {
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
    });
  const deliver = createQueue(({ id, payload }) => send(id, payload as Buffer));
  const server = createHttpServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      const id = newId("msg", Date.now());
      const answer = `{"id":"${id}"}`;
      response.writeHead(202, { "content-type": "application/json", "content-length": answer.length });
      response.end(answer);
      deliver({ id, payload: body } as Message);
    });
  });
  await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
  return (server.address() as AddressInfo).port;
}

async function listenRaw(): Promise<number> {
  const answer = Buffer.from("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}");
  const server = createNetServer({ noDelay: true }, (socket) => {
    const messages = new HttpMessages(() => socket.write(answer));
    socket.on("data", (chunk) => {
      messages.push(chunk);
    });
    socket.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
  return (server.address() as AddressInfo).port;
}
