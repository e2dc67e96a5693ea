import type { Command } from "commander";

/** What one types, and what comes of it. `hookplane` stands before it, unless it is in it. */
export type Example = readonly [typed: string, comment: string];

const known = new WeakMap<
  Command,
  { readonly examples: readonly Example[]; readonly notes: string | undefined }
>();

/** Adds examples, and what else is to be said, to a command's help, where `describeCommands` finds them too. */
export function addExamples(command: Command, examples: readonly Example[], notes?: string): void {
  known.set(command, { examples, notes });
  const lines = examples.map((example) => `  ${typedOf(example)}\n      ${example[1]}`);
  command.addHelpText(
    "after",
    `\nExamples:\n${lines.join("\n")}${notes === undefined ? "" : `\n\n${notes}`}`,
  );
}

function typedOf([typed]: Example): string {
  return typed.includes("hookplane ") ? typed : `hookplane ${typed}`;
}

/** A command as the docs have it. */
export interface CommandReference {
  /** `messages show`. */
  readonly path: string;
  /** `hookplane messages show <app> <message>`; what is left out where it is a group's default, in brackets. */
  readonly usage: string;
  readonly description: string;
  readonly notes: string | undefined;
  readonly examples: readonly { readonly typed: string; readonly comment: string }[];
  readonly options: readonly { readonly flags: string; readonly description: string }[];
}

/** Every command that does something, with those below groups. */
export function describeCommands(program: Command): readonly CommandReference[] {
  return program.commands.flatMap((command) => describe(command, "", undefined));
}

function describe(command: Command, above: string, groupDefault: string | undefined): CommandReference[] {
  const path = `${above}${command.name()}`;
  if (command.commands.length > 0) {
    const { _defaultCommandName: standard } = command as { readonly _defaultCommandName?: string };
    return command.commands.flatMap((below) => describe(below, `${path} `, standard));
  }
  const shown = command.name() === groupDefault ? `${above}[${command.name()}]` : path;
  const operands = command.registeredArguments.map((argument) => {
    const name = `${argument.name()}${argument.variadic ? "..." : ""}`;
    return argument.required ? ` <${name}>` : ` [${name}]`;
  });
  const { examples = [], notes } = known.get(command) ?? {};
  return [
    {
      path,
      usage: `hookplane ${shown}${operands.join("")}`,
      description: command.description(),
      notes,
      examples: examples.map((example) => ({ typed: typedOf(example), comment: example[1] })),
      options: command.options.map(({ flags, description }) => ({ flags, description })),
    },
  ];
}
