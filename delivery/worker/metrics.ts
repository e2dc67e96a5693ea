/** Upper bounds of the duration histogram, in seconds; the last bucket has everything. */
const durationBoundsSeconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const;

/** What came of an attempt, for counting. */
export type AttemptOutcome = "succeeded" | "retried" | "failed";

/** What the engine did since it started. */
export interface DeliveryMetrics {
  readonly messagesAccepted: number;
  readonly deliveriesCreated: number;
  /** By the name of the dialect. */
  readonly attempts: Readonly<Record<string, Readonly<Record<AttemptOutcome, number>>>>;
  readonly attemptDuration: {
    readonly boundsSeconds: readonly number[];
    /** Attempts that took no longer than the bound of the same index; one more for all. */
    readonly counts: readonly number[];
    readonly sumSeconds: number;
  };
  /** Deliveries that are held in memory now, those under way counted. */
  readonly deliveriesHeld: number;
  readonly attemptsRunning: number;
}

/** Counts what the engine does. */
export class MetricsRecorder {
  #messagesAccepted = 0;
  #deliveriesCreated = 0;
  readonly #attempts: Record<string, Record<AttemptOutcome, number>> = {};
  readonly #counts = new Array<number>(durationBoundsSeconds.length + 1).fill(0);
  #sumSeconds = 0;

  accepted(deliveries: number): void {
    this.#messagesAccepted++;
    this.#deliveriesCreated += deliveries;
  }

  attempted(dialect: string, outcome: AttemptOutcome, durationMs: number): void {
    const counts = (this.#attempts[dialect] ??= { succeeded: 0, retried: 0, failed: 0 });
    counts[outcome]++;
    const seconds = durationMs / 1000;
    this.#sumSeconds += seconds;
    const bucket = durationBoundsSeconds.findIndex((bound) => seconds <= bound);
    const index = bucket === -1 ? durationBoundsSeconds.length : bucket;
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
  }

  read(held: { deliveriesHeld: number; attemptsRunning: number }): DeliveryMetrics {
    let total = 0;
    return {
      messagesAccepted: this.#messagesAccepted,
      deliveriesCreated: this.#deliveriesCreated,
      attempts: structuredClone(this.#attempts),
      attemptDuration: {
        boundsSeconds: durationBoundsSeconds,
        counts: this.#counts.map((count) => (total += count)),
        sumSeconds: this.#sumSeconds,
      },
      ...held,
    };
  }
}
