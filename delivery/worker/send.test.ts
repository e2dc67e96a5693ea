import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import type { OutgoingRequest } from "../core/dialect.ts";
import { createSender, type Sender, type SenderOptions } from "./send.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

async function listen(handler: RequestListener): Promise<{ url: string; server: Server }> {
  const server = createServer(handler);
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, server };
}

function openSender(options: Partial<SenderOptions> = {}): Sender {
  const sender = createSender({
    allowSubnets: ["127.0.0.0/8"],
    userAgent: "Hookplane/1.2.3",
    now: () => Date.parse("2026-03-01T00:00:00Z"),
    ...options,
  });
  cleanups.push(() => sender.close());
  return sender;
}

function post(url: string, headers: Record<string, string> = {}): OutgoingRequest {
  return { method: "POST", url, headers, body: new TextEncoder().encode('{"a":1}') };
}

describe("send()", () => {
  test("sends method, path, headers and body as they are, and tells the answer", async () => {
    let seen: (Pick<IncomingMessage, "method" | "url" | "headers"> & { body: string }) | undefined;
    const { url } = await listen((request, response) => {
      let body = "";
      request.on("data", (chunk: Buffer) => (body += chunk.toString()));
      request.on("end", () => {
        seen = { method: request.method, url: request.url, headers: request.headers, body };
        response.writeHead(201).end("thanks");
      });
    });
    const sent = await openSender().send(post(`${url}?a=%20b`, { "x-key": "v" }), { timeoutMs: 2_000 });
    expect(sent).toMatchObject({
      answer: { kind: "response", status: 201, retryAfterMs: null },
      body: "thanks",
    });
    expect(seen).toMatchObject({
      method: "POST",
      url: "/hook?a=%20b",
      headers: { "x-key": "v", "user-agent": "Hookplane/1.2.3", "content-length": "7" },
      body: '{"a":1}',
    });
  });

  test("sends a GET without a body, and the dialect's own user agent", async () => {
    let seen: IncomingMessage | undefined;
    const { url } = await listen((request, response) => {
      seen = request;
      response.end();
    });
    await openSender().send(
      { method: "GET", url, headers: { "user-agent": "TwilioProxy/1.1" }, body: null },
      { timeoutMs: 2_000 },
    );
    expect(seen?.method).toBe("GET");
    expect(seen?.headers["user-agent"]).toBe("TwilioProxy/1.1");
  });

  test("keeps connections alive from one request to the next", async () => {
    let connections = 0;
    const { url, server } = await listen((_request, response) => response.end());
    server.on("connection", () => connections++);
    const sender = openSender();
    for (let n = 0; n < 20; n++) await sender.send(post(url), { timeoutMs: 2_000 });
    expect(connections).toBe(1);
  });

  test("does not follow a redirect", async () => {
    let requests = 0;
    const { url } = await listen((_request, response) => {
      requests++;
      response.writeHead(302, { location: "/elsewhere" }).end();
    });
    const { answer } = await openSender().send(post(url), { timeoutMs: 2_000 });
    expect(answer).toMatchObject({ kind: "response", status: 302 });
    expect(requests).toBe(1);
  });

  test.each([
    ["30", 30_000],
    ["Sun, 01 Mar 2026 00:02:00 GMT", 120_000],
    ["whenever", null],
  ])("reads Retry-After: %s", async (value, retryAfterMs) => {
    const { url } = await listen((_request, response) =>
      response.writeHead(429, { "retry-after": value }).end(),
    );
    const { answer } = await openSender().send(post(url), { timeoutMs: 2_000 });
    expect(answer).toEqual({ kind: "response", status: 429, retryAfterMs });
  });

  test("keeps 16 KiB of a long answer and stops reading an endless one", async () => {
    const { url } = await listen((_request, response) => {
      response.writeHead(200);
      const write = (): void => {
        while (!response.destroyed && response.write("x".repeat(8_192)));
        response.once("drain", write);
      };
      write();
    });
    const sent = await openSender().send(post(url), { timeoutMs: 5_000 });
    expect(sent.answer).toMatchObject({ kind: "response", status: 200 });
    expect(sent.body).toBe("x".repeat(16_384));
  });

  test.each([
    ["no answer", (): void => undefined],
    [
      "an answer that never ends",
      (_request: IncomingMessage, response: Parameters<RequestListener>[1]): void => {
        response.writeHead(200);
        response.write("a");
      },
    ],
  ])("gives up on %s when the time is over", async (_name, handler: RequestListener) => {
    const { url } = await listen(handler);
    const sent = await openSender().send(post(url), { timeoutMs: 100 });
    expect(sent.answer).toEqual({ kind: "error", reason: "no complete answer within 0.1 s" });
    expect(sent.durationMs).toBeGreaterThanOrEqual(95);
    expect(sent.durationMs).toBeLessThan(1_000);
  });

  test("tells why there was no answer", async () => {
    const { url, server } = await listen((request) => request.socket.destroy());
    expect((await openSender().send(post(url), { timeoutMs: 2_000 })).answer).toMatchObject({
      kind: "error",
    });
    server.close();
    const refused = await openSender().send(post(url), { timeoutMs: 2_000 });
    expect(refused.answer).toEqual({ kind: "error", reason: expect.stringContaining("ECONNREFUSED") });
    expect(refused.body).toContain("ECONNREFUSED");
  });

  test.each([
    ["http://10.0.0.1/", "is not a public address"],
    ["http://user:pass@127.0.0.1/", "not sent: the URL has credentials in it"],
    ["ftp://127.0.0.1/", 'not sent: the scheme "ftp" is not http or https'],
    ["/relative", "not sent: the URL is not an absolute one"],
  ])("does not send to %s", async (url, reason) => {
    const { answer } = await openSender().send(post(url), { timeoutMs: 2_000 });
    expect(answer).toEqual({ kind: "error", reason: expect.stringContaining(reason) });
  });

  test("refuses headers that HTTP forbids instead of sending them", async () => {
    let requests = 0;
    const { url } = await listen((_request, response) => {
      requests++;
      response.end();
    });
    const { answer } = await openSender().send(post(url, { "x-a": "b\r\nx-injected: c" }), {
      timeoutMs: 500,
    });
    expect(answer.kind).toBe("error");
    expect(requests).toBe(0);
  });

  test("survives answers that are no HTTP", async () => {
    const { url, server } = await listen(() => undefined);
    server.on("connection", (socket) => socket.end("garbage\r\n\r\n"));
    expect((await openSender().send(post(url), { timeoutMs: 2_000 })).answer.kind).toBe("error");
  });

  test("sends bodies of any size as they are", async () => {
    const received: Buffer[] = [];
    const { url } = await listen((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        received.push(Buffer.concat(chunks));
        response.end();
      });
    });
    const sender = openSender();
    const bodies = [0, 1, 16_384, 16_385, 3_000_000].map((length) => Buffer.alloc(length, "0123456789"));
    for (const body of bodies) {
      const { answer } = await sender.send({ ...post(url), body }, { timeoutMs: 10_000 });
      expect(answer).toMatchObject({ status: 200 });
    }
    expect(received.map(({ length }) => length)).toEqual(bodies.map(({ length }) => length));
    expect(received.every((body, n) => body.equals(bodies[n]!))).toBe(true);
  });

  test.each([
    ["gzip", gzipSync],
    ["deflate", deflateSync],
    ["br", brotliCompressSync],
  ])("asks for no %s, and reads it all the same", async (encoding, compress) => {
    let accepted: string | undefined;
    const { url } = await listen((request, response) => {
      accepted = String(request.headers["accept-encoding"]);
      response.writeHead(500, { "content-encoding": encoding }).end(compress('{"error":"nö"}'));
    });
    const sent = await openSender().send(post(url), { timeoutMs: 5_000 });
    expect(sent).toMatchObject({ answer: { kind: "response", status: 500 }, body: '{"error":"nö"}' });
    expect(accepted).toBe("identity");
  });

  test("lets no compressed bomb go off", async () => {
    const { url } = await listen((_request, response) => {
      response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync(Buffer.alloc(60_000_000, "0")));
    });
    const sent = await openSender().send(post(url), { timeoutMs: 10_000 });
    expect(sent).toMatchObject({ answer: { kind: "response", status: 200 }, body: "0".repeat(16_384) });
  });

  test("reads the answer after interim ones", async () => {
    const { url } = await listen((_request, response) => {
      response.writeProcessing();
      response.writeEarlyHints({ link: "</a>; rel=preload" });
      response.end("ok");
    });
    const sent = await openSender().send(post(url), { timeoutMs: 5_000 });
    expect(sent).toMatchObject({ answer: { kind: "response", status: 200 }, body: "ok" });
  });

  test("reads an answer that ends with its connection, but none that is cut off there", async () => {
    const { url, server } = await listen(() => undefined);
    let start = "HTTP/1.1 200 OK\r\n\r\n";
    server.on("connection", (socket) => {
      socket.once("data", () => socket.end(`${start}the end`));
    });
    const sender = openSender();
    const whole = await sender.send(post(url), { timeoutMs: 5_000 });
    expect(whole).toMatchObject({ answer: { kind: "response", status: 200 }, body: "the end" });
    start = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n";
    const { body } = await sender.send(post(url), { timeoutMs: 5_000 });
    expect(body).toBe("the connection was closed before the answer was complete");
  });

  test("has no NUL in the record", async () => {
    const { url } = await listen((_request, response) => response.end("a\0b"));
    expect((await openSender().send(post(url), { timeoutMs: 5_000 })).body).toBe("a\ufffdb");
  });

  test("refuses an answer with an endless head", async () => {
    const { url, server } = await listen(() => undefined);
    server.on("connection", (socket) => {
      socket.on("error", () => undefined);
      socket.write(`HTTP/1.1 200 OK\r\n${"x: y\r\n".repeat(10_000)}`);
    });
    const { answer } = await openSender().send(post(url), { timeoutMs: 5_000 });
    expect(answer).toEqual({ kind: "error", reason: "the answer's head is longer than 16 KiB" });
  });

  test("a drop now and then does not lengthen the time", async () => {
    const { url } = await listen((_request, response) => {
      const timer = setInterval(() => response.write("."), 20);
      response.on("close", () => {
        clearInterval(timer);
      });
    });
    const { answer } = await openSender().send(post(url), { timeoutMs: 300 });
    expect(answer).toEqual({ kind: "error", reason: "no complete answer within 0.3 s" });
  });

  describe("reaches no address that it must not", () => {
    test.each([
      "http://127.0.0.1",
      "http://localhost",
      "http://localhost.",
      "http://2130706433",
      "http://0x7f000001",
      "http://017700000001",
      "http://0177.0.0.1",
      "http://127.1",
      "http://127.0.0.1.",
      "http://１２７.０.０.１",
      "http://127。0。0。1",
      "http://①②⑦.0.0.1",
      "http://%31%32%37.0.0.1",
      "http://[::1]",
      "http://[::ffff:127.0.0.1]",
      "http://[64:ff9b::127.0.0.1]",
      "http://[2002:7f00:1::]",
      "http://[::1%25lo]",
      "http://[fe80::1%25eth0]",
      "http://example.com@127.0.0.1",
      "http://example.com%2f@127.0.0.1",
      "http://127.0.0.1\\@example.com",
      "http:\\\\127.0.0.1",
      "http:127.0.0.1",
      "http://0",
      "http://[::]",
      "http://internal.example",
      "http://mixed.example",
    ])("as %s", async (start) => {
      let connections = 0;
      const { url, server } = await listen((_request, response) => response.end());
      server.on("connection", () => connections++);
      const { port } = new URL(url);
      const sender = openSender({
        allowSubnets: [],
        resolve: async (hostname) =>
          (hostname === "mixed.example" ? ["93.184.215.14", "127.0.0.1"] : ["127.0.0.1"]).map((address) => ({
            address,
            family: 4,
          })),
      });
      // The port stands behind the host: what is behind a backslash is a path.
      const target = start.replace(/(\\@.*)?$/, (path) => `:${port}${path}/hook`);
      const { answer } = await sender.send(post(target), { timeoutMs: 5_000 });
      expect(answer).toEqual({
        kind: "error",
        reason: expect.stringMatching(/not a public address|^not sent: /),
      });
      expect(connections).toBe(0);
    });

    test("by a name whose next answer is another", async () => {
      const { url } = await listen((_request, response) => response.end("ok"));
      const { port } = new URL(url);
      let asked = 0;
      const sender = openSender({
        allowSubnets: ["127.0.0.1/32"],
        resolve: async () => [{ address: ++asked === 1 ? "127.0.0.1" : "127.0.0.2", family: 4 }],
      });
      const { body } = await sender.send(post(`http://rebind.example:${port}/`), { timeoutMs: 5_000 });
      expect([body, asked]).toEqual(["ok", 1]);
    });

    test("by a redirect", async () => {
      let reached = 0;
      const inner = await listen((_request, response) => {
        reached++;
        response.end();
      });
      for (const status of [301, 302, 303, 307, 308]) {
        const { url } = await listen((_request, response) => {
          response.writeHead(status, { location: inner.url, refresh: `0; url=${inner.url}` }).end();
        });
        const { answer } = await openSender().send(post(url), { timeoutMs: 5_000 });
        expect(answer).toMatchObject({ kind: "response", status });
      }
      expect(reached).toBe(0);
    });
  });

  test("cuts off what is under way when it is closed", async () => {
    const { url } = await listen(() => undefined);
    const sender = openSender();
    const sending = sender.send(post(url), { timeoutMs: 10_000 });
    await new Promise((resolve) => setTimeout(resolve, 50));
    await sender.close();
    expect((await sending).answer.kind).toBe("error");
    expect(sender.isClosed).toBe(true);
    expect((await sender.send(post(url), { timeoutMs: 1_000 })).answer.kind).toBe("error");
  });
});
