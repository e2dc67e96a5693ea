import { createHash } from "node:crypto";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import type { ClientTls } from "../core/client-tls.ts";
import { reasonOf } from "./reason.ts";

/** Who the service shows itself as on a TLS connection, and whom it believes. */
export interface TlsIdentity {
  /** Equal for equal certificates and keys, of which it tells nothing; empty for the service's own. */
  readonly id: string;
  readonly context: SecureContext;
}

export interface TlsIdentities {
  /** Shows no certificate, and believes the public authorities and the operator's. */
  readonly service: TlsIdentity;
  /** @throws Error saying why the certificates cannot be used */
  of(tls: ClientTls): TlsIdentity;
}

/** An identity takes some 30 KB outside of the heap, */
const maxIdentities = 500;
/** and 1.3 MB, and 30 ms to make, where the public authorities are not Node's own set of them alone. */
const maxLargeIdentities = 100;

/** @param ca certificates in PEM that are believed besides the public ones */
export function createTlsIdentities(ca: string | null): TlsIdentities {
  const trust = ca === null ? {} : { ca: [...getCACertificates("default"), ca] };
  const service: TlsIdentity = { id: "", context: createSecureContext(trust) };
  const limit = ca === null ? maxIdentities : maxLargeIdentities;
  /** The one that was asked for last is the last. */
  const known = new Map<string, TlsIdentity>();
  /** Spares the hash where the same object is given again. */
  const byObject = new WeakMap<ClientTls, TlsIdentity>();

  const find = (tls: ClientTls): TlsIdentity => {
    const id = createHash("sha256")
      .update(JSON.stringify([tls.certificate, tls.key, tls.ca]))
      .digest("base64url");
    const identity = known.get(id) ?? create(id, tls);
    known.delete(id);
    known.set(id, identity);
    for (const oldest of known.keys()) {
      if (known.size <= limit) break;
      known.delete(oldest);
    }
    return identity;
  };
  const create = (id: string, { certificate, key, ca: own }: ClientTls): TlsIdentity => {
    try {
      const shown = certificate === null || key === null ? {} : { cert: certificate, key };
      return { id, context: createSecureContext({ ...(own === null ? trust : { ca: own }), ...shown }) };
    } catch (error) {
      throw new Error(`the endpoint's certificates cannot be used: ${reasonOf(error)}`, { cause: error });
    }
  };
  return {
    service,
    of(tls) {
      if (tls.certificate === null && tls.key === null && tls.ca === null) return service;
      let identity = byObject.get(tls);
      if (!identity) {
        identity = find(tls);
        byObject.set(tls, identity);
      }
      return identity;
    },
  };
}
