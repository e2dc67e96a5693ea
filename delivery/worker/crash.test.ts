import { describe, expect, test, vi } from "vitest";
import { killAgainAndAgain } from "./killing.suite.ts";
import { makeDataDir, openArrivals, serve } from "./process.suite.ts";

/** Requests at one endpoint at a time, and as many whose answers had come and were not recorded yet. */
const mostInFlight = 2 * 64;

describe("hookplane serve, killed", () => {
  test(
    "delivers every event that it acknowledged, under one id each, and in order where that is asked for",
    { timeout: 180_000 },
    async () => {
      const figures = await killAgainAndAgain(8);
      expect(figures).toMatchObject({ rounds: 8, lost: 0 });
      expect(figures.acknowledged).toBeGreaterThan(100);
      // Sent twice is only what was under way when the process died.
      expect(figures.mostTwice).toBeLessThanOrEqual(mostInFlight);
    },
  );
});

describe("hookplane serve with two workers", () => {
  test("keeps the same promises when it is killed as a whole", { timeout: 180_000 }, async () => {
    const figures = await killAgainAndAgain(3, { flags: ["--workers", "2"] });
    expect(figures).toMatchObject({ rounds: 3, lost: 0 });
    expect(figures.mostTwice).toBeLessThanOrEqual(2 * mostInFlight);
  });
});

describe("hookplane serve on a full disk", () => {
  test("answers 503, stays up, and has lost nothing that it acknowledged", { timeout: 60_000 }, async () => {
    const dataDir = makeDataDir();
    const arrivals = await openArrivals();
    // No file grows beyond this many blocks of 512 bytes; writing on is an error and not a signal.
    const full = await serve(dataDir, { limits: "trap '' XFSZ; ulimit -f 4000;" });
    await full.prepare("shop", [{ url: arrivals.url }]);
    const acknowledged: string[] = [];
    const payload = { text: "x".repeat(20_000) };
    let answer = await full.publish("shop", { payload });
    while (answer.status === 202) {
      acknowledged.push((answer.body as { id: string }).id);
      expect(acknowledged.length).toBeLessThan(1_000);
      answer = await full.publish("shop", { payload });
    }
    expect(answer).toMatchObject({ status: 503, retryAfter: expect.stringMatching(/^\d+$/) });
    expect((await full.call("GET", "/healthz")).status).toBe(200);
    expect(full.isRunning).toBe(true);
    await full.kill();

    await serve(dataDir);
    expect(acknowledged.length).toBeGreaterThan(5);
    await vi.waitFor(
      () => {
        expect(acknowledged.filter((id) => !arrivals.byId.has(id))).toEqual([]);
      },
      { timeout: 15_000 },
    );
  });
});
