import { generateKeyPairSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { createCertificateAuthority } from "../../test/certificate-authority.ts";
import { clientTlsProblems, type ClientTls } from "./client-tls.ts";

const authority = createCertificateAuthority("Test Authority");
const issued = authority.issue({ commonName: "sender.example" });
const other = authority.issue({ commonName: "other.example" });
const nothing: ClientTls = { certificate: null, key: null, ca: null };
const now = Date.now();

const problemsOf = (tls: Partial<ClientTls>): string[] => clientTlsProblems({ ...nothing, ...tls }, now);

describe("clientTlsProblems()", () => {
  test.each<[string, Partial<ClientTls>]>([
    ["nothing at all", {}],
    ["a certificate and its key", issued],
    [
      "the chain behind the certificate",
      { ...issued, certificate: issued.certificate + authority.certificate },
    ],
    ["an authority alone", { ca: authority.certificate }],
    ["several authorities", { ca: authority.certificate + createCertificateAuthority("Second").certificate }],
    ["a receiver's own certificate as its authority", { ca: other.certificate }],
    ["all three", { ...issued, ca: authority.certificate }],
    ["an RSA key in its older form", rsa()],
  ])("has nothing against %s", (_name, tls) => {
    expect(problemsOf(tls)).toEqual([]);
  });

  test("names a certificate without a key, and a key without a certificate", () => {
    expect(problemsOf({ certificate: issued.certificate })).toEqual([
      expect.stringContaining("needs its private key"),
    ]);
    expect(problemsOf({ key: issued.key })).toEqual([expect.stringContaining("needs its certificate")]);
  });

  test("names a key of another certificate, and a chain in the wrong order", () => {
    const expected = [expect.stringContaining('not the one of the certificate of "CN=sender.example"')];
    expect(problemsOf({ certificate: issued.certificate, key: other.key })).toEqual(expected);
    expect(problemsOf({ ...issued, certificate: authority.certificate + issued.certificate })).toEqual([
      expect.stringContaining('"CN=Test Authority"'),
    ]);
  });

  test("names certificates that have expired or are not valid yet, with their day", () => {
    const expired = authority.issue({
      commonName: "old.example",
      validFrom: new Date("2020-01-01T00:00:00Z"),
      validTo: new Date("2021-01-01T00:00:00Z"),
    });
    expect(problemsOf(expired)).toEqual([
      'The certificate of "CN=old.example" in "certificate" expired on 2021-01-01T00:00:00.000Z: renew it.',
    ]);
    const early = authority.issue({
      commonName: "early.example",
      validFrom: new Date("2090-01-01T00:00:00Z"),
      validTo: new Date("2091-01-01T00:00:00Z"),
    });
    expect(problemsOf(early)).toEqual([
      expect.stringContaining('"CN=early.example" in "certificate" is not valid before 2090-01-01'),
    ]);
    expect(clientTlsProblems({ ...nothing, ...early }, Date.parse("2090-06-01"))).toEqual([]);
    const { certificate } = createCertificateAuthority("Old Authority", { validTo: new Date("2021-01-01") });
    expect(problemsOf({ ca: certificate })).toEqual([
      expect.stringContaining('"CN=Old Authority" in "ca" expired'),
    ]);
  });

  test.each<[string, Partial<ClientTls>, string]>([
    ["text", { ca: "hello" }, '"ca" holds no certificate'],
    ["an empty text", { certificate: "", key: issued.key }, '"certificate" holds no certificate'],
    [
      "broken content",
      { ca: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" },
      'Block 1 of "ca", a "CERTIFICATE", cannot be read',
    ],
    [
      "something else in PEM",
      { ca: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n" },
      'Block 1 of "ca", a "PUBLIC KEY", cannot be read',
    ],
    [
      "the key among the certificates",
      { certificate: issued.certificate + issued.key, key: issued.key },
      '"certificate" holds a private key',
    ],
    ["a key that is none", { certificate: issued.certificate, key: "hello" }, '"key" holds no private key'],
    [
      "a public key",
      {
        certificate: issued.certificate,
        key: generateKeyPairSync("ed25519").publicKey.export({ type: "spki", format: "pem" }).toString(),
      },
      '"key" holds no private key',
    ],
    ["an encrypted key", { certificate: issued.certificate, key: encrypted() }, '"key" is encrypted'],
    ["endless text", { ca: "x".repeat(70_000) }, '"ca" is longer than 65536 characters'],
    [
      "an endless key",
      { certificate: issued.certificate, key: "x".repeat(70_000) },
      '"key" is longer than 65536 characters',
    ],
    ["a key too short for TLS", rsa(512), "cannot be used for TLS"],
  ])("refuses %s", (_name, tls, problem) => {
    expect(problemsOf(tls)).toEqual([expect.stringContaining(problem)]);
  });

  test("names all problems at once, and nothing of a key", () => {
    const problems = problemsOf({ certificate: "a", key: issued.key.replace("PRIVATE", "SECRET"), ca: "c" });
    expect(problems).toHaveLength(3);
    const line = issued.key.split("\n")[1]!;
    expect(problems.join()).not.toContain(line.slice(0, 10));
  });
});

/** A certificate for an RSA key, in the form that begins with "BEGIN RSA PRIVATE KEY". */
function rsa(modulusLength = 2048): { certificate: string; key: string } {
  const keys = generateKeyPairSync("rsa", { modulusLength });
  const { certificate } = authority.issue({ commonName: "rsa.example", keys });
  return { certificate, key: keys.privateKey.export({ type: "pkcs1", format: "pem" }).toString() };
}

function encrypted(): string {
  return generateKeyPairSync("ec", { namedCurve: "P-256" })
    .privateKey.export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "secret" })
    .toString();
}
