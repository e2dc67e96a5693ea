import { CommandFailure } from "./failure.ts";

/** What commander read from the command line. */
export type Options = Readonly<Record<string, unknown>>;

/** Reads a command's options, and tells everything that is wrong with them at once. */
export class OptionReader {
  readonly #options: Options;
  readonly #faults: string[] = [];

  constructor(options: Options) {
    this.#options = options;
  }

  isSet(name: string): boolean {
    return this.#options[name] === true;
  }

  /** Whether a flag was taken back: `--no-wait` is `wait` unset. */
  isUnset(name: string): boolean {
    return this.#options[name] === false;
  }

  text(name: string): string | undefined {
    const value = this.#options[name];
    return typeof value === "string" ? value : undefined;
  }

  /** The values of an option that may be repeated; undefined where it is not given. */
  list(name: string): string[] | undefined {
    const value = this.#options[name];
    return Array.isArray(value) ? (value as string[]) : undefined;
  }

  wholeNumber(name: string, min: number, max: number): number | undefined {
    return this.#read(name, `give a whole number from ${min} to ${max}`, (text) => {
      const value = Number(text);
      return /^\d{1,15}$/.test(text) && value >= min && value <= max ? value : undefined;
    });
  }

  number(name: string, min: number, max: number): number | undefined {
    return this.#read(name, `give a number from ${min} to ${max}`, (text) => {
      const value = Number(text);
      return /^\d+(?:\.\d+)?$/.test(text) && value >= min && value <= max ? value : undefined;
    });
  }

  /** Numbers, separated by commas; none of an empty text. */
  numbers(name: string): number[] | undefined {
    return this.#read(name, "give numbers, separated by commas", (text) => {
      const items = text.trim() === "" ? [] : text.split(",").map((item) => item.trim());
      return items.every((item) => /^\d+(?:\.\d+)?$/.test(item)) ? items.map(Number) : undefined;
    });
  }

  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    return this.#read(name, `choose one of ${choices.join(", ")}`, (text) =>
      choices.find((choice) => choice === text),
    );
  }

  /** `name=value`, each once. */
  pairs(name: string): Record<string, string> | undefined {
    const items = this.list(name);
    if (items === undefined) return undefined;
    const pairs: Record<string, string> = {};
    for (const item of items) {
      const [, key, value] = /^([^=]+)=(.*)$/s.exec(item) ?? [];
      if (key === undefined || value === undefined) this.fault(name, item, "write name=value");
      else if (Object.hasOwn(pairs, key)) this.fault(name, item, `"${key}" is given twice`);
      else pairs[key] = value;
    }
    return pairs;
  }

  /** A time as ISO 8601, or how long ago: `90s`, `15m`, `2h`, `3d`. Answers ISO 8601. */
  time(name: string, now: number): string | undefined {
    return this.#read(
      name,
      "give a time such as 2026-01-31T12:00:00Z, or how long ago, such as 15m, 2h or 3d",
      (text) => {
        const ago = spanMs(text);
        if (ago !== undefined) return new Date(now - ago).toISOString();
        const isTime =
          /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2}))?$/.test(text);
        const time = isTime ? Date.parse(text) : Number.NaN;
        return Number.isNaN(time) ? undefined : new Date(time).toISOString();
      },
    );
  }

  /** A span of time, in seconds: `90`, `90s`, `15m`, `2h`, `3d`. */
  seconds(name: string): number | undefined {
    return this.#read(name, "give seconds, or a time such as 15m, 2h or 3d", (text) => {
      const span = spanMs(/^\d+$/.test(text) ? `${text}s` : text);
      return span === undefined ? undefined : span / 1000;
    });
  }

  /** Notes what is wrong with an option beyond its form. */
  fault(name: string, value: string | undefined, problem: string): void {
    this.#faults.push(`${flagOf(name)}${value === undefined ? "" : ` "${value}"`}: ${problem}.`);
  }

  /** @throws CommandFailure `settings_invalid` with all that is wrong */
  check(): void {
    if (this.#faults.length > 0) throw new CommandFailure("settings_invalid", this.#faults.join("\n"));
  }

  #read<T>(name: string, rule: string, parse: (text: string) => T | undefined): T | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = parse(text);
    if (value === undefined) this.fault(name, text, rule);
    return value;
  }
}

const unitMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function spanMs(text: string): number | undefined {
  const [, amount, unit = ""] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  return amount === undefined ? undefined : Number(amount) * (unitMs[unit] ?? 0);
}

function flagOf(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
