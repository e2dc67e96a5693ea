import type { DeliveryState } from "../core/delivery.ts";
import type { Message } from "../core/message.ts";
import { insertDelivery } from "./deliveries.ts";
import { fromJson, toCount, type Changes, type Row, type Sql } from "./sql.ts";

/** A message and how far its way to an endpoint has come; null where it was never sent there. */
export interface Replayable {
  readonly messageId: string;
  readonly state: DeliveryState | null;
}

/** Which messages to look at: behind `after`, up to and with `through`, in the order of their ids. */
interface ReplayWindow {
  readonly applicationId: string;
  readonly endpointId: string;
  readonly after: string;
  readonly through: string;
  readonly limit: number;
}

/** A message that is to be sent, and the order that it takes its place in; null outside of one. */
export interface ReplayedMessage {
  readonly messageId: string;
  readonly order: string | null;
}

/** Sending messages again, many at a time. Each call is one short step. */
export interface Replays {
  /** The application's newest message; undefined when it has none. */
  newest(applicationId: string): Promise<string | undefined>;
  /** Messages that are or were on their way to the endpoint. */
  listSent(window: ReplayWindow): Promise<readonly Replayable[]>;
  /** All messages of the application, with how they stand with the endpoint. */
  listAll(window: ReplayWindow): Promise<readonly Replayable[]>;
  /** Those of the messages whose payload is still there, with all but it. */
  listFull(applicationId: string, messageIds: readonly string[]): Promise<readonly Message[]>;
  /** The status that the last attempt was answered with, for each message that was attempted; 0 where no answer came. */
  lastStatuses(endpointId: string, messageIds: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /**
   * Makes deliveries that have ended pending again, as new ones that were asked for by hand. Those that are in none of
   * the states any more are left alone.
   *
   * @returns how many were made pending
   */
  reopen(
    of: { readonly applicationId: string; readonly endpointId: string },
    messages: readonly ReplayedMessage[],
    states: readonly DeliveryState[],
    now: number,
  ): Promise<number>;
  /** Makes deliveries for messages that the endpoint never had one of. Answers how many. */
  add(
    of: { readonly applicationId: string; readonly endpointId: string },
    messages: readonly ReplayedMessage[],
    now: number,
  ): Promise<number>;
  /**
   * How many of an endpoint's deliveries are due, on their way or waiting for their turn, counted up to `limit`. Retries of
   * a later time are not among them.
   */
  countWaiting(endpointId: string, now: number, limit: number): Promise<number>;
}

export function createReplays(sql: Sql, changes: Changes): Replays {
  const insert = async (
    { applicationId, endpointId }: { readonly applicationId: string; readonly endpointId: string },
    { messageId, order }: ReplayedMessage,
    now: number,
  ): Promise<void> => {
    await insertDelivery(sql, changes, {
      messageId,
      endpointId,
      applicationId,
      state: "pending",
      attempts: 0,
      nextAttemptAt: now,
      leasedBy: null,
      trigger: "manual",
      order,
    });
  };

  return {
    async newest(applicationId) {
      const row = await sql.get(
        "select id from messages where application_id = ? order by id desc limit 1",
        applicationId,
      );
      return row?.["id"] as string | undefined;
    },

    async listSent({ endpointId, after, through, limit }) {
      const rows = await sql.all(
        `select message_id, state from deliveries
         where endpoint_id = ? and message_id > ? and message_id <= ? order by message_id limit ?`,
        endpointId,
        after,
        through,
        limit,
      );
      return rows.map(toReplayable);
    },

    async listAll({ applicationId, endpointId, after, through, limit }) {
      const rows = await sql.all(
        `select messages.id as message_id, deliveries.state from messages
         left join deliveries on deliveries.message_id = messages.id and deliveries.endpoint_id = ?
         where messages.application_id = ? and messages.id > ? and messages.id <= ?
         order by messages.id limit ?`,
        endpointId,
        applicationId,
        after,
        through,
        limit,
      );
      return rows.map(toReplayable);
    },

    async listFull(applicationId, messageIds) {
      const rows = await sql.all(
        `select id, event_type, event_id, channels, tags, ordering_key, payload_expires_at, created_at from messages
         where application_id = ? and id ${sql.isListed} and payload is not null order by id`,
        applicationId,
        JSON.stringify(messageIds),
      );
      return rows.map((row) => ({
        id: row["id"] as string,
        applicationId,
        eventType: row["event_type"] as string,
        eventId: row["event_id"] as string | null,
        channels: fromJson(row["channels"]) as Message["channels"],
        tags: fromJson(row["tags"]) as Message["tags"],
        orderingKey: row["ordering_key"] as string | null,
        payload: null,
        payloadExpiresAt: row["payload_expires_at"] as number | null,
        createdAt: row["created_at"] as number,
      }));
    },

    async lastStatuses(endpointId, messageIds) {
      const rows = await sql.all(
        `select message_id, response_status_code from attempts
         where message_id ${sql.isListed} and endpoint_id = ? order by message_id, id`,
        JSON.stringify(messageIds),
        endpointId,
      );
      return new Map(rows.map((row) => [row["message_id"] as string, row["response_status_code"] as number]));
    },

    async reopen({ applicationId, endpointId }, messages, states, now) {
      const inStates = `state ${sql.isListed}`;
      const stateList = JSON.stringify(states);
      let reopened = 0;
      // A place in an order is given one by one.
      for (const message of messages) {
        if (message.order === null) continue;
        const ended = await sql.run(
          `delete from deliveries where message_id = ? and endpoint_id = ? and ${inStates}`,
          message.messageId,
          endpointId,
          stateList,
        );
        if (ended === 0) continue;
        await insert({ applicationId, endpointId }, message, now);
        reopened++;
      }
      const unordered = messages.filter(({ order }) => order === null);
      if (unordered.length === 0) return reopened;
      const updated = await sql.run(
        `update deliveries
         set state = 'pending', attempts = 0, next_attempt_at = ?, leased_by = 0, trigger_type = 'manual',
             ordering_key = null, sequence = null
         where message_id ${sql.isListed} and endpoint_id = ? and ${inStates}`,
        now,
        JSON.stringify(unordered.map(({ messageId }) => messageId)),
        endpointId,
        stateList,
      );
      if (updated > 0) changes.due({ applicationId, endpointId }, now);
      return reopened + updated;
    },

    async add(of, messages, now) {
      let added = 0;
      for (const message of messages) {
        const known = await sql.get(
          "select 1 from deliveries where message_id = ? and endpoint_id = ?",
          message.messageId,
          of.endpointId,
        );
        if (known) continue;
        await insert(of, message, now);
        added++;
      }
      return added;
    },

    async countWaiting(endpointId, now, limit) {
      return toCount(
        await sql.get(
          `select count(*) from (
             select message_id from deliveries
             where state = 'pending' and leased_by in (select number from nodes union all select 0) and endpoint_id = ?
               and (next_attempt_at is null or next_attempt_at <= ?) limit ?) as waiting`,
          endpointId,
          now,
          limit,
        ),
      );
    },
  };
}

function toReplayable(row: Row): Replayable {
  return {
    messageId: row["message_id"] as string,
    state: (row["state"] as DeliveryState | null) ?? null,
  };
}
