import type { Application } from "../core/application.ts";
import { toPolicy } from "./endpoints.ts";
import { fromJson, listPage, type Changes, type Row, type Sql } from "./sql.ts";
import type { Tx } from "./store.ts";
import type { createTokens } from "./tokens.ts";

export function createApplications(
  sql: Sql,
  changes: Changes,
  tokens: ReturnType<typeof createTokens>,
): Tx["applications"] {
  return {
    async insert(application) {
      await sql.run(
        `insert into applications
           (id, organization_id, uid, name, dialect, throttle_rate, policy, metadata, version, created_at, updated_at)
         values (?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?)`,
        application.id,
        application.organizationId,
        application.uid,
        application.name,
        application.dialect,
        application.throttleRate,
        JSON.stringify(application.policy),
        JSON.stringify(application.metadata),
        application.createdAt,
        application.updatedAt,
      );
      changes.application(application.id);
    },

    async find(organizationId, idOrUid) {
      // An id wins over another application's uid that looks the same.
      const row =
        (await sql.get(
          `select * from applications where organization_id = ? and id = ?${sql.forUpdate}`,
          organizationId,
          idOrUid,
        )) ??
        (await sql.get(
          `select * from applications where organization_id = ? and uid = ?${sql.forUpdate}`,
          organizationId,
          idOrUid,
        ));
      return row && toApplication(row);
    },

    async get(id) {
      const row = await sql.get("select * from applications where id = ?", id);
      return row && { application: toApplication(row), version: row["version"] as number };
    },

    async versions(ids) {
      const rows = await sql.all(
        `select id, version from applications where id ${sql.isListed}`,
        JSON.stringify(ids),
      );
      return new Map(rows.map((row) => [row["id"] as string, row["version"] as number]));
    },

    async list(organizationId, page) {
      const rows = await listPage(
        sql,
        "select * from applications",
        [["organization_id = ?", organizationId]],
        "id",
        page,
      );
      return rows.map(toApplication);
    },

    async update(application) {
      const changed = await sql.run(
        `update applications
         set uid = ?, name = ?, dialect = ?, throttle_rate = ?, policy = ?, metadata = ?, version = version + 1,
             updated_at = ?
         where id = ?`,
        application.uid,
        application.name,
        application.dialect,
        application.throttleRate,
        JSON.stringify(application.policy),
        JSON.stringify(application.metadata),
        application.updatedAt,
        application.id,
      );
      changes.application(application.id);
      return changed > 0;
    },

    async delete(id) {
      // Messages, deliveries and attempts, which may be millions, are removed in the background: see retention.ts.
      await sql.run(
        "delete from endpoint_states where endpoint_id in (select id from endpoints where application_id = ?)",
        id,
      );
      await tokens.deleteByApplication(id);
      await sql.run("delete from endpoints where application_id = ?", id);
      changes.application(id);
      return (await sql.run("delete from applications where id = ?", id)) > 0;
    },
  };
}

function toApplication(row: Row): Application {
  return {
    id: row["id"] as string,
    organizationId: row["organization_id"] as string,
    uid: row["uid"] as string | null,
    name: row["name"] as string,
    dialect: row["dialect"] as string,
    throttleRate: row["throttle_rate"] as number | null,
    policy: toPolicy(row["policy"]),
    metadata: fromJson(row["metadata"]) as Application["metadata"],
    createdAt: row["created_at"] as number,
    updatedAt: row["updated_at"] as number,
  };
}
