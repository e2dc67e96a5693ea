import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { Child } from "./child.ts";
import { nowUs } from "./clock.ts";
import type { ReceiverMethods } from "./receiver.ts";
import { emptyStamp, writeStamp } from "./stamp.ts";

const receiver = new Child<ReceiverMethods>("receiver.ts");
let port: number;
beforeAll(async () => {
  port = await receiver.call("listen");
});
afterAll(() => receiver[Symbol.asyncDispose]());

function send(path: string, number: number, startedAtUs = nowUs()): Promise<Response> {
  const body = Buffer.from(`{"stamp":"${emptyStamp}"}`);
  writeStamp(body, body.indexOf(emptyStamp), number, startedAtUs);
  return fetch(`http://127.0.0.1:${port}/${path}`, { method: "POST", body });
}

describe("the receiver", () => {
  test("counts each event once, its further arrivals too, and those of earlier measurements apart", async () => {
    await receiver.call("begin", 50);
    for (const number of [50, 51, 51, 53, 49]) expect((await send("fast/1", number)).status).toBe(200);
    expect(await receiver.call("progress")).toEqual({ distinct: 3, requests: 5 });
    const { times, stray, latency } = await receiver.call("end");
    expect([...times.subarray(0, 5)]).toEqual([1, 2, 0, 1, 0]);
    expect(stray).toBe(1);
    expect(latency.count).toBe(3);
  });

  test("takes the time from the start that the event carries, by the clock of all processes", async () => {
    await receiver.call("begin", 0);
    const sentAtUs = nowUs();
    await send("fast", 0, sentAtUs - 3_600_000_000);
    const { latency, lastAtUs } = await receiver.call("end");
    expect(lastAtUs).toBeGreaterThanOrEqual(sentAtUs);
    expect(lastAtUs).toBeLessThanOrEqual(nowUs());
    expect(latency.max).toBeCloseTo((lastAtUs - sentAtUs) / 1e3 + 3_600_000, 1);
  });

  test("holds an answer back and says for how long", async () => {
    await receiver.call("begin", 0);
    await send("delay/30", 2);
    const { holdsMs } = await receiver.call("end");
    expect(holdsMs).toHaveLength(3);
    expect(holdsMs[0]).toBeNaN();
    expect(holdsMs[2]).toBeGreaterThanOrEqual(29);
  });

  test("behind a closed gate it takes requests and counts none, and cuts them off as the gate opens", async () => {
    await receiver.call("begin", 0);
    await receiver.call("gate", false);
    const refused = expect(send("gate", 0)).rejects.toThrow();
    await vi.waitFor(async () => {
      expect(await receiver.call("progress")).toEqual({ distinct: 0, requests: 1 });
    });
    await receiver.call("gate", true);
    await refused;
    expect((await send("gate", 0)).status).toBe(200);
    expect((await receiver.call("progress")).distinct).toBe(1);
  });

  test("listens on the other addresses of this machine too", async () => {
    const socket = connect({ port, host: "127.1.2.3" });
    await new Promise<void>((resolve, reject) => {
      socket.on("connect", resolve);
      socket.on("error", reject);
    });
    socket.destroy();
  });
});
