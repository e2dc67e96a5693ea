import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { Caller } from "../core/caller.ts";
import { ServiceError } from "../errors.ts";
import type { Task, Tx } from "../store/store.ts";
import { readReplay } from "../worker/recover.ts";
import { notFound } from "./application-access.ts";
import { requiring } from "./auth.ts";
import { isoTime, nameField, timeOut } from "./fields.ts";
import { readInput } from "./input.ts";
import { mapPage, orderedPageQuery, pageOf, paginate } from "./pagination.ts";
import type { ServerContext } from "./server.ts";

const listQuery = orderedPageQuery.extend({
  status: z
    .enum(["running", "finished", "failed"], 'The status must be "running", "finished" or "failed".')
    .optional(),
  task: nameField("task", 64).optional(),
});

interface TaskParams {
  readonly task: string;
}

/** `BackgroundTaskOut` of Svix's hosted API; what `data` has is ours. */
const taskOut = z
  .object({
    id: z.string(),
    status: z.enum(["running", "finished", "failed"]),
    task: z.string(),
    data: z.object({
      appId: z.string(),
      endpointId: z.string(),
      since: timeOut,
      until: timeOut.nullable(),
      done: z.int().describe("Deliveries that were made pending."),
      total: z
        .int()
        .nullable()
        .describe("How many there are to make in all; null while they are being counted."),
      error: z.string().nullable().describe("Why it failed."),
    }),
    updatedAt: timeOut,
  })
  .meta({ id: "BackgroundTaskOut" });

type TaskOut = z.output<typeof taskOut>;

const tag = "Background Task";
const operations = {
  list: requiring("ViewBase", {
    summary: "List background tasks",
    tag,
    query: listQuery,
    answers: { 200: pageOf(taskOut) },
  }),
  get: requiring("ViewBase", { summary: "Get a background task", tag, answers: { 200: taskOut } }),
  cancel: requiring("CreateAttempts", {
    summary: "Cancel a background task",
    tag,
    answers: { 200: taskOut },
  }),
};

/** What goes on in the background: to look at and to cancel. */
export function registerTasks(instance: FastifyInstance, context: ServerContext): void {
  const { store } = context;

  instance.get("/background-task", operations.list, async (request) => {
    const { query } = readInput(request, { query: listQuery });
    const { organizationId, limits } = request.caller;
    const filter = { applicationId: limits?.applicationId, status: query.status, kind: query.task };
    const page = await store.read((tx) =>
      paginate(
        query,
        ({ id }: Task) => id,
        (range) => tx.tasks.list(organizationId, filter, range),
      ),
    );
    return mapPage(page, toOut);
  });

  instance.get<{ Params: TaskParams }>("/background-task/:task", operations.get, async (request) =>
    toOut(await store.read((tx) => requireTask(tx, request.caller, request.params.task))),
  );

  instance.post<{ Params: TaskParams }>("/background-task/:task/cancel", operations.cancel, async (request) =>
    store.write(async (tx) => {
      const { id } = await requireTask(tx, request.caller, request.params.task);
      if (!(await tx.tasks.cancel(id, "It was canceled.", context.now()))) {
        throw new ServiceError("conflict", `The task "${id}" has ended already.`);
      }
      return toOut(await requireTask(tx, request.caller, id));
    }),
  );
}

async function requireTask(tx: Tx, { organizationId, limits }: Caller, id: string): Promise<Task> {
  const task = await tx.tasks.find(organizationId, id);
  const isHidden = limits !== null && task?.applicationId !== limits.applicationId;
  if (task === undefined || isHidden) throw notFound("task", id);
  return task;
}

function toOut(task: Task): TaskOut {
  const { id, status, kind, applicationId, done, total, error, updatedAt } = task;
  const { endpointId, since, until } = readReplay(task);
  return {
    id,
    status,
    task: kind,
    data: {
      appId: applicationId,
      endpointId,
      since: isoTime(since),
      until: until === null ? null : isoTime(until),
      done,
      total,
      error,
    },
    updatedAt: isoTime(updatedAt),
  };
}
