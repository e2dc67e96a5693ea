import { fromJson, listPage, toJson, type Changes, type Filter, type Row, type Sql } from "./sql.ts";
import type { EventType, Tx } from "./store.ts";

export function createEventTypes(sql: Sql, changes: Changes): Tx["eventTypes"] {
  return {
    async insert(eventType) {
      await sql.run(
        `insert into event_types
           (organization_id, name, description, archived, deprecated, schemas, feature_flags, group_name, created_at, updated_at)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        eventType.organizationId,
        eventType.name,
        eventType.description,
        eventType.archived ? 1 : 0,
        eventType.deprecated ? 1 : 0,
        eventType.schemas,
        toJson(eventType.featureFlags),
        eventType.groupName,
        eventType.createdAt,
        eventType.updatedAt,
      );
      changes.eventTypes(eventType.organizationId);
    },

    async find(organizationId, name) {
      const row = await sql.get(
        `select * from event_types where organization_id = ? and name = ?${sql.forUpdate}`,
        organizationId,
        name,
      );
      return row && toEventType(row);
    },

    async list(organizationId, page) {
      const filters: Filter[] = [
        ["organization_id = ?", organizationId],
        ["archived = ?", page.includeArchived ? undefined : 0],
      ];
      const rows = await listPage(sql, "select * from event_types", filters, "name", page);
      return rows.map(toEventType);
    },

    async update(eventType) {
      const changed = await sql.run(
        `update event_types
         set description = ?, archived = ?, deprecated = ?, schemas = ?, feature_flags = ?, group_name = ?, updated_at = ?
         where organization_id = ? and name = ?`,
        eventType.description,
        eventType.archived ? 1 : 0,
        eventType.deprecated ? 1 : 0,
        eventType.schemas,
        toJson(eventType.featureFlags),
        eventType.groupName,
        eventType.updatedAt,
        eventType.organizationId,
        eventType.name,
      );
      changes.eventTypes(eventType.organizationId);
      return changed > 0;
    },

    async delete(organizationId, name) {
      changes.eventTypes(organizationId);
      const deleted = await sql.run(
        "delete from event_types where organization_id = ? and name = ?",
        organizationId,
        name,
      );
      return deleted > 0;
    },
  };
}

function toEventType(row: Row): EventType {
  return {
    organizationId: row["organization_id"] as string,
    name: row["name"] as string,
    description: row["description"] as string,
    archived: row["archived"] === 1,
    deprecated: row["deprecated"] === 1,
    schemas: row["schemas"] as string | null,
    featureFlags: fromJson(row["feature_flags"]) as EventType["featureFlags"],
    groupName: row["group_name"] as string | null,
    createdAt: row["created_at"] as number,
    updatedAt: row["updated_at"] as number,
  };
}
