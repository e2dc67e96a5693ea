import { setTimeout as sleep } from "node:timers/promises";
import { expect, test, vi } from "vitest";
import { Deadlines, Timed } from "./deadlines.ts";

class Named extends Timed {
  readonly name: string;

  constructor(name: string) {
    super();
    this.name = name;
  }
}

function watch(): {
  due: string[];
  deadlines: Deadlines<Named>;
  add: (name: string, timeoutMs: number) => Named;
} {
  const due: string[] = [];
  const deadlines = new Deadlines<Named>(({ name }, timeoutMs) => {
    due.push(`${name} ${timeoutMs}`);
  });
  const add = (name: string, timeoutMs: number): Named => {
    const item = new Named(name);
    deadlines.add(item, timeoutMs, performance.now());
    return item;
  };
  return { due, deadlines, add };
}

test("tells what is due, in order, and nothing before its time", async () => {
  const { due, add } = watch();
  const startedAt = performance.now();
  add("slow", 120);
  add("first", 30);
  await sleep(10);
  add("second", 30);
  expect(due).toEqual([]);
  await vi.waitFor(() => {
    expect(due).toEqual(["first 30", "second 30", "slow 120"]);
  }, 10_000);
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(119);
});

test("forgets what was taken out: the first, the last, the one between and the only one", async () => {
  const { due, add } = watch();
  const [first, , between, , last] = ["a", "b", "c", "d", "e"].map((name) => add(name, 40));
  for (const item of [first, between, last]) item?.unlink();
  first?.unlink();
  add("only", 20).unlink();
  await vi.waitFor(() => {
    expect(due).toEqual(["b 40", "d 40"]);
  }, 10_000);
  add("again", 40);
  await vi.waitFor(() => {
    expect(due).toEqual(["b 40", "d 40", "again 40"]);
  }, 10_000);
});

test("a limit beyond what timers take is not due at once", async () => {
  const { due, add, deadlines } = watch();
  add("long", 10 ** 10);
  await sleep(30);
  expect(due).toEqual([]);
  deadlines.close();
});

test("tells nothing once it is closed", async () => {
  const { due, add, deadlines } = watch();
  add("late", 20);
  deadlines.close();
  await sleep(60);
  expect(due).toEqual([]);
});
