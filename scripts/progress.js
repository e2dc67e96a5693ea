// Shows that a long step is alive. Node's built-ins only, any Node >= 20.
import { spawn } from "node:child_process";

const isTerminal = process.stderr.isTTY && !process.env.CI;

/** "0:07", or "3:25". */
function elapsedSince(startedAt) {
  const seconds = Math.round((Date.now() - startedAt) / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** Tells the time that a step takes: on a terminal in place and every second, else a line every 20 s. */
export function startProgress(title) {
  const startedAt = Date.now();
  const show = () => {
    process.stderr.write(
      isTerminal ? `\r${title} … ${elapsedSince(startedAt)}` : `${title} … ${elapsedSince(startedAt)}\n`,
    );
  };
  show();
  const timer = setInterval(show, isTerminal ? 1000 : 20_000);
  return {
    end(outcome) {
      clearInterval(timer);
      process.stderr.write(`${isTerminal ? "\r" : ""}${title}: ${outcome} (${elapsedSince(startedAt)})\n`);
    },
  };
}

/**
 * Runs a command behind a progress line; its output is shown only when it fails. With `mayFail` a failure is answered as
 * `{ok: false, reason}` (the last line it printed) instead of thrown.
 */
export async function runQuietly(title, command, args, options, { mayFail = false, remedy = "" } = {}) {
  const progress = startProgress(title);
  const chunks = [];
  const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  child.stdout.on("data", (chunk) => chunks.push(chunk));
  child.stderr.on("data", (chunk) => chunks.push(chunk));
  const stop = (signal) => {
    child.kill(signal);
    process.exitCode = 130;
  };
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  const failure = await new Promise((resolve) => {
    child.on("error", (error) =>
      resolve(error.code === "ENOENT" ? `'${command}' is not installed` : error.message),
    );
    child.on("close", (code, signal) =>
      resolve(code === 0 ? null : `'${command}' ended with ${signal ?? code}`),
    );
  });
  process.off("SIGINT", stop);
  process.off("SIGTERM", stop);

  if (failure === null) {
    progress.end("done");
    return { ok: true };
  }
  const output = Buffer.concat(chunks).toString("utf8").trim();
  if (mayFail) {
    progress.end("not possible here");
    const words = output
      .split("\n")
      .filter((line) => line.startsWith("pulumi: ") || line.includes("npm error"));
    return { ok: false, reason: words.at(-1)?.replace(/^pulumi: /, "") ?? failure };
  }
  progress.end("failed");
  throw new Error(`${title} failed: ${failure}. ${remedy}\n${shorten(output)}`);
}

/** The first and the last lines: npm says the reason first, Go last. */
function shorten(output) {
  const lines = output.split("\n").filter((line) => !line.startsWith("npm warn"));
  return (lines.length <= 60 ? lines : [...lines.slice(0, 30), "…", ...lines.slice(-30)]).join("\n");
}
