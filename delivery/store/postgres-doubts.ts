import type { ClientBase, Pool } from "pg";
import { setTimeout as sleep } from "node:timers/promises";
import { ChangeLog } from "./change-log.ts";
import { bigintArray, textArray } from "./postgres-arrays.ts";
import { named, prepare } from "./postgres.ts";
import type { Row } from "./sql.ts";

/** A delivery as far as it matters who holds it. */
export interface HeldDelivery {
  readonly messageId: string;
  readonly endpointId: string;
  readonly leasedBy: number | null;
}

/**
 * Transactions whose commit was sent and never answered. Their callers were told of an outage, so nobody has in memory
 * what such a transaction leased to this node if it was committed after all: that is given back once the database answers.
 */
export interface Doubts {
  /** @param client the connection that was lost */
  add(client: ClientBase, deliveries: readonly HeldDelivery[]): void;
  /** Leaves the rest to whoever takes over what this node held. */
  close(): Promise<void>;
}

interface Doubt {
  readonly session: number | null;
  readonly deliveries: readonly HeldDelivery[];
}

const firstDelayMs = 100;
const longestDelayMs = 2_000;
/** Doubtful deliveries of one statement. */
const maxAtOnce = 1_000;

const endSession = prepare(
  "select pg_terminate_backend(pid) from pg_stat_activity where pid = ? and usename = current_user",
);

const giveBack = prepare(
  `update deliveries set leased_by = 0
   from unnest(?::text[], ?::text[], ?::bigint[]) as given (message_id, endpoint_id, leased_by)
   where deliveries.message_id = given.message_id and deliveries.endpoint_id = given.endpoint_id
     and deliveries.leased_by = given.leased_by and deliveries.state = 'pending'
   returning deliveries.endpoint_id, deliveries.application_id, deliveries.next_attempt_at`,
);

/** @param tell what has become due by being given back */
export function createDoubts(pool: Pool, tell: (changes: ChangeLog) => void): Doubts {
  const doubts: Doubt[] = [];
  const closing = new AbortController();
  let resolving: Promise<void> | null = null;

  async function resolve(): Promise<void> {
    for (let delayMs = firstDelayMs; doubts.length > 0; delayMs = Math.min(delayMs * 2, longestDelayMs)) {
      await sleep(delayMs, undefined, { signal: closing.signal }).catch(() => undefined);
      if (closing.signal.aborted) return;
      try {
        const client = await pool.connect();
        let isDone = false;
        try {
          while (doubts[0] !== undefined && (await settle(client, doubts[0]))) doubts.shift();
          isDone = true;
        } finally {
          client.release(!isDone);
        }
      } catch {
        // Not there yet: the next try is due soon.
      }
    }
  }

  /** Answers whether that doubt is over. */
  async function settle(client: ClientBase, { session, deliveries }: Doubt): Promise<boolean> {
    // A server that was slow, or cut off, may still have the commit before it.
    if (session !== null) {
      const { rowCount } = await client.query({ ...named(endSession), values: [session] });
      if (rowCount !== 0) return false;
    }
    const changes = new ChangeLog();
    for (let from = 0; from < deliveries.length; from += maxAtOnce) {
      const some = deliveries.slice(from, from + maxAtOnce);
      const { rows } = await client.query<Row>({
        ...named(giveBack),
        values: [
          textArray(some, ({ messageId }) => messageId),
          textArray(some, ({ endpointId }) => endpointId),
          bigintArray(some, ({ leasedBy }) => leasedBy),
        ],
      });
      for (const row of rows) {
        const dueAt = row["next_attempt_at"] as number | null;
        const endpointId = row["endpoint_id"] as string;
        if (dueAt !== null)
          changes.due({ endpointId, applicationId: row["application_id"] as string }, dueAt);
      }
    }
    tell(changes);
    return true;
  }

  return {
    add(client, deliveries) {
      const held = deliveries.filter(({ leasedBy }) => leasedBy !== null);
      if (held.length === 0 || closing.signal.aborted) return;
      const session = (client as { processID?: number | null }).processID ?? null;
      doubts.push({
        session,
        deliveries: held.map(({ messageId, endpointId, leasedBy }) => ({ messageId, endpointId, leasedBy })),
      });
      resolving ??= resolve().finally(() => {
        resolving = null;
      });
    },
    async close() {
      closing.abort();
      await resolving;
    },
  };
}
