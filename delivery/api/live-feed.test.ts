import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, describe, expect, test, vi } from "vitest";
import { createLogger } from "../log.ts";
import {
  aMessage,
  anApplication,
  anAttempt,
  anEndpoint,
  fill,
  insertDelivered,
  testDatabases,
  type TestStore,
} from "../store/scene.suite.ts";
import type { Store } from "../store/store.ts";
import { LiveFeed, parsePosition, positionAt, type FeedBatch, type FeedScope } from "./live-feed.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const application = anApplication({ uid: "shop" });
const endpoint = anEndpoint(application, { uid: "main" });
const scope: FeedScope = { organizationId: application.organizationId, applicationId: application.id };

/** A reader that keeps what it gets. */
function createReader(from = positionAt(Date.now()), isResumed = false) {
  const batches: FeedBatch[] = [];
  return {
    from,
    isResumed,
    deliver: (batch: FeedBatch) => {
      batches.push(batch);
    },
    batches,
    get types(): readonly string[] {
      return batches.flatMap(({ events }) => events.map(({ event }) => event.type));
    },
    /** The messages that were told of, as often as they were. */
    get messages(): readonly string[] {
      return batches.flatMap(({ events }) =>
        events.flatMap(({ event }) => (event.type === "message.accepted" ? [event.msgId] : [])),
      );
    },
    get missed(): number {
      return batches.reduce((sum, { missed }) => sum + (missed ?? Number.NaN), 0);
    },
  };
}

type Reader = ReturnType<typeof createReader>;

function openFeed(store: Pick<Store, "read">, options: { now?: () => number; clock?: () => number } = {}) {
  const feed = new LiveFeed({
    store,
    logger: createLogger("silent"),
    now: Date.now,
    intervalMs: 5,
    sweepIntervalMs: 50,
    ...options,
  });
  cleanups.push(() => {
    feed.close();
  });
  return feed;
}

/** Waits until the reader has been looked for at least `looks` times more. */
async function untilLooked(reader: Reader, looks = 2): Promise<void> {
  const before = reader.batches.length;
  await vi.waitFor(
    () => {
      expect(reader.batches.length).toBeGreaterThanOrEqual(before + looks);
    },
    { timeout: 10_000, interval: 5 },
  );
}

function until(assertion: () => void): Promise<void> {
  return vi.waitFor(assertion, { timeout: 10_000, interval: 5 });
}

describe.each(testDatabases)("LiveFeed on $name", (database) => {
  afterAll(() => database.close());

  async function open(): Promise<TestStore> {
    const opened = await database.open();
    cleanups.push(() => opened[Symbol.asyncDispose]());
    await opened.store.write(async (tx) => {
      await tx.applications.insert(application);
      await tx.endpoints.insert(endpoint);
    });
    return opened;
  }

  test("tells what happens to messages, with how their deliveries stand", async () => {
    const { store } = await open();
    await store.write((tx) =>
      insertDelivered(tx, aMessage(application, { createdAt: Date.now() }), endpoint),
    );
    const reader = createReader(positionAt(Date.now() + 1));
    await sleep(2);
    openFeed(store).read(scope, reader);
    await untilLooked(reader);
    const nextAttemptAt = Date.now() + 60_000;
    const message = aMessage(application, { createdAt: Date.now(), eventId: "order-1", tags: ["first"] });
    await store.write(async (tx) => {
      await insertDelivered(
        tx,
        message,
        endpoint,
        { state: "pending", nextAttemptAt },
        { id: `atmpt_${positionAt(Date.now())}z000000000000000`, succeeded: false, responseStatusCode: 503 },
      );
    });
    await until(() => {
      expect(reader.batches.flatMap(({ events }) => events)).toMatchObject([
        {
          event: {
            type: "message.accepted",
            appId: application.id,
            appUid: "shop",
            msgId: message.id,
            eventType: "order.paid",
            eventId: "order-1",
            tags: ["first"],
          },
          position: message.id.slice(4),
        },
        {
          event: {
            type: "attempt.failed",
            msgId: message.id,
            eventType: "order.paid",
            endpointId: endpoint.id,
            endpointUid: "main",
            responseStatusCode: 503,
            statusText: "pending",
            attempts: 1,
            nextAttempt: new Date(nextAttemptAt).toISOString(),
          },
          position: expect.stringMatching(/z000000000000000$/),
        },
      ]);
    });
  });

  test("tells what becomes of endpoints, and ends with the application", async () => {
    const { store } = await open();
    const reader = createReader();
    openFeed(store).read(scope, reader);
    await untilLooked(reader);
    const added = anEndpoint(application);
    await store.write((tx) => tx.endpoints.insert(added));
    await until(() => {
      expect(reader.types).toEqual(["endpoint.created"]);
    });
    await store.write((tx) => tx.endpoints.update({ ...added, disabled: true, updatedAt: Date.now() }));
    await until(() => {
      expect(reader.types.slice(1)).toEqual(["endpoint.disabled"]);
    });
    await store.write((tx) => tx.endpoints.update({ ...added, updatedAt: Date.now() + 1 }));
    await until(() => {
      expect(reader.types.slice(2)).toEqual(["endpoint.enabled"]);
    });
    await store.write((tx) =>
      tx.endpoints.update({ ...added, description: "new", updatedAt: Date.now() + 2 }),
    );
    await until(() => {
      expect(reader.types.slice(3)).toEqual(["endpoint.updated"]);
    });
    await store.write((tx) => tx.endpoints.delete(added.id));
    await until(() => {
      expect(reader.types.slice(4)).toEqual(["endpoint.deleted"]);
    });
    await store.write((tx) => tx.applications.delete(application.id));
    await until(() => {
      expect(reader.types.slice(5)).toEqual(["application.deleted"]);
      expect(reader.batches.at(-1)!.isOver).toBe(true);
    });
  });

  test("finds what others have stored, also where it turns up late, and tells it once", async () => {
    const opened = await open();
    const reader = createReader();
    openFeed(opened.store).read(scope, reader);
    await untilLooked(reader);
    const now = Date.now();
    // By another connection, as another node would.
    await fill(opened, endpoint, 3, { from: now });
    await until(() => {
      expect(reader.messages).toHaveLength(3);
    });
    // Made before those, and committed after.
    await fill(opened, endpoint, 2, { from: now - 4_000 });
    await until(() => {
      expect(reader.messages).toHaveLength(5);
    });
    await untilLooked(reader, 5);
    expect(reader.messages).toHaveLength(5);
    expect(new Set(reader.messages).size).toBe(5);
    expect(reader.types.filter((type) => type === "attempt.succeeded")).toHaveLength(5);
  });

  test("tells the newest of a flood, and how much it has left out", async () => {
    const opened = await open();
    const reader = createReader();
    openFeed(opened.store).read(scope, reader);
    await untilLooked(reader);
    await opened.store.write(async (tx) => {
      for (let count = 0; count < 800; count++) {
        await tx.messages.insert(aMessage(application, { createdAt: Date.now() }));
      }
    });
    await until(() => {
      expect(reader.messages).toHaveLength(500);
    });
    expect(reader.missed).toBe(300);
    await untilLooked(reader);
    expect(reader.messages).toHaveLength(500);
  });

  test("lets a reader go on where it has stopped, without a gap and without a repetition", async () => {
    const { store } = await open();
    const feed = openFeed(store);
    const publish = async () => {
      const message = aMessage(application, { createdAt: Date.now() });
      await store.write((tx) => tx.messages.insert(message));
      await sleep(2);
      return message.id;
    };
    const steady = createReader();
    feed.read(scope, steady);
    const first = createReader();
    const leave = feed.read(scope, first);
    await untilLooked(first);
    const published = [await publish(), await publish()];
    await until(() => {
      expect(first.messages).toEqual(published);
    });
    leave();
    published.push(await publish(), await publish());
    await store.write((tx) => tx.endpoints.update({ ...endpoint, disabled: true, updatedAt: Date.now() }));
    await untilLooked(steady);
    const { position } = first.batches.flatMap(({ events }) => events).at(-1)!;
    for (const others of [feed, openFeed(store)]) {
      const second = createReader(position!, true);
      const leaveAgain = others.read(scope, second);
      await until(() => {
        expect(second.messages).toEqual(published.slice(2));
        expect(second.types).toContain("endpoint.disabled");
      });
      leaveAgain();
    }
    published.push(await publish());
    await until(() => {
      expect(steady.messages).toEqual(published);
    });
  });

  test("watches an organization, with what is added to it, and nobody else's", async () => {
    const { store } = await open();
    const reader = createReader();
    openFeed(store).read({ ...scope, applicationId: null }, reader);
    await untilLooked(reader);
    const other = anApplication();
    const strange = anApplication({ organizationId: "other" });
    await store.write(async (tx) => {
      await tx.organizations.insert({ id: "other", name: "Other", createdAt: 0 });
      await tx.applications.insert(other);
      await tx.applications.insert(strange);
    });
    const message = aMessage(other, { createdAt: Date.now() });
    await store.write(async (tx) => {
      await tx.messages.insert(aMessage(strange, { createdAt: Date.now() }));
      await tx.messages.insert(message);
    });
    await until(() => {
      expect(reader.messages).toEqual([message.id]);
    });
  });
});

describe("LiveFeed", () => {
  const [sqlite] = testDatabases;

  async function open(): Promise<TestStore> {
    const opened = await sqlite!.open();
    cleanups.push(() => opened[Symbol.asyncDispose]());
    await opened.store.write(async (tx) => {
      await tx.applications.insert(application);
      await tx.endpoints.insert(endpoint);
    });
    return opened;
  }

  test("asks the store for nothing while nobody reads", async () => {
    const { store } = await open();
    const read = vi.spyOn(store, "read");
    const feed = openFeed(store);
    await sleep(30);
    expect(read).not.toHaveBeenCalled();
    const readers = [createReader(), createReader()];
    const leaves = readers.map((reader) => feed.read(scope, reader));
    await untilLooked(readers[0]!);
    expect(read).toHaveBeenCalled();
    for (const leave of leaves) leave();
    expect(feed.isIdle).toBe(true);
    await sleep(20);
    read.mockClear();
    await sleep(50);
    expect(read).not.toHaveBeenCalled();
  });

  test("looks once for all readers of a scope", async () => {
    const { store } = await open();
    const feed = openFeed(store);
    const one = createReader();
    feed.read(scope, one);
    await untilLooked(one);
    const read = vi.spyOn(store, "read");
    const looksOf = async (): Promise<number> => {
      read.mockClear();
      const before = one.batches.length;
      await untilLooked(one, 5);
      return read.mock.calls.length / (one.batches.length - before);
    };
    const alone = await looksOf();
    for (let count = 0; count < 20; count++) feed.read(scope, createReader());
    await untilLooked(one);
    expect(await looksOf()).toBeLessThan(alone * 2);
  });

  test("rests longer the longer a look takes", async () => {
    const { store } = await open();
    let time = 0;
    const slow: Pick<Store, "read"> = {
      read: (fn) => {
        time += 1_000;
        return store.read(fn);
      },
    };
    const reader = createReader();
    openFeed(slow, { clock: () => time }).read(scope, reader);
    await until(() => {
      expect(reader.batches).toHaveLength(1);
    });
    await sleep(100);
    expect(reader.batches).toHaveLength(1);
  });

  test("tells after an outage what was written down only then", async () => {
    const { store } = await open();
    let now = Date.now();
    let isDown = false;
    const shaky: Pick<Store, "read"> = {
      read: (fn) => (isDown ? Promise.reject(new Error("down")) : store.read(fn)),
    };
    const reader = createReader(positionAt(now));
    openFeed(shaky, { now: () => now }).read(scope, reader);
    await untilLooked(reader);
    isDown = true;
    const before = aMessage(application, { createdAt: now + 100 });
    now += 60_000;
    await sleep(50);
    isDown = false;
    await untilLooked(reader);
    await store.write((tx) => insertDelivered(tx, before, endpoint));
    await until(() => {
      expect(reader.types.toSorted()).toEqual(["attempt.succeeded", "message.accepted"]);
    });
  });

  test("goes on when the clock is set back, and repeats nothing", async () => {
    const { store } = await open();
    let now = Date.now();
    const reader = createReader(positionAt(now));
    openFeed(store, { now: () => now }).read(scope, reader);
    await untilLooked(reader);
    const first = aMessage(application, { createdAt: now + 1 });
    await store.write((tx) => tx.messages.insert(first));
    await until(() => {
      expect(reader.messages).toEqual([first.id]);
    });
    now -= 3_600_000;
    await untilLooked(reader);
    // Of a process that was started since.
    const second = aMessage(application, { createdAt: now + 1 });
    await store.write((tx) => tx.messages.insert(second));
    await until(() => {
      expect(reader.messages).toEqual([first.id, second.id]);
    });
    await untilLooked(reader);
    expect(reader.messages).toEqual([first.id, second.id]);
  });

  test("says that more was missed than it can tell, where a reader comes back late", async () => {
    const { store } = await open();
    const now = Date.now();
    await store.write(async (tx) => {
      await tx.messages.insert(aMessage(application, { createdAt: now - 600_000 }));
      await tx.messages.insert(aMessage(application, { createdAt: now - 60_000 }));
    });
    const reader = createReader(positionAt(now - 900_000), true);
    openFeed(store).read(scope, reader);
    await untilLooked(reader);
    expect(reader.messages).toHaveLength(1);
    expect(reader.batches[0]!.missed).toBeNull();
  });

  test("tells attempts at an endpoint that has just been deleted", async () => {
    const { store } = await open();
    const message = aMessage(application, { createdAt: Date.now() - 1_000 });
    await store.write((tx) => tx.messages.insert(message));
    const reader = createReader();
    openFeed(store).read(scope, reader);
    await untilLooked(reader);
    await store.write(async (tx) => {
      await tx.attempts.insert([
        anAttempt(message, endpoint, { id: `atmpt_${positionAt(Date.now())}z000000000000000` }),
      ]);
      await tx.endpoints.delete(endpoint.id);
    });
    await until(() => {
      expect(reader.types).toEqual(["attempt.succeeded", "endpoint.deleted"]);
    });
    const attempt = reader.batches.flatMap(({ events }) => events)[0]!.event;
    expect(attempt).toMatchObject({ endpointId: endpoint.id, endpointUid: "main" });
  });
});

test("parsePosition() takes what was sent, and nothing else", () => {
  const id = aMessage(application).id.slice(4);
  expect(parsePosition(id)).toBe(id);
  expect(parsePosition(positionAt(0))).toBe("0000000000");
  for (const wrong of ["", "0", id.toUpperCase(), `${id}0`, `${id.slice(0, -1)}'`, "msg_1"]) {
    expect(parsePosition(wrong)).toBeUndefined();
  }
});
