// Sets the checkout up, then runs a script of it with its own Node 24: `node scripts/run.js <script.ts> [args]`.
import { spawn } from "node:child_process";
import path from "node:path";
import { engineEnv, root } from "./engine.js";
import { setup } from "./setup.js";

try {
  await setup();
  const [script, ...args] = process.argv.slice(2);
  const child = spawn(path.join(root, "node_modules", ".bin", "node"), [path.resolve(script), ...args], {
    stdio: "inherit",
    env: engineEnv(),
  });
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
  child.on("exit", (code) => {
    process.exitCode = code ?? 1;
  });
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
