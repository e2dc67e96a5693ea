import { insertDelivery, toDelivery } from "./deliveries.ts";
import { toMessage } from "./messages.ts";
import type { Changes, Sql } from "./sql.ts";
import {
  StaleError,
  type Acceptance,
  type DueDelivery,
  type EndpointClaim,
  type Outcome,
  type Tx,
} from "./store.ts";

/** What every event goes through: accepted, claimed where memory had no room for it, settled. */
export interface HotPath {
  /** See `Store.accept`. */
  accept(acceptance: Acceptance): Promise<void>;
  /** See `Store.settle`. */
  settle(outcome: Outcome): Promise<boolean>;
  /** See `Store.claim`. */
  claim(
    claims: readonly EndpointClaim[],
    node: number,
    now: number,
    maxBytes?: number,
  ): Promise<{ due: DueDelivery[]; nextDueAt: Map<string, number | null> }>;
}

/** The hot path statement by statement, for a database that answers at once. */
export function createHotPath(sql: Sql, changes: Changes, tx: Tx): HotPath {
  return {
    async accept({ message, version, deliveries, answer }) {
      const row = await sql.get("select version from applications where id = ?", message.applicationId);
      if (row?.["version"] !== version) throw new StaleError("the application has changed");
      if (answer) await tx.idempotency.insert(answer, message.createdAt);
      await tx.messages.insert(message);
      for (const delivery of deliveries) await insertDelivery(sql, changes, delivery);
    },

    settle: (outcome) => tx.deliveries.record(outcome),

    async claim(claims, node, now, maxBytes = Infinity) {
      let bytes = 0;
      const due: DueDelivery[] = [];
      const nextDueAt = new Map<string, number | null>();
      for (const { endpointId, limit } of claims) {
        const rows = await sql.all(
          `select message_id from deliveries
           where state = 'pending' and leased_by = 0 and endpoint_id = ? and next_attempt_at <= ?
           order by next_attempt_at limit ?`,
          endpointId,
          now,
          limit,
        );
        for (const { message_id: messageId } of rows) {
          if (bytes >= maxBytes) break;
          const row = await sql.get(
            "update deliveries set leased_by = ? where message_id = ? and endpoint_id = ? returning *",
            node,
            messageId as string,
            endpointId,
          );
          const message =
            row &&
            (await sql.get(
              "select * from messages where application_id = ? and id = ?",
              row["application_id"] as string,
              messageId as string,
            ));
          if (!message) continue;
          const taken = { delivery: toDelivery(row), message: toMessage(message) };
          bytes += taken.message.payload?.byteLength ?? 0;
          due.push(taken);
        }
        const next = await sql.get(
          `select min(next_attempt_at) as due_at from deliveries
           where state = 'pending' and leased_by = 0 and endpoint_id = ?`,
          endpointId,
        );
        nextDueAt.set(endpointId, (next?.["due_at"] as number | null) ?? null);
      }
      return { due, nextDueAt };
    },
  };
}
