import type { ClientBase } from "pg";
import { toCount, type Row } from "./sql.ts";

/** The tables that grow with what is delivered, and what of a row's width varies. */
const growing = {
  messages: ["id", "application_id", "event_type", "event_id", "channels", "tags", "ordering_key", "payload"],
  deliveries: ["message_id", "endpoint_id", "application_id", "ordering_key"],
  attempts: ["id", "message_id", "endpoint_id", "application_id", "url", "response"],
} as const;

/** Pages of 8 KiB that are looked at in each table, to know how wide its rows are. */
const samplePages = 100;
/** A row's header and its place in the page, and about eight numbers. */
const fixedBytes = 28 + 64;

/**
 * How many bytes the stored rows take up, with their share of the indexes. The files of PostgreSQL do not get smaller when
 * rows are deleted: vacuum only makes their room usable again. So this goes by how many rows are alive, times the width of a
 * sample of them. It is an estimate that follows deletions, and is never more than the files have. The server counts rows as
 * transactions end, but hears of it from each connection once a second at most, and from an idle one within ten.
 */
export async function readSize(client: ClientBase): Promise<number> {
  let bytes = 0;
  for (const [table, columns] of Object.entries(growing))
    bytes += await readTableSize(client, table, columns);
  const rest = await client.query<Row>(
    `select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint as bytes from pg_class
     where relkind = 'r' and relnamespace = current_schema()::regnamespace and relname <> all ($1::text[])`,
    [Object.keys(growing)],
  );
  return bytes + toCount(rest.rows[0]);
}

async function readTableSize(client: ClientBase, table: string, columns: readonly string[]): Promise<number> {
  const { rows } = await client.query<Row>(
    `select pg_relation_size($1::regclass) as heap_bytes, pg_table_size($1::regclass) as table_bytes,
       pg_indexes_size($1::regclass) as index_bytes,
       case
         -- After a crash the counters begin anew: what is known then is the last count and what has come since.
         when coalesce(last_vacuum, last_autovacuum, last_analyze, last_autoanalyze) is null
           then greatest(reltuples::bigint, 0) + n_tup_ins - n_tup_del
         else n_live_tup
       end as alive,
       n_dead_tup as dead
     from pg_stat_user_tables join pg_class on pg_class.oid = relid where relid = $1::regclass`,
    [table],
  );
  const { heap_bytes, table_bytes, index_bytes, alive, dead } = (rows[0] ?? {}) as Record<string, number>;
  const heapBytes = heap_bytes ?? 0;
  const rowCount = Math.max(0, alive ?? 0);
  if (heapBytes === 0 || rowCount === 0) return 0;
  const percent = Math.min(100, (100 * samplePages * 8_192) / heapBytes);
  const width = await client.query<Row>(
    `select avg(${columns.map((column) => `coalesce(pg_column_size(${column}), 0)`).join(" + ")})::float8 as width
     from ${table} tablesample system (${percent.toFixed(6)})`,
  );
  const rowBytes = Number(width.rows[0]?.["width"] ?? 0) + fixedBytes;
  const indexShare = rowCount / (rowCount + Math.max(0, dead ?? 0));
  return Math.round(Math.min(table_bytes ?? 0, rowCount * rowBytes) + (index_bytes ?? 0) * indexShare);
}
