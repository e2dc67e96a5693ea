import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { describeAccount, runAccount, type RunningAccount } from "../account.suite.ts";
import type { CaseyCredentials } from "./dialect.ts";
import { caseyAccount } from "./index.ts";

const credentials: CaseyCredentials = { apiKey: "sk_test_abc" };
const codes: Record<number, string> = {
  401: "unauthorized",
  404: "not_found",
  413: "payload_too_large",
  415: "unsupported_media_type",
  500: "internal_error",
  503: "unavailable",
};

describeAccount<CaseyCredentials>({
  account: caseyAccount,
  route: { method: "POST", path: "/webhooks", contentType: "application/json" },
  authenticate: ({ apiKey }) => ({ authorization: `Bearer ${apiKey}` }),
  errorBody: (status) => ({ error: { code: codes[status], message: expect.stringMatching(/\w+ \w+/) } }),
});

let casey: RunningAccount;
beforeAll(async () => {
  casey = await runAccount(caseyAccount, credentials);
});
afterAll(() => casey.close());
beforeEach(async () => {
  const endpoints = await casey.endpoints();
  await casey.store.write(async (tx) => {
    for (const endpoint of endpoints) await tx.endpoints.delete(endpoint.id);
  });
});

interface Body {
  data: { id: string };
  error: { code: string; message: string };
}

async function call(method: string, path: string, body?: unknown) {
  const answer = await fetch(casey.url + path, {
    method,
    headers: { authorization: "Bearer sk_test_abc", "content-type": "application/json" },
    body: body === undefined ? null : JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, body: text === "" ? null : (JSON.parse(text) as Body) };
}

const input = {
  url: "https://receiver.example/casey",
  description: "orders",
  event_types: ["conversation.started", "conversation.completed"],
};
const create = async (body: unknown = input) => (await call("POST", "/webhooks", body)).body!.data;
const notFound = {
  status: 404,
  body: { error: { code: "not_found", message: expect.stringContaining('"ep_none"') } },
};

describe("POST /webhooks", () => {
  test("makes an endpoint and tells its secret", async () => {
    expect(await call("POST", "/webhooks", input)).toEqual({
      status: 201,
      body: {
        data: {
          id: expect.stringMatching(/^ep_\w+$/),
          ...input,
          enabled: true,
          created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
          secret: expect.stringMatching(/^whsec_[A-Za-z0-9+/]{32}$/),
        },
      },
    });
  });

  test("listens to completed conversations by default", async () => {
    expect(await create({ url: input.url })).toMatchObject({
      event_types: ["conversation.completed"],
      description: "",
    });
  });

  test("makes another endpoint each time, also for the same URL", async () => {
    expect((await create()).id).not.toBe((await create()).id);
  });

  test("counts a repeated event type once", async () => {
    const event_types = ["conversation.started", "conversation.started"];
    expect(await create({ ...input, event_types })).toMatchObject({ event_types: ["conversation.started"] });
  });

  test("names all that is wrong at once", async () => {
    const body = { url: "ftp://x", description: 1, event_types: ["conversation.complete", "order.paid"] };
    const { status, body: answer } = await call("POST", "/webhooks", body);
    expect(status).toBe(422);
    expect(answer!.error.code).toBe("validation_error");
    expect(answer!.error.message).toContain("url is required");
    expect(answer!.error.message).toContain("description must be a string");
    expect(answer!.error.message).toContain('Did you mean "conversation.completed"?');
    expect(answer!.error.message).toContain('"order.paid" is not a Casey event type.');
    expect(await casey.endpoints()).toEqual([]);
  });

  test.each([[undefined], [{}], [[]], [{ ...input, event_types: [] }], [{ ...input, event_types: "all" }]])(
    "refuses %j",
    async (body) => {
      expect(await call("POST", "/webhooks", body)).toMatchObject({
        status: 422,
        body: { error: { code: "validation_error" } },
      });
    },
  );
});

describe("GET /webhooks", () => {
  test("lists the endpoints without their secrets", async () => {
    const { id } = await create();
    const { status, body } = await call("GET", "/webhooks");
    expect(status).toBe(200);
    expect(body).toEqual({ data: [{ id, ...input, enabled: true, created_at: expect.any(String) }] });
  });

  test("reads one without its secret, and the secret on its own route", async () => {
    const { id, ...rest } = await create();
    const { secret, ...shown } = rest as Record<string, unknown>;
    expect(await call("GET", `/webhooks/${id}`)).toEqual({ status: 200, body: { data: { id, ...shown } } });
    expect(await call("GET", `/webhooks/${id}/secret`)).toEqual({ status: 200, body: { data: { secret } } });
  });

  test("shows an endpoint that was disabled", async () => {
    const { id } = await create();
    const [endpoint] = await casey.endpoints();
    await casey.store.write((tx) => tx.endpoints.update({ ...endpoint!, disabled: true }));
    expect(await call("GET", `/webhooks/${id}`)).toMatchObject({ body: { data: { enabled: false } } });
  });

  test("does not find an endpoint that is not there", async () => {
    expect(await call("GET", "/webhooks/ep_none")).toEqual(notFound);
    expect(await call("GET", "/webhooks/ep_none/secret")).toEqual(notFound);
  });
});

describe("DELETE /webhooks/:id", () => {
  test("removes the endpoint, once, without a body", async () => {
    const { id } = await create();
    expect(await call("DELETE", `/webhooks/${id}`)).toEqual({ status: 204, body: null });
    expect(await call("DELETE", `/webhooks/${id}`)).toMatchObject({ status: 404 });
    expect(await call("DELETE", "/webhooks/ep_none")).toEqual(notFound);
  });
});

test("POST /webhooks/test publishes a test event and tells its message", async () => {
  expect(await call("POST", "/webhooks/test")).toEqual({
    status: 200,
    body: { data: { success: true, message_id: expect.stringMatching(/^msg_/) } },
  });
  expect(casey.published).toMatchObject([{ eventType: "test.event" }]);
  expect(JSON.parse(String(casey.published[0]!.payload))).toEqual({ message: "This is a test event." });
});

test.each(["PUT", "PATCH"])("there is no %s that changes an endpoint, as with the vendor", async (method) => {
  const { id } = await create();
  expect(await call(method, `/webhooks/${id}`, input)).toMatchObject({
    status: 404,
    body: { error: { code: "not_found" } },
  });
});

test("where the service sends to https alone, other URLs are refused", async () => {
  const strict = await runAccount(caseyAccount, { apiKey: "sk_test_abc" }, { httpsOnly: true });
  const send = async (url: string) => {
    const headers = { authorization: "Bearer sk_test_abc", "content-type": "application/json" };
    const answer = await fetch(`${strict.url}/webhooks`, {
      method: "POST",
      headers,
      body: JSON.stringify({ url }),
    });
    return { status: answer.status, body: await answer.json() };
  };
  expect(await send("http://receiver.example/casey")).toEqual({
    status: 422,
    body: {
      error: {
        code: "validation_error",
        message: "url must begin with https://: this service sends to no other.",
      },
    },
  });
  expect(await send(input.url)).toMatchObject({ status: 201 });
  await strict.close();
});
