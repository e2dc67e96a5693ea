import { Ordering } from "svix";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { refusalOf, startService, type TestService } from "./service.suite.ts";

const schemas = { "1": { type: "object", properties: { id: { type: "string" } } } };

let service: TestService;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service[Symbol.asyncDispose]());

describe("create", () => {
  test("answers 201 with what was made, and it can be read", async () => {
    const created = await service.request("POST", "/api/v1/event-type", {
      name: "user.created",
      description: "A user has signed up",
      schemas,
      featureFlag: "beta",
      groupName: "user",
      deprecated: true,
    });
    expect(created.status).toBe(201);
    expect(created.json).toEqual({
      name: "user.created",
      description: "A user has signed up",
      archived: false,
      deprecated: true,
      schemas,
      groupName: "user",
      featureFlag: "beta",
      featureFlags: ["beta"],
      createdAt: expect.any(String),
      updatedAt: created.json.createdAt,
    });
    expect((await service.request("GET", "/api/v1/event-type/user.created")).json).toEqual(created.json);
  });

  test("a name that is taken is answered with 409", async () => {
    await service.svix.eventType.create({ name: "taken", description: "" });
    expect(await refusalOf(service.svix.eventType.create({ name: "taken", description: "" }))).toMatchObject({
      status: 409,
      body: { code: "conflict" },
    });
  });

  test.each([
    ["a name with a space", { name: "a b", description: "" }, ["body", "name"]],
    ["no description", { name: "a" }, ["body", "description"]],
    [
      "a schema that is no object",
      { name: "a", description: "", schemas: { "1": 5 } },
      ["body", "schemas", "1"],
    ],
    [
      "a flag with a space",
      { name: "a", description: "", featureFlags: ["a b"] },
      ["body", "featureFlags", "0"],
    ],
  ])("%s is answered with 422", async (_, body, loc) => {
    expect(await service.request("POST", "/api/v1/event-type", body)).toMatchObject({
      status: 422,
      json: { detail: [{ loc }] },
    });
  });
});

describe("delete", () => {
  test("archives: the event type is not listed, can be read, and creating it again brings it back", async () => {
    await service.svix.eventType.create({ name: "old", description: "First" });
    await service.svix.eventType.delete("old");
    expect(await service.svix.eventType.get("old")).toMatchObject({ archived: true });
    const names = async (includeArchived: boolean) =>
      (await service.svix.eventType.list({ includeArchived, limit: 250 })).data.map(({ name }) => name);
    expect(await names(false)).not.toContain("old");
    expect(await names(true)).toContain("old");
    expect(await service.svix.eventType.create({ name: "old", description: "Second" })).toMatchObject({
      archived: false,
      description: "Second",
    });
  });

  test("with expunge nothing stays", async () => {
    await service.svix.eventType.create({ name: "expunged", description: "" });
    await service.svix.eventType.delete("expunged", { expunge: true });
    expect((await refusalOf(service.svix.eventType.get("expunged"))).status).toBe(404);
    expect((await refusalOf(service.svix.eventType.delete("expunged"))).status).toBe(404);
  });
});

describe("an archived event type", () => {
  beforeAll(async () => {
    await service.svix.application.create({ name: "a", uid: "archive" });
    await service.svix.eventType.create({ name: "former", description: "" });
    await service.svix.endpoint.create("archive", {
      uid: "early",
      url: "https://example.com",
      eventTypes: ["former"],
    });
    await service.svix.eventType.delete("former");
  });

  test("cannot be published", async () => {
    expect(
      await refusalOf(service.svix.message.create("archive", { eventType: "former", payload: {} })),
    ).toMatchObject({
      status: 422,
      body: { detail: [{ loc: ["body", "eventType"], msg: expect.stringContaining("archived") }] },
    });
    expect((await service.svix.message.list("archive")).data).toEqual([]);
  });

  test("cannot be asked for by an endpoint that did not before", async () => {
    const create = service.svix.endpoint.create("archive", {
      url: "https://example.com",
      eventTypes: ["former"],
    });
    expect(await refusalOf(create)).toMatchObject({
      status: 422,
      body: { detail: [{ loc: ["body", "eventTypes"] }] },
    });
  });

  test("stays with an endpoint that asked for it before", async () => {
    const patched = await service.svix.endpoint.patch("archive", "early", {
      eventTypes: ["former", "other"],
    });
    expect(patched.eventTypes).toEqual(["former", "other"]);
  });
});

describe("change", () => {
  test("PUT makes and replaces, PATCH changes what it names", async () => {
    expect(
      await service.request("PUT", "/api/v1/event-type/put", { description: "1", schemas }),
    ).toMatchObject({
      status: 201,
      json: { name: "put", schemas },
    });
    expect(await service.svix.eventType.patch("put", { deprecated: true })).toMatchObject({
      description: "1",
      deprecated: true,
      schemas,
    });
    expect(await service.request("PUT", "/api/v1/event-type/put", { description: "2" })).toMatchObject({
      status: 200,
      json: { description: "2", deprecated: false, schemas: null },
    });
    expect((await refusalOf(service.svix.eventType.patch("missing", {}))).status).toBe(404);
  });
});

describe("list", () => {
  test("goes by name, and shows schemas when asked for them", async () => {
    await using own = await startService();
    for (const name of ["b", "-a", "a"]) await own.svix.eventType.create({ name, description: "", schemas });
    const first = await own.svix.eventType.list({ limit: 1, withContent: true });
    expect(first.data).toMatchObject([{ name: "-a", schemas }]);
    const rest = await own.svix.eventType.list({ iterator: first.iterator });
    expect(rest).toMatchObject({ data: [{ name: "a", schemas: null }, { name: "b" }], done: true });
    expect((await own.svix.eventType.list({ order: Ordering.Descending, limit: 1 })).data).toMatchObject([
      { name: "b" },
    ]);
  });
});
