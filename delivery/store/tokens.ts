import { fromJson, listPage, toJson, type Changes, type Row, type Sql } from "./sql.ts";
import type { Token, Tx } from "./store.ts";

export function createTokens(
  sql: Sql,
  changes: Changes,
): Tx["tokens"] & { deleteByApplication(applicationId: string): Promise<void> } {
  return {
    async insert(token) {
      await sql.run(
        `insert into tokens
           (id, hash, organization_id, application_id, capabilities, feature_flags, session_id, description, created_at, expires_at)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        token.id,
        token.hash,
        token.organizationId,
        token.applicationId,
        toJson(token.capabilities),
        JSON.stringify(token.featureFlags),
        token.sessionId,
        token.description,
        token.createdAt,
        token.expiresAt,
      );
    },

    async find(organizationId, id) {
      const row = await sql.get(
        "select * from tokens where organization_id = ? and id = ?",
        organizationId,
        id,
      );
      return row && toToken(row);
    },

    async findByHash(hash) {
      const row = await sql.get("select * from tokens where hash = ?", hash);
      return row && toToken(row);
    },

    async list(organizationId, page) {
      const rows = await listPage(
        sql,
        "select * from tokens",
        [["organization_id = ?", organizationId]],
        "id",
        page,
      );
      return rows.map(toToken);
    },

    async delete(id) {
      changes.token(id);
      return (await sql.run("delete from tokens where id = ?", id)) > 0;
    },

    async expireByApplication(applicationId, expiresAt, sessionIds) {
      const rows = await sql.all(
        "select id, session_id from tokens where application_id = ? and (expires_at is null or expires_at > ?)",
        applicationId,
        expiresAt,
      );
      const ids = rows
        .filter((row) => sessionIds === undefined || sessionIds.includes(row["session_id"] as string))
        .map((row) => row["id"] as string);
      for (const id of ids) changes.token(id);
      return await sql.run(
        `update tokens set expires_at = ? where id ${sql.isListed}`,
        expiresAt,
        JSON.stringify(ids),
      );
    },

    async prune(now, limit) {
      return await sql.run(
        "delete from tokens where id in (select id from tokens where expires_at <= ? order by expires_at limit ?)",
        now,
        limit,
      );
    },

    async deleteByApplication(applicationId) {
      const rows = await sql.all("select id from tokens where application_id = ?", applicationId);
      for (const row of rows) changes.token(row["id"] as string);
      await sql.run("delete from tokens where application_id = ?", applicationId);
    },
  };
}

function toToken(row: Row): Token {
  return {
    id: row["id"] as string,
    hash: row["hash"] as string,
    organizationId: row["organization_id"] as string,
    applicationId: row["application_id"] as string | null,
    capabilities: fromJson(row["capabilities"]) as Token["capabilities"],
    featureFlags: fromJson(row["feature_flags"]) as Token["featureFlags"],
    sessionId: row["session_id"] as string | null,
    description: row["description"] as string,
    createdAt: row["created_at"] as number,
    expiresAt: row["expires_at"] as number | null,
  };
}
