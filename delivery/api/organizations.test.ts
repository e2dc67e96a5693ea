import { createHmac } from "node:crypto";
import { Svix } from "svix";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  eventually,
  refusalOf,
  startReceiver,
  startService,
  type Receiver,
  type TestService,
} from "./service.suite.ts";

const jwtSecret = "a-secret-that-the-operator-has-set";

let service: TestService;
beforeAll(async () => {
  service = await startService({ jwtSecret });
});
afterAll(() => service[Symbol.asyncDispose]());

/** A new organization with a token of its own. */
async function addOrganization(): Promise<{ id: string; token: string; svix: Svix }> {
  const { json: organization } = await service.request("POST", "/api/v1/organization", { name: "Acme" });
  const { json } = await service.request("POST", `/api/v1/organization/${organization.id}/token`, {});
  return { id: organization.id, token: json.token, svix: clientOf(json.token) };
}

function clientOf(token: string): Svix {
  return new Svix(token, { serverUrl: service.url, retryScheduleInMs: [] });
}

function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

/** A token as `svix-server jwt generate <organization>` prints it. */
function svixServerToken(organizationId: string): string {
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iat: now,
    exp: now + 10 * 365 * 24 * 60 * 60,
    nbf: now,
    iss: "svix-server",
    sub: organizationId,
  };
  const signed = [{ alg: "HS256", typ: "JWT" }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
  return `${signed}.${createHmac("sha256", jwtSecret).update(signed).digest("base64url")}`;
}

describe("the administrator", () => {
  test("makes organizations, under an id of choice or a new one, and lists them", async () => {
    const named = await service.request("POST", "/api/v1/organization", { id: "acme", name: "Acme" });
    expect(named).toMatchObject({
      status: 201,
      json: { id: "acme", name: "Acme", createdAt: expect.stringMatching(/^\d{4}-.*Z$/) },
    });
    const unnamed = await service.request("POST", "/api/v1/organization", { name: "Umbrella" });
    expect(unnamed.json.id).toMatch(/^org_[0-9a-z]{26}$/);
    const { json } = await service.request("GET", "/api/v1/organization?limit=250");
    expect(json.data.map(({ id }: { id: string }) => id)).toEqual(
      expect.arrayContaining(["acme", "default", unnamed.json.id]),
    );
  });

  test("is told of an id that is taken", async () => {
    await service.request("POST", "/api/v1/organization", { id: "taken", name: "First" });
    const again = await service.request("POST", "/api/v1/organization", { id: "taken", name: "Second" });
    expect(again).toMatchObject({
      status: 409,
      json: { code: "conflict", detail: 'There is an organization "taken" already.' },
    });
  });

  test.each([
    [{}, "name"],
    [{ name: "" }, "name"],
    [{ name: "a", id: "with space" }, "id"],
    [{ name: "a", id: "a".repeat(65) }, "id"],
  ])("is told what is wrong with %j", async (body, member) => {
    const { status, json } = await service.request("POST", "/api/v1/organization", body);
    expect([status, json.detail[0].loc]).toEqual([422, ["body", member]]);
  });

  test("makes one organization of two tries with an idempotency key", async () => {
    const headers = { "idempotency-key": "organization-once" };
    const tries = [1, 2].map(() =>
      service.request("POST", "/api/v1/organization", { name: "Once" }, headers),
    );
    const [first, second] = await Promise.all(tries);
    expect(second?.json).toEqual(first?.json);
  });

  test("makes tokens, lists them without the token itself, and takes them back", async () => {
    const { id } = await addOrganization();
    const path = `/api/v1/organization/${id}/token`;
    const made = await service.request("POST", path, { description: "publisher", expiry: 3600 });
    expect(made).toMatchObject({
      status: 201,
      json: {
        id: expect.stringMatching(/^tok_/),
        applicationId: null,
        description: "publisher",
        capabilities: null,
        featureFlags: [],
        token: expect.stringMatching(/^hp_[\w-]{43}$/),
      },
    });
    const { token, ...shown } = made.json;
    expect(Date.parse(shown.expiresAt) - Date.parse(shown.createdAt)).toBe(3_600_000);
    const list = await service.request("GET", path);
    expect(list.json.data).toContainEqual(shown);
    expect(list.text).not.toContain(token);

    const customer = clientOf(token);
    expect((await customer.application.list()).data).toEqual([]);
    expect((await service.request("DELETE", `${path}/${shown.id}`)).status).toBe(204);
    expect((await refusalOf(customer.application.list())).status).toBe(401);
    expect((await service.request("DELETE", `${path}/${shown.id}`)).status).toBe(404);
  });

  test("makes tokens of one application, and takes them back", async () => {
    const { id, svix } = await addOrganization();
    const application = await svix.application.create({ name: "Shop", uid: "shop" });
    await svix.application.create({ name: "Other", uid: "other" });
    const path = `/api/v1/organization/${id}/token`;
    const { json } = await service.request("POST", path, {
      application: "shop",
      capabilities: ["ViewBase"],
      featureFlags: ["beta"],
    });
    expect(json).toMatchObject({
      applicationId: application.id,
      capabilities: ["ViewBase"],
      featureFlags: ["beta"],
      expiresAt: null,
    });
    const customer = clientOf(json.token);
    expect(await customer.application.get("shop")).toMatchObject({ name: "Shop" });
    expect((await refusalOf(customer.application.get("other"))).status).toBe(403);
    await service.request("DELETE", `${path}/${json.id}`);
    expect((await refusalOf(customer.application.get("shop"))).status).toBe(401);
  });

  test.each([
    ["an expiry of nothing", { expiry: 0 }, ["expiry"]],
    ["a capability that there is not", { application: "a", capabilities: ["All"] }, ["capabilities", "0"]],
    ["capabilities without an application", { capabilities: ["ViewBase"] }, ["capabilities"]],
    ["flags without an application", { featureFlags: ["beta"] }, ["featureFlags"]],
  ])("is told of a token with %s", async (_, body, path) => {
    const { status, json } = await service.request("POST", "/api/v1/organization/default/token", body);
    expect([status, json.detail?.[0].loc]).toEqual([422, ["body", ...path]]);
  });

  test.each([
    ["POST", "/api/v1/organization/nobody/token"],
    ["GET", "/api/v1/organization/nobody/token"],
    ["DELETE", "/api/v1/organization/nobody/token/tok_1"],
    ["DELETE", "/api/v1/organization/default/token/tok_1"],
  ])("is told of what is not there by %s %s", async (method, path) => {
    expect((await service.request(method, path, method === "POST" ? {} : undefined)).status).toBe(404);
  });

  test("cannot take back an organization's token by another's path", async () => {
    const [{ id, token, svix }, other] = [await addOrganization(), await addOrganization()];
    const { json } = await service.request("GET", `/api/v1/organization/${id}/token`);
    const path = `/api/v1/organization/${other.id}/token/${json.data[0].id}`;
    expect((await service.request("DELETE", path)).status).toBe(404);
    expect((await svix.application.list()).data).toEqual([]);
    expect(token).toMatch(/^hp_/);
  });
});

describe("two organizations", () => {
  test("have applications of the same uid, each its own", async () => {
    const [a, b] = [await addOrganization(), await addOrganization()];
    const first = await a.svix.application.create({ name: "A's", uid: "shop" });
    const second = await b.svix.application.create({ name: "B's", uid: "shop" });
    expect(second.id).not.toBe(first.id);
    expect(await a.svix.application.get("shop")).toMatchObject({ id: first.id, name: "A's" });
    expect(await b.svix.application.getOrCreate({ name: "C", uid: "shop" })).toMatchObject({ id: second.id });
    await b.svix.application.upsert("shop", { name: "B's own", uid: "shop" });
    await b.svix.application.patch("shop", { name: "B's very own" });
    expect(await a.svix.application.get("shop")).toMatchObject({ name: "A's" });
    expect((await a.svix.application.list()).data).toHaveLength(1);
    await b.svix.application.delete("shop");
    expect(await a.svix.application.get("shop")).toMatchObject({ name: "A's" });
  });

  test("do not find each other's applications by id", async () => {
    const [a, b] = [await addOrganization(), await addOrganization()];
    const { id } = await a.svix.application.create({ name: "A's" });
    expect(await refusalOf(b.svix.application.get(id))).toEqual({
      status: 404,
      body: { code: "not_found", detail: `There is no application "${id}".` },
    });
    expect((await refusalOf(b.svix.application.upsert(id, { name: "B's" }))).status).toBe(404);
  });

  test("have event types of the same name, each its own, and archive their own alone", async () => {
    const [a, b] = [await addOrganization(), await addOrganization()];
    await a.svix.eventType.create({ name: "order.paid", description: "A's" });
    await b.svix.eventType.create({ name: "order.paid", description: "B's" });
    await b.svix.eventType.delete("order.paid");
    expect(await a.svix.eventType.get("order.paid")).toMatchObject({ description: "A's", archived: false });
    await a.svix.application.create({ name: "A's", uid: "shop" });
    await b.svix.application.create({ name: "B's", uid: "shop" });
    await a.svix.message.create("shop", { eventType: "order.paid", payload: {} });
    await a.svix.endpoint.create("shop", { url: "https://example.com/a", eventTypes: ["order.paid"] });
    const archived = b.svix.message.create("shop", { eventType: "order.paid", payload: {} });
    expect((await refusalOf(archived)).status).toBe(422);
    const asking = b.svix.endpoint.create("shop", { url: "https://e.com", eventTypes: ["order.paid"] });
    expect((await refusalOf(asking)).status).toBe(422);
  });

  test("publish to their own endpoints alone, under the same uid and event id", async () => {
    await using first = await startReceiver();
    await using second = await startReceiver();
    const parties: [{ svix: Svix }, Receiver, string][] = [
      [await addOrganization(), first, "for A"],
      [await addOrganization(), second, "for B"],
    ];
    for (const [{ svix }, receiver] of parties) {
      await svix.application.create({ name: "Shop", uid: "shop" });
      await svix.endpoint.create("shop", { url: receiver.url });
    }
    for (const [{ svix }, , whose] of parties) {
      await svix.message.create("shop", { eventType: "order.paid", eventId: "order-1", payload: { whose } });
    }
    for (const [{ svix }, receiver, whose] of parties) {
      await eventually(() => {
        expect(receiver.requests.map(({ body }) => body)).toEqual([JSON.stringify({ whose })]);
      });
      const message = await svix.message.get("shop", "order-1", { withContent: true });
      expect(message.payload).toEqual({ whose });
      expect((await svix.message.list("shop")).data).toHaveLength(1);
    }
  });

  test("do not get each other's answers by the same idempotency key", async () => {
    const [a, b] = [await addOrganization(), await addOrganization()];
    const create = (token: string) =>
      service.request(
        "POST",
        "/api/v1/app",
        { name: "Same", uid: "same" },
        {
          "idempotency-key": "the-same-key",
          ...bearer(token),
        },
      );
    const [first, second] = [await create(a.token), await create(b.token)];
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(second.json.id).not.toBe(first.json.id);
    expect((await create(a.token)).json).toEqual(first.json);
  });

  test("publish with the same idempotency key, each its own message", async () => {
    const parties = [await addOrganization(), await addOrganization()];
    const ids = new Set<string>();
    for (const { svix } of parties) {
      await svix.application.create({ name: "Shop", uid: "shop" });
      const options = { idempotencyKey: "publish-once" };
      const event = { eventType: "order.paid", payload: { a: 1 } };
      const first = await svix.message.create("shop", event, options);
      expect(await svix.message.create("shop", event, options)).toMatchObject({ id: first.id });
      ids.add(first.id);
    }
    expect(ids.size).toBe(2);
  });

  test("make applications alongside a message and portal access in their own", async () => {
    const [a, b] = [await addOrganization(), await addOrganization()];
    const brought = { name: "Brought", uid: "brought" };
    const event = { eventType: "order.paid", payload: {}, application: brought };
    await a.svix.message.create("brought", event);
    await b.svix.authentication.appPortalAccess("brought", { application: { ...brought, name: "B's" } });
    expect(await a.svix.application.get("brought")).toMatchObject({ name: "Brought" });
    expect(await b.svix.application.get("brought")).toMatchObject({ name: "B's" });
  });

  test("share nothing with the default one, which has the vendor accounts", async () => {
    const { svix } = await addOrganization();
    expect((await svix.application.list()).data).toEqual([]);
    expect((await refusalOf(svix.application.get("twilio"))).status).toBe(404);
    const event = { eventType: "onMessageAdded", payload: {} };
    expect((await refusalOf(svix.message.create("twilio", event))).status).toBe(404);
    // The name is free here.
    const own = await svix.application.create({ name: "Own", uid: "twilio" });
    await svix.application.patch("twilio", { name: "Mine" });
    expect((await svix.message.create("twilio", { eventType: "any.thing", payload: {} })).id).toMatch(
      /^msg_/,
    );
    expect(await service.svix.application.get("twilio")).not.toMatchObject({ id: own.id });
  });

  test("see in the inbox what was delivered to their own endpoints", async () => {
    const [a, b] = [await addOrganization(), await addOrganization()];
    await a.svix.application.create({ name: "Shop", uid: "shop" });
    await a.svix.endpoint.create("shop", { url: `${service.url}/inbox/shared` });
    await a.svix.message.create("shop", { eventType: "order.paid", payload: { canary: "A's" } });
    await fetch(`${service.url}/inbox/shared`, { method: "POST", body: "from nobody" });
    const seen = async (headers?: Record<string, string>) =>
      (await service.request("GET", "/inbox/shared/requests", undefined, headers)).json.data as {
        body: string;
        verified: boolean;
      }[];
    await eventually(async () => {
      expect((await seen()).filter(({ verified }) => verified)).toHaveLength(1);
    });
    expect(await seen()).toHaveLength(2);
    expect((await seen(bearer(a.token))).map(({ body }) => body)).toEqual(['{"canary":"A\'s"}']);
    expect(await seen(bearer(b.token))).toEqual([]);
    for (const [method, path] of [
      ["PUT", "/inbox/shared/answer"],
      ["DELETE", "/inbox/shared"],
    ] as const) {
      expect((await service.request(method, path, {}, bearer(a.token))).status).toBe(403);
    }
    expect(await seen()).toHaveLength(2);
  });
});

describe("a token of Svix's own server", () => {
  test("works as it is, and opens the organization that it names", async () => {
    const [mine, theirs] = ["org_23rb8YdGqMT0qIzpgGwdXfHirMu", "org_00000000000SvixManagement00"].map((id) =>
      clientOf(svixServerToken(id)),
    ) as [Svix, Svix];
    const { id } = await mine.application.create({ name: "Moved over", uid: "moved" });
    await mine.message.create("moved", { eventType: "order.paid", payload: {} });
    expect((await mine.application.list()).data).toMatchObject([{ id }]);
    expect((await theirs.application.list()).data).toEqual([]);
    expect((await refusalOf(theirs.application.get("moved"))).status).toBe(404);
    const { json } = await service.request("GET", "/api/v1/organization?limit=250");
    const ids = json.data.map((organization: { id: string }) => organization.id);
    expect(ids).toEqual(expect.arrayContaining(["org_23rb8YdGqMT0qIzpgGwdXfHirMu"]));
  });

  test("gives customers access, whose tokens are the service's own", async () => {
    const svix = clientOf(svixServerToken("org_portals"));
    const { id } = await svix.application.create({ name: "Shop" });
    const { token } = await svix.authentication.appPortalAccess(id);
    const customer = clientOf(token);
    expect(await customer.application.get(id)).toMatchObject({ id });
    await customer.authentication.logout();
    expect((await refusalOf(customer.application.get(id))).status).toBe(401);
  });

  test("cannot manage organizations, nor be logged out", async () => {
    const token = svixServerToken("org_other");
    expect((await service.request("GET", "/api/v1/organization", undefined, bearer(token))).status).toBe(403);
    expect((await refusalOf(clientOf(token).authentication.logout())).status).toBe(403);
  });

  test("is refused without a signature, and where the operator set no secret", async () => {
    const token = svixServerToken("org_other");
    const [, claims] = token.split(".");
    const header = Buffer.from('{"alg":"none","typ":"JWT"}').toString("base64url");
    for (const forged of [`${header}.${claims}.`, `${header}.${claims}`, token.replace(/\.[^.]*$/, ".")]) {
      const answer = await service.request("GET", "/api/v1/app", undefined, bearer(forged));
      expect(answer).toMatchObject({ status: 401, json: { code: "authentication_failed" } });
    }
    await using without = await startService();
    expect((await without.request("GET", "/api/v1/app", undefined, bearer(token))).status).toBe(401);
  });
});
