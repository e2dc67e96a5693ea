/**
 * What a token that is limited to one application may do there. The names are those of Svix's app portal
 * (`AppPortalCapability`), and so is what they allow.
 */
export const capabilities = [
  /** Reads the application, its endpoints without their secrets, messages, attempts, and event types. */
  "ViewBase",
  "ViewEndpointSecret",
  /** Rotates the secret. */
  "ManageEndpointSecret",
  /** Taken and without effect: payloads are not transformed. */
  "ManageTransformations",
  /** Resends, recovers, sends examples. */
  "CreateAttempts",
  /** Makes, changes and deletes endpoints. */
  "ManageEndpoint",
] as const;

export type Capability = (typeof capabilities)[number];

/**
 * What a route asks for: the administrator, a token of a whole organization, or of a token that is limited to one
 * application a capability, which every wider token has.
 */
export type Access = "admin" | "organization" | Capability;

/** Who makes a request. */
export interface Caller {
  /** All that the caller sees belongs to it. */
  readonly organizationId: string;
  /** Whether it may manage organizations and tokens. */
  readonly isAdmin: boolean;
  /** Null for all of the organization. */
  readonly limits: CallerLimits | null;
  /** Of a token that the service made; null for others, which cannot be taken back one by one. */
  readonly tokenId: string | null;
}

/** The limits of a token that opens one application. */
interface CallerLimits {
  readonly applicationId: string;
  readonly capabilities: ReadonlySet<Capability>;
  /** Event types behind a flag show only where one of their flags is among these. */
  readonly featureFlags: ReadonlySet<string>;
}

const implied: Partial<Record<Capability, readonly Capability[]>> = {
  ManageEndpointSecret: ["ViewEndpointSecret"],
  ManageEndpoint: ["ViewEndpointSecret", "ManageEndpointSecret"],
};

/** The capabilities with those that they bring along; all of them for null. */
export function expandCapabilities(given: readonly Capability[] | null): ReadonlySet<Capability> {
  const granted = given ?? capabilities;
  return new Set(granted.flatMap((capability) => [capability, ...(implied[capability] ?? [])]));
}

/** Whether the caller may use a route; in which application is another question. */
export function mayUse(caller: Caller, access: Access): boolean {
  if (access === "admin") return caller.isAdmin;
  if (caller.limits === null) return true;
  return access !== "organization" && caller.limits.capabilities.has(access);
}

/** Whether the caller sees an event type that is behind these flags; null for one that is behind none. */
export function seesFlagged({ limits }: Caller, featureFlags: readonly string[] | null): boolean {
  if (limits === null || featureFlags === null || featureFlags.length === 0) return true;
  return featureFlags.some((flag) => limits.featureFlags.has(flag));
}
