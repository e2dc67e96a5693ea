import { DatabaseSync, type StatementSync } from "node:sqlite";
import { ServiceError } from "../errors.ts";
import type { Row, Sql, Value } from "./sql.ts";
import { ConflictError, MissingError } from "./store.ts";

/** Extended result codes, https://sqlite.org/rescode.html */
const uniqueCodes: readonly number[] = [2067, 1555];
const foreignKeyCode = 787;
/** Busy, locked, read-only, input or output failed, disk full, cannot open: another try may work. */
const outageCodes: readonly number[] = [5, 6, 8, 10, 13, 14];

/** A connection to an SQLite file. It answers at once: its promises are settled ones. */
export class SqliteConnection implements Sql {
  readonly forUpdate = "";
  readonly skipLocked = "";
  readonly isListed = "in (select value from json_each(?))";
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #writes = 0;

  /** @param options `busyTimeoutMs`: how long a statement waits for a lock of another connection */
  constructor(path: string, options: { readOnly: boolean; busyTimeoutMs: number }) {
    this.#database = new DatabaseSync(path, {
      readOnly: options.readOnly,
      enableForeignKeyConstraints: true,
      timeout: options.busyTimeoutMs,
    });
  }

  has(column: string): string {
    return `exists (select 1 from json_each(${column}) where value = ?)`;
  }

  /** How many statements have asked for a change: what has not, needs no rolling back. */
  get writes(): number {
    return this.#writes;
  }

  async all(text: string, ...values: readonly Value[]): Promise<Row[]> {
    try {
      return this.#statement(text).all(...values);
    } catch (error) {
      throw translated(error);
    }
  }

  async get(text: string, ...values: readonly Value[]): Promise<Row | undefined> {
    if (!text.startsWith("select")) this.#writes++;
    try {
      return this.#statement(text).get(...values);
    } catch (error) {
      throw translated(error);
    }
  }

  async run(text: string, ...values: readonly Value[]): Promise<number> {
    this.#writes++;
    try {
      return Number(this.#statement(text).run(...values).changes);
    } catch (error) {
      throw translated(error);
    }
  }

  /** Runs statements without values, at once. */
  execute(text: string): void {
    this.#database.exec(text);
  }

  get inTransaction(): boolean {
    return this.#database.isTransaction;
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }

  #statement(text: string): StatementSync {
    let statement = this.#statements.get(text);
    if (!statement) {
      statement = this.#database.prepare(text);
      this.#statements.set(text, statement);
    }
    return statement;
  }
}

/** SQLite's result code of an error, without its extension; undefined for any other error. */
export function resultCode(error: unknown): number | undefined {
  const code = extendedCode(error);
  return code === undefined ? undefined : code & 0xff;
}

/** An error of SQLite's in the store's words. */
function translated(error: unknown): unknown {
  const code = extendedCode(error);
  if (code === undefined) return error;
  if (uniqueCodes.includes(code)) {
    return new ConflictError((error as Error).message.replace("UNIQUE constraint failed: ", ""));
  }
  if (code === foreignKeyCode) return new MissingError("the row that this one belongs to is gone");
  if (outageCodes.includes(code & 0xff)) {
    return new ServiceError("unavailable", "The database cannot be used now", { cause: error });
  }
  return error;
}

function extendedCode(error: unknown): number | undefined {
  const code = error instanceof Error && "errcode" in error ? error.errcode : undefined;
  return typeof code === "number" ? code : undefined;
}
