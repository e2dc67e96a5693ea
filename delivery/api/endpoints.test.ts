import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Ordering, Webhook } from "svix";
import { createCertificateAuthority } from "../../test/certificate-authority.ts";
import { rotate } from "./endpoints.ts";
import { eventually, refusalOf, startReceiver, startService, type TestService } from "./service.suite.ts";

const url = "https://example.com/hook";

let service: TestService;
beforeAll(async () => {
  service = await startService();
  await service.svix.application.create({ name: "a", uid: "a" });
});
afterAll(() => service[Symbol.asyncDispose]());

describe("create", () => {
  test("answers 201 with what was made, without the secret and the headers", async () => {
    const body = {
      url,
      uid: "full",
      description: "All of it",
      disabled: true,
      eventTypes: ["user.created"],
      channels: ["one", "two"],
      throttleRate: 7,
      metadata: { team: "core" },
    };
    const answer = await service.request("POST", "/api/v1/app/a/endpoint", {
      ...body,
      headers: { "X-Team": "core" },
      secret: null,
    });
    expect(answer.status).toBe(201);
    expect(answer.json).toEqual({
      ...body,
      id: expect.stringMatching(/^ep_[0-9a-z]{26}$/),
      createdAt: expect.any(String),
      updatedAt: answer.json.createdAt,
      filterTypes: ["user.created"],
      rateLimit: 7,
      version: 1,
    });
    expect((await service.request("GET", "/api/v1/app/a/endpoint/full")).json).toEqual(answer.json);
    expect(await service.svix.endpoint.getHeaders("a", "full")).toEqual({
      headers: { "X-Team": "core" },
      sensitive: [],
    });
  });

  test("what is left out has its default, and the secret is made", async () => {
    const endpoint = await service.svix.endpoint.create("a", { url });
    expect(endpoint).toMatchObject({
      uid: null,
      description: "",
      disabled: false,
      eventTypes: null,
      channels: null,
      throttleRate: null,
      metadata: {},
    });
    const { key } = await service.svix.endpoint.getSecret("a", endpoint.id);
    expect(key).toMatch(/^whsec_[A-Za-z0-9+/]{32}$/);
    const other = await service.svix.endpoint.create("a", { url });
    expect((await service.svix.endpoint.getSecret("a", other.id)).key).not.toBe(key);
  });

  test.each([
    ["with its prefix", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"],
    ["without its prefix", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"],
  ])("a secret may be given %s", async (_, secret) => {
    const { id } = await service.svix.endpoint.create("a", { url, secret });
    expect((await service.svix.endpoint.getSecret("a", id)).key).toBe(
      "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    );
  });

  test.each([
    ["no URL", { url: undefined }, "url"],
    ["an empty URL", { url: "" }, "url"],
    ["a relative URL", { url: "/hook" }, "url"],
    ["a URL that is no web address", { url: "ftp://example.com" }, "url"],
    ["a URL with a line break", { url: "https://example.com/\nb" }, "url"],
    ["a URL without slashes", { url: "https:example.com" }, "url"],
    ["a secret of 23 bytes", { secret: Buffer.alloc(23).toString("base64") }, "secret"],
    ["a secret of 76 bytes", { secret: Buffer.alloc(76).toString("base64") }, "secret"],
    ["an ed25519 key of 24 bytes", { secret: `whsk_${Buffer.alloc(24).toString("base64")}` }, "secret"],
    ["a public key", { secret: `whpk_${Buffer.alloc(32).toString("base64")}` }, "secret"],
    ["a secret that is not base64", { secret: `whsec_${"*".repeat(40)}` }, "secret"],
    ["no event type at all", { eventTypes: [] }, "eventTypes"],
    ["an event type twice", { eventTypes: ["a", "a"] }, "eventTypes"],
    ["an event type with a space", { eventTypes: ["a b"] }, "eventTypes,0"],
    ["too many channels", { channels: Array.from({ length: 11 }, (_, index) => `c${index}`) }, "channels"],
    ["a rate of nothing", { throttleRate: 0 }, "throttleRate"],
    ["a uid that looks like an id", { uid: "ep_1" }, "uid"],
    ["event types under both names that differ", { filterTypes: ["a"], eventTypes: ["b"] }, "filterTypes"],
    ["a header with Svix's name in front", { headers: { "X-Svix-Team": "a" } }, "headers"],
    ["a header name that HTTP forbids", { headers: { "a b": "c" } }, "headers"],
    ["a header value that HTTP forbids", { headers: { a: "b\r\nc: d" } }, "headers"],
    ["a header of the signature", { headers: { "Webhook-Signature": "v1,a" } }, "headers"],
    ["a header that frames the request", { headers: { "content-length": "1" } }, "headers"],
    ["a header twice", { headers: { "x-a": "1", "X-A": "2" } }, "headers"],
    ["a header without end", { headers: { a: "b".repeat(5000) } }, "headers"],
    [
      "too many headers",
      { headers: Object.fromEntries(Array.from({ length: 51 }, (_, i) => [`h${i}`, ""])) },
      "headers",
    ],
  ])("%s is answered with 422", async (_, body, loc) => {
    const answer = await service.request("POST", "/api/v1/app/a/endpoint", { url, ...body });
    expect(answer.status).toBe(422);
    expect(answer.json.detail.map((fault: { loc: string[] }) => fault.loc.join())).toEqual([`body,${loc}`]);
  });

  test("a refused secret or header value is not repeated in the answer", async () => {
    const answer = await service.request("POST", "/api/v1/app/a/endpoint", {
      url,
      secret: "whsec_canary",
      headers: { authorization: "canary\n" },
    });
    expect(answer.status).toBe(422);
    expect(answer.json.detail).toHaveLength(2);
    expect(answer.text).not.toContain("canary");
  });

  test("a uid that is taken is answered with 409, but may be used in another application", async () => {
    await service.svix.endpoint.create("a", { url, uid: "taken" });
    expect(await refusalOf(service.svix.endpoint.create("a", { url, uid: "taken" }))).toMatchObject({
      status: 409,
      body: { code: "conflict" },
    });
    await service.svix.application.create({ name: "b", uid: "b" });
    await expect(service.svix.endpoint.create("b", { url, uid: "taken" })).resolves.toMatchObject({
      uid: "taken",
    });
  });

  test("where the service sends to https alone, another URL is answered with 422", async () => {
    await using own = await startService({ httpsOnly: true });
    await own.svix.application.create({ name: "a", uid: "a" });
    await own.svix.endpoint.create("a", { url: "HTTPS://example.com/hook", uid: "safe" });
    for (const write of [
      own.svix.endpoint.create("a", { url: "http://example.com" }),
      own.svix.endpoint.patch("a", "safe", { url: "http://example.com" }),
      own.svix.endpoint.upsert("a", "safe", { url: "http://example.com" }),
    ]) {
      expect(await refusalOf(write)).toMatchObject({
        status: 422,
        body: { detail: [{ loc: ["body", "url"], msg: expect.stringContaining("https://") }] },
      });
    }
  });

  test("an application that is not there is answered with 404", async () => {
    expect(await refusalOf(service.svix.endpoint.create("missing", { url }))).toEqual({
      status: 404,
      body: { code: "not_found", detail: 'There is no application "missing".' },
    });
  });

  test("with an idempotency key two tries make one endpoint", async () => {
    const [first, second] = [
      await service.svix.endpoint.create("b", { url }, { idempotencyKey: "two-tries" }),
      await service.svix.endpoint.create("b", { url }, { idempotencyKey: "two-tries" }),
    ];
    expect(second).toEqual(first);
  });
});

describe("list", () => {
  test("goes through the application's endpoints page by page", async () => {
    await service.svix.application.create({ name: "pages", uid: "pages" });
    for (const uid of ["1", "2", "3"]) await service.svix.endpoint.create("pages", { url, uid });
    const order = Ordering.Ascending;
    const first = await service.svix.endpoint.list("pages", { limit: 2, order });
    expect(first).toMatchObject({ data: [{ uid: "1" }, { uid: "2" }], done: false });
    const second = await service.svix.endpoint.list("pages", { limit: 2, order, iterator: first.iterator });
    expect(second).toMatchObject({ data: [{ uid: "3" }], done: true });
    const { prevIterator } = second;
    expect(
      (await service.svix.endpoint.list("pages", { limit: 2, order, iterator: prevIterator })).data,
    ).toEqual(first.data);
  });

  test("begins with the newest unless it is asked for otherwise", async () => {
    const { data } = await service.svix.endpoint.list("pages", { limit: 2 });
    expect(data).toMatchObject([{ uid: "3" }, { uid: "2" }]);
  });
});

describe("change", () => {
  test("PUT replaces everything but the secret, the headers and a uid that is left out", async () => {
    const before = await service.svix.endpoint.create("a", {
      url,
      uid: "put",
      description: "Before",
      eventTypes: ["x"],
      headers: { "X-Kept": "yes" },
    });
    const { key } = await service.svix.endpoint.getSecret("a", "put");
    const answer = await service.request("PUT", "/api/v1/app/a/endpoint/put", {
      url: "https://example.com/new",
    });
    expect(answer).toMatchObject({
      status: 200,
      json: { id: before.id, uid: "put", url: "https://example.com/new", description: "", eventTypes: null },
    });
    expect((await service.svix.endpoint.getSecret("a", "put")).key).toBe(key);
    expect((await service.svix.endpoint.getHeaders("a", "put")).headers).toEqual({ "X-Kept": "yes" });
  });

  test("PUT by id takes away a uid that is left out", async () => {
    const { id } = await service.svix.endpoint.create("a", { url, uid: "by-id" });
    expect(await service.svix.endpoint.upsert("a", id, { url })).toMatchObject({ uid: null });
    expect((await refusalOf(service.svix.endpoint.get("a", "by-id"))).status).toBe(404);
  });

  test("PUT makes what is not there yet, under the uid in the path", async () => {
    expect(await service.request("PUT", "/api/v1/app/a/endpoint/fresh", { url })).toMatchObject({
      status: 201,
      json: { uid: "fresh" },
    });
    expect((await service.request("PUT", "/api/v1/app/a/endpoint/ep_gone", { url })).status).toBe(404);
  });

  test("PATCH changes what it names and no more; null means all", async () => {
    const before = await service.svix.endpoint.create("a", {
      url,
      eventTypes: ["x"],
      channels: ["c"],
      metadata: { a: "b" },
    });
    const after = await service.svix.endpoint.patch("a", before.id, { eventTypes: null, disabled: true });
    expect(after).toEqual({ ...before, eventTypes: null, disabled: true, updatedAt: after.updatedAt });
    expect(
      (await service.request("PATCH", `/api/v1/app/a/endpoint/${before.id}`, { channels: [] })).status,
    ).toBe(422);
  });

  test("an endpoint of another application is not there", async () => {
    const { id } = await service.svix.endpoint.create("a", { url });
    expect((await refusalOf(service.svix.endpoint.patch("b", id, {}))).status).toBe(404);
    expect((await refusalOf(service.svix.endpoint.getSecret("b", id))).status).toBe(404);
  });

  test("a deleted endpoint is gone", async () => {
    const { id } = await service.svix.endpoint.create("a", { url });
    await service.svix.endpoint.delete("a", id);
    expect((await refusalOf(service.svix.endpoint.get("a", id))).status).toBe(404);
    expect((await refusalOf(service.svix.endpoint.delete("a", id))).status).toBe(404);
  });
});

describe("headers", () => {
  test("secret ones are named and their values kept to the service", async () => {
    const { id } = await service.svix.endpoint.create("a", { url });
    await service.svix.endpoint.setHeaders("a", id, {
      headers: { Authorization: "Bearer canary", "X-Api-Key": "canary", "X-Team": "core" },
    });
    const answer = await service.request("GET", `/api/v1/app/a/endpoint/${id}/headers`);
    expect(answer.json).toEqual({ headers: { "X-Team": "core" }, sensitive: ["Authorization", "X-Api-Key"] });
  });

  test("PATCH sets and removes by name, whatever its case, and leaves the others", async () => {
    const { id } = await service.svix.endpoint.create("a", {
      url,
      headers: { "X-A": "1", "X-B": "2", "X-C": "3" },
    });
    const path = `/api/v1/app/a/endpoint/${id}/headers`;
    expect((await service.request("PATCH", path, { headers: { "x-a": "new", "x-b": null } })).status).toBe(
      204,
    );
    expect((await service.svix.endpoint.getHeaders("a", id)).headers).toEqual({ "x-a": "new", "X-C": "3" });
    await service.svix.endpoint.patchHeaders("a", id, { headers: {}, deleteHeaders: ["x-c"] });
    expect((await service.svix.endpoint.getHeaders("a", id)).headers).toEqual({ "x-a": "new" });
  });

  test("PATCH tells everything that is wrong with what would come of it", async () => {
    const { id } = await service.svix.endpoint.create("a", { url });
    const path = `/api/v1/app/a/endpoint/${id}/headers`;
    const answer = await service.request("PATCH", path, {
      headers: { "svix-id": "1", "a b": "2", "x-c": "3\r\ncanary: 4" },
    });
    expect(answer.status).toBe(422);
    expect(answer.json.detail.map(({ loc }: { loc: string[] }) => loc.join("."))).toEqual([
      "body.headers",
      "body.headers",
      "body.headers",
    ]);
    expect(answer.text).not.toContain("canary");
    expect((await service.svix.endpoint.getHeaders("a", id)).headers).toEqual({});
  });

  test("PUT without headers is answered with 422", async () => {
    const { id } = await service.svix.endpoint.create("a", { url });
    expect((await service.request("PUT", `/api/v1/app/a/endpoint/${id}/headers`, {})).status).toBe(422);
  });
});

describe("the policy", () => {
  const policy = { retrySchedule: [30, 60], timeoutSeconds: 2.5, order: "endpoint", whenExhausted: "block" };

  test("is shown as it was given, stays on a PUT by the contract, and goes with a null", async () => {
    const path = "/api/v1/app/a/endpoint/policy";
    const created = await service.request("POST", "/api/v1/app/a/endpoint", { url, uid: "policy", policy });
    expect(created).toMatchObject({ status: 201, json: { policy } });
    await service.svix.endpoint.upsert("a", "policy", { url: `${url}/new` });
    expect((await service.request("GET", path)).json).toMatchObject({ url: `${url}/new`, policy });
    const patched = await service.request("PATCH", path, { policy: { order: null, concurrency: 2 } });
    expect(patched.json.policy).toEqual({
      retrySchedule: [30, 60],
      timeoutSeconds: 2.5,
      concurrency: 2,
      whenExhausted: "block",
    });
    const cleared = await service.request("PUT", path, { url, policy: null });
    expect(cleared.json).not.toHaveProperty("policy");
  });

  test("is an endpoint's, and cannot ask for what is the application's", async () => {
    const answer = await service.request("POST", "/api/v1/app/a/endpoint", {
      url,
      policy: { validatePayloads: true },
    });
    expect(answer).toMatchObject({ status: 422, json: { detail: [{ loc: ["body", "policy"] }] } });
  });

  test("decides which statuses are a success, before the application's", async () => {
    await using receiver = await startReceiver();
    receiver.answer = { status: 418, body: "no" };
    await service.request("POST", "/api/v1/app", {
      name: "p",
      uid: "policies",
      policy: { successStatuses: [418], retrySchedule: [] },
    });
    const inherits = await service.svix.endpoint.create("policies", { url: receiver.url, uid: "inherits" });
    const own = { url: receiver.url, uid: "own", policy: { successStatuses: [200] } };
    expect((await service.request("POST", "/api/v1/app/policies/endpoint", own)).status).toBe(201);
    const { id } = await service.svix.message.create("policies", { eventType: "a", payload: {} });
    await eventually(async () => {
      const { data } = await service.svix.messageAttempt.listAttemptedDestinations("policies", id);
      const statuses = data.map(({ uid, status, nextAttempt }) => [uid, status, nextAttempt]);
      expect(new Map(statuses.map(([uid, ...rest]) => [uid, rest]))).toEqual(
        new Map([
          [inherits.uid, [0, null]],
          ["own", [2, null]],
        ]),
      );
    });
  });
});

describe("certificates", () => {
  const authority = createCertificateAuthority("Receivers");
  const { certificate, key } = authority.issue({ commonName: "sender" });

  test("are shown by fingerprint and end alone, and kept until others are given", async () => {
    const tls = { certificate, key, ca: authority.certificate };
    const path = "/api/v1/app/a/endpoint/tls";
    const created = await service.request("POST", "/api/v1/app/a/endpoint", { url, uid: "tls", tls });
    const shown = {
      fingerprint: expect.stringMatching(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/),
      expiresAt: expect.any(String),
    };
    expect(created).toMatchObject({ status: 201, json: { tls: { certificate: shown, ca: [shown] } } });
    expect(created.text).not.toContain("-----BEGIN");
    await service.svix.endpoint.upsert("a", "tls", { url });
    await service.svix.endpoint.patch("a", "tls", { description: "x" });
    expect((await service.request("GET", path)).json.tls).toEqual(created.json.tls);
    const only = await service.request("PATCH", path, { tls: { ca: authority.certificate } });
    expect(only.json.tls).toMatchObject({ certificate: null, ca: [shown] });
    expect((await service.request("PATCH", path, { tls: null })).json).not.toHaveProperty("tls");
  });

  test.each([
    ["a certificate without its key", { certificate }, 1],
    ["another certificate's key", { certificate, key: authority.issue({ commonName: "other" }).key }, 1],
    ["what is none", { certificate: "x", key: "canary", ca: "y" }, 3],
    ["a member that there is not", { certificate, key, passphrase: "canary" }, 1],
  ])("%s is answered with 422, and not repeated", async (_, tls, faults) => {
    const answer = await service.request("POST", "/api/v1/app/a/endpoint", { url, tls });
    expect(answer.status).toBe(422);
    expect(answer.json.detail.map(({ loc }: { loc: string[] }) => loc)).toEqual(
      Array.from({ length: faults }, () => ["body", "tls"]),
    );
    expect(answer.text).not.toContain("canary");
    expect(answer.text).not.toContain("PRIVATE KEY-----\\n");
  });
});

describe("older clients", () => {
  test("give and see event types and rate under their former names", async () => {
    const body = { url, uid: "older", version: 2, filterTypes: ["a", "b"], rateLimit: 9 };
    const created = await service.request("POST", "/api/v1/app/a/endpoint", body);
    const both = {
      eventTypes: ["a", "b"],
      filterTypes: ["a", "b"],
      throttleRate: 9,
      rateLimit: 9,
      version: 2,
    };
    expect(created).toMatchObject({ status: 201, json: both });
    // What was read can be written as it is.
    const { createdAt: _, updatedAt: __, id: ___, ...read } = created.json;
    expect((await service.request("PUT", "/api/v1/app/a/endpoint/older", read)).json).toMatchObject(both);
    const patched = await service.request("PATCH", "/api/v1/app/a/endpoint/older", { filterTypes: null });
    expect(patched.json).toMatchObject({ eventTypes: null, filterTypes: null, rateLimit: 9 });
  });
});

describe("the secret's rotation", () => {
  test("a delivery within the overlap verifies with the old secret and with the new one", async () => {
    await using receiver = await startReceiver();
    await service.svix.application.create({ name: "r", uid: "rotating" });
    const { id } = await service.svix.endpoint.create("rotating", { url: receiver.url });
    const before = await service.svix.endpoint.getSecret("rotating", id);
    await service.svix.endpoint.rotateSecret("rotating", id);
    const after = await service.svix.endpoint.getSecret("rotating", id);
    expect(after.key).not.toBe(before.key);

    await service.svix.message.create("rotating", { eventType: "a", payload: { n: 1 } });
    await eventually(() => {
      expect(receiver.requests).toHaveLength(1);
    });
    const [{ headers, body }] = receiver.requests as [(typeof receiver.requests)[0]];
    for (const { key } of [before, after]) {
      expect(() => {
        new Webhook(key).verify(body, headers as Record<string, string>);
      }).not.toThrow();
    }
  });

  test("without an overlap only the new secret signs", async () => {
    await using receiver = await startReceiver();
    await service.svix.application.create({ name: "r", uid: "at-once" });
    const { id } = await service.svix.endpoint.create("at-once", { url: receiver.url });
    const before = await service.svix.endpoint.getSecret("at-once", id);
    const key = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    await service.svix.endpoint.rotateSecret("at-once", id, { key, gracePeriodSeconds: 0 });
    await service.svix.message.create("at-once", { eventType: "a", payload: {} });
    await eventually(() => {
      expect(receiver.requests).toHaveLength(1);
    });
    const [{ headers, body }] = receiver.requests as [(typeof receiver.requests)[0]];
    expect(() => {
      new Webhook(before.key).verify(body, headers as Record<string, string>);
    }).toThrow();
    expect(() => {
      new Webhook(key).verify(body, headers as Record<string, string>);
    }).not.toThrow();
  });

  test.each([
    ["a grace period of more than 7 days", { gracePeriodSeconds: 604_801 }, "gracePeriodSeconds"],
    ["a negative grace period", { gracePeriodSeconds: -1 }, "gracePeriodSeconds"],
    ["a short key", { key: "whsec_AAAA" }, "key"],
  ])("%s is answered with 422", async (_, body, member) => {
    const { id } = await service.svix.endpoint.create("a", { url });
    expect(await service.request("POST", `/api/v1/app/a/endpoint/${id}/secret/rotate`, body)).toMatchObject({
      status: 422,
      json: { detail: [{ loc: ["body", member] }] },
    });
  });

  test("needs no body", async () => {
    const { id } = await service.svix.endpoint.create("a", { url });
    expect((await service.request("POST", `/api/v1/app/a/endpoint/${id}/secret/rotate`)).status).toBe(204);
  });
});

describe("rotate()", () => {
  const current = { key: "whsec_1", expiresAt: null };

  test("the old key signs for the overlap, keys before it for what is left of theirs", () => {
    const secrets = [current, { key: "whsec_0", expiresAt: 500 }, { key: "whsec_gone", expiresAt: 100 }];
    expect(rotate(secrets, "whsec_2", 100, 1000)).toEqual([
      { key: "whsec_2", expiresAt: null },
      { key: "whsec_1", expiresAt: 1100 },
      { key: "whsec_0", expiresAt: 500 },
    ]);
  });

  test("without an overlap the old key is dropped at once", () => {
    expect(rotate([current], "whsec_2", 100, 0)).toEqual([{ key: "whsec_2", expiresAt: null }]);
  });

  test("to the key that is current already nothing changes", () => {
    expect(rotate([current], "whsec_1", 100, 0)).toEqual([current]);
  });

  test("to a former key it signs once, as the current one", () => {
    expect(rotate([current, { key: "whsec_0", expiresAt: 500 }], "whsec_0", 100, 50)).toEqual([
      { key: "whsec_0", expiresAt: null },
      { key: "whsec_1", expiresAt: 150 },
    ]);
  });

  test("more than ten old keys are refused", () => {
    const old = Array.from({ length: 10 }, (_, index) => ({ key: `whsec_old${index}`, expiresAt: 500 }));
    expect(() => rotate([current, ...old], "whsec_2", 100, 1000)).toThrow("wait until one expires");
  });
});

describe("an endpoint of a vendor account", () => {
  test("can be read and not changed", async () => {
    const create = await fetch(`${service.url}/casey/v1/backend/webhooks`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${(service.service.credentials["casey"] as { apiKey: string }).apiKey}`,
        "content-type": "application/json",
      },
      body: JSON.stringify({ url }),
    });
    const { data } = (await create.json()) as { data: { id: string; secret: string } };
    expect(await service.svix.endpoint.get("casey", data.id)).toMatchObject({ url });
    expect((await service.svix.endpoint.getSecret("casey", data.id)).key).toBe(data.secret);
    for (const [method, path, body] of [
      ["PATCH", "", {}],
      ["PUT", "", { url }],
      ["DELETE", "", undefined],
      ["PUT", "/headers", { headers: {} }],
      ["PATCH", "/headers", { headers: {} }],
      ["POST", "/secret/rotate", {}],
    ] as const) {
      const answer = await service.request(method, `/api/v1/app/casey/endpoint/${data.id}${path}`, body);
      expect(answer).toMatchObject({
        status: 403,
        json: { detail: expect.stringContaining("/casey/v1/backend") },
      });
    }
  });
});
