import { NumberList, toLatency, type Latency } from "./statistics.ts";

/** What became of the events of a measurement. */
export interface Account {
  /** Answered with 2xx. */
  readonly accepted: number;
  /** Accepted, and received at least once. */
  readonly delivered: number;
  /** Accepted and never received. */
  readonly lost: number;
  /** Received more than once, each further time counted. */
  readonly twice: number;
  /** Received although never accepted: their answer was an error or did not come. */
  readonly unacknowledged: number;
}

/** Which events have arrived, how often, and how long each took. */
export class Ledger {
  readonly #first: number;
  #times = new Uint8Array(1 << 16);
  #durationsMs = new NumberList();
  #distinct = 0;
  #stray = 0;
  #lastAtUs = 0;

  /** @param first the number of the first event: those below belong to an earlier measurement */
  constructor(first: number) {
    this.#first = first;
  }

  /** @param startedAtUs when the request that published it was to start */
  receive(number: number, startedAtUs: number, atUs: number): void {
    const index = number - this.#first;
    if (index < 0) {
      this.#stray++;
      return;
    }
    if (index >= this.#times.length) {
      const larger = new Uint8Array(2 ** Math.ceil(Math.log2(index + 1)));
      larger.set(this.#times);
      this.#times = larger;
    }
    this.#lastAtUs = atUs;
    const times = this.#times[index] ?? 0;
    if (times > 0) {
      // 255 stays: it is as wrong as 256.
      if (times < 255) this.#times[index] = times + 1;
      return;
    }
    this.#times[index] = 1;
    this.#distinct++;
    this.#durationsMs.push((atUs - startedAtUs) / 1e3);
  }

  /** How many different events have arrived. */
  get distinct(): number {
    return this.#distinct;
  }

  /** How often each event arrived (255 for more), by its number less the first's. */
  get times(): Uint8Array {
    return this.#times;
  }

  /** Arrivals of events of an earlier measurement. */
  get stray(): number {
    return this.#stray;
  }

  /** When the last event arrived, in microseconds of the shared clock; 0 when none has. */
  get lastAtUs(): number {
    return this.#lastAtUs;
  }

  /** From an event's start to its first arrival. */
  latency(): Latency {
    return toLatency(this.#durationsMs.toArray());
  }
}

/**
 * Holds what was acknowledged against what arrived.
 *
 * @param accepted by event: 1 when it was answered with 2xx
 * @param times by event: how often it arrived
 * @param counts which events to count; all by default
 */
export function settle(
  accepted: Uint8Array,
  times: Uint8Array,
  counts: (index: number) => boolean = () => true,
): Account {
  const account = { accepted: 0, delivered: 0, lost: 0, twice: 0, unacknowledged: 0 };
  for (let index = 0; index < Math.max(accepted.length, times.length); index += 1) {
    if (!counts(index)) continue;
    const arrivals = times[index] ?? 0;
    if (accepted[index] === 1) {
      account.accepted++;
      if (arrivals > 0) account.delivered++;
      else account.lost++;
    } else if (arrivals > 0) {
      account.unacknowledged++;
    }
    account.twice += Math.max(0, arrivals - 1);
  }
  return account;
}
