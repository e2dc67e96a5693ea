import { isIP } from "node:net";

/** A proxy that the operator has set up; its own address need not be public. */
export interface Proxy {
  readonly protocol: "http:" | "https:" | "socks5:";
  /** A name or an address, without brackets. */
  readonly hostname: string;
  readonly port: number;
  /** Secret. */
  readonly credentials: { readonly username: string; readonly password: string } | null;
}

const protocols: Readonly<Record<string, Pick<Proxy, "protocol" | "port">>> = {
  "http:": { protocol: "http:", port: 80 },
  "https:": { protocol: "https:", port: 443 },
  "socks5:": { protocol: "socks5:", port: 1080 },
  // Asks to leave names to the proxy. Names are resolved and checked here all the same.
  "socks5h:": { protocol: "socks5:", port: 1080 },
};
/** RFC 1929, section 2. */
const maxSocksLength = 255;

/**
 * The proxy of a URL such as `http://user:password@proxy.example:3128`.
 *
 * @throws Error without the credentials
 */
export function parseProxy(text: string): Proxy {
  const url = URL.parse(text);
  const known = url ? protocols[url.protocol] : undefined;
  if (!url || !known || url.hostname === "") {
    throw new Error(
      "The proxy must be an http, https, socks5 or socks5h URL, such as http://proxy.example:3128",
    );
  }
  const shown = `The proxy "${url.protocol}//${url.host}"`;
  if (!/^\/?$/.test(url.pathname) || url.search !== "" || url.hash !== "") {
    throw new Error(`${shown} must have neither path nor query: give scheme, host and port alone`);
  }
  const credentials =
    url.username === "" && url.password === ""
      ? null
      : { username: decoded(url.username), password: decoded(url.password) };
  if (known.protocol === "socks5:") {
    const { username = "x", password = "" } = credentials ?? {};
    if (username === "" || Math.max(byteLength(username), byteLength(password)) > maxSocksLength) {
      throw new Error(`${shown} takes a user name of 1 to 255 bytes, and a password of up to 255`);
    }
  } else if (credentials?.username.includes(":")) {
    throw new Error(`${shown} takes no user name with a colon in it`);
  }
  return {
    protocol: known.protocol,
    hostname: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? known.port : Number(url.port),
    credentials,
  };
}

/** `host:port`, with brackets where an IPv6 address needs them. */
export function toAuthority(hostname: string, port: number): string {
  return isIP(hostname) === 6 ? `[${hostname}]:${port}` : `${hostname}:${port}`;
}

function byteLength(text: string): number {
  return Buffer.byteLength(text);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A stray percent sign stands for itself.
    return text;
  }
}
