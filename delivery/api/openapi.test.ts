import { Ajv2020 } from "ajv/dist/2020.js";
import fastify from "fastify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { accounts } from "../dialects/index.ts";
import { createLogger } from "../log.ts";
import type { Operation } from "../operation.ts";
import { registerOpenApi, type OpenApiDocument, type OperationObject } from "./openapi.ts";
import { OpenApiShapes } from "./openapi-shapes.ts";
import { createServer, type ServerContext } from "./server.ts";
import { startService, type TestService } from "./service.suite.ts";

/**
 * OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0), as far as this document makes use of it: what it has beyond these
 * members is refused, so whoever uses more of OpenAPI adds its rules here.
 */
const openApiRules = {
  $id: "openapi",
  ...record(
    {
      openapi: { const: "3.1.0" },
      info: record(
        {
          title: { type: "string" },
          version: { type: "string" },
          description: { type: "string" },
          license: record({ name: { type: "string" }, identifier: { const: "Apache-2.0" } }, ["name"]),
        },
        ["title", "version"],
      ),
      servers: list(record({ url: { type: "string", format: "uri" } }, ["url"])),
      tags: list(record({ name: { type: "string" } }, ["name"])),
      paths: {
        type: "object",
        propertyNames: { pattern: "^/" },
        additionalProperties: {
          type: "object",
          propertyNames: { enum: ["get", "put", "post", "delete", "options", "head", "patch", "trace"] },
          additionalProperties: { $ref: "#/$defs/operation" },
        },
      },
      components: record({
        schemas: components({ $ref: "https://json-schema.org/draft/2020-12/schema" }),
        responses: components({ $ref: "#/$defs/response" }),
        headers: components({ $ref: "#/$defs/header" }),
        securitySchemes: components({
          oneOf: [
            record(
              {
                type: { const: "http" },
                scheme: { enum: ["basic", "bearer"] },
                description: { type: "string" },
              },
              ["type", "scheme"],
            ),
            record(
              {
                type: { const: "apiKey" },
                in: { enum: ["query", "header", "cookie"] },
                name: { type: "string" },
                description: { type: "string" },
              },
              ["type", "in", "name"],
            ),
          ],
        }),
      }),
    },
    ["openapi", "info", "paths"],
  ),
  $defs: {
    operation: record(
      {
        operationId: { type: "string", pattern: "^[a-z][A-Za-z]+$" },
        summary: { type: "string", minLength: 1 },
        description: { type: "string" },
        tags: list({ type: "string" }),
        parameters: list({ $ref: "#/$defs/parameter" }),
        requestBody: record({ required: { type: "boolean" }, content: { $ref: "#/$defs/content" } }, [
          "content",
        ]),
        responses: {
          type: "object",
          minProperties: 1,
          propertyNames: { pattern: "^([1-5](\\d\\d|XX)|default)$" },
          additionalProperties: { oneOf: [reference("responses"), { $ref: "#/$defs/response" }] },
        },
        security: list({ type: "object", additionalProperties: list({ type: "string" }) }),
      },
      ["responses"],
    ),
    parameter: {
      ...record(
        {
          name: { type: "string" },
          in: { enum: ["query", "header", "path"] },
          required: { type: "boolean" },
          description: { type: "string" },
          schema: { $ref: "https://json-schema.org/draft/2020-12/schema" },
        },
        ["name", "in", "schema"],
      ),
      if: { properties: { in: { const: "path" } } },
      then: { properties: { required: { const: true } }, required: ["required"] },
    },
    header: record({
      description: { type: "string" },
      schema: { $ref: "https://json-schema.org/draft/2020-12/schema" },
    }),
    response: record(
      {
        description: { type: "string" },
        headers: { type: "object", additionalProperties: reference("headers") },
        content: { $ref: "#/$defs/content" },
      },
      ["description"],
    ),
    content: {
      type: "object",
      propertyNames: { pattern: "^[^/]+/[^/]+$" },
      additionalProperties: record({ schema: { $ref: "https://json-schema.org/draft/2020-12/schema" } }),
    },
  },
};

function record(properties: object, required: readonly string[] = []) {
  return { type: "object", properties, required, additionalProperties: false };
}

function list(items: object) {
  return { type: "array", items };
}

function components(component: object) {
  return {
    type: "object",
    propertyNames: { pattern: "^[a-zA-Z0-9._-]+$" },
    additionalProperties: component,
  };
}

function reference(kind: string) {
  return record({ $ref: { type: "string", pattern: `^#/components/${kind}/` } }, ["$ref"]);
}

let service: TestService;
let document: OpenApiDocument;
let operations: { path: string; method: string; operation: OperationObject }[];
beforeAll(async () => {
  service = await startService();
  const answer = await fetch(`${service.url}/openapi.json`);
  expect([answer.status, answer.headers.get("content-type")]).toEqual([
    200,
    "application/json; charset=utf-8",
  ]);
  document = (await answer.json()) as OpenApiDocument;
  operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
  );
});
afterAll(async () => service[Symbol.asyncDispose]());

describe("the OpenAPI document", () => {
  test("keeps to the rules of OpenAPI 3.1", () => {
    const ajv = new Ajv2020({ strict: false, formats: { uri: (text: string) => URL.canParse(text) } });
    const validate = ajv.compile(openApiRules);
    validate(document);
    expect(validate.errors).toBeNull();
  });

  test("has every route of the server, and no other", async () => {
    const server = createServer({
      store: { onChange: () => undefined },
      accounts: accounts.map((account) => ({ account, context: { credentials: {} } })),
      adminToken: "none",
      jwtSecret: null,
      inbox: true,
      limits: { maxBodyBytes: 1024, maxInFlightRequests: 10 },
      logger: createLogger("silent"),
    } as unknown as ServerContext);
    await server.ready();
    const registered = routesIn(server.printRoutes({ commonPrefix: false }));
    await server.close();
    expect(registered.length).toBeGreaterThan(80);
    const gets = registered.filter((route) => route.startsWith("GET "));
    const documented = operations.map(({ path, method }) => `${method.toUpperCase()} ${path}`);
    // Every GET has a HEAD, as the document says at its top.
    const isHeadOfGet = (route: string): boolean =>
      route.startsWith("HEAD ") && gets.includes(route.replace("HEAD", "GET"));
    expect(registered.filter((route) => !isHeadOfGet(route)).toSorted()).toEqual(documented.toSorted());
  });

  test("refers to nothing that it does not have, and has nothing that nobody refers to", () => {
    const text = JSON.stringify(document);
    const references = new Set(
      [...text.matchAll(/"\$ref":"#\/components\/([^"]+)"/g)].map(([, name]) => name),
    );
    const { schemas, responses, headers } = document.components;
    const there = Object.entries({ schemas, responses, headers }).flatMap(([kind, items]) =>
      Object.keys(items).map((name) => `${kind}/${name}`),
    );
    expect([...references].toSorted()).toEqual(there.toSorted());
    expect(text).not.toContain("$defs");
  });

  test("has schemas that can be used, with formats and patterns that exist", () => {
    const ajv = new Ajv2020({ strictTypes: false, formats: { "date-time": true, uri: true } });
    ajv.addSchema({ $id: "document", components: document.components }, "document");
    ajv.addKeyword("components");
    for (const name of Object.keys(document.components.schemas)) {
      expect(() => ajv.compile({ $ref: `document#/components/schemas/${name}` }), name).not.toThrow();
    }
  });

  test("names each operation, its tag and its security once", () => {
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    const tags = new Set(operations.flatMap(({ operation }) => operation.tags));
    expect([...tags].toSorted()).toEqual(document.tags.map(({ name }) => name));
    const schemes = new Set(operations.flatMap(({ operation }) => operation.security.flatMap(Object.keys)));
    expect([...schemes].toSorted()).toEqual(Object.keys(document.components.securitySchemes));
  });

  test("has the parameters of each path, with a word on each", () => {
    for (const { path, method, operation } of operations) {
      const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      const given = (operation.parameters ?? []).filter((parameter) => parameter.in === "path");
      expect(
        given.map(({ name }) => name),
        `${method} ${path}`,
      ).toEqual(named);
      for (const { description } of given) expect(description).toBeTruthy();
    }
  });

  test("asks for a token everywhere but where everybody may ask", async () => {
    const open = operations.filter(({ operation }) => operation.security.length === 0);
    expect(new Set(open.map(({ path }) => path))).toEqual(
      new Set([
        "/api/v1/health",
        "/api/v1/health/ping",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/inbox/{name}",
      ]),
    );
    for (const { path, method, operation } of operations) {
      const answer = await fetch(service.url + path.replaceAll(/[{}]/g, ""), {
        method: method.toUpperCase(),
      });
      const isRefused = answer.status === 401;
      expect(isRefused, `${method} ${path}`).toBe(operation.security.length > 0);
    }
  });

  test("knows nothing of what the service holds", () => {
    const text = JSON.stringify(document);
    for (const [, fields] of Object.entries(service.service.credentials)) {
      for (const secret of Object.values(fields as Record<string, string>)) {
        if (secret !== "hookplane") expect(text).not.toContain(secret);
      }
    }
  });

  test("is served to HEAD as well, and to nothing else", async () => {
    expect((await fetch(`${service.url}/openapi.json`, { method: "HEAD" })).status).toBe(200);
    expect((await fetch(`${service.url}/openapi.json`, { method: "POST" })).status).toBe(405);
  });
});

describe("a route that would make the document lie", () => {
  function serve(operation?: Operation) {
    const server = fastify();
    registerOpenApi(server, {
      accounts: [],
      publicUrl: () => "http://h",
      version: "1",
    } as unknown as ServerContext);
    server.get("/a", operation === undefined ? {} : { config: { operation } }, async () => "");
    return server.inject("/openapi.json");
  }
  const sound: Operation = { summary: "Get it", tag: "A", answers: { 200: z.string() } };

  test("by not being in it keeps it from being made", async () => {
    expect((await serve(sound)).statusCode).toBe(200);
    expect((await serve()).json()).toMatchObject({
      statusCode: 500,
      message: "GET /a does not say what it is for",
    });
  });

  test("by the name of another shape does so too", async () => {
    const one = z.object({ a: z.string() }).meta({ id: "Same" });
    const other = z.object({ b: z.string() }).meta({ id: "Same" });
    expect((await serve({ ...sound, answers: { 200: one, 201: other } })).json()).toMatchObject({
      message: 'Two shapes have the id "Same"',
    });
  });
});

describe("OpenApiShapes", () => {
  const shapes = new OpenApiShapes();

  test("tells rules that JSON Schema has no words for by their messages", () => {
    const shape = z
      .string()
      .max(5, "At most 5.")
      .regex(/^a/, "It begins with a.")
      .refine((text) => text !== "abc", "It is not abc.")
      .refine((text) => text !== "ab", { error: ({ input }) => `Not ${String(input)}.` });
    expect(shapes.convert(shape, "input")).toEqual({
      type: "string",
      maxLength: 5,
      pattern: "^a",
      description: "It begins with a. It is not abc.",
    });
    expect(shapes.convert(shape.describe("A text."), "input")).toMatchObject({
      description: "A text. It begins with a. It is not abc.",
    });
  });

  test("lets answers grow, and requests not", () => {
    const strict = z.strictObject({ a: z.string() });
    expect(shapes.convert(strict, "input")).toMatchObject({ additionalProperties: false });
    expect(shapes.convert(z.object({ a: z.string() }), "output")).not.toHaveProperty("additionalProperties");
  });

  test("writes a shape with an id down once", () => {
    const named = z.object({ a: z.string() }).meta({ id: "Named" });
    const $ref = "#/components/schemas/Named";
    expect(shapes.convert(named, "output")).toEqual({ $ref });
    expect(shapes.convert(z.array(named.nullable()), "output")).toEqual({
      type: "array",
      items: { anyOf: [{ $ref }, { type: "null" }] },
    });
    expect(shapes.named).toEqual({
      Named: { type: "object", properties: { a: { type: "string" } }, required: ["a"] },
    });
  });
});

/** `GET /a/{b}`, of each route in what Fastify prints of them. */
function routesIn(tree: string): string[] {
  const routes: string[] = [];
  const prefix: string[] = [];
  for (const line of tree.split("\n")) {
    const [, indent = "", segment = "", methods] =
      /^([│├└─\s]*)([^\s(]*)(?: \(([A-Z, ]+)\))?$/u.exec(line) ?? [];
    if (indent === "" && segment === "") continue;
    const depth = indent.length / 4;
    prefix.length = depth;
    prefix[depth] = segment;
    const path = prefix.join("").replaceAll(/:(\w+)/g, "{$1}");
    for (const method of methods?.split(", ") ?? []) routes.push(`${method} ${path}`);
  }
  return routes;
}
