import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Connection } from "./config.ts";
import { CommandFailure, type FailureCode } from "./failure.ts";
import { Progress } from "./progress.ts";

/** Parameters of a query string; what is undefined is left out, and a list is given as often as it has items. */
export type Query = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

interface RequestOptions {
  readonly query?: Query;
  /** A value that is sent as JSON, or the text of one. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a service has answered. */
export interface ServiceAnswer {
  readonly status: number;
  readonly text: string;
  /** Undefined where there is none. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- shaped by the API, which is the same program's.
  readonly json: any;
}

const requestTimeoutMs = 30_000;
/** Tries in all, and how long the service may ask to wait between two of them. */
const maxTries = 6;
const maxWaitMs = 30_000;
const pageLimit = 250;

/** The most that is waited for a service that is busy or restarting. */
const waitsMs = [250, 500, 1_000, 2_000, 4_000];

/**
 * A service's API. A request that was not answered, or that the service was too busy for, is made again: each that
 * changes something carries an `Idempotency-Key`, so that it is done once.
 */
export class ServiceClient {
  readonly url: string;
  readonly #token: string;
  #hasAnswered = false;

  constructor({ url, token }: Connection) {
    this.url = url;
    this.#token = token;
  }

  /** @throws CommandFailure that says what the service has against it, or why it cannot be reached */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<ServiceAnswer> {
    const headers =
      method === "POST" ? { "idempotency-key": randomUUID(), ...options.headers } : options.headers;
    const progress = new Progress();
    try {
      for (let tries = 1; ; tries++) {
        const outcome = await this.#try(method, path, { ...options, headers });
        if (!("waitMs" in outcome)) return outcome;
        if (tries === maxTries) throw outcome.failure;
        const endsAt = performance.now() + Math.max(outcome.waitMs, waitsMs[tries - 1] ?? 0);
        while (performance.now() < endsAt) {
          progress.show(() => `Waiting for the service: ${outcome.failure.message}`);
          await sleep(Math.min(250, Math.max(1, endsAt - performance.now())));
        }
      }
    } finally {
      progress.end();
    }
  }

  /** Every item of a list, page by page, until there are `limit`. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- as `ServiceAnswer.json`.
  async *list(path: string, query: Query, limit: number): AsyncGenerator<any> {
    let iterator: string | undefined;
    for (let left = limit; left > 0;) {
      const { json } = await this.request("GET", path, {
        query: { ...query, limit: Math.min(left, pageLimit), iterator },
      });
      yield* json.data;
      left -= json.data.length;
      if (json.done === true || typeof json.iterator !== "string") return;
      iterator = json.iterator;
    }
  }

  /**
   * Opens a stream of server-sent events.
   *
   * @throws CommandFailure as `request` does; there is no second try
   */
  async stream(
    path: string,
    { query, lastEventId, signal }: { query: Query; lastEventId: string; signal: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array>> {
    const headers = {
      accept: "text/event-stream",
      ...(lastEventId !== "" && { "last-event-id": lastEventId }),
    };
    const response = await this.#send("GET", path, { query, headers }, signal);
    if (response.status === 200 && response.body && isOf(response, "text/event-stream")) return response.body;
    throw (await this.#failureOf(response)).failure;
  }

  async #try(
    method: string,
    path: string,
    options: RequestOptions,
  ): Promise<ServiceAnswer | { readonly failure: CommandFailure; readonly waitMs: number }> {
    let response: Response;
    let text: string;
    try {
      response = await this.#send(method, path, options, AbortSignal.timeout(requestTimeoutMs));
      if (response.status >= 300) return await this.#failureOf(response);
      text = await response.text();
    } catch (error) {
      if (!(error instanceof CommandFailure)) return this.#unreachable(error);
      // One that has never answered is not there; one that has may be restarting.
      if (error.code === "service_unreachable" && this.#hasAnswered) return { failure: error, waitMs: 0 };
      throw error;
    }
    this.#hasAnswered = true;
    const json = parseJson(text);
    if (text !== "" && json === undefined) throw this.#notAService(response);
    return { status: response.status, text, json };
  }

  async #send(
    method: string,
    path: string,
    { query = {}, body, headers }: RequestOptions,
    signal: AbortSignal,
  ): Promise<Response> {
    const url = new URL(this.url + path);
    for (const [name, value] of Object.entries(query)) {
      if (value === undefined) continue;
      for (const item of [value].flat()) url.searchParams.append(name, String(item));
    }
    try {
      return await fetch(url, {
        method,
        headers: {
          ...headers,
          authorization: `Bearer ${this.#token}`,
          ...(body !== undefined && { "content-type": "application/json" }),
        },
        body: body === undefined ? null : typeof body === "string" ? body : JSON.stringify(body),
        redirect: "manual",
        signal,
      });
    } catch (error) {
      if (
        signal.aborted &&
        !(signal.reason instanceof DOMException && signal.reason.name === "TimeoutError")
      ) {
        throw error;
      }
      throw this.#unreachable(error).failure;
    }
  }

  #unreachable(error: unknown): { readonly failure: CommandFailure; readonly waitMs: number } {
    const failure = new CommandFailure(
      "service_unreachable",
      `The service at "${this.url}" cannot be reached (${reasonOf(error)}): start it with hookplane serve, or give its address with --url or HOOKPLANE_URL.`,
      { cause: error },
    );
    return { failure, waitMs: 0 };
  }

  #notAService(response: Response): CommandFailure {
    const what = `${response.status} ${response.headers.get("content-type") ?? "without a content type"}`;
    return new CommandFailure(
      "not_a_service",
      `What listens at "${this.url}" is no service of Hookplane's, or there is something between (it has answered with ${what}): give the service's own address with --url or HOOKPLANE_URL.`,
    );
  }

  /** What an answer that is no success says; where another try makes sense, that throws nothing. */
  async #failureOf(
    response: Response,
  ): Promise<{ readonly failure: CommandFailure; readonly waitMs: number }> {
    const { status } = response;
    const text = await response.text().catch(() => "");
    const json = parseJson(text) as { code?: unknown; detail?: unknown } | undefined;
    const detail = json?.detail;
    if (typeof detail !== "string" && !Array.isArray(detail)) {
      // A proxy's word for a service that is not there just now.
      if (status === 502 || status === 503 || status === 504) {
        return { failure: this.#unreachable(new Error(`status ${status}`)).failure, waitMs: 1_000 };
      }
      throw this.#notAService(response);
    }
    this.#hasAnswered = true;
    const message = typeof detail === "string" ? sentence(detail) : faultsOf(detail);
    if (status === 429 || status === 503) {
      const failure = new CommandFailure("service_unavailable", message);
      const waitMs = Number(response.headers.get("retry-after") ?? 0) * 1000;
      if (waitMs > maxWaitMs) throw failure;
      return { failure, waitMs };
    }
    if (status >= 500) {
      const id = response.headers.get("x-request-id");
      throw new CommandFailure("service_failed", `${message} The request's id is "${id ?? "unknown"}".`);
    }
    throw new CommandFailure(codeOf(status), withRemedy(message));
  }
}

function codeOf(status: number): FailureCode {
  switch (status) {
    case 401:
      return "authentication_failed";
    case 403:
      return "forbidden";
    case 404:
      return "not_found";
    case 409:
      return "conflict";
    case 413:
      return "payload_too_large";
    case 422:
      return "validation";
    default:
      return "refused";
  }
}

/** All faults of a request, a line each: `body.channels.0: …`. */
function faultsOf(detail: readonly unknown[]): string {
  const lines = detail.map((item) => {
    const { loc, msg } = item as { loc?: unknown; msg?: unknown };
    const place = Array.isArray(loc) ? loc.slice(loc[0] === "body" && loc.length > 1 ? 1 : 0).join(".") : "";
    return `${place === "" ? "" : `${place}: `}${String(msg)}`;
  });
  return lines.join("\n");
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** What a person can do about it from here. */
function withRemedy(message: string): string {
  if (message.startsWith("There is no application ")) {
    return `${message} hookplane applications shows which there are.`;
  }
  if (message.startsWith("There is no endpoint ")) {
    return `${message} hookplane endpoints <app> shows which there are.`;
  }
  return message;
}

function isOf(response: Response, contentType: string): boolean {
  return response.headers.get("content-type")?.startsWith(contentType) ?? false;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What stands behind `fetch failed`: `ECONNREFUSED` and the like. */
function reasonOf(error: unknown): string {
  let reason = error;
  while (reason instanceof Error && reason.cause instanceof Error) reason = reason.cause;
  if (!(reason instanceof Error)) return String(reason);
  if ("code" in reason && typeof reason.code === "string") return reason.code;
  return reason.name === "TimeoutError" ? "no answer in time" : reason.message;
}
