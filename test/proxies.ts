import { connect, createServer, isIPv6, type AddressInfo, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";

export interface ProxyFixture {
  readonly port: number;
  /** `host:port` of each connection that was asked for. */
  readonly asked: string[];
  /** How many connections it has now. */
  readonly connections: () => number;
  close(): void;
}

export interface ProxyFixtureOptions {
  /** Asked for where given. */
  readonly credentials?: { readonly username: string; readonly password: string };
  /** Speaks TLS with its clients. */
  readonly tls?: { readonly certificate: string; readonly key: string };
  /** The addresses that it reaches; all by default. */
  readonly reaches?: (address: string) => boolean;
}

/** An HTTP proxy for CONNECT. */
export async function openHttpProxy(options: ProxyFixtureOptions = {}): Promise<ProxyFixture> {
  const { credentials, reaches = () => true } = options;
  const pair = credentials ? `${credentials.username}:${credentials.password}` : "";
  const expected = `Basic ${Buffer.from(pair).toString("base64")}`;
  return await open(options, async (client, asked) => {
    const [line = "", ...headers] = (await client.takeHead()).split("\r\n");
    const [, authority = ""] = /^CONNECT (\S+) HTTP\/1\.1$/.exec(line) ?? [];
    const isAllowed = !credentials || headers.includes(`Proxy-Authorization: ${expected}`);
    if (!isAllowed) {
      client.refuse("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
      return;
    }
    asked.push(authority);
    const url = new URL(`http://${authority}`);
    const host = url.hostname.replace(/^\[|\]$/g, "");
    if (!headers.includes(`Host: ${authority}`) || !reaches(host)) {
      client.refuse("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\nnope");
      return;
    }
    client.pipe(Number(url.port === "" ? 80 : url.port), host, "HTTP/1.1 200 Connection established\r\n\r\n");
  });
}

/** A SOCKS5 proxy (RFC 1928, RFC 1929). */
export async function openSocks5Proxy(options: ProxyFixtureOptions = {}): Promise<ProxyFixture> {
  const { credentials, reaches = () => true } = options;
  return await open(options, async (client, asked) => {
    const [, count = 0] = await client.take(2);
    const methods = [...(await client.take(count))];
    const method = credentials ? 2 : 0;
    if (!methods.includes(method)) {
      client.refuse(Buffer.from([5, 0xff]));
      return;
    }
    client.write(Buffer.from([5, method]));
    if (credentials) {
      const [, userLength = 0] = await client.take(2);
      const username = (await client.take(userLength)).toString();
      const [passwordLength = 0] = await client.take(1);
      const password = (await client.take(passwordLength)).toString();
      const isRight = username === credentials.username && password === credentials.password;
      if (!isRight) {
        client.refuse(Buffer.from([1, 1]));
        return;
      }
      client.write(Buffer.from([1, 0]));
    }
    const [, , , type] = await client.take(4);
    let host: string;
    if (type === 1) host = [...(await client.take(4))].join(".");
    else if (type === 3) host = (await client.take((await client.take(1))[0] ?? 0)).toString();
    else host = (await client.take(16)).toString("hex").match(/.{4}/g)?.join(":") ?? "";
    const port = (await client.take(2)).readUInt16BE();
    asked.push(
      isIPv6(host) ? `[${new URL(`http://[${host}]`).hostname.slice(1, -1)}]:${port}` : `${host}:${port}`,
    );
    if (!reaches(host)) {
      client.refuse(Buffer.from([5, 4, 0, 1, 0, 0, 0, 0, 0, 0]));
      return;
    }
    client.pipe(port, host, Buffer.from([5, 0, 0, 1, 127, 0, 0, 1, 0, 80]));
  });
}

/** What a proxy sees of somebody who is connected to it. */
class Client {
  readonly #socket: Socket;
  #bytes = Buffer.alloc(0);
  #wake: () => void = () => undefined;
  readonly #onData = (chunk: Buffer): void => {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    this.#wake();
  };

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", this.#onData);
  }

  write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  async take(count: number): Promise<Buffer> {
    while (this.#bytes.length < count) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  async takeHead(): Promise<string> {
    let head = "";
    while (!head.endsWith("\r\n\r\n")) head += (await this.take(1)).toString("latin1");
    return head;
  }

  refuse(answer: string | Buffer): void {
    this.#socket.end(answer);
  }

  /** Connects it, and tells so. */
  pipe(port: number, host: string, answer: string | Buffer): void {
    const there = connect(port, host);
    there.on("connect", () => {
      this.#socket.write(answer);
      there.write(this.#bytes);
      this.#socket.off("data", this.#onData);
      this.#socket.pipe(there).pipe(this.#socket);
    });
    there.on("error", () => this.#socket.destroy());
    there.on("close", () => this.#socket.destroy());
    this.#socket.on("close", () => there.destroy());
  }
}

async function open(
  { tls }: ProxyFixtureOptions,
  serve: (client: Client, asked: string[]) => Promise<void>,
): Promise<ProxyFixture> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const onSocket = (socket: Socket): void => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => undefined);
    serve(new Client(socket), asked).catch(() => socket.destroy());
  };
  const server: Server = tls
    ? createTlsServer({ cert: tls.certificate, key: tls.key }, onSocket)
    : createServer(onSocket);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    asked,
    connections: () => sockets.size,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
