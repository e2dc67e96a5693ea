import { headerProblems } from "../core/wire-headers.ts";
import { refusalOf } from "./guard.ts";

/** What a URL says about where requests go, and how they begin. */
export interface Destination {
  readonly isTls: boolean;
  /** Without brackets. */
  readonly hostname: string;
  readonly port: number;
  /** Scheme, host and port. */
  readonly origin: string;
  /** The request line behind the method, and the headers that follow from the URL. */
  readonly headStart: string;
}

/**
 * @throws Error saying why nothing is sent there
 */
export function toDestination(text: string): Destination {
  const url = URL.parse(text);
  const refusal = url ? refusalOf(url) : "the URL is not an absolute one";
  if (!url || refusal !== null) throw new Error(String(refusal));
  const isTls = url.protocol === "https:";
  return {
    isTls,
    hostname: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? (isTls ? 443 : 80) : Number(url.port),
    origin: url.origin,
    headStart: ` ${url.pathname}${url.search} HTTP/1.1\r\nhost: ${url.host}\r\nconnection: keep-alive\r\n`,
  };
}

/** Header names that are known to be right; the names of endpoints' own headers are many, but not endless. */
const knownNames = new Set<string>();
const maxKnownNames = 1_000;
/** What no header's value may have in it. */
const forbidden = /[^\t\x20-\x7e\x80-\xff]/;

/**
 * A request's head as on the wire, in Latin-1.
 *
 * @param bodyBytes null for a request without a body
 * @throws Error for a header that HTTP forbids, or that is the sender's own
 */
export function toHead(
  destination: Destination,
  method: string,
  headers: Readonly<Record<string, string>>,
  userAgent: string,
  bodyBytes: number | null,
): string {
  let head = method + destination.headStart;
  let hasUserAgent = false;
  let hasEncoding = false;
  for (const name in headers) {
    const value = headers[name] ?? "";
    if (!knownNames.has(name) || forbidden.test(value)) checkHeader(name, value);
    if (name === "user-agent") hasUserAgent = true;
    else if (name === "accept-encoding") hasEncoding = true;
    head += `${name}: ${value}\r\n`;
  }
  if (!hasUserAgent) head += `user-agent: ${userAgent}\r\n`;
  // Answers are short, and seldom read.
  if (!hasEncoding) head += "accept-encoding: identity\r\n";
  return bodyBytes === null ? `${head}\r\n` : `${head}content-length: ${bodyBytes}\r\n\r\n`;
}

function checkHeader(name: string, value: string): void {
  const [problem] = headerProblems({ [name]: value });
  if (problem !== undefined) throw new Error(problem);
  if (knownNames.size >= maxKnownNames) knownNames.clear();
  knownNames.add(name);
}
