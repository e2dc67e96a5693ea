import { generateKeyPairSync, randomBytes, sign, type KeyObject } from "node:crypto";
import { isIPv4 } from "node:net";

/** A certificate and its key, both in PEM. */
export interface Issued {
  readonly certificate: string;
  readonly key: string;
}

export interface CertificateRequest {
  /** One like the authority's but for case would make it a certificate that is signed by itself. */
  readonly commonName: string;
  /** Host names and IPv4 addresses that it is good for. */
  readonly hosts?: readonly string[];
  readonly validFrom?: Date;
  readonly validTo?: Date;
  /** P-256 by default. */
  readonly keys?: { publicKey: KeyObject; privateKey: KeyObject };
}

/** Somebody who issues certificates (X.509, RFC 5280), made anew for each test: nothing that could expire is kept. */
export interface CertificateAuthority {
  /** Its own certificate in PEM. */
  readonly certificate: string;
  /** What it signs with. */
  readonly keys: { publicKey: KeyObject; privateKey: KeyObject };
  issue(request: CertificateRequest): Issued;
}

const dayMs = 24 * 60 * 60 * 1000;

export function createCertificateAuthority(
  commonName: string,
  validity: Pick<CertificateRequest, "validFrom" | "validTo"> = {},
): CertificateAuthority {
  const keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const issue = (request: CertificateRequest, isAuthority: boolean): Issued => {
    const subject = request.keys ?? (isAuthority ? keys : generateKeyPairSync("ec", { namedCurve: "P-256" }));
    const algorithm = sequence(oid("2a8648ce3d040302")); // ecdsa-with-SHA256
    const body = sequence(
      der(0xa0, integer(Buffer.from([2]))),
      integer(Buffer.concat([Buffer.from([1]), randomBytes(15)])),
      algorithm,
      name(commonName),
      sequence(
        time(request.validFrom ?? new Date(Date.now() - dayMs)),
        time(request.validTo ?? new Date(Date.now() + dayMs)),
      ),
      name(request.commonName),
      subject.publicKey.export({ type: "spki", format: "der" }),
      der(0xa3, sequence(...extensions(request, isAuthority))),
    );
    const signature = sign("sha256", body, keys.privateKey);
    return {
      certificate: pem(sequence(body, algorithm, der(0x03, Buffer.from([0]), signature))),
      key: subject.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    };
  };
  return {
    keys,
    certificate: issue({ commonName, ...validity }, true).certificate,
    issue: (request) => issue(request, false),
  };
}

function extensions({ hosts = [] }: CertificateRequest, isAuthority: boolean): Buffer[] {
  const isTrue = der(0x01, Buffer.from([0xff]));
  // Basic constraints, and the alternative names.
  const list = [sequence(oid("551d13"), isTrue, octets(sequence(...(isAuthority ? [isTrue] : []))))];
  if (hosts.length > 0) {
    const names = hosts.map((host) =>
      isIPv4(host)
        ? der(0x87, Buffer.from(host.split(".").map(Number)))
        : der(0x82, Buffer.from(host, "latin1")),
    );
    list.push(sequence(oid("551d11"), octets(sequence(...names))));
  }
  return list;
}

function name(commonName: string): Buffer {
  return sequence(der(0x31, sequence(oid("550403"), der(0x0c, Buffer.from(commonName)))));
}

function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/\.\d+/, "").replace(/[-:T]/g, "");
  return der(0x18, Buffer.from(digits));
}

function integer(bytes: Buffer): Buffer {
  return der(0x02, bytes);
}

function octets(content: Buffer): Buffer {
  return der(0x04, content);
}

function oid(hex: string): Buffer {
  return der(0x06, Buffer.from(hex, "hex"));
}

function sequence(...parts: Buffer[]): Buffer {
  return der(0x30, ...parts);
}

function der(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), content]);
  const head = length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), content]);
}

function pem(content: Buffer): string {
  const lines = content.toString("base64").match(/.{1,64}/g) ?? [];
  return ["-----BEGIN CERTIFICATE-----", ...lines, "-----END CERTIFICATE-----", ""].join("\n");
}
