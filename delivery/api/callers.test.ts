import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SignJWT } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Application } from "../core/application.ts";
import { emptyPolicy } from "../core/policy.ts";
import { ServiceError } from "../errors.ts";
import { openSqliteStore } from "../store/sqlite-store.ts";
import type { Store, Token } from "../store/store.ts";
import { createCallers, sha256, type Callers, type CallersOptions } from "./callers.ts";

const adminToken = "hp_administrator-canary";
const jwtSecret = "a-secret-that-the-operator-has-set";

let folder: string;
let store: Store;
let reads: number;
/** The wall clock and the one that only goes on. */
let now: number;
let clock: number;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "hookplane-callers-"));
  store = await openSqliteStore(folder);
  [reads, now, clock] = [0, Date.parse("2026-03-01T12:00:00Z"), 0];
  await store.write(async (tx) => {
    await tx.organizations.insert({ id: "org_a", name: "A", createdAt: 1 });
    await tx.applications.insert(application);
  });
});
afterEach(async () => {
  await store.close();
  await rm(folder, { recursive: true });
});

const application: Application = {
  id: "app_1",
  organizationId: "org_a",
  uid: "shop",
  name: "Shop",
  dialect: "svix",
  throttleRate: null,
  policy: emptyPolicy,
  metadata: {},
  createdAt: 1,
  updatedAt: 1,
};

function open(options: Partial<CallersOptions> = {}): Callers {
  const counted: Partial<Store> = {
    read: (fn) => {
      reads++;
      return store.read(fn);
    },
    write: (fn) => store.write(fn),
    onChange: (listener) => {
      store.onChange(listener);
    },
  };
  return createCallers({
    store: counted as Store,
    adminToken,
    jwtSecret,
    now: () => now,
    clock: () => clock,
    ...options,
  });
}

async function addToken(token: string, members: Partial<Token> = {}): Promise<string> {
  const row: Token = {
    id: `tok_${token}`,
    hash: sha256(token),
    organizationId: "org_a",
    applicationId: null,
    capabilities: null,
    featureFlags: [],
    sessionId: null,
    description: "",
    createdAt: now,
    expiresAt: null,
    ...members,
  };
  await store.write((tx) => tx.tokens.insert(row));
  return row.id;
}

async function jwtOf(subject: string, claims: Record<string, unknown> = {}, life = 3600): Promise<string> {
  const seconds = Math.floor(now / 1000);
  return new SignJWT(claims)
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(subject)
    .setExpirationTime(seconds + life)
    .sign(Buffer.from(jwtSecret));
}

async function refusalOf(find: () => unknown): Promise<ServiceError> {
  const error: unknown = await (async () => find())().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ServiceError);
  return error as ServiceError;
}

describe("the administrator's token", () => {
  test("is the default organization's, and may manage organizations", async () => {
    expect(await open().find(adminToken)).toEqual({
      organizationId: "default",
      isAdmin: true,
      limits: null,
      tokenId: null,
    });
  });

  test("is known without asking the store", async () => {
    await open().find(adminToken);
    expect(reads).toBe(0);
  });
});

describe("a token that the service made", () => {
  test("opens its organization", async () => {
    const id = await addToken("hp_org");
    expect(await open().find("hp_org")).toEqual({
      organizationId: "org_a",
      isAdmin: false,
      limits: null,
      tokenId: id,
    });
  });

  test("opens its one application with its capabilities and flags", async () => {
    await addToken("hp_app", {
      applicationId: "app_1",
      capabilities: ["ViewBase", "ManageEndpointSecret"],
      featureFlags: ["beta"],
    });
    expect((await open().find("hp_app")).limits).toEqual({
      applicationId: "app_1",
      capabilities: new Set(["ViewBase", "ManageEndpointSecret", "ViewEndpointSecret"]),
      featureFlags: new Set(["beta"]),
    });
  });

  test("is read once and then at hand, without a promise", async () => {
    await addToken("hp_org");
    const callers = open();
    const found = await callers.find("hp_org");
    expect(callers.find("hp_org")).toBe(found);
    expect(reads).toBe(1);
  });

  test("that many requests bring at once is read once", async () => {
    await addToken("hp_org");
    const callers = open();
    await Promise.all(Array.from({ length: 50 }, async () => callers.find("hp_org")));
    expect(reads).toBe(1);
  });

  test("that was never made is refused, and looked up again when it comes again", async () => {
    const callers = open();
    const refusal = await refusalOf(() => callers.find("hp_nobody-canary"));
    expect(refusal).toMatchObject({ code: "authentication_failed", status: 401 });
    expect(refusal.message).not.toContain("canary");
    await addToken("hp_nobody-canary");
    expect(await callers.find("hp_nobody-canary")).toMatchObject({ organizationId: "org_a" });
  });

  test("is refused from the very time on at which it ends, also when it is at hand", async () => {
    await addToken("hp_short", { expiresAt: now + 500 });
    const callers = open();
    now += 499;
    expect(await callers.find("hp_short")).toMatchObject({ organizationId: "org_a" });
    now += 1;
    expect((await refusalOf(() => callers.find("hp_short"))).message).toBe(
      "The token has expired: ask for a new one.",
    );
    expect((await refusalOf(() => open().find("hp_short"))).code).toBe("authentication_failed");
  });
});

describe("a token that is taken back", () => {
  test("is refused at once by the process that took it back", async () => {
    const id = await addToken("hp_org");
    const callers = open();
    await callers.find("hp_org");
    await store.write((tx) => tx.tokens.delete(id));
    expect((await refusalOf(() => callers.find("hp_org"))).code).toBe("authentication_failed");
  });

  test("is refused at once when its application is deleted", async () => {
    await addToken("hp_app", { applicationId: "app_1" });
    const callers = open();
    await callers.find("hp_app");
    await store.write((tx) => tx.applications.delete("app_1"));
    expect((await refusalOf(() => callers.find("hp_app"))).code).toBe("authentication_failed");
  });

  test("is refused at once when all of its application's are ended", async () => {
    await addToken("hp_app", { applicationId: "app_1", expiresAt: now + 60_000 });
    await addToken("hp_org");
    const callers = open();
    await callers.find("hp_app");
    await store.write((tx) => tx.tokens.expireByApplication("app_1", now));
    expect((await refusalOf(() => callers.find("hp_app"))).code).toBe("authentication_failed");
    expect(await callers.find("hp_org")).toMatchObject({ organizationId: "org_a" });
  });

  test("while it is being read is not kept", async () => {
    const id = await addToken("hp_org");
    let letGo = (): void => undefined;
    const held = new Promise<void>((resolve) => (letGo = resolve));
    let isFirst = true;
    const slow: Partial<Store> = {
      async read(fn) {
        const waits = isFirst;
        isFirst = false;
        const answer = await store.read(fn);
        if (waits) await held;
        return answer;
      },
      onChange: (listener) => {
        store.onChange(listener);
      },
    };
    const callers = open({ store: slow as Store });
    const before = callers.find("hp_org");
    await store.write((tx) => tx.tokens.delete(id));
    // A request that comes now does not wait with the one that came before.
    expect((await refusalOf(() => callers.find("hp_org"))).code).toBe("authentication_failed");
    letGo();
    await before;
    expect((await refusalOf(() => callers.find("hp_org"))).code).toBe("authentication_failed");
  });

  test("by another process is refused a second later", async () => {
    const id = await addToken("hp_org");
    // What another process commits, this one's store does not tell.
    const deaf: Partial<Store> = { read: (fn) => store.read(fn), onChange: () => undefined };
    const callers = open({ store: deaf as Store });
    await callers.find("hp_org");
    await store.write((tx) => tx.tokens.delete(id));
    clock += 999;
    expect(callers.find("hp_org")).toMatchObject({ tokenId: id });
    clock += 1;
    expect((await refusalOf(() => callers.find("hp_org"))).code).toBe("authentication_failed");
  });
});

describe("a JWT", () => {
  test("opens the organization in its sub, which is made when it is seen for the first time", async () => {
    const token = await jwtOf("org_23rb8YdGqMT0qIzpgGwdXfHirMu");
    const callers = open();
    const [first, second] = await Promise.all([callers.find(token), open().find(token)]);
    expect([first, second]).toEqual(
      Array(2).fill({
        organizationId: "org_23rb8YdGqMT0qIzpgGwdXfHirMu",
        isAdmin: false,
        limits: null,
        tokenId: null,
      }),
    );
    const made = await store.read((tx) => tx.organizations.find("org_23rb8YdGqMT0qIzpgGwdXfHirMu"));
    expect(made).toMatchObject({ name: "org_23rb8YdGqMT0qIzpgGwdXfHirMu", createdAt: now });
    expect(callers.find(token)).toBe(first);
  });

  test("opens an organization that is there already, whatever it is called", async () => {
    await store.write((tx) => tx.organizations.insert({ id: "acme", name: "Acme", createdAt: 1 }));
    expect(await open().find(await jwtOf("acme"))).toMatchObject({ organizationId: "acme" });
    expect(await open().find(await jwtOf("default"))).toMatchObject({
      organizationId: "default",
      isAdmin: false,
    });
  });

  test.each(["app_1", "acme", "org_", "org_ä", `org_${"a".repeat(61)}`, ""])(
    "makes no organization of the sub %j",
    async (sub) => {
      const callers = open();
      expect((await refusalOf(async () => callers.find(await jwtOf(sub)))).code).toBe(
        "authentication_failed",
      );
      expect(await store.read((tx) => tx.organizations.list({ limit: 10 }))).toHaveLength(2);
    },
  );

  test("opens one application where its org is the organization and its sub the application", async () => {
    const token = await jwtOf("app_1", { org: "org_a", feature_flags: ["beta"] });
    const { organizationId, limits } = await open().find(token);
    expect(organizationId).toBe("org_a");
    expect(limits?.applicationId).toBe("app_1");
    expect([...(limits?.featureFlags ?? [])]).toEqual(["beta"]);
    expect(limits?.capabilities).toContain("ManageEndpoint");
  });

  test.each([
    ["another organization's application", "app_1", "default"],
    ["an application that is not there", "app_2", "org_a"],
    ["an application by its uid", "shop", "org_a"],
  ])("does not open %s", async (_, sub, org) => {
    const callers = open();
    const token = await jwtOf(sub, { org });
    expect((await refusalOf(() => callers.find(token))).code).toBe("authentication_failed");
  });

  test("that has expired is refused, also when it is at hand", async () => {
    const token = await jwtOf("org_a", {}, 60);
    const callers = open();
    await callers.find(token);
    now += 91_000;
    expect((await refusalOf(() => callers.find(token))).message).toContain("expired");
    expect((await refusalOf(() => open().find(token))).message).toContain("expired");
  });

  test("is refused where the operator has set no secret", async () => {
    const token = await jwtOf("org_a");
    const callers = open({ jwtSecret: null });
    expect((await refusalOf(() => callers.find(token))).code).toBe("authentication_failed");
  });
});

test("a store that does not answer is told as such, not as a wrong token", async () => {
  const outage = new ServiceError("unavailable", "The database cannot be used now");
  const broken: Partial<Store> = { read: () => Promise.reject(outage), onChange: () => undefined };
  const callers = open({ store: broken as Store });
  expect(await refusalOf(() => callers.find("hp_org"))).toBe(outage);
  expect(await callers.find(adminToken)).toMatchObject({ isAdmin: true });
});

test("what is kept is bounded: the one that was looked up first is read again", async () => {
  const rows = Array.from({ length: 10_001 }, (_, index) => `hp_${index}`);
  await store.write(async (tx) => {
    for (const token of rows) {
      await tx.tokens.insert({
        id: `tok_${token}`,
        hash: sha256(token),
        organizationId: "org_a",
        applicationId: null,
        capabilities: null,
        featureFlags: [],
        sessionId: null,
        description: "",
        createdAt: now,
        expiresAt: null,
      });
    }
  });
  const callers = open();
  for (const token of rows) await callers.find(token);
  expect(callers.find("hp_10000")).not.toBeInstanceOf(Promise);
  expect(callers.find("hp_1")).not.toBeInstanceOf(Promise);
  expect(callers.find("hp_0")).toBeInstanceOf(Promise);
});
