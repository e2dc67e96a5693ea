import { defineConfig } from "vitest/config";

/** What takes minutes: `npm run test:soak`. One file at a time, so that the figures are of what is measured. */
export default defineConfig({
  test: {
    name: "soak",
    root: import.meta.dirname,
    include: ["*.test.ts"],
    reporters: ["default", "../summary-reporter.ts"],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 3_600_000,
    hookTimeout: 300_000,
  },
});
