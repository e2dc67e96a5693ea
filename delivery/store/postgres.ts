import pg from "pg";
import { ServiceError } from "../errors.ts";
import { withoutNul } from "./postgres-arrays.ts";
import type { Row, Sql, Value } from "./sql.ts";
import { ConflictError, MissingError } from "./store.ts";

/** How connections to PostgreSQL are made and used. */
export interface PostgresSettings {
  /** `postgres://user:password@host:port/database`, with `sslmode` and so on as libpq has them. Secret. */
  readonly url: string;
  /** Connections at a time. */
  readonly maxConnections: number;
  /** How long making a connection, or waiting for one, may take. */
  readonly connectTimeoutMs: number;
  /** How long a statement may take, waiting for locks included. */
  readonly statementTimeoutMs: number;
  /** Settings of each session, besides those that all have. */
  readonly session?: Readonly<Record<string, string>>;
}

/** How long beyond the statement's own time a server that says nothing at all has, until the connection is given up. */
const longestGraceMs = 2_000;
/** After which a session ends whose process was stopped in the middle of a transaction: others wait for its locks. */
const idleInTransactionMs = 10_000;

/**
 * Opens connections as they are asked for. Several statements may be under way on each (`pipeline`): they are run in the
 * order in which they were given.
 */
export function createPool(settings: PostgresSettings): pg.Pool {
  const session = {
    statement_timeout: String(settings.statementTimeoutMs),
    idle_in_transaction_session_timeout: String(idleInTransactionMs),
    default_transaction_isolation: "'read committed'",
    jit: "off",
    ...settings.session,
  };
  const setUp = Object.entries(session).map(([name, value]) => `set ${name} = ${value};`);
  // A commit that was answered is on disk, whatever the server's own settings say. Stronger ones are left.
  setUp.push(
    "select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'",
  );
  const options: pg.PoolConfig & { readonly pipeline: boolean } = {
    connectionString: settings.url,
    fallback_application_name: "hookplane",
    max: settings.maxConnections,
    connectionTimeoutMillis: settings.connectTimeoutMs,
    query_timeout: settings.statementTimeoutMs + Math.min(settings.statementTimeoutMs, longestGraceMs),
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    idleTimeoutMillis: 60_000,
    pipeline: true,
    types: {
      getTypeParser: (...asked: Parameters<typeof pg.types.getTypeParser>) =>
        asked[0] === pg.types.builtins.INT8 ? Number : (pg.types.getTypeParser(...asked) as unknown),
    },
  };
  const pool = new pg.Pool(options);
  pool.on("connect", (client) => {
    // A connection that breaks tells so to the statement that is under way; nobody else needs to hear it.
    client.on("error", () => undefined);
    // Ahead of all other statements, in the same pipeline.
    client.query(setUp.join(" ")).catch(() => client.end());
  });
  pool.on("error", () => undefined);
  return pool;
}

/** A prepared statement: it is parsed once on each connection that runs it. */
export interface Statement {
  readonly name: string;
  readonly text: string;
  /** Whether it reads values as JSON, which PostgreSQL refuses where a NUL stands in it. */
  readonly readsJson: boolean;
}

/** A NUL as JSON writes it, behind any number of escaped backslashes. */
const jsonNul = /(?<!\\)((?:\\\\)*)\\u0000/g;

const statements = new Map<string, Statement>();

/** The statement for a text with `?` for values. */
export function prepare(text: string): Statement {
  let statement = statements.get(text);
  if (statement === undefined) {
    let values = 0;
    statement = {
      name: `hookplane_${statements.size}`,
      text: text.replaceAll("?", () => `$${++values}`),
      readsJson: text.includes("::jsonb"),
    };
    statements.set(text, statement);
  }
  return statement;
}

/** What `pg` wants of a statement. */
export function named({ name, text }: Statement): { name: string; text: string } {
  return { name, text };
}

/** Which columns each uniqueness rule of the database is about, by the name of its index: `endpoints.id` and so on. */
export type UniqueRules = ReadonlyMap<string, string>;

export async function readUniqueRules(client: pg.ClientBase): Promise<UniqueRules> {
  const { rows } = await client.query<{ name: string; columns: string }>(
    `select indexes.relname as name,
       string_agg(tables.relname || '.' || pg_attribute.attname, ', ' order by places.place) as columns
     from pg_index
     join pg_class as indexes on indexes.oid = pg_index.indexrelid
     join pg_class as tables on tables.oid = pg_index.indrelid
     cross join lateral unnest(pg_index.indkey) with ordinality as places (attribute, place)
     join pg_attribute on pg_attribute.attrelid = tables.oid and pg_attribute.attnum = places.attribute
     where pg_index.indisunique and tables.relnamespace = current_schema()::regnamespace
     group by indexes.relname`,
  );
  return new Map(rows.map(({ name, columns }) => [name, columns]));
}

/** A connection that this caller has for itself, as the tables need it. */
export class PostgresConnection implements Sql {
  readonly forUpdate: string;
  readonly skipLocked = " skip locked";
  // As an array it is a condition of the index, whatever the planner thinks of the table; as rows it would be joined.
  readonly isListed = "= any (array(select jsonb_array_elements_text(?::jsonb)))";
  readonly #client: pg.ClientBase;
  readonly #rules: UniqueRules;
  #failure: Error | null = null;

  /** @param isWriter whether rows that are read to be changed are locked */
  constructor(client: pg.ClientBase, rules: UniqueRules, { isWriter }: { isWriter: boolean }) {
    this.#client = client;
    this.#rules = rules;
    // Rows that refer to a locked one may still be added.
    this.forUpdate = isWriter ? " for no key update" : "";
  }

  has(column: string): string {
    return `jsonb_exists(${column}::jsonb, ?)`;
  }

  /** The first error of a statement since the last `reset()`: a transaction with one cannot be committed. */
  get failure(): Error | null {
    return this.#failure;
  }

  reset(): void {
    this.#failure = null;
  }

  async all(text: string, ...values: readonly Value[]): Promise<Row[]> {
    return (await this.#query(text, values)).rows;
  }

  async get(text: string, ...values: readonly Value[]): Promise<Row | undefined> {
    return (await this.#query(text, values)).rows[0];
  }

  async run(text: string, ...values: readonly Value[]): Promise<number> {
    return (await this.#query(text, values)).rowCount ?? 0;
  }

  async #query(text: string, values: readonly Value[]): Promise<pg.QueryResult<Row>> {
    const statement = prepare(text);
    try {
      return await this.#client.query<Row>({
        ...named(statement),
        values: values.map((value) =>
          typeof value !== "string"
            ? value
            : withoutNul(statement.readsJson ? value.replace(jsonNul, "$1\\ufffd") : value),
        ),
      });
    } catch (error) {
      const failure = toStoreError(error, this.#rules);
      this.#failure ??= failure;
      throw failure;
    }
  }
}

/** Error codes, https://www.postgresql.org/docs/current/errcodes-appendix.html */
const uniqueViolation = "23505";
const foreignKeyViolation = "23503";
const rolledBackCodes: readonly string[] = ["40001", "40P01"];
/**
 * Connection failed, out of resources (disk, memory, connections), operator's or system's intervention, rolled back in
 * favor of others, credentials refused: another try may work.
 */
const outageClasses: readonly string[] = ["08", "28", "40", "53", "57", "58"];
const outageCodes: readonly string[] = [
  "25006", // read-only: a standby, or a primary that has become one
  "25P03", // idle in transaction for too long
  "3D000", // the database is not there: it is being restored
  "55P03", // a lock was not to be had
];

/** What is told of an error of `pg`. Errors of this program, such as a value of a wrong type, stay what they are. */
export function toStoreError(error: unknown, rules: UniqueRules): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  if (error instanceof ServiceError || error instanceof RangeError) return error;
  if (!(error instanceof pg.DatabaseError)) return unavailable(error);
  const { code = "", constraint = "" } = error;
  if (code === uniqueViolation) return new ConflictError(rules.get(constraint) ?? constraint);
  if (code === foreignKeyViolation) return new MissingError("the row that this one belongs to is gone");
  if (outageClasses.includes(code.slice(0, 2)) || outageCodes.includes(code) || isOutdated(error)) {
    return unavailable(error);
  }
  return toCause(error);
}

/** Whether a transaction was undone in favor of another one, and should be made again. */
export function wasRolledBack(error: unknown): boolean {
  const cause = error instanceof ServiceError ? error.cause : undefined;
  return cause instanceof Error && "code" in cause && rolledBackCodes.includes(cause.code as string);
}

/** A statement was prepared before a newer node changed the table: a new connection prepares it anew. */
function isOutdated(error: pg.DatabaseError): boolean {
  return error.code === "0A000" && error.routine === "RevalidateCachedQuery";
}

function unavailable(error: Error): ServiceError {
  return new ServiceError("unavailable", "The database cannot be used now", {
    retryAfterSeconds: 1,
    cause: toCause(error),
  });
}

/** An error of `pg` as it may be logged: without the connection, and without what the rows hold. */
function toCause(error: Error): Error {
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  // One that has tried several addresses has them in its parts only.
  const parts =
    error instanceof AggregateError ? (error.errors as Error[]).map(({ message }) => message) : [];
  return Object.assign(new Error(error.message || parts.join("; ")), code === undefined ? {} : { code });
}
