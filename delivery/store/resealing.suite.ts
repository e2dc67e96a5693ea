import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { Application } from "../core/application.ts";
import type { Endpoint } from "../core/endpoint.ts";
import { emptyPolicy } from "../core/policy.ts";
import { addMasterKey, dropMasterKeys } from "./master-key.ts";
import type { Store } from "./store.ts";

const application: Application = {
  id: "app_1",
  organizationId: "default",
  uid: null,
  name: "Shop",
  dialect: "svix",
  throttleRate: null,
  policy: emptyPolicy,
  metadata: {},
  createdAt: 1,
  updatedAt: 1,
};

function anEndpoint(n: number): Endpoint {
  return {
    id: `ep_${String(n).padStart(6, "0")}`,
    applicationId: application.id,
    uid: null,
    url: `https://user:${n}@example.com/`,
    description: "",
    filterTypes: null,
    channels: null,
    headers: { authorization: `Bearer ${n}` },
    disabled: false,
    throttleRate: null,
    version: 1,
    metadata: {},
    settings: { n },
    secrets: [{ key: `whsec_${n}`, expiresAt: null }],
    policy: emptyPolicy,
    tls: n % 2 === 0 ? null : { certificate: `certificate ${n}`, key: `key ${n}`, ca: null },
    createdAt: n,
    updatedAt: n,
  };
}

/** An application with so many endpoints that have secrets, answered in the order of their ids. */
export async function fillWithSecrets(store: Store, count: number): Promise<readonly Endpoint[]> {
  const endpoints = Array.from({ length: count }, (_, n) => anEndpoint(n));
  await store.write(async (tx) => {
    await tx.applications.insert(application);
    for (const endpoint of endpoints) await tx.endpoints.insert(endpoint);
  });
  return endpoints;
}

/** What every store promises of its master keys. `open` answers the store of one database, opened with that key file. */
export function describeResealing(
  name: string,
  openDatabase: () => Promise<{ open(masterKeyFile: string): Promise<Store>; drop(): Promise<void> }>,
): void {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  async function openScene(count: number) {
    const folder = mkdtempSync(join(tmpdir(), "hookplane-resealing-"));
    const database = await openDatabase();
    cleanups.push(async () => {
      await database.drop();
      rmSync(folder, { recursive: true });
    });
    const file = join(folder, "master.key");
    const open = async (): Promise<Store> => {
      const store = await database.open(file);
      cleanups.push(() => store.close().catch(() => undefined));
      return store;
    };
    const store = await open();
    const endpoints = await fillWithSecrets(store, count);
    const list = () => store.read((tx) => tx.endpoints.list(application.id));
    const keyIds = () => store.read((tx) => tx.resealing.refreshKeys());
    const counts = () => store.read((tx) => tx.resealing.countByKey());
    const reseal = (after: string, limit: number) => store.write((tx) => tx.resealing.reseal(after, limit));
    return { file, store, open, endpoints, list, keyIds, counts, reseal };
  }

  describe(`${name}: master keys`, () => {
    test("a newer one seals what is written from then on, and the older one opens the rest", async () => {
      const { file, store, endpoints, list, keyIds, counts } = await openScene(2);
      const [old] = await keyIds();
      // Four texts of the one, five of the other, which has a certificate, and the check value.
      expect(await counts()).toEqual(new Map([[old, 10]]));
      const ids = await addMasterKey(file);
      expect(await keyIds()).toEqual(ids);
      const changed = { ...endpoints[0]!, headers: { authorization: "Bearer new" } };
      await store.write((tx) => tx.endpoints.update(changed));
      expect(await counts()).toEqual(
        new Map([
          [ids[0], 4],
          [old, 6],
        ]),
      );
      expect(await list()).toEqual([changed, endpoints[1]]);
    });

    test("everything is sealed anew in batches, and nothing else of it changes", async () => {
      const { file, store, open, endpoints, list, keyIds, counts, reseal } = await openScene(25);
      const before = await store.read((tx) => tx.applications.get(application.id));
      const [newest] = await addMasterKey(file);
      await keyIds();
      const batches = [];
      for (let after: string | null = ""; after !== null;) {
        const batch = await reseal(after, 10);
        batches.push(batch.count);
        after = batch.last;
      }
      expect(batches).toEqual([10, 10, 5]);
      expect([...(await counts()).keys()]).toEqual([newest]);
      expect(await list()).toEqual(endpoints);
      // Nobody has to read the application again.
      expect(await store.read((tx) => tx.applications.get(application.id))).toEqual(before);
      expect(await reseal("", 100)).toEqual({ count: 0, failed: [], last: null });

      await dropMasterKeys(file, async () => new Set((await counts()).keys()));
      await store.close();
      const again = await open();
      expect(await again.read((tx) => tx.resealing.refreshKeys())).toEqual([newest]);
      expect(await again.read((tx) => tx.endpoints.list(application.id))).toEqual(endpoints);
    });

    test("a change that comes in between is not undone", async () => {
      const { file, store, endpoints, list, keyIds, reseal } = await openScene(30);
      await addMasterKey(file);
      await keyIds();
      const changes = endpoints.map((endpoint) => ({ ...endpoint, headers: { authorization: "new" } }));
      await Promise.all([
        ...Array.from({ length: 6 }, (_, n) => reseal(n === 0 ? "" : endpoints[n * 5 - 1]!.id, 5)),
        ...changes.map((endpoint) => store.write((tx) => tx.endpoints.update(endpoint))),
        reseal("", 100),
      ]);
      expect(await list()).toEqual(changes);
    });

    test("the database then refuses a file that has only the older one", async () => {
      const { file, store, open, keyIds, reseal, counts } = await openScene(1);
      const [old] = await keyIds();
      await addMasterKey(file);
      await keyIds();
      await reseal("", 10);
      // Only the older key is left in the file.
      await addMasterKey(file);
      await dropMasterKeys(file, async () => new Set([old!]));
      expect([...(await counts()).keys()]).toHaveLength(1);
      await store.close();
      await expect(open()).rejects.toMatchObject({ code: "master_key_unusable" });
    });
  });
}
