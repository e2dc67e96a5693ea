import { globSync, readFileSync, existsSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { settings, type Setting } from "../../delivery/config.ts";
import { exitCodeOf, statusOf } from "../../delivery/errors.ts";
import { apis } from "../../provider/apis/index.ts";
import { errorTable } from "../../provider/errors.ts";

const root = path.resolve(import.meta.dirname, "..", "..");

function read(file: string): string {
  return readFileSync(path.join(root, file), "utf8");
}

/** The part of a page below a heading. */
function section(page: string, heading: string): string {
  const [, text = ""] = page.split(`\n## ${heading}\n`);
  return text.split("\n## ")[0] ?? "";
}

/** The rows of the first table: each row's cells. */
function rows(text: string): string[][] {
  const lines = text.split("\n").filter((line) => line.startsWith("|"));
  return lines.slice(2).map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll("`", "")),
  );
}

describe("troubleshooting.md", () => {
  const page = read("docs/troubleshooting.md");

  test("has every error code of the provider, and no other", () => {
    const codes = rows(section(page, "Errors of the provider")).map(([code]) => code);
    expect(codes.toSorted()).toEqual(Object.keys(errorTable).toSorted());
  });

  test("has every reason for which the service does not start, with its exit code", () => {
    const codes = rows(section(page, "The service does not start")).map(([code, exit]) => [
      code,
      Number(exit),
    ]);
    expect(Object.fromEntries(codes)).toEqual({ ...exitCodeOf, unexpected: 1 });
  });

  test("has every error code of the service, with its status", () => {
    const codes = rows(section(page, "Requests to the service fail")).map(([code, status]) => [
      code,
      Number(status),
    ]);
    expect(Object.fromEntries(codes)).toEqual(statusOf);
  });
});

test("delivery-service.md has every exit code of `hookplane serve`", () => {
  const codes = rows(section(read("docs/delivery-service.md"), "Exit codes")).map(([code]) => Number(code));
  expect(codes).toEqual([...new Set([0, 1, ...Object.values(exitCodeOf)])].toSorted());
});

test("delivery-service.md has every flag of `hookplane serve` and its variable", () => {
  const page = read("docs/delivery-service.md");
  for (const { flag, variable } of Object.values<Setting>(settings)) {
    expect(page).toContain(`\`${flag}\``);
    expect(page).toContain(`\`${variable}\``);
  }
});

test("resources.md has a section for every resource", () => {
  const page = read("docs/resources.md");
  for (const { type } of apis.flatMap(({ resources }) => resources)) {
    expect(page).toContain(`<!-- generated: ${type} -->`);
  }
});

describe("links between pages lead somewhere", () => {
  const pages = globSync(["*.md", "docs/**/*.md", "examples/**/*.md"], {
    cwd: root,
    exclude: ["**/node_modules/**"],
  });
  test.each(pages)("%s", (page) => {
    const text = read(page).replaceAll(/^```.*?^```/gms, "");
    const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = ""]) => link);
    const broken = links.filter((link) => !/^[a-z]+:/.test(link) && !leads(page, link));
    expect(broken).toEqual([]);
  });
});

function leads(page: string, link: string): boolean {
  const [file = "", anchor] = link.split("#", 2);
  const target = file === "" ? page : path.join(path.dirname(page), file);
  if (!existsSync(path.join(root, target))) return false;
  return anchor === undefined || anchorsOf(read(target)).includes(anchor);
}

/** The anchors that GitHub makes of a page's headings. */
function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(" ", "-"),
  );
}
