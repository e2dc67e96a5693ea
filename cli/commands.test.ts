import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { startReceiver, type Receiver } from "../delivery/api/service.suite.ts";
import { defaultConfig } from "../delivery/config.ts";
import { createLogger } from "../delivery/log.ts";
import { openService, type Service } from "../delivery/service.ts";
import { CommandRunner } from "./command.suite.ts";

// One service for all of them, each test with an application of its own.
let service: Service;
let cli: CommandRunner;
const dataDir = mkdtempSync(join(tmpdir(), "hookplane-commands-"));

beforeAll(async () => {
  service = await openService(
    { ...defaultConfig(), port: 0, dataDir, allowSubnets: ["127.0.0.0/8"], workers: 1 },
    createLogger("silent"),
  );
  cli = new CommandRunner({ HOOKPLANE_URL: service.url, HOOKPLANE_DATA_DIR: dataDir });
});
afterAll(async () => {
  cli[Symbol.dispose]();
  await service.close();
  rmSync(dataDir, { recursive: true });
});

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function receive(): Promise<Receiver> {
  const receiver = await startReceiver();
  cleanups.push(() => receiver[Symbol.asyncDispose]());
  return receiver;
}

/** Asks the service itself, as the administrator. */
async function api(method: string, path: string, body?: unknown) {
  const response = await fetch(`${service.url}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${service.credentials.admin.token}` },
    body: body === undefined ? null : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, json: text === "" ? undefined : JSON.parse(text) };
}

let count = 0;

/** A new application, and with a receiver's URL an endpoint `main`. */
async function makeApplication(url?: string, policy?: object): Promise<string> {
  const uid = `shop-${++count}`;
  await api("POST", "/app", { name: uid, uid });
  if (url !== undefined) {
    const { status } = await api("POST", `/app/${uid}/endpoint`, { url, uid: "main", policy });
    expect(status).toBe(201);
  }
  return uid;
}

async function publish(app: string, eventId: string, eventType = "order.paid"): Promise<string> {
  return (await api("POST", `/app/${app}/msg`, { eventType, eventId, payload: { eventId } })).json.id;
}

function until(assertion: () => unknown): Promise<unknown> {
  return vi.waitFor(assertion, { timeout: 15_000, interval: 20 });
}

function writeTemporary(text: string): string {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-file-"));
  cleanups.push(() => {
    rmSync(folder, { recursive: true });
  });
  const file = join(folder, "file");
  writeFileSync(file, text);
  return file;
}

describe("hookplane publish", () => {
  test("publishes the very text that it is given, and prints the message's id", async () => {
    const receiver = await receive();
    const app = await makeApplication(receiver.url);
    const text = '{ "amount": 1.0, "großes": 12345678901234567890 }';
    const runs = [
      cli.run([
        "publish",
        app,
        "order.paid",
        text,
        "--event-id",
        "a",
        "--tag",
        "x",
        "--tag",
        "y",
        "--channel",
        "eu",
      ]),
      cli.run(["publish", app, "order.paid", `@${writeTemporary(text)}`, "--json"]),
      cli.run(["publish", app, "order.paid", "-", "--ordering-key", "k"], { input: `${text}\n` }),
    ];
    const [first, second, third] = await Promise.all(runs);
    expect(first).toMatchObject({ code: 0, stderr: "", stdout: expect.stringMatching(/^msg_\w{26}\n$/) });
    expect(second!.lines).toEqual([
      expect.objectContaining({ id: expect.stringMatching(/^msg_/), eventType: "order.paid" }),
    ]);
    expect(third!.code).toBe(0);
    const { json } = await api("GET", `/app/${app}/msg/a`);
    expect(json).toMatchObject({ id: first!.stdout.trim(), tags: ["x", "y"], channels: ["eu"] });
    expect((await api("GET", `/app/${app}/msg/${third!.stdout.trim()}`)).json.orderingKey).toBe("k");
    await until(() => {
      expect(receiver.requests.map(({ body }) => body)).toEqual([text, text, text]);
    });
  });

  test("publishes a file of many lines in order, and tells which ones are refused", async () => {
    const app = await makeApplication();
    const lines = Array.from({ length: 230 }, (_, index) =>
      JSON.stringify({ eventType: "order.paid", eventId: `e-${index}`, payload: { index } }),
    );
    lines.splice(5, 0, "", "not JSON", '{"eventType":"two words","payload":{}}', '{"payload":{}}');
    const { code, lines: told } = await cli.run([
      "publish",
      app,
      "--batch",
      writeTemporary(lines.join("\n")),
      "--json",
    ]);
    expect(code).toBe(6);
    expect(told.at(-1)).toEqual({ accepted: 230, refused: 3 });
    const refused = told.filter((line) => "error" in line);
    expect(refused.map(({ line }) => line)).toEqual([7, 8, 9]);
    expect(refused[1].error).toEqual({
      status: 422,
      message: expect.stringMatching(/^eventType: The event type/),
    });
    expect(told.filter((line) => "id" in line).map(({ line }) => line)).toEqual(
      lines.map((_, index) => index + 1).filter((line) => line < 6 || line > 9),
    );
    const ids = told.filter((line) => "id" in line).map(({ id }) => id);
    expect(ids.toSorted()).toEqual(ids);
    expect((await api("GET", `/app/${app}/msg/e-229`)).json.id).toBe(ids.at(-1));
  });

  test("publishes lines that are payloads, in requests that the service takes", async () => {
    const app = await makeApplication();
    const big = JSON.stringify({ text: "x".repeat(600_000) });
    const tooBig = JSON.stringify({ text: "x".repeat(1_100_000) });
    const input = [big, big, tooBig, '{"last":true}'].join("\n");
    const { code, stdout, stderr } = await cli.run(
      ["publish", app, "order.paid", "--batch", "-", "--tag", "t"],
      { input },
    );
    expect({ code, stdout }).toEqual({ code: 6, stdout: "3 events published, 1 refused.\n" });
    expect(stderr).toMatch(/^line 3: The request's body is larger/);
    const { json } = await api("GET", `/app/${app}/msg?tag=t&with_content=false`);
    expect(json.data).toHaveLength(3);
  });

  test("says what is wrong before it publishes anything", async () => {
    const app = await makeApplication();
    const [noType, notJson, notObject, unknown, mixed, noFile] = await Promise.all([
      cli.run(["publish", app]),
      cli.run(["publish", app, "order.paid", "{canary"]),
      cli.run(["publish", app, "order.paid", "[1]"]),
      cli.run(["publish", "nowhere", "order.paid"]),
      cli.run(["publish", app, "--batch", "x", "--event-id", "1", "--tag", "t", "--json"]),
      cli.run(["publish", app, "--batch", "/nowhere/x"]),
    ]);
    expect([noType.code, noType.stderr]).toEqual([2, expect.stringContaining("There is no event type")]);
    expect([notJson.code, notJson.stderr]).toEqual([2, expect.stringContaining("The payload is not JSON")]);
    expect([notObject.code, notObject.stderr]).toEqual([2, expect.stringContaining("must be a JSON object")]);
    expect([unknown.code, unknown.stderr]).toEqual([
      4,
      'hookplane: There is no application "nowhere". hookplane applications shows which there are.\n',
    ]);
    expect(mixed.code).toBe(2);
    expect(JSON.parse(mixed.stderr)).toEqual({
      event: "failed",
      code: "settings_invalid",
      message: expect.stringMatching(/^--event-id "1": .*\n--batch "x": /),
    });
    expect([noFile.code, noFile.stderr]).toEqual([2, expect.stringContaining('--batch "/nowhere/x"')]);
    expect((await api("GET", `/app/${app}/msg`)).json.data).toEqual([]);
  });
});

describe("hookplane messages", () => {
  test("lists by what is asked for, shows all of one, and sends it again", async () => {
    const receiver = await receive();
    const app = await makeApplication(receiver.url, { retrySchedule: [3600] });
    receiver.answer = { status: 500, body: "no\u001b[31m way" };
    await publish(app, "paid-1");
    await until(async () => {
      expect((await api("GET", `/app/${app}/attempt/endpoint/main`)).json.data).toHaveLength(1);
    });
    receiver.answer = { status: 200, body: "" };
    await publish(app, "sent-1", "order.sent");
    await until(() => {
      expect(receiver.requests).toHaveLength(2);
    });

    const [all, paid, pending, none, shown, json] = await Promise.all([
      cli.run(["messages", app]),
      cli.run(["messages", "list", app, "--event-type", "order.paid", "--since", "1h", "--json"]),
      cli.run(["messages", app, "--endpoint", "main", "--status", "pending", "--json"]),
      cli.run(["messages", app, "--until", "2026-01-01", "--json"]),
      cli.run(["messages", "show", app, "paid-1"]),
      cli.run(["messages", "show", app, "paid-1", "--status-class", "500", "--json"]),
    ]);
    expect(all.stdout.split("\n").map((line) => line.split(/ +/)[2])).toEqual([
      "TYPE",
      "sent-1",
      "paid-1",
      undefined,
    ]);
    expect(paid.lines.map(({ eventId }) => eventId)).toEqual(["paid-1"]);
    expect(paid.lines[0]).not.toHaveProperty("payload");
    expect(pending.lines).toMatchObject([
      { eventId: "paid-1", statusText: "pending", nextAttempt: expect.any(String) },
    ]);
    expect(none).toMatchObject({ code: 0, stdout: "" });
    expect(shown.stdout).toContain('\n{"eventId":"paid-1"}\n');
    expect(shown.stdout).toMatch(/main +http:\S+ +pending +20\d\d-/);
    expect(shown.stdout).toMatch(/✗ 500 /);
    // What a receiver answers steers no terminal.
    expect(shown.stdout).toContain(String.raw`no\x1b[31m way`);
    expect(json.lines).toMatchObject([
      {
        eventId: "paid-1",
        payload: { eventId: "paid-1" },
        destinations: [{ uid: "main", statusText: "pending" }],
        attempts: [{ responseStatusCode: 500 }],
      },
    ]);

    expect(await cli.run(["messages", "resend", app, "paid-1", "main"])).toMatchObject({
      code: 0,
      stdout: "",
    });
    await until(() => {
      expect(receiver.requests).toHaveLength(3);
    });
  });

  test("lists as many as asked for, over pages", async () => {
    const app = await makeApplication();
    for (let batch = 0; batch < 3; batch++) {
      const messages = Array.from({ length: 100 }, () => ({ eventType: "a", payload: {} }));
      await api("POST", `/app/${app}/msg/batch`, { messages });
    }
    const [usual, some, all] = await Promise.all([
      cli.run(["messages", app, "--json"]),
      cli.run(["messages", app, "--limit", "260", "--json"]),
      cli.run(["messages", app, "--limit", "all", "--json"]),
    ]);
    expect([usual, some, all].map(({ lines }) => lines.length)).toEqual([50, 260, 300]);
    expect(new Set(all.lines.map(({ id }) => id)).size).toBe(300);
  });

  test("tells all that is wrong with its options at once", async () => {
    const { code, stderr } = await cli.run([
      "messages",
      "x",
      "--limit",
      "0",
      "--since",
      "yesterday",
      "--status",
      "failed",
    ]);
    expect(code).toBe(2);
    expect(stderr.split("\n")).toEqual([
      'hookplane: --since "yesterday": give a time such as 2026-01-31T12:00:00Z, or how long ago, such as 15m, 2h or 3d.',
      '--limit "0": give a whole number from 1 to 1000000000.',
      '--status "failed": choose one of success, pending, fail.',
      '--status "failed": name the endpoint at which it stands so with --endpoint.',
      "",
    ]);
  });
});

describe("hookplane endpoints", () => {
  test("makes, shows, changes, disables, enables and deletes one", async () => {
    const app = await makeApplication();
    const headers = writeTemporary('{"authorization": "Bearer canary", "x-team": "web"}');
    const secret = writeTemporary(`whsec_${Buffer.alloc(24, 7).toString("base64")}\n`);
    const made = await cli.run([
      ...[
        "endpoints",
        "create",
        app,
        "https://example.com/hooks",
        "--uid",
        "main",
        "--event-type",
        "order.paid",
      ],
      ...[
        "--throttle-rate",
        "5",
        "--metadata",
        "team=web=1",
        "--headers-file",
        headers,
        "--secret-file",
        secret,
      ],
      ...[
        "--order",
        "key",
        "--retry-schedule",
        "5,60",
        "--timeout",
        "2.5",
        "--success-statuses",
        "200,304",
        "--disabled",
      ],
    ]);
    expect(made).toMatchObject({ code: 0, stdout: expect.stringMatching(/^ep_\w{26}\n$/) });
    const id = made.stdout.trim();
    const read = async () => (await api("GET", `/app/${app}/endpoint/${id}`)).json;
    expect(await read()).toMatchObject({
      uid: "main",
      disabled: true,
      eventTypes: ["order.paid"],
      throttleRate: 5,
      metadata: { team: "web=1" },
      policy: { order: "key", retrySchedule: [5, 60], timeoutSeconds: 2.5, successStatuses: [200, 304] },
    });

    const [list, shown, withSecret, changed] = await Promise.all([
      cli.run(["endpoints", app]),
      cli.run(["endpoints", "show", app, "main"]),
      cli.run(["endpoints", "show", app, "main", "--show-secret", "--json"]),
      cli.run([
        "endpoints",
        "update",
        app,
        id,
        "--event-type",
        "none",
        "--throttle-rate",
        "none",
        "--endpoint-url",
        "https://example.com/new",
      ]),
    ]);
    expect(list.stdout).toMatch(new RegExp(`^${id} +main +disabled +https://example.com/\\w+ +`, "m"));
    expect(shown.stdout).toMatch(/^Headers +x-team, authorization \(secret\)$/m);
    expect(shown.stdout + shown.stderr).not.toMatch(/canary|whsec_/);
    expect(withSecret.lines[0]).toMatchObject({
      id,
      secret: readFileSync(secret, "utf8").trim(),
      stats: { success: 0 },
    });
    expect(changed.code).toBe(0);
    expect(await read()).toMatchObject({
      eventTypes: null,
      throttleRate: null,
      url: "https://example.com/new",
      uid: "main",
    });

    expect((await cli.run(["endpoints", "enable", app, "main"])).stderr).toBe(
      'The endpoint "main" is enabled.\n',
    );
    expect((await read()).disabled).toBe(false);
    expect((await cli.run(["endpoints", "disable", app, "main", "--json"])).lines).toMatchObject([
      { id, disabled: true },
    ]);

    const [quiet, rotated] = [
      await cli.run(["endpoints", "rotate-secret", app, "main"]),
      await cli.run(["endpoints", "rotate-secret", app, "main", "--overlap", "2h", "--show-secret"]),
    ];
    expect(quiet.stdout + quiet.stderr).not.toContain("whsec_");
    expect(rotated.stdout).toMatch(/^whsec_\S+\n$/);
    expect((await api("GET", `/app/${app}/endpoint/main/secret`)).json.key).toBe(rotated.stdout.trim());

    const [unsure, sure] = [
      await cli.run(["endpoints", "delete", app, "main"]),
      await cli.run(["endpoints", "delete", app, "main", "--yes"]),
    ];
    expect([unsure.code, unsure.stderr, sure.code]).toEqual([2, expect.stringContaining("say --yes"), 0]);
    expect((await api("GET", `/app/${app}/endpoint/main`)).status).toBe(404);
  });

  test("says what the service has against it, with each place", async () => {
    const app = await makeApplication();
    const { code, stderr } = await cli.run([
      "endpoints",
      "create",
      app,
      "ftp://example.com",
      "--uid",
      "two words",
    ]);
    expect(code).toBe(4);
    expect(stderr.split("\n").sort()).toEqual([
      "",
      expect.stringMatching(/^hookplane: url: The URL must be absolute/),
      expect.stringMatching(/^uid: /),
    ]);
    expect(await cli.run(["endpoints", "update", app, "main"])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("There is nothing to change"),
    });
  });

  test("shows what blocks a strict order, sends it again, or gives it up", async () => {
    const receiver = await receive();
    receiver.answer = { status: 500, body: "" };
    const app = await makeApplication(receiver.url, { order: "endpoint", retrySchedule: [] });
    for (const id of ["first", "second", "third"]) await publish(app, id);
    const head = async () => (await api("GET", `/app/${app}/endpoint/main/order`)).json.data[0];
    await until(async () => {
      expect(await head()).toMatchObject({ status: "blocked", eventId: "first" });
    });
    const [shown, json] = await Promise.all([
      cli.run(["endpoints", "order", app, "main"]),
      cli.run(["endpoints", "order", app, "main", "--json"]),
    ]);
    expect(shown.stdout).toMatch(/blocked +1 +- +2$/m);
    expect(json.lines).toMatchObject([{ eventId: "first", behind: 2 }]);

    expect(await cli.run(["endpoints", "skip", app, "main", "first"])).toMatchObject({ code: 0, stdout: "" });
    await until(async () => {
      expect(await head()).toMatchObject({ status: "blocked", eventId: "second" });
    });
    receiver.answer = { status: 200, body: "" };
    expect(await cli.run(["endpoints", "retry", app, "main", "second", "--json"])).toMatchObject({
      code: 0,
      lines: [{ retry: "second", endpoint: "main" }],
    });
    await until(async () => {
      expect(await head()).toBeUndefined();
    });
    expect(await cli.run(["endpoints", "retry", app, "main", "third"])).toMatchObject({
      code: 4,
      stdout: "",
    });
  });
});

describe("hookplane replay", () => {
  test("sends what has failed to all endpoints again, and waits until it is on its way", async () => {
    const receiver = await receive();
    const app = await makeApplication(receiver.url, { retrySchedule: [] });
    await api("POST", `/app/${app}/endpoint`, {
      url: receiver.url,
      uid: "other",
      policy: { retrySchedule: [] },
    });
    await api("POST", `/app/${app}/endpoint`, { url: receiver.url, uid: "off", disabled: true });
    receiver.answer = { status: 500, body: "" };
    for (const id of ["a", "b"]) await publish(app, id);
    await until(async () => {
      const { json } = await api("GET", `/app/${app}/endpoint/main/msg?status=2`);
      expect(json.data).toHaveLength(2);
      expect((await api("GET", `/app/${app}/endpoint/other/msg?status=2`)).json.data).toHaveLength(2);
    });
    receiver.answer = { status: 200, body: "" };
    const { code, stdout, stderr } = await cli.run(["replay", app, "--since", "1h", "--failed"]);
    expect([code, stderr]).toEqual([0, 'The endpoint "off" is disabled and left out.\n']);
    expect(stdout.match(/^qtask_\w+: 2 messages sent to "ep_\w+" again$/gm)).toHaveLength(2);
    await until(() => {
      expect(receiver.requests).toHaveLength(8);
    });

    const [again, list] = await Promise.all([
      cli.run([
        "replay",
        app,
        "--since",
        "1h",
        "--endpoint",
        "main",
        "--event-type",
        "order.sent",
        "--no-wait",
        "--json",
      ]),
      cli.run(["replay", "list", "--status", "finished", "--json"]),
    ]);
    expect(again.lines).toMatchObject([
      { task: "endpoint.bulk-replay", data: { since: expect.any(String) } },
    ]);
    expect(list.lines.length).toBeGreaterThanOrEqual(2);
    const { id } = again.lines[0];
    expect((await cli.run(["replay", "show", id, "--wait"])).stdout).toMatch(/^Status +finished$/m);
    expect(await cli.run(["replay", "cancel", id])).toMatchObject({
      code: 4,
      stderr: expect.stringContaining("ended already"),
    });
  });

  test("goes on when its waiting is interrupted, and says how to look again", async () => {
    const receiver = await receive();
    // One at a time and slowly, so that there is something left to wait for.
    const app = await makeApplication(receiver.url, { order: "endpoint" });
    await api("PATCH", `/app/${app}/endpoint/main`, { throttleRate: 1 });
    const messages = Array.from({ length: 100 }, () => ({ eventType: "a", payload: {} }));
    for (let batch = 0; batch < 4; batch++) await api("POST", `/app/${app}/msg/batch`, { messages });
    await api("POST", `/app/${app}/endpoint`, { url: receiver.url, uid: "late", throttleRate: 1 });
    const { child, printed, exit } = cli.start([
      "replay",
      app,
      "--since",
      "1h",
      "--endpoint",
      "late",
      "--missing",
    ]);
    await until(() => {
      expect(printed.stderr).toMatch(/^\d+ messages? of (?:\?|400) sent again$/m);
    });
    child.kill("SIGINT");
    expect(await exit).toBe(130);
    const [, id] = /hookplane replay show (qtask_\w+) --wait/.exec(printed.stderr) ?? [];
    expect((await cli.run(["replay", "show", id!, "--json"])).lines).toMatchObject([
      { id, status: "running" },
    ]);
    expect((await cli.run(["replay", "cancel", id!, "--json"])).lines).toMatchObject([
      { id, status: "failed" },
    ]);
    expect(await cli.run(["replay", "show", id!, "--wait", "--json"])).toMatchObject({ code: 6 });
  });

  test("says what is missing", async () => {
    const { code, stderr } = await cli.run(["replay", "x", "--failed", "--missing", "--tag", "t"]);
    expect(code).toBe(2);
    expect(stderr.split("\n").map((line) => line.split(":")[0])).toEqual([
      "hookplane",
      "--missing",
      "--missing",
      "",
    ]);
    const app = await makeApplication();
    expect(await cli.run(["replay", app, "--since", "1h"])).toMatchObject({
      code: 4,
      stderr: expect.stringContaining("no endpoint that is enabled"),
    });
  });
});

describe("hookplane tail", () => {
  test("shows what happens until Ctrl-C", async () => {
    const receiver = await receive();
    const app = await makeApplication(receiver.url);
    const one = cli.start(["tail", app]);
    const failed = cli.start(["tail", "--failed", "--json"]);
    await until(() => {
      expect(one.printed.stderr).toBe(`Watching "${app}" at ${service.url}.\n`);
    });
    const limited = cli.start(["tail", app, "--type", "attempt.succeeded", "--limit", "1", "--json"]);
    const id = await publish(app, "live-1");
    await until(() => {
      expect(one.printed.stdout).toMatch(new RegExp(`✓ order.paid ${id} main 200 \\d+ ms\n`));
    });
    expect(one.printed.stdout).toMatch(
      new RegExp(`^\\d\\d:\\d\\d:\\d\\d\\.\\d{3} → order.paid ${id} \\(live-1\\)\n`),
    );
    receiver.answer = { status: 410, body: "" };
    const last = await publish(app, "live-2");
    await until(() => {
      expect(one.printed.stdout).toContain(`✗ order.paid ${last} main 410 `);
      expect(one.printed.stdout).toContain("! endpoint disabled: main\n");
      const types = failed.printed.stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
        // Of what other tests have left, something may still fail.
        .filter(({ appUid }) => appUid === app)
        .map(({ type }) => type);
      expect(types).toEqual(["attempt.failed", "endpoint.disabled"]);
    });
    for (const { child } of [one, failed]) child.kill("SIGINT");
    expect(await Promise.all([one.exit, failed.exit])).toEqual([0, 0]);
    // It may have started late.
    receiver.answer = { status: 200, body: "" };
    await api("PATCH", `/app/${app}/endpoint/main`, { disabled: false });
    for (let tries = 0; limited.child.exitCode === null; tries++) {
      await publish(app, `more-${tries}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(await limited.exit).toBe(0);
    expect(limited.printed.stdout.match(/\n/g)).toHaveLength(1);
  });

  test("connects anew where a connection breaks, and goes on behind what it has seen", async () => {
    const seen: (string | undefined)[] = [];
    const server = createServer((request, response) => {
      seen.push(request.headers["last-event-id"] as string | undefined);
      response.writeHead(200, { "content-type": "text/event-stream" });
      const id = `position${seen.length}`;
      response.write(`retry: 20\nid: ${id}\nevent: connected\ndata: {}\n\n`);
      response.write('event: missed\ndata: {"count": 3}\n\n');
      const event = {
        type: "application.deleted",
        appId: `app_${seen.length}\u001b[31m`,
        appUid: null,
        timestamp: "2026-01-01T00:00:00.000Z",
      };
      response.write(`event: application.deleted\ndata: ${JSON.stringify(event)}\n\n`, () => {
        if (seen.length < 3) response.destroy();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => {
      server.closeAllConnections();
      server.close();
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { code, stdout, stderr } = await cli.run(["tail", "--limit", "3"], {
      environment: { HOOKPLANE_URL: url, HOOKPLANE_TOKEN: "t" },
    });
    expect(code).toBe(0);
    expect(seen).toEqual([undefined, "position1", "position2"]);
    expect(stdout.match(/… 3 missed/g)).toHaveLength(3);
    expect(stdout).toContain(String.raw`app_3\x1b[31m ! the application was deleted`);
    expect(stderr).toMatch(/^Watching all applications at .*\nThe .*Trying again\.\nConnected again\.\n/);
  });

  test("ends where it is refused", async () => {
    const [unknown, wrong, token] = await Promise.all([
      cli.run(["tail", "nowhere"]),
      cli.run(["tail", "--type", "nothing", "--limit", "x"]),
      cli.run(["tail"], { environment: { HOOKPLANE_TOKEN: "canary-token" } }),
    ]);
    expect([unknown.code, wrong.code, token.code]).toEqual([4, 2, 5]);
    expect(wrong.stderr).toMatch(/--limit "x": .*\n--type "nothing": choose from message\.accepted, /);
    expect(token.stderr).not.toContain("canary");
  });
});

describe("hookplane applications, organization and token", () => {
  test("make what is asked for, and take it back", async () => {
    const uid = `made-${++count}`;
    const [made, again] = [
      await cli.run(["applications", "create", uid, "--name", "Made here"]),
      await cli.run(["applications", "create", uid, "--json"]),
    ];
    expect(made.stdout).toBe(`${again.lines[0].id}\n`);
    const organization = await cli.run(["organization", "create", "Acme", "--id", uid]);
    expect(organization).toMatchObject({ code: 0, stdout: `${uid}\n` });
    const [shown, list, organizations] = await Promise.all([
      cli.run(["applications", "show", uid]),
      cli.run(["applications", "--limit", "all"]),
      cli.run(["organization", "--json"]),
    ]);
    expect(shown.stdout).toMatch(/^Name +Made here$/m);
    expect(list.stdout).toMatch(new RegExp(`^app_\\w+ +${uid} +Made here `, "m"));
    expect(organizations.lines.map(({ id }) => id)).toContain(uid);

    const token = await cli.run([
      ...["token", "create", "--application", uid, "--capability", "ViewBase"],
      ...["--expires", "1h", "--description", "looks"],
    ]);
    expect(token.stdout).toMatch(/^hp_\S{43}\n$/);
    const [, tokenId] = /hookplane token delete (tok_\w+)/.exec(token.stderr) ?? [];
    const file = writeTemporary(token.stdout);
    const [looks, writes, tokens] = await Promise.all([
      cli.run(["messages", uid, "--token-file", file]),
      cli.run(["publish", uid, "order.paid", "--token-file", file]),
      cli.run(["token", "list"]),
    ]);
    expect([looks.code, writes.code]).toEqual([0, 4]);
    expect(tokens.stdout).toMatch(new RegExp(`^${tokenId} +looks +app_\\w+ +ViewBase +20`, "m"));
    expect(tokens.stdout).not.toContain(token.stdout.trim());
    expect((await cli.run(["token", "delete", tokenId!])).code).toBe(0);
    expect(await cli.run(["messages", uid, "--token-file", file])).toMatchObject({
      code: 5,
      stderr: expect.stringContaining("The token is not valid"),
    });
    expect((await cli.run(["applications", "delete", uid, "--yes", "--json"])).lines).toEqual([
      { deleted: uid },
    ]);
    expect((await api("GET", `/app/${uid}`)).status).toBe(404);
  });
});

describe("hookplane db", () => {
  test("makes a database, looks at it and copies it", async () => {
    const folder = mkdtempSync(join(tmpdir(), "hookplane-db-"));
    cleanups.push(() => {
      rmSync(folder, { recursive: true });
    });
    const of = ["--data-dir", folder];
    expect((await cli.run(["db", "check", ...of])).code).toBe(4);
    const made = await cli.run(["db", "migrate", ...of, "--json"]);
    expect(made.lines).toEqual([{ before: 0, after: expect.any(Number) }]);
    const file = join(folder, "copy.db");
    const [again, sound, copied] = await Promise.all([
      cli.run(["db", "migrate", ...of]),
      cli.run(["db", "check", ...of, "--json"]),
      cli.run(["db", "backup", file, ...of]),
    ]);
    expect(again.stdout).toMatch(/^The database has version \d+ already\.\n$/);
    expect(sound).toMatchObject({ code: 0, lines: [{ problems: [], pending: 0 }] });
    expect(copied).toMatchObject({ code: 0, stdout: expect.stringMatching(/copy\.db: [\d,]+ bytes\n$/) });
    expect(await cli.run(["db", "backup", file, ...of])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("is there already"),
    });
    const database = new DatabaseSync(join(folder, "hookplane.db"));
    database.exec(
      `insert into attempts values ('atmpt_1', 'msg_\u001b[31m', 'ep_1', 'app_1', '', 1, 200, '', 1, 'scheduled', 0)`,
    );
    database.close();
    const broken = await cli.run(["db", "check", ...of]);
    expect(broken).toMatchObject({
      code: 6,
      stdout: expect.stringMatching(
        /^✗ There are 1 attempts of messages that are not there\.\n[^]*1 problem\.\n$/,
      ),
    });
  });

  test("says which command copies a PostgreSQL database, without its password", async () => {
    const { code, stderr } = await cli.run(["db", "backup", "it's.dump"], {
      environment: { HOOKPLANE_DATABASE_URL: "postgres://me:canary@db.example.com/hooks?sslmode=require" },
    });
    expect(code).toBe(2);
    expect(stderr).toContain(
      String.raw`pg_dump --format=custom --file='it'\''s.dump' 'postgres://me@db.example.com/hooks?sslmode=require'`,
    );
    expect(stderr).not.toContain("canary");
  });
});

describe("a command", () => {
  test("says which one was meant where its name is wrong", async () => {
    const [top, below, option, excess, near] = await Promise.all([
      cli.run(["pubilsh"]),
      cli.run(["endpoints", "shwo", "shop", "main"]),
      cli.run(["messages", "shop", "--sicne", "canary"]),
      cli.run(["messages", "show", "a", "b", "c", "--json"]),
      cli.run(["endpoints", "shwo"]),
    ]);
    expect([top, below, option, excess, near].map(({ code }) => code)).toEqual([2, 2, 2, 2, 4]);
    expect(top.stderr).toContain("(Did you mean publish?)");
    expect(below.stderr).toContain("Did you mean hookplane endpoints show?");
    expect(option.stderr).toContain("(Did you mean --since?)");
    expect(JSON.parse(excess.stderr.trim().split("\n").at(-1)!)).toMatchObject({ code: "settings_invalid" });
    expect(near.stderr).toContain("Or did you mean hookplane endpoints show?");
  });

  test("says that no service is there, or that another one is", async () => {
    const other = await receive();
    const [gone, another, far, odd] = await Promise.all([
      // A port that nobody listens on, of those that fetch lets through.
      cli.run(["applications", "--json"], { environment: { HOOKPLANE_URL: "http://127.0.0.1:9" } }),
      cli.run(["applications", "--url", new URL(other.url).origin]),
      cli.run(["applications", "--url", "https://hooks.example.com"], {
        environment: { HOOKPLANE_DATA_DIR: dataDir },
      }),
      cli.run([
        "applications",
        "--url",
        "http://me:canary@127.0.0.1",
        "--token",
        "canary",
        "--token-file",
        "x",
      ]),
    ]);
    expect(gone.code).toBe(3);
    expect(JSON.parse(gone.stderr)).toMatchObject({ event: "failed", code: "service_unreachable" });
    expect([another.code, another.stderr]).toEqual([
      3,
      expect.stringContaining("is no service of Hookplane's"),
    ]);
    // The administrator's token of this machine goes to no other one.
    expect([far.code, far.stderr]).toEqual([
      5,
      expect.stringContaining('There is no token for "https://hooks.example.com"'),
    ]);
    expect(odd.code).toBe(2);
    expect(odd.stderr).toContain("--url: give it without a user and password.");
    expect(odd.stderr).toContain("--token and --token-file: give one of the two.");
    expect(odd.stderr).not.toContain("canary");
  });

  test("says that it has no token", async () => {
    const folder = mkdtempSync(join(tmpdir(), "hookplane-empty-"));
    cleanups.push(() => {
      rmSync(folder, { recursive: true });
    });
    writeFileSync(join(folder, "credentials.json"), '{"admin": {"token": 7, "canary": 1}}');
    const [none, wrong] = await Promise.all([
      cli.run(["applications", "--data-dir", "/nowhere"]),
      cli.run(["applications", "--data-dir", folder]),
    ]);
    expect([none.code, none.stderr]).toEqual([
      5,
      expect.stringContaining('"/nowhere/credentials.json" cannot be read (ENOENT)'),
    ]);
    expect([wrong.code, wrong.stderr]).toEqual([
      5,
      expect.stringContaining("has none of the administrator's"),
    ]);
    expect(wrong.stderr).not.toContain("canary");
  });

  test("colors what it prints where that is wanted, and never where it is not", async () => {
    const app = await makeApplication("https://example.com");
    const [plain, colored, refused] = await Promise.all([
      cli.run(["endpoints", app]),
      cli.run(["endpoints", app], { environment: { FORCE_COLOR: "1" } }),
      cli.run(["endpoints", app], { environment: { NO_COLOR: "1" } }),
    ]);
    const escape = String.fromCharCode(27);
    expect([plain, colored, refused].map(({ stdout }) => stdout.includes(escape))).toEqual([
      false,
      true,
      false,
    ]);
  });
});
