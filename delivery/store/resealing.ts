import { resealCheckValue } from "./master-key.ts";
import type { Seal } from "./seal.ts";
import type { Row, Sql } from "./sql.ts";
import type { Tx } from "./store.ts";

/** The columns of an endpoint that are sealed; `tls` may be null. */
export const sealedColumns = ["url", "headers", "settings", "secrets", "tls"] as const;

/**
 * Seals with the newest master key what older ones have sealed. Endpoints are gone through by id, some at a time, so that
 * nothing else waits for long; whoever is interrupted begins again, and finds most of it done.
 */
export function createResealing(sql: Sql, seal: Seal): Tx["resealing"] {
  return {
    async refreshKeys() {
      seal.refresh();
      return seal.keyIds;
    },

    async reseal(after, limit) {
      const rows = await sql.all(
        `select id, ${sealedColumns.join(", ")} from endpoints where id > ? order by id limit ?`,
        after,
        limit,
      );
      const failed: string[] = [];
      let count = 0;
      for (const row of rows) {
        const id = row["id"] as string;
        const changes = resealed(id, row, seal);
        if (changes === null) failed.push(id);
        else if (await replace(sql, id, row, changes)) count++;
      }
      if (rows.length >= limit) return { count, failed, last: rows.at(-1)?.["id"] as string };
      await resealCheckValue(sql, seal);
      return { count, failed, last: null };
    },

    async countByKey() {
      const rows = await sql.all(
        `select key_id, count(*) as texts
         from (${sealedColumns
           .map(
             (column) =>
               `select substr(${column}, 4, 8) as key_id from endpoints where ${column} is not null`,
           )
           .concat("select substr(value, 4, 8) as key_id from facts where name = 'master_key'")
           .join(" union all ")}) sealed
         group by key_id`,
      );
      return new Map(rows.map((row) => [row["key_id"] as string, Number(row["texts"])]));
    },
  };
}

/** The sealed texts of an endpoint as the newest key seals them, in the columns' order; null where one does not open. */
function resealed(id: string, row: Row, seal: Seal): (string | null)[] | null {
  try {
    return sealedColumns.map((column) => {
      const sealed = row[column] as string | null;
      if (sealed === null || seal.isCurrent(sealed)) return sealed;
      return seal.close(seal.open(sealed, `${id}.${column}`), `${id}.${column}`);
    });
  } catch {
    return null;
  }
}

/** Changes nothing where the endpoint has changed meanwhile: who has done that, has sealed it anew. */
async function replace(
  sql: Sql,
  id: string,
  before: Row,
  after: readonly (string | null)[],
): Promise<boolean> {
  if (after.every((sealed, index) => sealed === before[sealedColumns[index] ?? ""])) return false;
  const changed = await sql.run(
    `update endpoints set ${sealedColumns.map((column) => `${column} = ?`).join(", ")}
     where id = ? and ${sealedColumns.map((column) => `coalesce(${column}, '') = ?`).join(" and ")}`,
    ...after,
    id,
    ...sealedColumns.map((column) => (before[column] as string | null) ?? ""),
  );
  return changed > 0;
}
