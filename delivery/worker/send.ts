import { Agent, type Dispatcher } from "undici";
import { parseRetryAfter } from "../core/backoff.ts";
import type { Answer, OutgoingRequest } from "../core/dialect.ts";
import { createGuardedConnector, refusalOf, type Resolve } from "./guard.ts";

/** How long a connection may take to be made. */
const connectTimeoutMs = 10_000;
/** How much of an answer is read at most; more is cut off, and the answer counts by its status. */
const maxReadBytes = 64 * 1024;
/** How much of an answer is kept for the record. */
const keptBytes = 16 * 1024;

interface SendLimits {
  /** How long the answer may take in all, connecting included. */
  readonly timeoutMs: number;
  /** How much of the answer is kept: 16 KiB by default, at most 64 KiB. */
  readonly keptBytes?: number;
}

/** What came of a request. */
export interface Sent {
  readonly answer: Answer;
  /** The answer's first bytes as text; for an error, its reason. */
  readonly body: string;
  readonly durationMs: number;
}

/** Makes requests and tells what came of them: it never throws, and never follows a redirect. */
export interface Sender {
  send(request: OutgoingRequest, limits: SendLimits): Promise<Sent>;
  /** Cuts off what is still on its way. */
  close(): Promise<void>;
  /** Whether `close` was called: requests that fail from then on say nothing about their receiver. */
  readonly isClosed: boolean;
}

export interface SenderOptions {
  readonly allowSubnets: readonly string[];
  /** Sent where the request has no `user-agent` of its own. */
  readonly userAgent: string;
  readonly resolve?: Resolve;
  /** For Retry-After dates. */
  readonly now: () => number;
}

/** A sender that keeps connections alive for each origin and goes only where the address guard lets it. */
export function createSender(options: SenderOptions): Sender {
  const agent = new Agent({
    connect: createGuardedConnector({ ...options, connectTimeoutMs }),
    allowH2: false,
    // The total time limit covers both.
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  return {
    send: (request, limits) => send(agent, request, limits, options),
    close: () => agent.destroy(),
    get isClosed() {
      return agent.destroyed;
    },
  };
}

function send(
  agent: Agent,
  request: OutgoingRequest,
  limits: SendLimits,
  options: SenderOptions,
): Promise<Sent> {
  const startedAt = performance.now();
  const kept = Math.min(limits.keptBytes ?? keptBytes, maxReadBytes);
  return new Promise((resolve) => {
    let controller: Dispatcher.DispatchController | undefined;
    let status = 0;
    let retryAfter: string | undefined;
    let readBytes = 0;
    let isDone = false;
    const chunks: Buffer[] = [];

    const finish = (answer: Answer): void => {
      if (isDone) return;
      isDone = true;
      clearTimeout(timer);
      const body =
        answer.kind === "error" ? answer.reason : Buffer.concat(chunks).subarray(0, kept).toString("utf8");
      resolve({ answer, body, durationMs: Math.round(performance.now() - startedAt) });
    };
    const fail = (reason: string): void => {
      finish({ kind: "error", reason });
      controller?.abort(new Error(reason));
    };
    const finishResponse = (): void => {
      finish({ kind: "response", status, retryAfterMs: parseRetryAfter(retryAfter, options.now()) });
    };
    const timer = setTimeout(() => {
      fail(`no complete answer within ${limits.timeoutMs / 1000} s`);
    }, limits.timeoutMs);

    const url = URL.parse(request.url);
    const refusal = url ? refusalOf(url) : "the URL is not an absolute one";
    if (!url || refusal !== null) {
      fail(`not sent: ${String(refusal)}`);
      return;
    }
    try {
      agent.dispatch(
        {
          origin: url.origin,
          path: url.pathname + url.search,
          method: request.method,
          headers:
            request.headers["user-agent"] === undefined
              ? { ...request.headers, "user-agent": options.userAgent }
              : { ...request.headers },
          body: request.body,
        },
        {
          onRequestStart(started) {
            controller = started;
            // The time ran out while it waited for a connection.
            if (isDone) started.abort(new Error("too late"));
          },
          onResponseStart(_controller, statusCode, headers) {
            status = statusCode;
            const value = headers["retry-after"];
            retryAfter = Array.isArray(value) ? value[0] : value;
          },
          onResponseData(_controller, chunk) {
            if (readBytes < kept) chunks.push(chunk);
            readBytes += chunk.length;
            if (readBytes <= maxReadBytes) return;
            finishResponse();
            controller?.abort(new Error("the answer is longer than what is read of it"));
          },
          onResponseEnd() {
            finishResponse();
          },
          onResponseError(_controller, error) {
            finish({ kind: "error", reason: reasonOf(error) });
          },
        },
      );
    } catch (error) {
      fail(reasonOf(error));
    }
  });
}

/** An error in words; of several tries (one for each address of a host), the first one's. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  return error instanceof Error && error.message !== "" ? error.message : String(error);
}
