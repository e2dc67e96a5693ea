import { toCount, type Sql } from "./sql.ts";

/** An application as far as there are messages of it. */
export interface StoredApplication {
  readonly id: string;
  /** It was deleted: all that it left goes. */
  readonly isGone: boolean;
  /** When its oldest message was made. */
  readonly oldestAt: number;
}

/** A stretch of an application's messages, in the order of their ids. */
interface Stretch {
  readonly applicationId: string;
  /** It begins behind this id; empty for the first one. */
  readonly after: string;
  /** It ends at the first message that was made then or later; null for no end. */
  readonly before: number | null;
  /** How many messages are looked at. */
  readonly limit: number;
}

/** What came of a stretch. */
export interface StretchResult {
  /** Messages that were removed, or whose payload was. */
  readonly removed: number;
  /** The bytes that this sets free, estimated. */
  readonly bytes: number;
  /** The id behind which the next stretch begins. */
  readonly after: string;
  /** Whether nothing lies behind it. */
  readonly isEnd: boolean;
}

/** Where in the pending deliveries of one holder a look at their endpoints goes on. */
interface HeldPlace {
  readonly leasedBy: number;
  readonly afterEndpointId: string;
  readonly limit: number;
}

/**
 * Removing what has had its time. Each call is one short step, so that deliveries get their turn in between, and each
 * finds its rows by an index: how many there are in all makes no difference.
 */
export interface Retention {
  /** Lets one node at a time do this: true for the node whose turn it is, as long as it is among the nodes. */
  takeTurn(node: number): Promise<boolean>;
  /** Applications that have messages, in the order of their ids, behind the given one. */
  listApplications(after: string, limit: number): Promise<readonly StoredApplication[]>;
  /** When the first message of an application behind the given one was made; null when there is none. */
  oldestAt(applicationId: string, after: string): Promise<number | null>;
  /**
   * Removes the messages of a stretch with their deliveries and attempts, except those that an endpoint still has to get.
   *
   * @param everything also those: the application is gone
   */
  removeMessages(stretch: Stretch, everything: boolean): Promise<StretchResult>;
  /** Takes the payloads of a stretch away, of messages without a time of their own for it. */
  expungePayloads(stretch: Stretch): Promise<StretchResult>;
  /** Takes the payloads away whose own time was over by `now`. Answers how many. */
  expungeExpiredPayloads(now: number, limit: number): Promise<number>;
  /** The nodes that hold pending deliveries; 0 stands for those that no node holds. */
  listHolders(): Promise<readonly number[]>;
  /** Endpoints that pending deliveries are for, in the order of their ids, with whether each is there. */
  listHeldEndpoints(
    place: HeldPlace,
  ): Promise<readonly { readonly endpointId: string; readonly isGone: boolean }[]>;
  /** Removes pending deliveries of an endpoint that is gone. Answers how many. */
  removePending(endpointId: string, leasedBy: number, limit: number): Promise<number>;
  /** Removes what was learned of endpoints that are gone; answers the id to go on behind, null at the end. */
  removeStates(after: string, limit: number): Promise<string | null>;
  /** Removes tasks that ended before the given time. Answers how many. */
  removeTasks(before: number, limit: number): Promise<number>;
  /** Until when the payloads have been taken away that have no time of their own; 0 when none were. */
  payloadsExpungedUntil(): Promise<number>;
  notePayloadsExpunged(until: number): Promise<void>;
}

/** Besides its payload: a message, with its entries in the indexes. */
const messageBytes = 300;
/** A delivery and its one attempt, the answer's text apart; most messages have few. */
const deliveryBytes = 600;

export function createRetention(sql: Sql): Retention {
  /** The rows of a stretch, and where it ends. */
  async function readStretch({ applicationId, after, before, limit }: Stretch) {
    const rows = await sql.all(
      `select id, created_at, payload_expires_at, length(payload) as payload_bytes from messages
       where application_id = ? and id > ? order by id limit ?`,
      applicationId,
      after,
      limit,
    );
    // Ids are in the order of time, but for clocks that were set: what is behind the first young one waits a little.
    const young = before === null ? -1 : rows.findIndex((row) => (row["created_at"] as number) >= before);
    const within = young === -1 ? rows : rows.slice(0, young);
    return {
      messages: within.map((row) => ({
        id: row["id"] as string,
        expiresAt: row["payload_expires_at"] as number | null,
        payloadBytes: row["payload_bytes"] as number | null,
      })),
      after: (within.at(-1)?.["id"] as string | undefined) ?? after,
      isEnd: young !== -1 || rows.length < limit,
    };
  }

  return {
    async takeTurn(node) {
      const row = await sql.get("select value from facts where name = 'retention_node'");
      const mine = String(node);
      if (row === undefined) {
        const text =
          "insert into facts (name, value) values ('retention_node', ?) on conflict (name) do nothing";
        return (await sql.run(text, mine)) > 0;
      }
      const holder = row["value"] as string;
      if (holder === mine) return true;
      if (await sql.get("select 1 from nodes where number = ?", Number(holder))) return false;
      const text = "update facts set value = ? where name = 'retention_node' and value = ?";
      return (await sql.run(text, mine, holder)) > 0;
    },

    async listApplications(after, limit) {
      // One step for each application, however many messages it has.
      const rows = await sql.all(
        `with recursive found (id, steps) as (
           select min(application_id), 1 from messages where application_id > ?
           union all
           select (select min(application_id) from messages where application_id > found.id), steps + 1
           from found where found.id is not null and steps < ?
         )
         select found.id, applications.id as known,
           (select created_at from messages where application_id = found.id order by id limit 1) as oldest_at
         from found left join applications on applications.id = found.id
         where found.id is not null order by found.id`,
        after,
        limit,
      );
      return rows.map((row) => ({
        id: row["id"] as string,
        isGone: row["known"] === null,
        // Another node may have removed it meanwhile.
        oldestAt: (row["oldest_at"] as number | null) ?? Infinity,
      }));
    },

    async oldestAt(applicationId, after) {
      const row = await sql.get(
        "select created_at from messages where application_id = ? and id > ? order by id limit 1",
        applicationId,
        after,
      );
      return (row?.["created_at"] as number | undefined) ?? null;
    },

    async removeMessages(stretch, everything) {
      const { messages, after, isEnd } = await readStretch(stretch);
      let removable = messages;
      if (!everything && messages.length > 0) {
        // Locked, so that nothing of it is made pending while it is removed.
        const rows = await sql.all(
          `select message_id, state from deliveries where message_id ${sql.isListed}${sql.forUpdate}`,
          JSON.stringify(messages.map(({ id }) => id)),
        );
        const pending = new Set(
          rows.filter((row) => row["state"] === "pending").map((row) => row["message_id"]),
        );
        removable = messages.filter(({ id }) => !pending.has(id));
      }
      if (removable.length === 0) return { removed: 0, bytes: 0, after, isEnd };
      const ids = JSON.stringify(removable.map(({ id }) => id));
      await sql.run(`delete from attempts where message_id ${sql.isListed}`, ids);
      const deliveries = await sql.run(`delete from deliveries where message_id ${sql.isListed}`, ids);
      await sql.run(
        `delete from messages where application_id = ? and id ${sql.isListed}`,
        stretch.applicationId,
        ids,
      );
      const bytes =
        removable.reduce((sum, { payloadBytes }) => sum + messageBytes + (payloadBytes ?? 0), 0) +
        deliveries * deliveryBytes;
      return { removed: removable.length, bytes, after, isEnd };
    },

    async expungePayloads(stretch) {
      const { messages, after, isEnd } = await readStretch(stretch);
      const full = messages.filter(
        ({ expiresAt, payloadBytes }) => expiresAt === null && payloadBytes !== null,
      );
      if (full.length === 0) return { removed: 0, bytes: 0, after, isEnd };
      const removed = await sql.run(
        `update messages set payload = null where application_id = ? and id ${sql.isListed}`,
        stretch.applicationId,
        JSON.stringify(full.map(({ id }) => id)),
      );
      const bytes = full.reduce((sum, { payloadBytes }) => sum + (payloadBytes ?? 0), 0);
      return { removed, bytes, after, isEnd };
    },

    async expungeExpiredPayloads(now, limit) {
      const rows = await sql.all(
        `select application_id, id from messages where payload_expires_at <= ?
         order by payload_expires_at limit ?`,
        now,
        limit,
      );
      for (const row of rows) {
        await sql.run(
          "update messages set payload = null, payload_expires_at = null where application_id = ? and id = ?",
          row["application_id"] as string,
          row["id"] as string,
        );
      }
      return rows.length;
    },

    async listHolders() {
      const rows = await sql.all(
        `with recursive holders (number) as (
           select min(leased_by) from deliveries where state = 'pending'
           union all
           select (select min(leased_by) from deliveries where state = 'pending' and leased_by > holders.number)
           from holders where holders.number is not null
         )
         select number from holders where number is not null`,
      );
      return rows.map((row) => row["number"] as number);
    },

    async listHeldEndpoints({ leasedBy, afterEndpointId, limit }) {
      const rows = await sql.all(
        `with recursive waiting (id, steps) as (
           select min(endpoint_id), 1 from deliveries
           where state = 'pending' and leased_by = ? and endpoint_id > ?
           union all
           select (
             select min(endpoint_id) from deliveries
             where state = 'pending' and leased_by = ? and endpoint_id > waiting.id), steps + 1
           from waiting where waiting.id is not null and steps < ?
         )
         select waiting.id, endpoints.id as known
         from waiting left join endpoints on endpoints.id = waiting.id
         where waiting.id is not null order by waiting.id`,
        leasedBy,
        afterEndpointId,
        leasedBy,
        limit,
      );
      return rows.map((row) => ({ endpointId: row["id"] as string, isGone: row["known"] === null }));
    },

    async removePending(endpointId, leasedBy, limit) {
      return await sql.run(
        `delete from deliveries where state = 'pending' and endpoint_id = ? and message_id in (
           select message_id from deliveries where state = 'pending' and leased_by = ? and endpoint_id = ? limit ?)`,
        endpointId,
        leasedBy,
        endpointId,
        limit,
      );
    },

    async removeStates(after, limit) {
      const rows = await sql.all(
        `select endpoint_states.endpoint_id, endpoints.id as known from endpoint_states
         left join endpoints on endpoints.id = endpoint_states.endpoint_id
         where endpoint_states.endpoint_id > ? order by endpoint_states.endpoint_id limit ?`,
        after,
        limit,
      );
      for (const row of rows) {
        if (row["known"] !== null) continue;
        await sql.run("delete from endpoint_states where endpoint_id = ?", row["endpoint_id"] as string);
      }
      return rows.length < limit ? null : (rows.at(-1)?.["endpoint_id"] as string);
    },

    async removeTasks(before, limit) {
      return await sql.run(
        `delete from tasks where id in (
           select id from tasks where status <> 'running' and updated_at < ? order by updated_at limit ?)`,
        before,
        limit,
      );
    },

    async payloadsExpungedUntil() {
      const row = await sql.get(
        "select cast(value as bigint) as until from facts where name = 'payloads_expunged_until'",
      );
      return toCount(row);
    },

    async notePayloadsExpunged(until) {
      await sql.run(
        `insert into facts (name, value) values ('payloads_expunged_until', ?)
         on conflict (name) do update set value = excluded.value`,
        String(until),
      );
    },
  };
}
