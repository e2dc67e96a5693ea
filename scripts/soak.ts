// `npm run test:soak`: the long form of the delivery service's guarantees, with figures. With arguments
// (`npm run test:soak -- killing`) only the files they select.
import { runSteps } from "./steps.ts";

const args = process.argv.slice(2);
const ok = await runSteps([
  { title: "soak", command: ["vitest", "run", "--config", "test/soak/vitest.config.ts", ...args] },
]);
process.exitCode = ok ? 0 : 1;
