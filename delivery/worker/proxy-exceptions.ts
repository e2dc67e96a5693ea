import { isIP } from "node:net";
import { domainToASCII } from "node:url";
import { createSubnets } from "./subnets.ts";

/** What is reached without the proxy. */
export interface ProxyExceptions {
  /**
   * @param hostname as in the URL, without brackets
   * @param addresses those that the name was resolved to
   */
  has(hostname: string, port: number, addresses: readonly string[]): boolean;
}

type Rule = (hostname: string, addresses: readonly string[]) => boolean;

/**
 * Reads a list such as `localhost`, `.example.com` (every name below it), `10.1.2.3`, `10.0.0.0/8`, `[::1]:8080`, `*`
 * (everything). An address or a subnet also stands for the names that resolve to nothing else; a port narrows an entry.
 *
 * @throws Error for the entries that are none of these
 */
export function parseProxyExceptions(entries: readonly string[]): ProxyExceptions {
  const rules: { port: number | null; matches: Rule }[] = [];
  const faults: string[] = [];
  for (const entry of entries.map((text) => text.trim())) {
    const { host, port } = splitPort(entry);
    const matches = toRule(host);
    if (matches && (port === null || (port > 0 && port < 65_536))) rules.push({ port, matches });
    else faults.push(`"${entry}"`);
  }
  if (faults.length > 0) {
    throw new Error(
      `Not a host, .domain, address or subnet to reach without the proxy: ${faults.join(", ")}. ` +
        "Give for example localhost, .example.com, 10.0.0.0/8 or [::1]:8080.",
    );
  }
  return {
    has(hostname, port, addresses) {
      const name = withoutDot(hostname.toLowerCase());
      return rules.some(
        (rule) => (rule.port === null || rule.port === port) && rule.matches(name, addresses),
      );
    },
  };
}

function splitPort(entry: string): { host: string; port: number | null } {
  // The colons of a bare IPv6 address or subnet are its own.
  const [, inBrackets, bare, port] = /^(?:\[([^\]]*:[^\]]*)\]|([^:[\]]*))(?::(\d{1,5}))?$/.exec(entry) ?? [];
  const host = inBrackets ?? bare;
  return host === undefined
    ? { host: entry, port: null }
    : { host, port: port === undefined ? null : Number(port) };
}

function toRule(host: string): Rule | null {
  if (host === "*") return () => true;
  const [address = "", prefix, ...rest] = host.split("/");
  const version = isIP(address);
  if (version !== 0) {
    const bits = prefix ?? "0";
    if (rest.length > 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > (version === 4 ? 32 : 128)) return null;
    const subnet = createSubnets([host]);
    return (_hostname, addresses) => addresses.length > 0 && addresses.every((ip) => subnet.has(ip));
  }
  const [, dots = "", name = ""] = /^(\*?\.)?(.+)$/.exec(withoutDot(host.toLowerCase())) ?? [];
  const ascii = domainToASCII(name);
  if (!/^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/.test(ascii)) return null;
  return dots === "" ? (hostname) => hostname === ascii : (hostname) => hostname.endsWith(`.${ascii}`);
}

function withoutDot(hostname: string): string {
  return hostname.endsWith(".") ? hostname.slice(0, -1) : hostname;
}
