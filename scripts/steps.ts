import { spawn } from "node:child_process";

/** One command of a longer run. */
export interface Step {
  readonly title: string;
  readonly command: readonly [string, ...string[]];
}

/** Runs the steps one after the other, all of them, and answers whether every one succeeded. */
export async function runSteps(steps: readonly Step[]): Promise<boolean> {
  let ok = true;
  for (const { title, command } of steps) {
    const startedAt = Date.now();
    const code = await run(command);
    const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
    console.log(`${code === 0 ? "ok  " : "FAIL"} ${title} (${seconds} s)`);
    ok &&= code === 0;
  }
  return ok;
}

function run([program, ...args]: Step["command"]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: "inherit" });
    child.on("error", reject);
    child.on("exit", (code) => {
      resolve(code ?? 1);
    });
  });
}
