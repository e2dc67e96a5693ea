import type { Attempt, AttemptTrigger } from "../core/delivery.ts";
import { listPage, type Filter, type Row, type Sql } from "./sql.ts";
import type { Tx } from "./store.ts";

export function createAttempts(sql: Sql): Tx["attempts"] {
  return {
    async insert(attempts) {
      for (const attempt of attempts) {
        await sql.run(
          `insert into attempts
             (id, message_id, endpoint_id, application_id, url, succeeded, response_status_code, response, duration_ms,
              trigger_type, started_at)
           values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
          attempt.id,
          attempt.messageId,
          attempt.endpointId,
          attempt.applicationId,
          attempt.url,
          attempt.succeeded ? 1 : 0,
          attempt.responseStatusCode,
          attempt.response,
          attempt.durationMs,
          attempt.trigger,
          attempt.startedAt,
        );
      }
    },

    async find(messageId, attemptId) {
      const row = await sql.get(
        "select * from attempts where message_id = ? and id = ?",
        messageId,
        attemptId,
      );
      return row && toAttempt(row);
    },

    async expunge(messageId, attemptId) {
      const changed = await sql.run(
        "update attempts set response = 'EXPUNGED' where message_id = ? and id = ?",
        messageId,
        attemptId,
      );
      return changed > 0;
    },

    async list(filter, page) {
      const statusCode = filter.statusCodeClass;
      const filters: Filter[] = [
        ["application_id = ?", filter.applicationId],
        ["message_id = ?", filter.messageId],
        ["endpoint_id = ?", filter.endpointId],
        ["succeeded = ?", filter.succeeded === undefined ? undefined : Number(filter.succeeded)],
        ["response_status_code >= ?", statusCode],
        ["response_status_code < ?", statusCode === undefined ? undefined : statusCode + 100],
        ["started_at < ?", filter.before],
        ["started_at > ?", filter.after],
        [ofMessage(`event_type ${sql.isListed}`), filter.eventTypes && JSON.stringify(filter.eventTypes)],
        [ofMessage(sql.has("channels")), filter.channel],
        [ofMessage(sql.has("tags")), filter.tag],
      ];
      const rows = await listPage(sql, "select * from attempts", filters, "id", page);
      return rows.map(toAttempt);
    },
  };
}

/** A condition on the attempt's message. */
function ofMessage(condition: string): string {
  return `exists (
    select 1 from messages
    where messages.application_id = attempts.application_id and messages.id = attempts.message_id and ${condition})`;
}

function toAttempt(row: Row): Attempt {
  return {
    id: row["id"] as string,
    messageId: row["message_id"] as string,
    endpointId: row["endpoint_id"] as string,
    applicationId: row["application_id"] as string,
    url: row["url"] as string,
    succeeded: row["succeeded"] === 1,
    responseStatusCode: row["response_status_code"] as number,
    response: row["response"] as string,
    durationMs: row["duration_ms"] as number,
    trigger: row["trigger_type"] as AttemptTrigger,
    startedAt: row["started_at"] as number,
  };
}
