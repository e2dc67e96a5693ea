import { Agent, request as httpRequest } from "node:http";
import { Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Config } from "../config.ts";
import { defaultOrganizationId } from "../core/organization.ts";
import { toApiToken, type PaveCredentials } from "../dialects/pave/token.ts";
import { createLogger } from "../log.ts";
import type { JsonSchema } from "../operation.ts";
import type { OpenApiDocument, OperationObject, ResponseObject } from "./openapi.ts";
import { RawConnection } from "./raw-connection.suite.ts";
import { hostileText, hostileValue, nearlyRight, rightBy, type Hints } from "./schema-arbitrary.suite.ts";
import { startService, type TestService } from "./service.suite.ts";

export interface FuzzOptions {
  /** How long requests are made up from the document. */
  readonly seconds: number;
  /** How many connections get what is no HTTP, or hardly. */
  readonly connections: number;
  /** Whether the time is enough to get every operation done at least once. */
  readonly isLong?: boolean;
  /** Settings of the service; made when the tests begin. */
  readonly settings?: () => Promise<Partial<Config>>;
  /** To do again what has failed: fast-check prints both with the request. */
  readonly again?: { readonly seed: number; readonly path: string };
}

/** A database may have to be made first, on a machine that does other things. */
const startLimitMs = 120_000;
/** Larger than the longest hostile text, and smaller than several. */
const maxBodyBytes = 250_000;
/** What a request's line and headers may have in all, less what a client adds. */
const maxHeadBytes = 15 * 1024;

/**
 * Sends a real service whatever can be made up from its OpenAPI document, right, nearly right and hostile, and holds it to
 * that: no failure of its own, errors in the form of the API that was spoken, answers of the documented statuses and shapes.
 */
export function describeFuzz(
  name: string,
  { seconds, connections, isLong = false, settings, again }: FuzzOptions,
): void {
  describe(`${name}: requests that nobody would write`, () => {
    let service: TestService;
    let scene: Scene;
    const logged: string[] = [];
    beforeAll(async () => {
      const log = new Writable({
        write(chunk: Buffer, _encoding, done) {
          logged.push(chunk.toString());
          done();
        },
      });
      service = await startService(
        { maxBodyBytes, retryDelaysMs: [], stopTimeoutMs: 1_000, ...(await settings?.()) },
        createLogger("error", log),
      );
      scene = await Scene.open(service);
    }, startLimitMs);
    afterAll(async () => {
      scene.close();
      await service[Symbol.asyncDispose]();
    });

    test(
      "are answered as the document says, and never with a failure of the service",
      async () => {
        let count = 0;
        const statuses = new Map<number, number>();
        const neverDone = new Set(operationsOf(scene.document).map(({ operation }) => operation.operationId));
        await fc.assert(
          fc.asyncProperty(anyRequest(scene.document), async (made) => {
            if (count++ % 40 === 0) await scene.restore();
            const { status, operationId } = await scene.send(made);
            statuses.set(status, (statuses.get(status) ?? 0) + 1);
            if (status < 300) neverDone.delete(operationId);
          }),
          {
            numRuns: 1_000_000,
            interruptAfterTimeLimit: seconds * 1_000,
            markInterruptAsFailure: false,
            ...again,
          },
        );
        console.log(
          `${name}: ${count} requests, by status: ${JSON.stringify(Object.fromEntries(statuses))}; ` +
            `never accepted: ${[...neverDone].join(", ")}`,
        );
        // A run in which hardly anything is accepted, or hardly anything refused, has tried little.
        const accepted = [...statuses].filter(([status]) => status < 300);
        expect(accepted.length).toBeGreaterThan(2);
        expect(statuses.get(422) ?? 0).toBeGreaterThan(0);
        if (isLong) expect([...neverDone]).toEqual([]);
        expect(logged.filter((line) => /request failed|route failed|batch failed/.test(line))).toEqual([]);
      },
      (seconds + 60) * 1_000,
    );

    test(
      "on the wire, cut off, garbled and smuggled, are refused without a failure of the service",
      async () => {
        await scene.restore();
        await fc.assert(
          fc.asyncProperty(anyBytes(scene.token), (bytes) => scene.sendBytes(bytes)),
          { numRuns: connections, ...again },
        );
        const message = { eventType: "after.all", payload: {} };
        expect((await service.request("POST", "/api/v1/app/fuzz/msg", message)).status).toBe(202);
        expect(logged.filter((line) => line.includes("request failed"))).toEqual([]);
      },
      60_000 + connections * 100,
    );
  });
}

/**
 * Something to fill a path parameter with: what belongs together, so that requests get somewhere; whatever the service
 * knows by now; or a text.
 */
type PathPart = { readonly favorite: number } | { readonly known: number } | { readonly text: string };

interface MadeRequest {
  /** Index in the document's list of operations. */
  readonly operation: number;
  readonly isHead: boolean;
  readonly path: readonly PathPart[];
  readonly query: readonly (readonly [string, string])[];
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | undefined;
  readonly caller: number;
}

interface ListedOperation {
  readonly method: string;
  readonly path: string;
  readonly operation: OperationObject;
}

function operationsOf(document: OpenApiDocument): ListedOperation[] {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ method, path, operation })),
  );
}

const urls = [
  "http://127.0.0.1:1/",
  "https://127.0.0.1:1/a?b=c",
  "http://user:pass@[::1]:1/",
  "http://10.0.0.1/",
  "HTTP://localhost:1",
];

/** What would be right by the schemas alone, and hardly ever by what they stand for. */
const hints: Hints = {
  url: fc.constantFrom(...urls),
  PreWebhookUrl: fc.constantFrom(...urls, ""),
  PostWebhookUrl: fc.constantFrom(...urls, ""),
  secret: fc.constantFrom(null, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
  eventType: fc.constantFrom("a", "checked", "svix.ping", "onMessageAdd", "SESSION:COMPLETE", "test.event"),
  delayMs: fc.integer({ min: 0, max: 3 }),
  transformationsParams: fc.constantFrom(null, { rawPayload: ' {"n": 1} ' }),
  tls: fc.constant(null),
  capabilities: fc.constantFrom(null, ["ViewBase", "ManageEndpoint"]),
  messageId: fc.constant("event"),
  since: fc.constantFrom("2020-01-01T00:00:00Z", new Date().toISOString()),
  until: fc.constantFrom("2100-01-01T00:00:00Z", new Date().toISOString()),
  schemas: fc.dictionary(fc.constantFrom("1", "2", "v1"), jsonSchema(), { maxKeys: 2 }),
};

/** JSON Schemas, or what might be taken for them. */
function jsonSchema(): fc.Arbitrary<Record<string, unknown>> {
  return fc.oneof(
    fc.constantFrom<Record<string, unknown>[]>(
      { type: "object", required: ["n"], properties: { n: { type: "integer" } } },
      { $ref: "#" },
      { $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/a" } } },
      { $schema: "https://json-schema.org/draft/2020-12/schema", $dynamicRef: "#x", $dynamicAnchor: "x" },
      { $id: "http://127.0.0.1:1/", $ref: "other" },
      { $async: true },
      { properties: { text: { pattern: "^(a+)+$" } } },
      { patternProperties: { "[": {} } },
      { type: "object", example: { n: 1 } },
      { examples: [{}, [], null] },
    ),
    fc.dictionary(
      fc.constantFrom("type", "enum", "const", "required", "properties", "items", "allOf", "$ref", "pattern"),
      hostileValue,
      { maxKeys: 3 },
    ),
  );
}

function anyRequest(document: OpenApiDocument): fc.Arbitrary<MadeRequest> {
  const { schemas } = document.components;
  return fc.oneof(
    ...operationsOf(document).map(({ method, path, operation }, at) => {
      const parameters = operation.parameters ?? [];
      const parts = [...path.matchAll(/\{\w+\}/g)].map(() =>
        fc.oneof(
          { weight: 6, arbitrary: fc.record({ favorite: fc.nat(5) }) },
          { weight: 2, arbitrary: fc.record({ known: fc.nat(1_000) }) },
          { weight: 1, arbitrary: fc.record({ text: hostileText.filter((text) => text !== "") }) },
        ),
      );
      const query = parameters
        .filter((parameter) => parameter.in === "query")
        .map(({ name, schema, required }) =>
          fc
            .option(
              fc.oneof(
                { weight: 4, arbitrary: rightBy(schema, schemas, hints) },
                { weight: 1, arbitrary: hostileText },
              ),
              { nil: undefined, freq: required ? 20 : 1 },
            )
            .map((value): [string, string][] =>
              value === undefined ? [] : [value].flat().map((each) => [name, toText(each)]),
            ),
        );
      const stray = fc.oneof(
        { weight: 8, arbitrary: fc.constant([]) },
        {
          weight: 1,
          arbitrary: fc.array(
            fc.tuple(fc.oneof(fc.constantFrom("limit", "__proto__", "a[b]"), hostileText), hostileText),
            {
              maxLength: 3,
            },
          ),
        },
      );
      const [type, content] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
      return fc.record({
        operation: fc.constant(at),
        isHead: method === "get" ? fc.nat(20).map((chance) => chance === 0) : fc.constant(false),
        path: fc.tuple(...parts),
        query: fc.tuple(...query, stray).map((lists) => lists.flat()),
        headers: anyHeaders(type),
        body: anyBody(type, content?.schema, schemas),
        // The administrator most of the time.
        caller: fc.oneof(
          { weight: 5, arbitrary: fc.constant(0) },
          { weight: 2, arbitrary: fc.nat(callers.length - 1) },
        ),
      });
    }),
  );
}

const safeText = hostileText
  // What a client may send at all; the rest goes over bare connections.
  .map((text) => text.replaceAll(/[^\t\x20-\x7e\x80-\xff]/gu, ""))
  .filter((text) => text.length < 1_000);

function anyHeaders(type: string | undefined): fc.Arbitrary<Record<string, string>> {
  return fc
    .record(
      {
        "content-type": fc.oneof(
          { weight: 8, arbitrary: fc.constant(type ?? "application/json") },
          {
            weight: 1,
            arbitrary: fc.oneof(
              fc.constantFrom(
                "text/plain",
                "application/xml",
                "multipart/form-data",
                "application/json; charset=utf-16",
              ),
              safeText,
            ),
          },
        ),
        "idempotency-key": fc.oneof(fc.constantFrom("k1", "k2", "k3"), safeText),
        "content-encoding": fc.constantFrom("gzip", "br", "identity"),
        accept: safeText,
        "x-request-id": safeText,
        "x-forwarded-for": safeText,
      },
      { requiredKeys: ["content-type"] },
    )
    .map((headers) => Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== "")));
}

function anyBody(
  type: string | undefined,
  schema: JsonSchema | undefined,
  schemas: OpenApiDocument["components"]["schemas"],
): fc.Arbitrary<Uint8Array | undefined> {
  const toBytes = (value: unknown): Uint8Array =>
    Buffer.from(type === "application/x-www-form-urlencoded" ? toForm(value) : JSON.stringify(value));
  const hostile = hostileValue.map(toBytes);
  if (schema === undefined) {
    return fc.oneof({ weight: 10, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: hostile });
  }
  const right = rightBy(schema, schemas, hints);
  return fc.oneof(
    { weight: 10, arbitrary: right.map(toBytes) },
    { weight: 10, arbitrary: nearlyRight(right).map(toBytes) },
    { weight: 2, arbitrary: hostile },
    { weight: 4, arbitrary: fc.tuple(right.map(toBytes), garbling).map(([bytes, garble]) => garble(bytes)) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }) },
    { weight: 1, arbitrary: fc.constant(undefined) },
  );
}

function toForm(value: unknown): string {
  const entries = Object.entries(typeof value === "object" && value !== null ? value : { value });
  return new URLSearchParams(
    entries.flatMap(([name, member]) =>
      [member].flat().map((each): [string, string] => [name, toText(each)]),
    ),
  ).toString();
}

function toText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

type Garbling = (bytes: Uint8Array) => Uint8Array;

const joined = (...parts: (Uint8Array | string)[]): Uint8Array =>
  Buffer.concat(parts.map((part) => Buffer.from(part)));

/** What becomes of a right body on its way through bad hands. */
const garbling: fc.Arbitrary<Garbling> = fc.oneof(
  fc.double({ min: 0, max: 1, noNaN: true }).map(
    (share): Garbling =>
      (bytes) =>
        bytes.slice(0, bytes.length * share),
  ),
  fc.constantFrom<Garbling[]>(
    (bytes) => joined(bytes, bytes),
    (bytes) => joined("\ufeff", bytes),
    (bytes) => joined(bytes, "\0"),
    (bytes) => joined(bytes, " ".repeat(100_000)),
    (bytes) => joined(bytes, " ".repeat(maxBodyBytes)),
    (bytes) => Buffer.from(Buffer.from(bytes).toString(), "utf16le"),
    (bytes) => joined(bytes.slice(0, 3), new Uint8Array([0xff, 0xfe, 0xc0, 0x80]), bytes.slice(3)),
    (bytes) => joined('{"__proto__":{"uid":"x"},"constructor":{"prototype":{}},', bytes.slice(1)),
    (bytes) => joined('{"payload":1,"payload":{},"name":"a","name":null,"url":1,', bytes.slice(1)),
    (bytes) => Buffer.from(Buffer.from(bytes).toString().replaceAll(/:\d+/g, ":1e400")),
    (bytes) =>
      Buffer.from(
        Buffer.from(bytes)
          .toString()
          .replaceAll(/:"[^"]*"/g, ':"\\ud800\\u0000"'),
      ),
    (bytes) => Buffer.from(Buffer.from(bytes).toString().replaceAll('"', "'")),
    () => joined("[".repeat(100_000)),
    () => joined('{"a":'.repeat(20_000)),
    () => joined('"', "\\u0000".repeat(10_000), '"'),
  ),
);

/** Who asks: their names in a scene. */
const callers = ["administrator", "organization", "application", "nobody"] as const;

/** What a scene always has, by its kind. */
const favorites: Readonly<Record<string, readonly string[]>> = {
  app: ["fuzz"],
  endpoint: ["own", "own", "ordered"],
  message: ["event"],
  "event-type": ["checked"],
  organization: [defaultOrganizationId],
  inbox: ["own"],
  callbacks: ["SESSION:COMPLETE"],
};

/** A service with something in it, and all that is known about it. */
class Scene {
  readonly #service: TestService;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 4 });
  readonly #operations: readonly ListedOperation[];
  readonly #answers: Answers;
  /** Ids and names by what they are of. */
  readonly #known = new Map<string, string[]>();
  readonly #tokens: Record<(typeof callers)[number], string>;
  readonly document: OpenApiDocument;

  private constructor(service: TestService, document: OpenApiDocument) {
    this.#service = service;
    this.document = document;
    this.#operations = operationsOf(document);
    this.#answers = new Answers(document);
    this.#tokens = {
      administrator: service.token,
      organization: service.token,
      application: service.token,
      nobody: "wrong",
    };
  }

  static async open(service: TestService): Promise<Scene> {
    const { json } = await service.request("GET", "/openapi.json");
    return new Scene(service, json as OpenApiDocument);
  }

  get token(): string {
    return this.#service.token;
  }

  close(): void {
    this.#agent.destroy();
  }

  /** Makes what is needed for requests to get anywhere, as far as it is not there any more. */
  async restore(): Promise<void> {
    const request: TestService["request"] = (...given) => this.#service.request(...given);
    await request("POST", "/api/v1/app?get_if_exists=true", { name: "fuzz", uid: "fuzz" });
    await request("PATCH", "/api/v1/app/fuzz", {
      throttleRate: null,
      policy: null,
      uid: "fuzz",
      name: "fuzz",
    });
    await request("PUT", "/api/v1/app/fuzz/endpoint/own", { url: `${this.#service.url}/inbox/own` });
    await request("PUT", "/api/v1/app/fuzz/endpoint/ordered", {
      url: "http://127.0.0.1:1/",
      policy: { order: "endpoint", whenExhausted: "block" },
    });
    const checked = { "1": { type: "object", required: ["n"], properties: { n: { type: "integer" } } } };
    await request("PUT", "/api/v1/event-type/checked", { description: "", schemas: checked });
    await request("POST", "/api/v1/app/fuzz/msg", { eventType: "a", payload: { n: 1 }, eventId: "event" });
    const tokens = `/api/v1/organization/${defaultOrganizationId}/token`;
    const organization = await request("POST", tokens, {});
    const application = await request("POST", tokens, { application: "fuzz" });
    if (organization.status === 201) this.#tokens.organization = organization.json.token;
    if (application.status === 201) this.#tokens.application = application.json.token;
    const { json } = await request("GET", "/api/v1/app/fuzz/attempt/endpoint/own");
    this.#learnFrom(JSON.stringify(json));
    for (const [kind, names] of Object.entries({ ...favorites, app: ["fuzz", "pave", "twilio", "casey"] })) {
      for (const name of names) this.#learn(kind, name);
    }
  }

  #learn(kind: string, name: string): void {
    const names = this.#known.get(kind) ?? [];
    this.#known.set(kind, names);
    if (names.includes(name)) return;
    // What is learned last goes in the place of what was learned long ago.
    if (names.length >= 40) names.splice(10, 1);
    names.push(name);
  }

  /**
   * Sends the request and holds the answer to the document.
   *
   * @returns its status; 0 for none, which is right for a request that is too large
   */
  async send(made: MadeRequest): Promise<{ readonly status: number; readonly operationId: string }> {
    const listed = this.#operations[made.operation]!;
    const { operationId } = listed.operation;
    const path = this.#toPath(listed.path, made.path) + toQuery(made.query);
    const headers = { ...made.headers, ...this.#authenticate(listed.operation, callers[made.caller]!) };
    const headBytes = path.length + JSON.stringify(headers).length;
    const isLarge = headBytes > maxHeadBytes || (made.body?.length ?? 0) > maxBodyBytes;
    const method = made.isHead ? "HEAD" : listed.method.toUpperCase();
    let answer: HttpAnswer;
    try {
      answer = await this.#exchange(method, path, headers, made.body);
    } catch (error) {
      // A request that is too large is cut off, and the answer to it may be lost.
      if (!isLarge) throw new Error(`${method} ${path.slice(0, 200)} got no answer`, { cause: error });
      await this.#requireHealth();
      return { status: 0, operationId };
    }
    const where = `${method} ${path.slice(0, 200)}`;
    this.#answers.check(listed.operation, answer, where, made.isHead);
    if (answer.status < 300) this.#learnFrom(answer.text);
    return { status: answer.status, operationId };
  }

  /** Writes the bytes on a connection of their own, and holds whatever is answered to being no failure. */
  async sendBytes(bytes: Uint8Array): Promise<void> {
    const connection = await RawConnection.open(this.#service.url);
    connection.write(bytes);
    connection.end();
    // Half a request is waited for; that takes longer than this test has.
    await Promise.race([connection.until((_received, isOver) => isOver), sleep(300)]);
    connection.close();
    for (const [, status] of connection.received.matchAll(/(?:^|\r\n|\})HTTP\/1\.1 (\d{3}) /g)) {
      expect(Number(status), connection.received.slice(0, 500)).toBeLessThan(500);
    }
    if (connection.received !== "") expect(connection.received).toMatch(/^HTTP\/1\.1 \d{3} /);
    expect(connection.received.toLowerCase()).not.toContain("x-injected");
    await this.#requireHealth();
  }

  async #requireHealth(): Promise<void> {
    expect((await this.#exchange("GET", "/healthz", {}, undefined)).status).toBe(200);
  }

  #toPath(template: string, parts: readonly PathPart[]): string {
    let at = 0;
    return template.replaceAll(/([^/]+)\/\{(\w+)\}/g, (_, before: string, name: string) => {
      const part = parts[at++]!;
      const kind = ["app", "endpoint", "message", "attempt", "token", "organization"].includes(name)
        ? name
        : before;
      const known = this.#known.get(kind) ?? ["none"];
      // Of what is made again and again, the first; of the rest, the last.
      const favored = template.endsWith("/hook") ? ["twilio"] : (favorites[kind] ?? known.slice(-1));
      const text =
        "favorite" in part
          ? favored[part.favorite % favored.length]!
          : "text" in part
            ? part.text
            : known[part.known % known.length]!;
      return `${before}/${percentEncoded(text)}`;
    });
  }

  #authenticate(operation: OperationObject, caller: (typeof callers)[number]): Record<string, string> {
    const { credentials } = this.#service.service;
    const scheme = Object.keys(operation.security[0] ?? {})[0];
    if (caller === "nobody") return { authorization: "Bearer wrong" };
    switch (scheme) {
      case "paveKey":
        return authenticateToPave(credentials["pave"] as PaveCredentials);
      case "twilio": {
        const { accountSid, authToken } = credentials["twilio"] as Record<string, string>;
        return { authorization: `Basic ${btoa(`${accountSid}:${authToken}`)}` };
      }
      case "casey":
        return { authorization: `Bearer ${(credentials["casey"] as { apiKey: string }).apiKey}` };
      default:
        return { authorization: `Bearer ${this.#tokens[caller]}` };
    }
  }

  #learnFrom(text: string): void {
    const kinds: Readonly<Record<string, string>> = {
      app: "app",
      ep: "endpoint",
      msg: "message",
      atmpt: "attempt",
      qtask: "background-task",
      tok: "token",
      org: "organization",
    };
    for (const [, id = "", prefix = ""] of text.matchAll(/"((app|ep|msg|atmpt|qtask|tok|org)_\w{5,40})"/g)) {
      this.#learn(kinds[prefix]!, id);
      if (prefix === "ep") this.#learn("webhooks", id);
    }
  }

  #exchange(
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    body: Uint8Array | undefined,
  ): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const outgoing = httpRequest(
        this.#service.url,
        {
          method,
          path,
          agent: this.#agent,
          // Node's client leaves it out of some methods, and sends the body all the same.
          headers: { ...headers, ...(body !== undefined && { "content-length": body.length }) },
          timeout: 20_000,
        },
        (response) => {
          const type = response.headers["content-type"] ?? "";
          const status = response.statusCode ?? 0;
          const chunks: Buffer[] = [];
          const finish = (): void => {
            resolve({ status, type, headers: response.headers, text: Buffer.concat(chunks).toString() });
          };
          if (type.startsWith("text/event-stream")) {
            // It would go on for ever.
            finish();
            outgoing.destroy();
            return;
          }
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("end", finish);
          response.on("error", reject);
        },
      );
      outgoing.on("error", reject);
      outgoing.on("timeout", () => outgoing.destroy(new Error("no answer within 20 seconds")));
      outgoing.end(body);
    });
  }
}

interface HttpAnswer {
  readonly status: number;
  readonly type: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

/** What the document says of answers. */
class Answers {
  readonly #document: OpenApiDocument;
  readonly #ajv: Ajv2020;
  readonly #compiled = new Map<JsonSchema, ValidateFunction>();

  constructor(document: OpenApiDocument) {
    this.#document = document;
    this.#ajv = new Ajv2020({ strict: false, allErrors: true });
    formats.default(this.#ajv);
    const schemas = JSON.parse(JSON.stringify(document.components.schemas), closed) as object;
    this.#ajv.addSchema({ $id: "document", components: { schemas } });
  }

  /** @param isHead what the operation would answer has been left out */
  check(operation: OperationObject, answer: HttpAnswer, where: string, isHead: boolean): void {
    const text = `${where}\n${answer.status} ${answer.text.slice(0, 2_000)}`;
    if ("default" in operation.responses) return;
    expect(answer.status, text).toBeLessThan(500);
    // One whose head is too long is no request yet.
    if (answer.status === 431) return;
    expect(answer.headers["x-request-id"], text).toBeTruthy();
    if (answer.status === 429) expect(answer.headers["retry-after"], text).toMatch(/^\d+$/);
    const status = String(answer.status);
    const documented = operation.responses[status] ?? operation.responses[`${status.charAt(0)}XX`];
    expect(documented, `is not documented: ${text}`).toBeDefined();
    const { content } = this.#resolve(documented!);
    if (content === undefined || isHead) {
      expect(answer.text, text).toBe("");
      return;
    }
    const [type = "", { schema } = {}] = Object.entries(content)[0] ?? [];
    expect(answer.type.split(";")[0], text).toBe(type);
    if (schema === undefined) return;
    const validate = this.#compile(schema);
    const value: unknown = JSON.parse(answer.text);
    expect(validate(value) ? [] : validate.errors, text).toEqual([]);
    // What a batch was answered with is in its items.
    for (const [, inner] of answer.text.matchAll(/\{"error":\{"status":(\d+)/g)) {
      expect(Number(inner), text).toBeLessThan(500);
    }
  }

  #resolve(response: ResponseObject | { readonly $ref: string }): ResponseObject {
    if (!("$ref" in response)) return response;
    return this.#document.components.responses[response.$ref.replace("#/components/responses/", "")]!;
  }

  #compile(schema: JsonSchema): ValidateFunction {
    const known = this.#compiled.get(schema);
    if (known !== undefined) return known;
    const text = JSON.stringify(schema, closed).replaceAll('"#/components/', '"document#/components/');
    const validate = this.#ajv.compile(JSON.parse(text) as object);
    this.#compiled.set(schema, validate);
    return validate;
  }
}

/** With what is not documented refused: the document itself lets answers grow. */
function closed(_name: string, value: unknown): unknown {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  const isShape = isObject && "type" in value && value.type === "object" && "properties" in value;
  return isShape && !("additionalProperties" in value) ? { ...value, additionalProperties: false } : value;
}

/** Every byte as it is, those of texts that are no Unicode included. */
function percentEncoded(text: string): string {
  return Array.from(text)
    .map((character) => {
      const code = character.codePointAt(0) ?? 0;
      return code >= 0xd800 && code <= 0xdfff
        ? `%ED%${(0x80 | ((code >> 6) & 0x3f)).toString(16)}%${(0x80 | (code & 0x3f)).toString(16)}`
        : encodeURIComponent(character);
    })
    .join("");
}

function toQuery(parameters: MadeRequest["query"]): string {
  const texts = parameters.map(([name, value]) => `${percentEncoded(name)}=${percentEncoded(value)}`);
  return texts.length === 0 ? "" : `?${texts.join("&")}`;
}

function authenticateToPave(credentials: PaveCredentials): Record<string, string> {
  const timestamp = new Date().toISOString();
  return {
    "api-key": credentials.apiKey,
    "api-timestamp": timestamp,
    "api-token": toApiToken(credentials, timestamp),
  };
}

/** What is no HTTP, or not quite, and requests that end before they are whole. */
function anyBytes(token: string): fc.Arbitrary<Uint8Array> {
  const lines = (path: string, more: readonly string[], method = "POST"): string =>
    [`${method} ${path} HTTP/1.1`, "host: h", `authorization: Bearer ${token}`, ...more, "", ""].join("\r\n");
  const json = '{"eventType":"a","payload":{"n":1}}';
  const path = "/api/v1/app/fuzz/msg";
  const whole = lines(path, [`content-length: ${json.length}`]) + json;
  const chunked = lines(path, ["transfer-encoding: chunked"]);
  const latin1 = (text: string): Uint8Array => Buffer.from(text, "latin1");
  const rawText = fc.string({ unit: "binary", maxLength: 40 });
  return fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    // Cut off anywhere.
    fc.nat(whole.length).map((length) => latin1(whole.slice(0, length))),
    // One byte that is another, anywhere.
    fc
      .tuple(fc.nat(whole.length - 1), fc.nat(255))
      .map(([at, byte]) => latin1(whole.slice(0, at) + String.fromCharCode(byte) + whole.slice(at + 1))),
    fc.uint8Array({ maxLength: 200 }).map((garbage) => joined(chunked, garbage)),
    fc
      .constantFrom("zz", "-1", "0x10", "ffffffffffffffffff", "5;ext=\0", " 5", "5 ", "", "1e3", "5\n")
      .map((size) => latin1(`${chunked}${size}\r\n{"a":\r\n0\r\n\r\n`)),
    fc
      .constantFrom(
        ...[
          `${chunked}23\r\n${json}\r\n0\r\nx-injected: 1\r\n\r\n`,
          `${chunked}5\r\n{"a":`,
          `${chunked}${"1\r\n \r\n".repeat(20_000)}0\r\n\r\n`,
          lines(path, ["content-length: 5", "content-length: 6"]) + json,
          lines(path, ["content-length: 5, 5"]) + json,
          lines(path, ["content-length: -5"]) + json,
          lines(path, ["content-length: 99999999999999999999"]) + json,
          lines(path, ["content-length: 0x5"]) + json,
          lines(path, ["content-length: 35", "transfer-encoding: chunked"]) + json,
          lines(path, ["transfer-encoding: chunked, identity"]) + json,
          lines(path, ["transfer-encoding: gzip, chunked"]) + json,
          lines(path, ["content-length: 4"]) + json + whole,
          lines(path, ["expect: 100-continue", `content-length: ${json.length}`]) + json,
          lines(path, ["expect: 200-ok", `content-length: ${json.length}`]) + json,
          lines(path, ["upgrade: websocket", "connection: upgrade", "content-length: 0"]),
          lines(path, [`content-length: ${maxBodyBytes + 1}`]) + "x".repeat(1_000),
          lines(path, [`x-long: ${"x".repeat(20_000)}`, "content-length: 0"]),
          lines(path, [...Array.from({ length: 3_000 }, (_, at) => `x-${at}: 1`), "content-length: 0"]),
          lines(path, ["connection: close", "connection: keep-alive", "content-length: 0"]),
          lines(`/${"a".repeat(30_000)}`, [], "GET"),
          lines("http://127.0.0.1:1/healthz", [], "GET"),
          lines("//evil/healthz", [], "GET"),
          lines("*", [], "OPTIONS"),
          lines("127.0.0.1:1", [], "CONNECT"),
          lines("/api/v1/app", [], "TRACE"),
          lines("/api/v1/app", [], "PROPFIND"),
          lines("/api/v1/app", [], "QUERY"),
          lines("/api/v1/app", [], "get"),
          lines("/healthz#fragment", [], "GET"),
          lines("/api/v1/app/%", [], "GET"),
          lines("/api/v1/app/%zz/msg", [], "GET"),
          lines("/api/v1/app/%c0%ae%c0%ae/msg", [], "GET"),
          lines("/api/v1/../../etc/passwd", [], "GET"),
          lines("/api/v1/app?limit=%", [], "GET"),
          lines("/api/v1/app;a=b?;", [], "GET"),
          `GET /healthz HTTP/1.1\r\n\r\n`,
          `GET /healthz HTTP/1.0\r\n\r\n`,
          `GET /healthz HTTP/0.9\r\n\r\n`,
          `GET /healthz HTTP/9.9\r\nhost: h\r\n\r\n`,
          `GET /healthz\r\n\r\n`,
          `\r\n\r\n\r\n${whole}`,
          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
          "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
          whole.repeat(50),
          `GET /healthz HTTP/1.1\r\nhost: h\r\n`.concat("x: y\r\n".repeat(5)),
        ],
      )
      .map(latin1),
    // Headers that would end early and begin another.
    fc
      .tuple(
        fc.constantFrom("idempotency-key", "authorization", "content-type", "host", "x-request-id"),
        rawText,
      )
      .map(([name, value]) =>
        latin1(lines(path, [`${name}: a\r\nX-Injected: 1\0${value}`, "content-length: 0"])),
      ),
    rawText.map((name) => latin1(lines("/api/v1/app", [`${name}: 1`], "GET"))),
    rawText.map((text) => latin1(lines(`/api/v1/app/${text}`, [], "GET"))),
  );
}
