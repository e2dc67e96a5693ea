// Puts in place what the checkout needs to run: npm's packages (Node 24 among them), the Pulumi engine, and `dist/`.
// Node's built-ins only, any Node >= 20: this runs before anything is installed. Each step looks first, so that a second
// run costs next to nothing.
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { buildIfStale } from "./build.js";
import { installEngine, isEngineReady, root } from "./engine.js";
import { withSetupLock } from "./lock.js";
import { runQuietly } from "./progress.js";

export async function setup() {
  if (Number(process.versions.node.split(".")[0]) < 20) {
    throw new Error(`Node ${process.versions.node} is too old to set up the checkout: use Node 20 or later.`);
  }
  await withSetupLock(async () => {
    await installPackages();
    if (!isEngineReady()) await installEngine((line) => process.stderr.write(`${line}\n`));
    await buildIfStale();
    linkPulumi();
    linkPackage();
  });
}

/** `npm ci`, where node_modules is missing or was made from another lock file. */
async function installPackages() {
  const stampFile = path.join(root, "node_modules", ".setup-stamp");
  const stamp = createHash("sha256")
    .update(fs.readFileSync(path.join(root, "package-lock.json")))
    .update(`${process.platform} ${process.arch}`)
    .digest("hex");
  if (fs.existsSync(stampFile) && fs.readFileSync(stampFile, "utf8") === stamp) return;
  await runQuietly(
    "Installing npm's packages",
    "npm",
    ["ci", "--no-audit", "--no-fund"],
    { cwd: root, env: process.env },
    {
      remedy: "Check that npm is 10 or later and that its registry can be reached, then run this again.",
    },
  );
  const node = path.join(root, "node_modules", ".bin", "node");
  if (!fs.existsSync(node)) {
    throw new Error(
      "npm did not run the install script of the package 'node', which brings Node 24: run `npm rebuild node --foreground-scripts` and this again.",
    );
  }
  fs.writeFileSync(stampFile, stamp);
}

/** Makes `npx pulumi` anywhere in the checkout the engine of this checkout, with its home and backend. */
function linkPulumi() {
  link(path.join(".bin", "pulumi"), path.join("..", "..", "scripts", "pulumi.js"));
}

/**
 * Makes the checkout the package `hookplane` for programs inside of it. They could import it without this, but Pulumi's
 * provider process requires it as from a file of no package.
 */
function linkPackage() {
  link("hookplane", "..");
}

/** @param name in node_modules */
function link(name, target) {
  const file = path.join(root, "node_modules", name);
  try {
    if (fs.readlinkSync(file) === target) return;
  } catch {
    // Not there yet, or not a link.
  }
  fs.rmSync(file, { force: true });
  fs.symlinkSync(target, file);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    await setup();
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
