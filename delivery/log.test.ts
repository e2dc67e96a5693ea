import { describe, expect, test } from "vitest";
import { createLogger } from "./log.ts";

describe("createLogger()", () => {
  test("writes JSON with a level in words, and masks what may be secret", () => {
    const lines: string[] = [];
    const logger = createLogger("info", { write: (line) => void lines.push(line) });
    logger.info({ token: "canary", endpoint: { headers: { a: "canary" }, url: "u" } }, "hello");
    logger.debug("not at this level");
    expect(lines).toHaveLength(1);
    expect(lines[0]).not.toContain("canary");
    expect(JSON.parse(lines[0]!)).toMatchObject({ level: "info", msg: "hello", endpoint: { url: "u" } });
  });
});
