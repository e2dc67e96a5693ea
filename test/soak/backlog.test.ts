import { expect, test } from "vitest";
import { pileUp, type BacklogFigures } from "../../delivery/worker/backlog.suite.ts";

function print({ waiting, residentMiB, ...figures }: BacklogFigures): void {
  console.log(
    `${waiting} waiting: ${residentMiB.before} MiB before, ${residentMiB.most} MiB at most; ` +
      `${figures.healthCalls} health checks, the slowest ${figures.slowestHealthMs} ms; ready ${figures.readyMs} ms ` +
      `after the restart, everything delivered ${figures.drainMs} ms after that, ${figures.twice} twice`,
  );
}

test("100,000 deliveries of 8 KiB wait for an endpoint that hangs, in bounded memory", async () => {
  const figures = await pileUp(100_000, 8 * 1024);
  print(figures);
  // Their payloads alone are 800 MiB.
  expect(figures.residentMiB.most).toBeLessThan(512);
  expect(figures.twice).toBeLessThanOrEqual(4);
});

test("200,000 waiting deliveries hold no start up, and are delivered", async () => {
  const figures = await pileUp(200_000, 200);
  print(figures);
  expect(figures.readyMs).toBeLessThan(15_000);
  expect(figures.twice).toBeLessThanOrEqual(4);
});
