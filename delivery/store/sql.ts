import type { Page } from "./store.ts";

/** What a column holds. Booleans are 0 and 1. */
export type Value = null | number | string | Uint8Array;
export type Row = Readonly<Record<string, unknown>>;

/**
 * A database connection, as much of it as the tables need: statements with `?` for values. The texts are those that
 * SQLite and PostgreSQL both understand; where the two differ, the connection supplies the words.
 */
export interface Sql {
  all(text: string, ...values: readonly Value[]): Promise<Row[]>;
  get(text: string, ...values: readonly Value[]): Promise<Row | undefined>;
  /** Answers how many rows changed. */
  run(text: string, ...values: readonly Value[]): Promise<number>;
  /**
   * Ends a `select` whose rows nobody else may change until this transaction ends: what a transaction reads in order to
   * change it. Empty where that is so anyway, and on connections that only read.
   */
  readonly forUpdate: string;
  /** Stands behind `forUpdate`, for rows of which any will do: those that others hold are passed over. */
  readonly skipLocked: string;
  /** Stands behind what must be in a list that is given as one value: the text of a JSON array. */
  readonly isListed: string;
  /** A condition: the JSON array in the column has the value. */
  has(column: string): string;
}

/** Notes what a transaction changes; see `StoreChanges`. */
export interface Changes {
  application(id: string): void;
  eventTypes(organizationId: string): void;
  token(id: string): void;
  /** A pending delivery that no node holds is due then. */
  due(delivery: { readonly endpointId: string; readonly applicationId: string }, at: number): void;
}

/** A condition with one `?`, and its value; without a value it does not apply. */
export type Filter = readonly [text: string, value: Value | undefined];

/** Of a statement's rows, the first column of the first one as a number. */
export function toCount(row: Row | undefined): number {
  return Number(Object.values(row ?? {})[0] ?? 0);
}

/** Runs a `select` for one page of a list that is ordered by `column`; all filters that apply must hold. */
export async function listPage(
  sql: Sql,
  select: string,
  filters: readonly Filter[],
  column: string,
  page: Page,
): Promise<Row[]> {
  const [beyond, direction] = page.descending ? ["<", "desc"] : [">", "asc"];
  const applied = [...filters, [`${column} ${beyond} ?`, page.after] as const].filter(
    (filter): filter is [string, Value] => filter[1] !== undefined,
  );
  const where = applied.length === 0 ? "" : `where ${applied.map(([text]) => text).join(" and ")}`;
  return await sql.all(
    `${select} ${where} order by ${column} ${direction} limit ?`,
    ...applied.map(([, value]) => value),
    page.limit,
  );
}

export function fromJson(value: unknown): unknown {
  return value === null ? null : JSON.parse(value as string);
}

export function toJson(value: unknown): string | null {
  return value === null ? null : JSON.stringify(value);
}
