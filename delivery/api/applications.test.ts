import { Ordering } from "svix";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { refusalOf, startService, type TestService } from "./service.suite.ts";

let service: TestService;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service[Symbol.asyncDispose]());

describe("create", () => {
  test("answers 201 with what was made, and it can be read by id and uid", async () => {
    const created = await service.request("POST", "/api/v1/app", {
      name: "Acme",
      uid: "acme",
      throttleRate: 10,
      metadata: { plan: "gold" },
    });
    expect(created.status).toBe(201);
    expect(created.json).toEqual({
      id: expect.stringMatching(/^app_[0-9a-z]{26}$/),
      uid: "acme",
      name: "Acme",
      throttleRate: 10,
      metadata: { plan: "gold" },
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      updatedAt: created.json.createdAt,
      rateLimit: 10,
    });
    const { id } = created.json;
    expect(await service.svix.application.get(id)).toEqual(await service.svix.application.get("acme"));
  });

  test("what is left out has its default", async () => {
    expect(await service.svix.application.create({ name: "Bare" })).toMatchObject({
      uid: null,
      throttleRate: null,
      metadata: {},
    });
  });

  test("a uid that is taken is answered with 409", async () => {
    await service.svix.application.create({ name: "First", uid: "taken" });
    expect(await refusalOf(service.svix.application.create({ name: "Second", uid: "taken" }))).toEqual({
      status: 409,
      body: { code: "conflict", detail: 'The uid "taken" belongs to another application.' },
    });
  });

  test("with get_if_exists the one that is there is answered with 200, unchanged", async () => {
    const first = await service.svix.application.getOrCreate({ name: "First", uid: "once" });
    const again = await service.request("POST", "/api/v1/app?get_if_exists=true", {
      name: "Other",
      uid: "once",
    });
    expect(again).toMatchObject({ status: 200, json: { id: first.id, name: "First" } });
  });

  test.each([
    ["an empty name", { name: "" }, "name"],
    ["a uid that looks like an id", { name: "a", uid: "app_1" }, "uid"],
    ["a rate that is no whole number", { name: "a", throttleRate: 1.5 }, "throttleRate"],
    ["a rate that is too high", { name: "a", throttleRate: 65_536 }, "throttleRate"],
    ["a rate under both names that differs", { name: "a", rateLimit: 5, throttleRate: 6 }, "rateLimit"],
    ["metadata without end", { name: "a", metadata: { a: "b".repeat(20_000) } }, "metadata"],
  ])("%s is answered with 422", async (_, body, member) => {
    const answer = await service.request("POST", "/api/v1/app", body);
    expect(answer.status).toBe(422);
    expect(answer.json.detail).toEqual([
      { loc: ["body", member], msg: expect.any(String), type: expect.any(String) },
    ]);
  });
});

describe("the idempotency key", () => {
  test("makes one application of two tries, and both are answered alike", async () => {
    const headers = { "idempotency-key": "once-and-once-only" };
    const first = await service.request("POST", "/api/v1/app", { name: "Once" }, headers);
    const second = await service.request("POST", "/api/v1/app", { name: "Once" }, headers);
    expect(second).toMatchObject({ status: 201, json: first.json });
  });

  test("makes one application of tries at the same time", async () => {
    const headers = { "idempotency-key": "at-the-same-time" };
    const tries = Array.from({ length: 5 }, () =>
      service.request("POST", "/api/v1/app", { name: "Once", uid: "at-the-same-time" }, headers),
    );
    const answers = await Promise.all(tries);
    expect(new Set(answers.map(({ json }) => json.id)).size).toBe(1);
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 201, 201]);
  });

  test("for another request is answered with 409", async () => {
    const headers = { "idempotency-key": "used" };
    await service.request("POST", "/api/v1/app", { name: "One" }, headers);
    expect(await service.request("POST", "/api/v1/app", { name: "Two" }, headers)).toMatchObject({
      status: 409,
      json: { code: "conflict", detail: expect.stringContaining("Idempotency-Key") },
    });
  });
});

describe("list", () => {
  test("goes through all applications, both ways and back", async () => {
    await using own = await startService();
    for (const uid of ["a", "b", "c"]) await own.svix.application.create({ name: uid, uid });
    const all = await own.svix.application.list();
    const uids = all.data.map(({ uid }) => uid);
    expect(uids.slice(-3)).toEqual(["a", "b", "c"]);
    expect(all.done).toBe(true);

    const first = await own.svix.application.list({ limit: 2, order: Ordering.Descending });
    expect(first.data.map(({ uid }) => uid)).toEqual(["c", "b"]);
    expect(first.done).toBe(false);
    const second = await own.svix.application.list({
      limit: 1,
      order: Ordering.Descending,
      iterator: first.iterator,
    });
    expect(second.data.map(({ uid }) => uid)).toEqual(["a"]);
    const back = await own.svix.application.list({
      limit: 2,
      order: Ordering.Descending,
      iterator: second.prevIterator,
    });
    expect(back.data.map(({ uid }) => uid)).toEqual(["c", "b"]);
  });

  test("is an empty page for a limit of 0", async () => {
    const { status, json } = await service.request("GET", "/api/v1/app?limit=0");
    expect([status, json]).toEqual([200, { data: [], iterator: null, prevIterator: null, done: false }]);
  });

  test.each([["limit=-1"], ["limit=251"], ["limit=a"], ["order=up"], ["iterator=%20"]])(
    "%s is answered with 422",
    async (query) => {
      const answer = await service.request("GET", `/api/v1/app?${query}`);
      expect(answer.status).toBe(422);
      expect(answer.json.detail[0].loc).toEqual(["query", query.split("=")[0]]);
    },
  );
});

describe("the policy", () => {
  const policy = {
    retrySchedule: [0.5, 60, 3600],
    timeoutSeconds: 7,
    concurrency: 3,
    order: "key",
    whenExhausted: "skip",
    successStatuses: [200, 304],
    validatePayloads: true,
  };

  test("is shown as it was given, and not at all where nothing is set", async () => {
    const created = await service.request("POST", "/api/v1/app", { name: "a", uid: "policy", policy });
    expect(created).toMatchObject({ status: 201, json: { policy } });
    expect((await service.request("GET", "/api/v1/app/policy")).json).toEqual(created.json);
    const cleared = await service.request("PATCH", "/api/v1/app/policy", { policy: null });
    expect(cleared.json).not.toHaveProperty("policy");
  });

  test("is changed member by member; a null takes one away", async () => {
    await service.request("PUT", "/api/v1/app/policy-patch", { name: "a", policy });
    const change = { policy: { timeoutSeconds: 9, order: null, validatePayloads: null, retrySchedule: [] } };
    expect((await service.request("PATCH", "/api/v1/app/policy-patch", change)).json.policy).toEqual({
      retrySchedule: [],
      timeoutSeconds: 9,
      concurrency: 3,
      whenExhausted: "skip",
      successStatuses: [200, 304],
    });
  });

  test("stays when a client of the contract replaces the application, and is replaced when it is given", async () => {
    await service.request("PUT", "/api/v1/app/policy-put", { name: "a", policy });
    await service.svix.application.upsert("policy-put", { name: "b" });
    const path = "/api/v1/app/policy-put";
    expect((await service.request("GET", path)).json).toMatchObject({ name: "b", policy });
    const replaced = await service.request("PUT", path, { name: "b", policy: { concurrency: 1 } });
    expect(replaced.json.policy).toEqual({ concurrency: 1 });
  });

  test("all that is wrong with it is told at once", async () => {
    const answer = await service.request("POST", "/api/v1/app", {
      name: "",
      policy: {
        retrySchedule: [1, 0, "2"],
        timeoutSeconds: 121,
        concurrency: 257,
        order: "random",
        whenExhausted: "wait",
        successStatuses: [199, 200],
        validatePayloads: "yes",
        retries: 3,
      },
    });
    expect(answer.status).toBe(422);
    const places = answer.json.detail.map(({ loc }: { loc: string[] }) => loc.slice(1).join("."));
    expect(places.toSorted()).toEqual([
      "name",
      "policy",
      "policy.concurrency",
      "policy.order",
      "policy.retrySchedule.1",
      "policy.retrySchedule.2",
      "policy.successStatuses.0",
      "policy.timeoutSeconds",
      "policy.validatePayloads",
      "policy.whenExhausted",
    ]);
    expect(answer.text).toContain('A policy has no \\"retries\\"');
  });

  test.each([
    ["21 retries", { retrySchedule: Array.from({ length: 21 }, () => 1) }],
    ["a wait of more than 30 days", { retrySchedule: [2_592_001] }],
    ["no status at all", { successStatuses: [] }],
    ["a time limit below a second", { timeoutSeconds: 0.9 }],
    ["no request at a time", { concurrency: 0 }],
  ])("%s is answered with 422", async (_, wrong) => {
    const answer = await service.request("POST", "/api/v1/app", { name: "a", policy: wrong });
    expect(answer.status).toBe(422);
    expect(answer.json.detail[0].loc.slice(0, 3)).toEqual(["body", "policy", Object.keys(wrong)[0]]);
  });
});

describe("older clients", () => {
  test("give and see the rate under its former name", async () => {
    const created = await service.request("POST", "/api/v1/app", { name: "a", uid: "older", rateLimit: 5 });
    expect(created.json).toMatchObject({ rateLimit: 5, throttleRate: 5 });
    const patched = await service.request("PATCH", "/api/v1/app/older", { rateLimit: null });
    expect(patched.json).toMatchObject({ rateLimit: null, throttleRate: null });
  });

  test("may end every path with a slash", async () => {
    expect((await service.request("POST", "/api/v1/app/", { name: "a", uid: "slash" })).status).toBe(201);
    expect((await service.request("GET", "/api/v1/app/slash/")).json).toMatchObject({ uid: "slash" });
    expect((await service.request("GET", "/api/v1/app/slash/endpoint/?limit=1")).status).toBe(200);
    expect((await service.request("PUT", "/api/v1/app/")).status).toBe(405);
  });
});

describe("change", () => {
  test("PUT by id takes away a uid that is left out", async () => {
    const { id } = await service.svix.application.create({ name: "a", uid: "by-id" });
    expect((await service.request("PUT", `/api/v1/app/${id}`, { name: "b" })).json).toMatchObject({
      uid: null,
    });
    expect((await service.request("GET", "/api/v1/app/by-id")).status).toBe(404);
  });

  test("PUT replaces everything but the uid that it calls the application by", async () => {
    await service.svix.application.create({
      name: "Before",
      uid: "put",
      throttleRate: 5,
      metadata: { a: "b" },
    });
    const answer = await service.request("PUT", "/api/v1/app/put", { name: "After" });
    expect(answer).toMatchObject({
      status: 200,
      json: { name: "After", uid: "put", throttleRate: null, metadata: {} },
    });
  });

  test("PUT makes what is not there yet, under the uid in the path", async () => {
    expect(await service.request("PUT", "/api/v1/app/fresh", { name: "Fresh" })).toMatchObject({
      status: 201,
      json: { uid: "fresh" },
    });
  });

  test("PUT makes nothing under an id, nor under another uid than the path's", async () => {
    expect((await service.request("PUT", "/api/v1/app/app_gone", { name: "a" })).status).toBe(404);
    expect(await service.request("PUT", "/api/v1/app/one", { name: "a", uid: "two" })).toMatchObject({
      status: 422,
      json: { detail: [{ loc: ["body", "uid"] }] },
    });
  });

  test("PATCH changes what it names and no more", async () => {
    const before = await service.svix.application.create({ name: "Before", uid: "patch", throttleRate: 5 });
    const after = await service.svix.application.patch("patch", { throttleRate: null });
    expect(after).toEqual({ ...before, throttleRate: null, updatedAt: after.updatedAt });
    expect(await service.svix.application.patch(before.id, { uid: null })).toMatchObject({
      uid: null,
      name: "Before",
    });
  });

  test("a uid that is taken is answered with 409", async () => {
    await service.svix.application.create({ name: "a", uid: "mine" });
    await service.svix.application.create({ name: "b", uid: "yours" });
    expect((await refusalOf(service.svix.application.patch("yours", { uid: "mine" }))).status).toBe(409);
  });
});

describe("delete", () => {
  test("takes the application with everything in it", async () => {
    await service.svix.application.create({ name: "Gone", uid: "gone" });
    await service.svix.endpoint.create("gone", { url: "https://example.com" });
    await service.svix.message.create("gone", { eventType: "a", payload: {} });
    expect((await service.request("DELETE", "/api/v1/app/gone")).status).toBe(204);
    for (const path of ["", "/endpoint", "/msg"]) {
      expect((await service.request("GET", `/api/v1/app/gone${path}`)).status).toBe(404);
    }
    expect((await service.request("DELETE", "/api/v1/app/gone")).status).toBe(404);
  });
});

describe("a vendor account", () => {
  test.each([
    ["PATCH", "/api/v1/app/pave", { name: "Mine" }],
    ["PUT", "/api/v1/app/pave", { name: "Mine" }],
    ["DELETE", "/api/v1/app/pave", undefined],
    ["POST", "/api/v1/app/pave/endpoint", { url: "https://example.com" }],
    ["PUT", "/api/v1/app/pave/endpoint/mine", { url: "https://example.com" }],
  ])("refuses %s %s and names the vendor's own route", async (method, path, body) => {
    const answer = await service.request(method, path, body);
    expect(answer).toMatchObject({ status: 403, json: { code: "forbidden" } });
    expect(answer.json.detail).toContain("/pave/v1");
  });

  test("can be read", async () => {
    expect(await service.svix.application.get("casey")).toMatchObject({ uid: "casey" });
    expect((await service.svix.endpoint.list("casey")).data).toEqual([]);
  });
});
