import type { Socket } from "node:net";
import { parseRetryAfter } from "../core/backoff.ts";
import { AnswerReader } from "./answer-reader.ts";
import { decodedText } from "./answer-text.ts";
import type { Exchange } from "./exchange.ts";
import { reasonOf } from "./reason.ts";

/** Up to this size, a body is copied behind the head: one write of more bytes is cheaper than two. */
const maxCopiedBytes = 16 * 1024;
/** How long an answered request may take to be written to its end. */
const maxWritingMs = 2_000;

/** Who a connection belongs to, and hears from it. */
export interface ConnectionOwner {
  /** For Retry-After dates. */
  readonly now: () => number;
  /** It answered, and can take another request, until then on the clock of `performance.now()`. */
  onFree(connection: Connection, keepAliveMs: number | null): void;
  /** It is of no more use. */
  onClosed(connection: Connection): void;
  /** The receiver had closed the kept connection before it saw the request: another one may do. */
  onStale(exchange: Exchange): void;
}

/**
 * One connection to a receiver, with one request at a time. HTTP/1.1 is spoken here and not by a library, because the
 * slimmest way through undici takes three times the processor time, and because all that a receiver can do wrong is then
 * bounded in one place; see docs/decisions/http-client.md.
 */
export class Connection {
  /** What it is busy with. */
  exchange: Exchange | null;
  /** While it is free: when it is closed, on the clock of `performance.now()`. */
  idleUntil = 0;

  readonly #owner: ConnectionOwner;
  readonly #reader = new AnswerReader();
  readonly #opening = new AbortController();
  #socket: Socket | null = null;
  #isClosed = false;
  #answers = 0;
  /** Whether the request has left this process. */
  #isWritten = false;
  /** Runs while a request is still being written whose answer is there. */
  #writing: NodeJS.Timeout | undefined;

  /**
   * @param connect makes the connection, gives it what comes, and stops when told to
   * @param exchange what it is opened for
   */
  constructor(
    owner: ConnectionOwner,
    connect: (receive: Connection["receive"], signal: AbortSignal) => Promise<Socket>,
    exchange: Exchange,
  ) {
    this.#owner = owner;
    this.exchange = exchange;
    exchange.connection = this;
    connect(this.receive, this.#opening.signal).then(
      (socket) => {
        this.#open(socket);
      },
      (error: unknown) => {
        this.#close(reasonOf(error));
      },
    );
  }

  /** Whether it was made; before that, the request waits for it. */
  get isOpen(): boolean {
    return this.#socket !== null;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Sends the request. */
  send(exchange: Exchange): void {
    this.exchange = exchange;
    exchange.connection = this;
    this.#reader.begin(exchange.keptBytes);
    const { head, body } = exchange;
    const socket = this.#socket;
    if (!socket) return;
    this.#isWritten = false;
    if (body === null) {
      socket.write(head, "latin1", this.#onWritten);
    } else if (body.byteLength <= maxCopiedBytes) {
      const bytes = Buffer.allocUnsafe(head.length + body.byteLength);
      bytes.write(head, "latin1");
      bytes.set(body, head.length);
      socket.write(bytes, this.#onWritten);
    } else {
      socket.cork();
      socket.write(head, "latin1");
      socket.write(body, this.#onWritten);
      socket.uncork();
    }
  }

  /** Cuts it off. What it was busy with is not told. */
  destroy(): void {
    this.exchange = null;
    this.#close("closed");
  }

  /** Takes the first `length` bytes of what came; they may be overwritten afterwards. */
  readonly receive = (bytes: Buffer, length: number): void => {
    const { exchange } = this;
    // Unasked, or too late: what it belongs to could not be told apart from the next answer.
    if (!exchange || this.#isClosed) {
      this.destroy();
      return;
    }
    const reader = this.#reader;
    const state = reader.read(bytes, length);
    if (state === "more") return;
    if (state === "malformed") {
      this.#close(reader.fault);
      return;
    }
    this.exchange = null;
    this.#answers++;
    this.#settle(exchange);
    if (state !== "complete" || !reader.isReusable) {
      this.destroy();
    } else if (this.#isWritten) {
      this.#owner.onFree(this, reader.keepAliveMs);
    } else {
      // With TLS, word of the last write often comes after the answer. But an answer may also come long before the end
      // of its request, and the rest of that would go before the next one.
      this.#writing = setTimeout(() => {
        this.destroy();
      }, maxWritingMs);
    }
  };

  readonly #onWritten = (): void => {
    this.#isWritten = true;
    if (!this.#writing) return;
    clearTimeout(this.#writing);
    this.#writing = undefined;
    if (!this.#isClosed) this.#owner.onFree(this, this.#reader.keepAliveMs);
  };

  #open(socket: Socket): void {
    this.#socket = socket;
    if (this.#isClosed) {
      socket.destroy();
      return;
    }
    socket.on("error", (error) => {
      this.#close(reasonOf(error));
    });
    socket.on("end", () => {
      const { exchange } = this;
      if (exchange && this.#reader.end()) {
        this.exchange = null;
        this.#settle(exchange);
      }
      this.#close(this.#closedReason);
    });
    socket.on("close", () => {
      this.#close(this.#closedReason);
    });
    if (this.exchange) this.send(this.exchange);
  }

  get #closedReason(): string {
    return this.#reader.hasBegun
      ? "the connection was closed before the answer was complete"
      : "the connection was closed before an answer came";
  }

  #settle(exchange: Exchange): void {
    const { status, retryAfter, contentEncoding } = this.#reader;
    const answer = {
      kind: "response",
      status,
      retryAfterMs: retryAfter === undefined ? null : parseRetryAfter(retryAfter, this.#owner.now()),
    } as const;
    if (contentEncoding === "") {
      exchange.settle(answer, this.#reader.text);
      return;
    }
    const { durationMs } = exchange;
    exchange.unlink();
    void decodedText(this.#reader.bytes, contentEncoding, exchange.keptBytes).then((text) => {
      exchange.settle(answer, text, durationMs);
    });
  }

  #close(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#writing);
    if (this.#socket) this.#socket.destroy();
    else this.#opening.abort();
    const { exchange } = this;
    this.exchange = null;
    this.#owner.onClosed(this);
    if (!exchange || exchange.isSettled) return;
    const isStale = this.#answers > 0 && !this.#reader.hasBegun && !exchange.isRepeated;
    if (isStale) {
      exchange.isRepeated = true;
      this.#owner.onStale(exchange);
    } else {
      exchange.fail(reason);
    }
  }
}
