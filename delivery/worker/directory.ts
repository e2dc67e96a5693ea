import type { Application } from "../core/application.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { EndpointState } from "../core/endpoint-state.ts";
import type { EventType, Store, Tx } from "../store/store.ts";

/** An application with its endpoints, by id, in the order they were made. */
export interface Entry {
  readonly application: Application;
  /** Changes with each change of the application or one of its endpoints. */
  readonly version: number;
  readonly endpoints: ReadonlyMap<string, Endpoint>;
  /** What delivery has learned of the endpoints. The engine writes to it what it writes to the store. */
  readonly states: Map<string, EndpointState>;
}

/** Applications kept at hand; the one that was looked up first goes first. */
const maxEntries = 50_000;
/** How old what was read may be where other processes write to the same database. */
const maxAgeMs = 1_000;
const pageSize = 1_000;

/** Applications and their endpoints as last committed, from memory where nothing has changed since the last look. */
export interface Directory {
  /** Undefined when there is no such application. */
  find(applicationId: string): Promise<Entry | undefined>;
  /** By id or uid, within the organization. */
  findByName(organizationId: string, idOrUid: string): Promise<Entry | undefined>;
  /** An organization's event types by name, archived ones included. */
  eventTypesOf(organizationId: string): Promise<ReadonlyMap<string, EventType>>;
  /** Reads it anew at the next look: a transaction has found it changed. */
  forget(applicationId: string): void;
}

/** What was read, and when it was last known to be right. */
interface Kept<T> {
  readonly value: Promise<T>;
  checkedAt: number;
}

/**
 * @param options `isShared`: other processes write to the same database, so that what is older than a second is checked
 * before it is used
 */
export function createDirectory(
  store: Store,
  { isShared = false, clock = () => performance.now() }: { isShared?: boolean; clock?: () => number } = {},
): Directory {
  // Promises are kept, not values: one that was read before a change is dropped with it, whenever it resolves.
  const entries = new Map<string, Kept<Entry | undefined>>();
  const ids = new Map<string, string>();
  const catalogues = new Map<string, Kept<ReadonlyMap<string, EventType>>>();
  store.onChange(({ applicationIds, organizationIds }) => {
    for (const id of applicationIds) entries.delete(id);
    for (const id of organizationIds) catalogues.delete(id);
  });

  function keep<T>(into: Map<string, Kept<T>>, key: string, value: Promise<T>): Promise<T> {
    const kept = { value, checkedAt: clock() };
    into.set(key, kept);
    value.catch(() => {
      if (into.get(key) === kept) into.delete(key);
    });
    for (const oldest of into.keys()) {
      if (into.size <= maxEntries) break;
      into.delete(oldest);
    }
    return value;
  }

  const load = (applicationId: string) => store.read((tx) => readEntry(tx, applicationId));

  /** The entry if it is still right; otherwise read anew. */
  async function recheck(kept: Kept<Entry | undefined>, applicationId: string): Promise<Entry | undefined> {
    const checkedAt = clock();
    const entry = await kept.value;
    if (entry === undefined) return load(applicationId);
    const { version, states } = await store.read(async (tx) => ({
      version: (await tx.applications.versions([applicationId])).get(applicationId),
      states: await tx.endpointStates.list(applicationId),
    }));
    if (version !== entry.version) return load(applicationId);
    kept.checkedAt = checkedAt;
    return { ...entry, states: new Map(states) };
  }

  const find = (applicationId: string): Promise<Entry | undefined> => {
    const kept = entries.get(applicationId);
    if (kept === undefined) return keep(entries, applicationId, load(applicationId));
    if (!isShared || clock() - kept.checkedAt < maxAgeMs) return kept.value;
    return keep(entries, applicationId, recheck(kept, applicationId));
  };

  return {
    find,

    async findByName(organizationId, idOrUid) {
      const name = `${organizationId} ${idOrUid}`;
      const known = ids.get(name);
      if (known !== undefined) {
        const entry = await find(known);
        if (entry && isNamed(entry.application, organizationId, idOrUid)) return entry;
        ids.delete(name);
      }
      const application = await store.read((tx) => tx.applications.find(organizationId, idOrUid));
      if (application === undefined) return undefined;
      if (ids.size >= maxEntries) ids.clear();
      ids.set(name, application.id);
      return await find(application.id);
    },

    eventTypesOf(organizationId) {
      const kept = catalogues.get(organizationId);
      if (kept && (!isShared || clock() - kept.checkedAt < maxAgeMs)) return kept.value;
      return keep(
        catalogues,
        organizationId,
        store.read((tx) => readCatalogue(tx, organizationId)),
      );
    },

    forget(applicationId) {
      entries.delete(applicationId);
    },
  };
}

function isNamed(application: Application, organizationId: string, idOrUid: string): boolean {
  return (
    application.organizationId === organizationId &&
    (application.id === idOrUid || application.uid === idOrUid)
  );
}

async function readEntry(tx: Tx, applicationId: string): Promise<Entry | undefined> {
  const known = await tx.applications.get(applicationId);
  if (known === undefined) return undefined;
  const endpoints = await tx.endpoints.list(applicationId);
  return {
    ...known,
    endpoints: new Map(endpoints.map((endpoint) => [endpoint.id, endpoint])),
    states: new Map(await tx.endpointStates.list(applicationId)),
  };
}

async function readCatalogue(tx: Tx, organizationId: string): Promise<ReadonlyMap<string, EventType>> {
  const catalogue = new Map<string, EventType>();
  for (let after: string | undefined; ;) {
    const page = await tx.eventTypes.list(organizationId, { limit: pageSize, after, includeArchived: true });
    for (const eventType of page) catalogue.set(eventType.name, eventType);
    after = page.at(-1)?.name;
    if (page.length < pageSize) return catalogue;
  }
}
