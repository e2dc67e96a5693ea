import { isIPv4, type Socket } from "node:net";
import { toAuthority, type Proxy } from "./proxy.ts";

/** What a proxy answers to CONNECT is read up to here. */
const maxHeadLength = 16 * 1024;

/** A proxy made no connection. */
export class ProxyError extends Error {
  override readonly name = "ProxyError";
  /** Whether it may reach another address of the same host. */
  readonly isAboutAddress: boolean;

  constructor(message: string, isAboutAddress = false) {
    super(message);
    this.isAboutAddress = isAboutAddress;
  }
}

/**
 * Asks the proxy at the other end of the socket for a connection. What is sent over the socket afterwards arrives there.
 *
 * @param address the one that was checked: a name would be resolved by the proxy, to whatever it finds then
 * @throws ProxyError, never with the credentials
 */
export async function requestTunnel(
  socket: Socket,
  { protocol, credentials }: Proxy,
  address: string,
  port: number,
): Promise<void> {
  if (protocol === "socks5:") await requestSocks5(socket, credentials, address, port);
  else await requestConnect(socket, credentials, address, port);
}

/** RFC 9110, section 9.3.6. */
async function requestConnect(
  socket: Socket,
  credentials: Proxy["credentials"],
  address: string,
  port: number,
): Promise<void> {
  const authority = toAuthority(address, port);
  const lines = [`CONNECT ${authority} HTTP/1.1`, `Host: ${authority}`];
  if (credentials) {
    const pair = Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64");
    lines.push(`Proxy-Authorization: Basic ${pair}`);
  }
  socket.write([...lines, "", ""].join("\r\n"));
  const { head, rest } = await readHead(socket);
  const status = Number(/^HTTP\/1\.\d (\d{3})[ \r]/.exec(head)?.[1] ?? 0);
  if (status < 100)
    throw new ProxyError("the proxy does not answer in HTTP: check the scheme and port of --proxy");
  if (status === 407) {
    throw new ProxyError("the proxy does not take its user name and password (407): check --proxy");
  }
  if (status < 200 || status > 299) {
    throw new ProxyError(`the proxy made no connection to ${authority} (it answered ${status})`, true);
  }
  // What is meant for us through the tunnel comes after our own request.
  if (rest > 0) throw new ProxyError("the proxy sent more than its answer to CONNECT");
}

/** Reads a head, or the beginning of what is none, and tells how many bytes came behind it. */
async function readHead(socket: Socket): Promise<{ head: string; rest: number }> {
  let head = "";
  for (;;) {
    const bytes = socket.read() as Buffer | null;
    if (bytes === null) {
      await untilReadable(socket);
      continue;
    }
    head += bytes.toString("latin1");
    const end = head.indexOf("\r\n\r\n");
    if (end >= 0) return { head, rest: head.length - end - 4 };
    if (!"HTTP/1.".startsWith(head.slice(0, 7))) return { head, rest: 0 };
    if (head.length > maxHeadLength) {
      throw new ProxyError(`the proxy's answer to CONNECT is longer than ${maxHeadLength / 1024} KiB`);
    }
  }
}

const socksVersion = 5;
const passwordVersion = 1;
const withoutPassword = 0;
const withPassword = 2;
/** RFC 1928, section 6. */
const socksReplies: Readonly<Record<number, string>> = {
  1: "general failure",
  2: "not allowed by its rules",
  3: "network unreachable",
  4: "host unreachable",
  5: "connection refused",
  6: "TTL expired",
  7: "command not supported",
  8: "address type not supported",
};
const notAllowed = 2;

/** RFC 1928, and RFC 1929 for user name and password. */
async function requestSocks5(
  socket: Socket,
  credentials: Proxy["credentials"],
  address: string,
  port: number,
): Promise<void> {
  const methods = credentials ? [withoutPassword, withPassword] : [withoutPassword];
  socket.write(Buffer.from([socksVersion, methods.length, ...methods]));
  const [version, method] = await readBytes(socket, 2);
  if (version !== socksVersion) throw notSocks();
  if (method === withPassword && credentials) {
    const username = Buffer.from(credentials.username);
    const password = Buffer.from(credentials.password);
    const lengths = [username.length, password.length] as const;
    socket.write(
      Buffer.concat([
        Buffer.from([passwordVersion, lengths[0]]),
        username,
        Buffer.from([lengths[1]]),
        password,
      ]),
    );
    const [, status] = await readBytes(socket, 2);
    if (status !== 0)
      throw new ProxyError("the proxy does not take its user name and password: check --proxy");
  } else if (method !== withoutPassword) {
    throw new ProxyError("the proxy asks for a user name and password: give them in --proxy");
  }

  const bytes = isIPv4(address) ? [1, ...address.split(".").map(Number)] : [4, ...toIpv6Bytes(address)];
  socket.write(Buffer.from([socksVersion, 1, 0, ...bytes, port >> 8, port & 0xff]));
  const [replyVersion, reply = 0, , boundType] = await readBytes(socket, 4);
  if (replyVersion !== socksVersion) throw notSocks();
  if (reply !== 0) {
    const authority = toAuthority(address, port);
    const why = socksReplies[reply] ?? `code ${reply}`;
    throw new ProxyError(`the proxy made no connection to ${authority} (${why})`, reply !== notAllowed);
  }
  // The address that the proxy took for it, which nobody needs.
  if (boundType === 1) await readBytes(socket, 4 + 2);
  else if (boundType === 4) await readBytes(socket, 16 + 2);
  else if (boundType === 3) await readBytes(socket, ((await readBytes(socket, 1))[0] ?? 0) + 2);
  else throw notSocks();
}

function notSocks(): ProxyError {
  return new ProxyError("the proxy does not speak SOCKS5: check the scheme and port of --proxy");
}

function toIpv6Bytes(address: string): number[] {
  // URL parsing writes an IPv6 address in its shortest form, a dotted tail included.
  const [head = "", tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split("::");
  const toGroups = (text: string): number[] =>
    text === "" ? [] : text.split(":").map((group) => parseInt(group, 16));
  const before = toGroups(head);
  const after = toGroups(tail ?? "");
  const zeros = Array<number>(8 - before.length - after.length).fill(0);
  return [...before, ...zeros, ...after].flatMap((group) => [group >> 8, group & 0xff]);
}

async function readBytes(socket: Socket, count: number): Promise<Buffer> {
  for (;;) {
    const bytes = socket.read(count) as Buffer | null;
    if (bytes?.length === count) return bytes;
    await untilReadable(socket);
  }
}

/** Waits until there is more to read. */
async function untilReadable(socket: Socket): Promise<void> {
  const closed = new ProxyError("the proxy closed the connection before it was made");
  if (socket.readableEnded || socket.destroyed) throw closed;
  await new Promise<void>((resolve, reject) => {
    const settle = (act: () => void) => () => {
      socket.off("readable", onReadable).off("end", onEnd).off("close", onEnd).off("error", onError);
      act();
    };
    const onReadable = settle(resolve);
    const onEnd = settle(() => {
      reject(closed);
    });
    const onError = settle(() => {
      reject(closed);
    });
    socket.on("readable", onReadable).on("end", onEnd).on("close", onEnd).on("error", onError);
  });
}
