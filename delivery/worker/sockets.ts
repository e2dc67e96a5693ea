import { connect as connectTcp, isIP, type Socket, type TcpNetConnectOpts } from "node:net";
import { connect as connectTls } from "node:tls";
import type { TlsIdentity } from "./tls-identities.ts";

/** How long the next address of a host waits for the one before. Node's own 250 ms give up those that are far away. */
const nextAddressMs = 1_000;

/** Opens a socket; it is destroyed when the signal comes first. */
export function openTcp(options: TcpNetConnectOpts, signal: AbortSignal): Promise<Socket> {
  const socket = connectTcp({ ...options, noDelay: true, autoSelectFamilyAttemptTimeout: nextAddressMs });
  return untilOpen(socket, "connect", signal);
}

export interface TlsOptions {
  /** Whom the other side must be. */
  readonly hostname: string;
  readonly identity: TlsIdentity;
  /** To be resumed. */
  readonly session?: Buffer | undefined;
  /** Hears of sessions that can be resumed. */
  readonly onSession?: (session: Buffer) => void;
}

/** Speaks TLS over an open socket; both are destroyed when the signal comes first. */
export function openTls(
  socket: Socket,
  { hostname, identity, session, onSession }: TlsOptions,
  signal: AbortSignal,
): Promise<Socket> {
  const secure = connectTls({
    socket,
    host: hostname,
    // RFC 6066, section 3: a name without a dot at its end, and no address.
    ...(isIP(hostname) === 0 ? { servername: hostname.replace(/\.$/, "") } : {}),
    secureContext: identity.context,
    ...(session ? { session } : {}),
    ALPNProtocols: ["http/1.1"],
    // Whatever NODE_TLS_REJECT_UNAUTHORIZED says.
    rejectUnauthorized: true,
  });
  if (onSession) secure.on("session", onSession);
  return untilOpen(secure, "secureConnect", signal);
}

/** Waits for the event; destroys the socket when it fails or is called off before. */
function untilOpen(socket: Socket, event: "connect" | "secureConnect", signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      signal.removeEventListener("abort", onAbort);
      socket.destroy();
      reject(error);
    };
    const onAbort = (): void => {
      fail(signal.reason as Error);
    };
    const onClose = (): void => {
      fail(new Error("the connection was closed before it was made"));
    };
    // It stays: an error that nobody listens for would end the process.
    socket.on("error", fail);
    socket.once("close", onClose);
    socket.once(event, () => {
      signal.removeEventListener("abort", onAbort);
      socket.off("close", onClose);
      resolve(socket);
    });
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}
