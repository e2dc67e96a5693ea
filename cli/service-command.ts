import { Option, type Command } from "commander";
import { addExamples, type Example } from "./command-reference.ts";
import { connectionOptions, jsonOption, readConnection } from "./config.ts";
import { nearestName } from "../delivery/core/nearest.ts";
import { CommandFailure, reportingFailures } from "./failure.ts";
import { OptionReader, type Options } from "./option-reader.ts";
import { ServiceClient } from "./service-client.ts";

/** What a command works with. */
export interface CommandContext {
  readonly options: OptionReader;
  /** Whether what it prints is for programs. */
  readonly isJson: boolean;
  /**
   * The service it talks to.
   *
   * @throws CommandFailure for a wrong address or no token
   */
  readonly service: () => ServiceClient;
}

/** A command that talks to a service. */
interface ServiceCommandDefinition {
  /** As commander takes it: `show <app> <message>`. */
  readonly usage: string;
  readonly description: string;
  /** Flags and descriptions. Those that end with `…` may be repeated. */
  readonly options?: readonly (readonly [flags: string, description: string])[];
  readonly examples: readonly Example[];
  /** Whether it is what the command above it does when nothing else is said. */
  readonly isDefault?: boolean;
  /** More for the help text. */
  readonly notes?: string;
  /** @param operands those that are left out are undefined */
  readonly run: (context: CommandContext, ...operands: (string | undefined)[]) => Promise<void>;
}

/** Adds a command that talks to a service, with the options that all of them have. */
export function addServiceCommand(parent: Command, definition: ServiceCommandDefinition): Command {
  const { usage, description, options = [], examples, isDefault = false, notes, run } = definition;
  const command = parent
    .command(usage, { isDefault })
    .description(description)
    .summary(firstSentence(description));
  for (const [flags, text] of options) command.addOption(toOption(flags, text));
  for (const [flags, text] of connectionOptions) command.option(flags, text);
  command.option(...jsonOption);
  addExamples(command, examples, notes);
  // Wrong names of commands end up here, and get a better answer than that there are too many arguments.
  if (isDefault) command.allowExcessArguments();
  command.action((...given: unknown[]) => {
    const operands = given.slice(0, -2).flat() as (string | undefined)[];
    const flags = given.at(-2) as Options;
    const isJson = flags["json"] === true;
    const context: CommandContext = {
      options: new OptionReader(flags),
      isJson,
      service: () => new ServiceClient(readConnection(flags)),
    };
    return reportingFailures(isJson, async () => {
      if (isDefault) refuseExcess(parent, command);
      await suggesting(isDefault ? parent : null, command.args[0], () => run(context, ...operands));
    });
  });
  return command;
}

/** @throws CommandFailure where more was given than the default command of a group takes */
function refuseExcess(group: Command, command: Command): void {
  const [first] = command.args;
  if (first === undefined || command.args.length <= command.registeredArguments.length) return;
  const path = `hookplane ${group.name()}`;
  const names = namesOf(group);
  const nearest = nearestName(first, names);
  const question = nearest === undefined ? "" : ` Did you mean ${path} ${nearest}?`;
  throw new CommandFailure(
    "settings_invalid",
    `There is no command ${path} "${first}".${question} There are ${names.join(", ")}.`,
  );
}

/** Adds to what is not found what it may have been meant to be: a command of the group, and no application. */
async function suggesting(
  group: Command | null,
  operand: string | undefined,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    const nearest = group && operand !== undefined ? nearestName(operand, namesOf(group)) : undefined;
    if (!(error instanceof CommandFailure) || error.code !== "not_found" || nearest === undefined)
      throw error;
    const question = `Or did you mean hookplane ${group?.name() ?? ""} ${nearest}?`;
    throw new CommandFailure(error.code, `${error.message}\n${question}`, { cause: error });
  }
}

function namesOf(group: Command): string[] {
  return group.commands.map((command) => command.name());
}

/** Adds a command that has others below it. */
export function addCommandGroup(parent: Command, name: string, description: string): Command {
  const group = parent.command(name).description(description);
  return group.addHelpText("after", () => {
    const standard = (group as { readonly _defaultCommandName?: string })._defaultCommandName;
    if (standard === undefined) return "";
    const { registeredArguments } = group.commands.find((command) => command.name() === standard)!;
    const operands = registeredArguments.map((argument) => ` <${argument.name()}>`).join("");
    return `\nhookplane ${name}${operands} is short for hookplane ${name} ${standard}${operands}; ${standard} --help has its options.`;
  });
}

/** For the list of commands. */
export function firstSentence(text: string): string {
  return /^.*?\.(?= |$)/.exec(text)?.[0] ?? text;
}

/** `--tag <tag…>` may be repeated, each time with one value: so that what comes behind is not taken for another. */
function toOption(flags: string, description: string): Option {
  if (!flags.endsWith("…>")) return new Option(flags, description);
  return new Option(flags.replace("…>", ">"), `${description}; may be repeated`).argParser(
    (value: string, before: string[] | undefined) => [...(before ?? []), value],
  );
}
