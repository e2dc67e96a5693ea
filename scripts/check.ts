// `npm run check`: everything that can be known without running the product. `--fix` mends what can be mended.
import { runSteps } from "./steps.ts";

const fix = process.argv.includes("--fix");

const ok = await runSteps([
  { title: "format (prettier)", command: ["prettier", fix ? "--write" : "--check", "--log-level=warn", "."] },
  { title: "types (tsc)", command: ["tsc", "-p", "tsconfig.json"] },
  { title: "lint (eslint)", command: ["eslint", "--max-warnings=0", ...(fix ? ["--fix"] : []), "."] },
  { title: "unused code and dependencies (knip)", command: ["knip"] },
  { title: "generated files", command: ["node", "scripts/generate.ts", ...(fix ? [] : ["--check"])] },
]);
process.exitCode = ok ? 0 : 1;
