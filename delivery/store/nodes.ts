import type { Sql } from "./sql.ts";
import type { Tx } from "./store.ts";

export function createNodes(sql: Sql, deliveries: Pick<Tx["deliveries"], "release">): Tx["nodes"] {
  const release = async (node: number): Promise<void> => {
    await deliveries.release(node);
    await sql.run("update tasks set leased_by = 0 where leased_by = ? and status = 'running'", node);
  };
  return {
    async join(expiresAt) {
      await sql.run(
        "insert into facts (name, value) values ('last_node', '0') on conflict (name) do nothing",
      );
      const row = await sql.get(
        `update facts set value = cast(cast(value as bigint) + 1 as text) where name = 'last_node' returning value`,
      );
      const number = Number(row?.["value"]);
      await sql.run("insert into nodes (number, expires_at) values (?, ?)", number, expiresAt);
      return number;
    },

    async keepTime(now) {
      const row = await sql.get(
        `insert into facts (name, value) values ('time', ?)
         on conflict (name) do update set value =
           case when cast(facts.value as bigint) > cast(excluded.value as bigint) then facts.value else excluded.value end
         returning value`,
        String(now),
      );
      return Number(row?.["value"]);
    },

    async beat(node, expiresAt) {
      return (await sql.run("update nodes set expires_at = ? where number = ?", expiresAt, node)) > 0;
    },

    async bury(now) {
      await sql.run("delete from nodes where expires_at < ?", now);
      // Also what a node took in the very moment it was buried. One step for each holder, however much it holds.
      const rows = await sql.all(
        `with recursive holders (number) as (
           select min(leased_by) from deliveries where state = 'pending' and leased_by > 0
           union all
           select (select min(leased_by) from deliveries where state = 'pending' and leased_by > holders.number)
           from holders where holders.number is not null
         )
         select number from holders where number is not null and number not in (select number from nodes)
         union
         select leased_by from tasks
         where status = 'running' and leased_by > 0 and leased_by not in (select number from nodes)`,
      );
      const numbers = rows.map((row) => row["number"] as number);
      for (const number of numbers) await release(number);
      return numbers;
    },

    async leave(node) {
      await sql.run("delete from nodes where number = ?", node);
      await release(node);
    },
  };
}
