import type { ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestHookHandler } from "fastify";
import { z } from "zod";
import { ServiceError } from "../errors.ts";
import { documentedAs } from "../operation.ts";
import { requireApplication, type ApplicationParams } from "./application-access.ts";
import { requiring } from "./auth.ts";
import { queryEventTypes } from "./fields.ts";
import { readInput, validationError } from "./input.ts";
import {
  feedEventTypes,
  LiveFeed,
  parsePosition,
  positionAt,
  type FeedBatch,
  type FeedEvent,
  type FeedScope,
  type PlacedEvent,
} from "./live-feed.ts";
import type { ServerContext } from "./server.ts";

interface TailLimits {
  /** How often a client is told that the connection lives, and asked whether it may still listen. */
  readonly heartbeatMs: number;
  /** A client that has read nothing for so many heartbeats is taken for gone. */
  readonly maxStuckHeartbeats: number;
  /** What may wait for a client that reads slowly; beyond that it loses events. */
  readonly maxWaitingBytes: number;
  /** Clients of one process. */
  readonly maxClients: number;
}

const tailLimits: TailLimits = {
  heartbeatMs: 15_000,
  maxStuckHeartbeats: 4,
  maxWaitingBytes: 256 * 1024,
  maxClients: 250,
};
/** What a client should wait before it connects anew. */
const reconnectMs = 2_000;

const typeList = z.array(z.enum(feedEventTypes, `A type must be one of ${feedEventTypes.join(", ")}.`));

const tailQuery = z.object({
  types: documentedAs(
    z
      .union([z.string(), z.array(z.string())])
      .transform((value) => [value].flat().flatMap((item) => item.split(",")))
      .pipe(typeList),
    typeList,
  )
    .describe("What is told; everything by default.")
    .optional(),
  event_types: queryEventTypes
    .describe("Only what belongs to messages of these event types is told.")
    .optional(),
  endpoint_id: z
    .string()
    .min(1)
    .max(256)
    .describe("Only what belongs to this endpoint is told; its id or uid.")
    .optional(),
});

const tag = "Live tail";
const description =
  "Server-sent events: messages accepted, attempts made, endpoints changed, each about a fifth of a second after it has " +
  "happened. A client that connects anew says with the header Last-Event-ID which event it has seen last, and gets " +
  "what has happened since, of the last five minutes. One that reads slowly loses events, and is told how many.";
const answers = { 200: "text/event-stream" };

const operations = {
  organization: requiring("organization", {
    summary: "Watch all applications",
    tag,
    description,
    query: tailQuery,
    answers,
  }),
  application: requiring("ViewBase", {
    summary: "Watch an application",
    tag,
    description,
    query: tailQuery,
    answers,
  }),
};

type TailQuery = z.output<typeof tailQuery>;

/**
 * What happens, while it happens, as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html):
 * this service's own. A client that reads slowly loses events and is told how many.
 *
 * @param authenticated asked again and again while a client listens: tokens expire and are taken back
 */
export function registerTail(
  instance: FastifyInstance,
  context: ServerContext,
  authenticated: onRequestHookHandler,
  limits: TailLimits = tailLimits,
): void {
  const { store, logger } = context;
  const feed = new LiveFeed({ store, logger, now: () => context.now() });
  const clients = new Set<Client>();
  instance.addHook("preClose", async () => {
    feed.close();
    for (const client of clients) client.end("the service is stopping");
  });

  async function serve(request: FastifyRequest, reply: FastifyReply, scope: FeedScope): Promise<void> {
    const { query } = readInput(request, { query: tailQuery });
    const resumed = readPosition(request);
    if (clients.size >= limits.maxClients) {
      throw new ServiceError(
        "too_many_requests",
        `${limits.maxClients} clients listen already, and this process of the service takes no more: try again later.`,
        { retryAfterSeconds: 10 },
      );
    }
    const from = resumed ?? positionAt(context.now());
    reply.hijack();
    const client = new Client(reply, query, limits);
    clients.add(client);
    client.begin(from, scope);
    const leave = feed.read(scope, {
      from,
      isResumed: resumed !== null,
      deliver: (batch) => {
        client.deliver(batch);
      },
    });
    const watching = client.watchOver(() => isStillWelcome(request, reply));
    await client.ended;
    leave();
    clients.delete(client);
    await watching;
  }

  /** Undefined for a caller who may go on, or the reason why not. */
  function isStillWelcome(request: FastifyRequest, reply: FastifyReply): Promise<string | undefined> {
    return new Promise((resolve) => {
      authenticated.call(instance, request, reply, (error?: Error) => {
        // Whether the database can be asked just now is another question.
        const isRefused =
          error instanceof ServiceError && ["authentication_failed", "forbidden"].includes(error.code);
        resolve(isRefused ? error.message : undefined);
      });
    });
  }

  instance.get("/tail", { ...operations.organization, exposeHeadRoute: false }, async (request, reply) => {
    await serve(request, reply, { organizationId: request.caller.organizationId, applicationId: null });
  });

  instance.get<{ Params: ApplicationParams }>(
    "/app/:app/tail",
    { ...operations.application, exposeHeadRoute: false },
    async (request, reply) => {
      const { id, organizationId } = await requireApplication(store, request.caller, request.params.app);
      await serve(request, reply, { organizationId, applicationId: id });
    },
  );
}

/** Where a client that has listened before goes on. */
function readPosition(request: FastifyRequest): string | null {
  const given = request.headers["last-event-id"];
  if (given === undefined || given === "") return null;
  const position = parsePosition(String(given));
  if (position !== undefined) return position;
  throw validationError([
    {
      path: ["header", "last-event-id"],
      message: "This must be the id of an event that the service has sent, or nothing.",
      type: "value_error",
    },
  ]);
}

/** Each event is written down once, however many clients read it. */
const texts = new WeakMap<FeedEvent, string>();

function frameOf({ event, position }: PlacedEvent): string {
  let text = texts.get(event);
  if (text === undefined) {
    text = `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
    texts.set(event, text);
  }
  return position === null ? text : `id: ${position}\n${text}`;
}

/** One connection that events are written to. */
class Client {
  readonly #raw: ServerResponse;
  readonly #headers: Record<string, number | string | string[] | undefined>;
  readonly #query: TailQuery;
  readonly #limits: TailLimits;
  readonly #ending = new AbortController();
  /** What it has lost and was not told of yet; null for some, nobody knows how many. */
  #missed: number | null = 0;
  #stuckHeartbeats = 0;
  /** Resolves when the connection has ended, whoever has ended it. */
  readonly ended: Promise<void>;

  constructor(reply: FastifyReply, query: TailQuery, limits: TailLimits) {
    this.#raw = reply.raw;
    this.#headers = reply.getHeaders();
    this.#query = query;
    this.#limits = limits;
    this.ended = new Promise((resolve) => {
      const end = (): void => {
        this.#ending.abort();
        resolve();
      };
      this.#raw.on("close", end);
      this.#raw.on("error", end);
      if (this.#raw.destroyed) end();
    });
  }

  begin(position: string, { applicationId }: FeedScope): void {
    this.#raw.writeHead(200, {
      ...this.#headers,
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, no-transform",
      // Otherwise nginx would keep events back until it has some kilobytes of them.
      "x-accel-buffering": "no",
    });
    const data = JSON.stringify({ appId: applicationId });
    this.#raw.write(`retry: ${reconnectMs}\nid: ${position}\nevent: connected\ndata: ${data}\n\n`);
  }

  deliver({ events, missed, isOver }: FeedBatch): void {
    if (this.#raw.writableEnded) return;
    const { maxWaitingBytes } = this.#limits;
    this.#lose(missed);
    const wanted = events.filter(({ event }) => isWanted(event, this.#query));
    let frames = "";
    for (const placed of wanted) {
      // What is longer than all that may wait is sent where nothing waits.
      if (this.#raw.writableLength + frames.length > maxWaitingBytes) this.#lose(1);
      else frames += this.#missedFrame() + frameOf(placed);
    }
    if (this.#raw.writableLength + frames.length <= maxWaitingBytes) frames += this.#missedFrame();
    if (frames !== "") this.#raw.write(frames);
    if (isOver) this.end("the application was deleted");
  }

  /** Tells why, and that there is no use in coming back at once. */
  end(reason: string): void {
    if (this.#raw.writableEnded) return;
    this.#raw.end(`event: end\ndata: ${JSON.stringify({ reason })}\n\n`);
    // One that reads nothing would be waited for.
    if (this.#raw.writableNeedDrain) this.#raw.destroy();
  }

  /** Keeps the connection alive, and ends it when the client is gone or may not listen any more. */
  async watchOver(isStillWelcome: () => Promise<string | undefined>): Promise<void> {
    const { signal } = this.#ending;
    try {
      for (;;) {
        await sleep(this.#limits.heartbeatMs, undefined, { signal });
        const refusal = await isStillWelcome();
        if (refusal !== undefined) this.end(refusal);
        this.#stuckHeartbeats = this.#raw.writableNeedDrain ? this.#stuckHeartbeats + 1 : 0;
        if (this.#stuckHeartbeats > this.#limits.maxStuckHeartbeats) this.#raw.destroy();
        else if (this.#stuckHeartbeats === 0 && !this.#raw.writableEnded) this.#raw.write(":\n\n");
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  #lose(count: number | null): void {
    this.#missed = count === null || this.#missed === null ? null : this.#missed + count;
  }

  #missedFrame(): string {
    if (this.#missed === 0) return "";
    const frame = `event: missed\ndata: ${JSON.stringify({ count: this.#missed })}\n\n`;
    this.#missed = 0;
    return frame;
  }
}

function isWanted(
  event: FeedEvent,
  { types, event_types: eventTypes, endpoint_id: endpoint }: TailQuery,
): boolean {
  if (types !== undefined && !types.includes(event.type)) return false;
  if (eventTypes !== undefined) {
    const eventType = "eventType" in event ? event.eventType : null;
    if (eventType === null || !eventTypes.includes(eventType)) return false;
  }
  if (endpoint === undefined) return true;
  return "endpointId" in event && (event.endpointId === endpoint || event.endpointUid === endpoint);
}
