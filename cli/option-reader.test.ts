import { describe, expect, test } from "vitest";
import { OptionReader } from "./option-reader.ts";

const now = Date.parse("2026-02-01T00:00:00Z");

describe("OptionReader", () => {
  test.each([
    ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000Z"],
    ["2026-01-31T12:00+02:00", "2026-01-31T10:00:00.000Z"],
    ["2026-01-31", "2026-01-31T00:00:00.000Z"],
    ["90s", "2026-01-31T23:58:30.000Z"],
    ["15m", "2026-01-31T23:45:00.000Z"],
    ["2h", "2026-01-31T22:00:00.000Z"],
    ["3d", "2026-01-29T00:00:00.000Z"],
  ])("reads the time %s", (text, time) => {
    expect(new OptionReader({ since: text }).time("since", now)).toBe(time);
  });

  test.each(["", "yesterday", "2026-13-01", "2026-01-31T12:00:00", "1", "-1h", "1w"])(
    "refuses the time %j",
    (text) => {
      const options = new OptionReader({ since: text });
      expect(options.time("since", now)).toBeUndefined();
      expect(() => {
        options.check();
      }).toThrow(`--since "${text}": give a time such as`);
    },
  );

  test("reads spans, numbers, lists and pairs", () => {
    const options = new OptionReader({
      ...{ overlap: "90", expires: "2d", rate: "5", waits: "1, 2.5", empty: "", pair: ["a=b=c", "d="] },
      ...{ tag: ["x", "y"], yes: true, wait: false, name: "n" },
    });
    expect([options.seconds("overlap"), options.seconds("expires")]).toEqual([90, 172_800]);
    expect(options.wholeNumber("rate", 1, 5)).toBe(5);
    expect([options.numbers("waits"), options.numbers("empty")]).toEqual([[1, 2.5], []]);
    expect(options.pairs("pair")).toEqual({ a: "b=c", d: "" });
    expect(options.list("tag")).toEqual(["x", "y"]);
    expect([options.isSet("yes"), options.isSet("no"), options.isUnset("wait")]).toEqual([true, false, true]);
    expect([
      options.text("name"),
      options.text("none"),
      options.list("none"),
      options.number("none", 0, 1),
    ]).toEqual(["n", undefined, undefined, undefined]);
    options.check();
  });

  test("tells everything that is wrong at once", () => {
    const options = new OptionReader({
      maxRate: "6",
      timeout: "x",
      order: "up",
      waits: "1,,2",
      pair: ["a", "b=1", "b=2"],
    });
    options.wholeNumber("maxRate", 1, 5);
    options.number("timeout", 1, 2);
    options.choice("order", ["a", "b"]);
    options.numbers("waits");
    options.pairs("pair");
    expect(() => {
      options.check();
    }).toThrow(
      [
        '--max-rate "6": give a whole number from 1 to 5.',
        '--timeout "x": give a number from 1 to 2.',
        '--order "up": choose one of a, b.',
        '--waits "1,,2": give numbers, separated by commas.',
        '--pair "a": write name=value.',
        '--pair "b=2": "b" is given twice.',
      ].join("\n"),
    );
  });
});
