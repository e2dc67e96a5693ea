#!/usr/bin/env node
// `npm run -s pulumi -- <args>` and `npx pulumi <args>`: the engine of this checkout, with its own home and backend.
import path from "node:path";
import { runPulumi, root } from "./engine.js";
import { setup } from "./setup.js";

const npmRanThis = process.env.npm_lifecycle_event === "pulumi" && process.cwd() === root;
try {
  await setup();
  // npm changes to the package's folder; a path given with -C is meant from where the person stands.
  process.exitCode = await runPulumi(
    process.argv.slice(2),
    npmRanThis ? (process.env.INIT_CWD ?? root) : process.cwd(),
  );
} catch (error) {
  process.stderr.write(`${path.basename(import.meta.filename)}: ${error.message}\n`);
  process.exitCode = 1;
}
