import type { AttemptTrigger, Delivery, DeliveryState } from "../core/delivery.ts";
import { messageFilters, toMessage } from "./messages.ts";
import { listPage, type Row, type Sql } from "./sql.ts";
import type { Tx } from "./store.ts";

export function createDeliveries(sql: Sql): Tx["deliveries"] {
  return {
    async insert(deliveries) {
      for (const delivery of deliveries) {
        // An endpoint that was deleted since the publisher looked gets nothing.
        await sql.run(
          `insert into deliveries
             (message_id, endpoint_id, application_id, state, attempts, next_attempt_at, leased_until, claimable_at,
              trigger_type)
           select ?, id, application_id, ?, ?, ?, ?, ?, ? from endpoints where id = ?`,
          delivery.messageId,
          delivery.state,
          delivery.attempts,
          delivery.nextAttemptAt,
          delivery.leasedUntil,
          claimableAt(delivery),
          delivery.trigger,
          delivery.endpointId,
        );
      }
    },

    async find(messageId, endpointId) {
      const row = await sql.get(
        "select * from deliveries where message_id = ? and endpoint_id = ?",
        messageId,
        endpointId,
      );
      return row && toDelivery(row);
    },

    async listByMessage(messageId) {
      const rows = await sql.all(
        "select * from deliveries where message_id = ? order by endpoint_id",
        messageId,
      );
      return rows.map(toDelivery);
    },

    async listByEndpoint(endpointId, filter, page) {
      const rows = await listPage(
        sql,
        `select deliveries.*, messages.* from deliveries
         join messages on messages.application_id = deliveries.application_id and messages.id = deliveries.message_id`,
        [
          ["deliveries.endpoint_id = ?", endpointId],
          ["deliveries.state = ?", filter.state],
          ...messageFilters(sql, filter),
        ],
        "deliveries.message_id",
        page,
      );
      return rows.map((row) => ({ delivery: toDelivery(row), message: toMessage(row) }));
    },

    async claim({ now, leasedUntil, limit, busyEndpointIds }) {
      const due = await sql.all(
        `select message_id, endpoint_id from deliveries
         where claimable_at <= ? and endpoint_id not in ${sql.listed}
         order by claimable_at limit ?`,
        now,
        JSON.stringify(busyEndpointIds),
        limit,
      );
      const claimed = [];
      for (const { message_id: messageId, endpoint_id: endpointId } of due) {
        const delivery = await sql.get(
          `update deliveries set leased_until = ?, claimable_at = ?
           where message_id = ? and endpoint_id = ? returning *`,
          leasedUntil,
          leasedUntil,
          messageId as string,
          endpointId as string,
        );
        const message =
          delivery &&
          (await sql.get(
            "select * from messages where application_id = ? and id = ?",
            delivery["application_id"] as string,
            messageId as string,
          ));
        if (message) claimed.push({ delivery: toDelivery(delivery), message: toMessage(message) });
      }
      return claimed;
    },

    async settle(settlements) {
      for (const settlement of settlements) {
        await sql.run(
          `update deliveries
           set state = ?, attempts = ?, next_attempt_at = ?, leased_until = ?, claimable_at = ?, trigger_type = ?
           where message_id = ? and endpoint_id = ?`,
          settlement.state,
          settlement.attempts,
          settlement.nextAttemptAt,
          settlement.leasedUntil,
          claimableAt(settlement),
          settlement.trigger,
          settlement.messageId,
          settlement.endpointId,
        );
      }
    },

    async nextDueAt({ busyEndpointIds }) {
      const row = await sql.get(
        `select claimable_at from deliveries
         where claimable_at is not null and endpoint_id not in ${sql.listed}
         order by claimable_at limit 1`,
        JSON.stringify(busyEndpointIds),
      );
      return row ? (row["claimable_at"] as number) : null;
    },

    async releaseAll() {
      return await sql.run(
        `update deliveries set leased_until = null, claimable_at = next_attempt_at
         where claimable_at is not null and leased_until is not null`,
      );
    },
  };
}

/** When a claim may take it; null once it is settled. */
function claimableAt(delivery: Pick<Delivery, "state" | "nextAttemptAt" | "leasedUntil">): number | null {
  return delivery.state === "pending" ? (delivery.leasedUntil ?? delivery.nextAttemptAt) : null;
}

function toDelivery(row: Row): Delivery {
  return {
    messageId: row["message_id"] as string,
    endpointId: row["endpoint_id"] as string,
    applicationId: row["application_id"] as string,
    state: row["state"] as DeliveryState,
    attempts: row["attempts"] as number,
    nextAttemptAt: row["next_attempt_at"] as number | null,
    leasedUntil: row["leased_until"] as number | null,
    trigger: row["trigger_type"] as AttemptTrigger,
  };
}
