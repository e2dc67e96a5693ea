import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import {
  createHttpClient,
  HttpError,
  type HttpApi,
  type HttpApiOptions,
  type HttpClientOptions,
} from "./client.ts";
import { openVendorServer, type Misbehavior, type VendorServer } from "./vendor-server.suite.ts";

let vendor: VendorServer;
let effects: number;
let slept: number[];

beforeEach(async () => {
  effects = 0;
  slept = [];
  vendor = await openVendorServer(() => {
    effects++;
    return { status: 200, json: { id: effects } };
  });
});
afterEach(() => vendor[Symbol.asyncDispose]());

const answer = z.object({ id: z.number() });

interface Given extends HttpClientOptions {
  readonly api?: Partial<HttpApiOptions>;
}

function client({ api, limits, ...options }: Given = {}): HttpApi {
  return createHttpClient({
    clock: {
      now: Date.now,
      random: () => 0.5,
      sleep: async (ms, signal) => {
        slept.push(ms);
        signal?.throwIfAborted();
      },
    },
    limits: { attemptTimeoutMs: 500, ...limits },
    ...options,
  }).api({
    title: "Acme",
    url: `${vendor.url}/v1/`,
    authorize: () => ({ authorization: "Bearer canary-token" }),
    parseError: (body) => {
      const parsed = z.object({ message: z.string(), code: z.number().optional() }).safeParse(body);
      return parsed.success ? parsed.data : undefined;
    },
    ...api,
  });
}

function get(given?: Given) {
  return client(given).request({ method: "GET", path: "/things?token=canary-query", retry: "safe", answer });
}
function create(given?: Given) {
  return client(given).request({
    method: "POST",
    path: "/things",
    json: { secret: "canary-body" },
    retry: "unsent",
    answer,
  });
}
async function errorOf(promise: Promise<unknown>): Promise<HttpError> {
  const error: unknown = await promise.then(
    () => new Error("It succeeded."),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(HttpError);
  expect(JSON.stringify(error) + String(error)).not.toContain("canary");
  return error as HttpError;
}

describe("request()", () => {
  test("sends method, path, credentials and JSON, and answers in the asked form", async () => {
    await expect(create()).resolves.toEqual({ id: 1 });
    expect(vendor.requests).toMatchObject([
      {
        method: "POST",
        path: "/v1/things",
        headers: {
          authorization: "Bearer canary-token",
          "content-type": "application/json",
          accept: "application/json",
        },
        body: '{"secret":"canary-body"}',
      },
    ]);
  });

  test("sends a form with repeated and empty keys", async () => {
    const form = new URLSearchParams([
      ["Filters", "a b"],
      ["Filters", "c&d"],
      ["PreWebhookUrl", ""],
    ]);
    await client().request({ method: "POST", path: "/things", form, retry: "safe" });
    expect(vendor.requests[0]).toMatchObject({
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: "Filters=a+b&Filters=c%26d&PreWebhookUrl=",
    });
  });

  test("takes an empty answer where none is asked for", async () => {
    vendor.misbehave({ status: 204 });
    await expect(client().request({ method: "DELETE", path: "/things/1", retry: "safe" })).resolves.toBe(
      undefined,
    );
  });

  // Two, since the next request may come before the last one's connection is free again.
  test("keeps connections for the requests that follow", async () => {
    for (let i = 0; i < 10; i++) await get();
    expect(new Set(vendor.requests.map((request) => request.clientPort)).size).toBeLessThanOrEqual(2);
  });

  test("authenticates each try anew", async () => {
    let tries = 0;
    vendor.misbehave({ status: 503 });
    await get({ api: { authorize: () => ({ "api-try": String(++tries) }) } });
    expect(vendor.requests.map((request) => request.headers["api-try"])).toEqual(["1", "2"]);
  });

  test.each<[string, Misbehavior]>([
    ["429", { status: 429 }],
    ["502", { status: 502 }],
    ["503", { status: 503 }],
    ["504", { status: 504 }],
    ["a truncated answer", "truncated"],
    ["a connection reset before the effect", "reset before effect"],
    ["a connection reset after the effect", "reset after effect"],
    ["silence", "nothing"],
    ["an answer that drips", "drip"],
  ])("repeats what is safe after %s", async (_name, behavior) => {
    vendor.misbehave(behavior);
    await expect(get()).resolves.toHaveProperty("id");
    expect(vendor.requests).toHaveLength(2);
    expect(slept).toEqual([125]);
  });

  test("waits as long as Retry-After asks", async () => {
    vendor.misbehave(
      { status: 429, headers: { "retry-after": "7" } },
      { status: 503, headers: { "retry-after": new Date(Date.now() + 5_000).toUTCString() } },
    );
    await get();
    expect(slept[0]).toBe(7_125);
    expect(slept[1]).toBeGreaterThan(3_000);
    expect(slept[1]).toBeLessThanOrEqual(5_250);
  });

  test("gives up after the last try and says how often it tried and what the vendor said", async () => {
    vendor.misbehave(
      ...Array.from({ length: 5 }, () => ({ status: 503, json: { message: "Down.", code: 7 } })),
    );
    const error = await errorOf(get());
    expect(error.message.replace(/\d\.\d s/, "0.0 s")).toBe(
      "Acme did not accept the request, tried 5 times in 0.0 s " +
        `(GET ${vendor.url}/v1/things answered 503: "Down. (code 7)"). ` +
        "Try again later; the vendor's service has a fault. [vendor_failed]",
    );
    expect(error).toMatchObject({ status: 503, vendorCode: 7, outcome: "unknown" });
    expect(vendor.requests).toHaveLength(5);
  });

  test("gives up at once when the vendor asks for more time than there is", async () => {
    vendor.misbehave({ status: 429, headers: { "retry-after": "3600" }, json: { message: "Slow down" } });
    const error = await errorOf(get());
    expect(error.message).toBe(
      `Acme did not accept the request (GET ${vendor.url}/v1/things answered 429: "Slow down"). ` +
        "The vendor asks to try again in 3600.0 s. [rate_limited]",
    );
    expect(error).toMatchObject({ retryAfterMs: 3_600_000, outcome: "rejected" });
  });

  test("gives up when the total time is over, even when every try is short", async () => {
    vendor.misbehave("nothing", "nothing", "nothing");
    const error = await errorOf(get({ limits: { attemptTimeoutMs: 60, totalTimeoutMs: 130 } }));
    expect(error.message).toContain("no whole answer within");
    expect(vendor.requests.length).toBeLessThan(3);
  });

  test.each([400, 401, 403, 404, 409, 422, 500])("does not repeat a %d", async (status) => {
    vendor.misbehave({ status });
    expect(await errorOf(get())).toMatchObject({ status, outcome: status < 500 ? "rejected" : "unknown" });
    expect(vendor.requests).toHaveLength(1);
  });

  test.each([401, 403])("points at the credentials on a %d", async (status) => {
    vendor.misbehave({ status });
    expect((await errorOf(get())).code).toBe("authentication_failed");
  });

  test("follows no redirect", async () => {
    vendor.misbehave({ status: 302, headers: { location: `${vendor.url}/elsewhere` } });
    expect((await errorOf(get())).message).toContain("set the connection's `url` to the final address");
    expect(vendor.requests).toHaveLength(1);
  });

  test("says so when the answer is not JSON, without showing it", async () => {
    vendor.misbehave("garbage");
    const error = await errorOf(get());
    expect(error.problem).toBe('Acme gave an answer that is not JSON, with content type "text/html"');
    expect(error.code).toBe("bad_answer");
    expect(error).toMatchObject({ status: 200, outcome: "unknown" });
  });

  test("says where an answer has another form, without its values", async () => {
    vendor.misbehave({ status: 200, json: { id: "canary" } });
    expect((await errorOf(get())).message).toMatch(/not in its documented form: id: .*number/);
  });

  test("keeps the vendor's words to one line", async () => {
    vendor.misbehave({ status: 400, json: { message: `Bad \u001b[31m\nkey${"y".repeat(1000)}` } });
    const { vendorMessage } = (await errorOf(get())).details;
    expect(vendorMessage).toMatch(/^Bad \[31m keyy+$/);
    expect(vendorMessage).toHaveLength(500);
  });

  test("stops reading an answer that is too long", async () => {
    vendor.misbehave("endless");
    const error = await errorOf(get({ limits: { maxBodyBytes: 100_000, attemptTimeoutMs: 2_000 } }));
    expect(error.problem).toContain("the answer is longer than 100000 bytes");
    expect(vendor.requests).toHaveLength(1);
  });

  test("rejects a base address that is not http", () => {
    expect(() => client({ api: { url: "ftp://example.com" } })).toThrow(TypeError);
  });
});

describe("toVendorTime()", () => {
  test("follows the vendor's clock once an answer told it", async () => {
    const api = client();
    expect(api.toVendorTime(1000)).toBe(1000);
    const date = new Date(Date.now() + 3_600_000).toUTCString();
    vendor.misbehave({ status: 200, headers: { date }, json: { id: 1 } });
    await api.request({ method: "GET", path: "/things", retry: "safe", answer });
    expect(Math.abs(api.toVendorTime(Date.now()) - Date.parse(date))).toBeLessThan(1000);
  });
});

describe("request() of a create", () => {
  test.each<[string, Misbehavior, "unknown" | "rejected"]>([
    ["500", { status: 500 }, "unknown"],
    ["502", { status: 502 }, "unknown"],
    ["504", { status: 504 }, "unknown"],
    ["503 without Retry-After", { status: 503 }, "unknown"],
    ["garbage", "garbage", "unknown"],
    ["a truncated answer", "truncated", "unknown"],
    ["a reset", "reset after effect", "unknown"],
    ["silence", "nothing", "unknown"],
    ["an answer that drips", "drip", "unknown"],
    ["400", { status: 400 }, "rejected"],
  ])("is not repeated after %s", async (_name, behavior, outcome) => {
    vendor.misbehave(behavior);
    expect((await errorOf(create())).outcome).toBe(outcome);
    expect(vendor.requests).toHaveLength(1);
  });

  test.each<[string, Misbehavior]>([
    ["429", { status: 429 }],
    ["503 with Retry-After", { status: 503, headers: { "retry-after": "0" } }],
  ])("is repeated after %s", async (_name, behavior) => {
    vendor.misbehave(behavior);
    await expect(create()).resolves.toEqual({ id: 1 });
    expect(effects).toBe(1);
  });

  test("is repeated where no connection was made, and says so in the end", async () => {
    const closed = createServer().listen(0, "127.0.0.1");
    await once(closed, "listening");
    const { port } = closed.address() as AddressInfo;
    closed.close();
    const error = await errorOf(create({ api: { url: `http://127.0.0.1:${port}` } }));
    expect(error.problem).toMatch(/no usable answer: connect ECONNREFUSED 127\.0\.0\.1:\d+, tried 5 times/);
    expect(error).toMatchObject({ code: "unreachable", outcome: "unsent", status: null });
    expect(slept).toEqual([125, 250, 500, 1000]);
  });
});

describe("request() with a signal", () => {
  const asked = { method: "POST", path: "/things", retry: "unsent" } as const;

  test("is canceled while it waits for the answer", async () => {
    vendor.misbehave("nothing");
    const abort = new AbortController();
    const pending = client({ limits: { attemptTimeoutMs: 5_000 }, signal: abort.signal }).request(asked);
    setTimeout(() => {
      abort.abort();
    }, 30);
    expect(await errorOf(pending)).toMatchObject({ code: "aborted", outcome: "unknown" });
  });

  test("is canceled while it waits for the next try", async () => {
    const abort = new AbortController();
    vendor.misbehave({ status: 429 });
    const sleep = async () => {
      abort.abort();
      throw new Error("aborted");
    };
    const pending = client({
      clock: { now: Date.now, random: () => 0, sleep },
      signal: abort.signal,
    }).request(asked);
    expect(await errorOf(pending)).toMatchObject({ code: "aborted", outcome: "rejected" });
    expect(vendor.requests).toHaveLength(1);
  });

  test("is never sent when it was canceled before", async () => {
    const pending = client({ signal: AbortSignal.abort() }).request(asked);
    expect(await errorOf(pending)).toMatchObject({ code: "aborted", outcome: "unsent" });
    expect(vendor.requests).toHaveLength(0);
  });
});
