import { describe, expect, test, vi } from "vitest";
import { createLogger } from "../log.ts";
import type { Store } from "../store/store.ts";
import {
  application,
  endpointTo,
  event,
  eventually,
  lookInto,
  openFilledStore,
  openReceiver,
  openStore,
  plainDialect,
  startNode,
} from "./engine.suite.ts";
import { joinAlone, joinOthers, joinWorkers, nodeLeaseMs } from "./membership.ts";
import { createScheduleClock } from "./schedule-clock.ts";

/** A database's time, which can be moved on for all of its nodes. */
function createDatabaseTime() {
  let skippedMs = 0;
  return {
    now: async () => Date.now() + skippedMs,
    skip: (ms: number) => (skippedMs += ms),
  };
}

/**
 * A node's own way to the database, and its own time: paused, nothing that it asks the database for is answered until it
 * goes on, as with a process that is stopped or cut off.
 */
function createNodeView(store: Store, time: { now: () => Promise<number> }) {
  let gate = Promise.resolve();
  let open = (): void => undefined;
  let skippedMs = 0;
  const view = new Proxy(store, {
    get(target, name) {
      const value: unknown = name === "now" ? time.now : Reflect.get(target, name);
      if (typeof value !== "function") return value;
      if (name === "onChange") return value.bind(target);
      return async (...values: unknown[]): Promise<unknown> => {
        await gate;
        return await value.apply(target, values);
      };
    },
  });
  return {
    store: view,
    monotonic: () => performance.now() + skippedMs,
    /** Its own time goes on. */
    skip: (ms: number) => (skippedMs += ms),
    pause: () => {
      gate = new Promise((resolve) => (open = resolve));
    },
    goOn: () => {
      open();
    },
  };
}

function join(view: ReturnType<typeof createNodeView>, onBuried: () => void = () => undefined) {
  return joinOthers({
    store: view.store,
    clock: createScheduleClock(),
    logger: createLogger("silent"),
    onBuried,
    monotonic: view.monotonic,
  });
}

describe("joinOthers()", () => {
  test("gives each node a number of its own, which holds for nobody else", async () => {
    const store = await openStore();
    const time = createDatabaseTime();
    const [first, second] = [
      await join(createNodeView(store, time)),
      await join(createNodeView(store, time)),
    ];
    expect(first.number).not.toBe(second.number);
    expect([first.holds(first.number), first.holds(second.number)]).toEqual([true, false]);
    await first.close();
    const third = await join(createNodeView(store, time));
    expect([1, first.number, second.number]).not.toContain(third.number);
    await Promise.all([second.close(), third.close()]);
  });

  test("a node that has given no sign of life holds nothing, before the others may bury it", async () => {
    const store = await openStore();
    const view = createNodeView(store, createDatabaseTime());
    const node = await join(view);
    view.pause();
    expect(node.holds(node.number)).toBe(true);
    view.skip(nodeLeaseMs - 500);
    expect(node.holds(node.number)).toBe(false);
    view.goOn();
    await eventually(() => {
      expect(node.holds(node.number)).toBe(true);
    });
    await node.close();
  });

  test("one that was buried joins anew, under another number, and its work is given back", async () => {
    const store = await openFilledStore([endpointTo("http://127.0.0.1:1")]);
    const { stateOf } = lookInto(store);
    const time = createDatabaseTime();
    const views = [createNodeView(store, time), createNodeView(store, time)] as const;
    const onBuried = vi.fn();
    const [first, second] = [await join(views[0], onBuried), await join(views[1])];
    const former = second.number;
    const { id } = await store.write(async (tx) => {
      const message = {
        id: "msg_1",
        applicationId: "app_1",
        eventType: "a",
        eventId: null,
        channels: null,
        tags: [],
        orderingKey: null,
        payload: Buffer.from("{}"),
        payloadExpiresAt: null,
        createdAt: 1,
      };
      await tx.messages.insert(message);
      await tx.deliveries.insert([
        {
          messageId: message.id,
          endpointId: "ep_1",
          applicationId: "app_1",
          state: "pending",
          attempts: 0,
          nextAttemptAt: 1,
          leasedBy: former,
          trigger: "scheduled",
          order: null,
        },
      ]);
      return message;
    });
    views[1].pause();
    views[1].skip(10_000);
    time.skip(10_000);
    await eventually(async () => {
      expect(await stateOf(id)).toMatchObject({ leasedBy: null });
    });
    expect(onBuried).toHaveBeenCalled();
    expect(second.holds(former)).toBe(false);
    views[1].goOn();
    await eventually(() => {
      expect(second.number).not.toBe(former);
      expect(second.holds(second.number)).toBe(true);
    });
    expect(second.holds(former)).toBe(false);
    expect(first.holds(first.number)).toBe(true);
    await Promise.all([first.close(), second.close()]);
  });
});

describe("nodes that were cut off together", () => {
  test("do not take each other for dead", async () => {
    const store = await openStore();
    const time = createDatabaseTime();
    const views = [createNodeView(store, time), createNodeView(store, time)] as const;
    const nodes = [await join(views[0]), await join(views[1])] as const;
    const numbers = nodes.map(({ number }) => number);
    for (const view of views) {
      view.pause();
      view.skip(10_000);
    }
    time.skip(10_000);
    views[0].goOn();
    await eventually(() => {
      expect(nodes[0].holds(nodes[0].number)).toBe(true);
    });
    // The other one needs somewhat longer.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    views[1].goOn();
    await eventually(() => {
      expect(nodes[1].holds(nodes[1].number)).toBe(true);
    });
    expect(nodes.map(({ number }) => number)).toEqual(numbers);
    await Promise.all(nodes.map((node) => node.close()));
  });
});

describe("joinAlone()", () => {
  test("takes over what the process before it held, however that ended", async () => {
    const store = await openFilledStore([endpointTo("http://127.0.0.1:1")]);
    const clock = createScheduleClock();
    const before = await joinAlone({ store, clock });
    const after = await joinAlone({ store, clock });
    expect(after.number).toBeGreaterThan(before.number);
    expect(after.holds(after.number)).toBe(true);
    expect(await store.write((tx) => tx.nodes.beat(before.number, 1))).toBe(false);
    await after.close();
  });
});

describe("joinWorkers()", () => {
  test("takes over what its predecessor held, and leaves the others alone", async () => {
    const store = await openStore();
    const joining = { store, clock: createScheduleClock() };
    const [first, other] = [await joinWorkers(joining, null), await joinWorkers(joining, null)];
    const next = await joinWorkers(joining, first.number);
    const isThere = (number: number) =>
      store.write((tx) => tx.nodes.beat(number, Number.MAX_SAFE_INTEGER - 1));
    expect(await Promise.all([first, other, next].map(({ number }) => isThere(number)))).toEqual([
      false,
      true,
      true,
    ]);
  });
});

describe("a node that the others took for dead", () => {
  test("neither sends nor records what is no longer its own, and each message is recorded once", async () => {
    const answers: (() => void)[] = [];
    const receiver = await openReceiver(
      (_request, count) =>
        new Promise((resolve) => {
          const answer = (): void => {
            resolve({ status: 200 });
          };
          if (count === 1) answers.push(answer);
          else answer();
        }),
    );
    const store = await openFilledStore([endpointTo(receiver.url, { policy: { concurrency: 1 } })]);
    const { attemptsOf, stateOf } = lookInto(store);
    const time = createDatabaseTime();
    const views = [createNodeView(store, time), createNodeView(store, time)] as const;
    const dialectOf = () => ({ ...plainDialect, timeoutMs: 60_000 });
    const [paused, other] = [
      await startNode(views[0].store, { isShared: true, monotonic: views[0].monotonic, dialectOf }),
      await startNode(views[1].store, { isShared: true, monotonic: views[1].monotonic, dialectOf }),
    ];
    const former = paused.membership.number;
    const messages = await Promise.all(
      Array.from({ length: 10 }, () => paused.dispatcher.publish(application, event())),
    );
    await eventually(() => {
      expect(receiver.requests).toHaveLength(1);
    });
    for (const { id } of messages) expect(await stateOf(id)).toMatchObject({ leasedBy: former });

    views[0].pause();
    views[0].skip(10_000);
    time.skip(10_000);
    await eventually(async () => {
      for (const { id } of messages) expect(await stateOf(id)).toMatchObject({ state: "succeeded" });
    });
    expect(receiver.requests).toHaveLength(11);
    // Now its request is answered, and it goes on.
    answers[0]!();
    await new Promise((resolve) => setTimeout(resolve, 50));
    views[0].goOn();
    await eventually(() => {
      expect(paused.membership.number).not.toBe(former);
      expect(paused.dispatcher.metrics.deliveriesHeld).toBe(0);
    });
    expect(receiver.requests).toHaveLength(11);
    for (const { id } of messages) {
      expect(await attemptsOf(id)).toHaveLength(1);
      expect(receiver.requests.filter((request) => request.id === id).length).toBe(
        id === messages[0]!.id ? 2 : 1,
      );
    }
    // Both go on with what comes now.
    for (const { dispatcher } of [paused, other]) {
      const { id } = await dispatcher.publish(application, event());
      await eventually(async () => {
        expect(await stateOf(id)).toMatchObject({ state: "succeeded" });
      });
    }
  });

  test("goes on with what it holds where nobody has buried it, as after an outage of the database for all", async () => {
    const answers: (() => void)[] = [];
    const receiver = await openReceiver(
      () =>
        new Promise((resolve) => {
          answers.push(() => {
            resolve({ status: 200 });
          });
        }),
    );
    const store = await openFilledStore([endpointTo(receiver.url, { policy: { concurrency: 1 } })]);
    const { stateOf, attemptsOf } = lookInto(store);
    const view = createNodeView(store, createDatabaseTime());
    const dialectOf = () => ({ ...plainDialect, timeoutMs: 60_000 });
    const node = await startNode(view.store, { isShared: true, monotonic: view.monotonic, dialectOf });
    const { number } = node.membership;
    const messages = await Promise.all([1, 2, 3].map(() => node.dispatcher.publish(application, event())));
    await eventually(() => {
      expect(answers).toHaveLength(1);
    });
    view.pause();
    view.skip(nodeLeaseMs + 1_000);
    answers[0]!();
    await new Promise((resolve) => setTimeout(resolve, 300));
    // It does not know yet whether the others still count on it.
    expect(receiver.requests).toHaveLength(1);
    view.goOn();
    for (const next of [1, 2]) {
      await eventually(() => {
        expect(answers.length).toBeGreaterThan(next);
      });
      answers[next]!();
    }
    await eventually(async () => {
      for (const { id } of messages) {
        expect(await stateOf(id)).toMatchObject({ state: "succeeded" });
        expect(await attemptsOf(id)).toHaveLength(1);
      }
    });
    expect(node.membership.number).toBe(number);
  });

  test("two nodes that live share the work, and nothing is sent twice", async () => {
    const receiver = await openReceiver(({ headers }) => ({
      status: headers["x-attempt"] === "0" ? 400 : 200,
    }));
    const store = await openFilledStore([endpointTo(receiver.url)]);
    const { pending } = lookInto(store);
    const nodes = [await startNode(store, { isShared: true }), await startNode(store, { isShared: true })];
    await Promise.all(
      Array.from({ length: 200 }, (_, index) => nodes[index % 2]!.dispatcher.publish(application, event())),
    );
    await eventually(async () => {
      expect(await pending()).toBe(0);
    });
    const sent = receiver.requests.map(({ id, headers }) => `${id} ${String(headers["x-attempt"])}`);
    expect(sent).toHaveLength(400);
    expect(new Set(sent).size).toBe(400);
  });
});
