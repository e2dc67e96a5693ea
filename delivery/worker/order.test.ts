import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { emptyPolicy, type DeliveryPolicy } from "../core/policy.ts";
import {
  application,
  createTestClock,
  endpointTo,
  event,
  eventually,
  lookInto,
  openEngine,
  openFilledStore,
  openReceiver,
  plainDialect,
  startNode,
  type ReceivedDelivery,
  type Reply,
} from "./engine.suite.ts";

const fastDialect = { ...plainDialect, retryDelaysMs: new Array<number>(50).fill(0) };
const dialectOf = () => fastDialect;
const inOrder = { order: "endpoint" } as const;
const byKey = { order: "key" } as const;

/** An event that says what it is. */
function numbered(number: number, orderingKey: string | null = null) {
  return { ...event("order.paid", JSON.stringify({ number })), orderingKey };
}

function numberOf({ body }: ReceivedDelivery): number {
  return (JSON.parse(body) as { number: number }).number;
}

/** A receiver that answers with what `replyTo` says, and what it took, in the order in which it first did. */
async function openOrderReceiver(replyTo: (number: number, tries: number) => Reply | null) {
  const tries = new Map<number, number>();
  const taken: number[] = [];
  const receiver = await openReceiver((request) => {
    const number = numberOf(request);
    tries.set(number, (tries.get(number) ?? 0) + 1);
    const reply = replyTo(number, tries.get(number)!);
    if (reply && reply.status < 300 && !taken.includes(number)) taken.push(number);
    return reply;
  });
  return Object.assign(receiver, { taken, tries });
}

describe("an endpoint in strict order", () => {
  test("gets one message at a time, the next one only after the one before has succeeded", async () => {
    const receiver = await openOrderReceiver((number, tries) => ({
      status: tries <= number % 3 ? 400 : 200,
    }));
    const { dispatcher } = await openEngine([endpointTo(receiver.url, { policy: inOrder })], { dialectOf });
    await Promise.all(
      Array.from({ length: 20 }, (_, number) => dispatcher.publish(application, numbered(number))),
    );
    const expected = Array.from({ length: 20 }, (_, number) => number);
    await eventually(() => {
      expect(receiver.taken).toEqual(expected);
    });
    expect(receiver.mostOpen).toBe(1);
    expect(receiver.requests.map(numberOf)).toEqual(
      expected.flatMap((number) => new Array<number>((number % 3) + 1).fill(number)),
    );
  });

  test("by key gets the messages of each key in order, and the keys side by side", async () => {
    const held: (() => void)[] = [];
    const receiver = await openReceiver((request) =>
      numberOf(request) >= 100
        ? { status: 200 }
        : new Promise((resolve) => {
            held.push(() => {
              resolve({ status: 200 });
            });
          }),
    );
    const { dispatcher, pending } = await openEngine([endpointTo(receiver.url, { policy: byKey })], {
      dialectOf,
    });
    await dispatcher.publish(application, numbered(0, "a"));
    await dispatcher.publish(application, numbered(1, "a"));
    await dispatcher.publish(application, numbered(2, "b"));
    await dispatcher.publish(application, numbered(3));
    await dispatcher.publish(application, numbered(100));
    await dispatcher.publish(application, numbered(101, "c"));
    await eventually(() => {
      expect(receiver.requests.map(numberOf).toSorted((a, b) => a - b)).toEqual([0, 2, 3, 101]);
    });
    for (const answer of held.splice(0)) answer();
    await eventually(() => {
      expect(receiver.requests.map(numberOf)).toEqual(expect.arrayContaining([1, 100]));
    });
    for (const answer of held.splice(0)) answer();
    await eventually(async () => {
      expect(await pending()).toBe(0);
    });
  });

  test("another endpoint without order gets the same messages as they come", async () => {
    const slow = await openReceiver(() => null);
    const fast = await openReceiver();
    const { dispatcher } = await openEngine(
      [endpointTo(slow.url, { policy: inOrder }), endpointTo(fast.url, { id: "ep_2" })],
      { dialectOf },
    );
    for (let number = 0; number < 5; number++) await dispatcher.publish(application, numbered(number));
    await eventually(() => {
      expect(fast.requests).toHaveLength(5);
    });
    expect(slow.requests.map(numberOf)).toEqual([0]);
  });

  test("a restart keeps the order, what was under way included", async () => {
    let isUp = false;
    const receiver = await openOrderReceiver((number) => (number === 3 && !isUp ? null : { status: 200 }));
    const { dispatcher, node, store } = await openEngine([endpointTo(receiver.url, { policy: inOrder })], {
      dialectOf,
    });
    for (let number = 0; number < 10; number++) await dispatcher.publish(application, numbered(number));
    await eventually(() => {
      expect(receiver.requests.map(numberOf)).toEqual([0, 1, 2, 3]);
    });
    await node.stop();
    isUp = true;
    const next = await startNode(store, { dialectOf });
    await next.dispatcher.publish(application, numbered(10));
    await eventually(() => {
      expect(receiver.taken).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    });
  });

  test("its breaker holds the order up, and does not change it", async () => {
    const clock = createTestClock();
    let isUp = false;
    const receiver = await openOrderReceiver(() => ({ status: isUp ? 200 : 500 }));
    const { dispatcher, breakerOf } = await openEngine([endpointTo(receiver.url, { policy: inOrder })], {
      dialectOf,
      clock,
    });
    for (let number = 0; number < 5; number++) await dispatcher.publish(application, numbered(number));
    await eventually(async () => {
      expect(await breakerOf()).toMatchObject({ openings: 1 });
    });
    expect(new Set(receiver.requests.map(numberOf))).toEqual(new Set([0]));
    isUp = true;
    clock.skip(6_000);
    await eventually(() => {
      expect(receiver.taken).toEqual([0, 1, 2, 3, 4]);
    });
  });

  test("disabled, it keeps its messages in order until it is enabled", async () => {
    const receiver = await openOrderReceiver(() => ({ status: 200 }));
    const { dispatcher, store, stateOf } = await openEngine([endpointTo(receiver.url, { policy: inOrder })], {
      dialectOf,
    });
    receiver.respond = () => ({ status: 400 });
    const ids: string[] = [];
    for (let number = 0; number < 4; number++) {
      ids.push((await dispatcher.publish(application, numbered(number))).id);
    }
    await eventually(() => {
      expect(receiver.requests.length).toBeGreaterThan(2);
    });
    await store.write((tx) =>
      tx.endpoints.update(endpointTo(receiver.url, { policy: inOrder, disabled: true })),
    );
    await eventually(async () => {
      expect(dispatcher.metrics).toMatchObject({ deliveriesHeld: 0 });
      for (const id of ids) expect(await stateOf(id)).toMatchObject({ state: "pending", leasedBy: null });
    });
    const before = receiver.requests.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(receiver.requests).toHaveLength(before);
    receiver.respond = () => ({ status: 200 });
    await store.write((tx) => tx.endpoints.update(endpointTo(receiver.url, { policy: inOrder })));
    await eventually(() => {
      expect(receiver.requests.slice(before).map(numberOf)).toEqual([0, 1, 2, 3]);
    });
  });

  test("disabled after it was in order, it ends what waits like any other", async () => {
    const receiver = await openOrderReceiver(() => ({ status: 400 }));
    const { dispatcher, store, stateOf } = await openEngine([endpointTo(receiver.url, { policy: inOrder })], {
      dialectOf: () => plainDialect,
    });
    const ids: string[] = [];
    for (let number = 0; number < 3; number++) {
      ids.push((await dispatcher.publish(application, numbered(number))).id);
    }
    await store.write((tx) => tx.endpoints.update(endpointTo(receiver.url, { disabled: true })));
    await eventually(async () => {
      for (const id of ids) expect(await stateOf(id)).toMatchObject({ state: "failed" });
    });
  });
});

describe("an endpoint that was disabled while it was in order", () => {
  /** An endpoint that is disabled and in order, with something from before that is due. */
  async function openParked() {
    let status = 400;
    const receiver = await openReceiver(() => ({ status }));
    const engine = await openEngine([endpointTo(receiver.url)], {
      dialectOf: () => ({ ...plainDialect, retryDelaysMs: [100, 100] }),
    });
    const { id } = await engine.dispatcher.publish(application, event());
    await eventually(async () => {
      expect(await engine.stateOf(id)).toMatchObject({ attempts: 1 });
    });
    const change = (changes: Parameters<typeof endpointTo>[1]) =>
      engine.store.write((tx) => tx.endpoints.update(endpointTo(receiver.url, changes)));
    await change({ policy: inOrder, disabled: true });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await engine.stateOf(id)).toMatchObject({ state: "pending", attempts: 1, leasedBy: null });
    status = 200;
    return { ...engine, id, change };
  }

  test("goes on when it is enabled, with its order or without", async () => {
    for (const changes of [{ policy: inOrder }, {}]) {
      const { id, change, stateOf } = await openParked();
      await change(changes);
      await eventually(async () => {
        expect(await stateOf(id)).toMatchObject({ state: "succeeded" });
      });
    }
  });

  test("ends what waits when its order is given up", async () => {
    const { id, change, stateOf } = await openParked();
    await change({ disabled: true });
    await eventually(async () => {
      expect(await stateOf(id)).toMatchObject({ state: "failed" });
    });
  });
});

describe("a message whose attempts are used up", () => {
  const dialectOf = () => ({ ...plainDialect, retryDelaysMs: [0] });

  async function openBlocked(policy: Partial<DeliveryPolicy>) {
    const receiver = await openOrderReceiver((number) => ({ status: number === 1 ? 400 : 200 }));
    const engine = await openEngine([endpointTo(receiver.url, { policy: { ...inOrder, ...policy } })], {
      dialectOf,
    });
    const ids: string[] = [];
    for (let number = 0; number < 4; number++) {
      ids.push((await engine.dispatcher.publish(application, numbered(number))).id);
    }
    const heads = () => engine.store.read((tx) => tx.deliveries.listHeads("ep_1", 10));
    return { ...engine, receiver, ids, heads };
  }

  test("blocks those behind it, visibly, over a restart too", async () => {
    const { receiver, ids, heads, node, store, stateOf } = await openBlocked({});
    await eventually(async () => {
      expect(await stateOf(ids[1]!)).toMatchObject({ state: "pending", attempts: 2, nextAttemptAt: null });
    });
    const blocked = [
      {
        delivery: expect.objectContaining({ messageId: ids[1], nextAttemptAt: null, leasedBy: null }),
        behind: 2,
      },
    ];
    expect(await heads()).toEqual(blocked);
    await node.stop();
    await startNode(store, { dialectOf });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await heads()).toEqual(blocked);
    expect(receiver.taken).toEqual([0]);
    expect(receiver.tries.get(1)).toBe(2);
  });

  test("goes on when it is resent, and those behind it after it", async () => {
    const { receiver, ids, dispatcher, stateOf } = await openBlocked({});
    await eventually(async () => {
      expect(await stateOf(ids[1]!)).toMatchObject({ attempts: 2, nextAttemptAt: null });
    });
    // One that waits for its turn keeps its place.
    await dispatcher.resend(application, ids[3]!, "ep_1");
    receiver.respond = () => ({ status: 200 });
    await dispatcher.resend(application, ids[1]!, "ep_1");
    await eventually(() => {
      expect(receiver.requests.map(numberOf)).toEqual([0, 1, 1, 1, 2, 3]);
    });
  });

  test("lets those behind it go on when it is skipped by hand, or its endpoint's policy is to skip it", async () => {
    const byHand = await openBlocked({});
    await eventually(async () => {
      expect(await byHand.stateOf(byHand.ids[1]!)).toMatchObject({ attempts: 2, nextAttemptAt: null });
    });
    await byHand.store.write(async (tx) => {
      const head = (await tx.deliveries.find(byHand.ids[1]!, "ep_1"))!;
      await tx.deliveries.settle([{ ...head, state: "failed" }], Date.now());
    });
    const byPolicy = await openBlocked({ whenExhausted: "skip" });
    for (const { receiver, ids, stateOf } of [byHand, byPolicy]) {
      await eventually(() => {
        expect(receiver.taken).toEqual([0, 2, 3]);
      });
      expect(await stateOf(ids[1]!)).toMatchObject({ state: "failed" });
    }
    // Sent again later it comes out of turn.
    byPolicy.receiver.respond = () => ({ status: 200 });
    await byPolicy.dispatcher.resend(application, byPolicy.ids[1]!, "ep_1");
    await eventually(async () => {
      expect(await byPolicy.stateOf(byPolicy.ids[1]!)).toMatchObject({ state: "succeeded", place: null });
    });
  });

  test("blocks its own key alone", async () => {
    const receiver = await openOrderReceiver((number) => ({ status: number === 1 ? 400 : 200 }));
    const { dispatcher } = await openEngine([endpointTo(receiver.url, { policy: byKey })], { dialectOf });
    for (const [number, key] of ["a", "b", "a", "b"].entries()) {
      await dispatcher.publish(application, numbered(number, key));
    }
    await eventually(() => {
      expect(receiver.tries.get(1)).toBe(2);
      expect(receiver.taken).toEqual(expect.arrayContaining([0, 2]));
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(receiver.tries.has(3)).toBe(false);
  });
});

describe("two nodes on one database", () => {
  test("keep one order between them, whoever accepts and whoever sends", async () => {
    const receiver = await openOrderReceiver((number, tries) => ({
      status: tries <= number % 2 ? 400 : 200,
    }));
    const store = await openFilledStore([endpointTo(receiver.url, { policy: inOrder })]);
    const nodes = [
      await startNode(store, { dialectOf, isShared: true }),
      await startNode(store, { dialectOf, isShared: true }),
    ];
    for (let number = 0; number < 40; number++) {
      await nodes[number % 2]!.dispatcher.publish(application, numbered(number));
    }
    await eventually(() => {
      expect(receiver.taken).toEqual(Array.from({ length: 40 }, (_, number) => number));
    });
    expect(receiver.requests).toHaveLength(60);
    expect(receiver.mostOpen).toBe(1);
  });
});

test("whatever a receiver answers, and however often the service restarts, first successes come in the order of publishing", async () => {
  const replies = fc.constantFrom<Reply>({ status: 200 }, { status: 400 }, { status: 429 }, { status: 302 });
  const scenes = fc.record({
    order: fc.constantFrom("endpoint" as const, "key" as const),
    messages: fc.array(
      fc.record({
        key: fc.constantFrom("a", "b", null),
        replies: fc.array(replies, { maxLength: 4 }),
      }),
      { minLength: 1, maxLength: 12 },
    ),
    restarts: fc.array(fc.nat(30), { maxLength: 2 }),
  });
  const receiver = await openReceiver();
  const store = await openFilledStore([]);
  const { pending } = lookInto(store);
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(scenes, async ({ order, messages, restarts }) => {
      const id = `ep_${++runs}`;
      const url = `${receiver.url}/${id}`;
      const policy = { ...emptyPolicy, order };
      const tries = new Map<number, number>();
      const taken: number[] = [];
      receiver.respond = (request) => {
        const number = numberOf(request);
        const answered = tries.get(number) ?? 0;
        tries.set(number, answered + 1);
        const reply = messages[number]!.replies[answered] ?? { status: 200 };
        if (reply.status === 200 && !taken.includes(number)) taken.push(number);
        return reply;
      };
      await store.write((tx) => tx.endpoints.insert(endpointTo(url, { id, policy })));
      let node = await startNode(store, { dialectOf });
      for (const [number, { key }] of messages.entries()) {
        await node.dispatcher.publish(application, numbered(number, key));
      }
      for (const afterMs of restarts) {
        await new Promise((resolve) => setTimeout(resolve, afterMs));
        await node.stop();
        node = await startNode(store, { dialectOf });
      }
      await eventually(async () => {
        expect(await pending()).toBe(0);
      });
      await node.stop();
      await store.write((tx) => tx.endpoints.delete(id));
      const keyOf = (number: number) => (order === "key" ? messages[number]!.key : null);
      for (const key of ["a", "b", null]) {
        const published = messages.map((_, number) => number).filter((number) => keyOf(number) === key);
        expect(taken.filter((number) => keyOf(number) === key)).toEqual(published);
      }
    }),
    { numRuns: 25 },
  );
}, 60_000);
