import type { Sql } from "./sql.ts";
import type { Tx } from "./store.ts";

export function createIdempotency(sql: Sql): Tx["idempotency"] {
  return {
    async find(key, now) {
      const row = await sql.get("select * from idempotency where key = ? and expires_at > ?", key, now);
      return (
        row && {
          requestHash: row["request_hash"] as string,
          status: row["status"] as number,
          body: row["body"] as string,
        }
      );
    },

    async insert(entry, now) {
      await sql.run("delete from idempotency where expires_at <= ?", now);
      await sql.run(
        "insert into idempotency (key, request_hash, status, body, expires_at) values (?, ?, ?, ?, ?)",
        entry.key,
        entry.requestHash,
        entry.status,
        entry.body,
        entry.expiresAt,
      );
    },
  };
}
