import fs from "node:fs/promises";
import path from "node:path";
import {
  CommandError,
  type EngineEvent,
  LocalWorkspace,
  type OutputMap,
  type Stack,
} from "@pulumi/pulumi/automation";

const root = path.resolve(import.meta.dirname, "..", "..");

/** What one operation of the engine did, as it told itself. */
export interface Outcome {
  readonly ok: boolean;
  /** Operation by resource name, those that changed nothing left out: `{ done: "update" }`. */
  readonly steps: Readonly<Record<string, string>>;
  /** The properties that differed, by resource name. */
  readonly diffs: Readonly<Record<string, readonly string[]>>;
  /** Warnings, errors and what providers printed. */
  readonly diagnostics: string;
  /** Everything the command printed. */
  readonly output: string;
}

/** A Pulumi program in a folder of its own, with a file backend of its own, run by the real engine. */
export interface TestStack extends AsyncDisposable {
  readonly directory: string;
  /** Replaces the program: its imports of `@pulumi/pulumi` and `hookplane` are there already. */
  program(body: string): Promise<void>;
  setConfig(key: string, value: string, options?: { secret?: boolean }): Promise<void>;
  up(options?: { refresh?: boolean; replace?: readonly string[] }): Promise<Outcome>;
  preview(): Promise<Outcome>;
  refresh(): Promise<Outcome>;
  /** `refresh --preview-only`: what differs, with nothing done about it. */
  drift(): Promise<Outcome>;
  destroy(): Promise<Outcome>;
  outputs(): Promise<OutputMap>;
  /** The exported state as text, secrets encrypted. */
  exportText(): Promise<string>;
  /** URN of a resource by its name. */
  urn(name: string): Promise<string>;
}

/** Opens a stack for one test file; disposing of it destroys what it made and removes the folder. */
export async function openStack(
  name: string,
  options: { env?: Readonly<Record<string, string>> } = {},
): Promise<TestStack> {
  const parent = path.join(root, ".tmp", "engine");
  await fs.mkdir(parent, { recursive: true });
  // Inside the checkout, where `hookplane` resolves to the package itself.
  const directory = await fs.mkdtemp(path.join(parent, `${name}-`));
  await fs.mkdir(path.join(directory, "backend"));
  await fs.writeFile(
    path.join(directory, "Pulumi.yaml"),
    `name: ${name}\nruntime:\n  name: nodejs\n  options:\n    typescript: false\nmain: index.ts\n`,
  );
  await fs.writeFile(path.join(directory, "index.ts"), "");
  const stack = await LocalWorkspace.createOrSelectStack(
    { stackName: "test", workDir: directory },
    {
      envVars: {
        PULUMI_BACKEND_URL: `file://${path.join(directory, "backend")}`,
        PULUMI_CONFIG_PASSPHRASE: "test",
        ...options.env,
      },
    },
  );

  return {
    directory,
    async program(body) {
      const imports = 'import * as pulumi from "@pulumi/pulumi";\nimport * as hookplane from "hookplane";\n';
      await fs.writeFile(path.join(directory, "index.ts"), imports + body);
    },
    setConfig: (key, value, { secret = false } = {}) => stack.setConfig(key, { value, secret }),
    up: ({ refresh, replace } = {}) =>
      observe((observers) => stack.up({ ...observers, refresh, replace: replace?.slice() })),
    preview: () => observe((observers) => stack.preview(observers)),
    refresh: () => observe((observers) => stack.refresh(observers)),
    drift: () => observe((observers) => stack.previewRefresh(observers)),
    destroy: () => observe((observers) => stack.destroy(observers)),
    outputs: () => stack.outputs(),
    exportText: async () => JSON.stringify(await stack.exportStack()),
    urn: (resource) => urnOf(stack, resource),
    async [Symbol.asyncDispose]() {
      await stack.destroy().catch((error: unknown) => {
        console.error(`Could not destroy the stack in ${directory}:`, error);
      });
      await fs.rm(directory, { recursive: true, force: true });
    },
  };
}

interface Observers {
  onEvent(event: EngineEvent): void;
  onOutput(text: string): void;
  onError(text: string): void;
  color: "never";
}

async function observe(operation: (observers: Observers) => Promise<unknown>): Promise<Outcome> {
  const steps: Record<string, string> = {};
  const diffs: Record<string, readonly string[]> = {};
  let diagnostics = "";
  let output = "";
  const note = (metadata: { op: string; urn: string; diffs?: string[]; detailedDiff?: object }) => {
    const resource = nameOf(metadata.urn);
    // The engine tells the parts of a replacement one by one; the whole is what matters here.
    if (metadata.op === "same" || metadata.op === "read" || metadata.urn.includes("pulumi:pulumi:Stack"))
      return;
    if (steps[resource] !== "replace")
      steps[resource] = metadata.op.includes("replace") ? "replace" : metadata.op;
    diffs[resource] = metadata.diffs ?? Object.keys(metadata.detailedDiff ?? {});
  };
  const append = (text: string) => {
    output += text;
  };
  const observers: Observers = {
    color: "never",
    onOutput: append,
    onError: append,
    onEvent(event) {
      if (event.diagnosticEvent) diagnostics += event.diagnosticEvent.message;
      // A refresh knows what it found only once it has looked; anything else once it has begun.
      if (event.resOutputsEvent?.metadata.op === "refresh") noteRefresh(event.resOutputsEvent.metadata);
      else if (event.resourcePreEvent && event.resourcePreEvent.metadata.op !== "refresh") {
        note(event.resourcePreEvent.metadata);
      }
    },
  };
  const noteRefresh = (metadata: NonNullable<EngineEvent["resOutputsEvent"]>["metadata"]) => {
    if (!metadata.new) note({ ...metadata, op: "delete" });
    else if (JSON.stringify(metadata.old?.outputs) !== JSON.stringify(metadata.new.outputs)) {
      note({ ...metadata, op: "update" });
    }
  };
  let ok = true;
  try {
    await operation(observers);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    ok = false;
    append(error.message);
  }
  return { ok, steps, diffs, diagnostics, output };
}

function nameOf(urn: string): string {
  return urn.split("::").at(-1) ?? urn;
}

async function urnOf(stack: Stack, resource: string): Promise<string> {
  const { deployment } = (await stack.exportStack()) as { deployment: { resources: { urn: string }[] } };
  const found = deployment.resources.find(({ urn }) => nameOf(urn) === resource);
  if (!found) throw new Error(`No resource '${resource}' in the state.`);
  return found.urn;
}
