import { listPage, type Row, type Sql } from "./sql.ts";
import type { Task, Tx } from "./store.ts";

export function createTasks(sql: Sql): Tx["tasks"] {
  return {
    async insert(task) {
      await sql.run(
        `insert into tasks
           (id, organization_id, application_id, kind, input, cursor, status, done, total, error, leased_by, created_at,
            updated_at)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        task.id,
        task.organizationId,
        task.applicationId,
        task.kind,
        task.input,
        task.cursor,
        task.status,
        task.done,
        task.total,
        task.error,
        task.leasedBy ?? 0,
        task.createdAt,
        task.updatedAt,
      );
    },

    async find(organizationId, id) {
      const row = await sql.get(
        "select * from tasks where organization_id = ? and id = ?",
        organizationId,
        id,
      );
      return row && toTask(row);
    },

    async list(organizationId, filter, page) {
      const rows = await listPage(
        sql,
        "select * from tasks",
        [
          ["organization_id = ?", organizationId],
          ["application_id = ?", filter.applicationId],
          ["kind = ?", filter.kind],
          ["status = ?", filter.status],
        ],
        "id",
        page,
      );
      return rows.map(toTask);
    },

    async claim(node) {
      const row = await sql.get(
        `update tasks set leased_by = ?
         where leased_by = 0 and id = (
           select id from tasks where leased_by = 0 and status = 'running' order by id limit 1${sql.forUpdate}${sql.skipLocked})
         returning *`,
        node,
      );
      return row && toTask(row);
    },

    async update(task, node) {
      const changed = await sql.run(
        `update tasks set cursor = ?, status = ?, done = ?, total = ?, error = ?, leased_by = ?, updated_at = ?
         where id = ? and leased_by = ?`,
        task.cursor,
        task.status,
        task.done,
        task.total,
        task.error,
        task.leasedBy ?? 0,
        task.updatedAt,
        task.id,
        node,
      );
      return changed > 0;
    },

    async cancel(id, error, now) {
      const changed = await sql.run(
        `update tasks set status = 'failed', error = ?, leased_by = 0, updated_at = ?
         where id = ? and status = 'running'`,
        error,
        now,
        id,
      );
      return changed > 0;
    },
  };
}

function toTask(row: Row): Task {
  return {
    id: row["id"] as string,
    organizationId: row["organization_id"] as string,
    applicationId: row["application_id"] as string,
    kind: row["kind"] as string,
    input: row["input"] as string,
    cursor: row["cursor"] as string | null,
    status: row["status"] as Task["status"],
    done: row["done"] as number,
    total: row["total"] as number | null,
    error: row["error"] as string | null,
    leasedBy: (row["leased_by"] as number) || null,
    createdAt: row["created_at"] as number,
    updatedAt: row["updated_at"] as number,
  };
}
