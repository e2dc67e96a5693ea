import { spawn } from "node:child_process";
import fs from "node:fs/promises";
import path from "node:path";
import { text } from "node:stream/consumers";
import type { EngineEvent } from "@pulumi/pulumi/automation/index.js";

const root = path.resolve(import.meta.dirname, "..", "..");

/** What one operation of the engine did, as it told itself. */
export interface Outcome {
  readonly ok: boolean;
  /** Operation by resource name, those that changed nothing left out: `{ done: "update" }`. */
  readonly steps: Readonly<Record<string, string>>;
  /** Everything the command printed: steps, warnings, errors and what the provider told. */
  readonly output: string;
}

/** A resource of the state, secrets in plain text. */
interface StoredResource {
  readonly urn: string;
  readonly type: string;
  readonly id: string;
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly outputs: Readonly<Record<string, unknown>>;
}

/** A Pulumi program in a folder of its own, with a file backend of its own, run by the real engine. */
export interface TestStack extends AsyncDisposable {
  readonly directory: string;
  /** Replaces the program: its imports of `@pulumi/pulumi` and `hookplane` are there already. */
  program(body: string): Promise<void>;
  setConfig(key: string, value: string): Promise<void>;
  up(options?: { refresh?: boolean; replace?: readonly string[] }): Promise<Outcome>;
  preview(): Promise<Outcome>;
  /** The engine gives a provider the configuration of the last `up`, unless the program runs. */
  refresh(options?: { runProgram?: boolean }): Promise<Outcome>;
  /** `refresh --preview-only --expect-no-changes`: not `ok` where something differs, with nothing done about it. */
  drift(): Promise<Outcome>;
  destroy(): Promise<Outcome>;
  /** `pulumi import -f`. */
  import(resources: readonly object[]): Promise<Outcome>;
  /** The program's exports, secrets in plain text. */
  outputs<T = Record<string, unknown>>(): Promise<T>;
  /** The resources of the state by their names. */
  resources(): Promise<Readonly<Record<string, StoredResource>>>;
  /** Their ids. */
  ids(): Promise<Readonly<Record<string, string>>>;
  /** Any other command of the engine: what it printed. */
  pulumi(...args: readonly string[]): Promise<{ readonly ok: boolean; readonly output: string }>;
}

export interface StackOptions {
  /** For the engine, and so for the program and the provider. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where the folder is made; by default inside the checkout, where `hookplane` resolves to the package itself. */
  readonly parent?: string;
  /** The program's `runtime.options.typescript`; false by default: Node runs the program as it is. */
  readonly compiled?: boolean;
}

/** Opens a stack for one test file; disposing of it destroys what it made and removes the folder. */
export async function openStack(name: string, options: StackOptions = {}): Promise<TestStack> {
  const { parent = path.join(root, ".tmp", "engine"), compiled = false } = options;
  await fs.mkdir(parent, { recursive: true });
  const directory = await fs.mkdtemp(path.join(parent, `${name}-`));
  await fs.mkdir(path.join(directory, "backend"));
  await fs.writeFile(
    path.join(directory, "Pulumi.yaml"),
    `name: ${name}\nruntime:\n  name: nodejs\n  options:\n    typescript: ${compiled}\nmain: index.ts\n`,
  );
  const env = {
    ...process.env,
    PULUMI_BACKEND_URL: `file://${path.join(directory, "backend")}`,
    PULUMI_CONFIG_PASSPHRASE: "test",
    // Its flag --event-log is among the hidden ones.
    PULUMI_DEBUG_COMMANDS: "true",
    // Every operation starts two Node processes that load the same modules.
    NODE_COMPILE_CACHE: path.join(root, ".tmp", "engine", "compile-cache"),
    ...options.env,
  };
  let operations = 0;

  async function pulumi(...args: readonly string[]): Promise<{ ok: boolean; output: string }> {
    const child = spawn(enginePath(), [...args, "--non-interactive", "--color", "never"], {
      cwd: directory,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const ended = new Promise<number | null>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", resolve);
    });
    const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
    return { ok: code === 0, output: stdout + stderr };
  }

  async function must(...args: readonly string[]): Promise<string> {
    const { ok, output } = await pulumi(...args);
    if (!ok) throw new Error(`pulumi ${args[0] ?? ""} ${args[1] ?? ""} failed:\n${output}`);
    return output;
  }

  async function operate(...args: readonly string[]): Promise<Outcome> {
    const log = path.join(directory, `events-${++operations}.jsonl`);
    const { ok, output } = await pulumi(...args, "--event-log", log);
    const lines = await fs.readFile(log, "utf8").catch(() => "");
    const events = lines.split("\n").filter((line) => line !== "");
    return { ok, output, steps: stepsOf(events.map((line) => JSON.parse(line) as EngineEvent)) };
  }

  async function resources(): Promise<Record<string, StoredResource>> {
    const exported = JSON.parse(await must("stack", "export", "--show-secrets"), unseal) as {
      deployment: { resources?: StoredResource[] };
    };
    return Object.fromEntries((exported.deployment.resources ?? []).map((one) => [nameOf(one.urn), one]));
  }

  await must("stack", "init", "test");

  return {
    directory,
    pulumi,
    async program(body) {
      const imports = 'import * as pulumi from "@pulumi/pulumi";\nimport * as hookplane from "hookplane";\n';
      await fs.writeFile(path.join(directory, "index.ts"), imports + body);
    },
    async setConfig(key, value) {
      await must("config", "set", "--secret", key, value);
    },
    up: ({ refresh = false, replace = [] } = {}) =>
      operate(
        "up",
        "--yes",
        "--skip-preview",
        // Each failure is seen, not only the first.
        "--continue-on-error",
        ...(refresh ? ["--refresh"] : []),
        ...replace.flatMap((urn) => ["--replace", urn]),
      ),
    preview: () => operate("preview"),
    refresh: ({ runProgram = false } = {}) =>
      operate("refresh", "--yes", "--skip-preview", ...(runProgram ? ["--run-program"] : [])),
    drift: () => operate("refresh", "--preview-only", "--expect-no-changes"),
    destroy: () => operate("destroy", "--yes", "--skip-preview"),
    async import(resources) {
      const file = path.join(directory, "import.json");
      await fs.writeFile(file, JSON.stringify({ resources }));
      return operate(
        "import",
        "-f",
        file,
        "--yes",
        "--skip-preview",
        "--generate-code=false",
        "--protect=false",
      );
    },
    outputs: async <T>() => JSON.parse(await must("stack", "output", "--json", "--show-secrets")) as T,
    resources,
    ids: async () =>
      Object.fromEntries(Object.entries(await resources()).map(([resource, { id }]) => [resource, id])),
    async [Symbol.asyncDispose]() {
      const { ok, output } = await pulumi("destroy", "--yes", "--skip-preview");
      if (!ok) console.error(`Could not destroy the stack in ${directory}:\n${output}`);
      await fs.rm(directory, { recursive: true, force: true });
    },
  };
}

/** The engine itself: what lies in node_modules/.bin sets the checkout up before each command. */
function enginePath(): string {
  const { PULUMI_HOME: home, PATH = "" } = process.env;
  const bin =
    home && PATH.split(path.delimiter).find((entry) => entry.startsWith(path.join(home, "versions")));
  if (!bin)
    throw new Error("These tests need the checkout's engine: run them with `npm test -- test/engine`.");
  return path.join(bin, "pulumi");
}

/** A replacement's parts, which the engine tells one by one, are one step here. */
function stepsOf(events: readonly EngineEvent[]): Record<string, string> {
  const steps: Record<string, string> = {};
  for (const { resOutputsEvent } of events) {
    const { op, urn, type } = resOutputsEvent?.metadata ?? { op: "same", urn: "", type: "" };
    if (["same", "read", "refresh"].includes(op) || /^pulumi:(pulumi:Stack|providers:)/.test(type)) continue;
    const name = nameOf(urn);
    if (steps[name] !== "replace") steps[name] = /replace/.test(op) ? "replace" : op;
  }
  return steps;
}

/** Reads a secret as the state has it when it is exported with its plain text. */
function unseal(_key: string, value: unknown): unknown {
  const isSecret = typeof value === "object" && value !== null && "plaintext" in value;
  return isSecret ? (JSON.parse(String(value.plaintext)) as unknown) : value;
}

/** The statement that declares a resource: `declare("pave.Callback", "done", { … })`. */
export function declare(kind: string, name: string, args: object): string {
  return `new hookplane.${kind}(${JSON.stringify(name)}, ${JSON.stringify(args)});\n`;
}

function nameOf(urn: string): string {
  return urn.split("::").at(-1) ?? urn;
}
