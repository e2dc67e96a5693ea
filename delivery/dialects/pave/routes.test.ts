import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { describeAccount, runAccount, type RunningAccount } from "../account.suite.ts";
import { createPaveAccount, paveAccount } from "./index.ts";
import { toApiToken, type PaveCredentials } from "./token.ts";

const credentials: PaveCredentials = { username: "acme", apiKey: "key123", apiSecret: "secret" };
const api_key = credentials.apiKey;

function authenticate(by: PaveCredentials, ageMs = 0): Record<string, string> {
  const timestamp = new Date(Date.now() - ageMs).toISOString();
  return { "api-key": by.apiKey, "api-token": toApiToken(by, timestamp), "api-timestamp": timestamp };
}

describeAccount<PaveCredentials>({
  account: paveAccount,
  route: { method: "POST", path: "/callbacks", contentType: "application/json" },
  authenticate,
  errorBody: () => ({ message: expect.stringMatching(/\w+ \w+/) }),
});

let pave: RunningAccount;
beforeAll(async () => {
  pave = await runAccount(paveAccount, credentials);
});
afterAll(() => pave.close());
beforeEach(async () => {
  const endpoints = await pave.endpoints();
  await pave.store.write(async (tx) => {
    for (const endpoint of endpoints) await tx.endpoints.delete(endpoint.id);
  });
});

async function call(method: string, path: string, body?: unknown) {
  const answer = await fetch(pave.url + path, {
    method,
    headers: {
      ...authenticate(credentials),
      ...(body !== undefined && { "content-type": "application/json" }),
    },
    body: body === undefined ? null : typeof body === "string" ? body : JSON.stringify(body),
  });
  return { status: answer.status, body: (await answer.json()) as { message?: string } };
}

const complete = {
  event: "SESSION:COMPLETE",
  url: "https://receiver.example/pave",
  method: "POST",
  headers: { Authorization: "Bearer jwt" },
  payload: { source: "PAVE", nested: { a: [1] } },
};
const missing = (event: string) => ({
  status: 404,
  body: { api_key, message: `Your API Key does not have callback setting for the event ${event}.` },
});

test("how old a timestamp may be is 15 minutes, unless said otherwise", async () => {
  const strict = await runAccount(createPaveAccount({ freshnessWindowMs: 60_000 }), credentials);
  const statusOf = async (account: RunningAccount, ageMs: number) =>
    (await fetch(`${account.url}/callbacks`, { headers: authenticate(credentials, ageMs) })).status;
  expect(await statusOf(pave, 14 * 60_000)).toBe(200);
  expect(await statusOf(pave, 16 * 60_000)).toBe(401);
  expect(await statusOf(strict, 30_000)).toBe(200);
  expect(await statusOf(strict, 90_000)).toBe(401);
  await strict.close();
});

describe("POST /callbacks", () => {
  test("sets a callback and answers flat, with 200", async () => {
    expect(await call("POST", "/callbacks", complete)).toEqual({
      status: 200,
      body: { api_key, ...complete },
    });
    expect(await pave.endpoints()).toMatchObject([
      { uid: "SESSION:COMPLETE", filterTypes: ["SESSION:COMPLETE"], secrets: [], disabled: false },
    ]);
  });

  test("is POST with nothing in headers and payload by default", async () => {
    const { event, url } = complete;
    expect(await call("POST", "/callbacks", { event, url })).toEqual({
      status: 200,
      body: { api_key, event, url, method: "POST", headers: {}, payload: {} },
    });
  });

  test.each([
    ["encoded as strings", JSON.stringify(complete.headers), JSON.stringify(complete.payload)],
    ["as objects", complete.headers, complete.payload],
  ])("takes headers and payload %s and answers with objects", async (_, headers, payload) => {
    const { body } = await call("POST", "/callbacks", { ...complete, headers, payload });
    expect(body).toEqual({ api_key, ...complete });
  });

  test.each([[[]], [null], [""], ["{}"], ["[]"]])("takes %j as empty headers and payload", async (empty) => {
    const { body } = await call("POST", "/callbacks", { ...complete, headers: empty, payload: empty });
    expect(body).toMatchObject({ headers: {}, payload: {} });
  });

  test.each([{}, { event: complete.event }, { url: complete.url }, { ...complete, url: "" }, [], undefined])(
    "answers PAVE's own words when a required field is missing: %j",
    async (body) => {
      expect(await call("POST", "/callbacks", body)).toEqual({
        status: 400,
        body: { message: "Missing required fields." },
      });
    },
  );

  test("names all that is wrong at once, and no header value", async () => {
    const { status, body } = await call("POST", "/callbacks", {
      event: "SESSION:COMPLETED",
      url: "/relative",
      method: "PATCH",
      headers: { "X Bad": "hidden1", "X-Line": "hidden2\n", "X-Object": {} },
      payload: "not json",
    });
    expect(status).toBe(400);
    expect(Object.keys(body)).toEqual(["message"]);
    expect(body.message).toContain('Did you mean "SESSION:COMPLETE"?');
    expect(body.message).toContain("The url must be absolute");
    expect(body.message).toContain("The method must be POST or GET.");
    expect(body.message).toContain('"X Bad"');
    expect(body.message).toContain('"X-Line"');
    expect(body.message).toContain('The header "X-Object" must be a string.');
    expect(body.message).toContain("The payload must be a JSON object");
    expect(body.message).not.toContain("hidden");
    expect(await pave.endpoints()).toEqual([]);
  });

  test("refuses a second callback for an event and says how to update the first", async () => {
    await call("POST", "/callbacks", complete);
    const { status, body } = await call("POST", "/callbacks", { ...complete, url: "https://other.example/" });
    expect(status).toBe(409);
    expect(body).toEqual({ api_key, message: expect.stringContaining("PUT /v1/callbacks/SESSION:COMPLETE") });
    expect(await pave.endpoints()).toMatchObject([{ url: complete.url }]);
  });

  test("makes one callback out of many sent at once", async () => {
    const answers = await Promise.all(Array.from({ length: 5 }, () => call("POST", "/callbacks", complete)));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409]);
  });

  test("refuses a body that is not JSON", async () => {
    expect(await call("POST", "/callbacks", "{")).toMatchObject({ status: 400, body: { message: /./ } });
  });

  test.each([
    "SESSION:SMS_PROCESS",
    "SESSION:STAGE_CHANGE",
    "SESSION:STATUS_CHANGE",
    "SESSION:COMPLETE",
    "SESSION:NOTE_INSERT",
  ])("knows the event %s", async (event) => {
    expect(await call("POST", "/callbacks", { ...complete, event })).toMatchObject({
      status: 200,
      body: { event },
    });
  });
});

describe("GET /callbacks", () => {
  test("lists the callbacks, wrapped in data", async () => {
    expect(await call("GET", "/callbacks")).toEqual({ status: 200, body: { api_key, data: [] } });
    await call("POST", "/callbacks", complete);
    const { event: _event, ...rest } = complete;
    await call("POST", "/callbacks", { ...rest, event: "SESSION:NOTE_INSERT" });
    expect(await call("GET", "/callbacks")).toEqual({
      status: 200,
      body: { api_key, data: [complete, { ...complete, event: "SESSION:NOTE_INSERT" }] },
    });
  });

  test.each(["SESSION:COMPLETE", "SESSION%3ACOMPLETE"])(
    "reads one as %s, wrapped in data",
    async (segment) => {
      await call("POST", "/callbacks", complete);
      expect(await call("GET", `/callbacks/${segment}`)).toEqual({
        status: 200,
        body: { api_key, data: complete },
      });
    },
  );

  test.each(["SESSION:COMPLETE", "SESSION:OTHER"])("does not find %s where none is set", async (event) => {
    expect(await call("GET", `/callbacks/${encodeURIComponent(event)}`)).toEqual(missing(event));
  });
});

describe("PUT /callbacks/:event", () => {
  const changed = {
    url: "https://other.example/pave",
    method: "get",
    headers: { "X-Key": "k" },
    payload: { a: 1 },
  };

  test.each(["SESSION:COMPLETE", "SESSION%3ACOMPLETE"])(
    "replaces the callback and answers flat",
    async (segment) => {
      await call("POST", "/callbacks", complete);
      const expected = { event: complete.event, ...changed, method: "GET" };
      expect(await call("PUT", `/callbacks/${segment}`, changed)).toEqual({
        status: 200,
        body: { api_key, ...expected },
      });
      expect(await call("GET", `/callbacks/${segment}`)).toMatchObject({ body: { data: expected } });
    },
  );

  test("gives what is left out its default", async () => {
    await call("POST", "/callbacks", { ...complete, method: "GET" });
    expect(await call("PUT", "/callbacks/SESSION:COMPLETE", { url: complete.url })).toMatchObject({
      body: { method: "POST", headers: {}, payload: {} },
    });
  });

  test("puts a callback that was disabled into use again", async () => {
    await call("POST", "/callbacks", complete);
    const [endpoint] = await pave.endpoints();
    await pave.store.write((tx) => tx.endpoints.update({ ...endpoint!, disabled: true }));
    await call("PUT", "/callbacks/SESSION:COMPLETE", complete);
    expect(await pave.endpoints()).toMatchObject([{ disabled: false }]);
  });

  test("needs the url", async () => {
    await call("POST", "/callbacks", complete);
    expect(await call("PUT", "/callbacks/SESSION:COMPLETE", { payload: {} })).toEqual({
      status: 400,
      body: { message: "Missing required fields." },
    });
  });

  test("does not turn a callback into another event's", async () => {
    await call("POST", "/callbacks", complete);
    const answer = await call("PUT", "/callbacks/SESSION:COMPLETE", {
      ...complete,
      event: "SESSION:NOTE_INSERT",
    });
    expect(answer).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining("cannot be changed") },
    });
  });

  test("does not find what is not set, whatever the body says", async () => {
    expect(await call("PUT", "/callbacks/SESSION:COMPLETE", {})).toEqual(missing("SESSION:COMPLETE"));
  });
});

describe("DELETE /callbacks/:event", () => {
  test.each(["SESSION:COMPLETE", "SESSION%3ACOMPLETE"])("removes the callback, once", async (segment) => {
    await call("POST", "/callbacks", complete);
    expect(await call("DELETE", `/callbacks/${segment}`)).toEqual({
      status: 200,
      body: { api_key, message: "Callback setting SESSION:COMPLETE has been successfully removed." },
    });
    expect(await call("DELETE", `/callbacks/${segment}`)).toEqual(missing("SESSION:COMPLETE"));
  });

  test("takes a declared JSON body that is not there", async () => {
    await call("POST", "/callbacks", complete);
    expect(await call("DELETE", "/callbacks/SESSION:COMPLETE", "")).toMatchObject({ status: 200 });
  });
});

test("where the service sends to https alone, other URLs are refused, and what is there stays", async () => {
  const strict = await runAccount(paveAccount, credentials, { httpsOnly: true });
  const send = async (method: string, path: string, body: unknown) => {
    const headers = { ...authenticate(credentials), "content-type": "application/json" };
    const answer = await fetch(strict.url + path, { method, headers, body: JSON.stringify(body) });
    return { status: answer.status, body: await answer.json() };
  };
  const plain = { ...complete, url: "http://receiver.example/pave" };
  const refused = {
    status: 400,
    body: { message: "The url must begin with https://: this service sends to no other." },
  };
  expect(await send("POST", "/callbacks", plain)).toEqual(refused);
  expect(await send("POST", "/callbacks", complete)).toMatchObject({ status: 200 });
  expect(await send("PUT", "/callbacks/SESSION:COMPLETE", plain)).toEqual(refused);
  expect(await strict.endpoints()).toMatchObject([{ url: complete.url }]);
  await strict.close();
});
