import type { Message } from "../core/message.ts";
import { fromJson, listPage, toJson, type Filter, type Row, type Sql } from "./sql.ts";
import type { MessageFilter, Tx } from "./store.ts";

export function createMessages(sql: Sql): Tx["messages"] {
  return {
    async insert(message) {
      await sql.run(
        `insert into messages
           (id, application_id, event_type, event_id, channels, tags, ordering_key, payload, payload_expires_at, created_at)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        message.id,
        message.applicationId,
        message.eventType,
        message.eventId,
        toJson(message.channels),
        JSON.stringify(message.tags),
        message.orderingKey,
        message.payload,
        message.payloadExpiresAt,
        message.createdAt,
      );
    },

    async find(applicationId, idOrEventId) {
      const row =
        (await sql.get(
          "select * from messages where application_id = ? and id = ?",
          applicationId,
          idOrEventId,
        )) ??
        (await sql.get(
          "select * from messages where application_id = ? and event_id = ?",
          applicationId,
          idOrEventId,
        ));
      return row && toMessage(row);
    },

    async list(filter, page) {
      const rows = await listPage(sql, "select * from messages", messageFilters(sql, filter), "id", page);
      return rows.map(toMessage);
    },

    async expunge(applicationId, id) {
      const changed = await sql.run(
        "update messages set payload = null, payload_expires_at = null where application_id = ? and id = ?",
        applicationId,
        id,
      );
      return changed > 0;
    },
  };
}

/** The conditions on `messages` that a filter asks for. */
export function messageFilters(sql: Sql, filter: MessageFilter): Filter[] {
  return [
    ["messages.application_id = ?", filter.applicationId],
    [`messages.event_type ${sql.isListed}`, filter.eventTypes && JSON.stringify(filter.eventTypes)],
    [sql.has("messages.channels"), filter.channel],
    [sql.has("messages.tags"), filter.tag],
    ["messages.created_at < ?", filter.before],
    ["messages.created_at > ?", filter.after],
  ];
}

/** From a row that has all columns of `messages`. */
export function toMessage(row: Row): Message {
  return {
    id: row["id"] as string,
    applicationId: row["application_id"] as string,
    eventType: row["event_type"] as string,
    eventId: row["event_id"] as string | null,
    channels: fromJson(row["channels"]) as Message["channels"],
    tags: fromJson(row["tags"]) as Message["tags"],
    orderingKey: row["ordering_key"] as string | null,
    payload: row["payload"] as Uint8Array | null,
    payloadExpiresAt: row["payload_expires_at"] as number | null,
    createdAt: row["created_at"] as number,
  };
}
