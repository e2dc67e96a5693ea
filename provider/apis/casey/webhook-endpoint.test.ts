import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createHttpClient } from "../../http/client.ts";
import { openVendorServer, type VendorAnswer, type VendorRequest } from "../../http/vendor-server.suite.ts";
import { createLifecycle, InitFailedError } from "../../lifecycle.ts";
import { createTestHost, testResource } from "../../resource.suite.ts";
import { sendTestEvent } from "./actions.ts";
import { webhookEndpoint } from "./webhook-endpoint.ts";

const declared = {
  url: "https://example.com/hooks/casey",
  description: "Completed conversations",
  eventTypes: ["conversation.completed", "conversation.abandoned"],
};

testResource({
  resource: webhookEndpoint,
  connection: ({ url, credentials }) => ({ url: `${url}/casey/v1/backend`, ...credentials.casey }),
  wrongCredentials: { apiKey: "sk_test_wrong-key" },
  declared: { ...declared, replaceWhenDisabled: true },
  changed: {
    url: "https://example.com/hooks/other",
    description: "Others",
    eventTypes: ["conversation.started"],
    replaceWhenDisabled: false,
  },
  declarations: fc.record(
    {
      url: fc.webUrl({ withFragments: true, withQueryParameters: true }),
      description: fc.string(),
      eventTypes: fc.subarray(
        ["conversation.started", "conversation.completed", "conversation.abandoned", "test.event"],
        { minLength: 1 },
      ),
      replaceWhenDisabled: fc.boolean(),
    },
    { requiredKeys: ["url"] },
  ),
});

interface Held {
  id: string;
  url: string;
  description: string | null;
  event_types: string[];
  enabled: boolean;
  created_at: string;
  secret: string;
}

/** A Casey with one account; `clockOffsetMs` is how far its clock is ahead. */
async function openCasey(clockOffsetMs = 0) {
  const held = new Map<string, Held>();
  const now = () => new Date(Date.now() + clockOffsetMs);
  const shown = ({ secret: _, ...rest }: Held) => rest;
  const add = (given: Partial<Held>): Held => {
    const id = given.id ?? `wh_${held.size + 1}`;
    const made = {
      ...{ id, url: declared.url, description: declared.description, event_types: declared.eventTypes },
      ...{ enabled: true, created_at: now().toISOString(), secret: `whsec_${id}` },
      ...given,
    };
    held.set(id, made);
    return made;
  };
  const handle = ({ method, path, body }: VendorRequest): VendorAnswer => {
    const [, id = "", part] = /^\/webhooks(?:\/([^/]+))?(?:\/(\w+))?$/.exec(path) ?? [];
    const date = { date: now().toUTCString() };
    const reply = (status: number, data: unknown): VendorAnswer => ({
      status,
      headers: date,
      json: { data },
    });
    if (method === "POST" && id === "test") return reply(200, { success: true, message_id: "msg_test" });
    if (method === "POST") return reply(201, add(JSON.parse(body) as Partial<Held>));
    if (method === "GET" && id === "") return reply(200, [...held.values()].map(shown));
    const found = held.get(id);
    if (!found) return { status: 404, json: { error: { code: "not_found", message: "No such webhook" } } };
    if (method === "DELETE") {
      held.delete(id);
      return { status: 204 };
    }
    return part === "secret" ? reply(200, { secret: found.secret }) : reply(200, shown(found));
  };
  const server = await openVendorServer(handle);
  return {
    url: server.url,
    held,
    add,
    requests: server.requests,
    misbehave: server.misbehave,
    asked: () => server.requests.map(({ method, path }) => `${method} ${path}`),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

const http = createHttpClient({ limits: { baseDelayMs: 1, maxAttempts: 2, attemptTimeoutMs: 1_000 } });
const lifecycle = createLifecycle(webhookEndpoint, createTestHost({ http }));
const declareAt = (url: string, more: object = {}) =>
  lifecycle.check({ ...declared, ...more, connection: { url, apiKey: "sk_test_1234" } }).inputs;

describe("casey.WebhookEndpoint inputs", () => {
  const reasons = (values: object) =>
    lifecycle.check({ ...values, connection: { apiKey: "sk_test_1234" } }).failures;

  test("names every fault at once, each on its property", () => {
    expect(
      reasons({
        url: "/hooks",
        description: 7,
        eventTypes: ["conversation.complete", "test.event", "test.event"],
      }),
    ).toEqual([
      { property: "url", reason: expect.stringContaining('not "/hooks"') },
      { property: "description", reason: expect.stringContaining("expected string") },
      {
        property: "eventTypes[0]",
        reason: expect.stringContaining('did you mean "conversation.completed"?'),
      },
      { property: "eventTypes[2]", reason: '"test.event" is in the list twice' },
    ]);
  });

  test("refuses an empty list of event types", () => {
    expect(reasons({ url: declared.url, eventTypes: [] })).toEqual([
      { property: "eventTypes", reason: expect.stringContaining("at least one event type") },
    ]);
  });

  test("refuses credentials in the url, without repeating them", () => {
    const [failure] = reasons({ url: "https://user:canary@example.com/hooks" });
    expect(failure?.reason).toContain("must not hold credentials");
    expect(failure?.reason).not.toContain("canary");
  });
});

describe("casey.WebhookEndpoint is made once", () => {
  test("when all goes well, with one request and the secret of its answer", async () => {
    await using casey = await openCasey();
    const { state } = await lifecycle.create(declareAt(casey.url));
    expect(state).toMatchObject({ ...declared, secret: "whsec_wh_1", enabled: true });
    expect(casey.asked()).toEqual(["POST /webhooks"]);
  });

  test.each(["reset after effect", "truncated", "garbage", "nothing"] as const)(
    "when the answer to its creation was lost: %s",
    async (behavior) => {
      await using casey = await openCasey();
      casey.misbehave(behavior);
      // Only the reset had an effect; after the others the looks find nothing, and a second try makes it.
      const { id, state } = await lifecycle.create(declareAt(casey.url));
      expect(casey.held.size).toBe(1);
      expect(state).toMatchObject({ ...declared, secret: `whsec_${id}` });
    },
  );

  test("when the vendor's clock is an hour off", async () => {
    for (const offsetMs of [-3_600_000, 3_600_000]) {
      await using casey = await openCasey(offsetMs);
      casey.misbehave("reset after effect");
      await lifecycle.create(declareAt(casey.url));
      expect(casey.held.size).toBe(1);
    }
  });

  test("and never takes over an equal one from before", async () => {
    await using casey = await openCasey();
    casey.add({ id: "wh_old", created_at: new Date(Date.now() - 10_000).toISOString() });
    casey.misbehave("reset after effect");
    const { id } = await lifecycle.create(declareAt(casey.url));
    expect(id).not.toBe("wh_old");
    expect(casey.held.size).toBe(2);
  });

  test("and two equal ones whose answers were both lost are two", async () => {
    await using casey = await openCasey();
    casey.misbehave("reset after effect", "reset after effect");
    const inputs = declareAt(casey.url, { url: "https://example.com/twice" });
    const made = [await lifecycle.create(inputs), await lifecycle.create(inputs)];
    expect(new Set(made.map(({ id }) => id)).size).toBe(2);
    expect(casey.held.size).toBe(2);
  });

  test("and asks the user where several new ones could be it", async () => {
    await using casey = await openCasey();
    casey.misbehave("reset after effect");
    casey.add({ id: "wh_stranger", url: "https://example.com/ambiguous" });
    await expect(
      lifecycle.create(declareAt(casey.url, { url: "https://example.com/ambiguous" })),
    ).rejects.toMatchObject({
      code: "answer_lost",
      message: expect.stringContaining('"wh_stranger", "wh_2"'),
    });
  });

  test("and is not tried again where Casey refused it", async () => {
    await using casey = await openCasey();
    casey.misbehave({ status: 422, json: { error: { code: "validation_error", message: "No such event" } } });
    await expect(lifecycle.create(declareAt(casey.url))).rejects.toMatchObject({
      code: "rejected",
      message: expect.stringContaining("No such event (code validation_error)"),
    });
    expect(casey.asked()).toEqual(["POST /webhooks"]);
  });

  test("and is tried again where Casey asks to wait", async () => {
    await using casey = await openCasey();
    casey.misbehave({ status: 429, headers: { "retry-after": "0" } });
    await lifecycle.create(declareAt(casey.url));
    expect(casey.held.size).toBe(1);
  });

  test("and an error says where to look when Casey stays away after a lost answer", async () => {
    await using casey = await openCasey();
    casey.misbehave("reset before effect", { status: 500 });
    await expect(lifecycle.create(declareAt(casey.url))).rejects.toMatchObject({
      code: "answer_lost",
      message: expect.stringContaining("Look at Casey whether the endpoint is there"),
    });
  });

  test("and keeps its id when only its secret could not be read", async () => {
    await using casey = await openCasey();
    casey.misbehave(
      { status: 201, json: { data: { ...casey.add({}), secret: undefined } } },
      { status: 500 },
    );
    const failed = await lifecycle.create(declareAt(casey.url)).catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(InitFailedError);
    const { made } = failed as InitFailedError;
    expect(made.id).toBe("wh_1");
    expect((await lifecycle.read(made.id, made.state))?.state.secret).toBe("whsec_wh_1");
  });
});

describe("casey.WebhookEndpoint keeps its secret", () => {
  test("which an import reads", async () => {
    await using casey = await openCasey();
    casey.add({ id: "wh_1" });
    const { connection } = declareAt(casey.url);
    expect((await lifecycle.read("wh_1", { connection }))?.state.secret).toBe("whsec_wh_1");
  });

  test.each([
    ["masked", { status: 200, json: { data: { secret: "whsec_****" } } }],
    ["forbidden to read", { status: 403, json: { error: { code: "forbidden", message: "No" } } }],
  ])("when a refresh finds it %s", async (_name, answer) => {
    await using casey = await openCasey();
    const { id, state } = await lifecycle.create(declareAt(casey.url));
    casey.misbehave(null, answer);
    expect((await lifecycle.read(id, state))?.state).toEqual(state);
  });

  test("unless Casey has another one now", async () => {
    await using casey = await openCasey();
    const { id, state } = await lifecycle.create(declareAt(casey.url));
    casey.add({ ...casey.held.get(id), secret: "whsec_rotated" });
    expect((await lifecycle.read(id, state))?.state.secret).toBe("whsec_rotated");
  });
});

describe("casey.WebhookEndpoint that somebody disabled", () => {
  async function disabled(replaceWhenDisabled: boolean) {
    const casey = await openCasey();
    const told: string[] = [];
    const watched = createLifecycle(
      webhookEndpoint,
      createTestHost({ http, log: (severity, message) => told.push(`${severity}: ${message}`) }),
    );
    const inputs = declareAt(casey.url, { replaceWhenDisabled });
    const { id, state } = await watched.create(inputs);
    expect((await watched.diff(id, state, inputs)).action).toBe("none");
    casey.add({ ...casey.held.get(id), enabled: false });
    const found = await watched.read(id, state);
    await casey[Symbol.asyncDispose]();
    const compare = () => watched.diff(id, found?.state ?? {}, inputs);
    return { told, found, diff: await compare(), next: await compare() };
  }

  test("shows as drift, with a warning that only a replacement repairs it", async () => {
    const { told, found, diff, next } = await disabled(false);
    expect(found?.state.enabled).toBe(false);
    expect(told.join()).toContain("warning: ");
    expect(told.join()).toContain("pulumi up --replace <urn>");
    // The refresh that finds it shows it; an update that could not repair it is not asked for.
    expect(diff).toMatchObject({ action: "update", properties: ["enabled"], replaces: [] });
    expect(next.action).toBe("none");
  });

  test("is replaced where the program asks for that", async () => {
    const { told, diff } = await disabled(true);
    expect(diff).toMatchObject({
      action: "replace",
      replaces: ["replaceWhenDisabled"],
      deleteBeforeReplace: false,
    });
    expect(told).toEqual([]);
  });
});

describe("casey.WebhookEndpoint reads what Casey writes differently", () => {
  test("a description of null, another order and spelling are no change", async () => {
    await using casey = await openCasey();
    const inputs = declareAt(casey.url, { url: "https://Example.com", description: "" });
    const { id, state } = await lifecycle.create(inputs);
    casey.add({
      ...casey.held.get(id),
      url: "https://example.com/",
      description: null,
      event_types: declared.eventTypes.toReversed(),
    });
    const found = await lifecycle.read(id, state);
    expect((await lifecycle.diff(id, found?.state ?? {}, inputs)).changes).toEqual({});
  });
});

describe("sendTestEvent()", () => {
  test("sends the account's test event and answers its id", async () => {
    await using casey = await openCasey();
    await expect(sendTestEvent({ url: casey.url, apiKey: "sk_test_1234" })).resolves.toBe("msg_test");
    expect(casey.requests[0]).toMatchObject({
      method: "POST",
      path: "/webhooks/test",
      headers: { authorization: "Bearer sk_test_1234" },
    });
  });

  test("says what is wrong with the account", async () => {
    await expect(sendTestEvent({ url: "example.com", apiKey: "" })).rejects.toMatchObject({
      code: "invalid_input",
      message: expect.stringMatching(/url: .*; apiKey: /) as string,
    });
  });
});
