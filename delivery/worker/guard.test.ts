import { describe, expect, test } from "vitest";
import { createAddressGuard, isGloballyRoutable, refusalOf } from "./guard.ts";
import { systemResolve, type Resolve } from "./names.ts";

describe("isGloballyRoutable()", () => {
  test.each([
    ["8.8.8.8", "a public address"],
    ["100.63.255.255", "just before the shared address space"],
    ["172.32.0.1", "just after a private network"],
    ["2606:4700:4700::1111", "a public address"],
    ["::ffff:8.8.8.8", "IPv4-mapped, judged as IPv4"],
    ["64:ff9b::808:808", "NAT64, judged by the address inside"],
  ])("lets %s through: %s", (ip) => {
    expect(isGloballyRoutable(ip)).toBe(true);
  });

  test.each([
    ["0.0.0.0", "this host"],
    ["10.1.2.3", "private"],
    ["100.64.0.1", "shared address space"],
    ["127.0.0.1", "loopback"],
    ["127.255.255.254", "loopback"],
    ["169.254.169.254", "link-local, cloud metadata"],
    ["172.16.0.1", "private"],
    ["172.31.255.255", "private"],
    ["192.0.0.8", "IETF"],
    ["192.0.2.1", "documentation"],
    ["192.88.99.1", "6to4 relay"],
    ["192.168.1.1", "private"],
    ["198.18.0.1", "benchmarking"],
    ["198.51.100.1", "documentation"],
    ["203.0.113.1", "documentation"],
    ["224.0.0.1", "multicast"],
    ["240.0.0.1", "reserved"],
    ["255.255.255.255", "broadcast"],
    ["::", "unspecified"],
    ["::1", "loopback"],
    ["::7f00:1", "IPv4-compatible"],
    ["::ffff:127.0.0.1", "IPv4-mapped loopback"],
    ["::ffff:7f00:1", "IPv4-mapped loopback"],
    ["0:0:0:0:0:ffff:a00:1", "IPv4-mapped private"],
    ["::ffff:0:8.8.8.8", "IPv4-translated"],
    ["64:ff9b::7f00:1", "NAT64 of loopback"],
    ["64:ff9b::a9fe:a9fe", "NAT64 of link-local"],
    ["64:ff9b:1::1", "local NAT64"],
    ["100::1", "discard"],
    ["2001::1", "Teredo"],
    ["2001:db8::1", "documentation"],
    ["2002:7f00:1::", "6to4"],
    ["2002:808:808::1", "6to4"],
    ["3fff::1", "documentation"],
    ["5f00::1", "segment routing"],
    ["fc00::1", "unique local"],
    ["fd12:3456::1", "unique local"],
    ["fe80::1", "link-local"],
    ["fe80::1%eth0", "with a zone"],
    ["2606:4700::1%eth0", "with a zone"],
    ["fec0::1", "site-local"],
    ["ff02::1", "multicast"],
    ["example.com", "no address"],
    ["", "no address"],
  ])("refuses %s: %s", (ip) => {
    expect(isGloballyRoutable(ip)).toBe(false);
  });
});

describe("refusalOf()", () => {
  test.each(["http://example.com/", "https://example.com:8443/a?b"])("has nothing against %s", (url) => {
    expect(refusalOf(new URL(url))).toBeNull();
  });

  test.each([
    ["ftp://example.com", 'the scheme "ftp" is not http or https'],
    ["file:///etc/passwd", 'the scheme "file" is not http or https'],
    ["http://user:pass@example.com", "the URL has credentials in it"],
    ["http://127.0.0.1@example.com", "the URL has credentials in it"],
    ["http://example.com:80@127.0.0.1/", "the URL has credentials in it"],
    ["http://example.com%00@127.0.0.1/", "the URL has credentials in it"],
    ["http://:@127.0.0.1:1@example.com/", "the URL has credentials in it"],
  ])("refuses %s", (url, reason) => {
    expect(refusalOf(new URL(url))).toBe(reason);
  });
});

describe("addressesOf()", () => {
  /** Asks as a connection to the URL does: the addresses, or why there are none. */
  async function ask(url: string, allowSubnets: string[], resolve: Resolve = systemResolve): Promise<string> {
    const { hostname } = new URL(url);
    try {
      const guard = createAddressGuard({ allowSubnets, resolve });
      const addresses = await guard.addressesOf(hostname.replace(/^\[|\]$/g, ""));
      return addresses.map(({ address }) => address).join(" ");
    } catch (error) {
      return (error as Error).message;
    }
  }
  const answers =
    (...addresses: string[]): Resolve =>
    async () =>
      addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));

  test.each([
    "http://127.0.0.1",
    "http://2130706433",
    "http://017700000001",
    "http://0177.0.0.1",
    "http://0x7f000001",
    "http://0x7f.1",
    "http://127.1",
    "http://127.0.1",
    "http://0",
    "http://127.0.0.1.",
    "http://0x7f.1.",
    "http://%31%32%37.0.0.1",
    "http://127.0.0.%31",
    "http://1２7.0.0.1",
    "http://１２７.０.０.１",
    "http://①②⑦.0.0.1",
    "http://127。0。0。1",
    "http://127．0．0．1",
    "http://127｡0｡0｡1",
    "http://127.0.0\n.1",
    "http://127.0.0.1\\@example.com",
    "http://127.0.0.1#@example.com",
    "http://127.0.0.1?@example.com",
    "http:127.0.0.1",
    "http:\\\\127.0.0.1",
    "http://[::1]",
    "http://[0:0:0:0:0:0:0:1]",
    "http://[::]",
    "http://[::127.0.0.1]",
    "http://[::ffff:127.0.0.1]",
    "http://[::ffff:7f00:1]",
    "http://[0:0:0:0:0:ffff:7f00:1]",
    "http://[::ffff:0:127.0.0.1]",
    "http://[64:ff9b::127.0.0.1]",
    "http://[64:ff9b::7f00:1]",
    "http://[64:ff9b:1::127.0.0.1]",
    "http://[2002:7f00:1::]",
    "http://[2001:0:7f00:1::]",
    "http://[fe80::1]",
  ])("refuses %j, however a special address is written", async (url) => {
    expect(await ask(url, [])).toMatch(/^"[0-9a-f.:]+" is not a public address/);
  });

  test.each(["http://[fe80::1%25eth0]/", "http://[::1%25lo]/", "http://127.0.0.1.1/", "http://256.0.0.1/"])(
    "%s is no URL at all",
    (url) => {
      expect(URL.parse(url)).toBeNull();
    },
  );

  test.each(["localhost", "LOCALHOST", "localhost.", "ｌocalhost"])(
    "refuses %s, which the system resolves to loopback",
    async (host) => {
      // Some systems do not know the name with a dot at its end.
      expect(await ask(`http://${host}`, [])).toMatch(/is not a public address|ENOTFOUND|EAI_AGAIN/);
    },
  );

  test.each(["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "fe80::1%eth0"])(
    "refuses a name that is %s",
    async (address) => {
      expect(await ask("http://name.example", [], answers(address))).toContain(
        `"name.example" is ${address}, which is not a public address`,
      );
    },
  );

  test("answers the addresses of a public name, all that there are", async () => {
    const resolve = answers("93.184.215.14", "2606:4700:4700::1111");
    expect(await ask("http://good.example", [], resolve)).toBe("93.184.215.14 2606:4700:4700::1111");
  });

  test("lets allowed subnets through, also by an IPv4-mapped address", async () => {
    expect(await ask("http://127.0.0.1", ["127.0.0.0/8"])).toBe("127.0.0.1");
    expect(await ask("http://[::ffff:127.0.0.1]", ["127.0.0.0/8"])).toBe("::ffff:7f00:1");
    expect(await ask("http://[fd00::1]", ["fd00::/8"])).toBe("fd00::1");
    expect(await ask("http://127.0.0.1", ["10.0.0.0/8"])).toContain("is not a public address");
  });

  test.each([
    ["after a good one", ["93.184.215.14", "10.0.0.1"]],
    ["before a good one", ["10.0.0.1", "93.184.215.14"]],
    ["of the other family", ["93.184.215.14", "::ffff:10.0.0.1"]],
  ])("refuses a name with a single bad address, %s", async (_name, addresses) => {
    expect(await ask("http://mixed.example", ["127.0.0.0/8"], answers(...addresses))).toMatch(
      /^"mixed.example" is (::ffff:)?10.0.0.1, which is not a public address: if it is meant, start the service with --allow-subnet$/,
    );
  });

  test("asks once: the answer is what is connected to", async () => {
    let asked = 0;
    const resolve: Resolve = async () => [{ address: ++asked === 1 ? "127.0.0.1" : "10.0.0.1", family: 4 }];
    expect(await ask("http://rebind.example", ["127.0.0.0/8"], resolve)).toBe("127.0.0.1");
    expect(asked).toBe(1);
  });

  test("tells when a name has no address", async () => {
    expect(await ask("http://empty.example", [], answers())).toBe('"empty.example" has no address');
  });
});
