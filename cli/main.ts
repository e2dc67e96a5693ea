import { Command } from "commander";
import { settings, type Flags, type Setting } from "../delivery/config.ts";
import { version } from "../delivery/version.ts";
import { registerKeyCommands } from "./key.ts";
import { toOption } from "./setting-option.ts";

const program = new Command("hookplane")
  .description("Webhooks as code: the service that delivers them.")
  .version(version, "-v, --version", "print the version")
  .showHelpAfterError("(hookplane --help shows what there is)")
  .showSuggestionAfterError()
  .configureOutput({
    outputError: (text, write) => {
      write(withoutValues(text));
    },
  })
  .exitOverride((error) => {
    if (error.exitCode === 0) process.exit(0);
    // Wrong usage is told as wrong settings are, for whoever started the command from a program.
    const message = withoutValues(error.message);
    console.error(JSON.stringify({ event: "failed", code: "settings_invalid", message }));
    process.exit(2);
  });

/** What commander says of wrong usage, without the value of a misspelt flag, which may be a secret: `--jwt-secrt=…`. */
function withoutValues(text: string): string {
  return text.replaceAll(/(--[^\s'=]+)=[^']*/g, "$1=…");
}

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

registerKeyCommands(program);

await program.parseAsync();
