import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import { CommandFailure, exitCodes } from "./failure.ts";
import { defaultListLimit, limitOption, readLimit } from "./list-limit.ts";
import {
  counted,
  printFields,
  printJson,
  printLine,
  printNote,
  printTable,
  shownTime,
  type Cell,
} from "./printer.ts";
import { Progress } from "./progress.ts";
import { addCommandGroup, addServiceCommand, type CommandContext } from "./service-command.ts";
import type { ServiceClient } from "./service-client.ts";

/** How often it is asked how far a replay has come. */
const pollMs = 500;

const taskStatuses = ["running", "finished", "failed"] as const;

/** A background task as the API shows it. */
interface Task {
  readonly id: string;
  readonly status: (typeof taskStatuses)[number];
  readonly task: string;
  readonly data: {
    readonly appId: string;
    readonly endpointId: string;
    readonly since: string;
    readonly until: string | null;
    readonly done: number;
    readonly total: number | null;
    readonly error: string | null;
  };
  readonly updatedAt: string;
}

export function registerReplay(program: Command): void {
  const group = addCommandGroup(program, "replay", "Send messages of the past again, in the background.");

  addServiceCommand(group, {
    usage: "start <app>",
    description:
      "Send an application's messages of a time to its endpoints again, and wait until all are on their way. Without --failed or --missing that is everything an endpoint asks for, also what it has had.",
    isDefault: true,
    options: [
      [
        "--since <time>",
        "from this time on, such as 2026-01-31T12:00:00Z, or as long ago as 15m, 2h or 3d (required)",
      ],
      ["--until <time>", "up to this time (default: now)"],
      ["--endpoint <endpoint…>", "only to this endpoint (default: all that are enabled)"],
      ["--failed", "only what has failed"],
      ["--missing", "only what the endpoint was never sent, such as what came before it was made"],
      ["--event-type <type…>", "only of this event type"],
      ["--channel <channel>", "only of this channel"],
      ["--tag <tag>", "only with this tag"],
      ["--no-wait", "return once it has begun"],
    ],
    examples: [
      ["replay shop --since 2h --failed", "after an outage of the receivers"],
      ["replay shop --since 2026-01-31 --endpoint main --missing", "what came before the endpoint was made"],
      ["replay shop --since 1d --event-type order.paid --no-wait --json", "prints the task to look at later"],
    ],
    notes: "Ctrl-C ends the waiting alone: the replay goes on, also when the service is restarted.",
    run: start,
  });

  addServiceCommand(group, {
    usage: "list",
    description: `List replays, the newest first, ${defaultListLimit} unless told otherwise.`,
    options: [["--status <status>", `only these: ${taskStatuses.join(", ")}`], limitOption],
    examples: [["replay list --status running", "what goes on"]],
    run: async ({ options, isJson, service }) => {
      const status = options.choice("status", taskStatuses);
      const limit = readLimit(options);
      options.check();
      const rows: Cell[][] = [];
      const query = { status, order: "descending" };
      for await (const item of service().list("/api/v1/background-task", query, limit)) {
        const task = item as Task;
        if (isJson) printJson(task);
        else
          rows.push([
            task.id,
            statusCell(task.status),
            task.data.endpointId,
            progressOf(task),
            shownTime(task.updatedAt),
          ]);
      }
      if (!isJson) printTable(["ID", "STATUS", "ENDPOINT", "SENT", "UPDATED"], rows);
    },
  });

  addServiceCommand(group, {
    usage: "show <task...>",
    description: "Show how far replays have come.",
    options: [["--wait", "wait until they have ended"]],
    examples: [["replay show qtask_… --wait", "goes on to wait after Ctrl-C"]],
    run: async ({ options, isJson, service }, ...ids) => {
      const client = service();
      const tasks: Task[] = [];
      for (const id of ids) tasks.push(await readTask(client, id!));
      await report(client, tasks, { isJson, isWaiting: options.isSet("wait"), isDetailed: true });
    },
  });

  addServiceCommand(group, {
    usage: "cancel <task>",
    description: "End a replay. What is on its way already is delivered.",
    examples: [["replay cancel qtask_…", "the rest is not sent"]],
    run: async ({ isJson, service }, id) => {
      const { json } = await service().request("POST", `${taskPath(id!)}/cancel`);
      if (isJson) printJson(json);
      else printNote(`The replay "${id}" is canceled: ${progressOf(json as Task)} were sent.`);
    },
  });
}

async function start({ options, isJson, service }: CommandContext, app?: string): Promise<void> {
  const now = Date.now();
  const [since, until] = [options.time("since", now), options.time("until", now)];
  const [isFailed, isMissing] = [options.isSet("failed"), options.isSet("missing")];
  const filters = {
    eventTypes: options.list("eventType"),
    channel: options.text("channel"),
    tag: options.text("tag"),
  };
  const isFiltered = Object.values(filters).some((value) => value !== undefined);
  if (options.text("since") === undefined)
    options.fault("since", undefined, "say from when on, such as --since 2h");
  if (isFailed && isMissing)
    options.fault("missing", undefined, "what is missing has not failed: leave out --failed");
  if (isMissing && isFiltered)
    options.fault("missing", undefined, "this takes no filter by event type, channel or tag");
  options.check();

  const client = service();
  const base = `/api/v1/app/${encodeURIComponent(app!)}/endpoint`;
  const endpoints = options.list("endpoint") ?? (await enabledEndpoints(client, base, isJson));
  if (endpoints.length === 0) {
    throw new CommandFailure(
      "not_found",
      `The application "${app}" has no endpoint that is enabled: there is nowhere to send to.`,
    );
  }
  const [route, body] = isMissing
    ? ["replay-missing", {}]
    : isFailed && !isFiltered
      ? ["recover", {}]
      : ["replay", { ...filters, ...(isFailed && { status: 2 }) }];
  const tasks: Task[] = [];
  try {
    for (const endpoint of endpoints) {
      const { json } = await client.request("POST", `${base}/${encodeURIComponent(endpoint)}/${route}`, {
        body: { since, until, ...body },
      });
      tasks.push(await readTask(client, json.id));
    }
  } catch (error) {
    if (!(error instanceof CommandFailure) || tasks.length === 0) throw error;
    const begun = `Begun already: hookplane replay show ${tasks.map(({ id }) => id).join(" ")}`;
    throw new CommandFailure(error.code, `${error.message}\n${begun}`, { cause: error });
  }
  const isWaiting = !options.isUnset("wait");
  await report(client, tasks, { isJson, isWaiting, isDetailed: false });
}

async function enabledEndpoints(client: ServiceClient, path: string, isJson: boolean): Promise<string[]> {
  const enabled: string[] = [];
  for await (const endpoint of client.list(path, {}, Infinity)) {
    if (endpoint.disabled !== true) enabled.push(endpoint.id);
    else if (!isJson) printNote(`The endpoint "${endpoint.uid ?? endpoint.id}" is disabled and left out.`);
  }
  return enabled;
}

/** Waits for the tasks, if asked to, and prints them. */
async function report(
  client: ServiceClient,
  tasks: readonly Task[],
  { isJson, isWaiting, isDetailed }: { isJson: boolean; isWaiting: boolean; isDetailed: boolean },
): Promise<void> {
  const last = isWaiting ? await untilEnded(client, tasks) : tasks;
  for (const task of last) {
    if (isJson) printJson(task);
    else if (isDetailed) printTask(task);
    else printLine(sentenceOf(task));
  }
  if (last.some(({ status }) => status === "failed")) process.exitCode = exitCodes.incomplete;
}

async function untilEnded(client: ServiceClient, tasks: readonly Task[]): Promise<readonly Task[]> {
  const stop = new AbortController();
  const interrupt = (): void => {
    stop.abort();
  };
  process.once("SIGINT", interrupt);
  const progress = new Progress();
  let current = tasks;
  try {
    while (current.some(({ status }) => status === "running")) {
      const done = current.reduce((sum, { data }) => sum + data.done, 0);
      const total = current.reduce((sum, { data }) => sum + (data.total ?? Number.NaN), 0);
      progress.show(
        () =>
          `${counted(done, "message")} of ${Number.isNaN(total) ? "?" : total.toLocaleString("en-US")} sent again`,
      );
      await sleep(pollMs, undefined, { signal: stop.signal }).catch(() => undefined);
      if (stop.signal.aborted) throw interrupted(tasks);
      current = await Promise.all(
        current.map(async (task) => (task.status === "running" ? readTask(client, task.id) : task)),
      );
    }
  } finally {
    process.off("SIGINT", interrupt);
    progress.end();
  }
  return current;
}

function interrupted(tasks: readonly Task[]): CommandFailure {
  const ids = tasks.map(({ id }) => id);
  return new CommandFailure(
    "interrupted",
    `The replay goes on. Look again: hookplane replay show ${ids.join(" ")} --wait\nEnd it: ${ids.map((id) => `hookplane replay cancel ${id}`).join("; ")}`,
  );
}

async function readTask(client: ServiceClient, id: string): Promise<Task> {
  return (await client.request("GET", taskPath(id))).json as Task;
}

function taskPath(id: string): string {
  return `/api/v1/background-task/${encodeURIComponent(id)}`;
}

function sentenceOf({ id, status, data }: Task): string {
  switch (status) {
    case "running":
      return `${id}: begun, to "${data.endpointId}"`;
    case "finished":
      return `${id}: ${counted(data.done, "message")} sent to "${data.endpointId}" again`;
    case "failed":
      return `${id}: failed after ${counted(data.done, "message")} to "${data.endpointId}": ${data.error ?? "unknown"}`;
  }
}

function printTask(task: Task): void {
  const { data } = task;
  printFields({
    ID: task.id,
    Kind: task.task,
    Status: task.status,
    Application: data.appId,
    Endpoint: data.endpointId,
    Since: shownTime(data.since),
    Until: data.until === null ? undefined : shownTime(data.until),
    Sent: progressOf(task),
    Error: data.error ?? undefined,
    Updated: shownTime(task.updatedAt),
  });
}

function progressOf({ data: { done, total } }: Task): string {
  return total === null ? String(done) : `${done} of ${total}`;
}

function statusCell(status: Task["status"]): Cell {
  return { text: status, style: status === "failed" ? "red" : status === "finished" ? "green" : "yellow" };
}
