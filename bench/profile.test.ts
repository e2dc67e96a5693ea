import { describe, expect, test } from "vitest";
import { profileText, summarizeProfile, type CpuProfile } from "./profile.ts";

const frame = (functionName: string, url = "", lineNumber = 0) => ({ functionName, url, lineNumber });

/** Samples: 10 ms idle, 20 in the store, 30 in native code that it calls, 40 of garbage collection. */
const profile: CpuProfile = {
  nodes: [
    { id: 1, callFrame: frame("(root)"), children: [2, 3, 5] },
    { id: 2, callFrame: frame("(idle)") },
    { id: 3, callFrame: frame("write", "file:///x/delivery/store/sqlite.ts", 41), children: [4] },
    { id: 4, callFrame: frame("run") },
    { id: 5, callFrame: frame("(garbage collector)") },
  ],
  samples: [2, 3, 4, 5],
  timeDeltas: [10_000, 20_000, 30_000, 40_000],
};

describe("summarizeProfile()", () => {
  test("leaves idle time out, and counts native code for what called it", () => {
    const { parts, busyMs } = summarizeProfile(profile);
    expect(busyMs).toBe(90);
    expect(parts.map(({ name }) => name)).toEqual(["store", "gc"]);
    expect(parts[0]!.share).toBeCloseTo(50 / 90);
  });

  test("names functions with their place, largest first", () => {
    const { functions } = summarizeProfile(profile);
    expect(functions.map(({ name }) => name)).toEqual([
      "(garbage collector)",
      "run",
      "write delivery/store/sqlite.ts:42",
    ]);
  });
});

test("profileText() is Markdown", () => {
  expect(profileText(profile, 1)).toContain("| store | 55.6 % |");
  expect(profileText(profile, 1)).not.toContain("sqlite.ts");
});
