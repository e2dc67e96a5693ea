/** Percentiles of durations, in milliseconds. */
export interface Latency {
  readonly count: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

/** A figure of several rounds. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/**
 * The smallest value that at least the given share of all values does not exceed (nearest rank): always one that was
 * measured, never one in between.
 *
 * @param sorted in ascending order; NaN when it is empty
 * @param share above 0 and up to 1
 */
export function percentile(sorted: ArrayLike<number>, share: number): number {
  const rank = Math.max(1, Math.ceil(share * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}

/** @param durationsMs in any order; they are sorted in place */
export function toLatency(durationsMs: Float64Array): Latency {
  durationsMs.sort();
  return {
    count: durationsMs.length,
    p50: percentile(durationsMs, 0.5),
    p95: percentile(durationsMs, 0.95),
    p99: percentile(durationsMs, 0.99),
    max: percentile(durationsMs, 1),
  };
}

/** The median is the mean of the two in the middle where their number is even. */
export function toSpread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  const lower = sorted[Math.ceil(sorted.length / 2) - 1] ?? Number.NaN;
  return { median: (lower + upper) / 2, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN };
}

/** Numbers that are appended one by one without a box each. */
export class NumberList {
  #values = new Float64Array(1024);
  #length = 0;

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const larger = new Float64Array(this.#length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#length++] = value;
  }

  /** Replaces one that was appended. */
  set(index: number, value: number): void {
    if (index < this.#length) this.#values[index] = value;
  }

  get length(): number {
    return this.#length;
  }

  /** A copy of what was appended. */
  toArray(): Float64Array {
    return this.#values.slice(0, this.#length);
  }
}
