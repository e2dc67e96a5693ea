import type { AttemptTrigger, DeliveryState } from "../core/delivery.ts";
import { fromJson, listPage, type Row, type Sql } from "./sql.ts";
import type { Page } from "./store.ts";

/** An application as those who watch it know it. */
interface WatchedApplication {
  readonly id: string;
  readonly uid: string | null;
  /** Changes with each change of the application or one of its endpoints. */
  readonly version: number;
}

/** An endpoint as those who watch it know it; nothing of it is secret. */
export interface WatchedEndpoint {
  readonly id: string;
  readonly uid: string | null;
  readonly applicationId: string;
  readonly disabled: boolean;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** Which row, and whose: of a message its application, of an attempt its endpoint. */
export interface RecentKey {
  readonly id: string;
  readonly ownerId: string;
}

/** A message without its payload. */
export interface RecentMessage {
  readonly id: string;
  readonly applicationId: string;
  readonly eventType: string;
  readonly eventId: string | null;
  readonly channels: readonly string[] | null;
  readonly tags: readonly string[];
  readonly createdAt: number;
}

/** An attempt without the answer's text, and how its delivery stands now. */
export interface RecentAttempt {
  readonly id: string;
  readonly messageId: string;
  readonly endpointId: string;
  readonly applicationId: string;
  readonly url: string;
  readonly succeeded: boolean;
  readonly responseStatusCode: number;
  readonly durationMs: number;
  readonly trigger: AttemptTrigger;
  readonly startedAt: number;
  /** Of its message; null where that is gone. */
  readonly eventType: string | null;
  readonly eventId: string | null;
  /** Null where it is gone with its endpoint. */
  readonly delivery: {
    readonly state: DeliveryState;
    readonly attempts: number;
    readonly nextAttemptAt: number | null;
  } | null;
}

/**
 * What was stored of late, by any node. Ids are given in the order of time, so that what is new stands at the end of an
 * index: however much there is, a look costs as much as there is behind `after`, and a step for each owner.
 */
export interface Recent {
  /** An organization's applications by id; only the given one where that is not null. */
  listApplications(
    of: { readonly organizationId: string; readonly applicationId: string | null },
    page: Page,
  ): Promise<WatchedApplication[]>;
  listEndpoints(applicationIds: readonly string[]): Promise<WatchedEndpoint[]>;
  /** The newest `limit` messages of the applications whose ids come after `after`, in no order. */
  messageKeys(applicationIds: readonly string[], after: string, limit: number): Promise<RecentKey[]>;
  /** The newest `limit` attempts at the endpoints whose ids come after `after`, in no order. */
  attemptKeys(endpointIds: readonly string[], after: string, limit: number): Promise<RecentKey[]>;
  /** Of one application; those that are gone are left out. */
  listMessages(applicationId: string, ids: readonly string[]): Promise<RecentMessage[]>;
  /** Of one endpoint; those that are gone are left out. */
  listAttempts(endpointId: string, ids: readonly string[]): Promise<RecentAttempt[]>;
}

export function createRecent(sql: Sql): Recent {
  /** In as few rows as there are owners: making a thousand rows takes longer than finding them. */
  const listKeys = async (
    table: "messages" | "attempts",
    owner: "application_id" | "endpoint_id",
    ownerIds: readonly string[],
    after: string,
    limit: number,
  ): Promise<RecentKey[]> => {
    const rows = await sql.all(
      `select owner_id, string_agg(id, ',') as ids from (
         select id, ${owner} as owner_id from ${table} where ${owner} ${sql.isListed} and id > ?
         order by id desc limit ?
       ) as newest group by owner_id`,
      JSON.stringify(ownerIds),
      after,
      limit,
    );
    return rows.flatMap((row) => {
      const ownerId = row["owner_id"] as string;
      return (row["ids"] as string).split(",").map((id) => ({ id, ownerId }));
    });
  };

  return {
    async listApplications({ organizationId, applicationId }, page) {
      const rows = await listPage(
        sql,
        "select id, uid, version from applications",
        [
          ["organization_id = ?", organizationId],
          ["id = ?", applicationId ?? undefined],
        ],
        "id",
        page,
      );
      return rows.map((row) => ({
        id: row["id"] as string,
        uid: row["uid"] as string | null,
        version: row["version"] as number,
      }));
    },

    async listEndpoints(applicationIds) {
      const rows = await sql.all(
        `select id, uid, application_id, disabled, created_at, updated_at from endpoints
         where application_id ${sql.isListed} order by id`,
        JSON.stringify(applicationIds),
      );
      return rows.map((row) => ({
        id: row["id"] as string,
        uid: row["uid"] as string | null,
        applicationId: row["application_id"] as string,
        disabled: row["disabled"] === 1,
        createdAt: row["created_at"] as number,
        updatedAt: row["updated_at"] as number,
      }));
    },

    messageKeys: (applicationIds, after, limit) =>
      listKeys("messages", "application_id", applicationIds, after, limit),

    attemptKeys: (endpointIds, after, limit) =>
      listKeys("attempts", "endpoint_id", endpointIds, after, limit),

    async listMessages(applicationId, ids) {
      const rows = await sql.all(
        `select id, application_id, event_type, event_id, channels, tags, created_at from messages
         where application_id = ? and id ${sql.isListed}`,
        applicationId,
        JSON.stringify(ids),
      );
      return rows.map((row) => ({
        id: row["id"] as string,
        applicationId: row["application_id"] as string,
        eventType: row["event_type"] as string,
        eventId: row["event_id"] as string | null,
        channels: fromJson(row["channels"]) as readonly string[] | null,
        tags: fromJson(row["tags"]) as readonly string[],
        createdAt: row["created_at"] as number,
      }));
    },

    async listAttempts(endpointId, ids) {
      const rows = await sql.all(
        `select attempts.id, attempts.message_id, attempts.endpoint_id, attempts.application_id, attempts.url,
           attempts.succeeded, attempts.response_status_code, attempts.duration_ms, attempts.trigger_type,
           attempts.started_at, messages.event_type, messages.event_id, deliveries.state,
           deliveries.attempts as attempts_made, deliveries.next_attempt_at
         from attempts
         left join messages
           on messages.application_id = attempts.application_id and messages.id = attempts.message_id
         left join deliveries
           on deliveries.message_id = attempts.message_id and deliveries.endpoint_id = attempts.endpoint_id
         where attempts.endpoint_id = ? and attempts.id ${sql.isListed}`,
        endpointId,
        JSON.stringify(ids),
      );
      return rows.map(toRecentAttempt);
    },
  };
}

function toRecentAttempt(row: Row): RecentAttempt {
  const state = row["state"] as DeliveryState | null;
  return {
    id: row["id"] as string,
    messageId: row["message_id"] as string,
    endpointId: row["endpoint_id"] as string,
    applicationId: row["application_id"] as string,
    url: row["url"] as string,
    succeeded: row["succeeded"] === 1,
    responseStatusCode: row["response_status_code"] as number,
    durationMs: row["duration_ms"] as number,
    trigger: row["trigger_type"] as AttemptTrigger,
    startedAt: row["started_at"] as number,
    eventType: row["event_type"] as string | null,
    eventId: row["event_id"] as string | null,
    delivery:
      state === null
        ? null
        : {
            state,
            attempts: row["attempts_made"] as number,
            nextAttemptAt: row["next_attempt_at"] as number | null,
          },
  };
}
