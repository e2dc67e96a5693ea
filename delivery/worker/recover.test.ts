import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { afterEach, describe, expect, test } from "vitest";
import { firstIdAt } from "../core/ids.ts";
import { sqlitePathOf } from "../store/sqlite-store.ts";

const command = join(import.meta.dirname, "../../bin/hookplane.js");

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Running {
  readonly child: ChildProcess;
  request(method: string, path: string, body?: unknown): Promise<Answer>;
}

interface Answer {
  readonly status: number;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers whose shape they assert.
  readonly json: any;
}

async function serve(dataDir: string): Promise<Running> {
  const args = ["serve", "--port", "0", "--data-dir", dataDir, "--allow-subnet", "127.0.0.0/8"];
  const child = spawn(process.execPath, [command, ...args, "--log-level", "silent"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  cleanups.push(() => child.kill("SIGKILL"));
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  const { url } = JSON.parse(line) as { url: string };
  const { admin } = JSON.parse(readFileSync(join(dataDir, "credentials.json"), "utf8"));
  return {
    child,
    async request(method, path, body) {
      const response = await fetch(`${url}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${admin.token}` },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      const text = await response.text();
      return { status: response.status, json: text === "" ? undefined : JSON.parse(text) };
    },
  };
}

async function end({ child }: Running, signal: NodeJS.Signals): Promise<void> {
  child.kill(signal);
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

describe("recovering 5,000 failed deliveries", () => {
  const count = 5_000;

  test(
    "goes on after kill -9 at any instant, and makes each of them pending exactly once",
    { timeout: 180_000 },
    async () => {
      const dataDir = mkdtempSync(join(tmpdir(), "hookplane-recover-"));
      const arrivals = new Map<string, number>();
      const receiver = createServer((request, response) => {
        const id = String(request.headers["webhook-id"]);
        arrivals.set(id, (arrivals.get(id) ?? 0) + 1);
        request.resume().on("end", () => response.end());
      });
      await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
      cleanups.push(() => {
        receiver.closeAllConnections();
        receiver.close();
        rmSync(dataDir, { recursive: true });
      });

      let service = await serve(dataDir);
      const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;
      const { json: application } = await service.request("POST", "/app", { name: "Shop", uid: "shop" });
      const { json: endpoint } = await service.request("POST", "/app/shop/endpoint", { url });
      await end(service, "SIGTERM");
      using database = new DatabaseSync(sqlitePathOf(dataDir), { timeout: 10_000 });
      fill(database, application.id as string, endpoint.id as string, count);

      service = await serve(dataDir);
      const since = new Date(Date.now() - 60 * 60_000).toISOString();
      const begun = await service.request("POST", `/app/shop/endpoint/${endpoint.id}/recover`, { since });
      expect(begun.status).toBe(202);
      const path = `/background-task/${begun.json.id}`;
      const reopened = database.prepare("select count(*) as rows from reopened");
      const reopenedNow = (): number => reopened.get()!["rows"] as number;
      for (const share of [0, 0.2, 0.4, 0.6, 0.8]) {
        while (reopenedNow() < share * count) await new Promise((resolve) => setTimeout(resolve, 2));
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 50));
        await end(service, "SIGKILL");
        expect(reopenedNow()).toBeLessThan(count);
        service = await serve(dataDir);
      }
      const running = service;
      await expect
        .poll(async () => (await running.request("GET", path)).json.status as string, { timeout: 90_000 })
        .toBe("finished");
      expect((await running.request("GET", path)).json.data).toMatchObject({ done: count, total: count });
      await expect.poll(() => arrivals.size, { timeout: 60_000 }).toBe(count);
      const times = database.prepare("select count(*) as times from reopened group by message_id").all();
      expect(times).toHaveLength(count);
      expect(times.every((row) => row["times"] === 1)).toBe(true);
    },
  );
});

/** Failed deliveries, put in beside the store; whenever one is made pending again, that is written down. */
function fill(database: DatabaseSync, applicationId: string, endpointId: string, count: number): void {
  // Recent: what is old is removed by the service.
  const now = Date.now() - 60_000;
  const id = `'${firstIdAt("msg", now)}' || printf('%016d', n)`;
  const numbers = `with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < ${count})`;
  database.exec(
    `begin;
     create table reopened (message_id text);
     create trigger note_reopened after update of state on deliveries
       when old.state <> 'pending' and new.state = 'pending'
       begin insert into reopened values (new.message_id); end;
     ${numbers} insert into messages (id, application_id, event_type, tags, payload, created_at)
       select ${id}, '${applicationId}', 'order.paid', '[]', x'7b7d', ${now} from numbers;
     ${numbers} insert into deliveries
         (message_id, endpoint_id, application_id, state, attempts, leased_by, trigger_type)
       select ${id}, '${endpointId}', '${applicationId}', 'failed', 10, 0, 'scheduled' from numbers;
     commit`,
  );
}
