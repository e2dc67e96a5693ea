// Makes `dist/`, what the package ships and what `import "hookplane"` loads in the checkout. Any Node >= 20.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { engineDir, root } from "./engine.js";
import { withSetupLock } from "./lock.js";
import { runQuietly } from "./progress.js";

const dist = path.join(root, "dist");
const stampFile = path.join(dist, ".stamp");
const sources = ["provider", "delivery", "cli"];

/** Builds when a source file is newer than the last build, or one has come or gone. */
export async function buildIfStale() {
  const files = sourceFiles();
  const stamp = files.map(({ name, mtimeMs }) => `${name} ${mtimeMs}`).join("\n");
  if (fs.existsSync(stampFile) && fs.readFileSync(stampFile, "utf8") === stamp) return;
  const staging = path.join(engineDir, `dist-${process.pid}`);
  try {
    await runQuietly(
      "Building dist/",
      path.join(root, "node_modules", ".bin", "node"),
      [
        path.join(root, "node_modules", "typescript", "bin", "tsc"),
        "-p",
        "tsconfig.build.json",
        "--outDir",
        staging,
      ],
      { cwd: root, env: process.env },
    );
    // What the compiler does not carry over: the migrations.
    for (const { name } of files.filter((file) => file.name.endsWith(".sql"))) {
      fs.mkdirSync(path.dirname(path.join(staging, name)), { recursive: true });
      fs.copyFileSync(path.join(root, name), path.join(staging, name));
    }
    fs.writeFileSync(path.join(staging, ".stamp"), stamp);
    // Whole or not at all: what is loaded from dist/ never meets half a build.
    fs.rmSync(dist, { recursive: true, force: true });
    fs.renameSync(staging, dist);
  } finally {
    fs.rmSync(staging, { recursive: true, force: true });
  }
}

function sourceFiles() {
  return [...sources, "tsconfig.json", "tsconfig.build.json", "package.json"]
    .flatMap((entry) =>
      fs.statSync(path.join(root, entry)).isDirectory()
        ? fs.readdirSync(path.join(root, entry), { recursive: true }).map((name) => path.join(entry, name))
        : [entry],
    )
    .filter((name) => /\.(ts|sql|json)$/.test(name) && !/\.(test|suite)\.ts$/.test(name))
    .sort()
    .map((name) => ({ name, mtimeMs: fs.statSync(path.join(root, name)).mtimeMs }));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    await withSetupLock(buildIfStale);
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
