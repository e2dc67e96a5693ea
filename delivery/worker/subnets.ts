import { BlockList, isIP } from "node:net";

/** A set of addresses, given as subnets. */
export interface Subnets {
  /** Whether an address is in one of them, judged by where its packets go in the end; false for what is no address. */
  has(ip: string): boolean;
}

/** @param subnets in CIDR form, or single addresses */
export function createSubnets(subnets: readonly string[]): Subnets {
  // One for each family: a list takes every IPv4 address for the IPv6 one that it is mapped to, which "::/3" has.
  const lists = { ipv4: new BlockList(), ipv6: new BlockList() };
  for (const subnet of subnets) {
    const [address = "", prefix] = subnet.split("/");
    const family = familyOf(address);
    if (prefix === undefined) lists[family].addAddress(address, family);
    else lists[family].addSubnet(address, Number(prefix), family);
  }
  return {
    has(ip) {
      const address = toFinalAddress(ip);
      if (address === null) return false;
      const family = familyOf(address);
      return lists[family].check(address, family);
    },
  };
}

function familyOf(ip: string): "ipv4" | "ipv6" {
  return isIP(ip) === 4 ? "ipv4" : "ipv6";
}

/**
 * The address that packets for this one go to in the end: the IPv4 address inside an IPv4-mapped (::ffff:0:0/96) or
 * NAT64 (64:ff9b::/96) one. Null when it is no address, or one with a zone, which only means something on this host.
 */
export function toFinalAddress(ip: string): string | null {
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
