import type { Socket, TcpNetConnectOpts } from "node:net";
import type { AddressGuard } from "./guard.ts";
import type { Address } from "./names.ts";
import type { ProxyExceptions } from "./proxy-exceptions.ts";
import { ProxyError, requestTunnel } from "./proxy-handshake.ts";
import type { Proxy } from "./proxy.ts";
import { reasonOf } from "./reason.ts";
import { openTcp, openTls } from "./sockets.ts";
import type { TlsIdentity } from "./tls-identities.ts";
import { createTlsSessions } from "./tls-sessions.ts";

/** Where a connection leads. */
export interface Target {
  /** Equal for those that may share connections and TLS sessions. */
  readonly key: string;
  readonly isTls: boolean;
  /** As in the URL, without brackets. */
  readonly hostname: string;
  readonly port: number;
  readonly identity: TlsIdentity;
}

/** Takes the first `length` bytes of what came; they are overwritten afterwards. */
type Receive = (bytes: Buffer, length: number) => void;

export interface ConnectorOptions {
  readonly guard: AddressGuard;
  readonly proxy: Proxy | null;
  readonly proxyExceptions: ProxyExceptions;
  /** For TLS with the proxy itself. */
  readonly serviceIdentity: TlsIdentity;
  /** How long a connection may take to be made: name, proxy and TLS together. */
  readonly timeoutMs: number;
}

/**
 * Makes a connection, directly or through the proxy; always to an address that the guard has checked.
 *
 * @throws Error whose message is for the attempt's record
 */
export type Connector = (target: Target, receive: Receive, signal: AbortSignal) => Promise<Socket>;

const maxSessions = 1_000;
const readBufferBytes = 64 * 1024;

export function createConnector(options: ConnectorOptions): Connector {
  const { guard, proxy, proxyExceptions, serviceIdentity, timeoutMs } = options;
  const sessions = createTlsSessions(maxSessions);
  // Sockets read into it one after the other, except on Windows, where reads are begun ahead.
  const shared = Buffer.allocUnsafeSlow(readBufferBytes);

  const connectDirectly = (
    { hostname, port, isTls }: Target,
    addresses: readonly Address[],
    receive: Receive,
    signal: AbortSignal,
  ): Promise<Socket> => {
    // The addresses are known: nobody is asked again.
    const lookup: TcpNetConnectOpts["lookup"] = (_hostname, { all }, callback) => {
      const [first] = addresses;
      if (all || !first) callback(null, [...addresses]);
      else callback(null, first.address, first.family);
    };
    if (isTls) return openTcp({ host: hostname, port, lookup }, signal);
    // Past the stream: half of the time that receiving an answer takes is spent in there otherwise.
    const buffer = process.platform === "win32" ? Buffer.allocUnsafeSlow(readBufferBytes) : shared;
    const callback = (length: number): boolean => {
      receive(buffer, length);
      return true;
    };
    return openTcp({ host: hostname, port, lookup, onread: { buffer, callback } }, signal);
  };

  const connectToProxy = async (through: Proxy, signal: AbortSignal): Promise<Socket> => {
    const { hostname, port, protocol } = through;
    try {
      const socket = await openTcp({ host: hostname, port }, signal);
      if (protocol !== "https:") return socket;
      return await openTls(socket, { hostname, identity: serviceIdentity }, signal);
    } catch (cause) {
      signal.throwIfAborted();
      // Its address is none of the endpoints' owners' business.
      throw new Error(`the proxy cannot be reached (${codeOf(cause)})`, { cause });
    }
  };

  /** To the first of the addresses that the proxy reaches. */
  const connectThrough = async (
    through: Proxy,
    addresses: readonly Address[],
    port: number,
    signal: AbortSignal,
  ): Promise<Socket> => {
    let firstError: unknown;
    for (const { address } of addresses) {
      const socket = await connectToProxy(through, signal);
      const abort = (): void => {
        socket.destroy();
      };
      signal.addEventListener("abort", abort, { once: true });
      try {
        await requestTunnel(socket, through, address, port);
        return socket;
      } catch (error) {
        socket.destroy();
        signal.throwIfAborted();
        firstError ??= error;
        if (!(error instanceof ProxyError && error.isAboutAddress)) break;
      } finally {
        signal.removeEventListener("abort", abort);
      }
    }
    throw firstError;
  };

  const connect = async (target: Target, receive: Receive, signal: AbortSignal): Promise<Socket> => {
    const { key, hostname, port, isTls, identity } = target;
    const addresses = await unlessAborted(guard.addressesOf(hostname), signal);
    const ips = addresses.map(({ address }) => address);
    const isDirect = proxy === null || proxyExceptions.has(hostname, port, ips);
    let socket = isDirect
      ? await connectDirectly(target, addresses, receive, signal)
      : await connectThrough(proxy, addresses, port, signal);
    if (isDirect && !isTls) return socket;
    if (isTls) {
      const onSession = (session: Buffer): void => {
        sessions.keep(key, session);
      };
      try {
        socket = await openTls(socket, { hostname, identity, session: sessions.get(key), onSession }, signal);
      } catch (error) {
        throw describeTlsError(error);
      }
    }
    return socket.on("data", (bytes: Buffer) => {
      receive(bytes, bytes.length);
    });
  };

  return async (target, receive, signal) => {
    const limited = new AbortController();
    const abort = (): void => {
      limited.abort(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    const timer = setTimeout(() => {
      limited.abort(new Error(`no connection within ${timeoutMs / 1000} s`));
    }, timeoutMs);
    try {
      return await connect(target, receive, limited.signal);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    }
  };
}

/** The promise's outcome, or the signal's reason where that comes first. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      reject(signal.reason as Error);
    };
    signal.addEventListener("abort", abort, { once: true });
    const stop = (): void => {
      signal.removeEventListener("abort", abort);
    };
    promise.then(resolve, reject).then(stop, stop);
  });
}

/** Codes of Node's for a certificate that it does not believe, such as `DEPTH_ZERO_SELF_SIGNED_CERT`. */
const certificateCode = /^(?!ERR_SSL_).*(?:CERT|SIGNATURE|HOSTNAME|CRL|ISSUER)/;

function describeTlsError(error: unknown): unknown {
  if (!(error instanceof Error) || !certificateCode.test(codeOf(error))) return error;
  // Behind a semicolon, Node advises whoever runs it.
  const [words] = error.message.split(";");
  return new Error(`the receiver's certificate is not accepted: ${words}`, { cause: error });
}

function codeOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  const hasCode = error instanceof Error && "code" in error && typeof error.code === "string";
  return hasCode ? String(error.code) : reasonOf(error);
}
