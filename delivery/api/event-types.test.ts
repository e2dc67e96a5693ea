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
      "a schema that is none",
      { name: "a", description: "", schemas: { "1": { type: "object", readOnly: 15 } } },
      ["body", "schemas", "1", "readOnly"],
    ],
    [
      "a version with a space",
      { name: "a", description: "", schemas: { "1 a": {} } },
      ["body", "schemas", "1 a"],
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

describe("schemas", () => {
  const path = "/api/v1/event-type/schemas";

  test("may be of draft-07 and 2020-12, in any number of versions, and come back as they went", async () => {
    const versions = {
      "1": { $schema: "http://json-schema.org/draft-07/schema#", type: "object" },
      "2": {
        $schema: "https://json-schema.org/draft/2020-12/schema",
        properties: { a: { prefixItems: [{}] } },
      },
      "3": { title: "Third", example: { id: 1 }, "x-team": "core" },
    };
    expect((await service.request("PUT", path, { description: "", schemas: versions })).status).toBe(201);
    expect((await service.svix.eventType.get("schemas")).schemas).toEqual(versions);
    expect((await service.request("PATCH", path, { schemas: {} })).json).toMatchObject({ schemas: {} });
    expect((await service.request("PATCH", path, { schemas: null })).json).toMatchObject({ schemas: null });
  });

  test("that are wrong are all told of at once, and nothing is changed", async () => {
    await service.request("PUT", path, { description: "Before", schemas });
    for (const method of ["PUT", "PATCH"]) {
      const answer = await service.request(method, path, {
        description: "After",
        schemas: {
          "1": { type: 1 },
          "2": { $ref: "#/nowhere" },
          "3": { $schema: "https://example.com" },
          "4": {},
        },
        featureFlags: ["a b"],
      });
      expect(answer.status).toBe(422);
      const places = answer.json.detail.map(({ loc }: { loc: string[] }) => loc.slice(1).join("."));
      expect(new Set(places)).toEqual(
        new Set(["schemas.1.type", "schemas.2", "schemas.3.$schema", "featureFlags.0"]),
      );
    }
    expect(await service.svix.eventType.get("schemas")).toMatchObject({ description: "Before", schemas });
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
    await service.svix.eventType.create({ name: "former.too", description: "", archived: true });
    const create = service.svix.endpoint.create("archive", {
      url: "https://example.com",
      eventTypes: ["former", "other", "former.too"],
    });
    expect(await refusalOf(create)).toMatchObject({
      status: 422,
      body: {
        detail: [
          { loc: ["body", "eventTypes"], msg: expect.stringContaining('"former"') },
          { loc: ["body", "eventTypes"], msg: expect.stringContaining('"former.too"') },
        ],
      },
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
    expect(await service.svix.eventType.upsert("put", { description: "2" })).toMatchObject({
      description: "2",
      deprecated: false,
      schemas: null,
    });
    expect((await service.request("PUT", "/api/v1/event-type/put", { description: "3" })).status).toBe(200);
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
