import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";

/** What a process of the bench does for the one that started it. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- each method has its own argument.
export type Methods = Record<string, (argument: any) => unknown>;

interface Call {
  readonly id: number;
  readonly method: string;
  readonly argument: unknown;
}

type Reply =
  { readonly id: number; readonly value: unknown } | { readonly id: number; readonly error: string };

/** Answers the calls of the process that started this one, and ends with it. */
export function serveParent(methods: Methods): void {
  const answer = async ({ id, method, argument }: Call): Promise<Reply> => {
    try {
      return { id, value: await methods[method]!(argument) };
    } catch (error) {
      return { id, error: String(error) };
    }
  };
  process.on("message", (message) => {
    void answer(message as Call).then((reply) => process.send!(reply));
  });
  process.on("disconnect", () => process.exit(0));
}

/** A process of the bench, whose methods are called over a pipe. */
export class Child<Served extends Methods> implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  #lastId = 0;

  /** @param file a script of this folder that calls `serveParent` */
  constructor(file: string) {
    this.#process = fork(new URL(file, import.meta.url), { serialization: "advanced" });
    this.#process.on("message", (message) => {
      const reply = message as Reply;
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if ("error" in reply) waiting?.reject(new Error(`${file}: ${reply.error}`));
      else waiting?.resolve(reply.value as never);
    });
    this.#process.on("exit", (code) => {
      for (const { reject } of this.#waiting.values())
        reject(new Error(`${file} ended with ${String(code)}`));
      this.#waiting.clear();
    });
  }

  get pid(): number {
    return this.#process.pid!;
  }

  async call<Name extends keyof Served & string>(
    method: Name,
    ...[argument]: Parameters<Served[Name]>
  ): Promise<Awaited<ReturnType<Served[Name]>>> {
    const id = ++this.#lastId;
    return await new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#process.send({ id, method, argument } satisfies Call);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await exited;
  }
}
