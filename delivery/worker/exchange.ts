import type { Answer } from "../core/dialect.ts";
import type { Connection } from "./connection.ts";
import { Timed } from "./deadlines.ts";

/** What came of a request. */
export interface Sent {
  readonly answer: Answer;
  /** The answer's first bytes as text; for an error, its reason. */
  readonly body: string;
  readonly durationMs: number;
}

/** A request on its way, and the one who waits for what comes of it. */
export class Exchange extends Timed {
  /** Request line and headers, as on the wire. */
  readonly head: string;
  readonly body: Uint8Array | null;
  /** How much of the answer's body is kept. */
  readonly keptBytes: number;
  /** Has it, or is being made for it. */
  connection: Connection | null = null;
  /** Where it waits for a connection. */
  queue: Set<Exchange> | null = null;
  /** Whether it was sent again, after a connection that had been kept turned out to be closed. */
  isRepeated = false;
  isSettled = false;

  readonly #startedAt: number;
  readonly #resolve: (sent: Sent) => void;

  constructor(
    request: { readonly head: string; readonly body: Uint8Array | null; readonly keptBytes: number },
    startedAt: number,
    resolve: (sent: Sent) => void,
  ) {
    super();
    this.head = request.head;
    this.body = request.body;
    this.keptBytes = request.keptBytes;
    this.#startedAt = startedAt;
    this.#resolve = resolve;
  }

  /** How long it has taken so far, in whole milliseconds. */
  get durationMs(): number {
    return Math.round(performance.now() - this.#startedAt);
  }

  /** Tells what came of it; only the first time counts. */
  settle(answer: Answer, body: string, durationMs = this.durationMs): void {
    if (this.isSettled) return;
    this.isSettled = true;
    this.unlink();
    this.#resolve({ answer, body, durationMs });
  }

  fail(reason: string): void {
    this.settle({ kind: "error", reason }, reason);
  }

  /** Stops it, since its time is over. */
  giveUp(timeoutMs: number): void {
    const within = `within ${timeoutMs / 1000} s`;
    if (this.queue) {
      this.queue.delete(this);
      this.fail(`no connection to the receiver came free ${within}`);
    } else {
      this.fail(
        this.connection?.isOpen === false ? `no connection ${within}` : `no complete answer ${within}`,
      );
      this.connection?.destroy();
    }
  }
}
