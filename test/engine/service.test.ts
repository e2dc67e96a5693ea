import fs from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { declare, openStack, type TestStack } from "./stack.ts";
import { rawVendor, type Connections } from "./vendor.ts";

const scope = new AsyncDisposableStack();
let stack: TestStack;
let dataDir: string;

beforeAll(async () => {
  stack = scope.use(await openStack("service"));
  dataDir = path.join(stack.directory, "data");
});
afterAll(() => scope.disposeAsync());

/** The whole system in one program. */
async function declareAll(service: object = {}, proof = "first"): Promise<void> {
  const settings = { dataDir, inbox: true, allowSubnets: ["127.0.0.0/8"], ...service };
  await stack.program(`
    const service = ${declare("DeliveryService", "service", settings)}
    const { pave, twilio, casey, svix } = service.connections;
    const inbox = (name: string) => pulumi.interpolate\`\${service.inboxUrl}/\${name}\`;
    const callback = new hookplane.pave.Callback("pave", {
      event: "SESSION:COMPLETE",
      url: inbox("pave"),
      headers: { Authorization: "Bearer receiver-token" },
      payload: { source: "test" },
      connection: pave,
    });
    const conversations = new hookplane.twilio.ConversationsWebhook("twilio", {
      filters: ["onMessageAdd", "onMessageAdded"],
      preWebhookUrl: inbox("twilio-pre"),
      postWebhookUrl: inbox("twilio-post"),
      connection: twilio,
    });
    const endpoint = new hookplane.casey.WebhookEndpoint("casey", { url: inbox("casey"), connection: casey });
    new hookplane.DeliveryProof("proof", {
      connection: svix,
      timeoutSeconds: 3,
      events: [
        { application: "pave", eventType: "SESSION:COMPLETE", payload: { session_key: "PRF-1" } },
        { application: "twilio", eventType: "onMessageAdded", payload: { Body: "proof" } },
        { application: "casey", eventType: "conversation.completed", payload: { conversation_id: "c" } },
      ],
      triggers: [${JSON.stringify(proof)}],
    }, { dependsOn: [callback, conversations, endpoint] });
    export const connections = service.connections;
    export const pid = service.pid;
  `);
}

const deployed = () => stack.outputs<{ connections: Connections; pid: number | null }>();
const isAlive = (pid: number) =>
  fs.readFile(`/proc/${pid}/cmdline`, "utf8").then(
    (line) => line !== "",
    () => false,
  );

/** The services of this stack's folder that run. */
async function findProcesses(): Promise<number[]> {
  const pids = (await fs.readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const lines = await Promise.all(
    pids.map((pid) => fs.readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")),
  );
  return pids.filter((_, index) => lines[index]?.includes(stack.directory));
}

test("one up deploys the service with everything in it, and proves that events arrive", async () => {
  await declareAll();
  const up = await stack.up();
  expect(up, up.output).toMatchObject({
    ok: true,
    steps: { service: "create", pave: "create", twilio: "create", casey: "create", proof: "create" },
  });
  const proof = (await stack.resources())["proof"]?.outputs;
  expect(proof?.["deliveries"]).toMatchObject([
    { application: "pave", status: 204, attempts: 1, verifiedBy: "credentials" },
    { application: "twilio", status: 204, attempts: 1, verifiedBy: "signature" },
    { application: "casey", status: 204, attempts: 1, verifiedBy: "signature" },
  ]);

  const preview = await stack.preview();
  expect(preview, preview.output).toMatchObject({ ok: true, steps: {} });
  const drift = await stack.drift();
  expect(drift, drift.output).toMatchObject({ ok: true, steps: {} });
});

test("a proof fails when a receiver does, and says what it answered; it passes once that is repaired", async () => {
  const raw = rawVendor((await deployed()).connections);
  await raw.answerWith("casey", 500);
  await declareAll({}, "second");
  const failing = await stack.up();
  expect(failing.ok).toBe(false);
  expect(failing.output).toMatch(
    /DeliveryProof .*update failed: The proof failed\.\s+"conversation\.completed" of application "casey" \(msg_\w+\): endpoint ep_\w+ at http:\S+\/inbox\/casey: attempt 1: answered 500/,
  );
  expect(failing.output).not.toMatch(/"SESSION:COMPLETE" of application/);

  await raw.answerWith("casey", 204);
  const up = await stack.up();
  expect(up, up.output).toMatchObject({ ok: true, steps: { proof: "update" } });
});

test("a service that was killed is found down, and up starts it again with its data and nothing replaced", async () => {
  const { connections, pid } = await deployed();
  const raw = rawVendor(connections);
  await raw.publish("casey", "conversation.completed", { conversation_id: "before the kill" });
  await raw.received("casey", 1);
  const before = await stack.ids();
  process.kill(Number(pid), "SIGKILL");
  while (await isAlive(Number(pid))) await sleep(20);

  const drift = await stack.drift();
  expect(drift.ok).toBe(false);
  expect(drift.steps["service"], drift.output).toBe("update");
  const up = await stack.up({ refresh: true });
  expect(up.ok, up.output).toBe(true);
  expect(up.steps["service"], up.output).toBe("update");

  const after = await deployed();
  expect(after.connections).toEqual(connections);
  expect(after.pid).not.toBe(pid);
  expect(await raw.pave("GET", "SESSION:COMPLETE")).toMatchObject({ payload: { source: "test" } });
  const messages = await fetch(`${connections.svix.url}/api/v1/app/casey/msg`, {
    headers: { authorization: `Bearer ${connections.svix.token}` },
  });
  expect(await messages.text()).toContain("before the kill");
  expect(await stack.ids()).toEqual(before);
});

test("changed settings restart the service in place, on its port", async () => {
  const before = await deployed();
  await declareAll({ logLevel: "debug" }, "second");
  const up = await stack.up();
  expect(up, up.output).toMatchObject({ ok: true, steps: { service: "update" } });
  const after = await deployed();
  expect(after.connections).toEqual(before.connections);
  expect(after.pid).not.toBe(before.pid);
  expect(await findProcesses()).toEqual([after.pid]);
});

test("a port that is taken and a folder that is in use are clear errors, and leave no process", async () => {
  const { pid, connections } = await deployed();
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port } = taken.address() as { port: number };
  const other = scope.use(await openStack("taken"));
  await other.program(
    declare("DeliveryService", "port", { dataDir: path.join(stack.directory, "second"), port }) +
      declare("DeliveryService", "folder", { dataDir, port: Number(new URL(connections.svix.url).port) + 1 }),
  );
  const up = await other.up();
  taken.close();

  expect(up.ok).toBe(false);
  expect(up.output).toMatch(new RegExp(`did not start: The port ${port} .*is taken`));
  expect(up.output).toContain(dataDir);
  expect(await findProcesses()).toEqual([pid]);
  expect(await rawVendor(connections).pave("GET", "SESSION:COMPLETE")).toBeDefined();
});

test("another data folder is another service; the old one is stopped and keeps its data", async () => {
  const { pid } = await deployed();
  await declareAll({ dataDir: path.join(stack.directory, "moved"), deleteData: true }, "second");
  const up = await stack.up();
  expect(up.ok, up.output).toBe(true);
  expect(up.steps).toMatchObject({
    service: "replace",
    pave: "replace",
    twilio: "replace",
    casey: "replace",
  });

  expect(await isAlive(Number(pid))).toBe(false);
  expect(await findProcesses()).toEqual([(await deployed()).pid]);
  expect(await fs.readdir(dataDir)).toContain("credentials.json");
});

test("destroy leaves no process, and deletes the data where the program said so", async () => {
  const destroy = await stack.destroy();
  expect(destroy.ok, destroy.output).toBe(true);
  expect(await findProcesses()).toEqual([]);
  expect(await fs.readdir(stack.directory)).not.toContain("moved");
});
