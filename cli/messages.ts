import type { Command } from "commander";
import { findRawMember } from "../delivery/api/raw-member.ts";
import { defaultListLimit, limitOption, readLimit } from "./list-limit.ts";
import {
  printFields,
  printJson,
  printLine,
  printNote,
  printTable,
  shownList,
  shownTime,
  styled,
  visible,
  visibleLines,
  type Cell,
} from "./printer.ts";
import type { OptionReader } from "./option-reader.ts";
import { addCommandGroup, addServiceCommand } from "./service-command.ts";

/** Attempts of a message that are shown, the newest first. */
const maxShownAttempts = 250;
/** How much of a receiver's answer is shown to people. */
const maxShownAnswer = 200;

const statuses = { success: "0", pending: "1", fail: "2" } as const;
const statusNames = Object.keys(statuses) as (keyof typeof statuses)[];
const statusClasses = ["0", "100", "200", "300", "400", "500"] as const;

const filterOptions = [
  ["--event-type <type…>", "only of this event type"],
  ["--channel <channel>", "only of this channel"],
  ["--tag <tag>", "only with this tag"],
  [
    "--since <time>",
    "only made after this time, such as 2026-01-31T12:00:00Z, or as long ago as 15m, 2h or 3d",
  ],
  ["--until <time>", "only made before this time"],
] as const;

export function registerMessages(program: Command): void {
  const group = addCommandGroup(program, "messages", "Look at messages and what became of them.");

  addServiceCommand(group, {
    usage: "list <app>",
    description: `List messages, the newest first, ${defaultListLimit} unless told otherwise.`,
    isDefault: true,
    options: [
      ...filterOptions,
      ["--endpoint <endpoint>", "only what went to this endpoint, and how it stands there"],
      ["--status <status>", `with --endpoint: only what stands so: ${statusNames.join(", ")}`],
      limitOption,
    ],
    examples: [
      ["messages shop", "the newest"],
      [
        "messages shop --event-type order.paid --since 2h --limit all --json",
        "every one of the last two hours, a line each",
      ],
      ["messages shop --endpoint main --status fail", "what has not reached an endpoint"],
    ],
    run: async ({ options, isJson, service }, app) => {
      const query = readFilters(options);
      const limit = readLimit(options);
      const endpoint = options.text("endpoint");
      const status = options.choice("status", statusNames);
      if (options.text("status") !== undefined && endpoint === undefined) {
        options.fault(
          "status",
          options.text("status"),
          "name the endpoint at which it stands so with --endpoint",
        );
      }
      options.check();
      const base = `/api/v1/app/${encodeURIComponent(app!)}`;
      const path =
        endpoint === undefined ? `${base}/msg` : `${base}/endpoint/${encodeURIComponent(endpoint)}/msg`;
      const rows: Cell[][] = [];
      const filters = { ...query, with_content: false, status: status && statuses[status] };
      for await (const { payload: _, ...item } of service().list(path, filters, limit)) {
        if (isJson) printJson(item);
        else {
          const common = [item.id, item.eventType, item.eventId ?? "-", shownTime(item.timestamp)];
          const standing = [toCell(item.statusText), shownTime(item.nextAttempt)];
          rows.push(endpoint === undefined ? common : [...common, ...standing]);
        }
      }
      const heading = ["ID", "EVENT TYPE", "EVENT ID", "TIME"];
      if (!isJson)
        printTable(endpoint === undefined ? heading : [...heading, "STATUS", "NEXT ATTEMPT"], rows);
    },
  });

  addServiceCommand(group, {
    usage: "show <app> <message>",
    description:
      "Show a message with its payload, where it goes, how it stands there, and each attempt. By its id or event id.",
    options: [
      ["--endpoint <endpoint>", "only the attempts at this endpoint"],
      [
        "--status-class <class>",
        `only the attempts answered so: ${statusClasses.join(", ")}; 0 is no answer`,
      ],
    ],
    examples: [
      ["messages show shop order-1", "also why the last attempt has failed, and when the next one is due"],
    ],
    run: async ({ options, isJson, service }, app, message) => {
      const statusClass = options.choice("statusClass", statusClasses);
      options.check();
      const client = service();
      const base = `/api/v1/app/${encodeURIComponent(app!)}`;
      const id = encodeURIComponent(message!);
      const { text, json } = await client.request("GET", `${base}/msg/${id}`);
      const destinations = await toArray(client.list(`${base}/msg/${id}/endpoint`, {}, Infinity));
      const attempts = await toArray(
        client.list(
          `${base}/attempt/msg/${id}`,
          { endpoint_id: options.text("endpoint"), status_code_class: statusClass },
          maxShownAttempts,
        ),
      );
      const payload = findRawMember(text, "payload") ?? "null";
      if (isJson) {
        const { payload: _, ...members } = json;
        const rest = JSON.stringify({ ...members, destinations, attempts });
        printLine(`${rest.slice(0, -1)},"payload":${payload}}`);
        return;
      }
      printMessage(json, payload);
      printDestinations(destinations);
      printAttempts(attempts);
    },
  });

  addServiceCommand(group, {
    usage: "resend <app> <message> <endpoint>",
    description: "Send a message to an endpoint again, now.",
    examples: [["messages resend shop order-1 main", "hookplane messages show tells what comes of it"]],
    run: async ({ isJson, service }, app, message, endpoint) => {
      const [inApp, id, to] = [app!, message!, endpoint!].map(encodeURIComponent);
      await service().request("POST", `/api/v1/app/${inApp}/msg/${id}/endpoint/${to}/resend`);
      if (isJson) printJson({ resent: message, endpoint });
      else printNote(`"${message}" is on its way: hookplane messages show ${app} ${message}`);
    },
  });
}

/** The filters that messages have in common, in the API's words. */
function readFilters(options: OptionReader) {
  const now = Date.now();
  return {
    event_types: options.list("eventType"),
    channel: options.text("channel"),
    tag: options.text("tag"),
    after: options.time("since", now),
    before: options.time("until", now),
  };
}

async function toArray<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

function toCell(statusText: unknown): Cell {
  const text = String(statusText);
  const style = text === "success" ? "green" : text === "fail" ? "red" : "yellow";
  return { text, style };
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the API's answer.
function printMessage(message: any, payload: string): void {
  printFields({
    ID: message.id,
    "Event type": message.eventType,
    "Event id": message.eventId ?? undefined,
    Channels: message.channels ? shownList(message.channels) : undefined,
    Tags: message.tags ? shownList(message.tags) : undefined,
    "Ordering key": message.orderingKey,
    Time: shownTime(message.timestamp),
  });
  printLine(`\n${visibleLines(payload)}\n`);
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the API's answer.
function printDestinations(destinations: readonly any[]): void {
  if (destinations.length === 0) {
    printLine("It goes to no endpoint.\n");
    return;
  }
  printTable(
    ["ENDPOINT", "UID", "URL", "STATUS", "NEXT ATTEMPT"],
    destinations.map(({ id, uid, url, disabled, statusText, nextAttempt }): Cell[] => [
      id,
      uid ?? "-",
      url,
      disabled === true && statusText !== "success"
        ? { text: `${statusText}, disabled`, style: "red" }
        : toCell(statusText),
      shownTime(nextAttempt),
    ]),
  );
  printLine("");
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the API's answer.
function printAttempts(attempts: readonly any[]): void {
  if (attempts.length === 0) {
    printLine("There is no attempt.");
    return;
  }
  for (const attempt of attempts) {
    const { status, id, endpointId, responseStatusCode, responseDurationMs, triggerType, timestamp } =
      attempt;
    const isSuccess = status === 0;
    const answer = responseStatusCode === 0 ? "no answer" : String(responseStatusCode);
    const by = triggerType === 1 ? ", by hand" : "";
    const head = `${isSuccess ? "✓" : "✗"} ${answer}`;
    printLine(
      `${styled(isSuccess ? "green" : "red", head)}  ${shownTime(timestamp)}  ${endpointId}  ${responseDurationMs} ms${by}  ${styled("dim", id)}`,
    );
    const text = visible(String(attempt.response));
    if (!isSuccess && text !== "") {
      printLine(`    ${text.length > maxShownAnswer ? `${text.slice(0, maxShownAnswer)}…` : text}`);
    }
  }
  if (attempts.length === maxShownAttempts) printLine(`The ${maxShownAttempts} newest attempts are shown.`);
}
