import { describe, expect, test } from "vitest";
import type { Application } from "../core/application.ts";
import { defaultOrganizationId } from "../core/organization.ts";
import { emptyPolicy } from "../core/policy.ts";
import { ConflictError, type Store, type StoreChanges, type Token } from "./store.ts";

const token: Token = {
  id: "tok_1",
  hash: "a".repeat(64),
  organizationId: "org_a",
  applicationId: "app_1",
  capabilities: ["ViewBase", "CreateAttempts"],
  featureFlags: ["beta"],
  sessionId: "session-1",
  description: "for a customer",
  createdAt: 1_000,
  expiresAt: 5_000,
};

const wide: Token = {
  ...token,
  id: "tok_2",
  hash: "b".repeat(64),
  applicationId: null,
  capabilities: null,
  featureFlags: [],
  sessionId: null,
  expiresAt: null,
};

const application: Application = {
  id: "app_1",
  organizationId: defaultOrganizationId,
  uid: null,
  name: "Shop",
  dialect: "svix",
  throttleRate: null,
  policy: emptyPolicy,
  metadata: {},
  createdAt: 1,
  updatedAt: 1,
};

/** What every store promises of organizations and tokens. `open` answers an empty one, closed by its owner. */
export function describeTokens(name: string, open: () => Promise<Store>): void {
  async function openWith(...tokens: readonly Token[]): Promise<Store> {
    const store = await open();
    await store.write(async (tx) => {
      for (const each of tokens) await tx.tokens.insert(each);
    });
    return store;
  }

  const listAll = (store: Store): Promise<Token[]> =>
    store.read((tx) => tx.tokens.list("org_a", { limit: 100 }));

  describe(`${name}: organizations`, () => {
    test("the default one is there, others are added and listed by id", async () => {
      const store = await open();
      const added = { id: "org_a", name: "Acme", createdAt: 7 };
      await store.write((tx) => tx.organizations.insert(added));
      expect(await store.read((tx) => tx.organizations.find("org_a"))).toEqual(added);
      expect(await store.read((tx) => tx.organizations.find("org_b"))).toBeUndefined();
      const listed = await store.read((tx) => tx.organizations.list({ limit: 10 }));
      expect(listed.map(({ id }) => id)).toEqual([defaultOrganizationId, "org_a"]);
      await expect(store.write((tx) => tx.organizations.insert(added))).rejects.toThrow(ConflictError);
    });
  });

  describe(`${name}: tokens`, () => {
    test("are read back as they were written, by hash and by id in their organization", async () => {
      const store = await openWith(token, wide);
      expect(await store.read((tx) => tx.tokens.findByHash(token.hash))).toEqual(token);
      expect(await store.read((tx) => tx.tokens.findByHash(wide.hash))).toEqual(wide);
      expect(await store.read((tx) => tx.tokens.findByHash("c".repeat(64)))).toBeUndefined();
      expect(await store.read((tx) => tx.tokens.find("org_a", "tok_1"))).toEqual(token);
      expect(await store.read((tx) => tx.tokens.find("org_b", "tok_1"))).toBeUndefined();
    });

    test("are listed for their organization, in pages", async () => {
      const other = { ...token, id: "tok_3", hash: "c".repeat(64), organizationId: "org_b" };
      const store = await openWith(token, wide, other);
      expect(await listAll(store)).toEqual([token, wide]);
      const page = await store.read((tx) =>
        tx.tokens.list("org_a", { limit: 1, after: "tok_2", descending: true }),
      );
      expect(page).toEqual([token]);
    });

    test("of the same hash cannot be two", async () => {
      const store = await openWith(token);
      await expect(store.write((tx) => tx.tokens.insert({ ...token, id: "tok_9" }))).rejects.toThrow(
        ConflictError,
      );
    });

    test("that are deleted are gone, and listeners hear of it before the writer does", async () => {
      const store = await openWith(token, wide);
      const heard: string[] = [];
      store.onChange(({ tokenIds }: StoreChanges) => heard.push(...tokenIds));
      expect(await store.write((tx) => tx.tokens.delete("tok_1"))).toBe(true);
      expect(heard).toEqual(["tok_1"]);
      expect(await store.write((tx) => tx.tokens.delete("tok_1"))).toBe(false);
      expect(await listAll(store)).toEqual([wide]);
    });

    test("of an application go with it, and listeners hear of it", async () => {
      const store = await openWith(token, wide);
      await store.write((tx) => tx.applications.insert(application));
      const heard: string[] = [];
      store.onChange(({ tokenIds }) => heard.push(...tokenIds));
      await store.write((tx) => tx.applications.delete("app_1"));
      expect(await listAll(store)).toEqual([wide]);
      expect(heard).toEqual(["tok_1"]);
    });

    test("of an application are ended together, and never live longer for it", async () => {
      const endless = { ...token, id: "tok_4", hash: "d".repeat(64), expiresAt: null };
      const short = { ...token, id: "tok_5", hash: "e".repeat(64), expiresAt: 2_000 };
      const elsewhere = { ...token, id: "tok_6", hash: "f".repeat(64), applicationId: "app_2" };
      const store = await openWith(token, wide, endless, short, elsewhere);
      const heard: string[] = [];
      store.onChange(({ tokenIds }) => heard.push(...tokenIds));
      expect(await store.write((tx) => tx.tokens.expireByApplication("app_1", 3_000))).toBe(2);
      expect((await listAll(store)).map(({ id, expiresAt }) => [id, expiresAt])).toEqual([
        ["tok_1", 3_000],
        ["tok_2", null],
        ["tok_4", 3_000],
        ["tok_5", 2_000],
        ["tok_6", 5_000],
      ]);
      expect(heard).toEqual(["tok_1", "tok_4"]);
    });

    test("of an application are ended by their sessions, where those are named", async () => {
      const other = { ...token, id: "tok_4", hash: "d".repeat(64), sessionId: "session-2" };
      const none = { ...token, id: "tok_5", hash: "e".repeat(64), sessionId: null };
      const store = await openWith(token, other, none);
      const sessions = ["session-2", "session-3"];
      expect(await store.write((tx) => tx.tokens.expireByApplication("app_1", 3_000, sessions))).toBe(1);
      expect((await listAll(store)).map(({ expiresAt }) => expiresAt)).toEqual([5_000, 3_000, 5_000]);
    });

    test("that have expired are removed, at most as many as asked for", async () => {
      const older = { ...token, id: "tok_4", hash: "d".repeat(64), expiresAt: 4_000 };
      const store = await openWith(token, wide, older);
      expect(await store.write((tx) => tx.tokens.prune(3_999, 10))).toBe(0);
      expect(await store.write((tx) => tx.tokens.prune(5_000, 1))).toBe(1);
      expect(await listAll(store)).toEqual([token, wide]);
      expect(await store.write((tx) => tx.tokens.prune(5_000, 10))).toBe(1);
      expect(await listAll(store)).toEqual([wide]);
    });
  });
}
