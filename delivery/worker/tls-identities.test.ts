import { createServer } from "node:http";
import { createServer as createHttpsServer, type ServerOptions } from "node:https";
import { createServer as createTcpServer, type AddressInfo, type Server } from "node:net";
import { TLSSocket } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { createCertificateAuthority, type Issued } from "../../test/certificate-authority.ts";
import type { ClientTls } from "../core/client-tls.ts";
import { createSender, type Sender, type SenderOptions, type Sent } from "./send.ts";
import { createTlsIdentities } from "./tls-identities.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const receivers = createCertificateAuthority("Receivers' Authority");
const clients = createCertificateAuthority("Clients' Authority");
const strangers = createCertificateAuthority("Strangers' Authority");
const hosts = ["hooks.example", "127.0.0.1"];
const receiver = receivers.issue({ commonName: "receiver", hosts });
const [first, second] = [clients.issue({ commonName: "first" }), clients.issue({ commonName: "second" })];
const nothing: ClientTls = { certificate: null, key: null, ca: null };

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    if ("closeAllConnections" in server) (server.closeAllConnections as () => void)();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

interface Seen {
  /** The client's certificate; empty without one. */
  readonly client: string;
  readonly servername: string;
  readonly isResumed: boolean;
  /** Tells connections apart. */
  readonly connection: number;
}

/** A receiver, which answers with what it sees of its client. */
async function openReceiver(
  { certificate, key }: Issued,
  options: ServerOptions & { closes?: boolean } = {},
): Promise<{ port: number; connections: () => number }> {
  let connections = 0;
  const numbers = new WeakMap<object, number>();
  const server = createHttpsServer({ cert: certificate, key, ...options }, ({ socket }, response) => {
    if (!(socket instanceof TLSSocket)) throw new Error("this is no TLS");
    const seen: Seen = {
      // Of a resumed session, only the authority's verdict is left.
      client: (socket.getPeerCertificate() as { subject?: { CN?: string } }).subject?.CN ?? "",
      servername: String((socket as { servername?: unknown }).servername),
      isResumed: socket.isSessionReused(),
      connection: numbers.get(socket) ?? 0,
    };
    if (options.closes) response.setHeader("connection", "close");
    response.end(JSON.stringify(seen));
  });
  server.on("secureConnection", (socket) => numbers.set(socket, ++connections));
  server.on("tlsClientError", () => undefined);
  return { port: await listen(server), connections: () => connections };
}

const mutual: ServerOptions = { requestCert: true, rejectUnauthorized: true, ca: clients.certificate };

function openSender(options: Partial<SenderOptions> = {}): Sender {
  const sender = createSender({
    allowSubnets: ["127.0.0.0/8"],
    userAgent: "Hookplane/1.2.3",
    resolve: async () => [{ address: "127.0.0.1", family: 4 }],
    now: Date.now,
    ca: receivers.certificate,
    ...options,
  });
  cleanups.push(() => sender.close());
  return sender;
}

async function send(sender: Sender, url: string, tls?: Partial<ClientTls>): Promise<Sent> {
  const body = new TextEncoder().encode('{"a":1}');
  const limits = { timeoutMs: 10_000, tls: tls ? { ...nothing, ...tls } : null };
  return await sender.send({ method: "POST", url, headers: {}, body }, limits);
}

async function see(sender: Sender, url: string, tls?: Partial<ClientTls>): Promise<Seen> {
  const { answer, body } = await send(sender, url, tls);
  expect([answer.kind, body]).toEqual(["response", expect.stringContaining("servername")]);
  return JSON.parse(body) as Seen;
}

async function reasonOf(sender: Sender, url: string, tls?: Partial<ClientTls>): Promise<string> {
  const { answer, body } = await send(sender, url, tls);
  expect(answer).toEqual({ kind: "error", reason: body });
  return body;
}

describe("a receiver that asks for a client certificate", () => {
  describe.each(["TLSv1.3", "TLSv1.2"] as const)("in %s", (version) => {
    test("gets the endpoint's", async () => {
      const { port } = await openReceiver(receiver, { ...mutual, maxVersion: version });
      const seen = await see(openSender(), `https://hooks.example:${port}/`, first);
      expect(seen).toMatchObject({ client: "first", servername: "hooks.example" });
    });

    test("refuses a request without one, and one of another authority", async () => {
      const { port, connections } = await openReceiver(receiver, { ...mutual, maxVersion: version });
      const url = `https://hooks.example:${port}/`;
      const sender = openSender();
      expect(await reasonOf(sender, url)).toMatch(/the receiver asks for a client certificate|^TLS failed: /);
      const stranger = strangers.issue({ commonName: "stranger" });
      expect(await reasonOf(sender, url, stranger)).toMatch(/^TLS failed: |ECONNRESET|closed/);
      expect(connections()).toBe(0);
    });
  });

  test("gets a chain, where the certificate has one", async () => {
    const { port } = await openReceiver(receiver, mutual);
    const chained = { ...first, certificate: first.certificate + clients.certificate };
    expect(await see(openSender(), `https://hooks.example:${port}/`, chained)).toMatchObject({
      client: "first",
    });
  });

  test("gets it through many connections at a time, each endpoint's own", async () => {
    const { port, connections } = await openReceiver(receiver, { ...mutual, rejectUnauthorized: false });
    const url = `https://hooks.example:${port}/`;
    const sender = openSender();
    const identities = [first, second, undefined];
    for (let round = 0; round < 3; round++) {
      const seen = await Promise.all(
        Array.from({ length: 30 }, (_, n) => see(sender, url, identities[n % identities.length])),
      );
      expect(seen.map(({ client }) => client)).toEqual(
        Array.from({ length: 30 }, (_, n) => ["first", "second", ""][n % 3]),
      );
    }
    // The connections of the first round were enough for the others.
    expect(connections()).toBeLessThanOrEqual(30);
  });

  test("never sees a connection or session of another identity, also when all are closed", async () => {
    const { port } = await openReceiver(receiver, { ...mutual, rejectUnauthorized: false, closes: true });
    const url = `https://hooks.example:${port}/`;
    const sender = openSender();
    for (const [identity, client] of [
      [first, "first"],
      [second, "second"],
      [undefined, ""],
      [{ ca: receivers.certificate }, ""],
    ] as const) {
      expect(await see(sender, url, identity)).toMatchObject({ client, isResumed: false });
    }
    const again = await see(sender, url, second);
    expect(again).toMatchObject({ client: "second", isResumed: true });
  });
});

test("equal certificates share connections, whichever object they are in", async () => {
  const { port } = await openReceiver(receiver, mutual);
  const sender = openSender();
  const url = `https://hooks.example:${port}/`;
  const numbers: number[] = [];
  for (const tls of [first, { ...first }, { ...first, ca: null }]) {
    numbers.push((await see(sender, url, tls)).connection);
  }
  expect(numbers).toEqual([1, 1, 1]);
});

describe("whom the service believes", () => {
  test("the operator's authority, and nobody unknown", async () => {
    const { port } = await openReceiver(receiver);
    const url = `https://hooks.example:${port}/`;
    expect(await see(openSender(), url)).toMatchObject({ servername: "hooks.example" });
    expect(await reasonOf(openSender({ ca: null }), url)).toMatch(
      /^the receiver's certificate is not accepted: unable to verify the first certificate/,
    );
  });

  test("the endpoint's authority alone, where it has one", async () => {
    const { port } = await openReceiver(receiver);
    const url = `https://hooks.example:${port}/`;
    const tls = { ca: receivers.certificate };
    expect(await see(openSender({ ca: null }), url, tls)).toMatchObject({ servername: "hooks.example" });
    // The operator's would do, but is not asked.
    expect(await reasonOf(openSender(), url, { ca: strangers.certificate })).toContain("is not accepted");
  });

  test("a receiver's own certificate, given as its authority", async () => {
    const nobody = createCertificateAuthority("Nobody else");
    const own = nobody.issue({ commonName: "Nobody else", hosts, keys: nobody.keys });
    const { port } = await openReceiver(own);
    const url = `https://hooks.example:${port}/`;
    expect(await reasonOf(openSender(), url)).toContain("is not accepted: self-signed certificate");
    expect(await see(openSender(), url, { ca: own.certificate })).toMatchObject({
      servername: "hooks.example",
    });
  });

  test("a certificate for an address, where the URL has one", async () => {
    const { port } = await openReceiver(receiver);
    expect(await see(openSender(), `https://127.0.0.1:${port}/`)).toMatchObject({ servername: "false" });
    const { port: other } = await openReceiver(
      receivers.issue({ commonName: "x", hosts: ["hooks.example"] }),
    );
    expect(await reasonOf(openSender(), `https://127.0.0.1:${other}/`)).toContain("is not accepted");
  });

  test("a name with a dot at its end, which is not sent as part of it", async () => {
    const { port } = await openReceiver(receiver);
    expect(await see(openSender(), `https://hooks.example.:${port}/`)).toMatchObject({
      servername: "hooks.example",
    });
  });

  test.each<[string, Issued, RegExp]>([
    [
      "for another name",
      receivers.issue({ commonName: "hooks.example", hosts: ["other.example"] }),
      /altnames/,
    ],
    [
      "that has expired",
      receivers.issue({
        commonName: "x",
        hosts,
        validFrom: new Date("2020-01-01"),
        validTo: new Date("2021-01-01"),
      }),
      /expired/,
    ],
  ])("no certificate %s", async (_name, issued, words) => {
    const { port } = await openReceiver(issued);
    const reason = await reasonOf(openSender(), `https://hooks.example:${port}/`);
    expect(reason).toMatch(/^the receiver's certificate is not accepted: /);
    expect(reason).toMatch(words);
  });

  test("nobody because of NODE_TLS_REJECT_UNAUTHORIZED", async () => {
    const { port } = await openReceiver(strangers.issue({ commonName: "x", hosts }));
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
    cleanups.push(() => delete process.env.NODE_TLS_REJECT_UNAUTHORIZED);
    expect(await reasonOf(openSender(), `https://hooks.example:${port}/`)).toContain("is not accepted");
  });
});

test("connections are kept", async () => {
  const { port, connections } = await openReceiver(receiver);
  const sender = openSender();
  const url = `https://hooks.example:${port}/`;
  const lane = async (): Promise<void> => {
    for (let n = 0; n < 50; n++) await see(sender, url);
  };
  await Promise.all(Array.from({ length: 10 }, lane));
  // One whose last write is not known to be done yet is not taken.
  expect(connections()).toBeLessThanOrEqual(30);
});

test("sessions are resumed", async () => {
  const { port } = await openReceiver(receiver, { closes: true });
  const sender = openSender();
  const url = `https://hooks.example:${port}/`;
  expect(await see(sender, url)).toMatchObject({ isResumed: false, connection: 1 });
  expect(await see(sender, url)).toMatchObject({ isResumed: true, connection: 2 });
  // Another port is another receiver.
  const { port: other } = await openReceiver(receiver, { closes: true });
  expect(await see(sender, `https://hooks.example:${other}/`)).toMatchObject({ isResumed: false });
});

test("certificates that do not fit are not sent, and told without the key", async () => {
  const reason = await reasonOf(openSender(), "https://hooks.example/", {
    certificate: first.certificate,
    key: second.key,
  });
  expect(reason).toBe(
    "not sent: the endpoint's certificates cannot be used: TLS failed: key values mismatch",
  );
});

test("plain HTTP goes without, whatever the endpoint has", async () => {
  const port = await listen(createServer((_request, response) => response.end("plain")));
  expect((await send(openSender(), `http://hooks.example:${port}/`, first)).body).toBe("plain");
});

test.each<[string, (server: Server) => void, RegExp]>([
  [
    "speaks plain HTTP",
    (server) => server.on("connection", (socket) => socket.end("HTTP/1.1 200 OK\r\n\r\n")),
    /^TLS failed: /,
  ],
  [
    "closes at once",
    (server) => server.on("connection", (socket) => socket.end()),
    /closed|ECONNRESET|disconnected/,
  ],
])("a port that %s is told", async (_name, behave, words) => {
  const server = createTcpServer((socket) => socket.on("error", () => undefined));
  behave(server);
  const port = await listen(server);
  expect(await reasonOf(openSender(), `https://hooks.example:${port}/`)).toMatch(words);
});

describe("createTlsIdentities()", () => {
  test("knows equal certificates again, and tells nothing of them", () => {
    const identities = createTlsIdentities(null);
    const identity = identities.of({ ...nothing, ...first });
    expect(identities.of({ ...nothing, ...first })).toBe(identity);
    expect(identities.of({ ...nothing, ...second })).not.toBe(identity);
    expect(identities.of(nothing)).toBe(identities.service);
    expect(identity.id).toMatch(/^[\w-]{43}$/);
  });

  test("keeps no endless number of them", () => {
    const identities = createTlsIdentities(null);
    const identity = identities.of({ ...nothing, ...first });
    for (let n = 0; n < 500; n++) identities.of({ ...nothing, ca: `${receivers.certificate}${n}` });
    const anew = identities.of({ ...nothing, ...first });
    expect(anew).not.toBe(identity);
    expect(anew.id).toBe(identity.id);
  });
});
