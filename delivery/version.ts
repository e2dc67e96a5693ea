import { readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";

/** The package's version. */
export const version = readVersion();

function readVersion(): string {
  const path = findPackageJSON("..", import.meta.url);
  if (path === undefined) throw new Error("Hookplane's package.json is missing: install the package again");
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}
