import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { HookplaneError } from "../../errors.ts";
import { createLifecycle, type Properties } from "../../lifecycle.ts";
import { createTestHost } from "../../resource.suite.ts";
import { unknown } from "../../unknown.ts";
import { findResource } from "../index.ts";
import { findNode, packageRoot } from "./node-executable.ts";

const lifecycle = createLifecycle(findResource("index:DeliveryService"), createTestHost());

let parent: string;
let dataDir: string;
/** What was started, so that nothing is left when a test fails. */
const started = new Set<number>();

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), "hookplane-service-"));
  dataDir = join(parent, "data");
});
afterEach(async () => {
  for (const pid of started) await kill(pid);
  started.clear();
  rmSync(parent, { recursive: true, force: true });
});

function declare(values: Properties = {}): Properties {
  const { inputs, failures } = lifecycle.check({ dataDir, ...values });
  expect(failures).toEqual([]);
  return inputs;
}

async function create(values?: Properties) {
  const inputs = declare(values);
  const made = await lifecycle.create(inputs);
  if (typeof made.state.pid === "number") started.add(made.state.pid);
  return { ...made, inputs };
}

async function update(id: string, state: Properties, inputs: Properties) {
  const updated = await lifecycle.update(id, state, inputs);
  if (typeof updated.state.pid === "number") started.add(updated.state.pid);
  return updated;
}

async function failure(promise: Promise<unknown>): Promise<HookplaneError> {
  const error: unknown = await promise.then(
    () => new Error("It succeeded."),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(HookplaneError);
  return error as HookplaneError;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function kill(pid: unknown): Promise<void> {
  if (isAlive(Number(pid))) process.kill(Number(pid), "SIGKILL");
  await expect.poll(() => isAlive(Number(pid)), { timeout: 5_000 }).toBe(false);
}

const statusOf = (url: unknown, token: string) =>
  fetch(`${String(url)}/api/v1/app`, { headers: { authorization: `Bearer ${token}` } }).then(
    ({ status }) => status,
  );

interface Connections {
  readonly [api: string]: Readonly<Record<string, string>>;
}

describe("DeliveryService", () => {
  test("starts a service that goes on by itself, and gives a connection for each API", async () => {
    const { id, state, inputs } = await create({ inbox: true, allowSubnets: ["127.0.0.0/8"] });
    expect(id).toBe(dataDir);
    expect(state).toMatchObject({
      running: true,
      dataDir,
      inbox: true,
      inboxUrl: `${String(state.url)}/inbox`,
    });
    expect(state.version).toMatch(/^\d+\.\d+\.\d+/);
    const { pave, twilio, casey, svix } = state.connections as Connections;
    expect(Object.keys(pave!)).toEqual(["url", "username", "apiKey", "apiSecret"]);
    expect([pave, twilio, casey, svix].map((connection) => connection!.url)).toEqual([
      `${String(state.url)}/pave/v1`,
      `${String(state.url)}/twilio`,
      `${String(state.url)}/casey/v1/backend`,
      state.url,
    ]);
    expect(await statusOf(state.url, svix!.token!)).toBe(200);
    expect((await lifecycle.diff(id, state, inputs)).action).toBe("none");

    const found = await lifecycle.read(id, state);
    expect(found?.state).toEqual(state);
    expect(found?.inputs).toEqual(inputs);

    const imported = await lifecycle.read(id, {});
    expect(imported?.state).toEqual(state);

    const again = await lifecycle.create(inputs);
    expect(again.state.pid).toBe(state.pid);

    await lifecycle.delete(id, state);
    await expect.poll(() => isAlive(Number(state.pid))).toBe(false);
    expect(existsSync(join(dataDir, "credentials.json"))).toBe(true);
    await lifecycle.delete(id, state);
  });

  test("that is down shows as drift, and an update starts it on its port and with its data", async () => {
    const { id, state, inputs } = await create();
    await kill(state.pid);
    const found = await lifecycle.read(id, state);
    expect(found?.state).toEqual({ ...state, running: false, pid: null, version: null });
    const diff = await lifecycle.diff(id, found!.state, inputs);
    expect(diff).toMatchObject({ action: "update", replaces: [] });
    expect(diff.properties).toContain("running");

    const repaired = await update(id, found!.state, inputs);
    expect(repaired.state).toEqual({ ...state, pid: repaired.state.pid });

    const more = declare({ inbox: true, logLevel: "debug" });
    expect(await lifecycle.diff(id, repaired.state, more)).toMatchObject({ action: "update" });
    const changed = await update(id, repaired.state, more);
    expect(changed.state).toMatchObject({ inbox: true, logLevel: "debug", url: state.url });
    expect(changed.state.connections).toEqual(state.connections);
    await expect.poll(() => isAlive(Number(repaired.state.pid))).toBe(false);

    const off = declare({ inbox: true, logLevel: "debug", running: false });
    const stopped = await update(id, changed.state, off);
    expect(stopped.state).toMatchObject({ running: false, url: state.url });
    expect((await lifecycle.diff(id, stopped.state, off)).action).toBe("none");
    expect((await lifecycle.read(id, stopped.state))?.state).toEqual(stopped.state);

    await lifecycle.delete(id, { ...stopped.state, deleteData: true });
    expect(existsSync(dataDir)).toBe(false);
    expect(await lifecycle.read(id, stopped.state)).toBeUndefined();
  });

  test("says so when the port is taken, with the log's last lines", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const { port } = other.address() as AddressInfo;
    const error = await failure(create({ port }));
    other.close();
    expect(error.code).toBe("not_ready");
    expect(error.message).toContain(String(port));
    expect(error.message).toContain("Stop the process that has the port, or set another `port`.");
    expect(error.message).toContain(join(dataDir, "service.log"));
    const { admin } = JSON.parse(readFileSync(join(dataDir, "credentials.json"), "utf8")) as Connections;
    expect(error.message).not.toContain(admin!.token);
  });

  test("says so when another process uses the data folder, and leaves that one alone", async () => {
    const program = join(packageRoot(), "bin", "hookplane.js");
    const child = spawn(process.execPath, [program, "serve", "--port", "0", "--data-dir", dataDir]);
    started.add(child.pid!);
    await once(child.stdout, "data");
    const error = await failure(create());
    expect(error.message).toContain("in use by another process");
    expect(error.message).toContain("Stop the process that uses the data folder, or set another `dataDir`.");
    expect(child.exitCode).toBeNull();
  });

  test("says why a service that ends at its start did so", async () => {
    mkdirSync(dataDir);
    writeFileSync(join(dataDir, "master.key"), "not a key");
    const error = await failure(create());
    expect(error.message).toContain("The delivery service did not start: ");
    expect(error.message).toContain("master.key");
  });

  test("is ended when it is not ready in time", async () => {
    const error = await failure(create({ startTimeoutSeconds: 0.05 }));
    expect(error.message).toContain("it was not ready within 0.05 s");
    expect(JSON.parse(readFileSync(join(dataDir, "service.json"), "utf8"))).toMatchObject({ pid: null });
  });

  test("does not take a process of the same number for its own, and does not end it", async () => {
    const stranger = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
    started.add(stranger.pid!);
    const { id, state } = await create();
    await kill(state.pid);
    const file = join(dataDir, "service.json");
    const record = JSON.parse(readFileSync(file, "utf8")) as object;
    writeFileSync(file, JSON.stringify({ ...record, pid: stranger.pid }));
    expect((await lifecycle.read(id, state))?.state).toMatchObject({ running: false });
    await lifecycle.delete(id, state);
    expect(isAlive(stranger.pid!)).toBe(true);
  });

  test("is found again although its first creation was cut off before it was ready", async () => {
    const { state } = await create();
    const file = join(dataDir, "service.json");
    const record = JSON.parse(readFileSync(file, "utf8")) as object;
    writeFileSync(file, JSON.stringify({ ...record, url: null }));
    expect((await lifecycle.create(declare())).state).toEqual(state);
  });

  test("that runs in another process than the one it was started in is not ended by guess", async () => {
    const { id, state } = await create();
    const file = join(dataDir, "service.json");
    const record = JSON.parse(readFileSync(file, "utf8")) as object;
    writeFileSync(file, JSON.stringify({ ...record, pid: process.pid }));
    expect((await failure(lifecycle.delete(id, state))).message).toContain("in another process");
    expect(isAlive(Number(state.pid))).toBe(true);
  });

  test("does not delete a folder that holds more than its data", async () => {
    const error = await failure(
      lifecycle.delete(process.cwd(), { dataDir: process.cwd(), deleteData: true }),
    );
    expect(error.message).toContain("so it is not deleted");
    expect(existsSync("package.json")).toBe(true);
  });
});

describe("DeliveryService inputs", () => {
  test("make a relative data folder absolute", () => {
    expect(lifecycle.check({}).inputs.dataDir).toBe(resolve(".hookplane"));
  });

  test("another data folder is another service", async () => {
    const inputs = declare();
    const diff = await lifecycle.diff("x", { ...inputs, dataDir: "/elsewhere" }, inputs);
    expect(diff).toMatchObject({ action: "replace", replaces: ["dataDir"] });
  });

  test("name every fault at once", () => {
    const { failures } = lifecycle.check({
      dataDir: "",
      port: 70_000,
      allowSubnets: ["localhost"],
      publicUrl: "example.com",
      logLevel: "loud",
      startTimeoutSeconds: 0,
    });
    expect(failures.map(({ property }) => property)).toEqual([
      "dataDir",
      "port",
      "allowSubnets[0]",
      "publicUrl",
      "logLevel",
      "startTimeoutSeconds",
    ]);
  });

  test("may all be unknown in a preview", () => {
    const names = Object.keys(findResource("index:DeliveryService").inputs.shape);
    expect(lifecycle.check(Object.fromEntries(names.map((name) => [name, unknown]))).failures).toEqual([]);
  });
});

describe("findNode()", () => {
  const none = () => undefined;

  test("takes the Node that runs Pulumi where it is new enough", async () => {
    expect(await findNode(none, { path: "/own/node", version: "24.0.0" })).toBe("/own/node");
  });

  test("takes the one beside the package, else that of HOOKPLANE_NODE", async () => {
    const found = await findNode(() => process.execPath, { path: "/own/node", version: "22.19.0" });
    expect([process.execPath, join(packageRoot(), "node_modules", ".bin", "node")]).toContain(found);
  });

  test("says what to install where there is none", async () => {
    const error = await failure(
      findNode(() => "/no/such/node", { path: "/own/node", version: "22.19.0", root: parent }),
    );
    expect(error.message).toContain('this is Node 22.19.0, and "/no/such/node" (HOOKPLANE_NODE) is not that');
    expect(error.message).toContain("set HOOKPLANE_NODE to the path of such a Node");
  });
});
