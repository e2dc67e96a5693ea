import { describe, expect, test } from "vitest";
import { Ledger, settle } from "./ledger.ts";

describe("Ledger", () => {
  test("counts an event once, and its further arrivals as twice", () => {
    const ledger = new Ledger(100);
    for (const number of [100, 102, 102, 102, 99]) ledger.receive(number, 1_000, 4_000);
    expect(ledger.distinct).toBe(2);
    expect(ledger.stray).toBe(1);
    expect([...ledger.times.subarray(0, 4)]).toEqual([1, 0, 3, 0]);
  });

  test("takes the time to the first arrival, in milliseconds", () => {
    const ledger = new Ledger(0);
    ledger.receive(0, 1_000, 3_500);
    ledger.receive(0, 1_000, 900_000);
    ledger.receive(1, 1_000, 5_000);
    expect(ledger.latency()).toMatchObject({ count: 2, p50: 2.5, max: 4 });
    expect(ledger.lastAtUs).toBe(5_000);
  });

  test("has room for as many events as come", () => {
    const ledger = new Ledger(0);
    ledger.receive(3_000_000, 0, 1);
    expect(ledger.times[3_000_000]).toBe(1);
    expect(ledger.distinct).toBe(1);
  });
});

describe("settle()", () => {
  const accepted = Uint8Array.from([1, 1, 1, 0, 0]);
  const times = Uint8Array.from([1, 0, 3, 0, 1, 2]);

  test("tells lost events from those that nobody promised", () => {
    expect(settle(accepted, times)).toEqual({
      accepted: 3,
      delivered: 2,
      lost: 1,
      twice: 3,
      unacknowledged: 2,
    });
  });

  test("passes over events that the receiver does not answer", () => {
    expect(settle(accepted, times, (index) => index === 1)).toEqual({
      accepted: 1,
      delivered: 0,
      lost: 1,
      twice: 0,
      unacknowledged: 0,
    });
  });
});
