import type { Organization } from "../core/organization.ts";
import { listPage, type Row, type Sql } from "./sql.ts";
import type { Tx } from "./store.ts";

export function createOrganizations(sql: Sql): Tx["organizations"] {
  return {
    async insert(organization) {
      await sql.run(
        "insert into organizations (id, name, created_at) values (?, ?, ?)",
        organization.id,
        organization.name,
        organization.createdAt,
      );
    },

    async find(id) {
      const row = await sql.get("select * from organizations where id = ?", id);
      return row && toOrganization(row);
    },

    async list(page) {
      const rows = await listPage(sql, "select * from organizations", [], "id", page);
      return rows.map(toOrganization);
    },
  };
}

function toOrganization(row: Row): Organization {
  return {
    id: row["id"] as string,
    name: row["name"] as string,
    createdAt: row["created_at"] as number,
  };
}
