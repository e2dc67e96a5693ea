import fs from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { declare, openStack, type TestStack } from "./stack.ts";
import { rawVendor, type Connections } from "./vendor.ts";

const scope = new AsyncDisposableStack();
let stack: TestStack;
let dataDir: string;

beforeAll(async () => {
  stack = scope.use(await openStack("secrets"));
  dataDir = path.join(stack.directory, "data");
});
afterAll(() => scope.disposeAsync());

/** What a program gives that is secret. */
const given = {
  headers: "canary-of-the-headers",
  preWebhookUrl: "canary-of-the-pre-url",
  postWebhookUrl: "canary-of-the-post-url",
};

async function declareAll({ filters = ["onMessageAdded"] }: { filters?: string[] } = {}): Promise<void> {
  const settings = { dataDir, inbox: true, allowSubnets: ["127.0.0.0/8"], logLevel: "trace" };
  await stack.program(`
    const service = ${declare("DeliveryService", "service", settings)}
    const { pave, twilio, casey, svix } = service.connections;
    const inbox = (name: string) => pulumi.interpolate\`\${service.inboxUrl}/\${name}\`;
    const callback = new hookplane.pave.Callback("pave", {
      event: "SESSION:COMPLETE",
      url: inbox("pave"),
      headers: { Authorization: "Bearer ${given.headers}" },
      connection: pave,
    });
    const conversations = new hookplane.twilio.ConversationsWebhook("twilio", {
      filters: ${JSON.stringify(filters)},
      preWebhookUrl: inbox("pre?token=${given.preWebhookUrl}"),
      postWebhookUrl: inbox("post?token=${given.postWebhookUrl}"),
      connection: twilio,
    });
    const endpoint = new hookplane.casey.WebhookEndpoint("casey", { url: inbox("casey"), connection: casey });
    new hookplane.DeliveryProof("proof", {
      connection: svix,
      timeoutSeconds: 3,
      events: [
        { application: "pave", eventType: "SESSION:COMPLETE", payload: {} },
        { application: "twilio", eventType: "onMessageAdded", payload: {} },
        { application: "casey", eventType: "conversation.completed", payload: {} },
      ],
      triggers: ${JSON.stringify(filters)},
    }, { dependsOn: [callback, conversations, endpoint] });
    // What a program passes on stays secret.
    export const connections = service.connections;
    export const secret = endpoint.secret;
    export const header = callback.headers;
  `);
}

/** Everything that was printed, by what printed it. */
const printed = new Map<string, string>();
let secrets: Readonly<Record<string, string>>;

/**
 * At -v=9 the engine and its SDK dump every property of every call themselves, secrets in plain text. Nothing else that is
 * logged, by the provider or about it, may hold one.
 */
const engineDump =
  /^\{"time":"[^"]*","level":"INFO","msg":"((Unm|M)arshaling property for RPC\[|(eventSink::Debug\(<\{%reset%\}>)?RegisterResource RPC finished: )/;

/** Runs the engine with its loudest log, which has what the provider logs, too. */
async function run(...args: readonly string[]): Promise<boolean> {
  const { ok, output } = await stack.pulumi(...args, "--logtostderr", "--logflow", "-v=9");
  const lines = output.split("\n").filter((line) => !engineDump.test(line));
  printed.set(`${printed.size + 1}: pulumi ${args.join(" ")}`, lines.join("\n"));
  return ok;
}

test("operations that succeed and that fail run with the loudest log", async () => {
  await declareAll();
  expect(await run("preview")).toBe(true);
  expect(await run("up", "--yes", "--skip-preview")).toBe(true);
  const { connections, secret } = await stack.outputs<{ connections: Connections; secret: string }>();
  const { pave, twilio, casey, svix } = connections;
  secrets = {
    ...given,
    // The server made these.
    apiKey: pave.apiKey,
    apiSecret: pave.apiSecret,
    authToken: twilio.authToken,
    caseyKey: casey.apiKey,
    adminToken: svix.token,
    signingSecret: secret,
  };
  for (const value of Object.values(secrets)) expect(value.length).toBeGreaterThan(16);

  const raw = rawVendor(connections);
  await raw.pave("PUT", "SESSION:COMPLETE", {
    url: "https://example.com",
    headers: { "X-Other": given.headers },
  });
  await raw.twilio({ PostWebhookUrl: `https://user:${given.postWebhookUrl}@example.com/changed` });
  await run("refresh", "--preview-only", "--diff");
  expect(await run("up", "--yes", "--skip-preview", "--refresh", "--diff")).toBe(true);

  // The receivers fail, the proof does not hold, and what is declared is wrong.
  for (const name of ["pave", "post", "casey"]) await raw.answerWith(name, 500);
  await declareAll({ filters: ["onMessageAdded", "onUserAdded"] });
  expect(await run("up", "--yes", "--skip-preview", "--diff")).toBe(false);
  await declareAll({ filters: ["onNothing"] });
  expect(await run("up", "--yes", "--skip-preview")).toBe(false);
  await declareAll();
});

test("the state has no secret in plain text", async () => {
  const { output } = await stack.pulumi("stack", "export");
  printed.set("the exported state", output);
  const { output: outputs } = await stack.pulumi("stack", "output", "--json");
  printed.set("the stack's outputs", outputs);
  expect(outputs).toContain("[secret]");
  for (const file of await fs.readdir(path.join(stack.directory, "backend"), { recursive: true })) {
    const text = await fs.readFile(path.join(stack.directory, "backend", file), "utf8").catch(() => "");
    printed.set(`the backend's ${file}`, text);
  }
  expectNoSecret(/state|outputs|backend/);
});

test("the service's log and the process list have none", async () => {
  printed.set("the service's log", await fs.readFile(path.join(dataDir, "service.log"), "utf8"));
  const pids = (await fs.readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = pids.map((pid) => fs.readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => ""));
  printed.set("the process list", (await Promise.all(lines)).join("\n"));
  expect(printed.get("the service's log")).toContain('"event":"ready"');
  expect(printed.get("the process list")).toContain(dataDir);
  expectNoSecret(/log|process/);
});

test("nor has anything that an operation printed", async () => {
  expect(await run("destroy", "--yes", "--skip-preview")).toBe(true);
  expectNoSecret(/pulumi/);
});

function expectNoSecret(where: RegExp): void {
  const found = [...printed]
    .filter(([source]) => where.test(source))
    .flatMap(([source, text]) =>
      Object.entries(secrets)
        .filter(([, value]) => text.includes(value))
        .map(
          ([name, value]) =>
            `${name} in ${source}: ${text.slice(Math.max(0, text.indexOf(value) - 300), text.indexOf(value) + 10)}`,
        ),
    );
  expect(found).toEqual([]);
}
