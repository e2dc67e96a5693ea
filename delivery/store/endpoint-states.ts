import type { EndpointState } from "../core/endpoint-state.ts";
import type { Row, Sql } from "./sql.ts";
import type { Tx } from "./store.ts";

export function createEndpointStates(sql: Sql): Tx["endpointStates"] {
  return {
    async list(applicationId) {
      const rows = await sql.all(
        `select endpoint_states.* from endpoint_states
         join endpoints on endpoints.id = endpoint_states.endpoint_id where endpoints.application_id = ?`,
        applicationId,
      );
      return new Map(rows.map((row) => [row["endpoint_id"] as string, toState(row)]));
    },

    async save(endpointId, state) {
      await sql.run(
        `insert into endpoint_states
           (endpoint_id, failing_since, failures, openings, open_until, next_slot_us, next_sequence)
         values (?, ?, ?, ?, ?, 0, 1)
         on conflict (endpoint_id) do update set failing_since = excluded.failing_since, failures = excluded.failures,
           openings = excluded.openings, open_until = excluded.open_until`,
        endpointId,
        state.failingSince,
        state.failures,
        state.openings,
        state.openUntil,
      );
    },

    async takeProbe(endpointId, openUntil, nextOpenUntil) {
      const taken = await sql.run(
        "update endpoint_states set open_until = ? where endpoint_id = ? and open_until = ?",
        nextOpenUntil,
        endpointId,
        openUntil,
      );
      return taken > 0;
    },

    async takeSlots(endpointId, ratePerSecond, count, now) {
      const nowUs = Math.round(now * 1_000);
      const takenUs = Math.round((count * 1_000_000) / ratePerSecond);
      const row = await sql.get(
        `insert into endpoint_states
           (endpoint_id, failing_since, failures, openings, open_until, next_slot_us, next_sequence)
         values (?, null, 0, 0, null, ?, 1)
         on conflict (endpoint_id) do update set next_slot_us =
           case when endpoint_states.next_slot_us > ? then endpoint_states.next_slot_us else ? end + ?
         returning next_slot_us`,
        endpointId,
        nowUs + takenUs,
        nowUs,
        nowUs,
        takenUs,
      );
      return ((row?.["next_slot_us"] as number) - takenUs) / 1_000;
    },
  };
}

/** Gives the next place in an endpoint's order, which nobody else can have until this transaction ends. */
export async function takeSequence(sql: Sql, endpointId: string): Promise<number> {
  const row = await sql.get(
    `insert into endpoint_states
       (endpoint_id, failing_since, failures, openings, open_until, next_slot_us, next_sequence)
     values (?, null, 0, 0, null, 0, 2)
     on conflict (endpoint_id) do update set next_sequence = endpoint_states.next_sequence + 1
     returning next_sequence`,
    endpointId,
  );
  return (row?.["next_sequence"] as number) - 1;
}

/** Keeps others from an endpoint's order until this transaction ends. */
export async function lockOrder(sql: Sql, endpointId: string): Promise<void> {
  await sql.get(
    `select next_sequence from endpoint_states where endpoint_id = ?${sql.forUpdate}`,
    endpointId,
  );
}

function toState(row: Row): EndpointState {
  return {
    failingSince: row["failing_since"] as number | null,
    failures: row["failures"] as number,
    openings: row["openings"] as number,
    openUntil: row["open_until"] as number | null,
  };
}
