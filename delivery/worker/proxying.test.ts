import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import {
  createServer as createTcpServer,
  type AddressInfo,
  type Server as TcpServer,
  type Socket,
} from "node:net";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createCertificateAuthority } from "../../test/certificate-authority.ts";
import {
  openHttpProxy,
  openSocks5Proxy,
  type ProxyFixture,
  type ProxyFixtureOptions,
} from "../../test/proxies.ts";
import type { Resolve } from "./names.ts";
import { createSender, type Sender, type SenderOptions } from "./send.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const authority = createCertificateAuthority("Test Authority");

/** Tells each request's Host header and server name in its answer. */
const listener: RequestListener = ({ headers, socket }, response) => {
  const servername = "servername" in socket ? String(socket.servername) : "";
  response.end(`${headers.host ?? ""} ${servername}`);
};

async function listen(server: Server | TcpServer): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    if ("closeAllConnections" in server) server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function openReceiver(): Promise<number> {
  return await listen(createServer(listener));
}

async function openTlsReceiver(): Promise<number> {
  const { certificate, key } = authority.issue({ commonName: "receiver", hosts: ["hooks.example"] });
  return await listen(createHttpsServer({ cert: certificate, key }, listener));
}

function openSender(proxy: string, options: Partial<SenderOptions> = {}): Sender {
  const sender = createSender({
    allowSubnets: ["127.0.0.0/8"],
    userAgent: "Hookplane/1.2.3",
    resolve: async () => [{ address: "127.0.0.1", family: 4 }],
    now: Date.now,
    ca: authority.certificate,
    proxy,
    ...options,
  });
  cleanups.push(() => sender.close());
  return sender;
}

async function send(sender: Sender, url: string, timeoutMs = 10_000): Promise<string> {
  const body = new TextEncoder().encode('{"a":1}');
  return (await sender.send({ method: "POST", url, headers: {}, body }, { timeoutMs })).body;
}

const credentials = { username: "us er", password: "p@ss:wörd" };
const userinfo = "us%20er:p%40ss%3Aw%C3%B6rd";
const proxyTls = authority.issue({ commonName: "proxy", hosts: ["localhost"] });

interface Kind {
  readonly open: (options?: ProxyFixtureOptions) => Promise<ProxyFixture>;
  readonly url: (port: number, userinfo?: string) => string;
}

const toUrl =
  (start: string, host = "127.0.0.1"): Kind["url"] =>
  (port, user) =>
    `${start}://${user === undefined ? "" : `${user}@`}${host}:${port}`;

const kinds: Record<string, Kind> = {
  "HTTP proxy": { open: openHttpProxy, url: toUrl("http") },
  "HTTPS proxy": {
    open: (options) => openHttpProxy({ ...options, tls: proxyTls }),
    url: toUrl("https", "localhost"),
  },
  "SOCKS5 proxy": { open: openSocks5Proxy, url: toUrl("socks5") },
  "SOCKS5 proxy as socks5h": { open: openSocks5Proxy, url: toUrl("socks5h") },
};

async function openProxy(kind: Kind, options?: ProxyFixtureOptions): Promise<ProxyFixture> {
  const proxy = await kind.open(options);
  cleanups.push(() => {
    proxy.close();
  });
  return proxy;
}

describe.each(Object.entries(kinds))("%s", (_name, kind) => {
  test("is asked for the address that was checked; the receiver sees the name", async () => {
    const proxy = await openProxy(kind);
    const [plain, secure] = [await openReceiver(), await openTlsReceiver()];
    const sender = openSender(kind.url(proxy.port));
    expect(await send(sender, `http://hooks.example:${plain}/`)).toBe(`hooks.example:${plain} `);
    expect(await send(sender, `https://hooks.example:${secure}/`)).toBe(
      `hooks.example:${secure} hooks.example`,
    );
    expect(proxy.asked).toEqual([`127.0.0.1:${plain}`, `127.0.0.1:${secure}`]);
  });

  test("takes user name and password, and a wrong one is told without it", async () => {
    const proxy = await openProxy(kind, { credentials });
    const port = await openReceiver();
    const url = `http://hooks.example:${port}/`;
    expect(await send(openSender(kind.url(proxy.port, userinfo)), url)).toContain("hooks.example");
    const wrong = await send(openSender(kind.url(proxy.port, "us%20er:s3cret")), url);
    expect(wrong).toMatch(/^the proxy does not take its user name and password.*: check --proxy$/);
    const none = await send(openSender(kind.url(proxy.port)), url);
    expect(none).toMatch(/^the proxy (does not take its|asks for a) user name and password/);
    expect(proxy.asked).toHaveLength(1);
  });

  test("keeps a connection for more requests", async () => {
    const proxy = await openProxy(kind);
    const port = await openTlsReceiver();
    const sender = openSender(kind.url(proxy.port));
    for (let n = 0; n < 5; n++) await send(sender, `https://hooks.example:${port}/`);
    expect(proxy.asked).toHaveLength(1);
  });

  test("opens no way around the address guard", async () => {
    const proxy = await openProxy(kind);
    const port = await openReceiver();
    const resolve: Resolve = async (hostname) =>
      hostname === "localhost."
        ? [{ address: "127.0.0.1", family: 4 }]
        : ["93.184.215.14", "10.0.0.1"].map((address) => ({ address, family: 4 }));
    const sender = openSender(kind.url(proxy.port), { allowSubnets: [], resolve });
    for (const host of ["127.0.0.1", "localhost.", "[::1]", "0x7f.1", "mixed.example"]) {
      expect(await send(sender, `http://${host}:${port}/`)).toContain("is not a public address");
    }
    expect(proxy.asked).toEqual([]);
    expect(proxy.connections()).toBe(0);
  });

  test("is not asked to resolve a name again: an answer that changes changes nothing", async () => {
    const proxy = await openProxy(kind);
    const port = await openReceiver();
    let asked = 0;
    const resolve: Resolve = async () => [{ address: ++asked === 1 ? "127.0.0.1" : "10.0.0.1", family: 4 }];
    expect(
      await send(openSender(kind.url(proxy.port), { resolve }), `http://hooks.example:${port}/`),
    ).toContain("hooks.example");
    expect(proxy.asked).toEqual([`127.0.0.1:${port}`]);
  });

  test("is asked for the next address when it cannot reach one", async () => {
    const proxy = await openProxy(kind, { reaches: (address) => address === "127.0.0.1" });
    const port = await openReceiver();
    const addresses = [
      { address: "::1", family: 6 },
      { address: "127.0.0.2", family: 4 },
      { address: "127.0.0.1", family: 4 },
    ];
    const options = { resolve: async () => addresses, allowSubnets: ["127.0.0.0/8", "::1/128"] };
    const sender = openSender(kind.url(proxy.port), options);
    expect(await send(sender, `http://hooks.example:${port}/`)).toContain("hooks.example");
    expect(proxy.asked).toEqual([`[::1]:${port}`, `127.0.0.2:${port}`, `127.0.0.1:${port}`]);
  });

  test("tells when the proxy reaches none of the addresses", async () => {
    const proxy = await openProxy(kind, { reaches: () => false });
    const reason = await send(openSender(kind.url(proxy.port, userinfo)), "http://hooks.example/");
    expect(reason).toMatch(
      /^the proxy made no connection to 127\.0\.0\.1:80 \((it answered 502|host unreachable)\)$/,
    );
  });

  test("is left out for what is excepted", async () => {
    const proxy = await openProxy(kind);
    const port = await openReceiver();
    const sender = openSender(kind.url(proxy.port), { noProxy: [".internal.example", "127.0.0.0/8:1"] });
    expect(await send(sender, `http://a.internal.example:${port}/`)).toContain("a.internal.example");
    expect(proxy.asked).toEqual([]);
    expect(await send(sender, `http://b.example:${port}/`)).toContain("b.example");
    expect(proxy.asked).toHaveLength(1);
  });

  test("that is down is told without its address", async () => {
    const proxy = await openProxy(kind);
    proxy.close();
    const reason = await send(openSender(kind.url(proxy.port, userinfo)), "http://hooks.example/");
    expect(reason).toBe("the proxy cannot be reached (ECONNREFUSED)");
  });

  test("that stalls holds an attempt no longer than its time, and leaves no connection behind", async () => {
    const sockets = new Set<Socket>();
    const port = await listen(
      createTcpServer((socket) => {
        sockets.add(socket);
        socket.on("close", () => sockets.delete(socket)).on("error", () => undefined);
        socket.resume();
      }),
    );
    const sender = openSender(kind.url(port, userinfo));
    expect(await send(sender, "http://hooks.example/", 200)).toBe("no connection within 0.2 s");
    await vi.waitFor(() => {
      expect(sockets.size).toBe(0);
    }, 10_000);
  });

  test.each([
    ["closes at once", (socket: Socket): unknown => socket.end()],
    ["resets", (socket: Socket): unknown => socket.resetAndDestroy()],
    ["answers something else", (socket: Socket): unknown => socket.end("220 mail.example ESMTP\r\n\r\n")],
    [
      "answers without an end",
      (socket: Socket): unknown => socket.write(`HTTP/1.1 200 ${"x".repeat(100_000)}`),
    ],
    ["answers nothing readable", (socket: Socket): unknown => socket.write(Buffer.alloc(64))],
  ])("that %s is told, without the credentials", async (_what, act) => {
    const port = await listen(
      createTcpServer((socket) => {
        socket.on("error", () => undefined).once("data", () => act(socket));
      }),
    );
    const reason = await send(openSender(kind.url(port, "user:s3cret")), "http://hooks.example/", 2_000);
    expect(reason).toMatch(/^the proxy('s answer| closed| does not| cannot be reached)/);
    expect(reason).not.toMatch(/s3cret|user:/);
  });
});

test("an HTTPS proxy must show a certificate that is believed, for its name", async () => {
  const stranger = createCertificateAuthority("Stranger").issue({ commonName: "x", hosts: ["localhost"] });
  const port = await openReceiver();
  for (const tls of [stranger, authority.issue({ commonName: "y", hosts: ["other.example"] })]) {
    const proxy = await openProxy({ ...kinds["HTTPS proxy"]!, open: () => openHttpProxy({ tls }) });
    const sender = openSender(`https://user:s3cret@localhost:${proxy.port}`);
    expect(await send(sender, `http://hooks.example:${port}/`)).toMatch(
      /^the proxy cannot be reached \((UNABLE_TO_VERIFY_LEAF_SIGNATURE|ERR_TLS_CERT_ALTNAME_INVALID)\)$/,
    );
    expect(proxy.asked).toEqual([]);
  }
});

test("what a proxy sends behind its answer is not taken for the receiver's", async () => {
  const port = await listen(
    createTcpServer((socket) => {
      socket
        .on("error", () => undefined)
        .once("data", () => {
          socket.write("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        });
    }),
  );
  expect(await send(openSender(`http://127.0.0.1:${port}`), "http://hooks.example/")).toBe(
    "the proxy sent more than its answer to CONNECT",
  );
});

test("a SOCKS5 proxy's rules are told, and nobody else is tried", async () => {
  const asked: Buffer[] = [];
  const port = await listen(
    createTcpServer((socket) => {
      socket
        .on("error", () => undefined)
        .once("data", () => {
          socket.write(Buffer.from([5, 0]));
          socket.once("data", (request: Buffer) => {
            asked.push(request);
            socket.write(Buffer.from([5, 2, 0, 1, 0, 0, 0, 0, 0, 0]));
          });
        });
    }),
  );
  const resolve: Resolve = async () => [
    { address: "127.0.0.1", family: 4 },
    { address: "127.0.0.2", family: 4 },
  ];
  expect(await send(openSender(`socks5://127.0.0.1:${port}`, { resolve }), "http://hooks.example/")).toBe(
    "the proxy made no connection to 127.0.0.1:80 (not allowed by its rules)",
  );
  expect(asked).toHaveLength(1);
});

test.each([
  [{ proxy: "ftp://user:s3cret@p.example" }, "The proxy must be an http, https, socks5 or socks5h URL"],
  [{ proxy: null, noProxy: ["10.0.0.0/99"] }, '"10.0.0.0/99"'],
])("a sender is not made with %j", (options, message) => {
  expect(() => createSender({ allowSubnets: [], userAgent: "x", now: Date.now, ...options })).toThrow(
    message,
  );
});
