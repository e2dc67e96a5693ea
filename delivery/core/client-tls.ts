import { createPrivateKey, X509Certificate, type KeyObject } from "node:crypto";
import { createSecureContext } from "node:tls";

/** What the service shows and trusts on TLS connections to an endpoint. */
export interface ClientTls {
  /** Its own certificate in PEM, with the chain behind it where the receiver needs that; null to show none. */
  readonly certificate: string | null;
  /** The private key of `certificate` in PEM, not encrypted. Secret. */
  readonly key: string | null;
  /** Certificates in PEM that vouch for the receiver, alone; null for the public ones and the operator's. */
  readonly ca: string | null;
}

/** Far more than a chain of certificates takes. */
const maxPemLength = 64 * 1024;
const blockPattern = /-----BEGIN ([A-Z0-9 ]+)-----[^-]*-----END \1-----/g;

/**
 * What keeps the certificates and the key from being used, one sentence each; nothing of the key is ever in them.
 *
 * @param now milliseconds since the epoch
 */
export function clientTlsProblems(tls: ClientTls, now: number): string[] {
  const problems: string[] = [];
  const chain = readCertificates("certificate", tls.certificate, now, problems);
  const key = readKey(tls.key, problems);
  readCertificates("ca", tls.ca, now, problems);
  if (tls.certificate !== null && tls.key === null) {
    problems.push('A client certificate needs its private key: give it as "key", in PEM.');
  }
  if (tls.certificate === null && tls.key !== null) {
    problems.push('A private key needs its certificate: give it as "certificate", in PEM.');
  }
  const [own] = chain;
  if (own && key && !own.checkPrivateKey(key)) {
    problems.push(
      `The key is not the one of the certificate of "${subjectOf(own)}": give the certificate itself first, then those ` +
        "that vouch for it, and its own key.",
    );
  }
  // The last word is the TLS library's: keys that are too short, curves that it does not know.
  if (problems.length === 0) problems.push(...libraryProblems(tls));
  return problems;
}

function readCertificates(
  name: "certificate" | "ca",
  pem: string | null,
  now: number,
  problems: string[],
): X509Certificate[] {
  if (pem === null) return [];
  if (pem.length > maxPemLength) {
    problems.push(
      `"${name}" is longer than ${maxPemLength} characters: give only the certificates that are needed.`,
    );
    return [];
  }
  const blocks = [...pem.matchAll(blockPattern)];
  if (blocks.some(([, label]) => label?.endsWith("PRIVATE KEY"))) {
    problems.push(`"${name}" holds a private key: give it as "key", and only there.`);
    return [];
  }
  if (blocks.length === 0) {
    problems.push(`"${name}" holds no certificate: give it in PEM, from "-----BEGIN CERTIFICATE-----" on.`);
    return [];
  }
  const certificates: X509Certificate[] = [];
  for (const [index, [block, label = ""]] of blocks.entries()) {
    const certificate = label === "CERTIFICATE" ? parseCertificate(block) : null;
    if (!certificate) {
      problems.push(
        `Block ${index + 1} of "${name}", a "${label}", cannot be read as a certificate: give it as it was issued.`,
      );
      continue;
    }
    certificates.push(certificate);
    const { validFromDate, validToDate } = certificate;
    const subject = `The certificate of "${subjectOf(certificate)}" in "${name}"`;
    if (validToDate.getTime() < now) {
      problems.push(`${subject} expired on ${validToDate.toISOString()}: renew it.`);
    } else if (validFromDate.getTime() > now) {
      problems.push(
        `${subject} is not valid before ${validFromDate.toISOString()}: wait, or have it issued anew.`,
      );
    }
  }
  return certificates;
}

function parseCertificate(pem: string): X509Certificate | null {
  try {
    return new X509Certificate(pem);
  } catch {
    return null;
  }
}

function readKey(pem: string | null, problems: string[]): KeyObject | null {
  if (pem === null) return null;
  if (pem.length > maxPemLength) {
    problems.push(`"key" is longer than ${maxPemLength} characters: give one private key.`);
    return null;
  }
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type:.*ENCRYPTED/m.test(pem)) {
    problems.push(
      '"key" is encrypted with a passphrase: give it without one. The service encrypts it at rest.',
    );
    return null;
  }
  try {
    return createPrivateKey(pem);
  } catch {
    problems.push(
      '"key" holds no private key that can be read: give it in PEM, as "-----BEGIN PRIVATE KEY-----".',
    );
    return null;
  }
}

function libraryProblems({ certificate, key, ca }: ClientTls): string[] {
  try {
    createSecureContext({
      ...(certificate === null || key === null ? {} : { cert: certificate, key }),
      ...(ca === null ? {} : { ca }),
    });
    return [];
  } catch (error) {
    return [`The certificates cannot be used for TLS (${libraryReasonOf(error)}): have them issued anew.`];
  }
}

/** OpenSSL's own words, such as "ee key too small", without its file names and numbers. */
function libraryReasonOf(error: unknown): string {
  const reason = error instanceof Error && "reason" in error ? error.reason : undefined;
  return typeof reason === "string" ? reason : "refused by the TLS library";
}

function subjectOf(certificate: X509Certificate): string {
  return certificate.subject.replaceAll("\n", ", ");
}
