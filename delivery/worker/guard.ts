import { isIP } from "node:net";
import type { Address, Resolve } from "./names.ts";
import { createSubnets, toFinalAddress } from "./subnets.ts";

/** A request was refused before anything was sent: its address is none that deliveries may reach. */
class AddressRefusedError extends Error {
  override readonly name = "AddressRefusedError";
}

export interface GuardOptions {
  /** Subnets that may be reached although they are not globally routable, such as `127.0.0.0/8`. */
  readonly allowSubnets: readonly string[];
  readonly resolve: Resolve;
}

/** Decides which addresses may be reached. Whoever connects must connect to the very addresses that it answered. */
export interface AddressGuard {
  /**
   * The addresses of a host that is an address itself, or a name, which is resolved once: an answer that changes between
   * check and connection (DNS rebinding) changes nothing.
   *
   * @throws AddressRefusedError if any of them is neither globally routable nor in an allowed subnet
   */
  addressesOf(hostname: string): Promise<readonly Address[]>;
}

// https://www.iana.org/assignments/iana-ipv4-special-registry, and 224.0.0.0/4 and 240.0.0.0/4. Everything outside of
// 2000::/3 is special; so are these inside it: IETF protocols with Teredo, documentation, 6to4.
const special = createSubnets([
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
  return toFinalAddress(ip) !== null && !special.has(ip);
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

export function createAddressGuard({ allowSubnets, resolve }: GuardOptions): AddressGuard {
  const allowed = createSubnets(allowSubnets);
  const mayReach = (ip: string): boolean => isGloballyRoutable(ip) || allowed.has(ip);
  return {
    async addressesOf(hostname) {
      const family = isIP(hostname);
      if (family !== 0) {
        if (!mayReach(hostname)) throw refusal(`"${hostname}"`);
        return [{ address: hostname, family }];
      }
      const addresses = await resolve(hostname);
      const refused = addresses.find(({ address }) => !mayReach(address));
      if (refused) throw refusal(`"${hostname}" is ${refused.address}, which`);
      if (addresses.length === 0) throw new AddressRefusedError(`"${hostname}" has no address`);
      return addresses;
    },
  };
}

function refusal(subject: string): AddressRefusedError {
  return new AddressRefusedError(
    `${subject} is not a public address: if it is meant, start the service with --allow-subnet`,
  );
}
