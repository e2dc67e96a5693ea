import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openVendorServer } from "../../http/vendor-server.suite.ts";
import { createLifecycle } from "../../lifecycle.ts";
import { createTestHost, testResource } from "../../resource.suite.ts";
import { callback } from "./callback.ts";

const declared = {
  event: "SESSION:COMPLETE",
  url: "https://example.com/hooks/pave",
  method: "GET",
  headers: { Authorization: "Bearer a-long-token", "X-Tenant": "blue" },
  payload: { source: "PAVE", depth: { list: [1, true, null, "x"] } },
};

const headerName = fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,12}$/);
const headerValue = fc.stringMatching(/^[!-~]([ -~]{0,20}[!-~])?$/);

testResource({
  resource: callback,
  connection: ({ url, credentials }) => ({ url: `${url}/pave/v1`, ...credentials.pave }),
  wrongCredentials: { username: "somebody-else", apiSecret: "not-the-secret" },
  declared,
  changed: {
    event: "SESSION:NOTE_INSERT",
    url: "https://example.com/hooks/other",
    method: "POST",
    headers: { "X-Tenant": "green" },
    payload: { source: "PAVE" },
  },
  declarations: fc.record(
    {
      event: fc.constantFrom(...callback.inputs.shape.event.options),
      url: fc.webUrl({ withFragments: true, withQueryParameters: true }),
      method: fc.constantFrom("get", "GET", "Post", "POST"),
      headers: fc
        .uniqueArray(fc.tuple(headerName, headerValue), {
          selector: ([name]) => name.toLowerCase(),
          maxLength: 4,
        })
        .map((pairs) => Object.fromEntries(pairs)),
      payload: fc.dictionary(fc.string({ minLength: 1 }), fc.jsonValue(), { maxKeys: 4 }),
    },
    { requiredKeys: ["event", "url"] },
  ),
});

describe("pave.Callback", () => {
  const connection = { username: "acme", apiKey: "key-1234", apiSecret: "secret-1234" };
  const held = {
    headers: declared.headers,
    payload: declared.payload,
    method: "GET",
    url: declared.url,
    event: declared.event,
  };
  const lifecycle = createLifecycle(callback, createTestHost());

  /** A PAVE with the callbacks of one API key. */
  function openPave(callbacks = new Map<string, unknown>(), keep = (made: object): object => made) {
    return openVendorServer(({ method, path, body }) => {
      const event = decodeURIComponent(path.replace(/^\/callbacks\/?/, ""));
      const missing = { status: 404, json: { api_key: "k", message: "no callback setting for the event" } };
      if (method === "POST") {
        const made = JSON.parse(body) as { event: string };
        callbacks.set(made.event, keep(made));
        return { status: 200, json: { api_key: "k", ...made } };
      }
      if (!callbacks.has(event)) return missing;
      return { status: 200, json: { api_key: "k", data: callbacks.get(event) } };
    });
  }

  const declareAt = (url: string) =>
    lifecycle.check({ ...declared, connection: { ...connection, url } }).inputs;

  test("does not take over a callback that exists, and says how to import it", async () => {
    await using pave = await openPave(new Map([[declared.event, held]]));
    await expect(lifecycle.create(declareAt(pave.url))).rejects.toMatchObject({
      code: "already_exists",
      message: expect.stringContaining('import it with the id "SESSION:COMPLETE"') as string,
    });
    expect(pave.requests.map(({ method }) => method)).toEqual(["GET"]);
  });

  test("is made once although the answer to its creation was lost", async () => {
    await using pave = await openPave();
    pave.misbehave(null, "reset after effect");
    const { id, state } = await lifecycle.create(declareAt(pave.url));
    expect(id).toBe("SESSION:COMPLETE");
    expect(state).toMatchObject(held);
    expect(pave.requests.map(({ method }) => method)).toEqual(["GET", "POST", "GET"]);
  });

  test("is tried again where the lost request did nothing", async () => {
    await using pave = await openPave();
    pave.misbehave(null, "reset before effect");
    await lifecycle.create(declareAt(pave.url));
    expect(pave.requests.map(({ method }) => method)).toEqual(["GET", "POST", "GET", "POST"]);
  });

  test("does not claim what somebody else made while the answer was lost", async () => {
    const callbacks = new Map<string, unknown>();
    await using pave = await openPave(callbacks, (made) => ({
      ...made,
      url: "https://somebody.example/else",
    }));
    pave.misbehave(null, "reset after effect");
    await expect(lifecycle.create(declareAt(pave.url))).rejects.toMatchObject({ code: "answer_lost" });
    expect(pave.requests.map(({ method }) => method)).toEqual(["GET", "POST", "GET"]);
  });

  test("is not taken for gone when the address answers 404 for something else", async () => {
    await using elsewhere = await openVendorServer(() => ({ status: 404, json: { error: "nothing here" } }));
    const state = { ...declareAt(elsewhere.url) };
    await expect(lifecycle.read(declared.event, state)).rejects.toMatchObject({ code: "rejected" });
  });

  test.each([
    ["lists where PHP means empty maps", { headers: [], payload: [] }],
    ["null", { headers: null, payload: null }],
    ["nothing", {}],
    ["JSON text", { headers: "{}", payload: "[]" }],
  ])("reads empty headers and payload written as %s", async (_form, empty) => {
    const event = { event: declared.event, url: declared.url, ...empty };
    await using pave = await openPave(new Map([[declared.event, event]]));
    const found = await lifecycle.read(declared.event, { connection: { ...connection, url: pave.url } });
    expect(found?.state).toMatchObject({ method: "POST", headers: {}, payload: {} });
  });

  test("reads headers and payload written as JSON text", async () => {
    const text = { ...held, headers: JSON.stringify(held.headers), payload: JSON.stringify(held.payload) };
    await using pave = await openPave(new Map([[declared.event, text]]));
    const found = await lifecycle.read(declared.event, { connection: { ...connection, url: pave.url } });
    expect(found?.state).toMatchObject(held);
  });

  test("sends the event percent-encoded, and a token over the very timestamp it sends", async () => {
    await using pave = await openPave();
    const at = Date.parse("2021-05-30T12:49:19.512Z");
    await createLifecycle(callback, createTestHost({ now: () => at })).create(declareAt(pave.url));
    expect(pave.requests[0]).toMatchObject({
      path: "/callbacks/SESSION%3ACOMPLETE",
      headers: { "api-key": "key-1234", "api-timestamp": "2021-05-30T12:49:19Z" },
    });
  });
});
