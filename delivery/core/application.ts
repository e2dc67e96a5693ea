import type { ApplicationPolicy } from "./policy.ts";

/**
 * An application: whose events are delivered. Each vendor account is one (its `uid` is the API's name, such as
 * `pave`); everything else is made through the Svix-compatible API.
 */
export interface Application {
  /** `app_` and a time-ordered id. */
  readonly id: string;
  readonly organizationId: string;
  /** The caller's own name for it, unique in its organization. */
  readonly uid: string | null;
  readonly name: string;
  /** Which dialect delivers its events: a key of the dialect list; `svix` unless it is a vendor account. */
  readonly dialect: string;
  /** Messages per second to each of its endpoints; null for no limit. */
  readonly throttleRate: number | null;
  /** For those of its endpoints that do not say otherwise. */
  readonly policy: ApplicationPolicy;
  readonly metadata: Readonly<Record<string, string>>;
  /** Milliseconds since the epoch, as every time in `core/`. */
  readonly createdAt: number;
  readonly updatedAt: number;
}
