import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { describeCommands } from "../../cli/command-reference.ts";
import { exitCodes } from "../../cli/failure.ts";
import { createProgram } from "../../cli/program.ts";
import { feedEventTypes } from "../../delivery/api/live-feed.ts";

const page = readFileSync(path.resolve(import.meta.dirname, "../../docs/cli.md"), "utf8");

/** `serve` has a page of its own. */
const commands = describeCommands(createProgram()).filter((command) => command.path !== "serve");
const [, common = ""] = /<!-- generated: common options -->(.*?)<!-- end -->/s.exec(page) ?? [];

describe("cli.md", () => {
  test("knows the commands", () => {
    expect(commands.length).toBeGreaterThan(25);
  });

  test.each(commands.map((command) => [command.path, command] as const))(
    "has hookplane %s with its options and examples",
    (name, { usage, options, examples }) => {
      const [, text = ""] = page.split(`<!-- generated: command ${name} -->`);
      const [part = ""] = text.split("<!-- end -->");
      expect(part).toContain(usage);
      const missing = options
        .map(({ flags }) => `\`${flags}\``)
        .filter((flags) => !(part + common).includes(flags));
      expect(missing).toEqual([]);
      expect(examples.length).toBeGreaterThan(0);
      for (const { typed } of examples) expect(part).toContain(typed);
    },
  );

  test("has every exit code", () => {
    const [, text = ""] = page.split("\n## Exit codes\n");
    const codes = [...(text.split("\n## ")[0] ?? "").matchAll(/^\| (\d+) +\|/gm)].map(([, code]) =>
      Number(code),
    );
    expect(codes).toEqual(Object.values(exitCodes).toSorted((left, right) => left - right));
  });

  test("has every event of the tail", () => {
    const [, text = ""] = page.split("\n### The route behind it\n");
    for (const type of feedEventTypes) expect(text).toContain(`\`${type}\``);
  });
});
