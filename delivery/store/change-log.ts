import type { Changes } from "./sql.ts";
import type { StoreChanges } from "./store.ts";

/** What transactions change, gathered until their commit. */
export class ChangeLog implements Changes, StoreChanges {
  readonly applicationIds = new Set<string>();
  readonly organizationIds = new Set<string>();
  readonly tokenIds = new Set<string>();
  readonly dueEndpoints = new Map<string, { applicationId: string; at: number }>();

  application(id: string): void {
    this.applicationIds.add(id);
  }

  eventTypes(organizationId: string): void {
    this.organizationIds.add(organizationId);
  }

  token(id: string): void {
    this.tokenIds.add(id);
  }

  due({ endpointId, applicationId }: { endpointId: string; applicationId: string }, at: number): void {
    const known = this.dueEndpoints.get(endpointId);
    if (known === undefined || at < known.at) this.dueEndpoints.set(endpointId, { applicationId, at });
  }

  get isEmpty(): boolean {
    return (
      this.applicationIds.size + this.organizationIds.size + this.tokenIds.size + this.dueEndpoints.size === 0
    );
  }

  clear(): void {
    this.applicationIds.clear();
    this.organizationIds.clear();
    this.tokenIds.clear();
    this.dueEndpoints.clear();
  }
}
