import { promises as dns, type LookupAddress } from "node:dns";
import { BlockList, isIP, type LookupFunction } from "node:net";
import { buildConnector } from "undici";

/** A request was refused before anything was sent: its address is none that deliveries may reach. */
class AddressRefusedError extends Error {
  override readonly name = "AddressRefusedError";
}

/** Finds all addresses of a host name. */
export type Resolve = (hostname: string) => Promise<readonly LookupAddress[]>;

export interface GuardOptions {
  /** Subnets that may be reached although they are not globally routable, such as `127.0.0.0/8`. */
  readonly allowSubnets: readonly string[];
  /** The system's resolver by default. */
  readonly resolve?: Resolve;
  /** How long a connection may take to be made, TLS included. */
  readonly connectTimeoutMs: number;
}

// https://www.iana.org/assignments/iana-ipv4-special-registry, and 224.0.0.0/4 and 240.0.0.0/4.
const specialIpv4 = toBlockList([
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
]);

// Everything outside 2000::/3 is special; so are these inside it: IETF protocols with Teredo, documentation, 6to4.
const specialIpv6 = toBlockList([
  "::/3",
  "4000::/2",
  "8000::/1",
  "2001::/23",
  "2001:db8::/32",
  "2002::/16",
  "3fff::/20",
]);

/** Whether anybody on the internet may have the address: not one of this host, its network, or a special purpose. */
export function isGloballyRoutable(ip: string): boolean {
  const address = unwrap(ip);
  if (address === null) return false;
  return !(isIP(address) === 4 ? specialIpv4.check(address, "ipv4") : specialIpv6.check(address, "ipv6"));
}

/** Subnets in CIDR form as a list to check addresses against. */
function toBlockList(subnets: readonly string[]): BlockList {
  const list = new BlockList();
  for (const subnet of subnets) {
    const [address = "", prefix = ""] = subnet.split("/");
    list.addSubnet(address, Number(prefix), isIP(address) === 4 ? "ipv4" : "ipv6");
  }
  return list;
}

/**
 * Why a request for the URL is refused whatever its host resolves to; null when nothing speaks against it. A literal
 * address needs no look at its spelling: parsing the URL has turned decimal, octal and hexadecimal forms into the usual.
 */
export function refusalOf(url: URL): string | null {
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    return `the scheme "${url.protocol.slice(0, -1)}" is not http or https`;
  }
  if (url.username !== "" || url.password !== "") return "the URL has credentials in it";
  return null;
}

/**
 * A connector for undici that only reaches addresses it has checked: a name is resolved once, and refused if any of its
 * addresses is neither globally routable nor in an allowed subnet; the connection goes to the very addresses that were
 * checked, so an answer that changes in between (DNS rebinding) changes nothing.
 */
export function createGuardedConnector(options: GuardOptions): buildConnector.connector {
  const resolve = options.resolve ?? ((hostname) => dns.lookup(hostname, { all: true }));
  const allowed = toBlockList(options.allowSubnets);
  const mayReach = (ip: string): boolean => {
    if (isGloballyRoutable(ip)) return true;
    const address = unwrap(ip);
    return address !== null && allowed.check(address, isIP(address) === 4 ? "ipv4" : "ipv6");
  };

  const lookup: LookupFunction = (hostname, lookupOptions, callback) => {
    resolve(hostname).then(
      (addresses) => {
        const [first] = addresses;
        const refused = addresses.find(({ address }) => !mayReach(address));
        if (refused) callback(refusal(`"${hostname}" is ${refused.address}, which`), "");
        else if (!first) callback(new AddressRefusedError(`"${hostname}" has no address`), "");
        else if (lookupOptions.all) callback(null, [...addresses]);
        else callback(null, first.address, first.family);
      },
      (error: unknown) => {
        callback(error as NodeJS.ErrnoException, "");
      },
    );
  };
  const connect = buildConnector({ lookup, timeout: options.connectTimeoutMs, allowH2: false });

  return (target, callback) => {
    // A literal address is never looked up.
    if (isIP(target.hostname) !== 0 && !mayReach(target.hostname)) {
      callback(refusal(`"${target.hostname}"`), null);
      return;
    }
    connect(target, callback);
  };
}

function refusal(subject: string): AddressRefusedError {
  return new AddressRefusedError(
    `${subject} is not a public address: if it is meant, start the service with --allow-subnet`,
  );
}

/**
 * The address that packets for this one go to in the end: the IPv4 address inside an IPv4-mapped (::ffff:0:0/96) or
 * NAT64 (64:ff9b::/96) one. Null when it is no address, or one with a zone, which only means something on this host.
 */
function unwrap(ip: string): string | null {
  const version = isIP(ip);
  if (version === 4) return ip;
  if (version !== 6 || ip.includes("%")) return null;
  const groups = toGroups(ip);
  const prefix = groups.slice(0, 6).join(":");
  if (prefix !== "0:0:0:0:0:ffff" && prefix !== "64:ff9b:0:0:0:0") return ip;
  return groups
    .slice(6)
    .flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 0xff])
    .join(".");
}

/** The eight groups of an IPv6 address, without leading zeros. */
function toGroups(ip: string): string[] {
  // URL parsing writes an IPv6 address in its shortest form, a dotted tail included.
  const [head = "", tail] = new URL(`http://[${ip}]`).hostname.slice(1, -1).split("::");
  const before = head === "" ? [] : head.split(":");
  if (tail === undefined) return before;
  const after = tail === "" ? [] : tail.split(":");
  return [...before, ...Array<string>(8 - before.length - after.length).fill("0"), ...after];
}
