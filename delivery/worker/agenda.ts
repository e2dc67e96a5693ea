import TinyQueue from "tinyqueue";

/** An endpoint that has deliveries in the store, and when the earliest of them is due. */
export interface Appointment {
  readonly endpointId: string;
  readonly applicationId: string;
  readonly at: number;
}

/** Appointments that were moved are kept up to this many, and twice as many as there are endpoints. */
const keptMoved = 64;

/**
 * When to look into the store for which endpoint. It holds one time for each endpoint, however many deliveries wait; what
 * is due is handed out in turns, an endpoint of each application at a time, so that one with ten thousand endpoints does
 * not keep another's only one waiting.
 */
export class Agenda {
  /** Appointments that were moved since are passed over when they come up. */
  #later = queueOf([]);
  readonly #current = new Map<string, Appointment>();
  /** What is due, by application; both maps in the order of their turns. */
  readonly #ready = new Map<string, Map<string, Appointment>>();

  /** Looks for the endpoint at this time, or sooner if that is noted. */
  note(endpointId: string, applicationId: string, at: number): void {
    const known = this.#current.get(endpointId);
    if (known !== undefined && known.at <= at) return;
    const appointment = { endpointId, applicationId, at };
    this.#current.set(endpointId, appointment);
    if (this.#isReady(appointment)) return;
    this.#later.push(appointment);
    // Those that were moved from far ahead would stay until then.
    if (this.#later.length > keptMoved + 2 * this.#current.size) {
      this.#later = queueOf([...this.#current.values()].filter((each) => !this.#isReady(each)));
    }
  }

  /** How many appointments are kept, some of those that were moved included. */
  get size(): number {
    return this.#later.length;
  }

  /** Hands out endpoints that are due, and forgets them: at most `limit`, in turns of their applications. */
  take(now: number, limit: number): readonly Appointment[] {
    this.#mature(now);
    const taken: Appointment[] = [];
    while (taken.length < limit) {
      const [turn] = this.#ready;
      if (turn === undefined) break;
      const [applicationId, endpoints] = turn;
      this.#ready.delete(applicationId);
      const [first] = endpoints.values();
      if (first === undefined) continue;
      endpoints.delete(first.endpointId);
      this.#current.delete(first.endpointId);
      taken.push(first);
      // Its next one has its turn after all others'.
      if (endpoints.size > 0) this.#ready.set(applicationId, endpoints);
    }
    return taken;
  }

  /** When something is next to be taken; Infinity for nothing in sight. */
  get nextAt(): number {
    if (this.#ready.size > 0) return -Infinity;
    for (let next = this.#later.peek(); next !== undefined; next = this.#later.peek()) {
      if (this.#current.get(next.endpointId) === next) return next.at;
      this.#later.pop();
    }
    return Infinity;
  }

  #isReady({ applicationId, endpointId }: Appointment): boolean {
    return this.#ready.get(applicationId)?.has(endpointId) ?? false;
  }

  #mature(now: number): void {
    for (let next = this.#later.peek(); next !== undefined && next.at <= now; next = this.#later.peek()) {
      this.#later.pop();
      if (this.#current.get(next.endpointId) !== next) continue;
      const endpoints = this.#ready.get(next.applicationId);
      if (endpoints) endpoints.set(next.endpointId, next);
      else this.#ready.set(next.applicationId, new Map([[next.endpointId, next]]));
    }
  }
}

function queueOf(appointments: Appointment[]): TinyQueue<Appointment> {
  return new TinyQueue(appointments, (left, right) => left.at - right.at);
}
