import type { Command } from "commander";
import { defaultListLimit, limitOption, readLimit } from "./list-limit.ts";
import { printJson, printLine, printTable, shownTime } from "./printer.ts";
import { addCommandGroup, addServiceCommand } from "./service-command.ts";

/** Organizations, which the administrator alone may make. */
export function registerOrganization(program: Command): void {
  const group = addCommandGroup(program, "organization", "Make organizations and list them.");

  addServiceCommand(group, {
    usage: "create <name>",
    description: "Make an organization. Prints its id.",
    options: [["--id <id>", "an id of your own (default: org_…)"]],
    examples: [
      ["organization create Acme --id acme", "hookplane token create --organization acme gives it access"],
    ],
    run: async ({ options, isJson, service }, name) => {
      const { json } = await service().request("POST", "/api/v1/organization", {
        body: { name, id: options.text("id") },
      });
      if (isJson) printJson(json);
      else printLine(json.id);
    },
  });

  addServiceCommand(group, {
    usage: "list",
    description: `List organizations, ${defaultListLimit} unless told otherwise.`,
    isDefault: true,
    options: [limitOption],
    examples: [["organization", "their ids and names"]],
    run: async ({ options, isJson, service }) => {
      const limit = readLimit(options);
      options.check();
      const rows: string[][] = [];
      for await (const { id, name, createdAt } of service().list("/api/v1/organization", {}, limit)) {
        if (isJson) printJson({ id, name, createdAt });
        else rows.push([id, name, shownTime(createdAt)]);
      }
      if (!isJson) printTable(["ID", "NAME", "CREATED"], rows);
    },
  });
}
