import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { z } from "zod";
import { HookplaneError } from "../../errors.ts";

const neededMajor = 24;

/** The folder of the installed package: the nearest one above this file, which is in `dist/` there, that is hookplane. */
export function packageRoot(): string {
  for (let folder = import.meta.dirname; ; folder = dirname(folder)) {
    const manifest = join(folder, "package.json");
    if (existsSync(manifest)) {
      const { data } = z.object({ name: z.string() }).safeParse(JSON.parse(readFileSync(manifest, "utf8")));
      if (data?.name === "hookplane") return folder;
    }
    if (folder === dirname(folder)) {
      throw new HookplaneError(
        "internal",
        `There is no package.json of hookplane above "${import.meta.dirname}"`,
      );
    }
  }
}

/**
 * A Node that the service runs on: this process's own where it is new enough, else the one beside the package, else
 * that of `HOOKPLANE_NODE`. Throws `not_ready` where there is none.
 */
export async function findNode(
  environment: (name: string) => string | undefined,
  own: { readonly path: string; readonly version: string; readonly root?: string } = {
    path: process.execPath,
    version: process.versions.node,
  },
): Promise<string> {
  if (isNewEnough(own.version)) return own.path;
  const given = environment("HOOKPLANE_NODE");
  const candidates = [join(own.root ?? packageRoot(), "node_modules", ".bin", "node"), given ?? ""];
  for (const path of candidates) {
    if (path !== "" && existsSync(path) && isNewEnough(await versionOf(path))) return path;
  }
  const tried = given ? `, and "${given}" (HOOKPLANE_NODE) is not that either` : "";
  throw new HookplaneError(
    "not_ready",
    `The delivery service needs Node ${neededMajor} or newer; this is Node ${own.version}${tried}`,
    { remedy: `Run Pulumi with Node ${neededMajor}, or set HOOKPLANE_NODE to the path of such a Node.` },
  );
}

async function versionOf(path: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(path, ["--version"], { timeout: 5_000 });
    return stdout.trim().replace(/^v/, "");
  } catch {
    return "0";
  }
}

function isNewEnough(version: string): boolean {
  return Number.parseInt(version, 10) >= neededMajor;
}
