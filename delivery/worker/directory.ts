import type { Application } from "../core/application.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { Store } from "../store/store.ts";

/** An application with its endpoints, by id, in the order they were made. */
export interface Entry {
  readonly application: Application;
  readonly endpoints: ReadonlyMap<string, Endpoint>;
}

/** Applications kept at hand; the one that was looked up first goes first. */
const maxEntries = 10_000;

/** Applications and their endpoints as last committed, from memory where nothing has changed since the last look. */
export interface Directory {
  /** Undefined when there is no such application. */
  find(applicationId: string): Promise<Entry | undefined>;
}

export function createDirectory(store: Store): Directory {
  // Promises are kept, not values: one that was read before a change is dropped with it, whenever it resolves.
  const entries = new Map<string, Promise<Entry | undefined>>();
  store.onChange((applicationIds) => {
    for (const id of applicationIds) entries.delete(id);
  });

  const load = async (applicationId: string): Promise<Entry | undefined> =>
    await store.read(async (tx) => {
      const application = await tx.applications.find(applicationId);
      if (application?.id !== applicationId) return undefined;
      const endpoints = await tx.endpoints.list(applicationId);
      return { application, endpoints: new Map(endpoints.map((endpoint) => [endpoint.id, endpoint])) };
    });

  return {
    find(applicationId) {
      const known = entries.get(applicationId);
      if (known) return known;
      const entry = load(applicationId);
      entries.set(applicationId, entry);
      entry.catch(() => {
        if (entries.get(applicationId) === entry) entries.delete(applicationId);
      });
      for (const oldest of entries.keys()) {
        if (entries.size <= maxEntries) break;
        entries.delete(oldest);
      }
      return entry;
    },
  };
}
