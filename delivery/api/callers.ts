import { hash, timingSafeEqual } from "node:crypto";
import { expandCapabilities, type Caller } from "../core/caller.ts";
import { defaultOrganizationId } from "../core/organization.ts";
import { ServiceError } from "../errors.ts";
import { ConflictError, type Store, type Token } from "../store/store.ts";
import { createJwtReader, looksLikeJwt, type TokenClaims } from "./json-web-token.ts";

/** Callers kept at hand; the one that was looked up first goes first. */
const maxKept = 10_000;
/** How long what was looked up is right without another look: other processes may take a token back. */
const maxAgeMs = 1_000;

/** Who may call, by their tokens. */
export interface Callers {
  /**
   * The caller with this token: at once where it is at hand.
   *
   * @throws ServiceError `authentication_failed` for a token that is wrong or has expired
   */
  find(token: string): Caller | Promise<Caller>;
}

export interface CallersOptions {
  readonly store: Store;
  readonly adminToken: string;
  /** The key of JWTs; null where none are accepted. */
  readonly jwtSecret: string | null;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Milliseconds that only ever go on. */
  readonly clock?: () => number;
}

interface Kept {
  readonly caller: Caller;
  /** By `now()`. */
  readonly expiresAt: number;
  /** By `clock()`. */
  readonly goodUntil: number;
}

export function createCallers({
  store,
  adminToken,
  jwtSecret,
  now,
  clock = () => performance.now(),
}: CallersOptions): Callers {
  // By the tokens' hashes, so that no token stays in memory.
  const kept = new Map<string, Kept>();
  const hashes = new Map<string, string>();
  const underWay = new Map<string, Promise<Caller>>();
  /** Counts the tokens taken back: what was being read meanwhile is not kept. */
  let generation = 0;
  const adminHash = Buffer.from(sha256(adminToken));
  const readJwt = jwtSecret === null ? undefined : createJwtReader(jwtSecret);

  store.onChange(({ tokenIds }) => {
    if (tokenIds.size === 0) return;
    generation++;
    underWay.clear();
    for (const id of tokenIds) {
      const known = hashes.get(id);
      if (known !== undefined) forget(known);
    }
  });

  function forget(key: string): void {
    const tokenId = kept.get(key)?.caller.tokenId;
    if (typeof tokenId === "string") hashes.delete(tokenId);
    kept.delete(key);
  }

  function keep(key: string, found: Kept): void {
    // Anew, so that it stands last.
    forget(key);
    kept.set(key, found);
    if (found.caller.tokenId !== null) hashes.set(found.caller.tokenId, key);
    for (const oldest of kept.keys()) {
      if (kept.size <= maxKept) break;
      forget(oldest);
    }
  }

  async function lookUp(key: string, token: string): Promise<Caller> {
    const before = generation;
    const found = await resolve(key, token);
    if (before === generation) keep(key, found);
    return found.caller;
  }

  async function resolve(key: string, token: string): Promise<Kept> {
    if (timingSafeEqual(Buffer.from(key), adminHash)) {
      return { caller: administrator, expiresAt: Infinity, goodUntil: Infinity };
    }
    const goodUntil = clock() + maxAgeMs;
    if (readJwt && looksLikeJwt(token)) {
      const claims = await readJwt(token, now());
      if (claims === "expired") throw expired();
      if (claims === "invalid") throw invalid();
      return { caller: await callerOfClaims(claims), expiresAt: claims.expiresAt ?? Infinity, goodUntil };
    }
    const known = await store.read((tx) => tx.tokens.findByHash(key));
    if (known === undefined) throw invalid();
    const expiresAt = known.expiresAt ?? Infinity;
    if (expiresAt <= now()) throw expired();
    return { caller: callerOfToken(known), expiresAt, goodUntil };
  }

  async function callerOfClaims(claims: TokenClaims): Promise<Caller> {
    const { organizationId, applicationId, featureFlags } = claims;
    if (applicationId !== null) {
      const application = await store.read((tx) => tx.applications.find(organizationId, applicationId));
      if (application?.id !== applicationId) throw invalid();
      const limits = {
        applicationId,
        capabilities: expandCapabilities(null),
        featureFlags: new Set(featureFlags),
      };
      return { organizationId, isAdmin: false, limits, tokenId: null };
    }
    if ((await store.read((tx) => tx.organizations.find(organizationId))) === undefined) {
      // Only what a Svix server calls an organization, so that a token for something else makes none.
      if (!/^org_[\w.-]{1,60}$/.test(organizationId)) throw invalid();
      await addOrganization(organizationId);
    }
    return { organizationId, isAdmin: false, limits: null, tokenId: null };
  }

  async function addOrganization(id: string): Promise<void> {
    try {
      await store.write((tx) => tx.organizations.insert({ id, name: id, createdAt: now() }));
    } catch (error) {
      // Another request, or another node, has just made it.
      if (!(error instanceof ConflictError)) throw error;
    }
  }

  return {
    find(token) {
      const key = sha256(token);
      const found = kept.get(key);
      if (found !== undefined) {
        if (found.expiresAt <= now()) throw expired();
        if (found.goodUntil === Infinity || found.goodUntil > clock()) return found.caller;
      }
      const known = underWay.get(key);
      if (known) return known;
      const looking = lookUp(key, token).finally(() => {
        if (underWay.get(key) === looking) underWay.delete(key);
      });
      underWay.set(key, looking);
      return looking;
    },
  };
}

/** What a token is known by. */
export function sha256(token: string): string {
  return hash("sha256", token, "hex");
}

const administrator: Caller = {
  organizationId: defaultOrganizationId,
  isAdmin: true,
  limits: null,
  tokenId: null,
};

function callerOfToken(token: Token): Caller {
  const { applicationId } = token;
  return {
    organizationId: token.organizationId,
    isAdmin: false,
    limits:
      applicationId === null
        ? null
        : {
            applicationId,
            capabilities: expandCapabilities(token.capabilities),
            featureFlags: new Set(token.featureFlags),
          },
    tokenId: token.id,
  };
}

function invalid(): ServiceError {
  return new ServiceError(
    "authentication_failed",
    "The token is not valid: send the administrator's token of the service's credentials file, or one that was made for your organization or application.",
  );
}

function expired(): ServiceError {
  return new ServiceError("authentication_failed", "The token has expired: ask for a new one.");
}
