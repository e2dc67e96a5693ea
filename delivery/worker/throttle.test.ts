import { describe, expect, test } from "vitest";
import {
  application,
  endpointTo,
  event,
  eventually,
  openFilledStore,
  openReceiver,
  plainDialect,
  startNode,
  type ReceivedDelivery,
} from "./engine.suite.ts";

/**
 * The most requests that arrived in any window of a second. A rate that is kept exactly gives one more than the rate, for
 * both ends of the window count; a busy machine may deliver late what was sent in time, and so give some more.
 */
function mostInASecond(requests: readonly ReceivedDelivery[]): number {
  const times = requests.map(({ at }) => at).toSorted((a, b) => a - b);
  let most = 0;
  let first = 0;
  for (const [index, at] of times.entries()) {
    while (times[first]! < at - 1_000) first++;
    most = Math.max(most, index - first + 1);
  }
  return most;
}

/** How far apart the first and the last request are, in seconds. */
function spanSeconds(requests: readonly ReceivedDelivery[]): number {
  return (requests.at(-1)!.at - requests[0]!.at) / 1_000;
}

const rate = 40;

describe("an endpoint's throttleRate", () => {
  test("is kept, however much waits and however fast it answers", async () => {
    const receiver = await openReceiver();
    const other = await openReceiver();
    const store = await openFilledStore([
      endpointTo(receiver.url, { throttleRate: rate }),
      endpointTo(other.url, { id: "ep_2" }),
    ]);
    const { dispatcher } = await startNode(store);
    await Promise.all(Array.from({ length: 61 }, () => dispatcher.publish(application, event())));
    // Another endpoint without one gets everything meanwhile.
    await eventually(() => {
      expect(other.requests).toHaveLength(61);
    });
    expect(receiver.requests.length).toBeLessThan(61);
    await eventually(() => {
      expect(receiver.requests).toHaveLength(61);
    });
    expect(mostInASecond(receiver.requests)).toBeLessThanOrEqual(rate * 1.5);
    expect(spanSeconds(receiver.requests)).toBeGreaterThanOrEqual(1.2);
  });

  test("is its application's where it has none of its own", async () => {
    const receiver = await openReceiver();
    const store = await openFilledStore([endpointTo(receiver.url)]);
    await store.write((tx) => tx.applications.update({ ...application, throttleRate: rate }));
    const { dispatcher } = await startNode(store);
    await Promise.all(Array.from({ length: 31 }, () => dispatcher.publish(application, event())));
    await eventually(() => {
      expect(receiver.requests).toHaveLength(31);
    });
    expect(spanSeconds(receiver.requests)).toBeGreaterThanOrEqual(0.6);
  });

  test("holds for retries as well", async () => {
    const receiver = await openReceiver(() => ({ status: 400 }));
    const store = await openFilledStore([endpointTo(receiver.url, { throttleRate: rate })]);
    const { dispatcher } = await startNode(store, {
      dialectOf: () => ({ ...plainDialect, retryDelaysMs: [0, 0, 0] }),
    });
    await Promise.all(Array.from({ length: 10 }, () => dispatcher.publish(application, event())));
    await eventually(() => {
      expect(receiver.requests).toHaveLength(40);
    });
    expect(mostInASecond(receiver.requests)).toBeLessThanOrEqual(rate * 1.5);
    expect(spanSeconds(receiver.requests)).toBeGreaterThanOrEqual(0.8);
  });

  test("is shared by two nodes on one database", async () => {
    const receiver = await openReceiver();
    const store = await openFilledStore([endpointTo(receiver.url, { throttleRate: rate })]);
    const nodes = [await startNode(store, { isShared: true }), await startNode(store, { isShared: true })];
    await Promise.all(
      Array.from({ length: 60 }, (_, index) => nodes[index % 2]!.dispatcher.publish(application, event())),
    );
    await eventually(() => {
      expect(receiver.requests).toHaveLength(60);
    });
    expect(mostInASecond(receiver.requests)).toBeLessThanOrEqual(rate * 1.5);
    expect(spanSeconds(receiver.requests)).toBeGreaterThanOrEqual(1.2);
  });

  test("goes on after a restart where it stood", async () => {
    const receiver = await openReceiver();
    const store = await openFilledStore([endpointTo(receiver.url, { throttleRate: 4 })]);
    let node = await startNode(store);
    await Promise.all(Array.from({ length: 7 }, () => node.dispatcher.publish(application, event())));
    for (let sent = 1; sent < 7; sent++) {
      await eventually(() => {
        expect(receiver.requests.length).toBeGreaterThanOrEqual(sent);
      });
      // Without its slots in the store, each start would send one at once.
      await node.stop(1_000);
      node = await startNode(store);
    }
    await eventually(() => {
      expect(receiver.ids()).toHaveLength(7);
    });
    expect(mostInASecond(receiver.requests)).toBeLessThanOrEqual(6);
    expect(spanSeconds(receiver.requests)).toBeGreaterThanOrEqual(1.2);
  });
});
