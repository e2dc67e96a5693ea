import { styleText } from "node:util";

type Style = Parameters<typeof styleText>[0];

/** Text in a color or weight, where standard output is a terminal and `NO_COLOR` is not set. */
export function styled(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

/**
 * Text that others have written, such as a URL or a receiver's answer, without what would steer the terminal: control
 * characters show as `\x1b`.
 */
export function visible(text: string): string {
  return text.replaceAll(
    // eslint-disable-next-line no-control-regex -- they are what it is about.
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (character) => {
      const code = character.charCodeAt(0);
      return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
    },
  );
}

/** The same for a text of several lines, such as JSON. */
export function visibleLines(text: string): string {
  return text
    .split("\n")
    .map((line) => line.split("\t").map(visible).join("\t"))
    .join("\n");
}

export function printLine(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** A value as one line of JSON. */
export function printJson(value: unknown): void {
  printLine(JSON.stringify(value));
}

/** A remark for people, on standard error so that standard output has the result alone. */
export function printNote(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** A cell of a table: its text, and how it looks. */
export type Cell = string | { readonly text: string; readonly style: Style };

/** Prints rows under a heading, each column as wide as its widest cell. */
export function printTable(heading: readonly string[], rows: readonly (readonly Cell[])[]): void {
  const lines = [heading.map((text): Cell => ({ text, style: "dim" })), ...rows].map((cells) =>
    cells
      .map((cell) => (typeof cell === "string" ? { text: cell, style: null } : cell))
      .map(({ text, style }) => ({ text: visible(text), style })),
  );
  const widths = heading.map((_, column) =>
    Math.max(...lines.map((cells) => cells[column]?.text.length ?? 0)),
  );
  for (const cells of lines) {
    const texts = cells.map(({ text, style }, column) => {
      const isLast = column === cells.length - 1;
      const padded = isLast ? text : text.padEnd(widths[column] ?? 0);
      return style === null ? padded : styled(style, padded);
    });
    printLine(texts.join("  ").trimEnd());
  }
}

/** Prints what is known of one thing, a line each; what is undefined is left out. */
export function printFields(fields: Readonly<Record<string, string | undefined>>): void {
  const known = Object.entries(fields).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const width = Math.max(...known.map(([name]) => name.length));
  for (const [name, value] of known) printLine(`${styled("dim", name.padEnd(width))}  ${visible(value)}`);
}

/** `2026-01-31 12:00:00.123Z`, or a dash. */
export function shownTime(time: string | null | undefined): string {
  return time ? time.replace("T", " ") : "-";
}

export function shownList(items: readonly string[] | null | undefined): string {
  return items?.length ? items.join(", ") : "-";
}

/** `1 message`, `2 messages`. */
export function counted(count: number, noun: string): string {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}
