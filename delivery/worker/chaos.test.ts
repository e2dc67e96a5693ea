import { test } from "vitest";
import { liveThroughChaos } from "./chaos.suite.ts";

test(
  "whatever happens to its receivers, endpoints and database, a node leaves nothing waiting",
  { timeout: 240_000 },
  async () => {
    await liveThroughChaos(5, { isShared: false });
  },
);

test("and neither do two nodes on one database", { timeout: 240_000 }, async () => {
  await liveThroughChaos(3, { isShared: true });
});
