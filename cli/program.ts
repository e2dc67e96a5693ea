import { Command } from "commander";
import { settings, type Flags, type Setting } from "../delivery/config.ts";
import { version } from "../delivery/version.ts";
import { registerApplications } from "./applications.ts";
import { registerDatabase } from "./database.ts";
import { registerEndpoints } from "./endpoints.ts";
import { registerKeyCommands } from "./key.ts";
import { registerMessages } from "./messages.ts";
import { registerOrganization } from "./organization.ts";
import { registerPublish } from "./publish.ts";
import { registerReplay } from "./replay.ts";
import { toOption } from "./setting-option.ts";
import { registerTail } from "./tail.ts";
import { registerToken } from "./token.ts";

/**
 * The command line `hookplane`, ready to parse.
 *
 * @param isForPrograms whether wrong usage is told as a line of JSON, too
 */
export function createProgram({ isForPrograms = false }: { isForPrograms?: boolean } = {}): Command {
  const program = new Command("hookplane")
    .description("Webhooks as code: the service that delivers them, and what one does with it.")
    .version(version, "-v, --version", "print the version")
    .showHelpAfterError("(--help shows what there is)")
    .showSuggestionAfterError()
    .configureOutput({
      outputError: (text, write) => {
        write(withoutValues(text));
      },
    })
    .exitOverride((error) => {
      if (error.exitCode === 0) process.exit(0);
      if (isForPrograms) {
        // Wrong usage is told as wrong settings are, for whoever started the command from a program.
        const message = withoutValues(error.message);
        console.error(JSON.stringify({ event: "failed", code: "settings_invalid", message }));
      }
      process.exit(2);
    });
  registerServe(program);
  registerPublish(program);
  registerTail(program);
  registerMessages(program);
  registerReplay(program);
  registerEndpoints(program);
  registerApplications(program);
  registerToken(program);
  registerOrganization(program);
  registerKeyCommands(program);
  registerDatabase(program);
  program.addHelpText(
    "after",
    `
On the machine of a service, commands find it by themselves; elsewhere set HOOKPLANE_URL and HOOKPLANE_TOKEN.

Exit codes: 0 done, 1 unexpected failure, 2 wrong usage, 3 the service cannot be reached or has no time, 4 refused or not
found, 5 no token or a wrong one, 6 done but for a part. hookplane serve and hookplane key have their own.`,
  );
  return program;
}

function registerServe(program: Command): void {
  const serve = program
    .command("serve")
    .description("Run the delivery service until SIGTERM or Ctrl-C.")
    .action(async (flags: Flags) => {
      // Loaded only now, so that --help and --version answer at once.
      const { runService } = await import("../delivery/main.ts");
      await runService(flags);
    });
  for (const setting of Object.values<Setting>(settings)) serve.addOption(toOption(setting));
  serve.addHelpText(
    "after",
    `
Examples:
  hookplane serve                                       on http://127.0.0.1:8420, data in .hookplane
  hookplane serve --port 0 --inbox --allow-subnet 127.0.0.0/8
                                                        to try it out: deliveries to this machine are let through
  HOOKPLANE_DATA_DIR=/var/lib/hookplane hookplane serve --host 0.0.0.0 --public-url https://hooks.example.com

When it is ready it prints {"event":"ready","url":…} on standard output; the log goes to standard error. The first start
writes the credentials to <data-dir>/credentials.json; variables such as HOOKPLANE_ADMIN_TOKEN win over them.

Exit codes: 0 stopped, 1 unexpected failure, 2 wrong settings, 3 address or port cannot be had,
4 data folder in use or unusable, 5 credentials unusable. The last line on standard error says why.`,
  );
}

/** What commander says of wrong usage, without the value of a misspelt flag, which may be a secret: `--jwt-secrt=…`. */
function withoutValues(text: string): string {
  return text.replaceAll(/(--[^\s'=]+)=[^']*/g, "$1=…");
}
