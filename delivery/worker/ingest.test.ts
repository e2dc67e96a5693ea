import { describe, expect, test, vi } from "vitest";
import { LogFile } from "../store/log-file.ts";
import { application, endpointTo, event, openEngine, openReceiver } from "./engine.suite.ts";
import { makeDataDir, openArrivals, serve, type Answer } from "./process.suite.ts";

const eventually = (check: () => void | Promise<void>): Promise<void> =>
  vi.waitFor(check, { timeout: 30_000, interval: 20 });

describe("an accepted event", () => {
  test("is acknowledged only once it is on disk, with its deliveries, and sent no sooner", async () => {
    const receiver = await openReceiver();
    const { dispatcher } = await openEngine([endpointTo(receiver.url)]);
    const { promise: onDisk, resolve: finish } = Promise.withResolvers<undefined>();
    const sync = vi.spyOn(LogFile.prototype, "sync").mockImplementation(() => onDisk);
    try {
      let isAcknowledged = false;
      const published = dispatcher.publish(application, event()).then(() => (isAcknowledged = true));
      await vi.waitFor(() => {
        expect(sync).toHaveBeenCalled();
      });
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(isAcknowledged).toBe(false);
      expect(receiver.requests).toEqual([]);
      finish(undefined);
      await published;
      await vi.waitFor(() => {
        expect(receiver.requests).toHaveLength(1);
      });
    } finally {
      sync.mockRestore();
    }
  });

  test("that the disk refused is not acknowledged, and neither is any other until the next start", async () => {
    const { dispatcher, store } = await openEngine([]);
    const sync = vi
      .spyOn(LogFile.prototype, "sync")
      .mockRejectedValueOnce(Object.assign(new Error("i/o error"), { code: "EIO" }));
    await expect(dispatcher.publish(application, event())).rejects.toMatchObject({ code: "unavailable" });
    sync.mockRestore();
    await expect(dispatcher.publish(application, event())).rejects.toMatchObject({ code: "unavailable" });
    await expect(store.ping()).rejects.toThrow("i/o error");
  });
});

describe("an event that is published again", () => {
  test(
    "under its event id is one message, at the same time and after the service was killed",
    { timeout: 60_000 },
    async () => {
      const dataDir = makeDataDir();
      const arrivals = await openArrivals();
      const killed = await serve(dataDir);
      await killed.prepare("shop", [{ url: arrivals.url }]);
      const again = (payload: unknown) => ({ eventId: "order-1", payload });
      const answers = await Promise.all(
        Array.from({ length: 30 }, () => killed.publish("shop", again({ n: 1 }))),
      );
      const [first] = answers;
      expect(first).toMatchObject({ status: 202, body: { eventId: "order-1" } });
      for (const answer of answers) expect(answer).toEqual(first);
      expect(await killed.publish("shop", again({ n: 2 }))).toMatchObject({ status: 409 });
      await eventually(() => {
        expect(arrivals.all).toHaveLength(1);
      });
      await killed.kill();

      const service = await serve(dataDir);
      expect(await service.publish("shop", again({ n: 1 }))).toEqual(first);
      expect(await service.publish("shop", again({ n: 2 }))).toMatchObject({ status: 409 });
      // What was sent and not recorded when the service died comes once more, under the same id.
      await service.publish("shop", { payload: { last: true } });
      await eventually(() => {
        expect(arrivals.all.at(-1)!.payload).toEqual({ last: true });
      });
      expect([...arrivals.byId.keys()]).toHaveLength(2);
    },
  );

  test(
    "under its Idempotency-Key is one message, at the same time and after the service was killed",
    { timeout: 60_000 },
    async () => {
      const dataDir = makeDataDir();
      const arrivals = await openArrivals();
      const killed = await serve(dataDir);
      await killed.prepare("shop", [{ url: arrivals.url }]);
      const key = { "idempotency-key": "attempt-1" };
      const answers = await Promise.all(
        Array.from({ length: 30 }, () => killed.publish("shop", { payload: { n: 1 } }, key)),
      );
      const [first] = answers;
      expect(first!.status).toBe(202);
      for (const answer of answers) expect(answer).toEqual(first);
      expect(await killed.publish("shop", { payload: { n: 2 } }, key)).toMatchObject({ status: 409 });
      await killed.kill();

      const service = await serve(dataDir);
      const later: Answer = await service.publish("shop", { payload: { n: 1 } }, key);
      expect(later).toEqual(first);
      await eventually(() => {
        expect([...arrivals.byId.keys()]).toEqual([(first!.body as { id: string }).id]);
      });
    },
  );
});
