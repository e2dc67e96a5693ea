import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const command = join(import.meta.dirname, "../bin/hookplane.js");

/** A command that was started, and what it has printed so far. */
interface RunningCommand {
  readonly child: ChildProcess;
  readonly printed: { stdout: string; stderr: string };
  readonly exit: Promise<number | null>;
}

/** What a command has printed, and what it has exited with. */
interface EndedCommand {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The lines of standard output as JSON. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into what they assert the shape of.
  readonly lines: any[];
}

/** Runs `hookplane` as real processes, with an environment of the test's own. */
export class CommandRunner implements Disposable {
  readonly #environment: Record<string, string>;
  /** So that each process need not compile everything anew. */
  readonly #cache = mkdtempSync(join(tmpdir(), "hookplane-cli-cache-"));
  readonly #children = new Set<ChildProcess>();

  constructor(environment: Record<string, string> = {}) {
    this.#environment = environment;
  }

  /** Starts a command; an `environment` of the same names wins over the runner's. */
  start(args: readonly string[], environment: Record<string, string> = {}): RunningCommand {
    const kept = Object.entries(process.env).filter(
      ([name]) => !/^(?:HOOKPLANE_|NO_COLOR$|FORCE_COLOR$|NODE_OPTIONS$|VITEST)/.test(name),
    );
    const child = spawn(process.execPath, [command, ...args], {
      env: {
        ...Object.fromEntries(kept),
        NODE_COMPILE_CACHE: this.#cache,
        ...this.#environment,
        ...environment,
      },
    });
    this.#children.add(child);
    const printed = { stdout: "", stderr: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => (printed.stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (printed.stderr += text));
    const exit = once(child, "close").then(([code]) => {
      this.#children.delete(child);
      return code as number | null;
    });
    return { child, printed, exit };
  }

  /** Runs a command until it ends. */
  async run(
    args: readonly string[],
    { input = "", environment = {} }: { input?: string; environment?: Record<string, string> } = {},
  ): Promise<EndedCommand> {
    const { child, printed, exit } = this.start(args, environment);
    // One that does not read its input may have ended.
    child.stdin!.on("error", () => undefined).end(input);
    const code = await exit;
    return {
      code,
      ...printed,
      get lines() {
        return printed.stdout
          .split("\n")
          .filter((line) => line !== "")
          .map((line) => JSON.parse(line) as unknown);
      },
    };
  }

  [Symbol.dispose](): void {
    for (const child of this.#children) child.kill("SIGKILL");
    rmSync(this.#cache, { recursive: true, force: true });
  }
}
