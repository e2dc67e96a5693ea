import { AppPortalCapability, Svix, type ApiException, type AppPortalAccessIn } from "svix";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually, refusalOf, startReceiver, startService, type TestService } from "./service.suite.ts";

let service: TestService;
let app: string;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service[Symbol.asyncDispose]());
beforeEach(async () => {
  app = (await service.svix.application.create({ name: "Shop" })).id;
});

/** The official client as the customer of an application has it. */
async function portal(access?: AppPortalAccessIn, application = app): Promise<Svix> {
  const { token } = await service.svix.authentication.appPortalAccess(application, access);
  return clientOf(token);
}

function clientOf(token: string): Svix {
  return new Svix(token, { serverUrl: service.url, retryScheduleInMs: [] });
}

async function statusOf(call: Promise<unknown>): Promise<number> {
  return (await refusalOf(call)).status;
}

describe("app portal access", () => {
  test("answers with a token, and with an address under the service that has it in its fragment", async () => {
    const { url, token } = await service.svix.authentication.appPortalAccess(app);
    expect(token).toMatch(/^hp_[\w-]{43}$/);
    const address = new URL(url);
    expect(address.origin + address.pathname).toBe(`${service.url}/portal`);
    expect(address.search).toBe("");
    const key = address.hash.replace(/^#key=/, "");
    expect(JSON.parse(Buffer.from(key, "base64url").toString())).toEqual({ appId: app, token });
  });

  test("is for an application by its uid too", async () => {
    await service.svix.application.create({ name: "Named", uid: "named" });
    const customer = await portal({}, "named");
    expect(await customer.application.get("named")).toMatchObject({ name: "Named" });
  });

  test("makes the application that it brings along, once", async () => {
    const application = { name: "New", uid: "brought-along" };
    const first = await portal({ application }, "brought-along");
    const second = await portal({ application: { ...application, name: "Other" } }, "brought-along");
    expect(await first.application.get("brought-along")).toMatchObject({ name: "New" });
    expect(await second.application.get("brought-along")).toMatchObject({ name: "New" });
  });

  test("of an application that is not there and not brought along is answered with 404", async () => {
    expect(await statusOf(service.svix.authentication.appPortalAccess("nowhere"))).toBe(404);
  });

  test("brought along under another uid is answered with 422", async () => {
    const application = { name: "New", uid: "elsewhere" };
    const call = service.svix.authentication.appPortalAccess("here", { application });
    expect(await statusOf(call)).toBe(422);
  });

  test("needs no body", async () => {
    const answer = await service.request("POST", `/api/v1/auth/app-portal-access/${app}`);
    expect(answer).toMatchObject({ status: 200, json: { token: expect.any(String) } });
  });

  test.each([
    ["an expiry below an hour", { expiry: 3599 }, ["expiry"]],
    ["an expiry above seven days", { expiry: 604_801 }, ["expiry"]],
    ["a capability that there is not", { capabilities: ["ViewBase", "Rule"] }, ["capabilities", "1"]],
    ["capabilities without the basic one", { capabilities: ["ManageEndpoint"] }, ["capabilities"]],
    ["a flag that is no name", { featureFlags: ["not a name"] }, ["featureFlags", "0"]],
  ])("with %s is answered with 422", async (_, body, path) => {
    const answer = await service.request("POST", `/api/v1/auth/app-portal-access/${app}`, body);
    expect(answer.status).toBe(422);
    expect(answer.json.detail).toEqual([
      { loc: ["body", ...path], msg: expect.any(String), type: expect.any(String) },
    ]);
  });

  test("makes a token that ends after seven days, or when it was told to", async () => {
    await service.svix.authentication.appPortalAccess(app);
    await service.svix.authentication.appPortalAccess(app, { expiry: 3600 });
    const { json } = await service.request(
      "GET",
      "/api/v1/organization/default/token?order=descending&limit=2",
    );
    const lives = json.data.map(
      ({ createdAt, expiresAt }: { createdAt: string; expiresAt: string }) =>
        (Date.parse(expiresAt) - Date.parse(createdAt)) / 1000,
    );
    expect(lives).toEqual([3600, 604_800]);
  });
});

describe("the customer of an application", () => {
  test("reads it, and manages its endpoints with their secrets and headers", async () => {
    const customer = await portal();
    expect(await customer.application.get(app)).toMatchObject({ id: app, name: "Shop" });
    const { id } = await customer.endpoint.create(app, { url: "https://example.com/hook" });
    await customer.endpoint.upsert(app, id, { url: "https://example.com/other" });
    await customer.endpoint.patch(app, id, { description: "mine" });
    await customer.endpoint.setHeaders(app, id, { headers: { "x-a": "1" } });
    await customer.endpoint.patchHeaders(app, id, { headers: { "x-b": "2" } });
    expect(await customer.endpoint.getHeaders(app, id)).toMatchObject({
      headers: { "x-a": "1", "x-b": "2" },
    });
    const before = await customer.endpoint.getSecret(app, id);
    await customer.endpoint.rotateSecret(app, id, {});
    expect((await customer.endpoint.getSecret(app, id)).key).not.toBe(before.key);
    expect((await customer.endpoint.list(app)).data).toMatchObject([
      { id, url: "https://example.com/other", description: "mine" },
    ]);
    await customer.endpoint.delete(app, id);
    expect((await customer.endpoint.list(app)).data).toEqual([]);
  });

  test("reads messages and attempts, and sends a message again", async () => {
    await using receiver = await startReceiver();
    const customer = await portal();
    const endpoint = await customer.endpoint.create(app, { url: receiver.url });
    const message = await service.svix.message.create(app, { eventType: "order.paid", payload: { a: 1 } });
    await eventually(async () => {
      expect((await customer.messageAttempt.listByMsg(app, message.id)).data).toHaveLength(1);
    });
    const read = await customer.message.get(app, message.id, { withContent: true });
    expect(read.payload).toEqual({ a: 1 });
    expect((await customer.message.list(app)).data).toHaveLength(1);
    expect((await customer.messageAttempt.listByEndpoint(app, endpoint.id)).data).toHaveLength(1);
    await customer.messageAttempt.resend(app, message.id, endpoint.id);
    await eventually(() => {
      expect(receiver.requests).toHaveLength(2);
    });
  });

  test("neither publishes nor changes the application, nor gives others access", async () => {
    const customer = await portal();
    for (const call of [
      () => customer.message.create(app, { eventType: "order.paid", payload: {} }),
      () => customer.application.upsert(app, { name: "Mine" }),
      () => customer.application.patch(app, { name: "Mine" }),
      () => customer.application.delete(app),
      () => customer.application.create({ name: "Another" }),
      () => customer.application.list(),
      () => customer.eventType.create({ name: "mine", description: "" }),
      () => customer.authentication.appPortalAccess(app),
      () => customer.authentication.expireAll(app),
    ]) {
      expect(await refusalOf(call())).toMatchObject({ status: 403, body: { code: "forbidden" } });
    }
    expect(await service.svix.application.get(app)).toMatchObject({ name: "Shop" });
  });

  test("learns nothing of other applications, not even whether there are any", async () => {
    await service.svix.application.create({ name: "Other", uid: "other-customer" });
    const customer = await portal();
    const there = await refusalOf(customer.application.get("other-customer"));
    const notThere = await refusalOf(customer.application.get("no-customer"));
    expect(there).toEqual({
      status: 403,
      body: { code: "forbidden", detail: "The token is for another application." },
    });
    expect(notThere).toEqual(there);
  });

  test("sees event types behind feature flags only with one of the flags", async () => {
    const name = (suffix: string): string => `flags-${suffix}`;
    await service.svix.eventType.create({ name: name("open"), description: "" });
    await service.svix.eventType.create({ name: name("alpha"), description: "", featureFlags: ["alpha"] });
    await service.svix.eventType.create({
      name: name("both"),
      description: "",
      featureFlags: ["alpha", "beta"],
    });
    const seen = async (client: Svix): Promise<string[]> => {
      const { data } = await client.eventType.list({ limit: 250 });
      return data.map((eventType) => eventType.name).filter((each) => each.startsWith("flags-"));
    };
    expect(await seen(service.svix)).toEqual([name("alpha"), name("both"), name("open")]);
    expect(await seen(await portal())).toEqual([name("open")]);
    const beta = await portal({ featureFlags: ["beta", "gamma"] });
    expect(await seen(beta)).toEqual([name("both"), name("open")]);
    expect(await beta.eventType.get(name("both"))).toMatchObject({ name: name("both") });
    expect(await statusOf(beta.eventType.get(name("alpha")))).toBe(404);
  });

  test("goes through the event types it sees page by page", async () => {
    for (const [index, flags] of [[], ["hidden"], [], ["hidden"], []].entries()) {
      await service.svix.eventType.create({
        name: `paged-${index}`,
        description: "",
        featureFlags: flags,
      });
    }
    const customer = await portal();
    const names: string[] = [];
    for (let iterator: string | null = "paged"; iterator !== null;) {
      const page = await customer.eventType.list({ limit: 1, iterator });
      names.push(...page.data.map((eventType) => eventType.name));
      iterator = page.done ? null : page.iterator;
    }
    expect(names).toEqual(["paged-0", "paged-2", "paged-4"]);
  });
});

describe("capabilities", () => {
  test("let a customer do what they say and no more", async () => {
    const { id } = await service.svix.endpoint.create(app, { url: "https://example.com/hook" });
    const message = await service.svix.message.create(app, { eventType: "order.paid", payload: {} });
    const calls = {
      view: (customer: Svix) => customer.endpoint.list(app),
      secret: (customer: Svix) => customer.endpoint.getSecret(app, id),
      rotate: (customer: Svix) => customer.endpoint.rotateSecret(app, id, {}),
      resend: (customer: Svix) => customer.messageAttempt.resend(app, message.id, id),
      change: (customer: Svix) => customer.endpoint.patch(app, id, { description: "changed" }),
    };
    const allowed = async (access: AppPortalAccessIn): Promise<string[]> => {
      const customer = await portal(access);
      const names: string[] = [];
      for (const [name, call] of Object.entries(calls)) {
        const status = await call(customer).then(
          () => 200,
          (error: unknown) => (error as ApiException<unknown>).code,
        );
        // A delivery under way cannot be resent; that is answered after the token was found good enough.
        if (status !== 403) names.push(name);
      }
      return names;
    };
    const capabilities = (...names: string[]) => ({ capabilities: names }) as AppPortalAccessIn;
    expect(await allowed({})).toEqual(["view", "secret", "rotate", "resend", "change"]);
    // Older clients' way to say it, which the client deprecates.
    const readOnly: object = { readOnly: true };
    expect(await allowed(readOnly)).toEqual(["view"]);
    expect(await allowed({ ...readOnly, ...capabilities("ViewBase", "ManageEndpoint") })).toEqual(["view"]);
    expect(await allowed(capabilities("ViewBase", "ViewEndpointSecret"))).toEqual(["view", "secret"]);
    expect(await allowed(capabilities("ViewBase", "ManageEndpointSecret"))).toEqual([
      "view",
      "secret",
      "rotate",
    ]);
    expect(await allowed(capabilities("ViewBase", "CreateAttempts"))).toEqual(["view", "resend"]);
    expect(await allowed(capabilities("ViewBase", "ManageEndpoint"))).toEqual([
      "view",
      "secret",
      "rotate",
      "change",
    ]);
  });
});

describe("logout", () => {
  test("ends the token that it is called with, and no other", async () => {
    const [first, second] = [await portal(), await portal()];
    await first.authentication.logout();
    expect(await refusalOf(first.application.get(app))).toMatchObject({
      status: 401,
      body: { code: "authentication_failed" },
    });
    expect(await second.application.get(app)).toMatchObject({ id: app });
  });

  test("of a token that is not of one application is answered with 403", async () => {
    expect(await statusOf(service.svix.authentication.logout())).toBe(403);
    expect(await service.svix.application.get(app)).toMatchObject({ id: app });
  });

  test("of a customer who may only look ends the token too", async () => {
    const customer = await portal({ capabilities: [AppPortalCapability.ViewBase] });
    await customer.authentication.logout();
    expect(await statusOf(customer.application.get(app))).toBe(401);
  });
});

describe("expire all", () => {
  test("ends the tokens of one application at once", async () => {
    const other = (await service.svix.application.create({ name: "Other" })).id;
    const [mine, theirs] = [await portal(), await portal({}, other)];
    await service.svix.authentication.expireAll(app, {});
    expect(await statusOf(mine.application.get(app))).toBe(401);
    expect(await theirs.application.get(other)).toMatchObject({ id: other });
  });

  test("ends those of the sessions that it names", async () => {
    const [first, second] = [await portal({ sessionId: "one" }), await portal({ sessionId: "two" })];
    await service.svix.authentication.expireAll(app, { sessionIds: ["one"] });
    expect(await statusOf(first.application.get(app))).toBe(401);
    expect(await second.application.get(app)).toMatchObject({ id: app });
  });

  test("lets them live on for as long as it says", async () => {
    const customer = await portal();
    await service.svix.authentication.expireAll(app, { expiry: 600 });
    expect(await customer.application.get(app)).toMatchObject({ id: app });
    const { json } = await service.request(
      "GET",
      "/api/v1/organization/default/token?order=descending&limit=1",
    );
    const left = Date.parse(json.data[0].expiresAt) - Date.now();
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThanOrEqual(600_000);
  });
});

test("deleting the application ends its tokens", async () => {
  const customer = await portal();
  expect(await customer.application.get(app)).toMatchObject({ id: app });
  await service.svix.application.delete(app);
  expect(await statusOf(customer.eventType.list())).toBe(401);
});
