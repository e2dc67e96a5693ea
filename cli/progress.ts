/** Nothing is said of what is over sooner. */
const quietMs = 2_000;
/** How often a terminal shows something new, and how often a log gets a line. */
const terminalIntervalMs = 200;
const logIntervalMs = 10_000;

/** Says on standard error how far a long piece of work has come. */
export class Progress {
  readonly #startedAt = performance.now();
  readonly #isTerminal = process.stderr.isTTY;
  #shownAt = -Infinity;
  #shown = false;

  /** @param text says how far it is; it is called only when it is shown */
  show(text: () => string): void {
    const now = performance.now();
    if (now - this.#startedAt < quietMs) return;
    if (now - this.#shownAt < (this.#isTerminal ? terminalIntervalMs : logIntervalMs)) return;
    this.#shownAt = now;
    this.#shown = true;
    process.stderr.write(this.#isTerminal ? `\r\u001b[K${text()}` : `${text()}\n`);
  }

  /** Takes the line away again, before anything else is printed. */
  end(): void {
    if (this.#shown && this.#isTerminal) process.stderr.write("\r\u001b[K");
    this.#shown = false;
  }
}

/** Shows while something goes on that tells nothing itself. */
export async function whileWaiting<T>(text: string, work: Promise<T>): Promise<T> {
  const progress = new Progress();
  const startedAt = performance.now();
  const timer = setInterval(() => {
    progress.show(() => `${text} ${Math.round((performance.now() - startedAt) / 1000)} s`);
  }, 250);
  try {
    return await work;
  } finally {
    clearInterval(timer);
    progress.end();
  }
}
