// `npm test`: the checks and every test. With arguments (`npm test -- delivery/store`) only the tests they select.
import { runSteps } from "./steps.ts";

const args = process.argv.slice(2);
const tests = { title: "tests (vitest)", command: ["vitest", "run", ...args] as const };
const checks = { title: "checks", command: ["node", "scripts/check.ts"] as const };

const ok = await runSteps(args.length > 0 ? [tests] : [checks, tests]);
process.exitCode = ok ? 0 : 1;
