import { test } from "vitest";
import { liveThroughChaos } from "../../delivery/worker/chaos.suite.ts";

const runs = 200;

test(`${runs} lives of a node, whatever happens to its receivers, endpoints and database`, async () => {
  await liveThroughChaos(runs, { isShared: false });
});

test(`${runs} lives of two nodes on one database`, async () => {
  await liveThroughChaos(runs, { isShared: true });
});
