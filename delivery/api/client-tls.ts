import { X509Certificate } from "node:crypto";
import { z } from "zod";
import { clientTlsProblems, type ClientTls } from "../core/client-tls.ts";
import { timeOut } from "./fields.ts";

const pem = z.string().nullable();

/**
 * The certificates of an endpoint as callers give them: always all of them, since the key is never shown again.
 *
 * @param now milliseconds since the epoch: what has expired is refused
 */
export function clientTlsIn(now: () => number) {
  return z
    .strictObject(
      { certificate: pem, key: pem, ca: pem },
      {
        error: (issue) =>
          issue.code === "unrecognized_keys"
            ? `There is no ${issue.keys.map((key) => `"${key}"`).join(", ")} here: give certificate, key and ca.`
            : undefined,
      },
    )
    .partial()
    .transform(({ certificate = null, key = null, ca = null }, issues): ClientTls | null => {
      const tls = { certificate, key, ca };
      if (certificate === null && key === null && ca === null) return null;
      for (const message of clientTlsProblems(tls, now())) issues.addIssue({ code: "custom", message });
      return tls;
    })
    .meta({ id: "ClientTlsIn" });
}

/** What is shown of a certificate. */
const certificateOut = z.object({
  fingerprint: z
    .string()
    .describe("SHA-256, in hex with colons, as `openssl x509 -fingerprint -sha256` prints it."),
  expiresAt: timeOut,
});

/** What is shown of an endpoint's certificates: enough to tell which ones they are, and when they must be renewed. */
export const clientTlsOut = z
  .object({
    certificate: certificateOut.nullable().describe("The endpoint's own; null to show none."),
    ca: z
      .array(certificateOut)
      .nullable()
      .describe("Those that vouch for the receiver; null for the public ones."),
  })
  .meta({ id: "ClientTlsOut" });

type CertificateOut = z.output<typeof certificateOut>;

export function toClientTlsOut({ certificate, ca }: ClientTls): z.output<typeof clientTlsOut> {
  return {
    certificate: certificate === null ? null : (certificatesIn(certificate)[0] ?? null),
    ca: ca === null ? null : certificatesIn(ca),
  };
}

function certificatesIn(text: string): CertificateOut[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => {
    const { fingerprint256, validToDate } = new X509Certificate(block);
    return { fingerprint: fingerprint256, expiresAt: validToDate.toISOString() };
  });
}
