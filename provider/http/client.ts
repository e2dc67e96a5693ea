import { setTimeout as wait } from "node:timers/promises";
import { Agent, type Dispatcher } from "undici";
import type { z } from "zod";
import { HookplaneError, type ErrorCode, type ErrorDetails } from "../errors.ts";
import {
  defaultRetryLimits,
  outcomeOf,
  parseRetryAfter,
  retryDelayMs,
  type Failure,
  type Outcome,
  type RetryLimits,
  type RetrySafety,
} from "./retry.ts";

/** Time and size limits of every request. */
export interface HttpLimits extends RetryLimits {
  /** From the request's last byte to the answer's first. */
  readonly headersTimeoutMs: number;
  /** Between two parts of an answer's body. */
  readonly bodyTimeoutMs: number;
  /** One try in all, so that an answer that drips in cannot last forever. */
  readonly attemptTimeoutMs: number;
  /** A longer answer is an error. */
  readonly maxBodyBytes: number;
}

/** 30 s to the first byte and between two parts, 60 s a try, 1 MiB an answer; retries as {@link defaultRetryLimits}. */
export const defaultHttpLimits: HttpLimits = {
  ...defaultRetryLimits,
  headersTimeoutMs: 30_000,
  bodyTimeoutMs: 30_000,
  attemptTimeoutMs: 60_000,
  maxBodyBytes: 1024 * 1024,
};

/** Time and chance, so that a test decides them. */
interface HttpClock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** From 0 up to, but not including, 1. */
  random(): number;
  /** Resolves after `ms`; rejects when the signal aborts. */
  sleep(ms: number, signal: AbortSignal | undefined): Promise<void>;
}

const systemClock: HttpClock = {
  now: Date.now,
  random: Math.random,
  sleep: (ms, signal) => wait(ms, undefined, { signal }),
};

/** What a vendor's error body says, as the API's own parser reads it. */
export interface VendorError {
  readonly message: string;
  readonly code?: string | number;
}

/** One vendor's API, as its folder describes it. */
export interface HttpApiOptions {
  /** As people write the vendor's name: `Twilio`. */
  readonly title: string;
  /** Absolute http(s) address that every path is appended to. */
  readonly url: string;
  /** Headers that authenticate one try; called for each, since some carry the time. */
  readonly authorize: () => Readonly<Record<string, string>>;
  /** Reads an error's JSON body (`undefined` when it had none); `undefined` when it is not the vendor's. */
  readonly parseError?: (body: unknown) => VendorError | undefined;
}

interface HttpRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Starts with `/`, appended to the base address; may have a query, which errors leave out. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as `application/json`. */
  readonly json?: unknown;
  /** Sent as `application/x-www-form-urlencoded`; a key may come more than once. */
  readonly form?: URLSearchParams;
  /** Whether doing it twice is doing it once: see {@link RetrySafety}. */
  readonly retry: RetrySafety;
}

export interface HttpApi {
  /**
   * The answer in the shape of `answer`; an empty one is `undefined` to it. Throws {@link HttpError}: an answer that is
   * not 2xx (redirects are not followed), is not JSON, is too long, has another shape, or never came within the limits.
   */
  request<T>(request: HttpRequest & { readonly answer: z.ZodType<T> }): Promise<T>;
  /** The same where the answer's content does not matter. */
  request(request: HttpRequest): Promise<void>;
  /**
   * A moment of this machine's clock (milliseconds since the epoch) by the vendor's clock, as the Date header of its last
   * answer tells it, to about a second. The moment itself before any answer.
   */
  toVendorTime(ms: number): number;
}

export interface HttpClient {
  /** Throws a `TypeError` when the url is not an absolute http(s) one. */
  api(options: HttpApiOptions): HttpApi;
}

export interface HttpClientOptions {
  /** Ends what is in flight and every wait. */
  readonly signal?: AbortSignal;
  readonly limits?: Partial<HttpLimits>;
  readonly clock?: HttpClock;
}

/** What an {@link HttpError} knows besides what every error does. */
export interface HttpFacts {
  /** The answer's status; `null` when no answer came. */
  readonly status: number | null;
  /** The vendor's own error code. */
  readonly vendorCode: string | number | null;
  /** How long the vendor asks to wait, in milliseconds. */
  readonly retryAfterMs: number | null;
  /** Whether the request changed something: see {@link Outcome}. */
  readonly outcome: Outcome;
}

/** A request that did not succeed, told without its query, its body or its credentials. */
export class HttpError extends HookplaneError implements HttpFacts {
  readonly status: number | null;
  readonly vendorCode: string | number | null;
  readonly retryAfterMs: number | null;
  readonly outcome: Outcome;

  constructor(code: ErrorCode, problem: string, details: ErrorDetails, facts: HttpFacts) {
    super(code, problem, details);
    this.status = facts.status;
    this.vendorCode = facts.vendorCode;
    this.retryAfterMs = facts.retryAfterMs;
    this.outcome = facts.outcome;
  }
}

/** One pool for the process, so that a thousand resources share a few connections to each vendor. */
let sharedAgent: Agent | undefined;
function agent(): Agent {
  sharedAgent ??= new Agent({ connect: { timeout: 10_000 }, connections: 32, allowH2: false });
  return sharedAgent;
}

/**
 * HTTP as every API uses it: keep-alive, 10 s to connect, {@link defaultHttpLimits}, retries as each request allows.
 */
export function createHttpClient(options: HttpClientOptions = {}): HttpClient {
  const limits: HttpLimits = { ...defaultHttpLimits, ...options.limits };
  const clock = options.clock ?? systemClock;
  const { signal } = options;

  async function request<T>(
    api: HttpApiOptions,
    asked: HttpRequest & { readonly answer?: z.ZodType<T> },
    onDate: (date: number) => void,
  ): Promise<T | undefined> {
    const { origin, pathname } = new URL(api.url);
    const path = pathname.replace(/\/+$/, "") + asked.path;
    const body = bodyOf(asked);
    const startedAt = clock.now();

    for (let attempts = 1; ; attempts++) {
      const timeLeftMs = startedAt + limits.totalTimeoutMs - clock.now();
      const exchanged = await exchange(
        {
          origin,
          path,
          method: asked.method,
          headers: { accept: "application/json", ...body?.headers, ...asked.headers, ...api.authorize() },
          body: body?.text ?? null,
          headersTimeout: limits.headersTimeoutMs,
          bodyTimeout: limits.bodyTimeoutMs,
        },
        {
          maxBodyBytes: limits.maxBodyBytes,
          timeoutMs: Math.max(1, Math.min(limits.attemptTimeoutMs, timeLeftMs)),
          signal,
        },
      );
      if ("date" in exchanged) {
        const date = Date.parse(exchanged.date ?? "");
        if (!Number.isNaN(date)) onDate(date);
      }
      const read = readAnswer(api, exchanged, asked.answer, clock.now());
      if ("value" in read) return read.value;

      const { failure } = read;
      const elapsedMs = clock.now() - startedAt;
      const random = (): number => clock.random();
      const delayMs = signal?.aborted
        ? null
        : retryDelayMs({ safety: asked.retry, failure, attempts, elapsedMs, limits, random });
      // A wait ends early only by the signal; the failure that it followed is then the error.
      if (delayMs !== null && (await waited(clock.sleep(delayMs, signal)))) continue;

      const { status } = exchanged;
      const aborted = signal?.aborted === true;
      const tries = attempts > 1 ? `, tried ${attempts} times in ${seconds(elapsedMs)}` : "";
      throw new HttpError(
        aborted ? "aborted" : codeOf(asked, failure),
        `${api.title} ${read.problem}${tries}`,
        {
          method: asked.method,
          path: origin + path.replace(/\?.*/s, ""),
          ...(status === null ? {} : { status }),
          ...(read.vendor ? { vendorMessage: toLine(read.vendor) } : {}),
          ...(aborted ? {} : remedyOf(failure)),
        },
        {
          status,
          vendorCode: read.vendor?.code ?? null,
          retryAfterMs: failure.kind === "status" ? failure.retryAfterMs : null,
          outcome: outcomeOf(failure),
        },
      );
    }
  }

  return {
    api(api) {
      const { protocol } = new URL(api.url);
      if (protocol !== "http:" && protocol !== "https:") {
        throw new TypeError(`The url of ${api.title} must start with http:// or https://.`);
      }
      let offsetMs = 0;
      const onDate = (date: number): void => {
        offsetMs = date - clock.now();
      };
      return {
        request: (asked: HttpRequest) => request(api, asked, onDate),
        toVendorTime: (ms) => ms + offsetMs,
      } as HttpApi;
    },
  };
}

/** A try without a usable answer. */
interface Unusable {
  readonly failure: Failure;
  /** What the vendor did, as the rest of a sentence that its name starts. */
  readonly problem: string;
  readonly vendor?: VendorError | undefined;
}

function readAnswer<T>(
  api: HttpApiOptions,
  exchanged: Exchanged,
  answer: z.ZodType<T> | undefined,
  now: number,
): Unusable | { readonly value: T | undefined } {
  if ("reason" in exchanged) {
    return {
      failure: exchanged.tooLong ? { kind: "answer" } : { kind: "connection", sent: exchanged.sent },
      problem: `gave no usable answer: ${exchanged.reason}`,
    };
  }
  const { status } = exchanged;
  const json = parseJson(exchanged.body);
  if (status < 200 || status > 299) {
    return {
      failure: { kind: "status", status, retryAfterMs: parseRetryAfter(exchanged.retryAfter, now) },
      problem: status < 400 ? "redirects the request" : "did not accept the request",
      vendor: api.parseError?.(json.value),
    };
  }
  if (!answer) return { value: undefined };
  if (!json.ok) {
    const { contentType } = exchanged;
    const kind = contentType === null ? "no content type" : `content type "${contentType}"`;
    return { failure: { kind: "answer" }, problem: `gave an answer that is not JSON, with ${kind}` };
  }
  const parsed = answer.safeParse(json.value);
  if (parsed.success) return { value: parsed.data };
  const faults = parsed.error.issues.map(
    (issue) => `${issue.path.join(".") || "the whole"}: ${issue.message}`,
  );
  return {
    failure: { kind: "answer" },
    problem: `gave an answer that is not in its documented form: ${faults.join("; ")}`,
  };
}

/** One line, free of what would move the terminal's cursor. */
function toLine({ message, code }: VendorError): string {
  const line = message
    .replace(/[\p{Cc}\s]+/gu, " ")
    .trim()
    .slice(0, 500);
  return code === undefined ? line : `${line} (code ${code})`;
}

function waited(sleep: Promise<void>): Promise<boolean> {
  return sleep.then(
    () => true,
    () => false,
  );
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function codeOf(asked: HttpRequest, failure: Failure): ErrorCode {
  if (failure.kind === "answer") return "bad_answer";
  if (failure.kind === "connection") {
    return failure.sent && asked.method !== "GET" ? "answer_lost" : "unreachable";
  }
  const { status } = failure;
  if (status < 400) return "bad_answer";
  if (status === 401 || status === 403) return "authentication_failed";
  if (status === 429) return "rate_limited";
  return status < 500 ? "rejected" : "vendor_failed";
}

/** What to do, where the code's own remedy does not say it. */
function remedyOf(failure: Failure): { remedy?: string } {
  if (failure.kind !== "status") return {};
  if (failure.status < 400) {
    return { remedy: "Redirects are not followed: set the connection's `url` to the final address." };
  }
  if (failure.retryAfterMs === null) return {};
  return { remedy: `The vendor asks to try again in ${seconds(failure.retryAfterMs)}.` };
}

function bodyOf(request: HttpRequest): { text: string; headers: Record<string, string> } | undefined {
  if (request.json !== undefined) {
    return { text: JSON.stringify(request.json), headers: { "content-type": "application/json" } };
  }
  if (request.form) {
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    return { text: request.form.toString(), headers };
  }
  return undefined;
}

/** An empty body is `undefined`, not a fault: what may be empty is for the answer's shape to say. */
function parseJson(body: string): { ok: boolean; value?: unknown } {
  if (body.trim() === "") return { ok: true };
  try {
    return { ok: true, value: JSON.parse(body) };
  } catch {
    return { ok: false };
  }
}

interface ExchangeLimits {
  readonly maxBodyBytes: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

type Exchanged =
  | {
      readonly status: number;
      readonly contentType: string | null;
      readonly retryAfter: string | null;
      readonly date: string | null;
      readonly body: string;
    }
  | {
      readonly reason: string;
      readonly status: number | null;
      /** The request was on its way. */
      readonly sent: boolean;
      readonly tooLong: boolean;
    };

/**
 * One request and its whole answer, or why there is none. Undici's `dispatch` rather than `request`, because its
 * handler is told when the request is written: only that tells a connection that was never made from a lost answer.
 */
function exchange(options: Dispatcher.DispatchOptions, limits: ExchangeLimits): Promise<Exchanged> {
  const timeout = AbortSignal.timeout(limits.timeoutMs);
  const signal = limits.signal ? AbortSignal.any([limits.signal, timeout]) : timeout;

  return new Promise((resolve) => {
    let controller: Dispatcher.DispatchController | undefined;
    let status: number | null = null;
    let contentType: string | null = null;
    let retryAfter: string | null = null;
    let date: string | null = null;
    let bytes = 0;
    const chunks: Buffer[] = [];

    const end = (exchanged: Exchanged): void => {
      signal.removeEventListener("abort", onAbort);
      resolve(exchanged);
    };
    const fail = (reason: string, tooLong = false): void => {
      end({ reason, status, sent: controller !== undefined, tooLong });
    };
    const onAbort = (): void => {
      fail(limits.signal?.aborted ? "cancelled" : `no whole answer within ${seconds(limits.timeoutMs)}`);
      controller?.abort(new Error("aborted"));
    };
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener("abort", onAbort);

    agent().dispatch(options, {
      onRequestStart(started) {
        // Given up while it waited for a connection: it must not be written any more.
        if (signal.aborted) started.abort(new Error("aborted"));
        else controller = started;
      },
      onResponseStart(_controller, statusCode, headers) {
        status = statusCode;
        contentType = first(headers["content-type"]);
        retryAfter = first(headers["retry-after"]);
        date = first(headers.date);
      },
      onResponseData(receiving, chunk) {
        bytes += chunk.length;
        if (bytes > limits.maxBodyBytes) {
          fail(`the answer is longer than ${limits.maxBodyBytes} bytes`, true);
          receiving.abort(new Error("too long"));
          return;
        }
        chunks.push(chunk);
      },
      onResponseEnd() {
        if (status === null) fail("the connection ended without an answer");
        else end({ status, contentType, retryAfter, date, body: Buffer.concat(chunks).toString("utf8") });
      },
      onResponseError(_controller, error) {
        fail(reasonOf(error));
      },
    });
  });
}

function first(value: string | string[] | undefined): string | null {
  return (Array.isArray(value) ? value[0] : value) ?? null;
}

/** Node's and undici's words, with their code; several addresses that all failed come as one error without words. */
function reasonOf(error: Error): string {
  const [cause = error] = error instanceof AggregateError ? (error.errors as Error[]) : [error];
  const code = "code" in cause && typeof cause.code === "string" ? cause.code : undefined;
  return code === undefined || cause.message.includes(code) ? cause.message : `${cause.message} (${code})`;
}
