import { describe, expect, test } from "vitest";
import type { Application } from "../core/application.ts";
import type { Attempt, Delivery } from "../core/delivery.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { EndpointState } from "../core/endpoint-state.ts";
import type { Message } from "../core/message.ts";
import { emptyPolicy } from "../core/policy.ts";
import {
  ConflictError,
  MissingError,
  StaleError,
  type Acceptance,
  type EventType,
  type NewDelivery,
  type Outcome,
  type Store,
  type StoreChanges,
  type Task,
} from "./store.ts";

const application: Application = {
  id: "app_1",
  organizationId: "default",
  uid: "shop",
  name: "Shop",
  dialect: "svix",
  throttleRate: 5,
  policy: { ...emptyPolicy, retryDelaysMs: [1_000, 2_000], successStatuses: [200, 304] },
  metadata: { team: "web" },
  createdAt: 1_000,
  updatedAt: 2_000,
};

const endpoint: Endpoint = {
  id: "ep_1",
  applicationId: "app_1",
  uid: "main",
  url: "https://example.com/hook",
  description: "the hook",
  filterTypes: ["order.paid"],
  channels: null,
  headers: { authorization: "Bearer canary-header" },
  disabled: false,
  throttleRate: null,
  policy: { ...emptyPolicy, order: "key", whenExhausted: "skip" },
  tls: { certificate: "certificate", key: "canary-key", ca: null },
  version: 1,
  metadata: { a: "b" },
  settings: { method: "POST", preWebhookUrl: "https://example.com/pre" },
  secrets: [{ key: "whsec_canary", expiresAt: null }],
  createdAt: 1_000,
  updatedAt: 1_000,
};

const message: Message = {
  id: "msg_1",
  applicationId: "app_1",
  eventType: "order.paid",
  eventId: "order-1",
  channels: ["eu"],
  tags: ["first"],
  orderingKey: "customer-1",
  payload: new Uint8Array(Buffer.from('{ "amount": 1.0, "\u00e9": "\\u0000" }')),
  payloadExpiresAt: 900_000,
  createdAt: 3_000,
};

const newDelivery: NewDelivery = {
  messageId: "msg_1",
  endpointId: "ep_1",
  applicationId: "app_1",
  state: "pending",
  attempts: 0,
  nextAttemptAt: 3_000,
  leasedBy: null,
  trigger: "scheduled",
  order: null,
};

const { order: _order, ...unplaced } = newDelivery;
const delivery: Delivery = { ...unplaced, place: null };

const attempt: Attempt = {
  id: "atmpt_1",
  messageId: "msg_1",
  endpointId: "ep_1",
  applicationId: "app_1",
  url: "https://example.com/hook",
  succeeded: false,
  responseStatusCode: 503,
  response: "later",
  durationMs: 12,
  trigger: "scheduled",
  startedAt: 3_100,
};

const eventType: EventType = {
  organizationId: "default",
  name: "order.paid",
  description: "An order was paid",
  archived: false,
  deprecated: true,
  schemas: '{"1":{}}',
  featureFlags: ["beta"],
  groupName: "orders",
  createdAt: 1,
  updatedAt: 2,
};

const task: Task = {
  id: "qtask_1",
  organizationId: "default",
  applicationId: "app_1",
  kind: "endpoint.recover",
  input: '{"since":1}',
  cursor: null,
  status: "running",
  done: 0,
  total: 10,
  error: null,
  leasedBy: null,
  createdAt: 1,
  updatedAt: 2,
};

const all = { limit: 100 };
const node = 7;

/** How an acceptance of the message `id` to the one endpoint looks; `given` changes the rest. */
function anAcceptance(
  id: string,
  {
    version,
    deliveries = [{}],
    answer = null,
    ...given
  }: Partial<Message> & {
    version: number;
    deliveries?: readonly Partial<NewDelivery>[];
    answer?: Acceptance["answer"];
  },
): Acceptance {
  const accepted = { ...message, eventId: null, ...given, id };
  return {
    message: accepted,
    version,
    deliveries: deliveries.map((each) => ({
      ...newDelivery,
      leasedBy: node,
      applicationId: accepted.applicationId,
      ...each,
      messageId: id,
    })),
    answer,
  };
}

/** What every store promises, whatever database is behind it. `open` answers an empty one, closed by its owner. */
export function describeStore(name: string, open: () => Promise<Store>): void {
  const openFilled = async (): Promise<Store> => {
    const store = await open();
    await store.write(async (tx) => {
      await tx.applications.insert(application);
      await tx.endpoints.insert(endpoint);
      await tx.messages.insert(message);
      await tx.deliveries.insert([newDelivery]);
      await tx.attempts.insert([attempt]);
    });
    return store;
  };

  /** With an application and its endpoints, and the version that acceptances need. */
  const openReady = async (endpointIds = ["ep_1"]): Promise<{ store: Store; version: number }> => {
    const store = await open();
    await store.write(async (tx) => {
      await tx.applications.insert(application);
      for (const id of endpointIds) await tx.endpoints.insert({ ...endpoint, id, uid: null });
    });
    return { store, version: await versionOf(store, "app_1") };
  };

  const versionOf = async (store: Store, id: string): Promise<number> =>
    (await store.read((tx) => tx.applications.get(id)))?.version ?? 0;

  const findDelivery = (
    store: Store,
    messageId: string,
    endpointId = "ep_1",
  ): Promise<Delivery | undefined> => store.read((tx) => tx.deliveries.find(messageId, endpointId));

  const claimIds = async (store: Store, now: number, limit = 100, endpointId = "ep_1"): Promise<string[]> =>
    (await store.claim([{ endpointId, limit }], node, now)).due.map((due) => due.message.id);

  describe(`${name}: what was written is read back as it was`, () => {
    test("applications, by id and by uid, in their organization only", async () => {
      const store = await openFilled();
      expect(await store.read((tx) => tx.applications.find("default", "app_1"))).toEqual(application);
      expect(await store.read((tx) => tx.applications.find("default", "shop"))).toEqual(application);
      expect(await store.read((tx) => tx.applications.find("default", "nope"))).toBeUndefined();
      expect(await store.read((tx) => tx.applications.find("other", "app_1"))).toBeUndefined();
      expect((await store.read((tx) => tx.applications.get("app_1")))?.application).toEqual(application);
    });

    test("endpoints with their secrets, by id and by uid, in their application only", async () => {
      const store = await openFilled();
      expect(await store.read((tx) => tx.endpoints.find("app_1", "ep_1"))).toEqual(endpoint);
      expect(await store.read((tx) => tx.endpoints.find("app_1", "main"))).toEqual(endpoint);
      expect(await store.read((tx) => tx.endpoints.find("app_2", "ep_1"))).toBeUndefined();
      expect(await store.read((tx) => tx.endpoints.list("app_1"))).toEqual([endpoint]);
    });

    test("messages with the payload's very bytes, by id and by event id", async () => {
      const store = await openFilled();
      const found = await store.read((tx) => tx.messages.find("app_1", "msg_1"));
      expect(found).toEqual(withBytes(found, message));
      expect(bytesOf(found)).toEqual(bytesOf(message));
      expect(await store.read((tx) => tx.messages.find("app_1", "order-1"))).toEqual(found);
      expect(await store.read((tx) => tx.messages.find("app_2", "msg_1"))).toBeUndefined();
    });

    test("deliveries, attempts, event types and tasks", async () => {
      const store = await openFilled();
      await store.write(async (tx) => {
        await tx.eventTypes.insert(eventType);
        await tx.tasks.insert(task);
      });
      expect(await findDelivery(store, "msg_1")).toEqual(delivery);
      expect(await store.read((tx) => tx.deliveries.listByMessage("msg_1"))).toEqual([delivery]);
      expect(await store.read((tx) => tx.attempts.find("msg_1", "atmpt_1"))).toEqual(attempt);
      expect(await store.read((tx) => tx.eventTypes.find("default", "order.paid"))).toEqual(eventType);
      expect(await store.read((tx) => tx.eventTypes.find("other", "order.paid"))).toBeUndefined();
      expect(await store.read((tx) => tx.tasks.find("default", "qtask_1"))).toEqual(task);
      expect(await store.read((tx) => tx.tasks.find("other", "qtask_1"))).toBeUndefined();
    });

    test("whatever numbers and texts there are in it", async () => {
      const { store, version } = await openReady();
      const response = "caf\u00e9 \u{1f600} 'quoted' \"twice\" \\ {a,b} $1 ? \n";
      const largest = Number.MAX_SAFE_INTEGER;
      await store.accept(
        anAcceptance("msg_2", { version, createdAt: largest, payload: randomPayload(70_000) }),
      );
      const outcome: Outcome = {
        attempt: { ...attempt, messageId: "msg_2", response, startedAt: largest },
        delivery: { ...delivery, messageId: "msg_2", attempts: 1, nextAttemptAt: largest, leasedBy: null },
        node,
        now: largest,
        endpointState: null,
      };
      expect(await store.settle(outcome)).toBe(true);
      const [stored, attempted] = await store.read(async (tx) => [
        await tx.messages.find("app_1", "msg_2"),
        await tx.attempts.find("msg_2", "atmpt_1"),
      ]);
      expect(stored).toMatchObject({ createdAt: largest });
      expect(bytesOf(stored)).toEqual(bytesOf({ payload: randomPayload(70_000) }));
      expect(attempted).toEqual(outcome.attempt);
      expect(await findDelivery(store, "msg_2")).toEqual(outcome.delivery);
    });

    test("a NUL in a receiver's answer spoils neither the answer nor what is stored with it", async () => {
      const { store, version } = await openReady();
      await store.accept(anAcceptance("msg_2", { version }));
      const settled = await store.settle({
        attempt: { ...attempt, messageId: "msg_2", response: "a\0b" },
        delivery: { ...delivery, messageId: "msg_2", state: "succeeded", nextAttemptAt: null },
        node,
        now: 1,
        endpointState: null,
      });
      expect(settled).toBe(true);
      const found = await store.read((tx) => tx.attempts.find("msg_2", "atmpt_1"));
      expect(found?.response).toMatch(/^a[\0\ufffd]b$/);
    });
  });

  describe(`${name}: changes`, () => {
    test("update and delete tell whether the row was there", async () => {
      const store = await openFilled();
      const changed = { ...application, name: "Store", uid: null, updatedAt: 9 };
      expect(await store.write((tx) => tx.applications.update(changed))).toBe(true);
      expect(await store.read((tx) => tx.applications.find("default", "app_1"))).toEqual(changed);
      expect(await store.write((tx) => tx.applications.update({ ...changed, id: "app_9" }))).toBe(false);

      const moved = {
        ...endpoint,
        url: "https://example.com/new",
        ...{ headers: {}, secrets: [], disabled: true, tls: null, policy: emptyPolicy },
      };
      expect(await store.write((tx) => tx.endpoints.update(moved))).toBe(true);
      expect(await store.read((tx) => tx.endpoints.find("app_1", "ep_1"))).toEqual(moved);

      await store.write((tx) => tx.eventTypes.insert(eventType));
      const archived = { ...eventType, archived: true, schemas: null, featureFlags: null };
      expect(await store.write((tx) => tx.eventTypes.update(archived))).toBe(true);
      expect(await store.read((tx) => tx.eventTypes.find("default", "order.paid"))).toEqual(archived);
      expect(await store.write((tx) => tx.eventTypes.delete("default", "order.paid"))).toBe(true);
      expect(await store.write((tx) => tx.eventTypes.delete("default", "order.paid"))).toBe(false);
    });

    test("an application's version tells of each change to it and to its endpoints, and of no other", async () => {
      const store = await openFilled();
      await store.write((tx) => tx.applications.insert({ ...application, id: "app_2", uid: null }));
      const seen = [await versionOf(store, "app_1")];
      for (const change of [
        () => store.write((tx) => tx.applications.update(application)),
        () => store.write((tx) => tx.endpoints.insert({ ...endpoint, id: "ep_2", uid: null })),
        () => store.write((tx) => tx.endpoints.update(endpoint)),
        () => store.write((tx) => tx.endpoints.delete("ep_2")),
      ]) {
        await change();
        seen.push(await versionOf(store, "app_1"));
      }
      expect(new Set(seen).size).toBe(5);
      await store.write((tx) => tx.messages.insert({ ...message, id: "msg_9", eventId: null }));
      expect(await versionOf(store, "app_1")).toBe(seen.at(-1));
      const versions = await store.read((tx) => tx.applications.versions(["app_1", "app_2", "app_9"]));
      expect([...versions.keys()].sort()).toEqual(["app_1", "app_2"]);
      expect(versions.get("app_1")).toBe(seen.at(-1));
    });

    test("an application takes its endpoints along, and nobody else's", async () => {
      const store = await openFilled();
      await store.write(async (tx) => {
        await tx.applications.insert({ ...application, id: "app_2", uid: null });
        await tx.endpoints.insert({ ...endpoint, id: "ep_2", applicationId: "app_2" });
      });
      expect(await store.write((tx) => tx.applications.delete("app_1"))).toBe(true);
      expect(await store.write((tx) => tx.applications.delete("app_1"))).toBe(false);
      expect(await store.read((tx) => tx.endpoints.find("app_1", "ep_1"))).toBeUndefined();
      expect(await store.read((tx) => tx.endpoints.find("app_2", "ep_2"))).toBeDefined();
    });

    test("an endpoint's attempts stay on record when it goes", async () => {
      const store = await openFilled();
      expect(await store.write((tx) => tx.endpoints.delete("ep_1"))).toBe(true);
      expect(await store.write((tx) => tx.endpoints.delete("ep_1"))).toBe(false);
      expect(await store.read((tx) => tx.attempts.find("msg_1", "atmpt_1"))).toEqual(attempt);
    });

    test("a delivery for an endpoint that is gone is not stored", async () => {
      const store = await openFilled();
      await store.write((tx) => tx.deliveries.insert([{ ...newDelivery, endpointId: "ep_gone" }]));
      expect(await findDelivery(store, "msg_1", "ep_gone")).toBeUndefined();
    });

    test("what a uniqueness rule forbids is a conflict", async () => {
      const store = await openFilled();
      await store.write((tx) => tx.eventTypes.insert(eventType));
      const conflicts = [
        store.write((tx) => tx.applications.insert({ ...application, id: "app_2" })),
        store.write((tx) => tx.applications.insert({ ...application, uid: null })),
        store.write((tx) => tx.endpoints.insert({ ...endpoint, id: "ep_2" })),
        store.write((tx) => tx.messages.insert({ ...message, id: "msg_2" })),
        store.write((tx) => tx.messages.insert({ ...message, eventId: null })),
        store.write((tx) => tx.eventTypes.insert(eventType)),
        store.write((tx) => tx.organizations.insert({ id: "default", name: "", createdAt: 1 })),
      ];
      const rules = (await Promise.allSettled(conflicts)).map((result) =>
        result.status === "rejected" && result.reason instanceof ConflictError ? result.reason.rule : result,
      );
      expect(rules).toEqual([
        "applications.organization_id, applications.uid",
        "applications.id",
        "endpoints.application_id, endpoints.uid",
        "messages.application_id, messages.event_id",
        "messages.application_id, messages.id",
        "event_types.organization_id, event_types.name",
        "organizations.id",
      ]);
    });

    test("an endpoint of an application that is gone is refused", async () => {
      const store = await open();
      await expect(store.write((tx) => tx.endpoints.insert(endpoint))).rejects.toThrow(MissingError);
    });

    test("payloads and answers are taken away for good, and the rest stays", async () => {
      const store = await openFilled();
      expect(await store.write((tx) => tx.messages.expunge("app_1", "msg_1"))).toBe(true);
      expect(await store.write((tx) => tx.messages.expunge("app_2", "msg_1"))).toBe(false);
      expect(await store.read((tx) => tx.messages.find("app_1", "msg_1"))).toEqual({
        ...message,
        payload: null,
        payloadExpiresAt: null,
      });
      expect(await store.write((tx) => tx.attempts.expunge("msg_1", "atmpt_1"))).toBe(true);
      expect(await store.read((tx) => tx.attempts.find("msg_1", "atmpt_1"))).toEqual({
        ...attempt,
        response: expect.not.stringContaining("later") as string,
      });
    });
  });

  describe(`${name}: lists`, () => {
    test("come in pages in both directions, sorted byte by byte", async () => {
      const store = await open();
      const ids = ["app_1", "app_2", "app_3", "app_B", "app_a"];
      await store.write(async (tx) => {
        for (const id of ids.toReversed()) await tx.applications.insert({ ...application, id, uid: null });
      });
      const page = async (options: { after?: string; descending?: boolean }): Promise<string[]> =>
        (await store.read((tx) => tx.applications.list("default", { limit: 2, ...options }))).map(
          ({ id }) => id,
        );
      expect(await page({})).toEqual(["app_1", "app_2"]);
      expect(await page({ after: "app_B" })).toEqual(["app_a"]);
      expect(await page({ descending: true })).toEqual(["app_a", "app_B"]);
      expect(await page({ descending: true, after: "app_2" })).toEqual(["app_1"]);
      expect(await store.read((tx) => tx.applications.list("other", all))).toEqual([]);
    });

    test("endpoints are found by the URL they send to, wherever it stands", async () => {
      const store = await openFilled();
      await store.write((tx) => tx.endpoints.insert({ ...endpoint, id: "ep_2", uid: null, settings: {} }));
      const idsOf = async (url: string): Promise<string[]> =>
        (await store.read((tx) => tx.endpoints.listByUrl(url))).map(({ id }) => id);
      expect(await idsOf("https://example.com/hook")).toEqual(["ep_1", "ep_2"]);
      expect(await idsOf("https://example.com/pre")).toEqual(["ep_1"]);
      expect(await idsOf("https://example.com/other")).toEqual([]);

      const url = "https://user:password@example.com/elsewhere?a=b#rc=2";
      await store.write((tx) => tx.endpoints.update({ ...endpoint, url }));
      expect(await idsOf("https://example.com/elsewhere?a=b")).toEqual(["ep_1"]);
      expect(await idsOf("https://example.com/hook")).toEqual(["ep_2"]);
    });

    test("messages by event type, channel, tag and time", async () => {
      const store = await openFilled();
      await store.write((tx) =>
        tx.messages.insert({
          ...{ ...message, id: "msg_2", eventType: "b", eventId: null },
          ...{ channels: null, tags: [], createdAt: 9_000 },
        }),
      );
      const idsOf = async (filter: object): Promise<string[]> =>
        (await store.read((tx) => tx.messages.list({ applicationId: "app_1", ...filter }, all))).map(
          ({ id }) => id,
        );
      expect(await idsOf({})).toEqual(["msg_1", "msg_2"]);
      expect(await idsOf({ eventTypes: ["b", "c"] })).toEqual(["msg_2"]);
      expect(await idsOf({ eventTypes: [] })).toEqual([]);
      expect(await idsOf({ eventTypes: ["b\0", "\\u0000", "b"] })).toEqual(["msg_2"]);
      expect(await idsOf({ channel: "eu" })).toEqual(["msg_1"]);
      expect(await idsOf({ channel: "e" })).toEqual([]);
      expect(await idsOf({ channel: "eu\0" })).toEqual([]);
      expect(await idsOf({ tag: "first" })).toEqual(["msg_1"]);
      expect(await idsOf({ before: 9_000 })).toEqual(["msg_1"]);
      expect(await idsOf({ after: 3_000 })).toEqual(["msg_2"]);
      expect(await idsOf({ applicationId: "app_2" })).toEqual([]);
    });

    test("attempts by message, endpoint, outcome, status class, time and what the message is", async () => {
      const store = await openFilled();
      await store.write((tx) =>
        tx.attempts.insert([
          { ...attempt, id: "atmpt_2", succeeded: true, responseStatusCode: 204, startedAt: 9_000 },
        ]),
      );
      const idsOf = async (filter: object): Promise<string[]> =>
        (await store.read((tx) => tx.attempts.list({ applicationId: "app_1", ...filter }, all))).map(
          ({ id }) => id,
        );
      expect(await idsOf({ messageId: "msg_1" })).toEqual(["atmpt_1", "atmpt_2"]);
      expect(await idsOf({ endpointId: "ep_1", succeeded: true })).toEqual(["atmpt_2"]);
      expect(await idsOf({ endpointId: "ep_1", statusCodeClass: 500 })).toEqual(["atmpt_1"]);
      expect(await idsOf({ endpointId: "ep_1", before: 9_000 })).toEqual(["atmpt_1"]);
      expect(await idsOf({ endpointId: "ep_1", after: 3_100 })).toEqual(["atmpt_2"]);
      expect(
        await idsOf({ endpointId: "ep_1", eventTypes: ["order.paid"], channel: "eu", tag: "first" }),
      ).toHaveLength(2);
      expect(await idsOf({ endpointId: "ep_1", eventTypes: ["other"] })).toEqual([]);
      expect(await idsOf({ endpointId: "ep_1", channel: "us" })).toEqual([]);
    });

    test("an endpoint's deliveries come with their messages, and are counted by state", async () => {
      const store = await openFilled();
      await store.write(async (tx) => {
        await tx.messages.insert({ ...message, id: "msg_2", eventId: null, createdAt: 9_000 });
        await tx.deliveries.insert([{ ...newDelivery, messageId: "msg_2", state: "failed" }]);
      });
      const list = async (filter: object) =>
        (
          await store.read((tx) =>
            tx.deliveries.listByEndpoint("ep_1", { applicationId: "app_1", ...filter }, all),
          )
        ).map((due) => [due.delivery, due.message.id]);
      expect(await list({ before: 9_000 })).toEqual([[delivery, "msg_1"]]);
      expect(await list({ state: "pending", channel: "eu" })).toHaveLength(1);
      expect(await list({ state: "succeeded" })).toEqual([]);
      const count = (times: { since: number; until: number }, stretch = { after: "", limit: 10 }) =>
        store.read((tx) => tx.deliveries.countByEndpoint("ep_1", times, stretch));
      const ever = { since: 0, until: 9_000 };
      const counts = { failed: 1, pending: 1 };
      expect(await count(ever)).toEqual({ counts: new Map(Object.entries(counts)), after: null });
      expect((await count({ since: 3_001, until: 9_000 })).counts).toEqual(new Map([["failed", 1]]));
      const first = await count(ever, { after: "", limit: 1 });
      expect(first).toEqual({ counts: new Map([["pending", 1]]), after: "msg_1" });
      const second = await count(ever, { after: "msg_1", limit: 1 });
      expect(second).toEqual({ counts: new Map([["failed", 1]]), after: "msg_2" });
      expect(await count(ever, { after: "msg_2", limit: 1 })).toEqual({ counts: new Map(), after: null });
      expect(await store.read((tx) => tx.deliveries.countPending())).toEqual(new Map([["app_1", 1]]));
      // Its place is the endpoint's, whatever the message has for those that go by its key.
      await store.write(async (tx) => {
        await tx.messages.insert({
          ...message,
          id: "msg_3",
          eventId: null,
          orderingKey: "k",
          createdAt: 10_000,
        });
        await tx.deliveries.insert([{ ...newDelivery, messageId: "msg_3", state: "succeeded", order: "" }]);
      });
      const [ordered] = await store.read((tx) =>
        tx.deliveries.listByEndpoint("ep_1", { applicationId: "app_1", state: "succeeded" }, all),
      );
      expect(ordered).toMatchObject({ delivery: { place: { key: "" } }, message: { orderingKey: "k" } });
    });

    test("archived event types are listed where they are asked for", async () => {
      const store = await open();
      await store.write(async (tx) => {
        await tx.eventTypes.insert(eventType);
        await tx.eventTypes.insert({ ...eventType, name: "old", archived: true });
      });
      const namesOf = async (includeArchived: boolean): Promise<string[]> =>
        (await store.read((tx) => tx.eventTypes.list("default", { ...all, includeArchived }))).map(
          (type) => type.name,
        );
      expect(await namesOf(false)).toEqual(["order.paid"]);
      expect(await namesOf(true)).toEqual(["old", "order.paid"]);
    });
  });

  describe(`${name}: accepted events`, () => {
    const answer = { key: "k", requestHash: "h", status: 202, body: "{}", expiresAt: 20_000 };

    test("are there with all that belongs to them", async () => {
      const { store, version } = await openReady(["ep_1", "ep_2"]);
      const acceptance = anAcceptance("msg_1", {
        ...{ version, answer, eventId: "order-1" },
        deliveries: [{}, { endpointId: "ep_2", leasedBy: null, nextAttemptAt: 4_000 }],
      });
      await store.accept(acceptance);
      const found = await store.read((tx) => tx.messages.find("app_1", "msg_1"));
      expect(found).toEqual(withBytes(found, message));
      expect(bytesOf(found)).toEqual(bytesOf(message));
      expect(await store.read((tx) => tx.deliveries.listByMessage("msg_1"))).toEqual([
        { ...delivery, leasedBy: node },
        { ...delivery, endpointId: "ep_2", nextAttemptAt: 4_000 },
      ]);
      const kept = await store.read((tx) => tx.idempotency.find("k", 10_000));
      expect(kept).toEqual({ requestHash: "h", status: 202, body: "{}" });
    });

    test("may have no endpoint to go to, no payload and no channels", async () => {
      const { store, version } = await openReady();
      const bare = { payload: null, channels: null, tags: [], orderingKey: null, payloadExpiresAt: null };
      await store.accept(anAcceptance("msg_2", { version, deliveries: [], ...bare }));
      expect(await store.read((tx) => tx.messages.find("app_1", "msg_2"))).toMatchObject(bare);
      expect(await store.read((tx) => tx.deliveries.listByMessage("msg_2"))).toEqual([]);
    });

    test("are refused, one by one, where the application has changed since or what they name is taken", async () => {
      const { store, version } = await openReady();
      await store.accept(anAcceptance("msg_0", { version, eventId: "taken", answer }));
      const of = (n: number, more: object): Promise<void> =>
        store.accept(anAcceptance(`msg_${n}`, { version, ...more }));
      const results = await Promise.allSettled([
        of(1, {}),
        of(2, { version: version - 1 }),
        of(3, { eventId: "taken" }),
        of(4, { answer }),
        of(5, { applicationId: "app_9" }),
        of(6, { eventId: "taken", answer: { ...answer, key: "free" } }),
        of(7, { eventId: "new", answer: { ...answer, key: "new" } }),
        of(8, { version: version - 1, eventId: "taken", answer }),
        of(9, {}),
      ]);
      const outcomes = results.map((result) =>
        result.status === "fulfilled"
          ? "stored"
          : result.reason instanceof ConflictError
            ? result.reason.rule
            : (result.reason as Error).name,
      );
      const eventRule = "messages.application_id, messages.event_id";
      expect(outcomes).toEqual([
        ...["stored", "StaleError", eventRule, "idempotency.key", "StaleError", eventRule],
        ...["stored", "StaleError", "stored"],
      ]);
      const stored = await store.read((tx) => tx.messages.list({ applicationId: "app_1" }, all));
      expect(stored.map(({ id }) => id)).toEqual(["msg_0", "msg_1", "msg_7", "msg_9"]);
      const held = await Promise.all(results.map((_, index) => findDelivery(store, `msg_${index + 1}`)));
      expect(held.map((found) => found !== undefined)).toEqual(
        outcomes.map((outcome) => outcome === "stored"),
      );
      const kept = (key: string) => store.read((tx) => tx.idempotency.find(key, 10_000));
      expect(await kept("free")).toBeUndefined();
      expect(await kept("new")).toBeDefined();
    });

    test("are refused one by one also where none of them has an event id, and where they are in order", async () => {
      for (const order of [null, "k"]) {
        const { store, version } = await openReady();
        const deliveries = [{ order, leasedBy: order === null ? node : null }];
        await store.accept(anAcceptance("msg_0", { version, answer, deliveries }));
        const free = (key: string) => ({ ...answer, key });
        const results = await Promise.allSettled([
          store.accept(anAcceptance("msg_1", { version, deliveries, answer: free("a") })),
          store.accept(anAcceptance("msg_2", { version, deliveries, answer })),
          store.accept(anAcceptance("msg_3", { version: 0, deliveries, answer: free("b") })),
          store.accept(anAcceptance("msg_4", { version, deliveries })),
          store.accept(anAcceptance("msg_5", { version, deliveries, answer: free("c") })),
        ]);
        expect(results.map(({ status }) => status)).toEqual([
          ...["fulfilled", "rejected", "rejected", "fulfilled", "fulfilled"],
        ]);
        const stored = await store.read((tx) => tx.messages.list({ applicationId: "app_1" }, all));
        expect(stored.map(({ id }) => id)).toEqual(["msg_0", "msg_1", "msg_4", "msg_5"]);
        expect(await findDelivery(store, "msg_5")).toBeDefined();
        expect(await findDelivery(store, "msg_2")).toBeUndefined();
        const kept = await store.read(async (tx) => [
          await tx.idempotency.find("a", 10_000),
          await tx.idempotency.find("b", 10_000),
          await tx.idempotency.find("c", 10_000),
        ]);
        expect(kept.map((found) => found !== undefined)).toEqual([true, false, true]);
      }
    });

    test("with an id that is taken are conflicts, and those beside them are stored", async () => {
      const { store, version } = await openReady();
      await store.accept(anAcceptance("msg_1", { version }));
      const results = await Promise.allSettled([
        store.accept(anAcceptance("msg_2", { version })),
        store.accept(anAcceptance("msg_1", { version })),
        store.accept(anAcceptance("msg_3", { version })),
      ]);
      expect(results).toMatchObject([
        { status: "fulfilled" },
        { status: "rejected", reason: { rule: "messages.application_id, messages.id" } },
        { status: "fulfilled" },
      ]);
    });

    test("of one event, or with one key, are stored once, however close they come", async () => {
      const { store, version } = await openReady();
      const settle = async (acceptances: readonly Acceptance[]): Promise<string[]> =>
        (await Promise.allSettled(acceptances.map((acceptance) => store.accept(acceptance)))).map(
          ({ status }) => status,
        );
      const events = Array.from({ length: 10 }, (_, n) =>
        anAcceptance(`msg_e${n}`, { version, eventId: "one" }),
      );
      expect((await settle(events)).filter((status) => status === "fulfilled")).toHaveLength(1);
      const keyed = Array.from({ length: 10 }, (_, n) => anAcceptance(`msg_k${n}`, { version, answer }));
      expect((await settle(keyed)).filter((status) => status === "fulfilled")).toHaveLength(1);
      expect(await store.read((tx) => tx.messages.list({ applicationId: "app_1" }, all))).toHaveLength(2);
    });

    test("take the place of a kept answer whose time is over", async () => {
      const { store, version } = await openReady();
      await store.accept(anAcceptance("msg_1", { version, answer: { ...answer, expiresAt: 3_000 } }));
      await store.accept(
        anAcceptance("msg_2", { version, createdAt: 3_000, answer: { ...answer, body: "[]" } }),
      );
      expect(await store.read((tx) => tx.idempotency.find("k", 3_000))).toMatchObject({ body: "[]" });
    });

    test("many at once are all kept", async () => {
      const { store, version } = await openReady();
      const ids = Array.from({ length: 2_000 }, (_, index) => `msg_${String(index).padStart(4, "0")}`);
      await Promise.all(ids.map((id) => store.accept(anAcceptance(id, { version }))));
      const stored = await store.read((tx) => tx.messages.list({ applicationId: "app_1" }, { limit: 5_000 }));
      expect(stored.map(({ id }) => id)).toEqual(ids);
      expect(await store.read((tx) => tx.deliveries.countPending())).toEqual(new Map([["app_1", 2_000]]));
    });

    test("tell when those that nobody holds are due", async () => {
      const { store, version } = await openReady(["ep_1", "ep_2", "ep_3"]);
      const heard = listen(store);
      await store.accept(
        anAcceptance("msg_1", {
          version,
          deliveries: [
            { leasedBy: null, nextAttemptAt: 9_000 },
            { endpointId: "ep_2" },
            { endpointId: "ep_3", leasedBy: null, nextAttemptAt: null },
          ],
        }),
      );
      expect(heard.dueEndpoints()).toEqual({ ep_1: { applicationId: "app_1", at: 9_000 } });
      await expect(
        store.accept(
          anAcceptance("msg_2", { version: 0, deliveries: [{ endpointId: "ep_2", leasedBy: null }] }),
        ),
      ).rejects.toThrow(StaleError);
      expect(heard.dueEndpoints()).not.toHaveProperty("ep_2");
    });
  });

  describe(`${name}: settled deliveries`, () => {
    const outcome = (given: Partial<Delivery>, more: Partial<Outcome> = {}): Outcome => ({
      attempt: { ...attempt, messageId: given.messageId ?? "msg_1", id: `atmpt_${given.messageId ?? ""}` },
      delivery: { ...delivery, attempts: 1, ...given },
      ...{ node, now: 5_000, endpointState: null },
      ...more,
    });

    test("are written down with their attempt, once, and by the node that holds them only", async () => {
      const { store, version } = await openReady();
      for (const id of ["msg_1", "msg_2", "msg_3"]) await store.accept(anAcceptance(id, { version }));
      const done = { state: "succeeded", nextAttemptAt: null } as const;
      const results = await Promise.all([
        store.settle(outcome({ ...done, messageId: "msg_1" })),
        store.settle(outcome({ ...done, messageId: "msg_2" }, { node: 8 })),
        store.settle(outcome({ messageId: "msg_3", nextAttemptAt: 8_000 })),
        store.settle(outcome({ ...done, messageId: "msg_9" })),
      ]);
      expect(results).toEqual([true, false, true, false]);
      expect(await findDelivery(store, "msg_1")).toEqual({ ...delivery, ...done, attempts: 1 });
      expect(await findDelivery(store, "msg_2")).toMatchObject({ leasedBy: node, attempts: 0 });
      expect(await findDelivery(store, "msg_3")).toMatchObject({ leasedBy: null, nextAttemptAt: 8_000 });
      const attempts = await store.read((tx) => tx.attempts.list({ applicationId: "app_1" }, all));
      expect(attempts.map(({ messageId }) => messageId)).toEqual(["msg_1", "msg_3"]);
      // A second word on what has ended changes nothing.
      expect(await store.settle(outcome({ messageId: "msg_1", state: "failed" }))).toBe(false);
      expect(await findDelivery(store, "msg_1")).toMatchObject({ state: "succeeded" });
    });

    test("may end without an attempt, and may stay with their node", async () => {
      const { store, version } = await openReady();
      await store.accept(anAcceptance("msg_1", { version }));
      await store.accept(anAcceptance("msg_2", { version }));
      expect(await store.settle(outcome({ state: "failed", nextAttemptAt: null }, { attempt: null }))).toBe(
        true,
      );
      expect(await store.read((tx) => tx.attempts.list({ applicationId: "app_1" }, all))).toEqual([]);
      const held = { messageId: "msg_2", nextAttemptAt: 6_000, leasedBy: node };
      expect(await store.settle(outcome(held))).toBe(true);
      expect(await findDelivery(store, "msg_2")).toMatchObject(held);
      const last = { messageId: "msg_2", state: "succeeded", nextAttemptAt: null } as const;
      expect(
        await store.settle({ ...outcome(last), attempt: { ...attempt, messageId: "msg_2", id: "atmpt_b" } }),
      ).toBe(true);
      expect(
        await store.read((tx) => tx.attempts.list({ applicationId: "app_1", messageId: "msg_2" }, all)),
      ).toHaveLength(2);
    });

    test("teach about their endpoint, and the last word counts", async () => {
      const { store, version } = await openReady(["ep_1", "ep_2"]);
      for (const id of ["msg_1", "msg_2", "msg_3"]) {
        await store.accept(anAcceptance(id, { version, deliveries: [{}, { endpointId: "ep_2" }] }));
      }
      const state: EndpointState = { failingSince: 1_000, failures: 1, openings: 0, openUntil: null };
      const worse: EndpointState = { failingSince: 1_000, failures: 2, openings: 1, openUntil: 9_000 };
      await Promise.all([
        store.settle(outcome({ messageId: "msg_1" }, { endpointState: state })),
        store.settle(outcome({ messageId: "msg_2" }, { endpointState: worse })),
        store.settle(outcome({ messageId: "msg_3", endpointId: "ep_2" }, { endpointState: state, node: 9 })),
      ]);
      expect(await store.read((tx) => tx.endpointStates.list("app_1"))).toEqual(new Map([["ep_1", worse]]));
    });

    test("tell when they are due again, where nobody holds them", async () => {
      const { store, version } = await openReady(["ep_1", "ep_2"]);
      await store.accept(anAcceptance("msg_1", { version, deliveries: [{}, { endpointId: "ep_2" }] }));
      const heard = listen(store);
      await Promise.all([
        store.settle(outcome({ nextAttemptAt: 8_000 })),
        store.settle({
          ...outcome({ endpointId: "ep_2", nextAttemptAt: 8_000, leasedBy: node }),
          attempt: null,
        }),
      ]);
      expect(heard.dueEndpoints()).toEqual({ ep_1: { applicationId: "app_1", at: 8_000 } });
    });
  });

  describe(`${name}: due deliveries`, () => {
    test("are claimed once, with their messages", async () => {
      const store = await openFilled();
      const claimed = await store.claim([{ endpointId: "ep_1", limit: 10 }], node, 5_000);
      const [first] = claimed.due;
      expect(first?.delivery).toEqual({ ...delivery, leasedBy: node });
      expect(first?.message).toEqual(withBytes(first?.message, message));
      expect(bytesOf(first?.message)).toEqual(bytesOf(message));
      expect(claimed.nextDueAt).toEqual(new Map([["ep_1", null]]));
      expect(await findDelivery(store, "msg_1")).toEqual({ ...delivery, leasedBy: node });
      expect(await claimIds(store, 9_000)).toEqual([]);
    });

    test("are claimed earliest first, up to the limit, and not before their time", async () => {
      const { store, version } = await openReady(["ep_1", "ep_2"]);
      for (const [id, nextAttemptAt] of [
        ...([["msg_1", 3_000] as const, ["msg_2", 2_000], ["msg_3", 4_000], ["msg_4", 6_000]] as const),
      ]) {
        const waiting = { leasedBy: null, nextAttemptAt };
        await store.accept(
          anAcceptance(id, { version, deliveries: [waiting, { ...waiting, endpointId: "ep_2" }] }),
        );
      }
      const { due, nextDueAt } = await store.claim(
        [
          { endpointId: "ep_1", limit: 2 },
          { endpointId: "ep_2", limit: 1 },
          { endpointId: "ep_9", limit: 1 },
        ],
        node,
        5_000,
      );
      const idsOf = (endpointId: string): string[] =>
        due.filter((each) => each.delivery.endpointId === endpointId).map(({ message: { id } }) => id);
      expect(idsOf("ep_1")).toEqual(["msg_2", "msg_1"]);
      expect(idsOf("ep_2")).toEqual(["msg_2"]);
      expect(nextDueAt).toEqual(
        new Map([
          ["ep_1", 4_000],
          ["ep_2", 3_000],
          ["ep_9", null],
        ]),
      );
      expect(await claimIds(store, 5_000)).toEqual(["msg_3"]);
      expect(await claimIds(store, 5_000)).toEqual([]);
      expect(await claimIds(store, 6_000)).toEqual(["msg_4"]);
    });

    test("are taken up to so many bytes of payload, and the next ones with the next claim", async () => {
      const { store, version } = await openReady();
      for (const id of ["msg_1", "msg_2", "msg_3", "msg_4"]) {
        const payload = Buffer.from(JSON.stringify("x".repeat(98)));
        const waiting = { leasedBy: null, nextAttemptAt: 3_000 };
        await store.accept(anAcceptance(id, { version, payload, deliveries: [waiting] }));
      }
      const claim = async (maxBytes: number): Promise<string[]> => {
        const { due, nextDueAt } = await store.claim(
          [{ endpointId: "ep_1", limit: 9 }],
          node,
          5_000,
          maxBytes,
        );
        expect(nextDueAt.get("ep_1")).toBe(due.some(({ message: { id } }) => id === "msg_4") ? null : 3_000);
        return due.map(({ message: { id } }) => id);
      };
      expect(await claim(1)).toEqual(["msg_1"]);
      expect(await claim(101)).toEqual(["msg_2", "msg_3"]);
      expect(await claim(1_000)).toEqual(["msg_4"]);
    });

    test("of each endpoint are listed by their earliest time", async () => {
      const { store, version } = await openReady(["ep_1", "ep_2", "ep_3"]);
      const waiting = (endpointId: string, nextAttemptAt: number | null) => ({
        ...{ endpointId, nextAttemptAt, leasedBy: null },
      });
      await store.accept(
        anAcceptance("msg_1", { version, deliveries: [waiting("ep_1", 9_000), waiting("ep_2", 5_000)] }),
      );
      await store.accept(
        anAcceptance("msg_2", {
          version,
          deliveries: [waiting("ep_1", 4_000), waiting("ep_2", null), { endpointId: "ep_3" }],
        }),
      );
      expect(await store.read((tx) => tx.deliveries.listDue())).toEqual(
        new Map([
          ["ep_1", { applicationId: "app_1", at: 4_000 }],
          ["ep_2", { applicationId: "app_1", at: 5_000 }],
        ]),
      );
      expect(await store.write((tx) => tx.deliveries.release(node))).toBe(1);
      expect(await store.read((tx) => tx.deliveries.listDue())).toHaveProperty("size", 3);
    });

    test("that were settled are not due any more, until they are made so again", async () => {
      const store = await openFilled();
      const settle = (given: Partial<Delivery>) =>
        store.write((tx) => tx.deliveries.settle([{ ...delivery, ...given }], 5_000));
      await settle({ state: "succeeded", attempts: 1, nextAttemptAt: null });
      expect(await claimIds(store, 5_000)).toEqual([]);
      await settle({ trigger: "manual" });
      expect((await store.claim([{ endpointId: "ep_1", limit: 1 }], node, 5_000)).due).toMatchObject([
        { delivery: { trigger: "manual", leasedBy: node } },
      ]);
    });
  });

  describe(`${name}: strict order`, () => {
    const inOrder = (key: string) => ({ leasedBy: null, order: key });
    const settled = async (
      store: Store,
      messageId: string,
      change: Partial<Delivery>,
      now = 7_000,
    ): Promise<boolean> => {
      const current = await findDelivery(store, messageId);
      if (current === undefined) throw new Error(`${messageId} is not there`);
      return await store.settle({
        attempt: { ...attempt, messageId, id: `atmpt_${messageId}_${now}` },
        delivery: { ...current, attempts: current.attempts + 1, leasedBy: null, ...change },
        ...{ node, now, endpointState: null },
      });
    };
    const ended = { state: "succeeded", nextAttemptAt: null } as const;

    test("only the first of each order is due; the next one is when it has ended", async () => {
      const { store, version } = await openReady();
      const orders = ["a", "a", "b", "a", "b"];
      // In one turn of the event loop: they get their places as they came.
      await Promise.all(
        orders.map((key, n) =>
          store.accept(anAcceptance(`msg_${n}`, { version, deliveries: [inOrder(key)] })),
        ),
      );
      const places = await Promise.all(orders.map((_, n) => findDelivery(store, `msg_${n}`)));
      const sequences = places.map((place) => place?.place?.sequence ?? 0);
      expect(sequences).toEqual(sequences.toSorted((a, b) => a - b));
      expect(new Set(sequences).size).toBe(5);
      expect(places.map((place) => place?.place?.key)).toEqual(orders);
      expect(places.map((place) => place?.nextAttemptAt)).toEqual([3_000, null, 3_000, null, null]);

      expect(await claimIds(store, 5_000)).toEqual(["msg_0", "msg_2"]);
      const heard = listen(store);
      expect(await settled(store, "msg_0", { nextAttemptAt: 9_000 })).toBe(true);
      expect(await claimIds(store, 8_000)).toEqual([]);
      expect(heard.dueEndpoints()).toEqual({ ep_1: { applicationId: "app_1", at: 9_000 } });
      expect(await claimIds(store, 9_000)).toEqual(["msg_0"]);
      expect(await settled(store, "msg_0", ended, 9_500)).toBe(true);
      expect(heard.last().dueEndpoints.get("ep_1")).toEqual({ applicationId: "app_1", at: 9_500 });
      expect(await claimIds(store, 9_500)).toEqual(["msg_1"]);
      expect(await settled(store, "msg_2", ended, 9_600)).toBe(true);
      expect(await claimIds(store, 9_600)).toEqual(["msg_4"]);
      expect((await findDelivery(store, "msg_3"))?.nextAttemptAt).toBeNull();
    });

    test("goes on behind what was there before, and begins anew when all of it has ended", async () => {
      const { store, version } = await openReady();
      const accept = (id: string) => store.accept(anAcceptance(id, { version, deliveries: [inOrder("")] }));
      await accept("msg_1");
      await accept("msg_2");
      expect((await findDelivery(store, "msg_2"))?.nextAttemptAt).toBeNull();
      expect(await claimIds(store, 5_000)).toEqual(["msg_1"]);
      expect(await settled(store, "msg_1", ended)).toBe(true);
      expect(await claimIds(store, 8_000)).toEqual(["msg_2"]);
      expect(await settled(store, "msg_2", ended)).toBe(true);
      await accept("msg_3");
      expect((await findDelivery(store, "msg_3"))?.nextAttemptAt).toBe(3_000);
    });

    test("is kept up where one of those accepted together is refused", async () => {
      const { store, version } = await openReady();
      const results = await Promise.allSettled([
        store.accept(anAcceptance("msg_1", { version: version - 1, deliveries: [inOrder("")] })),
        store.accept(anAcceptance("msg_2", { version, deliveries: [inOrder("")] })),
        store.accept(anAcceptance("msg_3", { version, deliveries: [inOrder("")] })),
      ]);
      expect(results.map(({ status }) => status)).toEqual(["rejected", "fulfilled", "fulfilled"]);
      expect(await claimIds(store, 5_000)).toEqual(["msg_2"]);
      expect(await settled(store, "msg_2", ended)).toBe(true);
      expect(await claimIds(store, 8_000)).toEqual(["msg_3"]);
    });

    test("one that has used its attempts up stays in front, until it is skipped by hand", async () => {
      const { store, version } = await openReady();
      for (const id of ["msg_1", "msg_2", "msg_3"]) {
        await store.accept(anAcceptance(id, { version, deliveries: [inOrder("k")] }));
      }
      expect(await claimIds(store, 5_000)).toEqual(["msg_1"]);
      expect(await settled(store, "msg_1", { nextAttemptAt: null })).toBe(true);
      expect(await claimIds(store, 9_000)).toEqual([]);
      expect(await store.read((tx) => tx.deliveries.listDue())).toEqual(new Map());
      const heads = await store.read((tx) => tx.deliveries.listHeads("ep_1", 10));
      expect(heads).toMatchObject([{ delivery: { messageId: "msg_1", nextAttemptAt: null }, behind: 2 }]);
      const head = heads[0]?.delivery;
      if (head) await store.write((tx) => tx.deliveries.settle([{ ...head, state: "failed" }], 9_000));
      expect(await claimIds(store, 9_000)).toEqual(["msg_2"]);
    });

    test("a hand moves nothing that a node has taken meanwhile", async () => {
      const { store, version } = await openReady();
      for (const id of ["msg_1", "msg_2"]) {
        await store.accept(anAcceptance(id, { version, deliveries: [inOrder("k")] }));
      }
      const skipped = { ...((await findDelivery(store, "msg_1")) as Delivery), state: "failed" } as const;
      expect(await claimIds(store, 5_000)).toEqual(["msg_1"]);
      expect(await store.write((tx) => tx.deliveries.settleUnheld(skipped, 6_000))).toBe(false);
      expect((await findDelivery(store, "msg_1"))?.state).toBe("pending");
      expect(await settled(store, "msg_1", { nextAttemptAt: 9_000 })).toBe(true);
      expect(await store.write((tx) => tx.deliveries.settleUnheld(skipped, 8_000))).toBe(true);
      expect(await store.write((tx) => tx.deliveries.settleUnheld(skipped, 8_000))).toBe(false);
      expect(await claimIds(store, 8_000)).toEqual(["msg_2"]);
    });

    test("a word from a node that no longer holds it moves nothing", async () => {
      const { store, version } = await openReady();
      for (const id of ["msg_1", "msg_2"]) {
        await store.accept(anAcceptance(id, { version, deliveries: [inOrder("k")] }));
      }
      expect(await claimIds(store, 5_000)).toEqual(["msg_1"]);
      const current = await findDelivery(store, "msg_1");
      const late = {
        ...{ attempt: null, node: 8, now: 7_000, endpointState: null },
        delivery: { ...(current as Delivery), ...ended, leasedBy: null },
      };
      expect(await store.settle(late)).toBe(false);
      expect((await findDelivery(store, "msg_2"))?.nextAttemptAt).toBeNull();
      expect(await claimIds(store, 9_000)).toEqual([]);
    });

    test("holds within a transaction that accepts for somebody else, too", async () => {
      const { store, version } = await openReady();
      await store.accept(anAcceptance("msg_1", { version, deliveries: [inOrder("k")] }));
      await store.write((tx) =>
        tx.deliveries.insert([{ ...newDelivery, ...inOrder("k"), messageId: "msg_2" }]),
      );
      const [first, second] = [await findDelivery(store, "msg_1"), await findDelivery(store, "msg_2")];
      expect(second?.place?.sequence).toBeGreaterThan(first?.place?.sequence ?? Infinity);
      expect(second?.nextAttemptAt).toBeNull();
    });
  });

  describe(`${name}: what is learned of endpoints`, () => {
    const state: EndpointState = { failingSince: 1_000, failures: 5, openings: 1, openUntil: 9_000 };

    test("is kept, and goes with the endpoint", async () => {
      const store = await openFilled();
      await store.write((tx) => tx.endpointStates.save("ep_1", state));
      expect(await store.read((tx) => tx.endpointStates.list("app_1"))).toEqual(new Map([["ep_1", state]]));
      await store.write((tx) => tx.endpoints.delete("ep_1"));
      expect(await store.read((tx) => tx.endpointStates.list("app_1"))).toEqual(new Map());
    });

    test("an open breaker's probe is taken by one caller", async () => {
      const store = await openFilled();
      await store.write((tx) => tx.endpointStates.save("ep_1", state));
      const take = (nextOpenUntil: number) =>
        store.write((tx) => tx.endpointStates.takeProbe("ep_1", 9_000, nextOpenUntil));
      const taken = await Promise.all([take(10_000), take(11_000), take(12_000)]);
      expect(taken.filter(Boolean)).toHaveLength(1);
    });

    test("a rate's slots are given once, evenly, and none of the past", async () => {
      const store = await openFilled();
      const take = (count: number, now: number) =>
        store.write((tx) => tx.endpointStates.takeSlots("ep_1", 10, count, now));
      const slots = await Promise.all([take(1, 5_000), take(2, 5_000), take(1, 5_000)]);
      const last = await take(1, 5_000);
      expect(last).toBe(5_400);
      expect(Math.min(...slots)).toBe(5_000);
      expect(new Set(slots).size).toBe(3);
      expect(await take(1, 60_000)).toBe(60_000);
    });
  });

  describe(`${name}: nodes and tasks`, () => {
    test("a node's number is never given again", async () => {
      const store = await open();
      const join = () => store.write((tx) => tx.nodes.join(9_000));
      const numbers = await Promise.all([join(), join(), join()]);
      await store.write((tx) => tx.nodes.leave(Math.max(...numbers)));
      numbers.push(await join());
      expect(new Set(numbers).size).toBe(4);
      expect(Math.min(...numbers)).toBeGreaterThan(0);
    });

    test("what a dead node held is given back", async () => {
      const { store, version } = await openReady();
      const [dead, living] = await store.write(
        async (tx) => [await tx.nodes.join(5_000), await tx.nodes.join(9_000)] as const,
      );
      await store.accept(anAcceptance("msg_1", { version, deliveries: [{ leasedBy: dead }] }));
      await store.accept(anAcceptance("msg_2", { version, deliveries: [{ leasedBy: living }] }));
      await store.write((tx) => tx.tasks.insert(task));
      expect(await store.write((tx) => tx.tasks.claim(dead))).toMatchObject({ id: "qtask_1" });
      expect(await store.write((tx) => tx.nodes.beat(dead, 6_000))).toBe(true);
      expect(await store.write((tx) => tx.nodes.bury(6_000))).toEqual([]);
      expect(await store.write((tx) => tx.nodes.bury(6_001))).toEqual([dead]);
      expect(await store.write((tx) => tx.nodes.beat(dead, 9_000))).toBe(false);
      expect((await findDelivery(store, "msg_1"))?.leasedBy).toBeNull();
      expect((await findDelivery(store, "msg_2"))?.leasedBy).toBe(living);
      const claimed = await store.write((tx) => tx.tasks.claim(living));
      expect(claimed).toMatchObject({ id: "qtask_1", leasedBy: living });
      const update = (holder: number) =>
        store.write((tx) => tx.tasks.update({ ...task, done: 3, leasedBy: holder }, holder));
      expect(await update(dead)).toBe(false);
      expect(await update(living)).toBe(true);
      await store.write((tx) => tx.nodes.leave(living));
      expect((await findDelivery(store, "msg_2"))?.leasedBy).toBeNull();
    });

    test("each task is worked on by one node, and found by what it is", async () => {
      const store = await open();
      const ids = ["qtask_1", "qtask_2", "qtask_3"];
      await store.write(async (tx) => {
        for (const id of ids) await tx.tasks.insert({ ...task, id });
      });
      const claim = () => store.write((tx) => tx.tasks.claim(node));
      const claimed = await Promise.all([claim(), claim(), claim(), claim()]);
      expect(claimed.map((each) => each?.id ?? "").sort()).toEqual(["", ...ids]);
      const idsOf = async (filter: object): Promise<string[]> =>
        (await store.read((tx) => tx.tasks.list("default", filter, all))).map(({ id }) => id);
      await store.write((tx) => tx.tasks.update({ ...task, id: "qtask_2", status: "finished" }, node));
      expect(await store.write((tx) => tx.tasks.cancel("qtask_3", "not wanted", 5))).toBe(true);
      expect(await store.write((tx) => tx.tasks.cancel("qtask_3", "not wanted", 5))).toBe(false);
      expect(await idsOf({})).toEqual(ids);
      expect(await idsOf({ status: "running", applicationId: "app_1" })).toEqual(["qtask_1"]);
      expect(await idsOf({ kind: "other" })).toEqual([]);
      expect(await store.read((tx) => tx.tasks.find("default", "qtask_3"))).toMatchObject({
        ...{ status: "failed", error: "not wanted", leasedBy: null },
      });
    });
  });

  describe(`${name}: kept answers`, () => {
    const entry = { key: "k", requestHash: "h", status: 202, body: "{}", expiresAt: 2_000 };

    test("are there until they expire, and their key is taken until then", async () => {
      const store = await open();
      await store.write((tx) => tx.idempotency.insert(entry, 1_000));
      expect(await store.read((tx) => tx.idempotency.find("k", 1_999))).toEqual({
        requestHash: "h",
        status: 202,
        body: "{}",
      });
      expect(await store.read((tx) => tx.idempotency.find("k", 2_000))).toBeUndefined();
      await expect(store.write((tx) => tx.idempotency.insert(entry, 1_999))).rejects.toThrow(ConflictError);
      await store.write((tx) => tx.idempotency.insert({ ...entry, expiresAt: 3_000 }, 2_000));
      expect(await store.read((tx) => tx.idempotency.find("k", 2_000))).toBeDefined();
    });

    test("are removed once they have expired, some at a time", async () => {
      const store = await open();
      await store.write(async (tx) => {
        for (const key of ["a", "b", "c"]) await tx.idempotency.insert({ ...entry, key }, 1_000);
        await tx.idempotency.insert({ ...entry, key: "d", expiresAt: 9_000 }, 1_000);
      });
      const prune = () => store.write((tx) => tx.idempotency.prune(2_000, 2));
      expect([await prune(), await prune(), await prune()]).toEqual([2, 1, 0]);
      expect(await store.read((tx) => tx.idempotency.find("d", 2_000))).toBeDefined();
    });
  });

  describe(`${name}: transactions`, () => {
    test("a write that throws leaves nothing, and those beside it are kept", async () => {
      const store = await open();
      const results = await Promise.allSettled([
        store.write((tx) => tx.applications.insert({ ...application, id: "app_1", uid: "a" })),
        store.write(async (tx) => {
          await tx.applications.insert({ ...application, id: "app_2", uid: "b" });
          throw new Error("changed my mind");
        }),
        store.write((tx) => tx.applications.insert({ ...application, id: "app_4", uid: "d" })),
      ]);
      expect(results).toMatchObject([
        { status: "fulfilled" },
        { status: "rejected", reason: { message: "changed my mind" } },
        { status: "fulfilled" },
      ]);
      await expect(
        store.write((tx) => tx.applications.insert({ ...application, id: "app_3", uid: "a" })),
      ).rejects.toThrow(ConflictError);
      const left = await store.read((tx) => tx.applications.list("default", all));
      expect(left.map(({ id }) => id)).toEqual(["app_1", "app_4"]);
    });

    test("what is read to be changed is not changed by others meanwhile", async () => {
      const store = await openFilled();
      const add = (key: string) =>
        store.write(async (tx) => {
          const found = await tx.endpoints.find("app_1", "ep_1");
          if (found === undefined) throw new Error("gone");
          await tx.endpoints.update({ ...found, metadata: { ...found.metadata, [key]: key } });
        });
      const keys = Array.from({ length: 20 }, (_, n) => `k${n}`);
      await Promise.all(keys.map(add));
      const found = await store.read((tx) => tx.endpoints.find("app_1", "ep_1"));
      expect(Object.keys(found?.metadata ?? {}).sort()).toEqual(["a", ...keys].sort());
    });

    test("who looks for something and makes it where it is missing finds it, however many do", async () => {
      const store = await open();
      const get = (n: number) =>
        store.write(async (tx) => {
          const found = await tx.applications.find("default", "shop");
          if (found) return found.id;
          await tx.applications.insert({ ...application, id: `app_${n}` });
          return `app_${n}`;
        });
      const ids = await Promise.all(Array.from({ length: 12 }, (_, n) => get(n)));
      expect(new Set(ids).size).toBe(1);
    });

    test("many writes at once are all kept", async () => {
      const store = await open();
      const ids = Array.from({ length: 300 }, (_, index) => `app_${String(index).padStart(4, "0")}`);
      await Promise.all(
        ids.map((id) => store.write((tx) => tx.applications.insert({ ...application, id, uid: null }))),
      );
      const stored = await store.read((tx) => tx.applications.list("default", { limit: 5_000 }));
      expect(stored.map(({ id }) => id)).toEqual(ids);
    });

    test("listeners hear of what has changed before the writer does, and of nothing else", async () => {
      const store = await openFilled();
      const heard = listen(store);
      let heardFirst = 0;
      await store.write((tx) => tx.endpoints.update(endpoint)).then(() => (heardFirst = heard.count()));
      expect(heardFirst).toBe(1);
      expect(heard.last().applicationIds).toEqual(new Set(["app_1"]));
      await store.write((tx) => tx.eventTypes.insert(eventType));
      expect(heard.last().organizationIds).toEqual(new Set(["default"]));
      await store.write((tx) =>
        tx.deliveries.settle([{ ...delivery, nextAttemptAt: 8_000, trigger: "manual" }], 5_000),
      );
      expect(heard.last().dueEndpoints).toEqual(new Map([["ep_1", { applicationId: "app_1", at: 8_000 }]]));
      expect(heard.last().applicationIds.size).toBe(0);
      const count = heard.count();
      await store.write((tx) => tx.messages.insert({ ...message, id: "msg_9", eventId: null }));
      expect(heard.count()).toBe(count);
    });

    test("a closed store refuses what comes after finishing what it had", async () => {
      const { store, version } = await openReady();
      const last = [
        store.write((tx) => tx.applications.insert({ ...application, id: "app_2", uid: null })),
        store.accept(anAcceptance("msg_1", { version })),
      ];
      const closing = store.close();
      await expect(store.write((tx) => tx.applications.insert(application))).rejects.toThrow("stopping");
      await expect(store.accept(anAcceptance("msg_2", { version }))).rejects.toThrow("stopping");
      expect((await Promise.allSettled(last)).map(({ status }) => status)).toEqual([
        "fulfilled",
        "fulfilled",
      ]);
      await closing;
    });
  });

  describe(`${name}: the database itself`, () => {
    test("answers pings, tells its time and how much it holds", async () => {
      const store = await openFilled();
      await store.ping();
      expect(Math.abs((await store.now()) - Date.now())).toBeLessThan(60_000);
      expect(Number.isInteger(await store.now())).toBe(true);
      expect(await store.sizeBytes()).toBeGreaterThan(0);
    });
  });
}

/** What the listeners of a store hear, as it was when they heard it. */
function listen(store: Store) {
  const heard: StoreChanges[] = [];
  store.onChange((changes) => heard.push(structuredClone({ ...changes })));
  const last = (): StoreChanges => {
    const changes = heard.at(-1);
    if (changes === undefined) throw new Error("nothing was heard");
    return changes;
  };
  return {
    count: () => heard.length,
    last,
    /** The earliest time that was told of each endpoint. */
    dueEndpoints() {
      const earliest: Record<string, { applicationId: string; at: number }> = {};
      for (const { dueEndpoints } of heard) {
        for (const [id, due] of dueEndpoints) {
          if (due.at < (earliest[id]?.at ?? Infinity)) earliest[id] = due;
        }
      }
      return earliest;
    },
  };
}

/** The message with the payload of the other: its bytes are compared apart, whatever kind of array they are in. */
function withBytes(found: Message | undefined, expected: Message): Message {
  return { ...expected, eventId: found?.eventId ?? null, payload: found?.payload ?? null };
}

function bytesOf(found: Pick<Message, "payload"> | undefined): string | null {
  return found?.payload ? Buffer.from(found.payload).toString("hex") : null;
}

/** The same each time: every byte value, over and over. */
function randomPayload(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 31 + (index >> 8)) % 256);
}
