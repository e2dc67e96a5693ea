import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import { feedEventTypes, type FeedEvent } from "../delivery/api/live-feed.ts";
import { readEventStream } from "./event-stream.ts";
import { CommandFailure } from "./failure.ts";
import { printLine, printNote, styled, visible } from "./printer.ts";
import { addServiceCommand } from "./service-command.ts";
import type { Query, ServiceClient } from "./service-client.ts";

/** Where the service has not said how long to wait before connecting anew. */
const defaultRetryMs = 2_000;
const maxRetryMs = 30_000;
/** A connection on which not even a sign of life came for so long is dead; the service gives one every 15 s. */
const silenceMs = 45_000;

export function registerTail(program: Command): void {
  addServiceCommand(program, {
    usage: "tail [app]",
    description:
      "Watch what happens, as it happens: messages, attempts, endpoints. Of an application or, without one, of all that the token opens. Goes on until Ctrl-C.",
    options: [
      ["--type <type…>", `only this: ${feedEventTypes.join(", ")}`],
      ["--event-type <type…>", "only of messages of this event type"],
      ["--endpoint <endpoint>", "only of this endpoint, by id or uid"],
      ["--failed", "only attempts that have failed, and endpoints that are disabled"],
      ["--limit <number>", "end after so many"],
    ],
    examples: [
      ["tail shop", "everything in one application"],
      ["tail --failed", "what goes wrong, in all applications"],
      [
        "tail shop --type attempt.succeeded --event-type order.paid --limit 1 --json",
        "waits for one delivery",
      ],
    ],
    notes: `Each event shows about a fifth of a second after it has happened, whichever node of the service has done it. When the
connection breaks, it is made anew and what was missed is told, of the last five minutes.`,
    run: async ({ options, isJson, service }, app) => {
      const limit = options.wholeNumber("limit", 1, 1_000_000_000) ?? Infinity;
      const types = options.list("type");
      for (const type of types ?? []) {
        if (!(feedEventTypes as readonly string[]).includes(type)) {
          options.fault("type", type, `choose from ${feedEventTypes.join(", ")}`);
        }
      }
      const isFailed = options.isSet("failed");
      if (isFailed && types !== undefined)
        options.fault("failed", undefined, "this chooses the types: leave out --type");
      options.check();
      const query = {
        types: isFailed ? ["attempt.failed", "endpoint.disabled"] : types,
        event_types: options.list("eventType"),
        endpoint_id: options.text("endpoint"),
      };
      await watch(service(), app, query, { isJson, limit });
    },
  });
}

async function watch(
  client: ServiceClient,
  app: string | undefined,
  query: Query,
  { isJson, limit }: { isJson: boolean; limit: number },
): Promise<void> {
  const stop = new AbortController();
  // The usual end, and no failure.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      stop.abort();
    });
  }
  const path = app === undefined ? "/api/v1/tail" : `/api/v1/app/${encodeURIComponent(app)}/tail`;
  const isOne = app !== undefined;
  let lastEventId = "";
  let retryMs = defaultRetryMs;
  let failures = 0;
  let left = limit;
  const isStopped = (): boolean => stop.signal.aborted;
  while (!isStopped() && left > 0) {
    const connection = new AbortController();
    const signal = AbortSignal.any([stop.signal, connection.signal]);
    const silence = setTimeout(() => {
      connection.abort();
    }, silenceMs);
    try {
      const body = await client.stream(path, { query, lastEventId, signal });
      const events = readEventStream(heeding(body, silence), (waitMs) => (retryMs = waitMs));
      for await (const { name, data, lastId } of events) {
        lastEventId = lastId;
        if (name === "connected") {
          const where = isOne ? `"${app}"` : "all applications";
          if (!isJson)
            printNote(failures > 0 ? "Connected again." : visible(`Watching ${where} at ${client.url}.`));
          failures = 0;
          continue;
        }
        if (name === "end") throw new CommandFailure("service_unreachable", endOf(data));
        show(name, data, isJson, isOne);
        if (name !== "missed" && --left === 0) return;
      }
      throw new CommandFailure("service_unreachable", "The service has closed the connection.");
    } catch (error) {
      if (isStopped()) return;
      const failure = toFailure(error, connection.signal.aborted);
      if (lastEventId === "" || !isPassing(failure)) throw failure;
      if (failures++ === 0 && !isJson) printNote(`${visible(failure.message)} Trying again.`);
      const waitMs = Math.min(maxRetryMs, retryMs * 1.5 ** Math.min(failures - 1, 10));
      await sleep(waitMs, undefined, { signal: stop.signal }).catch(() => undefined);
    } finally {
      clearTimeout(silence);
      connection.abort();
    }
  }
}

/** Lets each sign of life put the end of patience off. */
async function* heeding(
  body: AsyncIterable<Uint8Array>,
  silence: NodeJS.Timeout,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    silence.refresh();
    yield chunk;
  }
}

function toFailure(error: unknown, isSilent: boolean): CommandFailure {
  if (error instanceof CommandFailure) return error;
  const what = isSilent
    ? `The service has said nothing for ${silenceMs / 1000} seconds.`
    : "The connection has broken.";
  return new CommandFailure("service_unreachable", what, { cause: error });
}

/** Whether it makes sense to come back: where the service does not refuse. */
function isPassing({ code }: CommandFailure): boolean {
  return ["service_unreachable", "service_unavailable", "not_a_service", "service_failed"].includes(code);
}

function endOf(data: string): string {
  const { reason } = JSON.parse(data) as { reason: string };
  return `The service has ended it: ${reason}.`;
}

function show(name: string, data: string, isJson: boolean, isOne: boolean): void {
  if (isJson) {
    printLine(name === "missed" ? `{"type":"missed",${data.slice(1)}` : data);
    return;
  }
  if (name === "missed") {
    const { count } = JSON.parse(data) as { count: number | null };
    printLine(styled("yellow", `… ${count === null ? "events" : count} missed`));
    return;
  }
  printLine(lineOf(JSON.parse(data) as FeedEvent, isOne));
}

/** An event on one line; an application's name only where there may be several. */
function lineOf(event: FeedEvent, isOne: boolean): string {
  const time = styled("dim", event.timestamp.slice(11, 23));
  const app = isOne ? "" : `${visible(event.appUid ?? event.appId)} `;
  return `${time} ${app}${textOf(event)}`;
}

function textOf(event: FeedEvent): string {
  switch (event.type) {
    case "message.accepted": {
      const eventId = event.eventId === null ? "" : ` (${visible(event.eventId)})`;
      return `${styled("cyan", "→")} ${visible(event.eventType)} ${event.msgId}${eventId}`;
    }
    case "attempt.succeeded":
    case "attempt.failed": {
      const isSuccess = event.type === "attempt.succeeded";
      const mark = styled(isSuccess ? "green" : "red", isSuccess ? "✓" : "✗");
      const status = event.responseStatusCode === 0 ? "no answer" : String(event.responseStatusCode);
      const where = visible(event.endpointUid ?? event.endpointId);
      return `${mark} ${visible(event.eventType ?? "-")} ${event.msgId} ${where} ${status} ${event.responseDurationMs} ms${outlook(event)}`;
    }
    case "application.deleted":
      return `${styled("yellow", "!")} the application was deleted`;
    default: {
      const what = event.type.replace("endpoint.", "");
      const text = `${styled(what === "disabled" ? "red" : "yellow", "!")} endpoint ${what}:`;
      return `${text} ${visible(event.endpointUid ?? event.endpointId)}`;
    }
  }
}

/** What follows from a failed attempt. */
function outlook({
  type,
  nextAttempt,
  statusText,
  attempts,
}: Extract<FeedEvent, { attemptId: string }>): string {
  if (type === "attempt.succeeded") return "";
  if (nextAttempt !== null) return `, attempt ${attempts ?? "?"}, next ${nextAttempt.slice(11, 19)}`;
  if (statusText === "success") return ", delivered since";
  return statusText === "pending" ? ", waits for its turn" : `, given up after ${attempts ?? "?"}`;
}
