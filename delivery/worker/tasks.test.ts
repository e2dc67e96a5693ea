import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { defaultOrganizationId } from "../core/organization.ts";
import { createLogger } from "../log.ts";
import { anApplication, testDatabases } from "../store/scene.suite.ts";
import type { Store, Task, Tx } from "../store/store.ts";
import { TaskRunner, type TaskKind, type TaskRunnerOptions } from "./tasks.ts";

const logger = createLogger("silent");
const now = Date.now;

function aTask(id: string, given: Partial<Task> = {}): Task {
  return {
    id,
    organizationId: defaultOrganizationId,
    applicationId: "app_1",
    kind: "count",
    input: "{}",
    cursor: null,
    status: "running",
    done: 0,
    total: null,
    error: null,
    leasedBy: null,
    createdAt: 1,
    updatedAt: 1,
    ...given,
  };
}

/** Makes an application with each step, named for the task and the step, up to the limit. */
function counting(
  limit: number,
  each: (task: Task, tx: Tx) => Promise<void> = async () => undefined,
): TaskKind {
  return {
    name: "count",
    next: async (task) => ({
      async apply(tx) {
        await tx.applications.insert(anApplication({ uid: `${task.id}-${task.done}` }));
        await each(task, tx);
        const done = task.done + 1;
        return { done, status: done === limit ? "finished" : "running" };
      },
    }),
  };
}

const find = async (store: Store, id: string): Promise<Task> =>
  (await store.read((tx) => tx.tasks.find(defaultOrganizationId, id)))!;

const uids = async (store: Store): Promise<(string | null)[]> =>
  (await store.read((tx) => tx.applications.list(defaultOrganizationId, { limit: 1_000 })))
    .map(({ uid }) => uid)
    .sort();

const eventually = (check: () => unknown) => expect.poll(check, { timeout: 15_000, interval: 10 });

describe.each(testDatabases)("TaskRunner on $name", (database) => {
  afterAll(() => database.close());

  async function openScene(...tasks: readonly Task[]) {
    const { store, ...opened } = await database.open();
    onTestFinished(() => opened[Symbol.asyncDispose]());
    await store.write(async (tx) => {
      for (const task of tasks) await tx.tasks.insert(task);
    });
    /** A node's runner; `number` is what it takes tasks under. */
    const run = async (kinds: readonly TaskKind[], options: Partial<TaskRunnerOptions> = {}) => {
      const number = await store.write((tx) => tx.nodes.join(Number.MAX_SAFE_INTEGER));
      const membership = { number, holds: () => true };
      const runner = new TaskRunner({ store, membership, kinds, logger, now, pollMs: 20, ...options });
      onTestFinished(() => runner.stop());
      runner.start();
      return { runner, number };
    };
    return { store, run };
  }

  test("does what a task asks for, step by step, and then leaves it", async () => {
    const { store, run } = await openScene(aTask("qtask_1"));
    await run([counting(3)]);
    await eventually(() => find(store, "qtask_1")).toMatchObject({
      status: "finished",
      done: 3,
      leasedBy: null,
      error: null,
    });
    expect(await uids(store)).toEqual(["qtask_1-0", "qtask_1-1", "qtask_1-2"]);
  });

  test("takes up a new task as soon as it is woken", async () => {
    const { store, run } = await openScene();
    const { runner } = await run([counting(1)], { pollMs: 3_600_000 });
    await store.write((tx) => tx.tasks.insert(aTask("qtask_1")));
    runner.wake();
    await eventually(() => find(store, "qtask_1")).toMatchObject({ status: "finished" });
  });

  test("keeps nothing of a step that fails, does it again, and gives up in the end", async () => {
    const { store, run } = await openScene(aTask("qtask_1"), aTask("qtask_2"));
    let failures = 0;
    const kind = counting(3, async (task) => {
      if (task.id === "qtask_1" && task.done === 1 && failures++ < 2) throw new Error("once more");
      if (task.id === "qtask_2" && task.done === 2) throw new Error("never");
    });
    await run([kind], { retryDelaysMs: [1, 1, 1] });
    await eventually(() => find(store, "qtask_1")).toMatchObject({ status: "finished", done: 3 });
    await eventually(() => find(store, "qtask_2")).toMatchObject({
      status: "failed",
      done: 2,
      error: "The service could not go on with it.",
    });
    expect(await uids(store)).toEqual(["qtask_1-0", "qtask_1-1", "qtask_1-2", "qtask_2-0", "qtask_2-1"]);
  });

  test("ends a task that this version does not know as failed", async () => {
    const { store, run } = await openScene(aTask("qtask_1", { kind: "sdk.generate" }));
    await run([counting(1)]);
    await eventually(() => find(store, "qtask_1")).toMatchObject({
      status: "failed",
      error: 'This version knows no task "sdk.generate".',
    });
  });

  test("has no more steps under way at a time than it may, and lets every task get on", async () => {
    const ids = Array.from({ length: 6 }, (_, index) => `qtask_${index}`);
    const { store, run } = await openScene(...ids.map((id) => aTask(id)));
    let running = 0;
    let most = 0;
    const order: string[] = [];
    const kind: TaskKind = {
      name: "count",
      async next(task) {
        most = Math.max(most, ++running);
        order.push(task.id);
        await new Promise((resolve) => setTimeout(resolve, 5));
        running--;
        const done = task.done + 1;
        return { apply: async () => ({ done, status: done === 4 ? "finished" : "running" }) };
      },
    };
    await run([kind], { parallel: 2 });
    for (const id of ids) await eventually(() => find(store, id)).toMatchObject({ status: "finished" });
    expect(most).toBe(2);
    // Nobody waits until another one is through.
    expect(order.indexOf("qtask_5")).toBeLessThan(order.lastIndexOf("qtask_0"));
  });

  test("waits where a task asks for it, without keeping others from their turn", async () => {
    const { store, run } = await openScene(aTask("qtask_1"), aTask("qtask_2"));
    let isOpen = false;
    const kind = counting(2);
    const waiting: TaskKind = {
      ...kind,
      next: async (task) => (task.id === "qtask_1" && !isOpen ? { waitMs: 5 } : await kind.next(task)),
    };
    await run([waiting], { parallel: 1 });
    await eventually(() => find(store, "qtask_2")).toMatchObject({ status: "finished" });
    expect(await find(store, "qtask_1")).toMatchObject({ status: "running", done: 0 });
    isOpen = true;
    await eventually(() => find(store, "qtask_1")).toMatchObject({ status: "finished" });
  });

  test("goes on at the very place where another node has died", async () => {
    const { store, run } = await openScene(aTask("qtask_1"));
    // Its third step never comes to an end.
    const stuck = counting(5, async (task) => {
      if (task.done === 2) throw new Error("dead");
    });
    const dead = await run([stuck], { retryDelaysMs: [3_600_000], pollMs: 3_600_000 });
    await eventually(() => find(store, "qtask_1")).toMatchObject({ done: 2, leasedBy: dead.number });
    await run([counting(5)]);
    // As long as that node lives, the task is its own.
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await find(store, "qtask_1")).toMatchObject({ done: 2, leasedBy: dead.number });
    await store.write((tx) => tx.nodes.leave(dead.number));
    await eventually(() => find(store, "qtask_1")).toMatchObject({ status: "finished", done: 5 });
    expect(await uids(store)).toEqual([0, 1, 2, 3, 4].map((step) => `qtask_1-${step}`));
  });

  test("keeps nothing of a step whose task another node has taken over meanwhile", async () => {
    const { store, run } = await openScene(aTask("qtask_1"));
    let release = (): void => undefined;
    const paused = new Promise<void>((resolve) => {
      release = resolve;
    });
    const kind = counting(3);
    // As a process that is stopped between its look and its transaction.
    const slow: TaskKind = {
      ...kind,
      async next(task) {
        if (task.done === 1) await paused;
        return await kind.next(task);
      },
    };
    const stopped = await run([slow], { pollMs: 3_600_000 });
    await eventually(() => find(store, "qtask_1")).toMatchObject({ done: 1 });
    await store.write((tx) => tx.nodes.leave(stopped.number));
    await run([counting(3)]);
    await eventually(() => find(store, "qtask_1")).toMatchObject({ status: "finished", done: 3 });
    await store.write(async (tx) => {
      const step = await tx.applications.find(defaultOrganizationId, "qtask_1-1");
      await tx.applications.delete(step!.id);
    });
    // Its step would be possible again, if the task were still its own.
    release();
    await stopped.runner.stop();
    expect(await uids(store)).toEqual(["qtask_1-0", "qtask_1-2"]);
    expect(await find(store, "qtask_1")).toMatchObject({ status: "finished", done: 3 });
  });

  test("does nothing more for a task that was canceled", async () => {
    const { store, run } = await openScene(aTask("qtask_1"));
    const canceled = counting(10, async (task) => {
      if (task.done === 2)
        queueMicrotask(() => void store.write((tx) => tx.tasks.cancel(task.id, "Enough.", 7)));
    });
    const { runner } = await run([canceled]);
    await eventually(() => find(store, "qtask_1")).toMatchObject({ status: "failed", error: "Enough." });
    await runner.stop();
    const { done } = await find(store, "qtask_1");
    expect(await uids(store)).toHaveLength(done);
    expect(await store.write((tx) => tx.tasks.cancel("qtask_1", "Again.", 8))).toBe(false);
  });

  test("leaves its tasks to others when it stops", async () => {
    const { store, run } = await openScene(aTask("qtask_1"));
    const first = await run([{ name: "count", next: async () => ({ waitMs: 1 }) }]);
    await eventually(() => find(store, "qtask_1")).toMatchObject({ leasedBy: first.number });
    await first.runner.stop();
    expect(await find(store, "qtask_1")).toMatchObject({ status: "running", leasedBy: null });
    await run([counting(1)]);
    await eventually(() => find(store, "qtask_1")).toMatchObject({ status: "finished" });
  });
});
