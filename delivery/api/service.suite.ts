import { mkdtemp, rm } from "node:fs/promises";
import { createServer as createHttpServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiException, Svix } from "svix";
import { expect, vi } from "vitest";
import { defaultConfig, type Config } from "../config.ts";
import { createLogger, type Logger } from "../log.ts";
import { openService, type Service } from "../service.ts";

/** A service of the test's own, on a free port and with an empty data folder. */
export interface TestService extends AsyncDisposable {
  readonly service: Service;
  readonly url: string;
  readonly token: string;
  /** The official client. */
  readonly svix: Svix;
  /** A bare request with the administrator's token; an object is sent as JSON, a text as it is. */
  request(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<TestAnswer>;
}

interface TestAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The answer's JSON; undefined when it is none. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers whose shape they assert.
  readonly json: any;
}

export async function startService(
  settings: Partial<Config> = {},
  logger: Logger = createLogger("silent"),
): Promise<TestService> {
  const dataDir = await mkdtemp(join(tmpdir(), "hookplane-api-"));
  const service = await openService(
    { ...defaultConfig(), port: 0, dataDir, inbox: true, allowSubnets: ["127.0.0.0/8"], ...settings },
    logger,
  );
  const { url } = service;
  const { token } = service.credentials.admin;
  return {
    service,
    url,
    token,
    svix: new Svix(token, { serverUrl: url, retryScheduleInMs: [] }),
    async request(method, path, body, headers = {}) {
      const response = await fetch(url + path, {
        method,
        headers: { authorization: `Bearer ${token}`, ...headers },
        body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
      });
      const text = await response.text();
      return { status: response.status, headers: response.headers, text, json: parseJson(text) };
    },
    async [Symbol.asyncDispose]() {
      await service.close();
      await rm(dataDir, { recursive: true });
    },
  };
}

/** Waits until the assertion holds: for what the service does behind its answers. */
export function eventually(assertion: () => void | Promise<void>): Promise<void> {
  return vi.waitFor(assertion, { timeout: 10_000, interval: 20 });
}

/** What the client's call was refused with. */
export async function refusalOf(call: Promise<unknown>): Promise<{ status: number; body: unknown }> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ApiException);
  const { code, body } = error as ApiException<unknown>;
  return { status: code, body };
}

/** A receiver of deliveries. */
export interface Receiver extends AsyncDisposable {
  readonly url: string;
  readonly requests: {
    readonly method: string;
    readonly url: string;
    readonly headers: IncomingHttpHeaders;
    readonly body: string;
  }[];
  /** What it answers from now on. */
  answer: { status: number; headers?: Record<string, string>; body: string };
}

export async function startReceiver(): Promise<Receiver> {
  const server = createHttpServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { method = "", url = "", headers } = request;
      receiver.requests.push({ method, url, headers, body: Buffer.concat(chunks).toString() });
      response.writeHead(receiver.answer.status, receiver.answer.headers).end(receiver.answer.body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const receiver: Receiver = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    requests: [],
    answer: { status: 200, body: "thanks" },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return receiver;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
