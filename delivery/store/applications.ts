import type { Application } from "../core/application.ts";
import { fromJson, listPage, type Changes, type Row, type Sql } from "./sql.ts";
import type { Tx } from "./store.ts";

export function createApplications(sql: Sql, changes: Changes): Tx["applications"] {
  return {
    async insert(application) {
      await sql.run(
        `insert into applications (id, uid, name, dialect, throttle_rate, metadata, created_at, updated_at)
         values (?, ?, ?, ?, ?, ?, ?, ?)`,
        application.id,
        application.uid,
        application.name,
        application.dialect,
        application.throttleRate,
        JSON.stringify(application.metadata),
        application.createdAt,
        application.updatedAt,
      );
      changes.add(application.id);
    },

    async find(idOrUid) {
      // An id wins over another application's uid that looks the same.
      const row =
        (await sql.get("select * from applications where id = ?", idOrUid)) ??
        (await sql.get("select * from applications where uid = ?", idOrUid));
      return row && toApplication(row);
    },

    async list(page) {
      const rows = await listPage(sql, "select * from applications", [], "id", page);
      return rows.map(toApplication);
    },

    async update(application) {
      const changed = await sql.run(
        `update applications
         set uid = ?, name = ?, dialect = ?, throttle_rate = ?, metadata = ?, updated_at = ?
         where id = ?`,
        application.uid,
        application.name,
        application.dialect,
        application.throttleRate,
        JSON.stringify(application.metadata),
        application.updatedAt,
        application.id,
      );
      changes.add(application.id);
      return changed > 0;
    },

    async delete(id) {
      for (const table of ["attempts", "deliveries"]) {
        await sql.run(
          `delete from ${table} where message_id in (select id from messages where application_id = ?)`,
          id,
        );
      }
      await sql.run("delete from messages where application_id = ?", id);
      await sql.run("delete from endpoints where application_id = ?", id);
      changes.add(id);
      return (await sql.run("delete from applications where id = ?", id)) > 0;
    },
  };
}

function toApplication(row: Row): Application {
  return {
    id: row["id"] as string,
    uid: row["uid"] as string | null,
    name: row["name"] as string,
    dialect: row["dialect"] as string,
    throttleRate: row["throttle_rate"] as number | null,
    metadata: fromJson(row["metadata"]) as Application["metadata"],
    createdAt: row["created_at"] as number,
    updatedAt: row["updated_at"] as number,
  };
}
