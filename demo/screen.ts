import { styleText } from "node:util";

// styleText leaves colors out where the stream is no terminal, or NO_COLOR says so.
type Style = Parameters<typeof styleText>[0];
const paint = (style: Style, text: string) => styleText(style, text, { stream: process.stdout });

const startedAt = performance.now();
let chapters = 0;

/** Seconds since the demo began: `12.3 s`. */
export function elapsed(): string {
  return `${((performance.now() - startedAt) / 1000).toFixed(1)} s`;
}

export function title(text: string, subtitle: string): void {
  console.log(`\n${paint("bold", text)}\n${paint("dim", subtitle)}`);
}

/** Begins a part of the story, with the command that a person would type for it. */
export function chapter(text: string, command?: string): void {
  chapters += 1;
  console.log(`\n${paint(["bold", "cyan"], String(chapters))}  ${paint("bold", text)}`);
  if (command) console.log(`   ${paint("dim", `$ ${command}`)}`);
}

const marks = { done: paint("green", "✓"), found: paint("yellow", "~"), missing: paint("red", "✗") };

/** One result, in columns: what, where or which, and what came of it. */
export function line(mark: keyof typeof marks, ...columns: readonly [string, string, string]): void {
  const [what, which, result] = columns;
  console.log(`   ${marks[mark]} ${what.padEnd(28)} ${which.padEnd(22)} ${result}`);
}

/** An aside. */
export function note(text: string): void {
  for (const part of text.split("\n")) console.log(`   ${paint("dim", part)}`);
}

export function ending(ok: boolean, text: string): void {
  console.log(`\n${paint(["bold", ok ? "green" : "red"], text)}\n`);
}
