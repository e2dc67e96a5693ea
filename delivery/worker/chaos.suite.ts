import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { expect } from "vitest";
import type { DeliveryPolicy } from "../core/policy.ts";
import { ServiceError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import {
  application,
  createTestClock,
  endpointTo,
  event,
  eventually,
  openFilledStore,
  openReceiver,
  plainDialect,
  startNode,
  type Reply,
  type TestNode,
} from "./engine.suite.ts";

const endpointIds = ["ep_1", "ep_2", "ep_3"] as const;
const dialect = { ...plainDialect, retryDelaysMs: [20, 20, 5_000], timeoutMs: 250 };
/** Longer than a breaker stays open, and than any retry is away. */
const longMs = 10 * 60_000;

type Behavior = { readonly status: number } | { readonly hangs: true } | { readonly slowMs: number };
type Step =
  | { readonly kind: "publish"; readonly events: readonly (string | null)[]; readonly node: number }
  | { readonly kind: "behave"; readonly endpoint: number; readonly behavior: Behavior }
  | {
      readonly kind: "change";
      readonly endpoint: number;
      readonly policy: Partial<DeliveryPolicy>;
      readonly throttleRate: number | null;
      readonly disabled: boolean;
    }
  | { readonly kind: "resend"; readonly message: number; readonly endpoint: number; readonly node: number }
  | { readonly kind: "restart"; readonly node: number }
  | { readonly kind: "outage"; readonly calls: number }
  | { readonly kind: "skip"; readonly ms: number }
  | { readonly kind: "wait"; readonly ms: number };

const endpoint = fc.nat(endpointIds.length - 1);
const node = fc.nat(1);
const behavior: fc.Arbitrary<Behavior> = fc.oneof(
  fc.record({ status: fc.constantFrom(200, 302, 400, 410, 429, 500, 500, 503) }),
  fc.constant({ hangs: true } as const),
  fc.record({ slowMs: fc.integer({ min: 1, max: 100 }) }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("publish" as const),
      events: fc.array(fc.constantFrom("a", "b", null), { minLength: 1, maxLength: 12 }),
      node,
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("behave" as const), endpoint, behavior }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("change" as const),
      endpoint,
      policy: fc.record({
        order: fc.constantFrom("none", "endpoint", "key", null),
        concurrency: fc.constantFrom(1, 3, null),
        whenExhausted: fc.constant("skip" as const),
      }),
      throttleRate: fc.constantFrom(null, null, 40),
      disabled: fc.constantFrom(false, false, true),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("resend" as const), message: fc.nat(), endpoint, node }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const), node }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("outage" as const), calls: fc.integer({ min: 1, max: 4 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("skip" as const), ms: fc.constantFrom(100, 6_000, 60_000) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.nat(60) }) },
);

/** A store that cannot be used for a number of calls, whenever that is asked for. */
function createFailing(store: Store) {
  const failing = { calls: 0 };
  const names: readonly (string | symbol)[] = ["read", "write", "accept", "settle", "claim"];
  const view = new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      if (!names.includes(name)) return value.bind(target);
      return (...values: unknown[]): unknown => {
        if (failing.calls === 0) return value.apply(target, values);
        failing.calls--;
        return Promise.reject(new ServiceError("unavailable", "the database is gone for a moment"));
      };
    },
  });
  return { view, failing };
}

/**
 * Does at random what happens to a delivery engine in its life: receivers that fail in every way, endpoints that are
 * changed, disabled and sent to by hand, restarts, outages of the database, one node or two. Expects that, once everybody
 * is well, nothing is left waiting: no delivery is in nobody's hands.
 */
export async function liveThroughChaos(
  runs: number,
  options: { seed?: number; isShared: boolean },
): Promise<void> {
  const receiver = await openReceiver();
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
      await live(receiver, steps, options.isShared);
    }),
    { numRuns: runs, endOnFailure: true, ...(options.seed !== undefined && { seed: options.seed }) },
  );
}

async function live(
  receiver: Awaited<ReturnType<typeof openReceiver>>,
  steps: readonly Step[],
  isShared: boolean,
): Promise<void> {
  const behaviors = new Map<string, Behavior>();
  const hanging: (() => void)[] = [];
  receiver.respond = async ({ url }): Promise<Reply | null> => {
    const current = behaviors.get(url) ?? { status: 200 };
    if ("status" in current) return { status: current.status };
    if ("slowMs" in current) await sleep(current.slowMs);
    else await new Promise<void>((resolve) => hanging.push(resolve));
    return { status: 200 };
  };
  const urlOf = (id: string): string => `${receiver.url}/${id}`;
  const store = await openFilledStore(endpointIds.map((id) => endpointTo(urlOf(id), { id })));
  const { view, failing } = createFailing(store);
  const clock = createTestClock();
  const start = (): Promise<TestNode> =>
    startNode(view, { clock, dialectOf: () => dialect, disableAfterMs: 30 * 60_000, isShared });
  const nodes = isShared ? [await start(), await start()] : [await start()];
  const nodeOf = (index: number): TestNode => nodes[index % nodes.length]!;
  const messages: string[] = [];

  /** What may fail while the database cannot be used, or when what it names is not as it must be. */
  const tolerant = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      expect(error).toBeInstanceOf(ServiceError);
    }
  };
  const doStep = async (now: Step): Promise<void> => {
    switch (now.kind) {
      case "publish": {
        const { dispatcher } = nodeOf(now.node);
        await Promise.all(
          now.events.map((orderingKey) =>
            tolerant(async () => {
              messages.push((await dispatcher.publish(application, { ...event(), orderingKey })).id);
            }),
          ),
        );
        return;
      }
      case "behave":
        behaviors.set(`/${endpointIds[now.endpoint]!}`, now.behavior);
        return;
      case "change": {
        const id = endpointIds[now.endpoint]!;
        const { kind: _kind, endpoint: _endpoint, ...changes } = now;
        await store.write((tx) => tx.endpoints.update(endpointTo(urlOf(id), { id, ...changes })));
        return;
      }
      case "resend": {
        const id = messages[now.message % messages.length];
        if (id === undefined) return;
        await tolerant(() => nodeOf(now.node).dispatcher.resend(application, id, endpointIds[now.endpoint]!));
        return;
      }
      case "restart": {
        failing.calls = 0;
        const index = now.node % nodes.length;
        await nodes[index]!.stop();
        nodes[index] = await start();
        return;
      }
      case "outage":
        failing.calls = now.calls;
        return;
      case "skip":
        clock.skip(now.ms);
        return;
      case "wait":
        await sleep(now.ms);
    }
  };
  for (const now of steps) await doStep(now);

  // Everybody is well again.
  failing.calls = 0;
  behaviors.clear();
  for (const answer of hanging.splice(0)) answer();
  const enable = (): Promise<void> =>
    store.write(async (tx) => {
      for (const { disabled, ...current } of await tx.endpoints.list(application.id)) {
        if (disabled) await tx.endpoints.update({ ...current, disabled: false });
      }
    });
  let skippedAt = -Infinity;
  await eventually(async () => {
    // Nodes take each other for dead when their clock leaps, and need a moment to go on.
    if (performance.now() - skippedAt > 3_000) {
      clock.skip(longMs);
      skippedAt = performance.now();
    }
    // What was under way may have disabled it only now.
    await enable();
    await sleep(50);
    const left = await store.read(async (tx) => {
      const all = await Promise.all(
        endpointIds.map((id) =>
          tx.deliveries.listByEndpoint(id, { applicationId: application.id, state: "pending" }, { limit: 9 }),
        ),
      );
      return all.flat().map(({ delivery }) => delivery);
    });
    expect(left).toEqual([]);
  }, 40_000);
  for (const { dispatcher } of nodes) {
    await eventually(() => {
      expect(dispatcher.metrics).toMatchObject({ deliveriesHeld: 0, attemptsRunning: 0 });
    });
  }
  // Each message went to every endpoint that it was for, or was given up: its record says which.
  for (const id of messages) {
    for (const delivery of await store.read((tx) => tx.deliveries.listByMessage(id))) {
      expect(delivery).toMatchObject({
        state: expect.stringMatching(/^(succeeded|failed)$/),
        leasedBy: null,
      });
    }
  }
  for (const each of nodes) await each.stop();
}
