#!/usr/bin/env node
// Starts the command line: from source in a checkout, from dist/ in the installed package.
import { spawn } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

const neededMajor = 24;

function pathOf(relative) {
  return fileURLToPath(new URL(relative, import.meta.url));
}

// Names are resolved on half of these threads. With libuv's 4, two that nobody answers for would hold up all others.
process.env.UV_THREADPOOL_SIZE ??= "64";

if (Number(process.versions.node.split(".", 1)[0]) >= neededMajor) {
  await import(existsSync(pathOf("../cli/main.ts")) ? "../cli/main.ts" : "../dist/cli/main.js");
} else {
  rerun();
}

/** Runs this very command again with a newer Node, and ends as that one ends. */
function rerun() {
  const node = [pathOf("../node_modules/.bin/node"), process.env.HOOKPLANE_NODE ?? ""].find(
    (path) => existsSync(path) && realpathSync(path) !== process.execPath,
  );
  if (node === undefined) {
    console.error(
      `hookplane needs Node ${neededMajor} or newer, and this is Node ${process.versions.node}: ` +
        `install Node ${neededMajor}, or set HOOKPLANE_NODE to the path of its executable.`,
    );
    process.exit(1);
  }
  const child = spawn(node, process.argv.slice(1), { stdio: "inherit" });
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("error", (error) => {
    console.error(`"${node}" cannot be run: ${error.message}`);
    process.exit(1);
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}
