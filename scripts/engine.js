// The Pulumi engine of this checkout: where it lives, and how it gets there. Node's built-ins only, any Node >= 20.
import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { runQuietly } from "./progress.js";

export const root = path.resolve(import.meta.dirname, "..");
export const pulumiVersion = "3.259.0";

/** What set-up makes and git ignores: the engine, its backend, and what is being built. */
export const engineDir = path.join(root, ".engine");
const home = path.join(engineDir, "home");
const versionDir = path.join(home, "versions", pulumiVersion);
const exe = process.platform === "win32" ? "pulumi.exe" : "pulumi";
export const binDir = path.join(versionDir, "bin");
export const pulumiPath = path.join(binDir, exe);

/** The Go programs of one engine: the module that pins each (a folder of tools/engine), and its package. */
const programs = [
  { module: "cli", pkg: "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", title: "the Pulumi CLI" },
  {
    module: "nodejs",
    pkg: "github.com/pulumi/pulumi/sdk/v3/nodejs/cmd/pulumi-language-nodejs",
    title: "the Node.js language host",
  },
  {
    module: "yaml",
    pkg: "github.com/pulumi/pulumi-yaml/cmd/pulumi-language-yaml",
    title: "the YAML language host",
  },
];

/**
 * The environment in which the engine runs: a home and a file backend of this checkout's own, so that nobody's login
 * and stacks are touched. What the caller has set wins, except for the home, which holds the engine itself.
 */
export function engineEnv(env = process.env) {
  const backend = path.join(engineDir, "backend");
  fs.mkdirSync(backend, { recursive: true });
  return {
    PULUMI_BACKEND_URL: `file://${backend}`,
    // The file backend encrypts secrets with a passphrase; the stacks here are throw-away ones.
    ...(env.PULUMI_CONFIG_PASSPHRASE_FILE ? {} : { PULUMI_CONFIG_PASSPHRASE: "hookplane" }),
    PULUMI_SKIP_UPDATE_CHECK: "1",
    PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "1",
    ...env,
    PULUMI_HOME: home,
    PATH: [binDir, path.join(root, "node_modules", ".bin"), env.PATH ?? ""].join(path.delimiter),
  };
}

/** True when the engine is in place and is the right one. */
export function isEngineReady() {
  if (!fs.existsSync(pulumiPath)) return false;
  // One that was found elsewhere is a link: it may have been upgraded since.
  return fs.lstatSync(binDir).isSymbolicLink() ? versionOf(pulumiPath) === pulumiVersion : true;
}

/** Puts the engine in place: the one already on the machine, else the official download, else a build from Go modules. */
export async function installEngine(report) {
  fs.rmSync(versionDir, { recursive: true, force: true });
  fs.mkdirSync(versionDir, { recursive: true });

  const found = findInstalled();
  if (found) {
    fs.symlinkSync(found, binDir, "dir");
    report(`Using the Pulumi CLI ${pulumiVersion} that is installed in ${found}`);
    return;
  }

  const download = await runQuietly(
    `Downloading the Pulumi CLI ${pulumiVersion}`,
    "npm",
    ["exec", "--yes", `--package=pulumi@${pulumiVersion}`, "--", "pulumi", "version"],
    // Outside the checkout, where npm sees no package of the same name.
    { cwd: os.tmpdir(), env: { ...process.env, PULUMI_HOME: home, PULUMI_VERSION: pulumiVersion } },
    { mayFail: true },
  );
  if (download.ok && fs.existsSync(pulumiPath)) return;

  const go = spawnSync("go", ["version"], { encoding: "utf8" });
  if (go.status !== 0) {
    throw new Error(
      `The Pulumi CLI ${pulumiVersion} can be neither downloaded (${download.reason}) nor built, since there is no Go: ` +
        `install Go 1.26 or later (or the Pulumi CLI ${pulumiVersion} on the PATH) and run this again.`,
    );
  }
  report(`No official download from here (${download.reason}): building the engine with ${go.stdout.trim()}`);
  await buildFromGo();
}

async function buildFromGo() {
  const staging = path.join(engineDir, `build-${process.pid}`);
  try {
    for (const { module, pkg, title } of programs) {
      const version =
        module === "cli"
          ? ` -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v${pulumiVersion}`
          : "";
      await runQuietly(
        `Building ${title}`,
        "go",
        [
          "build",
          "-trimpath",
          "-buildvcs=false",
          `-ldflags=-s -w${version}`,
          "-o",
          path.join(staging, path.basename(pkg)),
          pkg,
        ],
        {
          cwd: path.join(root, "tools", "engine", module),
          env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=readonly", GOWORK: "off" },
        },
        {
          remedy:
            "Check that Go is 1.26 or later and that its module proxy can be reached, then run this again.",
        },
      );
    }
    // The dynamic provider's plugin is a script of the SDK; beside the CLI the engine finds it without a warning.
    const script = "pulumi-resource-pulumi-nodejs";
    fs.copyFileSync(path.join(root, "node_modules", "@pulumi", "pulumi", script), path.join(staging, script));
    fs.chmodSync(path.join(staging, script), 0o755);
    // In one step, so that an interrupted build leaves nothing half-made.
    fs.renameSync(staging, binDir);
  } finally {
    fs.rmSync(staging, { recursive: true, force: true });
  }
}

/** The folder of an official installation of the very version, if the machine has one. */
function findInstalled() {
  const userHome = process.env.PULUMI_HOME ?? path.join(os.homedir(), ".pulumi");
  const candidates = [
    path.join(userHome, "versions", pulumiVersion, "bin"),
    path.join(userHome, "bin"),
    ...(process.env.PATH ?? "").split(path.delimiter).filter((dir) => !dir.includes("node_modules")),
  ];
  return candidates.find(
    (dir) =>
      dir !== binDir &&
      fs.existsSync(path.join(dir, exe)) &&
      // Without the Node.js language host beside it, it could not run the programs here.
      fs.existsSync(path.join(dir, exe.replace("pulumi", "pulumi-language-nodejs"))) &&
      versionOf(path.join(dir, exe)) === pulumiVersion,
  );
}

function versionOf(program) {
  const run = spawnSync(program, ["version"], {
    encoding: "utf8",
    env: { ...process.env, PULUMI_SKIP_UPDATE_CHECK: "1" },
  });
  return run.status === 0 ? run.stdout.trim().replace(/^v/, "") : null;
}

/** Runs the engine with the terminal of this process and answers its exit code. */
export function runPulumi(args, cwd = process.cwd()) {
  return new Promise((resolve, reject) => {
    const child = spawn(pulumiPath, args, { stdio: "inherit", cwd, env: engineEnv() });
    // Ctrl-C reaches the engine by the terminal itself; it wants the time to finish what it has begun.
    const ignore = () => {};
    process.on("SIGINT", ignore);
    process.on("SIGTERM", () => child.kill("SIGTERM"));
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      process.off("SIGINT", ignore);
      resolve(code ?? (signal === "SIGINT" ? 130 : 143));
    });
  });
}
