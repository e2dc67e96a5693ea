import type { Command } from "commander";
import { CommandFailure } from "./failure.ts";
import { printFields, printJson, printLine, printNote, printTable, shownTime } from "./printer.ts";
import { addCommandGroup, addServiceCommand } from "./service-command.ts";
import { defaultListLimit, limitOption, readLimit } from "./list-limit.ts";

export function registerApplications(program: Command): void {
  const group = addCommandGroup(program, "applications", "Look at applications, make and delete them.");

  addServiceCommand(group, {
    usage: "list",
    description: `List applications, ${defaultListLimit} unless told otherwise.`,
    isDefault: true,
    options: [limitOption],
    examples: [["applications", "their ids, uids and names"]],
    run: async ({ options, isJson, service }) => {
      const limit = readLimit(options);
      options.check();
      const rows = [];
      for await (const item of service().list("/api/v1/app", {}, limit)) {
        if (isJson) printJson(item);
        else rows.push([item.id, item.uid ?? "-", item.name, shownTime(item.createdAt)]);
      }
      if (!isJson) printTable(["ID", "UID", "NAME", "CREATED"], rows);
    },
  });

  addServiceCommand(group, {
    usage: "show <app>",
    description: "Show an application.",
    examples: [["applications show shop", "all that is known of it"]],
    run: async ({ isJson, service }, app) => {
      const { json } = await service().request("GET", `/api/v1/app/${encodeURIComponent(app!)}`);
      if (isJson) printJson(json);
      else printFields(fieldsOf(json));
    },
  });

  addServiceCommand(group, {
    usage: "create <uid>",
    description: "Make an application, if there is none of this uid. Prints its id.",
    options: [["--name <name>", "its name (default: the uid)"]],
    examples: [["applications create shop --name 'Web shop'", "prints app_…"]],
    run: async ({ options, isJson, service }, uid) => {
      const { json } = await service().request("POST", "/api/v1/app", {
        query: { get_if_exists: true },
        body: { uid, name: options.text("name") ?? uid },
      });
      if (isJson) printJson(json);
      else printLine(json.id);
    },
  });

  addServiceCommand(group, {
    usage: "delete <app>",
    description: "Delete an application with its endpoints, messages and attempts.",
    options: [["--yes", "yes, all of it"]],
    examples: [["applications delete shop --yes", "there is no way back"]],
    run: async ({ options, isJson, service }, app) => {
      if (!options.isSet("yes")) {
        throw new CommandFailure(
          "settings_invalid",
          `This deletes "${app}" with its endpoints, messages and attempts, for good: say --yes.`,
        );
      }
      await service().request("DELETE", `/api/v1/app/${encodeURIComponent(app!)}`);
      if (isJson) printJson({ deleted: app });
      else printNote(`The application "${app}" is deleted.`);
    },
  });
}

/** What one sees of an application. */
function fieldsOf(json: Record<string, unknown>): Record<string, string | undefined> {
  const { id, uid, name, throttleRate, metadata, policy, createdAt, updatedAt } = json;
  return {
    ID: String(id),
    UID: (uid as string | null) ?? "-",
    Name: String(name),
    "Per second": typeof throttleRate === "number" ? String(throttleRate) : undefined,
    Policy: policy === undefined ? undefined : JSON.stringify(policy),
    Metadata: Object.keys(metadata as object).length === 0 ? undefined : JSON.stringify(metadata),
    Created: shownTime(createdAt as string),
    Updated: shownTime(updatedAt as string),
  };
}
