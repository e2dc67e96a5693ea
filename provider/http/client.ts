import { setTimeout as wait } from "node:timers/promises";
import { Agent, type Dispatcher } from "undici";
import type { z } from "zod";
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
export interface HttpClock {
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

export interface HttpClientOptions {
  /** How errors name the vendor: `Twilio`. */
  readonly vendor: string;
  /** Absolute http(s) address that every path is appended to. */
  readonly baseUrl: string;
  /** Headers that authenticate one try; called for each, since some carry the time. */
  readonly authorize: () => Readonly<Record<string, string>>;
  /** Reads an error's JSON body (`undefined` when it had none); `undefined` when it is not the vendor's. */
  readonly parseError?: (body: unknown) => VendorError | undefined;
  /** Never shown: where the vendor echoes one of these in an error, it is blotted out. */
  readonly secrets?: readonly string[];
  /** Ends what is in flight and every wait. */
  readonly signal?: AbortSignal;
  readonly limits?: Partial<HttpLimits>;
  readonly clock?: HttpClock;
}

export interface HttpRequest {
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

export interface HttpClient {
  /**
   * The answer in the shape of `answer`; an empty one is `undefined` to it. Throws {@link HttpError}: an answer that is
   * not 2xx (redirects are not followed), is not JSON, is too long, has another shape, or never came within the limits.
   */
  request<T>(request: HttpRequest & { readonly answer: z.ZodType<T> }): Promise<T>;
  /** The same where the answer's content does not matter. */
  request(request: HttpRequest): Promise<void>;
}

/** What an {@link HttpError} knows. */
export interface HttpErrorDetails {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  /** The answer's status; `null` when no answer came. */
  readonly status: number | null;
  /** The vendor's own error code. */
  readonly vendorCode: string | number | null;
  /** The vendor's own words, in one line of at most 500 characters. */
  readonly vendorMessage: string | null;
  /** How long the vendor asks to wait, in milliseconds. */
  readonly retryAfterMs: number | null;
  /** Whether the request changed something: see {@link Outcome}. A read never does. */
  readonly outcome: Outcome;
  /** The caller's signal ended it. */
  readonly aborted: boolean;
}

/** A request that did not succeed, told without its query, its body or its credentials. */
export class HttpError extends Error implements HttpErrorDetails {
  override readonly name = "HttpError";
  readonly method: string;
  readonly path: string;
  readonly status: number | null;
  readonly vendorCode: string | number | null;
  readonly vendorMessage: string | null;
  readonly retryAfterMs: number | null;
  readonly outcome: Outcome;
  readonly aborted: boolean;

  constructor(message: string, details: HttpErrorDetails) {
    super(message);
    this.method = details.method;
    this.path = details.path;
    this.status = details.status;
    this.vendorCode = details.vendorCode;
    this.vendorMessage = details.vendorMessage;
    this.retryAfterMs = details.retryAfterMs;
    this.outcome = details.outcome;
    this.aborted = details.aborted;
  }
}

/** One pool for the process, so that a thousand resources share a few connections to each vendor. */
let sharedAgent: Agent | undefined;
function agent(): Agent {
  sharedAgent ??= new Agent({ connect: { timeout: 10_000 }, connections: 32, allowH2: false });
  return sharedAgent;
}

/**
 * A vendor's API over HTTP: keep-alive, 10 s to connect, {@link defaultHttpLimits}, retries as each request allows.
 * Throws a `TypeError` when `baseUrl` is not an absolute http(s) URL.
 */
export function createHttpClient(options: HttpClientOptions): HttpClient {
  const base = new URL(options.baseUrl);
  if (base.protocol !== "http:" && base.protocol !== "https:") {
    throw new TypeError(`The url of ${options.vendor} must start with http:// or https://.`);
  }
  const prefix = base.pathname.replace(/\/+$/, "");
  const limits: HttpLimits = { ...defaultHttpLimits, ...options.limits };
  const clock = options.clock ?? systemClock;
  const { signal } = options;

  async function request<T>(asked: HttpRequest & { readonly answer?: z.ZodType<T> }): Promise<T | undefined> {
    const path = prefix + asked.path;
    const shownPath = path.replace(/\?.*/s, "");
    const body = bodyOf(asked);
    const startedAt = clock.now();

    for (let attempts = 1; ; attempts++) {
      const timeLeftMs = startedAt + limits.totalTimeoutMs - clock.now();
      const exchanged = await exchange(
        {
          origin: base.origin,
          path,
          method: asked.method,
          headers: { accept: "application/json", ...body?.headers, ...asked.headers, ...options.authorize() },
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
      const read = readAnswer(exchanged, asked.answer);
      if ("value" in read) return read.value;

      const { failure } = read;
      const elapsedMs = clock.now() - startedAt;
      const delayMs = signal?.aborted
        ? null
        : retryDelayMs({
            safety: asked.retry,
            failure,
            attempts,
            elapsedMs,
            limits,
            random: () => clock.random(),
          });
      // A wait ends early only by the signal; the failure that it followed is then the error.
      if (delayMs !== null && (await waited(clock.sleep(delayMs, signal)))) continue;

      const aborted = signal?.aborted === true;
      const vendor = read.vendor && cleaned(read.vendor);
      const told = [
        "reason" in exchanged
          ? `${options.vendor} gave no usable answer to ${asked.method} ${shownPath} at ${base.host}: ${exchanged.reason}`
          : `${options.vendor} answered ${asked.method} ${shownPath} with ${exchanged.status}`,
        ...(vendor
          ? [`: ${vendor.message}${vendor.code === undefined ? "" : ` (code ${vendor.code})`}`]
          : []),
        ...(read.fault === undefined ? [] : [`, but ${read.fault}`]),
      ].join("");
      const tries = attempts > 1 ? ` (tried ${attempts} times in ${seconds(elapsedMs)})` : "";
      const remedy = aborted ? "The operation was canceled." : remedyOf(failure);
      throw new HttpError(`${told.replace(/\.$/, "")}${tries}.${remedy === "" ? "" : ` ${remedy}`}`, {
        method: asked.method,
        path: shownPath,
        status: exchanged.status,
        vendorCode: vendor?.code ?? null,
        vendorMessage: vendor?.message ?? null,
        retryAfterMs: failure.kind === "status" ? failure.retryAfterMs : null,
        outcome:
          asked.method === "GET" ? (exchanged.status === null ? "unsent" : "rejected") : outcomeOf(failure),
        aborted,
      });
    }
  }

  function readAnswer<T>(
    exchanged: Exchanged,
    answer: z.ZodType<T> | undefined,
  ): Unusable | { readonly value: T | undefined } {
    if ("reason" in exchanged) {
      return {
        failure: exchanged.tooLong ? { kind: "answer" } : { kind: "connection", sent: exchanged.sent },
      };
    }
    const { status } = exchanged;
    const json = parseJson(exchanged.body);
    if (status < 200 || status > 299) {
      const retryAfterMs = parseRetryAfter(exchanged.retryAfter, clock.now());
      return { failure: { kind: "status", status, retryAfterMs }, vendor: options.parseError?.(json.value) };
    }
    if (!answer) return { value: undefined };
    if (!json.ok) {
      const { contentType } = exchanged;
      const kind = contentType === null ? "no content type" : `content type "${contentType}"`;
      return { failure: { kind: "answer" }, fault: `the content (${kind}) is not JSON` };
    }
    const parsed = answer.safeParse(json.value);
    if (parsed.success) return { value: parsed.data };
    const faults = parsed.error.issues.map(
      (issue) => `${issue.path.join(".") || "the whole"}: ${issue.message}`,
    );
    return { failure: { kind: "answer" }, fault: `not in its documented form (${faults.join("; ")})` };
  }

  /** One line, free of secrets and of what would move the terminal's cursor. */
  function cleaned(vendor: VendorError): VendorError {
    let { message } = vendor;
    for (const secret of options.secrets ?? []) {
      if (secret !== "") message = message.replaceAll(secret, "[secret]");
    }
    return {
      ...vendor,
      message: message
        .replace(/[\p{Cc}\s]+/gu, " ")
        .trim()
        .slice(0, 500),
    };
  }

  return { request: request };
}

/** A try without a usable answer. */
interface Unusable {
  readonly failure: Failure;
  readonly vendor?: VendorError | undefined;
  /** What is wrong with the content of a 2xx. */
  readonly fault?: string;
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

function remedyOf(failure: Failure): string {
  if (failure.kind === "connection") return "Check the connection's url and the network.";
  if (failure.kind === "answer") return "Check that the connection's url is the base of the vendor's API.";
  const { status, retryAfterMs } = failure;
  if (status < 400) return "Redirects are not followed: set the connection's url to the final address.";
  if (status === 401 || status === 403) return "Check the connection's credentials.";
  return retryAfterMs === null ? "" : `The vendor asks to wait ${seconds(retryAfterMs)}.`;
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
        else end({ status, contentType, retryAfter, body: Buffer.concat(chunks).toString("utf8") });
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
