import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";

const root = path.resolve(import.meta.dirname, "..", "..");
const page = readFileSync(path.join(root, "docs/guarantees.md"), "utf8");

/** The rows of all tables: each promise with the file and the name of a test. */
const promises = page
  .split("\n")
  .filter((line) => /^\| .*`[\w/.-]+\.ts`/.test(line))
  .map((line) => {
    const [promise = "", file = "", name = ""] = line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim());
    return { promise, file: file.replaceAll("`", ""), name };
  });

/** The names of a file's tests, as they are written there. */
function namesIn(file: string): string[] {
  const source = readFileSync(path.join(root, file), "utf8");
  const calls = source.matchAll(/\btest(?:\.each\([\s\S]*?\]\s*(?:as const)?,?\s*\))?\(\s*(["`'])(.*?)\1,/g);
  return [...calls].map(([, , name = ""]) => name);
}

describe("guarantees.md", () => {
  test("has a test for each promise", () => {
    const rows = page
      .split("\n")
      .filter((line) => /^\| [^-]/.test(line) && !line.startsWith("| the promise"));
    expect(rows.length).toBeGreaterThan(40);
    expect(promises).toHaveLength(rows.length);
  });

  test.each(promises)("$promise: $file has the test it names", ({ file, name }) => {
    expect(existsSync(path.join(root, file)), `there is no "${file}"`).toBe(true);
    expect(namesIn(file)).toContain(name);
    expect(readFileSync(path.join(root, file), "utf8")).not.toMatch(
      /\b(test|describe)\.(skip|only|todo|skipIf)\b/,
    );
  });
});
