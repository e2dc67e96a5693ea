import type { AttemptTrigger, Delivery, DeliveryState } from "../core/delivery.ts";
import { firstIdAt } from "../core/ids.ts";
import { lockOrder, takeSequence } from "./endpoint-states.ts";
import { messageFilters, toMessage } from "./messages.ts";
import { listPage, type Changes, type Row, type Sql } from "./sql.ts";
import type { NewDelivery, Tx } from "./store.ts";

export function createDeliveries(
  sql: Sql,
  changes: Changes,
  { attempts, endpointStates }: Pick<Tx, "attempts" | "endpointStates">,
): Tx["deliveries"] {
  return {
    async insert(deliveries) {
      for (const delivery of deliveries) {
        const known = await sql.get("select 1 from endpoints where id = ?", delivery.endpointId);
        if (known) await insertDelivery(sql, changes, delivery);
      }
    },

    async find(messageId, endpointId) {
      const row = await sql.get(
        `select * from deliveries where message_id = ? and endpoint_id = ?${sql.forUpdate}`,
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
        `select deliveries.*, deliveries.ordering_key as place_key, messages.* from deliveries
         join messages on messages.application_id = deliveries.application_id and messages.id = deliveries.message_id`,
        [
          ["deliveries.endpoint_id = ?", endpointId],
          ["deliveries.state = ?", filter.state],
          ...messageFilters(sql, filter),
        ],
        "deliveries.message_id",
        page,
      );
      return rows.map((row) => ({
        // Both tables have a column of that name.
        delivery: toDelivery({ ...row, ordering_key: row["place_key"] }),
        message: toMessage(row),
      }));
    },

    async countByEndpoint(endpointId, { since, until }, { after, limit }) {
      // An id's time is never before its message's.
      const behind = [after, firstIdAt("msg", since)].sort().at(-1) ?? after;
      const rows = await sql.all(
        `select deliveries.message_id, deliveries.state, messages.created_at from deliveries
         join messages on messages.application_id = deliveries.application_id and messages.id = deliveries.message_id
         where deliveries.endpoint_id = ? and deliveries.message_id > ? order by deliveries.message_id limit ?`,
        endpointId,
        behind,
        limit,
      );
      const counts = new Map<DeliveryState, number>();
      for (const row of rows) {
        const createdAt = row["created_at"] as number;
        const state = row["state"] as DeliveryState;
        if (createdAt >= since && createdAt <= until) counts.set(state, (counts.get(state) ?? 0) + 1);
      }
      const last = rows.at(-1)?.["message_id"] as string | undefined;
      return { counts, after: last === undefined || rows.length < limit ? null : last };
    },

    async listHeads(endpointId, limit) {
      const rows = await sql.all(
        `select deliveries.*, places.behind from deliveries
         join (
           select ordering_key as of_key, min(sequence) as first, count(*) - 1 as behind from deliveries
           where endpoint_id = ? and state = 'pending' and sequence is not null group by ordering_key
         ) as places on places.of_key = deliveries.ordering_key and places.first = deliveries.sequence
         where endpoint_id = ? and state = 'pending' and sequence is not null
         order by sequence limit ?`,
        endpointId,
        endpointId,
        limit,
      );
      return rows.map((row) => ({ delivery: toDelivery(row), behind: Number(row["behind"]) }));
    },

    async record({ attempt, delivery, node, now, endpointState }) {
      if (!(await settleDelivery(sql, changes, delivery, node, now))) return false;
      if (attempt) await attempts.insert([attempt]);
      if (endpointState) await endpointStates.save(delivery.endpointId, endpointState);
      return true;
    },

    async settle(deliveries, now) {
      for (const delivery of deliveries) await settleDelivery(sql, changes, delivery, null, now);
    },

    async settleUnheld(delivery, now) {
      return await settleDelivery(sql, changes, delivery, nobody, now);
    },

    async listDue() {
      // One step for each endpoint, however much it has waiting.
      const rows = await sql.all(
        `with recursive waiting (id) as (
           select min(endpoint_id) from deliveries
           where state = 'pending' and leased_by = 0 and next_attempt_at is not null
           union all
           select (
             select min(endpoint_id) from deliveries
             where state = 'pending' and leased_by = 0 and next_attempt_at is not null and endpoint_id > waiting.id)
           from waiting where waiting.id is not null
         )
         select waiting.id, endpoints.application_id, (
           select min(next_attempt_at) from deliveries
           where state = 'pending' and leased_by = 0 and endpoint_id = waiting.id) as due_at
         from waiting join endpoints on endpoints.id = waiting.id`,
      );
      return new Map(
        rows.map((row) => [
          row["id"] as string,
          { applicationId: row["application_id"] as string, at: row["due_at"] as number },
        ]),
      );
    },

    async release(node) {
      return await sql.run(
        "update deliveries set leased_by = 0 where state = 'pending' and leased_by = ?",
        node,
      );
    },

    async countPending() {
      // Grouped as the index of what is pending has them: by endpoint alone, SQLite would go through all there ever were.
      const rows = await sql.all(
        `select endpoints.application_id, sum(counted.amount) as amount from (
           select endpoint_id, count(*) as amount from deliveries where state = 'pending' group by leased_by, endpoint_id
         ) as counted
         join endpoints on endpoints.id = counted.endpoint_id group by endpoints.application_id`,
      );
      return new Map(rows.map((row) => [row["application_id"] as string, Number(row["amount"])]));
    },
  };
}

/** What the column says of a delivery that no node holds. */
const nobody = 0;

/** Stores a new delivery; in an order, it is due only when nothing is before it. */
export async function insertDelivery(sql: Sql, changes: Changes, delivery: NewDelivery): Promise<void> {
  let { nextAttemptAt } = delivery;
  let sequence: number | null = null;
  if (delivery.order !== null) {
    sequence = await takeSequence(sql, delivery.endpointId);
    const earlier = await sql.get(
      `select 1 from deliveries where endpoint_id = ? and ordering_key = ? and state = 'pending' and sequence is not null
       limit 1`,
      delivery.endpointId,
      delivery.order,
    );
    if (earlier) nextAttemptAt = null;
  }
  await sql.run(
    `insert into deliveries
       (message_id, endpoint_id, application_id, state, attempts, next_attempt_at, leased_by, trigger_type, ordering_key,
        sequence)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    delivery.messageId,
    delivery.endpointId,
    delivery.applicationId,
    delivery.state,
    delivery.attempts,
    nextAttemptAt,
    delivery.leasedBy ?? 0,
    delivery.trigger,
    delivery.order,
    sequence,
  );
  if (delivery.leasedBy === null && nextAttemptAt !== null) changes.due(delivery, nextAttemptAt);
}

/**
 * Writes a delivery down as it stands; in an order, the next one becomes due when it has ended.
 *
 * @param node the node that must hold it; null where that does not matter
 * @returns whether it was written
 */
async function settleDelivery(
  sql: Sql,
  changes: Changes,
  delivery: Delivery,
  node: number | null,
  now: number,
): Promise<boolean> {
  const { place } = delivery;
  if (place !== null) await lockOrder(sql, delivery.endpointId);
  const text = `update deliveries
     set state = ?, attempts = ?, next_attempt_at = ?, leased_by = ?, trigger_type = ?, ordering_key = ?, sequence = ?
     where message_id = ? and endpoint_id = ?`;
  const values = [
    delivery.state,
    delivery.attempts,
    delivery.nextAttemptAt,
    delivery.leasedBy ?? 0,
    delivery.trigger,
    place?.key ?? null,
    place?.sequence ?? null,
    delivery.messageId,
    delivery.endpointId,
  ];
  const written =
    node === null
      ? await sql.run(text, ...values)
      : await sql.run(`${text} and leased_by = ? and state = 'pending'`, ...values, node);
  if (written === 0) return false;
  if (delivery.state === "pending") {
    if (delivery.leasedBy === null && delivery.nextAttemptAt !== null) {
      changes.due(delivery, delivery.nextAttemptAt);
    }
  } else if (place !== null) {
    await advanceOrder(sql, changes, delivery, place, now);
  }
  return true;
}

/** Makes the delivery due that stands first now. One that stood first before keeps its time, or waits for a hand. */
async function advanceOrder(
  sql: Sql,
  changes: Changes,
  ended: Delivery,
  place: { readonly key: string; readonly sequence: number },
  now: number,
): Promise<void> {
  const head = await sql.get(
    `select message_id, sequence, next_attempt_at, leased_by from deliveries
     where endpoint_id = ? and ordering_key = ? and state = 'pending' and sequence is not null
     order by sequence limit 1`,
    ended.endpointId,
    place.key,
  );
  if (!head || (head["sequence"] as number) < place.sequence) return;
  if (head["next_attempt_at"] !== null || head["leased_by"] !== 0) return;
  await sql.run(
    "update deliveries set next_attempt_at = ? where message_id = ? and endpoint_id = ?",
    now,
    head["message_id"] as string,
    ended.endpointId,
  );
  changes.due(ended, now);
}

export function toDelivery(row: Row): Delivery {
  const sequence = row["sequence"] as number | null;
  return {
    messageId: row["message_id"] as string,
    endpointId: row["endpoint_id"] as string,
    applicationId: row["application_id"] as string,
    state: row["state"] as DeliveryState,
    attempts: row["attempts"] as number,
    nextAttemptAt: row["next_attempt_at"] as number | null,
    leasedBy: (row["leased_by"] as number) || null,
    trigger: row["trigger_type"] as AttemptTrigger,
    place: sequence === null ? null : { key: row["ordering_key"] as string, sequence },
  };
}
