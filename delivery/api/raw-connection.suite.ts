import { connect, type Socket } from "node:net";

/** An answer as it stands on the wire. */
export interface RawAnswer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A connection on which a test writes whatever it likes, byte by byte if it must. */
export class RawConnection {
  readonly #socket: Socket;
  readonly #changed = new Set<() => void>();
  #received = "";
  #isOver = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay();
    socket.on("data", (chunk: Buffer) => {
      this.#received += chunk.toString("latin1");
      this.#tell();
    });
    // Being cut off is an answer, too.
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#isOver = true;
      this.#tell();
    });
  }

  /** Connects to a service's address. */
  static async open(url: string): Promise<RawConnection> {
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    const connection = new RawConnection(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return connection;
  }

  /** All that has come so far, byte for byte. */
  get received(): string {
    return this.#received;
  }

  /** Whether the other side has ended the connection, or this one has. */
  get isOver(): boolean {
    return this.#isOver;
  }

  write(bytes: string | Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** Says that nothing more will be written. */
  end(): void {
    this.#socket.end();
  }

  /** Goes away without a word. */
  close(): void {
    this.#socket.destroy();
  }

  /** Resolves when what has come, or the connection's end, is enough. */
  async until(isEnough: (received: string, isOver: boolean) => boolean): Promise<void> {
    while (!isEnough(this.#received, this.#isOver)) {
      await new Promise<void>((resolve) => this.#changed.add(resolve));
    }
  }

  /**
   * The answer to a request, once all of it has come; interim ones such as `100 Continue` are passed over.
   *
   * @returns null when the connection ends without one
   */
  async answer(): Promise<RawAnswer | null> {
    await this.until((received, isOver) => isOver || parseAnswer(received)?.isWhole === true);
    return parseAnswer(this.#received)?.answer ?? null;
  }

  #tell(): void {
    const waiting = [...this.#changed];
    this.#changed.clear();
    for (const resolve of waiting) resolve();
  }
}

/** Answers with a `content-length` or none, as this service's are. */
function parseAnswer(received: string): { answer: RawAnswer; isWhole: boolean } | undefined {
  const text = received.replace(/^(?:HTTP\/1\.1 1\d\d [^\r]*\r\n(?:[^\r]+\r\n)*\r\n)+/, "");
  const end = text.indexOf("\r\n\r\n");
  if (end === -1) return undefined;
  const [first = "", ...lines] = text.slice(0, end).split("\r\n");
  const headers = Object.fromEntries(
    lines.map((line) => {
      const [name = "", ...value] = line.split(":");
      return [name.toLowerCase(), value.join(":").trim()];
    }),
  );
  const body = text.slice(end + 4);
  const length = Number(headers["content-length"] ?? 0);
  const answer = { status: Number(first.split(" ")[1]), headers, body: body.slice(0, length) };
  return { answer, isWhole: body.length >= length };
}
