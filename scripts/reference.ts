// The tables of the docs that say what the code says: what stands in a page between `<!-- generated: <name> -->` and
// `<!-- end -->` is written by scripts/generate.ts, the rest by hand.
import { describeCommands, type CommandReference } from "../cli/command-reference.ts";
import { connectionOptions, jsonOption } from "../cli/config.ts";
import { createProgram } from "../cli/program.ts";
import { settings, type Setting } from "../delivery/config.ts";
import { apis } from "../provider/apis/index.ts";
import { connectionSettings } from "../provider/config.ts";
import type { ConnectionDefinition } from "../provider/resource.ts";
import {
  connectionDescription,
  shapeProperties,
  shapeResource,
  type Shape,
  type ShapedProperty,
  type ShapedResource,
} from "../provider/schema.ts";

/** The pages that have such parts. */
export const referencePages = [
  "docs/connections.md",
  "docs/resources.md",
  "docs/delivery-service.md",
  "docs/cli.md",
];

/**
 * The page with its generated parts written anew.
 *
 * @throws Error where a part's name is not known
 */
export function fillReference(page: string): string {
  const parts = new Map(sections());
  return page.replace(
    /(<!-- generated: (.+?) -->\n).*?(<!-- end -->)/gs,
    (_, start: string, name: string, end: string) => {
      const text = parts.get(name);
      if (text === undefined) throw new Error(`Nothing is generated as "${name}"`);
      return `${start}\n${text}\n\n${end}`;
    },
  );
}

/** Each generated part by its name: a resource's type, `connection <name>`, `settings`, `command <path>`. */
function sections(): [string, string][] {
  const resources = apis.flatMap((api) => api.resources.map(shapeResource));
  const connections = [...new Set(resources.flatMap(({ connection }) => connection ?? []))];
  return [
    ...resources.map((resource): [string, string] => [resource.type, resourceText(resource)]),
    ...connections.map((connection): [string, string] => [
      `connection ${connection.name}`,
      connectionTable(connection),
    ]),
    ["settings", settingsTable()],
    ["common options", optionTable(commonOptions)],
    ...describeCommands(createProgram()).map((command): [string, string] => [
      `command ${command.path}`,
      commandText(command),
    ]),
  ];
}

function resourceText({ description, example, inputs, outputs, connection }: ShapedResource): string {
  const rows = inputs.flatMap((property) => propertyRows(property, inputRow));
  const own = connection
    ? [
        [
          "`connection`",
          "`object`",
          "configured",
          "another account",
          "yes",
          connectionDescription(connection),
        ],
      ]
    : [];
  return [
    description,
    `\`\`\`ts\n${example.trim()}\n\`\`\``,
    table(["input", "type", "default", "replaces", "secret", "what"], [...rows, ...own]),
    ...inputs.flatMap(choiceList),
    table(
      ["output", "type", "secret", "what"],
      outputs.flatMap((property) => propertyRows(property, outputRow)),
    ),
  ].join("\n\n");
}

/** A property's row, and one for each described property within it. */
function propertyRows(
  property: ShapedProperty,
  toRow: (property: ShapedProperty) => string[],
  parent = "",
): string[][] {
  const name = `${parent}${property.name}`;
  const { shape } = property;
  const [inner, path] =
    shape.kind === "list" ? ([shape.items, `${name}[].`] as const) : ([shape, `${name}.`] as const);
  const members = inner.kind === "object" ? inner.properties.filter(({ description }) => description) : [];
  return [toRow({ ...property, name }), ...members.flatMap((member) => propertyRows(member, toRow, path))];
}

function inputRow(property: ShapedProperty): string[] {
  const { name, shape, replaces, secret, description } = property;
  return [code(name), code(typeText(shape)), defaultCell(property), yes(replaces), yes(secret), description];
}

function defaultCell({ optional, defaultValue }: ShapedProperty): string {
  if (defaultValue !== undefined) return code(JSON.stringify(defaultValue));
  return optional ? "" : "required";
}

function outputRow({ name, shape, nullable, secret, description }: ShapedProperty): string[] {
  return [code(name), code(typeText(shape) + (nullable ? ", null" : "")), yes(secret), description];
}

/** The values of a choice that the description does not name. */
function choiceList({ name, shape, description }: ShapedProperty): string[] {
  const inner = shape.kind === "list" ? shape.items : shape;
  if (inner.kind !== "choice" || inner.values.every((value) => description.includes(value))) return [];
  return [`Values of \`${name}\`: ${inner.values.map(code).join(", ")}.`];
}

function typeText(shape: Shape): string {
  switch (shape.kind) {
    case "choice":
      return "string";
    case "list":
      return `${typeText(shape.items)}[]`;
    case "map":
      return `map of ${typeText(shape.items)}`;
    case "object":
      return `{ ${shape.properties.map(({ name }) => name).join(", ")} }`;
    default:
      return shape.kind;
  }
}

function connectionTable(connection: ConnectionDefinition): string {
  const properties = new Map(shapeProperties(connection.schema).map((property) => [property.name, property]));
  const rows = connectionSettings(connection).map(({ field, key, variables, description }) => {
    const property = properties.get(field);
    const standard = property ? defaultCell(property) : "";
    return [code(field), code(`hookplane:${key}`), variables.map(code).join(" or "), standard, description];
  });
  return table(["field", "configuration", "environment", "default", "what"], rows);
}

function settingsTable(): string {
  const rows = Object.values<Setting>(settings).map(({ flag, variable, description, defaultText }) => [
    code(flag),
    code(variable),
    plain(defaultText),
    plain(description),
  ]);
  return table(["flag", "variable", "default", "what"], rows);
}

const commonOptions = [...connectionOptions, jsonOption].map(([flags, description]) => ({
  flags,
  description,
}));

/** The options that all commands have are left out, where a command has all of them. */
function commandText({ path, usage, description, examples, notes, options }: CommandReference): string {
  const flags = options.map((option) => option.flags);
  const isCommon = commonOptions.every((option) => flags.includes(option.flags));
  const own = options.filter(
    (option) => !isCommon || !commonOptions.some((other) => other.flags === option.flags),
  );
  const lines = examples.map(({ typed, comment }) => `# ${comment}\n${typed}`);
  return [
    `### hookplane ${path}`,
    code(usage),
    plain(description),
    ...(own.length === 0 ? [] : [optionTable(own)]),
    `\`\`\`sh\n${lines.join("\n\n")}\n\`\`\``,
    ...(notes === undefined ? [] : [plain(notes)]),
  ].join("\n\n");
}

function optionTable(options: CommandReference["options"]): string {
  return table(
    ["option", "what"],
    options.map(({ flags, description }) => [code(flags), plain(description)]),
  );
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.map(cell).join(" | ")} |`);
  return lines.join("\n");
}

function cell(text: string): string {
  return text.replaceAll("\n", " ").replaceAll("|", "\\|");
}

/** Text that a page shows as it is: an angle bracket would begin HTML. */
function plain(text: string): string {
  return text.replaceAll("<", "\\<");
}

function code(text: string): string {
  return `\`${text}\``;
}

function yes(value: boolean): string {
  return value ? "yes" : "";
}
