import { createProgram } from "./program.ts";

/** Commands whose output is for programs in any case. */
const programmatic: readonly (string | undefined)[] = ["serve", "key"];

// Whoever reads only the beginning, as `head` does, has what it wants.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});

const given = process.argv.slice(2);
const isForPrograms = programmatic.includes(given[0]) || given.includes("--json");
await createProgram({ isForPrograms }).parseAsync();
