import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    reporters: ["default", "./test/summary-reporter.ts"],
    pool: "forks",
    projects: [
      {
        test: {
          name: "unit",
          include: ["{provider,delivery,cli,bench}/**/*.test.ts", "test/{contract,setup}/**/*.test.ts"],
          testTimeout: 20_000,
          hookTimeout: 30_000,
        },
      },
      {
        // The real Pulumi engine: a few seconds an operation, and a process or three each.
        test: {
          name: "engine",
          include: ["test/engine/**/*.test.ts"],
          testTimeout: 180_000,
          hookTimeout: 180_000,
          maxWorkers: 2,
        },
      },
    ],
  },
});
