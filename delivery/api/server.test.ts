import { connect } from "node:net";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Svix } from "svix";
import { createLogger } from "../log.ts";
import { eventually, refusalOf, startService, type TestService } from "./service.suite.ts";

let service: TestService;
beforeAll(async () => {
  service = await startService({ maxBodyBytes: 10_000 });
});
afterAll(() => service[Symbol.asyncDispose]());

describe("the token", () => {
  test.each([
    ["none", {}],
    ["another", { authorization: "Bearer wrong" }],
    ["one in another scheme", { authorization: "Basic d3Jvbmc6d3Jvbmc=" }],
  ])("a request with %s is answered with 401 and how to authenticate", async (_, headers) => {
    const response = await fetch(`${service.url}/api/v1/app`, { headers });
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toBe("Bearer");
    expect(await response.json()).toEqual({
      code: "authentication_failed",
      detail: expect.stringContaining("oken"),
    });
  });

  test("a client without it does not learn which routes there are", async () => {
    const response = await fetch(`${service.url}/api/v1/nothing`);
    expect(response.status).toBe(401);
  });

  test("the official client reports the refusal", async () => {
    const svix = new Svix("wrong", { serverUrl: service.url, retryScheduleInMs: [] });
    expect(await refusalOf(svix.application.list())).toMatchObject({
      status: 401,
      body: { code: "authentication_failed" },
    });
  });

  test("the scheme's case does not matter", async () => {
    const response = await fetch(`${service.url}/api/v1/app`, {
      headers: { authorization: `bearer ${service.token}` },
    });
    expect(response.status).toBe(200);
  });
});

describe("a wrong request", () => {
  test.each([
    ["not JSON", "{"],
    ["text behind the JSON", '{"name":"a"} b'],
    ["not UTF-8 as it should be", "\ufeff{}"],
    ["nested too deep", `{"metadata":${"[".repeat(200)}${"]".repeat(200)}}`],
  ])("a body that is %s is answered with 400", async (_, body) => {
    const answer = await service.request("POST", "/api/v1/app", body);
    expect(answer.status).toBe(400);
    expect(answer.json).toEqual({ code: "bad_request", detail: expect.any(String) });
  });

  test("a body in broken UTF-8 is answered with 400", async () => {
    const response = await fetch(`${service.url}/api/v1/app`, {
      method: "POST",
      headers: { authorization: `Bearer ${service.token}` },
      body: Buffer.from([0x22, 0xff, 0x22]),
    });
    expect(response.status).toBe(400);
  });

  test("a missing body is answered with 400", async () => {
    expect(await service.request("POST", "/api/v1/app")).toMatchObject({
      status: 400,
      json: { code: "bad_request" },
    });
  });

  test("a body that is too large is answered with 413", async () => {
    const answer = await service.request("POST", "/api/v1/app", { name: "a".repeat(10_000) });
    expect(answer.status).toBe(413);
    expect(answer.json).toEqual({ code: "payload_too_large", detail: expect.any(String) });
  });

  test.each([["[]"], ['"text"'], ["null"], ["1"]])(
    "a body that is no object, %s, is answered with 422",
    async (body) => {
      const answer = await service.request("POST", "/api/v1/app", body);
      expect(answer.status).toBe(422);
      expect(answer.json).toEqual({
        detail: [{ loc: ["body"], msg: "This must be an object.", type: "type_error" }],
      });
    },
  );

  test("every fault is told at once, with its place", async () => {
    const answer = await service.request("POST", "/api/v1/app?get_if_exists=maybe", {
      uid: "a b",
      throttleRate: 0,
      metadata: { a: 1 },
    });
    expect(answer.status).toBe(422);
    expect(answer.json.detail).toEqual([
      { loc: ["body", "name"], msg: "This member is required.", type: "value_error.missing" },
      { loc: ["body", "uid"], msg: expect.stringContaining("letters, digits"), type: "value_error" },
      { loc: ["body", "throttleRate"], msg: expect.stringContaining("at least 1"), type: "value_error" },
      { loc: ["body", "metadata", "a"], msg: "This must be a string.", type: "type_error" },
      { loc: ["query", "get_if_exists"], msg: expect.stringContaining('"true"'), type: "value_error" },
    ]);
  });

  test("JSON is read whatever content type it is sent with", async () => {
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    expect(await service.request("POST", "/api/v1/app", '{"name":"by curl -d"}', headers)).toMatchObject({
      status: 201,
    });
  });

  test("an unknown path is answered with 404", async () => {
    expect(await service.request("GET", "/api/v1/nothing")).toMatchObject({
      status: 404,
      json: { code: "not_found" },
    });
    expect(await service.request("GET", "/nothing")).toMatchObject({
      status: 404,
      json: { code: "not_found" },
    });
  });

  test("routes of Svix's API that are not served are answered with 404", async () => {
    const { id } = await service.svix.application.create({ name: "a" });
    for (const path of ["endpoint/ep_1/transformation", "msg/precheck/active", "poller/p"]) {
      const answer = await service.request("GET", `/api/v1/app/${id}/${path}`);
      expect(answer).toMatchObject({ status: 404, json: { code: "not_found" } });
    }
  });

  test("a method that a path does not have is answered with 405 and those it has", async () => {
    const answer = await service.request("PUT", "/api/v1/app");
    expect(answer).toMatchObject({ status: 405, json: { code: "method_not_allowed" } });
    expect(answer.headers.get("allow")?.split(", ")).toEqual(expect.arrayContaining(["GET", "POST"]));
  });

  test("a path that cannot be decoded is answered with 400", async () => {
    const answer = await service.request("GET", "/api/v1/app/%ff");
    expect(answer).toMatchObject({
      status: 400,
      json: { code: "bad_request", detail: "The request's path is not UTF-8 that is percent-encoded." },
    });
    expect(answer.headers.get("x-request-id")).toBeTruthy();
  });

  test("a name that is far too long is answered with 414", async () => {
    const answer = await service.request("GET", `/api/v1/app/${"a".repeat(1000)}`);
    expect(answer).toMatchObject({
      status: 414,
      json: { code: "uri_too_long", detail: "A name in the request's path is too long." },
    });
  });

  test("a vendor's path that no route can be found for is refused in the vendor's form", async () => {
    expect(await service.request("GET", "/pave/v1/callbacks/%ff")).toMatchObject({
      status: 400,
      json: { message: expect.any(String) },
    });
    expect(await service.request("GET", `/casey/v1/backend/webhooks/${"a".repeat(1000)}`)).toMatchObject({
      status: 414,
      json: { error: { message: expect.any(String) } },
    });
    expect(await service.request("GET", "/twilio/v1/%ff")).toMatchObject({
      status: 400,
      json: { code: 20001, status: 400, more_info: expect.any(String) },
    });
  });

  test("headers that are too large are answered with 431", async () => {
    const answer = await send(`GET /healthz HTTP/1.1\r\nhost: a\r\nx-long: ${"a".repeat(20_000)}\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1.1 431 /);
    expect(answer).toContain('"code":"headers_too_large"');
  });

  test("what is not HTTP is answered with 400", async () => {
    expect(await send("hello\r\n\r\n")).toMatch(/^HTTP\/1.1 400 [^]*"code":"bad_request"/);
  });
});

describe("whatever is sent", () => {
  const names = [
    "name",
    "uid",
    "url",
    "metadata",
    "headers",
    "eventTypes",
    "eventType",
    "payload",
    "schemas",
  ];
  const more = [
    "secret",
    "key",
    "channels",
    "description",
    "throttleRate",
    "status",
    "delayMs",
    "deleteHeaders",
  ];
  const value = fc.oneof(
    fc.jsonValue(),
    fc.string({ unit: "binary" }),
    fc.constantFrom("https://example.com", "a", "\0", "\ud800", 0, -1, 1e308, ["a"], { a: "b" }, { a: null }),
  );
  const object = fc.dictionary(fc.oneof(fc.constantFrom(...names, ...more), fc.string()), value, {
    maxKeys: 10,
  });
  const query = fc.dictionary(
    fc.constantFrom("limit", "iterator", "before", "status", "event_types"),
    fc.string(),
  );
  const routes = [
    ["POST", "/api/v1/app"],
    ["PUT", "/api/v1/app/fuzz"],
    ["PATCH", "/api/v1/app/fuzz"],
    ["GET", "/api/v1/app"],
    ["POST", "/api/v1/event-type"],
    ["PATCH", "/api/v1/event-type/fuzz"],
    ["GET", "/api/v1/event-type"],
    ["POST", "/api/v1/app/fuzz/endpoint"],
    ["PUT", "/api/v1/app/fuzz/endpoint/fuzz"],
    ["PATCH", "/api/v1/app/fuzz/endpoint/fuzz"],
    ["PATCH", "/api/v1/app/fuzz/endpoint/fuzz/headers"],
    ["POST", "/api/v1/app/fuzz/endpoint/fuzz/secret/rotate"],
    ["GET", "/api/v1/app/fuzz/endpoint/fuzz/msg"],
    ["GET", "/api/v1/app/fuzz/attempt/endpoint/fuzz"],
    ["POST", "/api/v1/app/fuzz/msg"],
    ["GET", "/api/v1/app/fuzz/msg"],
    ["POST", "/api/v1/app/twilio/hook"],
    ["PUT", "/inbox/fuzz/answer"],
  ] as const;

  test.each(routes)("%s %s does not fail", async (method, path) => {
    await service.svix.application.getOrCreate({ name: "Fuzz", uid: "fuzz" });
    await service.request("PUT", "/api/v1/app/fuzz/endpoint/fuzz", {
      url: "https://example.com",
      disabled: true,
    });
    await service.request("PUT", "/api/v1/event-type/fuzz", { description: "" });
    await fc.assert(
      fc.asyncProperty(object, query, async (body, parameters) => {
        const search = new URLSearchParams(parameters).toString();
        const answer = await service.request(
          method,
          `${path}?${search}`,
          method === "GET" ? undefined : body,
        );
        expect(answer.status, answer.text).toBeLessThan(500);
      }),
      { numRuns: 10 },
    );
  });

  test.each(["%00", "a%00b", "%F0%9F%8E%88", "..%2f", "'"])(
    "the name %s in a path does not fail",
    async (name) => {
      for (const path of [
        `app/${name}`,
        `app/fuzz/msg/${name}`,
        `app/fuzz/endpoint/${name}/msg`,
        `event-type/${name}`,
      ]) {
        expect((await service.request("GET", `/api/v1/${path}`)).status).toBe(404);
      }
    },
  );
});

describe("every answer", () => {
  test("has an id that no other has", async () => {
    const [first, second] = [
      await service.request("GET", "/healthz"),
      await service.request("GET", "/nothing"),
    ];
    expect(first.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}-\w+$/);
    expect(second.headers.get("x-request-id")).not.toBe(first.headers.get("x-request-id"));
  });
});

describe("the log", () => {
  test("has a line per request and no secret, at any level", async () => {
    const lines: string[] = [];
    const logger = createLogger("trace", { write: (line) => void lines.push(line) });
    {
      await using logged = await startService({}, logger);
      await logged.svix.application.create({ name: "a", uid: "a" });
      const key = `whsec_${Buffer.from("canary".repeat(5)).toString("base64")}`;
      await logged.request("POST", "/api/v1/app/a/endpoint", {
        url: `${logged.url}/inbox/a?token=canary`,
        secret: key,
        headers: { authorization: "canary" },
      });
      await logged.request("POST", "/api/v1/app/a/endpoint", { url: "canary", secret: "canary" });
      await logged.request("POST", "/api/v1/app/a/msg", { eventType: "a", payload: { a: "canary" } });
      await fetch(`${logged.url}/api/v1/app?token=canary`, { headers: { authorization: "Bearer canary" } });
      await eventually(async () => {
        expect((await logged.request("GET", "/inbox/a/requests")).json.data).toHaveLength(1);
      });
      expect(lines.join("")).not.toContain(logged.token);
      expect(lines.join("")).not.toContain(key);
    }
    expect(lines.join("")).not.toContain("canary");
    expect(lines.map((line) => JSON.parse(line))).toContainEqual(
      expect.objectContaining({ method: "POST", route: "/api/v1/app/:app/endpoint", status: 201 }),
    );
  });
});

describe("health", () => {
  test("is told to everybody", async () => {
    const statusOf = async (path: string) => (await fetch(service.url + path)).status;
    expect(
      await Promise.all(["/api/v1/health", "/api/v1/health/ping", "/healthz", "/readyz"].map(statusOf)),
    ).toEqual([204, 204, 200, 200]);
    expect(await service.request("GET", "/healthz")).toMatchObject({
      json: { status: "ok", version: expect.any(String) },
    });
  });

  test("the official client finds the service healthy", async () => {
    await expect(service.svix.health.get()).resolves.not.toThrow();
  });
});

/** Sends bytes as they are and reads until the service closes. */
async function send(text: string): Promise<string> {
  const { hostname, port } = new URL(service.url);
  const socket = connect(Number(port), hostname);
  socket.end(text);
  let answer = "";
  for await (const chunk of socket) answer += String(chunk);
  return answer;
}
