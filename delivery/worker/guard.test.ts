import { createServer, type AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createGuardedConnector, isGloballyRoutable, refusalOf, type Resolve } from "./guard.ts";

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
  ])("refuses %s", (url, reason) => {
    expect(refusalOf(new URL(url))).toBe(reason);
  });
});

describe("createGuardedConnector()", () => {
  const server = createServer((socket) => socket.end());
  let port = "";
  let connections = 0;
  beforeAll(async () => {
    server.on("connection", () => connections++);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    port = String((server.address() as AddressInfo).port);
  });
  afterAll(() => server.close());

  /** Connects to a URL as undici would, and answers the error's message, or "connected". */
  function connect(url: string, allowSubnets: string[], resolve?: Resolve): Promise<string> {
    const connector = createGuardedConnector({ allowSubnets, resolve, connectTimeoutMs: 2_000 });
    const { hostname, host, protocol } = new URL(url);
    const bare = hostname.replace(/^\[|\]$/g, "");
    return new Promise((done) => {
      connector({ hostname: bare, host, protocol, port }, (error, socket) => {
        socket?.destroy();
        done(error ? error.message : "connected");
      });
    });
  }
  const answers =
    (...addresses: string[]): Resolve =>
    async () =>
      addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));

  test.each([
    "http://127.0.0.1",
    "http://2130706433",
    "http://0177.0.0.1",
    "http://0x7f.1",
    "http://127.1",
    "http://127.0.0.1.",
    "http://1２7.0.0.1",
    "http://[::1]",
    "http://[::ffff:127.0.0.1]",
    "http://[0:0:0:0:0:ffff:7f00:1]",
    "http://[64:ff9b::7f00:1]",
  ])("refuses %s, however loopback is written", async (url) => {
    const before = connections;
    expect(await connect(url, [])).toContain("is not a public address");
    expect(connections).toBe(before);
  });

  test("refuses a name that the system resolves to loopback", async () => {
    expect(await connect("http://localhost", [])).toContain("is not a public address");
  });

  test("reaches an allowed subnet, also by an IPv4-mapped address", async () => {
    expect(await connect("http://127.0.0.1", ["127.0.0.0/8"])).toBe("connected");
    expect(await connect("http://[::ffff:127.0.0.1]", ["127.0.0.0/8"])).toBe("connected");
    expect(await connect("http://127.0.0.1", ["10.0.0.0/8"])).toContain("is not a public address");
  });

  test("refuses a name when a single one of its addresses is bad", async () => {
    const resolve = answers("93.184.215.14", "10.0.0.1");
    expect(await connect("http://mixed.example", ["127.0.0.0/8"], resolve)).toBe(
      '"mixed.example" is 10.0.0.1, which is not a public address: if it is meant, start the service with --allow-subnet',
    );
  });

  test("connects to the address it checked, although the name's next answer is another", async () => {
    let asked = 0;
    const resolve: Resolve = async () => [{ address: ++asked === 1 ? "127.0.0.1" : "10.0.0.1", family: 4 }];
    expect(await connect("http://rebind.example", ["127.0.0.0/8"], resolve)).toBe("connected");
    expect(asked).toBe(1);
  });

  test("tells when a name has no address", async () => {
    expect(await connect("http://empty.example", [], answers())).toBe('"empty.example" has no address');
  });
});
