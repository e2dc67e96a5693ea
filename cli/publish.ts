import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import type { Command } from "commander";
import { CommandFailure, exitCodes } from "./failure.ts";
import { parseObject, readArgument } from "./payload-source.ts";
import { counted, printJson, printLine, printNote, styled, visible } from "./printer.ts";
import { Progress } from "./progress.ts";
import { addServiceCommand, type CommandContext } from "./service-command.ts";
import type { ServiceClient } from "./service-client.ts";

/** What one request takes, as the service counts; the bytes leave room in its default limit of 1 MiB. */
const maxBatchMessages = 100;
const maxBatchBytes = 900_000;
/** Refused lines that are told to people; the others are counted. */
const maxShownRefusals = 20;

export function registerPublish(program: Command): void {
  addServiceCommand(program, {
    usage: "publish <app> [event-type] [payload]",
    description:
      "Publish an event, or with --batch many of them. Prints the message's id once the event is on disk and scheduled.",
    options: [
      ["--event-id <id>", "your own id for the event: published twice, it is taken once"],
      ["--channel <channel…>", "channel that it belongs to"],
      ["--tag <tag…>", "tag to find it by"],
      ["--ordering-key <key>", "whose turn it is, at endpoints that keep an order by key"],
      [
        "--batch <file>",
        "publish the lines of a file, or with - of standard input; each is a JSON object: a message or, where an event type is given, a payload",
      ],
    ],
    examples: [
      [`publish shop order.paid '{"amount": 12}'`, "prints msg_…"],
      ["publish shop order.paid @order.json --event-id order-1 --tag first", "the payload from a file"],
      ["jq -c .order input.json | hookplane publish shop order.paid -", "the payload from standard input"],
      [
        "publish shop --batch events.ndjson",
        `lines such as {"eventType": "order.paid", "payload": {}, "eventId": "order-1"}`,
      ],
      ["publish shop order.paid --batch - --json < payloads.ndjson", "each line's outcome as JSON"],
    ],
    notes: `<payload> is JSON, @file or - for standard input; {} where it is left out. Its text is delivered as it is.
A batch goes out in order, ${maxBatchMessages} lines a request. Lines that are refused are told with their numbers, and the exit code is
${exitCodes.incomplete}. Give each line an eventId, so that the file can be published again after an interruption.`,
    run: async (context, app, eventType, payload) => {
      if (context.options.text("batch") === undefined) await publishOne(context, app!, eventType, payload);
      else await publishBatch(context, app!, eventType, payload);
    },
  });
}

async function publishOne(
  { options, isJson, service }: CommandContext,
  app: string,
  eventType: string | undefined,
  payload = "{}",
): Promise<void> {
  if (eventType === undefined) {
    throw new CommandFailure(
      "settings_invalid",
      `There is no event type: hookplane publish ${app} <event-type> [payload], or --batch <file>.`,
    );
  }
  const text = (await readArgument(payload)).trim();
  parseObject(text, "The payload");
  const { json } = await service().request("POST", `/api/v1/app/${encodeURIComponent(app)}/msg`, {
    query: { with_content: false },
    body: messageText(text, {
      eventType,
      eventId: options.text("eventId"),
      channels: options.list("channel"),
      tags: options.list("tag"),
      orderingKey: options.text("orderingKey"),
    }),
  });
  if (isJson) printJson(withoutPayload(json));
  else printLine(json.id);
}

/** A message's JSON, with the payload's text as it was given. */
function messageText(payload: string, members: object): string {
  const text = JSON.stringify(members);
  return `${text.slice(0, -1)}${text === "{}" ? "" : ","}"payload":${payload}}`;
}

function withoutPayload({ payload: _, ...message }: Record<string, unknown>): unknown {
  return message;
}

interface Line {
  /** Counted from 1. */
  readonly number: number;
  readonly text: string;
}

interface Tally {
  accepted: number;
  refused: number;
}

async function publishBatch(
  context: CommandContext,
  app: string,
  eventType: string | undefined,
  payload: string | undefined,
): Promise<void> {
  const { options, isJson } = context;
  if (payload !== undefined)
    options.fault("batch", options.text("batch"), "the payloads are its lines: leave out the payload");
  for (const name of ["eventId", "orderingKey"]) {
    if (options.text(name) !== undefined)
      options.fault(name, options.text(name), "this is one message's: give it in the batch's lines");
  }
  const hasShared = options.list("channel") !== undefined || options.list("tag") !== undefined;
  if (hasShared && eventType === undefined) {
    options.fault(
      "batch",
      options.text("batch"),
      "channels and tags are given in its lines, unless those are payloads",
    );
  }
  options.check();
  const shared = { channels: options.list("channel"), tags: options.list("tag") };
  const client = context.service();
  const tally: Tally = { accepted: 0, refused: 0 };
  const progress = new Progress();
  const report = (line: Line, outcome: BatchOutcome): void => {
    if ("id" in outcome) tally.accepted++;
    else tally.refused++;
    if (isJson) printJson({ line: line.number, ...outcome });
    else if ("error" in outcome && tally.refused <= maxShownRefusals) {
      progress.end();
      printNote(`line ${line.number}: ${visible(outcome.error.message)}`);
    }
    progress.show(() => `${counted(tally.accepted, "event")} published, ${tally.refused} refused`);
  };

  let waiting: Line[] = [];
  let bytes = 0;
  const flush = async (): Promise<void> => {
    const lines = waiting;
    waiting = [];
    bytes = 0;
    if (lines.length > 0) await send(client, app, lines, report);
  };
  const add = async (line: Line): Promise<void> => {
    const text = toMessage(line, eventType, shared);
    if (typeof text !== "string") {
      // Those before it are told first.
      await flush();
      report(line, { error: { status: null, message: text.problem } });
      return;
    }
    const length = Buffer.byteLength(text);
    if (waiting.length === maxBatchMessages || bytes + length > maxBatchBytes) await flush();
    waiting.push({ ...line, text });
    bytes += length;
  };
  try {
    for await (const line of readLines(options.text("batch")!)) await add(line);
    await flush();
  } catch (error) {
    if (!(error instanceof CommandFailure) || tally.accepted === 0) throw error;
    const done = `${counted(tally.accepted, "event")} ${tally.accepted === 1 ? "was" : "were"} published before.`;
    throw new CommandFailure(error.code, `${error.message}\n${done}`, { cause: error });
  } finally {
    progress.end();
  }

  const more = tally.refused - maxShownRefusals;
  if (!isJson && more > 0) printNote(`and ${counted(more, "more line")} like these`);
  const summary = `${counted(tally.accepted, "event")} published, ${tally.refused} refused.`;
  if (isJson) printJson({ accepted: tally.accepted, refused: tally.refused });
  else printLine(tally.refused === 0 ? summary : styled("yellow", summary));
  if (tally.refused > 0) process.exitCode = exitCodes.incomplete;
}

type BatchOutcome =
  { readonly id: string } | { readonly error: { readonly status: number | null; readonly message: string } };

/** The message that a line is, or what is wrong with it. */
function toMessage(
  { text }: Line,
  eventType: string | undefined,
  shared: object,
): string | { readonly problem: string } {
  let value: Record<string, unknown>;
  try {
    value = parseObject(text, "It");
  } catch (error) {
    if (!(error instanceof CommandFailure)) throw error;
    return { problem: error.message };
  }
  if (eventType !== undefined) return messageText(text, { eventType, ...shared });
  if (typeof value["eventType"] === "string" && "payload" in value) return text;
  return {
    problem:
      'It must have an eventType and a payload, as {"eventType": "order.paid", "payload": {}}. For lines that are payloads, give the event type behind the application.',
  };
}

/** Sends lines, those that the service had no room for again, and those that are too long together by halves. */
async function send(
  client: ServiceClient,
  app: string,
  lines: readonly Line[],
  report: (line: Line, outcome: BatchOutcome) => void,
): Promise<void> {
  let answers: readonly BatchAnswer[];
  try {
    const { json } = await client.request("POST", `/api/v1/app/${encodeURIComponent(app)}/msg/batch`, {
      query: { with_content: false },
      body: `{"messages":[${lines.map(({ text }) => text).join(",")}]}`,
    });
    answers = json.data;
  } catch (error) {
    if (!(error instanceof CommandFailure) || error.code !== "payload_too_large") throw error;
    const [first] = lines;
    if (lines.length === 1 && first) {
      report(first, { error: { status: 413, message: error.message } });
      return;
    }
    const middle = Math.ceil(lines.length / 2);
    await send(client, app, lines.slice(0, middle), report);
    await send(client, app, lines.slice(middle), report);
    return;
  }
  const again: Line[] = [];
  for (const [index, line] of lines.entries()) {
    const answer = answers[index];
    if (answer === undefined || "id" in answer) report(line, { id: answer?.id ?? "" });
    else if (answer.error.status === 429 || answer.error.status === 503) again.push(line);
    else report(line, { error: { status: answer.error.status, message: messageOf(answer.error) } });
  }
  if (again.length > 0) await send(client, app, again, report);
}

type BatchAnswer =
  { readonly id: string } | { readonly error: { readonly status: number; readonly detail: unknown } };

function messageOf({ detail }: { readonly detail: unknown }): string {
  if (!Array.isArray(detail)) return String(detail);
  return (detail as { loc: string[]; msg: string }[])
    .map(({ loc, msg }) => {
      // The place in the batch says nothing to whoever counts lines.
      const place = loc.slice(3).join(".");
      return place === "" ? msg : `${place}: ${msg}`;
    })
    .join(" ");
}

/** The lines of a file that are not empty, as they come. */
async function* readLines(file: string): AsyncGenerator<Line> {
  const input = file === "-" ? process.stdin : createReadStream(file);
  let number = 0;
  try {
    for await (const text of createInterface({ input, crlfDelay: Infinity })) {
      number++;
      if (text.trim() !== "") yield { number, text: text.trim() };
    }
  } catch (cause) {
    if (!(cause instanceof Error && "syscall" in cause)) throw cause;
    const code = "code" in cause ? String(cause.code) : "unknown error";
    throw new CommandFailure("settings_invalid", `--batch "${file}": the file cannot be read (${code}).`);
  }
}
