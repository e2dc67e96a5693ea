import type { Command } from "commander";
import { parseStorageConfig, settings, type Flags, type StorageConfig } from "../delivery/config.ts";
import { addExamples, type Example } from "./command-reference.ts";
import { jsonOption } from "./config.ts";
import { CommandFailure, exitCodes, reportingFailures } from "./failure.ts";
import { counted, printJson, printLine, styled, visible } from "./printer.ts";
import { Progress, whileWaiting } from "./progress.ts";
import { addCommandGroup, firstSentence } from "./service-command.ts";
import { toOption } from "./setting-option.ts";

interface DatabaseFlags extends Flags {
  readonly json?: boolean;
}

/** Commands that work on the stored data itself, without a service. */
export function registerDatabase(program: Command): void {
  const group = addCommandGroup(program, "db", "Look after the database of a service.");

  addDatabaseCommand(group, {
    usage: "migrate",
    description:
      "Bring the database to this program's version, or make it. A service does the same when it starts; this is for when it should not be the first.",
    examples: [["db migrate --data-dir /var/lib/hookplane", "prints the versions before and after"]],
    run: async (storage, isJson) => {
      const { migrateDatabase } = await import("../delivery/store/upgrade.ts");
      const { before, after } = await whileWaiting("Migrating the database.", migrateDatabase(storage));
      if (isJson) printJson({ before, after });
      else if (before === after) printLine(`The database has version ${after} already.`);
      else if (before === 0) printLine(`The database is made, with version ${after}.`);
      else printLine(`The database had version ${before} and has version ${after} now.`);
    },
  });

  addDatabaseCommand(group, {
    usage: "check",
    description: `Look at the whole database: for damage, for rows without what they belong to, and whether the master keys open every secret. A service may run meanwhile. Exits with ${exitCodes.incomplete} where something is wrong.`,
    examples: [["db check", "takes minutes where there is much"]],
    run: async (storage, isJson) => {
      const { checkDatabase } = await import("../delivery/store/maintenance.ts");
      const report = await whileWaiting("Looking at the database.", checkDatabase(storage));
      const { problems, rows, pending } = report;
      if (isJson) printJson(report);
      else {
        for (const problem of problems) printLine(`${styled("red", "✗")} ${visible(problem)}`);
        const amounts = Object.entries(rows).map(
          ([table, count]) => `${count.toLocaleString("en-US")} ${table}`,
        );
        printLine(
          `${amounts.join(", ")}; ${counted(pending, "delivery").replace("deliverys", "deliveries")} pending.`,
        );
        printLine(
          problems.length === 0
            ? styled("green", "The database is sound.")
            : styled("red", `${counted(problems.length, "problem")}.`),
        );
      }
      if (problems.length > 0) process.exitCode = exitCodes.incomplete;
    },
  });

  addDatabaseCommand(group, {
    usage: "backup <file>",
    description:
      "Copy an SQLite database to a file, while a service runs or not: the state of the moment at which it begins. The master keys are not in it. For PostgreSQL, tells the command to use.",
    examples: [["db backup /backups/hookplane.db", "a file that is there already is left alone"]],
    run: async (storage, isJson, file) => {
      if (storage.databaseUrl !== null) throw usePostgresTools(storage.databaseUrl, file!);
      const { backupDatabase } = await import("../delivery/store/maintenance.ts");
      const progress = new Progress();
      try {
        const made = await backupDatabase(storage, file!, (copied, total) => {
          progress.show(
            () => `${Math.floor((copied / Math.max(1, total)) * 100)} % of ${counted(total, "page")} copied`,
          );
        });
        progress.end();
        if (isJson) printJson(made);
        else printLine(`${made.file}: ${counted(made.bytes, "byte")}`);
      } finally {
        progress.end();
      }
    },
  });
}

interface DatabaseCommandDefinition {
  readonly usage: string;
  readonly description: string;
  readonly examples: readonly Example[];
  readonly run: (storage: StorageConfig, isJson: boolean, operand?: string) => Promise<void>;
}

function addDatabaseCommand(
  group: Command,
  { usage, description, examples, run }: DatabaseCommandDefinition,
): void {
  const command = group.command(usage).description(description).summary(firstSentence(description));
  for (const setting of [settings.dataDir, settings.databaseUrl, settings.masterKeyFile]) {
    command.addOption(toOption(setting));
  }
  command.option(...jsonOption);
  addExamples(command, examples);
  command.action((...given: unknown[]) => {
    const flags = given.at(-2) as DatabaseFlags;
    const operand = given.length > 2 ? (given[0] as string) : undefined;
    const isJson = flags.json === true;
    return reportingFailures(isJson, () => run(parseStorageConfig(flags), isJson, operand));
  });
}

/** PostgreSQL's own way, with the password left to where its tools look for it. */
function usePostgresTools(databaseUrl: string, file: string): CommandFailure {
  const url = new URL(databaseUrl);
  url.password = "";
  const quote = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;
  return new CommandFailure(
    "settings_invalid",
    `A PostgreSQL database is backed up with its own tools, and the password in PGPASSWORD or ~/.pgpass:\n  pg_dump --format=custom --file=${quote(file)} ${quote(url.href)}\nRestore it into an empty database: pg_restore --no-owner --dbname=… ${quote(file)}`,
  );
}
