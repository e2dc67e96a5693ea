import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Application } from "../core/application.ts";
import type { Answer, Dialect, EncodeInput, OutgoingRequest, ReceivedRequest } from "../core/dialect.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { FullMessage } from "../core/message.ts";
import { defaultOrganizationId } from "../core/organization.ts";
import { emptyPolicy } from "../core/policy.ts";

/** 2021-08-10T18:00:00Z, when every test of the suite happens. */
export const suiteTime = Date.UTC(2021, 7, 10, 18);

const anApplication: Application = {
  id: "app_1",
  organizationId: defaultOrganizationId,
  uid: null,
  name: "Suite",
  dialect: "suite",
  throttleRate: null,
  policy: emptyPolicy,
  metadata: {},
  createdAt: suiteTime,
  updatedAt: suiteTime,
};

/** An endpoint that listens to everything, signed with one key. */
export function anEndpoint(fields: Partial<Endpoint> = {}): Endpoint {
  return {
    id: "ep_1",
    applicationId: anApplication.id,
    uid: null,
    url: "https://receiver.example/hooks?tenant=7",
    description: "",
    filterTypes: null,
    channels: null,
    headers: {},
    disabled: false,
    throttleRate: null,
    policy: emptyPolicy,
    tls: null,
    version: 1,
    metadata: {},
    settings: {},
    secrets: [{ key: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", expiresAt: null }],
    createdAt: suiteTime,
    updatedAt: suiteTime,
    ...fields,
  };
}

export function aMessage(
  eventType: string,
  payload: unknown,
  fields: Partial<FullMessage> = {},
): FullMessage {
  return {
    id: "msg_1",
    applicationId: anApplication.id,
    eventType,
    eventId: null,
    channels: null,
    tags: [],
    orderingKey: null,
    payload: Buffer.from(JSON.stringify(payload)),
    payloadExpiresAt: null,
    createdAt: suiteTime,
    ...fields,
  };
}

/** What `encode` is given for the first attempt to deliver a message. */
export function anInput(endpoint: Endpoint, message: FullMessage, attempt = 0): EncodeInput {
  return { application: anApplication, endpoint, message, attempt, now: suiteTime };
}

/** A request as its receiver sees it. */
export function received(request: OutgoingRequest): ReceivedRequest {
  return { ...request, body: request.body ?? new Uint8Array() };
}

/** What the suite needs to know about a dialect. */
export interface DialectCase {
  readonly dialect: Dialect;
  /** An endpoint that gets the event. */
  readonly endpoint: Endpoint;
  /** One that does not, because of its event types. */
  readonly deafEndpoint: Endpoint;
  readonly eventType: string;
  readonly payload: Readonly<Record<string, unknown>>;
  /** How a receiver knows the sender. */
  readonly proof: "signature" | "credentials";
  /** The headers that carry the proof. */
  readonly proofHeaders: readonly string[];
  /** What of a request the proof covers. */
  readonly covers: readonly ("body" | "url")[];
  /** What a failure means that is neither 410 nor asks for patience. */
  readonly otherFailure: "retry" | "failed";
  /** A wrong event type and the right one that it should suggest; none where applications name their own. */
  readonly misspelt?: readonly [string, string];
}

/** The contract of every dialect. */
export function describeDialect(given: DialectCase): void {
  const { dialect, endpoint, eventType, payload } = given;
  const message = aMessage(eventType, payload);
  const encoded = () => dialect.encode(anInput(endpoint, message));
  const verify = (request: ReceivedRequest) => dialect.verify(request, endpoint, suiteTime);

  describe(`every dialect: ${dialect.name}`, () => {
    test("encodes the same event in the same way", () => {
      expect(encoded()).toEqual(encoded());
    });

    test("sends an absolute URL without fragment and userinfo, which goes into Authorization", () => {
      const url = "https://user:pa%20ss@receiver.example/hooks?tenant=7#rc=2";
      const request = dialect.encode(anInput({ ...endpoint, url }, message));
      expect(request.url).toMatch(/^https:\/\/receiver\.example\/hooks\?tenant=7[^#]*$/);
      expect(request.headers["authorization"]).toBe(`Basic ${btoa("user:pa ss")}`);
    });

    test("is verified by its receiver", () => {
      expect(verify(received(encoded()))).toEqual({ verified: true, by: given.proof });
    });

    test.each(given.proofHeaders)("is not verified without %s, or with another value in it", (name) => {
      const { [name]: proof = "", ...headers } = encoded().headers;
      expect(proof).not.toBe("");
      expect(verify(received({ ...encoded(), headers }))).toMatchObject({ verified: false });
      const changed = { ...headers, [name]: (proof.startsWith("1") ? "2" : "1") + proof.slice(1) };
      expect(verify(received({ ...encoded(), headers: changed }))).toMatchObject({ verified: false });
    });

    if (given.covers.includes("body")) {
      test("is not verified once its body was changed", () => {
        const body = Buffer.concat([encoded().body ?? new Uint8Array(), Buffer.from("&x=1")]);
        expect(verify({ ...received(encoded()), body })).toMatchObject({ verified: false });
      });
    }

    if (given.covers.includes("url")) {
      test("is not verified at another URL", () => {
        const url = encoded().url.replace("/hooks", "/other");
        expect(verify({ ...received(encoded()), url })).toMatchObject({ verified: false });
      });
    }

    test("refusals say why", () => {
      const verification = verify({ ...received(encoded()), headers: {} });
      expect(verification.verified).toBe(false);
      expect(verification).toHaveProperty("reason", expect.stringMatching(/\w+ \w+/));
    });

    test("is verified whatever the payload says, and not once a byte of it has changed", () => {
      const text = fc.string({ unit: "grapheme" });
      const scalar = fc.oneof(text, fc.integer(), fc.boolean(), fc.constant(null));
      const value = fc.oneof(scalar, fc.array(scalar), fc.jsonValue());
      const content = fc.dictionary(text, value, { noNullPrototype: true });
      const origin = fc.constantFrom(
        "https://receiver.example",
        "http://127.0.0.1:8080",
        "https://[::1]:8443",
      );
      const url = fc.tuple(origin, text, text).map(([start, path, query]) => `${start}/${path}?${query}`);
      fc.assert(
        fc.property(content, fc.nat(), url, (fields, position, address) => {
          const place = { ...endpoint, url: address };
          const request = received(dialect.encode(anInput(place, aMessage(eventType, fields))));
          expect(dialect.verify(request, place, suiteTime)).toEqual({ verified: true, by: given.proof });
          if (!given.covers.includes("body") || request.body.length === 0) return;
          const body = Uint8Array.from(request.body);
          body[position % body.length]! ^= 1;
          expect(dialect.verify({ ...request, body }, place, suiteTime).verified).toBe(false);
        }),
      );
    });

    test("sends the endpoint's own headers, but none that breaks the request or forges the proof", () => {
      const headers = {
        ...endpoint.headers,
        "X-Team": " blue ",
        "X-Broken": "a\r\nx-injected: 1",
        "X-Injected\r\nx": "1",
        Host: "other.example",
        "Content-Length": "1",
        "Transfer-Encoding": "chunked",
      };
      const forged =
        given.proof === "signature" ? given.proofHeaders.map((name) => [name.toUpperCase(), "x"]) : [];
      const request = dialect.encode(
        anInput({ ...endpoint, headers: { ...headers, ...Object.fromEntries(forged) } }, message),
      );
      expect(request.headers["x-team"]).toBe("blue");
      expect(Object.keys(request.headers).filter((name) => /[^a-z0-9-]/.test(name))).toEqual([]);
      expect(Object.values(request.headers).filter((value) => /[\r\n]/.test(value))).toEqual([]);
      expect(request.headers).not.toHaveProperty("x-broken");
      expect(request.headers).not.toHaveProperty("host");
      expect(request.headers).not.toHaveProperty("content-length");
      expect(request.headers).not.toHaveProperty("transfer-encoding");
      expect(verify(received(request))).toMatchObject({ verified: true });
    });

    const failure = given.otherFailure === "retry" ? { kind: "retry", afterMs: null } : { kind: "failed" };
    test.each<[Answer & { kind: "response" }, object]>([
      [{ kind: "response", status: 200, retryAfterMs: null }, { kind: "succeeded" }],
      [{ kind: "response", status: 204, retryAfterMs: null }, { kind: "succeeded" }],
      [{ kind: "response", status: 301, retryAfterMs: null }, failure],
      [{ kind: "response", status: 304, retryAfterMs: null }, failure],
      [{ kind: "response", status: 400, retryAfterMs: null }, failure],
      [{ kind: "response", status: 404, retryAfterMs: 9_000 }, failure],
      [{ kind: "response", status: 410, retryAfterMs: null }, { kind: "disable" }],
      [
        { kind: "response", status: 429, retryAfterMs: 7_000 },
        { kind: "retry", afterMs: 7_000 },
      ],
      [{ kind: "response", status: 500, retryAfterMs: null }, failure],
      [
        { kind: "response", status: 503, retryAfterMs: 7_000 },
        { kind: "retry", afterMs: 7_000 },
      ],
      [
        { kind: "response", status: 504, retryAfterMs: null },
        { kind: "retry", afterMs: null },
      ],
    ])("takes %j as %j", (answer, verdict) => {
      expect(dialect.judge(answer)).toEqual(verdict);
    });

    test("tries again when no answer came", () => {
      expect(dialect.judge({ kind: "error", reason: "reset" })).toEqual({ kind: "retry", afterMs: null });
    });

    test("selects endpoints by their event types", () => {
      expect(dialect.selects(endpoint, message)).toBe(true);
      expect(dialect.selects(given.deafEndpoint, message)).toBe(false);
    });

    test("refuses what it cannot publish, with every reason", () => {
      expect(dialect.problemsOf(eventType, payload)).toEqual([]);
      expect(dialect.problemsOf(eventType, [1])).toEqual([expect.stringContaining("JSON object")]);
      expect(dialect.problemsOf("no such event!", null)).toHaveLength(2);
    });

    if (given.misspelt !== undefined) {
      const [wrong, right] = given.misspelt;
      test("names the nearest event type, and all of them", () => {
        const [problem = ""] = dialect.problemsOf(wrong, payload);
        expect(problem).toContain(`"${wrong}"`);
        expect(problem).toContain(`Did you mean "${right}"?`);
        for (const known of dialect.eventTypes) expect(problem).toContain(known);
      });
    }

    test("has a schedule that a person can wait for", () => {
      expect(dialect.timeoutMs).toBeGreaterThanOrEqual(5_000);
      expect(dialect.timeoutMs).toBeLessThanOrEqual(15_000);
      expect(dialect.retryDelaysMs.every((delayMs) => Number.isInteger(delayMs) && delayMs > 0)).toBe(true);
    });
  });
}
