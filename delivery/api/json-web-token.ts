import { createSecretKey } from "node:crypto";
import { errors, jwtVerify } from "jose";
import { z } from "zod";

/** What a JWT says about its bearer. */
export interface TokenClaims {
  readonly organizationId: string;
  /** The one application it opens; null for all of the organization's. */
  readonly applicationId: string | null;
  readonly featureFlags: readonly string[];
  /** Milliseconds since the epoch; null for never. */
  readonly expiresAt: number | null;
}

/** How far the clocks of whoever makes tokens and of this service may be apart. */
const clockToleranceSeconds = 30;

/**
 * Svix's server makes tokens of two kinds: `sub` is the organization, or the application where `org` is the organization.
 * https://github.com/svix/svix-webhooks, server/svix-server/src/core/security.rs
 */
const claimsShape = z.object({
  sub: z.string(),
  org: z.string().optional(),
  feature_flags: z.array(z.string()).default([]),
  exp: z.number().optional(),
});

/** Tells whether a text has the form of a JWT; tokens that the service makes have not. */
export function looksLikeJwt(token: string): boolean {
  return /^[\w-]+\.[\w-]+\.[\w-]*$/.test(token);
}

/**
 * Builds the reader of JWTs that are signed with HS256 and this secret. Other algorithms, `none` among them, are refused;
 * `exp` and `nbf` count where they are given, with 30 seconds of tolerance.
 *
 * @returns for a token that is not valid why it is not: it has expired, or is wrong
 */
export function createJwtReader(
  secret: string,
): (token: string, now: number) => Promise<TokenClaims | "expired" | "invalid"> {
  const key = createSecretKey(Buffer.from(secret));
  return async (token, now) => {
    try {
      const { payload } = await jwtVerify(token, key, {
        algorithms: ["HS256"],
        clockTolerance: clockToleranceSeconds,
        currentDate: new Date(now),
      });
      const claims = claimsShape.safeParse(payload);
      if (!claims.success) return "invalid";
      const { sub, org, feature_flags: featureFlags, exp } = claims.data;
      return {
        organizationId: org ?? sub,
        applicationId: org === undefined ? null : sub,
        featureFlags,
        expiresAt: exp === undefined ? null : (exp + clockToleranceSeconds) * 1000,
      };
    } catch (error) {
      if (error instanceof errors.JWTExpired) return "expired";
      if (error instanceof errors.JOSEError) return "invalid";
      throw error;
    }
  };
}
