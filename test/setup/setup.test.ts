import { type ChildProcess, spawn } from "node:child_process";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const root = path.resolve(import.meta.dirname, "..", "..");

// A checkout whose `npm`, `go` and `tsc` are scripts that note each call, so that set-up meets a machine that lacks
// things, is slow or dies, in a second instead of minutes.
let checkout: string;
let children: ChildProcess[];

const programs = ["pulumi", "pulumi-language-nodejs", "pulumi-language-yaml"];

beforeEach(async () => {
  children = [];
  checkout = await fs.mkdtemp(path.join(os.tmpdir(), "hookplane-setup-"));
  await fs.cp(path.join(root, "scripts"), path.join(checkout, "scripts"), { recursive: true });
  for (const folder of ["provider", "delivery", "cli"]) await fs.mkdir(path.join(checkout, folder));
  for (const file of ["package.json", "package-lock.json", "tsconfig.json", "tsconfig.build.json"]) {
    await fs.copyFile(path.join(root, file), path.join(checkout, file));
  }
  for (const module of ["cli", "nodejs", "yaml"]) {
    await fs.mkdir(path.join(checkout, "tools", "engine", module), { recursive: true });
  }
  await script(
    "npm",
    `case "$1" in
       ci) mkdir -p node_modules/.bin node_modules/typescript node_modules/@pulumi/pulumi
           cp "${checkout}/bin/fake-node" node_modules/.bin/node
           touch node_modules/@pulumi/pulumi/pulumi-resource-pulumi-nodejs ;;
       exec) echo "pulumi: fetch failed" >&2; exit 1 ;;
     esac`,
  );
  // The compiler's only argument that matters here is its last one, the folder to write to.
  await script("fake-node", 'for last; do :; done; mkdir -p "$last"; echo built > "$last/index.js"');
  await script(
    "go",
    `if [ "$1" = version ]; then echo "go version go1.26.0 test/test"; exit; fi
     while [ "$1" != -o ]; do shift; done
     mkdir -p "$(dirname "$2")"; printf half > "$2"; sleep "\${GO_SECONDS:-0.2}"; printf '#!/bin/sh\\necho v3.259.0\\n' > "$2"; chmod +x "$2"`,
  );
});

afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  await fs.rm(checkout, { recursive: true, force: true });
});

describe("setup", () => {
  test("installs the packages, builds the engine where it cannot be downloaded, and builds dist", async () => {
    const run = await setup();
    expect(run.output).toContain("No official download from here (fetch failed)");
    expect(run.code).toBe(0);
    expect(await engine()).toEqual([...programs, "pulumi-resource-pulumi-nodejs"].sort());
    expect(await fs.readFile(path.join(checkout, "dist", "index.js"), "utf8")).toBe("built\n");
    expect(await calls()).toEqual([
      "npm ci",
      "npm exec",
      "go version",
      "go build",
      "go build",
      "go build",
      "fake-node",
    ]);
  });

  test("does nothing the second time", async () => {
    await setup();
    const before = await calls();
    const run = await setup();
    expect(run).toEqual({ code: 0, output: "" });
    expect(await calls()).toEqual(before);
  });

  test("installs the packages again when the lock file has changed", async () => {
    await setup();
    await fs.appendFile(path.join(checkout, "package-lock.json"), "\n");
    await setup();
    expect((await calls()).filter((call) => call === "npm ci")).toHaveLength(2);
  });

  test("two at once do the work once", async () => {
    const runs = await Promise.all([setup(), setup()]);
    expect(runs.map(({ code }) => code)).toEqual([0, 0]);
    expect((await calls()).filter((call) => call === "go build")).toHaveLength(3);
    expect((await calls()).filter((call) => call === "npm ci")).toHaveLength(1);
  });

  test("killed in the middle of a build, it leaves nothing half-made and the next run completes", async () => {
    const child = start({ GO_SECONDS: "30" });
    await until(async () => (await calls()).includes("go build"));
    child.kill("SIGKILL");
    expect(await engine()).toEqual([]);
    expect((await setup()).code).toBe(0);
    expect(await engine()).toHaveLength(4);
    expect((await fs.readdir(path.join(checkout, ".engine"))).sort()).toEqual(["home"]);
    expect(
      await fs.readFile(path.join(checkout, ".engine/home/versions/3.259.0/bin/pulumi"), "utf8"),
    ).not.toBe("half");
  });

  test("without a way to the download and without Go, says so in one sentence with the remedy", async () => {
    await fs.rm(path.join(checkout, "bin", "go"));
    const run = await setup();
    expect(run.code).toBe(1);
    expect(run.output).toContain(
      "The Pulumi CLI 3.259.0 can be neither downloaded (fetch failed) nor built, since there is no Go: " +
        "install Go 1.26 or later (or the Pulumi CLI 3.259.0 on the PATH) and run this again.",
    );
  });

  test("uses the Pulumi CLI of the right version that the machine has", async () => {
    await script("pulumi", "echo v3.259.0");
    await script("pulumi-language-nodejs", "exit 0");
    const run = await setup();
    expect(run.output).toContain(
      `Using the Pulumi CLI 3.259.0 that is installed in ${path.join(checkout, "bin")}`,
    );
    expect(await calls()).not.toContain("go build");
  });

  test("passes over a Pulumi CLI of another version", async () => {
    await script("pulumi", "echo v3.100.0");
    await script("pulumi-language-nodejs", "exit 0");
    await setup();
    expect(await calls()).toContain("go build");
  });
});

function start(env: Record<string, string> = {}): ChildProcess {
  const child = spawn(process.execPath, [path.join(checkout, "scripts", "setup.js")], {
    // A PATH with the scripts above and the system's own tools, but no Go, npm or Pulumi of this machine.
    env: { PATH: `${path.join(checkout, "bin")}:${path.join(checkout, "system")}`, HOME: checkout, ...env },
    detached: false,
  });
  children.push(child);
  return child;
}

async function setup(): Promise<{ code: number | null; output: string }> {
  const child = start();
  let output = "";
  child.stdout?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, output };
}

/** A program on the checkout's PATH that notes its call. */
async function script(name: string, body: string): Promise<void> {
  const system = path.join(checkout, "system");
  await fs.mkdir(system, { recursive: true });
  for (const tool of ["sh", "mkdir", "cp", "touch", "dirname", "sleep", "chmod", "printf", "basename"]) {
    const found = ["/bin", "/usr/bin"].map((folder) => path.join(folder, tool));
    for (const file of found) {
      await fs.symlink(file, path.join(system, tool)).catch(() => undefined);
    }
  }
  const file = path.join(checkout, "bin", name);
  await fs.mkdir(path.dirname(file), { recursive: true });
  const noted = name === "fake-node" ? "fake-node" : `${name} $1`;
  await fs.writeFile(file, `#!/bin/sh\necho "${noted}" >> "${checkout}/calls"\n${body}\n`, { mode: 0o755 });
}

async function calls(): Promise<string[]> {
  const text = await fs.readFile(path.join(checkout, "calls"), "utf8").catch(() => "");
  // Looking at the version of a Pulumi CLI is no work.
  return text.split("\n").filter((call) => call !== "" && !call.startsWith("pulumi"));
}

async function engine(): Promise<string[]> {
  const bin = path.join(checkout, ".engine", "home", "versions", "3.259.0", "bin");
  return (await fs.readdir(bin).catch(() => [])).sort();
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
}
