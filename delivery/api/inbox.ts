import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyInstance, FastifyRequest, onRequestHookHandler } from "fastify";
import { z } from "zod";
import type { ReceivedRequest, Verification } from "../core/dialect.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { newId } from "../core/ids.ts";
import { headerProblems } from "../core/wire-headers.ts";
import type { Operation } from "../operation.ts";
import { requiring } from "./auth.ts";
import { isoTime, timeOut } from "./fields.ts";
import { addJsonParser, readInput } from "./input.ts";
import { createReceivedRequests } from "./received-requests.ts";
import { isSensitiveHeader } from "./sensitive-headers.ts";
import type { ServerContext } from "./server.ts";

const receivingMethods = ["GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS"] as const;
const maxBodyCharacters = 65_536;
/** Clients read answers whose headers are twice as long. */
const maxHeaderCharacters = 8_192;
/** A URL's query is taken off parameter by parameter to find whose it is; a GET delivery has appended some. */
const maxParameters = 32;

const inboxRequestOut = z
  .object({
    id: z.string().describe("req_ and a time-ordered id."),
    receivedAt: timeOut,
    method: z.string(),
    url: z.string().describe("As it was addressed."),
    headers: z
      .record(z.string(), z.string())
      .describe("Names in lower case; what may be a secret shows as ***."),
    body: z.string().describe(`The first ${maxBodyCharacters} characters.`),
    verified: z.boolean(),
    by: z
      .enum(["signature", "credentials"])
      .nullable()
      .describe(
        "What proved it: the signature, or for a vendor that signs nothing the endpoint's own headers.",
      ),
    application: z.string().nullable().describe("The uid (else the id) of the application, when verified."),
    endpointId: z.string().nullable(),
    reasons: z
      .array(z.string())
      .readonly()
      .describe("Why not, for each endpoint that it could have been for."),
  })
  .meta({ id: "InboxRequestOut" });

/** A request as the inbox shows it: whether it is what one of the service's own endpoints should get. */
export type InboxRequest = z.output<typeof inboxRequestOut>;

interface RecordedRequest {
  readonly shown: InboxRequest;
  /** Whose delivery it is, when verified. */
  readonly organizationId: string | null;
}

const answerIn = z
  .object({
    status: z
      .int("The status must be a whole number.")
      .min(200, "The status must be at least 200.")
      .max(599, "The status must be at most 599.")
      .default(204),
    headers: z
      .record(z.string(), z.string())
      .superRefine((headers, issues) => {
        for (const message of headerProblems(headers)) issues.addIssue({ code: "custom", message });
        if (JSON.stringify(headers).length > maxHeaderCharacters) {
          const message = `The headers must have at most ${maxHeaderCharacters} characters in all.`;
          issues.addIssue({ code: "custom", message });
        }
      })
      .default({}),
    body: z
      .string()
      .max(maxBodyCharacters, `The body must have at most ${maxBodyCharacters} characters.`)
      .default(""),
    delayMs: z
      .int("The delay must be a whole number of milliseconds.")
      .min(0, "The delay must be at least 0.")
      .max(60_000, "The delay must be at most 60000 milliseconds.")
      .default(0),
  })
  .meta({ id: "InboxAnswerIn" });

const requestsQuery = z.object({ after: z.string().optional() });

const tag = "Inbox";
const receiveOperation: Operation = {
  summary: "Receive a request",
  description: "Answers as the inbox was told to: 204 at first.",
  tag,
  body: z.unknown(),
  bodyType: "*/*",
  isOpen: true,
  answers: { 204: null, default: "text/plain" },
};
const operations = {
  list: requiring("organization", {
    summary: "List received requests",
    description: "The administrator sees all of them, others the verified ones to their own endpoints.",
    tag,
    query: requestsQuery,
    answers: { 200: z.object({ data: z.array(inboxRequestOut) }) },
  }),
  answer: requiring("admin", {
    summary: "Tell an inbox what to answer",
    tag,
    body: answerIn,
    answers: { 204: null },
  }),
  clear: requiring("admin", { summary: "Clear an inbox", tag, answers: { 204: null } }),
};

/** What the inbox answers; 204 at once unless it is told otherwise. */
type InboxAnswer = z.output<typeof answerIn>;
const defaultAnswer: InboxAnswer = answerIn.parse({});

interface InboxParams {
  readonly name: string;
}

/**
 * A receiver for trying things out and for proving a deployment: it takes any request, keeps the last ones in memory
 * and says of each whether it verifies as a delivery to one of the service's endpoints. The administrator sees all of
 * them, another organization those to its own endpoints.
 */
export function registerInbox(
  instance: FastifyInstance,
  context: ServerContext,
  authenticated: onRequestHookHandler,
): void {
  const received = createReceivedRequests<RecordedRequest>(
    ({ shown }) => shown.body.length + shown.url.length,
  );
  const answers = new Map<string, InboxAnswer>();
  const closing = new AbortController();
  instance.addHook("preClose", async () => {
    closing.abort();
  });

  void instance.register(async (receiving) => {
    receiving.removeAllContentTypeParsers();
    receiving.addContentTypeParser(
      "*",
      { parseAs: "buffer" },
      async (_request: FastifyRequest, body: Buffer) => body,
    );
    receiving.route<{ Params: InboxParams }>({
      method: [...receivingMethods],
      url: "/inbox/:name",
      exposeHeadRoute: false,
      config: { operation: receiveOperation },
      handler: async (request, reply) => {
        const { name } = request.params;
        const { shown, organizationId } = await examine(context, request);
        // The id is given last: whoever asks for what came after an id misses nothing that took longer to examine.
        received.add(name, { shown: { id: newId("req", context.now()), ...shown }, organizationId });
        const { status, headers, body, delayMs } = answers.get(name) ?? defaultAnswer;
        if (delayMs > 0) await sleep(delayMs, undefined, { signal: closing.signal }).catch(() => undefined);
        return reply
          .code(status)
          .headers({ ...(body === "" ? {} : { "content-type": "text/plain; charset=utf-8" }), ...headers })
          .send(body === "" ? undefined : body);
      },
    });
  });

  void instance.register(async (managing) => {
    addJsonParser(managing);
    managing.addHook("onRequest", authenticated);

    managing.get<{ Params: InboxParams }>("/inbox/:name/requests", operations.list, async (request) => {
      const { query } = readInput(request, { query: requestsQuery });
      const { after = "" } = query;
      const { isAdmin, organizationId } = request.caller;
      const data = received
        .of(request.params.name)
        .filter((recorded) => isAdmin || recorded.organizationId === organizationId)
        .map(({ shown }) => shown)
        .filter(({ id }) => id > after);
      return { data };
    });

    managing.put<{ Params: InboxParams }>(
      "/inbox/:name/answer",
      operations.answer,
      async (request, reply) => {
        const { body } = readInput(request, { body: answerIn });
        answers.set(request.params.name, body);
        return reply.code(204).send();
      },
    );

    managing.delete<{ Params: InboxParams }>("/inbox/:name", operations.clear, async (request, reply) => {
      received.clear(request.params.name);
      answers.delete(request.params.name);
      return reply.code(204).send();
    });
  });
}

async function examine(
  context: ServerContext,
  request: FastifyRequest,
): Promise<{ shown: Omit<InboxRequest, "id">; organizationId: string | null }> {
  const now = context.now();
  const body = request.body instanceof Uint8Array ? request.body : new Uint8Array();
  const headers = Object.fromEntries(
    Object.entries(request.headers).map(([name, value]) => [name, [value ?? ""].flat().join(", ")]),
  );
  const addresses = new Set([context.publicUrl(), `${request.protocol}://${request.host}`]);
  const requests = [...addresses].map((address) => ({
    method: request.method,
    url: address + request.url,
    headers,
    body,
  }));
  const { organizationId, ...finding } = await verify(context, requests, now);
  const shown = {
    receivedAt: isoTime(now),
    method: request.method,
    url: context.publicUrl() + request.url,
    headers: Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name, isSensitiveHeader(name) ? "***" : value]),
    ),
    body: Buffer.from(body).toString().slice(0, maxBodyCharacters),
    ...finding,
  };
  return { shown, organizationId };
}

/** Asks the dialect of each endpoint that the request could be for. */
async function verify(
  context: ServerContext,
  requests: readonly ReceivedRequest[],
  now: number,
): Promise<
  Pick<InboxRequest, "verified" | "by" | "application" | "endpointId" | "reasons"> &
    Pick<RecordedRequest, "organizationId">
> {
  const reasons: string[] = [];
  for (const request of requests) {
    for (const { endpoint, application } of await findReceivers(context, request.url)) {
      const result: Verification = context.dialectOf(application).verify(request, endpoint, now);
      const name = application.uid ?? application.id;
      if (result.verified) {
        const { organizationId } = application;
        return {
          verified: true,
          by: result.by,
          application: name,
          endpointId: endpoint.id,
          reasons: [],
          organizationId,
        };
      }
      reasons.push(`${endpoint.id} of ${name}: ${result.reason}`);
    }
  }
  if (reasons.length === 0) reasons.push("no endpoint has this address");
  return {
    verified: false,
    by: null,
    application: null,
    endpointId: null,
    reasons,
    organizationId: null,
  };
}

async function findReceivers(context: ServerContext, url: string) {
  return context.store.read(async (tx) => {
    const found = new Map<string, Endpoint>();
    for (const candidate of prefixesOf(url)) {
      for (const endpoint of await tx.endpoints.listByUrl(candidate)) found.set(endpoint.id, endpoint);
    }
    const receivers = [];
    for (const endpoint of found.values()) {
      const known = await tx.applications.get(endpoint.applicationId);
      if (known !== undefined) receivers.push({ endpoint, application: known.application });
    }
    return receivers;
  });
}

/** The URL, then without its last query parameter, and so on until the query is gone. */
function prefixesOf(url: string): string[] {
  const [path = "", query = ""] = url.split("?", 2);
  const parameters = query === "" ? [] : query.split("&").slice(0, maxParameters);
  return [
    ...parameters.map((_, index) => `${path}?${parameters.slice(0, index + 1).join("&")}`).toReversed(),
    path,
  ];
}
