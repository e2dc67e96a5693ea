import type { Command } from "commander";
import { CommandFailure } from "./failure.ts";
import { defaultListLimit, limitOption, readLimit } from "./list-limit.ts";
import type { OptionReader } from "./option-reader.ts";
import { parseObject, readTextFile } from "./payload-source.ts";
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
  type Cell,
} from "./printer.ts";
import { addCommandGroup, addServiceCommand } from "./service-command.ts";
import type { ServiceClient } from "./service-client.ts";

const orders = ["none", "endpoint", "key"] as const;
const exhaustions = ["block", "skip"] as const;
const none = "none";

/** What an endpoint is made with, and what can be changed of it. */
const memberOptions = [
  ["--uid <uid>", "your own name for it"],
  ["--description <text>", "what it is for"],
  [
    "--event-type <type…>",
    `event type that it gets; without it, all (update: "${none}" takes the list away)`,
  ],
  [
    "--channel <channel…>",
    `channel that it listens to; without it, all (update: "${none}" takes the list away)`,
  ],
  ["--throttle-rate <number>", `messages per second at most (update: "${none}" for no limit)`],
  ["--metadata <name=value…>", "metadata; on update, all of it"],
  [
    "--headers-file <file>",
    "JSON object of headers that go with each delivery, from a file or - for standard input",
  ],
  ["--order <order>", "strict order: endpoint (one after the other), key (by ordering key) or none"],
  ["--when-exhausted <what>", "in a strict order, where a message's attempts are used up: block or skip"],
  ["--retry-schedule <seconds>", "waits between attempts, separated by commas; empty for a single attempt"],
  ["--timeout <seconds>", "how long an answer may take"],
  ["--concurrency <number>", "requests at a time"],
  [
    "--success-statuses <statuses>",
    "statuses that count as success, separated by commas; without it, every 2xx",
  ],
] as const;

const showSecretOption = ["--show-secret", "print the signing secret too"] as const;

export function registerEndpoints(program: Command): void {
  const group = addCommandGroup(program, "endpoints", "Look at endpoints, make, change and delete them.");

  addServiceCommand(group, {
    usage: "list <app>",
    description: `List an application's endpoints, the newest first, ${defaultListLimit} unless told otherwise.`,
    isDefault: true,
    options: [limitOption],
    examples: [["endpoints shop", "their ids, URLs and whether they are enabled"]],
    run: async ({ options, isJson, service }, app) => {
      const limit = readLimit(options);
      options.check();
      const rows: Cell[][] = [];
      for await (const item of service().list(`${applicationPath(app)}/endpoint`, {}, limit)) {
        if (isJson) printJson(item);
        else
          rows.push([
            item.id,
            item.uid ?? "-",
            stateCell(item.disabled),
            item.url,
            shownList(item.eventTypes),
          ]);
      }
      if (!isJson) printTable(["ID", "UID", "STATE", "URL", "EVENT TYPES"], rows);
    },
  });

  addServiceCommand(group, {
    usage: "show <app> <endpoint>",
    description:
      "Show an endpoint, how many messages of the last 28 days stand how, and what its order waits for.",
    options: [showSecretOption],
    examples: [["endpoints show shop main", "all but its secrets"]],
    run: async ({ options, isJson, service }, app, endpoint) => {
      const client = service();
      const path = endpointPath(app, endpoint);
      const { json } = await client.request("GET", path);
      const { json: headers } = await client.request("GET", `${path}/headers`);
      const { json: stats } = await client.request("GET", `${path}/stats`);
      const secret = options.isSet("showSecret") ? await readSecret(client, path) : undefined;
      if (isJson) printJson({ ...json, headers, stats, ...(secret !== undefined && { secret }) });
      else printEndpoint(json, headers, stats, secret);
    },
  });

  addServiceCommand(group, {
    usage: "create <app> <endpoint-url>",
    description: "Make an endpoint. Prints its id.",
    options: [
      ...memberOptions,
      ["--disabled", "send nothing yet"],
      [
        "--secret-file <file>",
        "file with the signing secret, or - for standard input; without it, one is made",
      ],
      showSecretOption,
    ],
    examples: [
      ["endpoints create shop https://example.com/hooks --event-type order.paid", "prints ep_…"],
      [
        "endpoints create shop https://example.com/hooks --uid main --order key --show-secret",
        "and its whsec_…",
      ],
    ],
    run: async ({ options, isJson, service }, app, url) => {
      const members = await readMembers(options);
      const secretFile = options.text("secretFile");
      options.check();
      const secret = secretFile === undefined ? undefined : (await readTextFile(secretFile)).trim();
      const client = service();
      const { json } = await client.request("POST", `${applicationPath(app)}/endpoint`, {
        body: { url, ...members, secret, ...(options.isSet("disabled") && { disabled: true }) },
      });
      const shown = options.isSet("showSecret")
        ? await readSecret(client, endpointPath(app, json.id))
        : undefined;
      if (isJson) printJson({ ...json, ...(shown !== undefined && { secret: shown }) });
      else {
        printLine(json.id);
        if (shown !== undefined) printLine(shown);
      }
    },
  });

  addServiceCommand(group, {
    usage: "update <app> <endpoint>",
    description: "Change what is given of an endpoint, and leave the rest.",
    options: [["--endpoint-url <url>", "where it sends to from now on"], ...memberOptions],
    examples: [
      ["endpoints update shop main --event-type order.paid --event-type order.sent", "these two from now on"],
      [`endpoints update shop main --throttle-rate ${none}`, "as fast as it takes them"],
    ],
    run: async ({ options, isJson, service }, app, endpoint) => {
      const { headers, ...members } = await readMembers(options);
      const body = {
        ...members,
        ...(options.text("endpointUrl") !== undefined && { url: options.text("endpointUrl") }),
      };
      options.check();
      const isEmpty = Object.values(body).every((value) => value === undefined);
      if (isEmpty && headers === undefined) {
        throw new CommandFailure(
          "settings_invalid",
          "There is nothing to change: give an option of what should be.",
        );
      }
      const client = service();
      const path = endpointPath(app, endpoint);
      let { json } = await client.request(isEmpty ? "GET" : "PATCH", path, isEmpty ? {} : { body });
      if (headers !== undefined) {
        // It may have a new uid by now.
        const now = endpointPath(app, json.id);
        await client.request("PUT", `${now}/headers`, { body: { headers } });
        ({ json } = await client.request("GET", now));
      }
      if (isJson) printJson(json);
      else printNote(`The endpoint "${endpoint}" is changed.`);
    },
  });

  for (const [name, disabled, description] of [
    [
      "enable",
      false,
      "Let an endpoint get messages again; what it has missed is sent with hookplane replay.",
    ],
    ["disable", true, "Send an endpoint nothing more until it is enabled."],
  ] as const) {
    addServiceCommand(group, {
      usage: `${name} <app> <endpoint>`,
      description,
      examples: [[`endpoints ${name} shop main`, "from now on"]],
      run: async ({ isJson, service }, app, endpoint) => {
        const { json } = await service().request("PATCH", endpointPath(app, endpoint), {
          body: { disabled },
        });
        if (isJson) printJson(json);
        else printNote(`The endpoint "${endpoint}" is ${name}d.`);
      },
    });
  }

  addServiceCommand(group, {
    usage: "delete <app> <endpoint>",
    description: "Delete an endpoint, with what is still to be sent to it. Its attempts stay.",
    options: [["--yes", "yes, for good"]],
    examples: [["endpoints delete shop main --yes", "there is no way back"]],
    run: async ({ options, isJson, service }, app, endpoint) => {
      if (!options.isSet("yes")) {
        throw new CommandFailure(
          "settings_invalid",
          `This deletes "${endpoint}" and what is still to be sent to it, for good: say --yes.`,
        );
      }
      await service().request("DELETE", endpointPath(app, endpoint));
      if (isJson) printJson({ deleted: endpoint });
      else printNote(`The endpoint "${endpoint}" is deleted.`);
    },
  });

  addServiceCommand(group, {
    usage: "rotate-secret <app> <endpoint>",
    description: "Give an endpoint a new signing secret. The old one signs too until its time is over.",
    options: [
      ["--overlap <time>", "how long the old secret signs too, such as 2h; at most 7d (default: 1d)"],
      ["--secret-file <file>", "file with the new secret, or - for standard input; without it, one is made"],
      showSecretOption,
    ],
    examples: [["endpoints rotate-secret shop main --overlap 2d --show-secret", "prints the new whsec_…"]],
    run: async ({ options, isJson, service }, app, endpoint) => {
      const gracePeriodSeconds = options.seconds("overlap");
      const secretFile = options.text("secretFile");
      options.check();
      const key = secretFile === undefined ? undefined : (await readTextFile(secretFile)).trim();
      const client = service();
      const path = endpointPath(app, endpoint);
      await client.request("POST", `${path}/secret/rotate`, { body: { key, gracePeriodSeconds } });
      const secret = options.isSet("showSecret") ? await readSecret(client, path) : undefined;
      if (isJson) printJson({ rotated: endpoint, ...(secret !== undefined && { secret }) });
      else if (secret !== undefined) printLine(secret);
      else
        printNote(
          `The endpoint "${endpoint}" has a new secret: see it with endpoints show ${app} ${endpoint} --show-secret`,
        );
    },
  });

  addServiceCommand(group, {
    usage: "order <app> <endpoint>",
    description: "Show what stands first in each strict order of an endpoint, and how many wait behind it.",
    options: [["--limit <number>", `how many to list at most, up to 250 (default: ${defaultListLimit})`]],
    examples: [["endpoints order shop main", "blocked ones wait for skip or retry"]],
    run: async ({ options, isJson, service }, app, endpoint) => {
      const limit = options.wholeNumber("limit", 1, 250) ?? defaultListLimit;
      options.check();
      const { json } = await service().request("GET", `${endpointPath(app, endpoint)}/order`, {
        query: { limit },
      });
      if (isJson) {
        for (const head of json.data) printJson(head);
        return;
      }
      printTable(
        ["KEY", "MESSAGE", "EVENT TYPE", "STATUS", "ATTEMPTS", "NEXT ATTEMPT", "BEHIND"],
        // eslint-disable-next-line @typescript-eslint/no-explicit-any -- the API's answer.
        json.data.map((head: any): Cell[] => [
          head.key ?? "-",
          head.msgId,
          head.eventType ?? "-",
          { text: head.status, style: head.status === "blocked" ? "red" : "yellow" },
          String(head.attempts),
          shownTime(head.nextAttempt),
          String(head.behind),
        ]),
      );
      if (json.done !== true) printNote("There are more.");
    },
  });

  for (const [name, description, done] of [
    [
      "skip",
      "Give up on a message that stands in a strict order, and let those behind it go on.",
      "is skipped",
    ],
    [
      "retry",
      "Send the message that blocks a strict order once more, with all its attempts.",
      "is on its way",
    ],
  ] as const) {
    addServiceCommand(group, {
      usage: `${name} <app> <endpoint> <message>`,
      description,
      examples: [[`endpoints ${name} shop main order-1`, "the message by its id or event id"]],
      run: async ({ isJson, service }, app, endpoint, messageId) => {
        await service().request("POST", `${endpointPath(app, endpoint)}/order/${name}`, {
          body: { messageId },
        });
        if (isJson) printJson({ [name]: messageId, endpoint });
        else printNote(`"${messageId}" ${done}.`);
      },
    });
  }
}

function applicationPath(app: string | undefined): string {
  return `/api/v1/app/${encodeURIComponent(app!)}`;
}

function endpointPath(app: string | undefined, endpoint: string | undefined): string {
  return `${applicationPath(app)}/endpoint/${encodeURIComponent(endpoint!)}`;
}

async function readSecret(client: ServiceClient, path: string): Promise<string> {
  return (await client.request("GET", `${path}/secret`)).json.key;
}

/** The members that were given, in the API's words; what is undefined is left out of the request. */
async function readMembers(options: OptionReader) {
  const listOf = (name: string): string[] | null | undefined => {
    const items = options.list(name);
    return items?.length === 1 && items[0] === none ? null : items;
  };
  const throttleRate =
    options.text("throttleRate") === none ? null : options.wholeNumber("throttleRate", 1, 65_535);
  const policy = {
    order: options.choice("order", orders),
    whenExhausted: options.choice("whenExhausted", exhaustions),
    retrySchedule: options.numbers("retrySchedule"),
    timeoutSeconds: options.number("timeout", 1, 120),
    concurrency: options.wholeNumber("concurrency", 1, 256),
    successStatuses: options.numbers("successStatuses"),
  };
  const headersFile = options.text("headersFile");
  const headers =
    headersFile === undefined
      ? undefined
      : parseObject(await readTextFile(headersFile), `The headers file "${headersFile}"`);
  return {
    uid: options.text("uid"),
    description: options.text("description"),
    eventTypes: listOf("eventType"),
    channels: listOf("channel"),
    throttleRate,
    metadata: options.pairs("metadata"),
    headers,
    policy: Object.values(policy).every((value) => value === undefined) ? undefined : policy,
  };
}

function stateCell(disabled: unknown): Cell {
  return disabled === true ? { text: "disabled", style: "red" } : { text: "enabled", style: "green" };
}

/* eslint-disable @typescript-eslint/no-explicit-any -- the API's answers. */
function printEndpoint(endpoint: any, headers: any, stats: any, secret: string | undefined): void {
  const names = [
    ...Object.keys(headers.headers),
    ...headers.sensitive.map((name: string) => `${name} (secret)`),
  ];
  printFields({
    ID: endpoint.id,
    UID: endpoint.uid ?? "-",
    URL: endpoint.url,
    State: endpoint.disabled === true ? "disabled" : "enabled",
    Description: endpoint.description || undefined,
    "Event types": endpoint.eventTypes ? shownList(endpoint.eventTypes) : "all",
    Channels: endpoint.channels ? shownList(endpoint.channels) : "all",
    "Per second": endpoint.throttleRate === null ? undefined : String(endpoint.throttleRate),
    Policy: endpoint.policy === undefined ? undefined : JSON.stringify(endpoint.policy),
    Certificates: endpoint.tls === undefined ? undefined : JSON.stringify(endpoint.tls),
    Metadata: Object.keys(endpoint.metadata).length === 0 ? undefined : JSON.stringify(endpoint.metadata),
    Headers: names.length === 0 ? undefined : names.join(", "),
    Secret: secret,
    Created: shownTime(endpoint.createdAt),
    Updated: shownTime(endpoint.updatedAt),
  });
  const counts = [
    styled("green", `${stats.success} delivered`),
    styled("yellow", `${stats.pending} pending`),
    styled("red", `${stats.fail} failed`),
  ];
  printLine(`\nMessages of the last 28 days: ${counts.join(", ")}`);
  const order = endpoint.policy?.order;
  if (order !== undefined && order !== "none") {
    printLine(
      `What its order waits for: hookplane endpoints order <app> ${visible(endpoint.uid ?? endpoint.id)}`,
    );
  }
}
/* eslint-enable @typescript-eslint/no-explicit-any */
