import { describe, expect, test } from "vitest";
import type { Application } from "../core/application.ts";
import type { Attempt, Delivery } from "../core/delivery.ts";
import type { Endpoint } from "../core/endpoint.ts";
import type { Message } from "../core/message.ts";
import { ConflictError, MissingError, type EventType, type Store } from "./store.ts";

const application: Application = {
  id: "app_1",
  uid: "shop",
  name: "Shop",
  dialect: "svix",
  throttleRate: 5,
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
  payload: Buffer.from('{ "amount": 1.0 }'),
  createdAt: 3_000,
};

const delivery: Delivery = {
  messageId: "msg_1",
  endpointId: "ep_1",
  applicationId: "app_1",
  state: "pending",
  attempts: 0,
  nextAttemptAt: 3_000,
  leasedUntil: null,
  trigger: "scheduled",
};

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

const all = { limit: 100 };

/** What every store promises, whatever database is behind it. `open` answers an empty one, closed by its owner. */
export function describeStore(name: string, open: () => Promise<Store>): void {
  const openFilled = async (): Promise<Store> => {
    const store = await open();
    await store.write(async (tx) => {
      await tx.applications.insert(application);
      await tx.endpoints.insert(endpoint);
      await tx.messages.insert(message);
      await tx.deliveries.insert([delivery]);
      await tx.attempts.insert([attempt]);
    });
    return store;
  };

  describe(`${name}: what was written is read back as it was`, () => {
    test("applications, by id and by uid", async () => {
      const store = await openFilled();
      expect(await store.read((tx) => tx.applications.find("app_1"))).toEqual(application);
      expect(await store.read((tx) => tx.applications.find("shop"))).toEqual(application);
      expect(await store.read((tx) => tx.applications.find("nope"))).toBeUndefined();
    });

    test("endpoints with their secrets, by id and by uid, in their application only", async () => {
      const store = await openFilled();
      expect(await store.read((tx) => tx.endpoints.find("app_1", "ep_1"))).toEqual(endpoint);
      expect(await store.read((tx) => tx.endpoints.find("app_1", "main"))).toEqual(endpoint);
      expect(await store.read((tx) => tx.endpoints.find("app_2", "ep_1"))).toBeUndefined();
    });

    test("messages with the payload's very bytes, by id and by event id", async () => {
      const store = await openFilled();
      const found = await store.read((tx) => tx.messages.find("app_1", "msg_1"));
      expect(found).toEqual({ ...message, payload: new Uint8Array(message.payload) });
      expect(await store.read((tx) => tx.messages.find("app_1", "order-1"))).toEqual(found);
      expect(await store.read((tx) => tx.messages.find("app_2", "msg_1"))).toBeUndefined();
    });

    test("deliveries, attempts and event types", async () => {
      const store = await openFilled();
      await store.write((tx) => tx.eventTypes.insert(eventType));
      expect(await store.read((tx) => tx.deliveries.find("msg_1", "ep_1"))).toEqual(delivery);
      expect(await store.read((tx) => tx.deliveries.listByMessage("msg_1"))).toEqual([delivery]);
      expect(await store.read((tx) => tx.attempts.find("msg_1", "atmpt_1"))).toEqual(attempt);
      expect(await store.read((tx) => tx.eventTypes.find("order.paid"))).toEqual(eventType);
    });
  });

  describe(`${name}: changes`, () => {
    test("update and delete tell whether the row was there", async () => {
      const store = await openFilled();
      const changed = { ...application, name: "Store", uid: null, updatedAt: 9 };
      expect(await store.write((tx) => tx.applications.update(changed))).toBe(true);
      expect(await store.read((tx) => tx.applications.find("app_1"))).toEqual(changed);
      expect(await store.write((tx) => tx.applications.update({ ...changed, id: "app_9" }))).toBe(false);

      const moved = { ...endpoint, url: "https://example.com/new", headers: {}, secrets: [], disabled: true };
      expect(await store.write((tx) => tx.endpoints.update(moved))).toBe(true);
      expect(await store.read((tx) => tx.endpoints.find("app_1", "ep_1"))).toEqual(moved);

      await store.write((tx) => tx.eventTypes.insert(eventType));
      const archived = { ...eventType, archived: true, schemas: null };
      expect(await store.write((tx) => tx.eventTypes.update(archived))).toBe(true);
      expect(await store.read((tx) => tx.eventTypes.find("order.paid"))).toEqual(archived);
      expect(await store.write((tx) => tx.eventTypes.delete("order.paid"))).toBe(true);
      expect(await store.write((tx) => tx.eventTypes.delete("order.paid"))).toBe(false);
    });

    test("an application takes everything of its own along, and nothing else", async () => {
      const store = await openFilled();
      await store.write(async (tx) => {
        await tx.applications.insert({ ...application, id: "app_2", uid: null });
        await tx.endpoints.insert({ ...endpoint, id: "ep_2", applicationId: "app_2" });
        await tx.messages.insert({ ...message, id: "msg_2", applicationId: "app_2" });
        await tx.deliveries.insert([{ ...delivery, messageId: "msg_2", endpointId: "ep_2" }]);
      });
      expect(await store.write((tx) => tx.applications.delete("app_1"))).toBe(true);
      expect(await store.write((tx) => tx.applications.delete("app_1"))).toBe(false);
      const left = await store.read(async (tx) => [
        await tx.endpoints.find("app_1", "ep_1"),
        await tx.messages.find("app_1", "msg_1"),
        await tx.deliveries.find("msg_1", "ep_1"),
        await tx.attempts.find("msg_1", "atmpt_1"),
      ]);
      expect(left).toEqual([undefined, undefined, undefined, undefined]);
      expect(await store.read((tx) => tx.deliveries.find("msg_2", "ep_2"))).toMatchObject({
        applicationId: "app_2",
      });
    });

    test("an endpoint takes its open deliveries along; what was attempted stays on record", async () => {
      const store = await openFilled();
      await store.write(async (tx) => {
        await tx.messages.insert({ ...message, id: "msg_2", eventId: null });
        await tx.deliveries.insert([{ ...delivery, messageId: "msg_2" }]);
        await tx.deliveries.settle([
          { ...delivery, messageId: "msg_2", state: "failed", nextAttemptAt: null },
        ]);
      });
      expect(await store.write((tx) => tx.endpoints.delete("ep_1"))).toBe(true);
      expect(await store.write((tx) => tx.endpoints.delete("ep_1"))).toBe(false);
      expect(await store.read((tx) => tx.deliveries.find("msg_1", "ep_1"))).toBeUndefined();
      expect(await store.read((tx) => tx.deliveries.find("msg_2", "ep_1"))).toMatchObject({
        state: "failed",
      });
      expect(await store.read((tx) => tx.attempts.find("msg_1", "atmpt_1"))).toEqual(attempt);
    });

    test("a delivery for an endpoint that is gone, and an attempt for such a message, are not stored", async () => {
      const store = await openFilled();
      await store.write(async (tx) => {
        await tx.deliveries.insert([{ ...delivery, endpointId: "ep_gone" }]);
        await tx.attempts.insert([{ ...attempt, messageId: "msg_gone" }]);
      });
      expect(await store.read((tx) => tx.deliveries.find("msg_1", "ep_gone"))).toBeUndefined();
      expect(await store.read((tx) => tx.attempts.find("msg_gone", "atmpt_1"))).toBeUndefined();
    });

    test("what a uniqueness rule forbids is a conflict", async () => {
      const store = await openFilled();
      const conflicts = [
        store.write((tx) => tx.applications.insert({ ...application, id: "app_2" })),
        store.write((tx) => tx.endpoints.insert({ ...endpoint, id: "ep_2" })),
        store.write((tx) => tx.messages.insert({ ...message, id: "msg_2" })),
      ];
      const rules = (await Promise.allSettled(conflicts)).map((result) =>
        result.status === "rejected" && result.reason instanceof ConflictError ? result.reason.rule : result,
      );
      expect(rules).toEqual([
        "applications.uid",
        "endpoints.application_id, endpoints.uid",
        "messages.application_id, messages.event_id",
      ]);
    });

    test("a message for an application that is gone is refused", async () => {
      const store = await open();
      await expect(store.write((tx) => tx.messages.insert(message))).rejects.toThrow(MissingError);
    });
  });

  describe(`${name}: lists`, () => {
    test("come in pages in both directions", async () => {
      const store = await open();
      const ids = ["app_1", "app_2", "app_3", "app_4", "app_5"];
      await store.write(async (tx) => {
        for (const id of ids) await tx.applications.insert({ ...application, id, uid: null });
      });
      const page = async (options: { after?: string; descending?: boolean }): Promise<string[]> =>
        (await store.read((tx) => tx.applications.list({ limit: 2, ...options }))).map(({ id }) => id);
      expect(await page({})).toEqual(["app_1", "app_2"]);
      expect(await page({ after: "app_4" })).toEqual(["app_5"]);
      expect(await page({ descending: true })).toEqual(["app_5", "app_4"]);
      expect(await page({ descending: true, after: "app_2" })).toEqual(["app_1"]);
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
          ...message,
          id: "msg_2",
          eventType: "b",
          eventId: null,
          channels: null,
          tags: [],
          createdAt: 9_000,
        }),
      );
      const idsOf = async (filter: object): Promise<string[]> =>
        (await store.read((tx) => tx.messages.list({ applicationId: "app_1", ...filter }, all))).map(
          ({ id }) => id,
        );
      expect(await idsOf({})).toEqual(["msg_1", "msg_2"]);
      expect(await idsOf({ eventTypes: ["b", "c"] })).toEqual(["msg_2"]);
      expect(await idsOf({ channel: "eu" })).toEqual(["msg_1"]);
      expect(await idsOf({ channel: "e" })).toEqual([]);
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

    test("an endpoint's deliveries come with their messages", async () => {
      const store = await openFilled();
      const list = (filter: object) =>
        store.read((tx) => tx.deliveries.listByEndpoint("ep_1", { applicationId: "app_1", ...filter }, all));
      expect(await list({})).toEqual([
        { delivery, message: { ...message, payload: new Uint8Array(message.payload) } },
      ]);
      expect(await list({ state: "pending", channel: "eu" })).toHaveLength(1);
      expect(await list({ state: "failed" })).toEqual([]);
    });

    test("archived event types are listed where they are asked for", async () => {
      const store = await open();
      await store.write(async (tx) => {
        await tx.eventTypes.insert(eventType);
        await tx.eventTypes.insert({ ...eventType, name: "old", archived: true });
      });
      const namesOf = async (includeArchived: boolean): Promise<string[]> =>
        (await store.read((tx) => tx.eventTypes.list({ ...all, includeArchived }))).map((type) => type.name);
      expect(await namesOf(false)).toEqual(["order.paid"]);
      expect(await namesOf(true)).toEqual(["old", "order.paid"]);
    });
  });

  describe(`${name}: due deliveries`, () => {
    const claim = { now: 5_000, leasedUntil: 8_000, limit: 10, busyEndpointIds: [] };

    test("are claimed once, and again when the lease has run out", async () => {
      const store = await openFilled();
      const claimed = await store.write((tx) => tx.deliveries.claim(claim));
      expect(claimed).toEqual([
        {
          delivery: { ...delivery, leasedUntil: 8_000 },
          message: { ...message, payload: new Uint8Array(message.payload) },
        },
      ]);
      expect(await store.write((tx) => tx.deliveries.claim(claim))).toEqual([]);
      expect(await store.read((tx) => tx.deliveries.nextDueAt(claim))).toBe(8_000);
      expect(await store.write((tx) => tx.deliveries.claim({ ...claim, now: 8_000 }))).toHaveLength(1);
    });

    test("are claimed earliest first, up to the limit, and not before their time", async () => {
      const store = await openFilled();
      await store.write(async (tx) => {
        for (const [id, nextAttemptAt] of [
          ["msg_2", 2_000],
          ["msg_3", 4_000],
          ["msg_4", 6_000],
        ] as const) {
          await tx.messages.insert({ ...message, id, eventId: null });
          await tx.deliveries.insert([{ ...delivery, messageId: id, nextAttemptAt }]);
        }
      });
      const take = async (limit: number): Promise<string[]> =>
        (await store.write((tx) => tx.deliveries.claim({ ...claim, limit }))).map((due) => due.message.id);
      expect(await take(2)).toEqual(["msg_2", "msg_1"]);
      expect(await take(10)).toEqual(["msg_3"]);
      expect(await take(10)).toEqual([]);
      expect(await store.read((tx) => tx.deliveries.nextDueAt(claim))).toBe(6_000);
    });

    test("of busy endpoints are passed over", async () => {
      const store = await openFilled();
      const busy = { ...claim, busyEndpointIds: ["ep_1", "ep_9"] };
      expect(await store.write((tx) => tx.deliveries.claim(busy))).toEqual([]);
      expect(await store.read((tx) => tx.deliveries.nextDueAt(busy))).toBeNull();
      expect(await store.read((tx) => tx.deliveries.nextDueAt(claim))).toBe(3_000);
    });

    test("that were settled are not due any more, until they are made so again", async () => {
      const store = await openFilled();
      await store.write((tx) =>
        tx.deliveries.settle([{ ...delivery, state: "succeeded", attempts: 1, nextAttemptAt: null }]),
      );
      expect(await store.write((tx) => tx.deliveries.claim(claim))).toEqual([]);
      expect(await store.read((tx) => tx.deliveries.nextDueAt(claim))).toBeNull();
      await store.write((tx) => tx.deliveries.settle([{ ...delivery, trigger: "manual" }]));
      expect((await store.write((tx) => tx.deliveries.claim(claim)))[0]?.delivery.trigger).toBe("manual");
    });

    test("that a dead process held are given back", async () => {
      const store = await openFilled();
      await store.write((tx) => tx.deliveries.claim({ ...claim, leasedUntil: 1e12 }));
      expect(await store.write((tx) => tx.deliveries.releaseAll())).toBe(1);
      expect(await store.read((tx) => tx.deliveries.find("msg_1", "ep_1"))).toEqual(delivery);
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
        store.write((tx) => tx.applications.insert({ ...application, id: "app_3", uid: "a" })),
        store.write((tx) => tx.applications.insert({ ...application, id: "app_4", uid: "d" })),
      ]);
      expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "rejected", "fulfilled"]);
      const left = await store.read((tx) => tx.applications.list(all));
      expect(left.map(({ id }) => id)).toEqual(["app_1", "app_4"]);
    });

    test("many writes at once are all kept, in their order", async () => {
      const store = await open();
      const ids = Array.from({ length: 2_000 }, (_, index) => `app_${String(index).padStart(4, "0")}`);
      const order: string[] = [];
      await Promise.all(
        ids.map((id) =>
          store
            .write((tx) => tx.applications.insert({ ...application, id, uid: null }))
            .then(() => order.push(id)),
        ),
      );
      expect(order).toEqual(ids);
      expect(await store.read((tx) => tx.applications.list({ limit: 5_000 }))).toHaveLength(2_000);
    });

    test("listeners hear of changed applications and endpoints before the writer does", async () => {
      const store = await openFilled();
      const heard: string[][] = [];
      store.onChange((ids) => heard.push([...ids]));
      let heardFirst = 0;
      await store.write((tx) => tx.endpoints.update(endpoint)).then(() => (heardFirst = heard.length));
      expect(heardFirst).toBe(1);
      await store.write((tx) => tx.endpoints.delete("ep_1"));
      await store.write((tx) => tx.applications.update(application));
      await store.write((tx) => tx.messages.insert({ ...message, id: "msg_9", eventId: null }));
      expect(heard).toEqual([["app_1"], ["app_1"], ["app_1"]]);
    });

    test("a closed store refuses writes after finishing those it had", async () => {
      const store = await open();
      const last = store.write((tx) => tx.applications.insert(application));
      const closing = store.close();
      await expect(store.write((tx) => tx.applications.insert(application))).rejects.toThrow("stopping");
      await expect(last).resolves.toBeUndefined();
      await closing;
    });
  });
}
