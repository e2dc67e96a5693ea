import type { Command } from "commander";
import { capabilities } from "../delivery/core/caller.ts";
import { defaultListLimit, limitOption, readLimit } from "./list-limit.ts";
import { printJson, printLine, printNote, printTable, shownList, shownTime } from "./printer.ts";
import type { OptionReader } from "./option-reader.ts";
import { addCommandGroup, addServiceCommand } from "./service-command.ts";

const organizationOption = [
  "--organization <id>",
  "whose it is (default: default, the administrator's)",
] as const;

/** Tokens, which the administrator alone may make and take back. */
export function registerToken(program: Command): void {
  const group = addCommandGroup(program, "token", "Make tokens for others, list them, take them back.");

  addServiceCommand(group, {
    usage: "create",
    description:
      "Make a token for an organization or one application of it, and print it: it is shown this once.",
    options: [
      organizationOption,
      ["--description <text>", "what it is for"],
      ["--application <app>", "the one application that it opens; without it, all of the organization's"],
      [
        "--capability <name…>",
        `with --application, what it may do there (default: all): ${capabilities.join(", ")}`,
      ],
      ["--feature-flag <name…>", "with --application, flag whose event types it sees"],
      ["--expires <time>", "how long it lives, such as 30d (default: until it is taken back)"],
    ],
    examples: [
      ["token create --description publisher > publisher.token", "for --token-file"],
      ["token create --application shop --capability ViewBase --expires 7d", "to look into one application"],
    ],
    run: async ({ options, isJson, service }) => {
      const expiry = options.seconds("expires");
      const given = options.list("capability");
      for (const name of given ?? []) {
        if (!(capabilities as readonly string[]).includes(name)) {
          options.fault("capability", name, `choose from ${capabilities.join(", ")}`);
        }
      }
      options.check();
      const { json } = await service().request("POST", `${organizationPath(options)}/token`, {
        body: {
          description: options.text("description"),
          application: options.text("application"),
          capabilities: given,
          featureFlags: options.list("featureFlag"),
          expiry,
        },
        // An answer that is kept under a key would keep the token.
        headers: {},
      });
      if (isJson) {
        printJson(json);
        return;
      }
      printLine(json.token);
      printNote(`Take it back with: hookplane token delete ${json.id}`);
    },
  });

  addServiceCommand(group, {
    usage: "list",
    description: `List an organization's tokens, without the tokens themselves, ${defaultListLimit} unless told otherwise.`,
    isDefault: true,
    options: [organizationOption, limitOption],
    examples: [["token", "who has access"]],
    run: async ({ options, isJson, service }) => {
      const limit = readLimit(options);
      options.check();
      const rows: string[][] = [];
      for await (const token of service().list(`${organizationPath(options)}/token`, {}, limit)) {
        if (isJson) printJson(token);
        else {
          const may =
            token.applicationId === null
              ? "-"
              : token.capabilities === null
                ? "all"
                : shownList(token.capabilities);
          rows.push([
            token.id,
            token.description || "-",
            token.applicationId ?? "all",
            may,
            shownTime(token.expiresAt),
          ]);
        }
      }
      if (!isJson) printTable(["ID", "DESCRIPTION", "APPLICATION", "CAPABILITIES", "EXPIRES"], rows);
    },
  });

  addServiceCommand(group, {
    usage: "delete <token-id>",
    description: "Take a token back, by its id: it is refused from now on.",
    options: [organizationOption],
    examples: [["token delete tok_…", "hookplane token lists the ids"]],
    run: async ({ options, isJson, service }, id) => {
      await service().request("DELETE", `${organizationPath(options)}/token/${encodeURIComponent(id!)}`);
      if (isJson) printJson({ deleted: id });
      else printNote(`The token "${id}" is taken back.`);
    },
  });
}

function organizationPath(options: OptionReader): string {
  return `/api/v1/organization/${encodeURIComponent(options.text("organization") ?? "default")}`;
}
