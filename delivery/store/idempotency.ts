import type { Sql } from "./sql.ts";
import { ConflictError, type Tx } from "./store.ts";

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

    async insert(answer, now) {
      const inserted = await sql.run(
        `insert into idempotency (key, request_hash, status, body, expires_at) values (?, ?, ?, ?, ?)
         on conflict (key) do update set request_hash = excluded.request_hash, status = excluded.status,
           body = excluded.body, expires_at = excluded.expires_at
         where idempotency.expires_at <= ?`,
        answer.key,
        answer.requestHash,
        answer.status,
        answer.body,
        answer.expiresAt,
        now,
      );
      if (inserted === 0) throw new ConflictError("idempotency.key");
    },

    async prune(now, limit) {
      return await sql.run(
        "delete from idempotency where key in (select key from idempotency where expires_at <= ? limit ?)",
        now,
        limit,
      );
    },
  };
}
