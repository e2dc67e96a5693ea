import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

/** A request as the server got it. */
export interface VendorRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The client's port: equal for requests on one connection. */
  readonly clientPort: number;
}

export interface VendorAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON; an empty answer when left out. */
  readonly json?: unknown;
}

/**
 * What the server does instead of answering as it should:
 * an answer of one's own; `garbage`, a 200 that is not JSON; `truncated`, an answer that breaks off; `drip`, one that never
 * ends; `endless`, one that never ends and does so fast; `reset before effect` and `reset after effect`, a connection cut before and
 * after the request was carried out; `nothing`, silence.
 */
export type Misbehavior =
  | VendorAnswer
  | "garbage"
  | "truncated"
  | "drip"
  | "endless"
  | "reset before effect"
  | "reset after effect"
  | "nothing";

export interface VendorServer extends AsyncDisposable {
  readonly url: string;
  /** Every request so far, in order. */
  readonly requests: readonly VendorRequest[];
  /** Misbehave at the next requests, one behavior each; `null` behaves. */
  readonly misbehave: (...behaviors: readonly (Misbehavior | null)[]) => void;
}

/** A vendor's API on a free port of this machine that misbehaves on command. */
export async function openVendorServer(
  handle: (request: VendorRequest) => VendorAnswer | Promise<VendorAnswer>,
): Promise<VendorServer> {
  const requests: VendorRequest[] = [];
  const queue: (Misbehavior | null)[] = [];
  const timers = new Set<NodeJS.Timeout>();

  const server = createServer((incoming, response) => {
    void text(incoming).then(async (body) => {
      const request: VendorRequest = {
        method: incoming.method ?? "",
        path: incoming.url ?? "",
        headers: incoming.headers,
        body,
        clientPort: incoming.socket.remotePort ?? 0,
      };
      requests.push(request);
      const behavior = queue.shift() ?? null;
      if (behavior === null) answer(response, await handle(request));
      else if (typeof behavior === "object") answer(response, behavior);
      else await misbehaveNow(behavior, request, response);
    });
  });

  async function misbehaveNow(
    behavior: Exclude<Misbehavior, VendorAnswer>,
    request: VendorRequest,
    response: ServerResponse,
  ): Promise<void> {
    const json = { "content-type": "application/json" };
    switch (behavior) {
      case "garbage":
        response.writeHead(200, { "content-type": "text/html" }).end("<html>Login</html>");
        return;
      case "truncated":
        response.writeHead(200, { ...json, "content-length": "100" }).write('{"data":');
        setImmediate(() => response.destroy());
        return;
      case "drip":
      case "endless": {
        response.writeHead(200, json);
        const [part, everyMs] = behavior === "drip" ? [" ", 10] : [" ".repeat(65_536), 1];
        const timer = setInterval(() => response.write(part), everyMs);
        timers.add(timer);
        response.on("close", () => {
          clearInterval(timer);
        });
        return;
      }
      case "reset before effect":
        response.destroy();
        return;
      case "reset after effect":
        await handle(request);
        response.destroy();
        return;
      case "nothing":
        return;
    }
  }

  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    misbehave(...behaviors) {
      queue.push(...behaviors);
    },
    async [Symbol.asyncDispose]() {
      for (const timer of timers) clearInterval(timer);
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

function answer(response: ServerResponse, given: VendorAnswer): void {
  const json = given.json === undefined ? undefined : JSON.stringify(given.json);
  const type = json === undefined ? {} : { "content-type": "application/json" };
  response.writeHead(given.status, { ...type, ...given.headers }).end(json);
}
