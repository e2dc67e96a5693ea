// `npm run demo`: deploys demo/index.ts with the real Pulumi engine, publishes events, changes things behind its back,
// lets it find and repair the drift, and removes everything. Every step is checked; a miss ends with exit code 1.
import { createHmac } from "node:crypto";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { CommandError, type EngineEvent, LocalWorkspace } from "@pulumi/pulumi/automation/index.js";
import { chapter, elapsed, ending, line, note, title } from "./screen.ts";

const root = path.resolve(import.meta.dirname, "..");

/** Something was not as it has to be. */
class Miss extends Error {}

/** The service's connections, as the stack's output gives them. */
interface Connections {
  readonly pave: {
    readonly url: string;
    readonly username: string;
    readonly apiKey: string;
    readonly apiSecret: string;
  };
  readonly svix: { readonly url: string; readonly token: string };
}

interface InboxRequest {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly verified: boolean;
  readonly reasons: readonly string[];
}

type Step = NonNullable<EngineEvent["resOutputsEvent"]>["metadata"];

const { values: flags } = parseArgs({ options: { keep: { type: "boolean", default: false } } });

const interruption = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    if (!isInterrupted()) note("\nStopping: what was deployed is removed first …");
    interruption.abort();
  });
}

const stack = await LocalWorkspace.createOrSelectStack({ stackName: "demo", workDir: root });
await stack.cancel().catch(() => {
  // No earlier run was cut off.
});

try {
  title("Hookplane", "Webhooks as code: declared, deployed, delivered, drifting, repaired and destroyed.");
  if ((await resources()).length > 0) {
    note("An earlier demo is still deployed; it is removed first.");
    await stack.destroy();
  }
  await tellTheStory();
  if (!flags.keep) await remove();
  ending(true, `Everything was as it has to be (${elapsed()}).`);
} catch (error) {
  process.exitCode = 1;
  if (isInterrupted()) process.exitCode = 130;
  else if (error instanceof Miss) line("missing", "Missed", "", error.message);
  else if (error instanceof CommandError) line("missing", "Pulumi failed", "", error.message);
  else throw error;
  ending(false, isInterrupted() ? "Interrupted." : `Something was not as it has to be (${elapsed()}).`);
} finally {
  if (process.exitCode && !flags.keep) await removeQuietly();
}

async function tellTheStory(): Promise<void> {
  chapter("Declare and deploy: the service, four webhooks and a proof that they work", "pulumi up");
  await operate((observers) => stack.up(observers), "created");

  const connections = (await stack.outputs()).connections?.value as Connections;
  chapter("Publish events and look at what arrived", "POST /api/v1/app/<account>/msg");
  await publishAll(connections);

  chapter(
    "Somebody changes one callback by hand, and deletes another",
    "curl -X PUT …/pave/v1/callbacks/SESSION:COMPLETE",
  );
  await changeByHand(connections);

  chapter("Find the drift", "pulumi refresh --preview-only --expect-no-changes");
  await findDrift();

  chapter("Repair it", "pulumi up --refresh");
  await operate((observers) => stack.up({ ...observers, refresh: true }), "repaired");
  await expectCallbacks(connections);

  chapter("Nothing is left to do", "pulumi up --expect-no-changes");
  await operate((observers) => stack.up({ ...observers, expectNoChanges: true }), "changed");
  line("done", "No changes", "", "desired = actual");

  if (flags.keep) keep(connections);
}

/** Publishes one event of each kind and shows each receipt with its verification. */
async function publishAll(connections: Connections): Promise<void> {
  const api = serviceApi(connections);

  await api.publish("pave", "SESSION:COMPLETE", { session_key: "DMO-0000000001", status: "COMPLETE" });
  await showReceipt(
    api,
    "SESSION:COMPLETE",
    "pave-complete",
    "its authentication header is right",
    ({ body }) => {
      const received = JSON.parse(body) as Record<string, unknown>;
      return received.session_key === "DMO-0000000001" && received.source === "hookplane-demo";
    },
  );

  await api.publish("twilio", "onMessageAdded", {
    ConversationSid: `CH${"1".repeat(32)}`,
    Body: "Hello",
    Author: "guest",
  });
  await showReceipt(api, "onMessageAdded", "twilio-post", "X-Twilio-Signature verified", ({ body }) => {
    const received = new URLSearchParams(body);
    return received.get("EventType") === "onMessageAdded" && received.get("Body") === "Hello";
  });

  await api.answer("twilio-pre", { status: 200, body: JSON.stringify({ body: "Hello, and welcome" }) });
  const outcome = await api.hook("twilio", "onMessageAdd", {
    ConversationSid: `CH${"1".repeat(32)}`,
    Body: "Hello",
    Author: "guest",
  });
  await showReceipt(api, "onMessageAdd", "twilio-pre", "X-Twilio-Signature verified", () => true);
  expect(
    outcome.publish && outcome.changes.body === "Hello, and welcome",
    `the receiver's change of onMessageAdd did not come through: ${JSON.stringify(outcome)}`,
  );
  line("done", "", "", `the receiver changed the message to "${outcome.changes.body}"`);

  await api.publish("casey", "conversation.completed", {
    conversation_id: "3f6f1f7e-6f0e-4f4e-9a53-0d0f5d3f9b11",
    turn_count: 7,
  });
  await showReceipt(
    api,
    "conversation.completed",
    "casey",
    "Standard Webhooks signature verified",
    ({ body }) => {
      const received = JSON.parse(body) as { event_type?: string; data?: { turn_count?: number } };
      return received.event_type === "conversation.completed" && received.data?.turn_count === 7;
    },
  );
}

async function showReceipt(
  api: ReturnType<typeof serviceApi>,
  eventType: string,
  inbox: string,
  verified: string,
  isIt: (request: InboxRequest) => boolean,
): Promise<void> {
  const startedAt = performance.now();
  let seen: readonly InboxRequest[] = [];
  while (performance.now() - startedAt < 5_000) {
    seen = await api.requests(inbox);
    const request = seen.findLast(isIt);
    if (request) {
      expect(
        request.verified,
        `${eventType} reached the inbox '${inbox}', but was not verified: ${request.reasons.join("; ")}`,
      );
      line("done", eventType, `→ inbox/${inbox}`, verified);
      return;
    }
    await sleep(20);
  }
  throw new Miss(
    `${eventType} did not reach the inbox '${inbox}' within 5 s (${seen.length} other requests did)`,
  );
}

/** What somebody does with curl and the vendor's documentation. */
async function changeByHand({ pave }: Connections): Promise<void> {
  const answer = await paveRequest(pave, "GET", "SESSION:COMPLETE");
  const { data } = (await answer.json()) as { data: object };
  const url = `${pave.url}/nowhere`;
  const changed = await paveRequest(pave, "PUT", "SESSION:COMPLETE", { ...data, url, method: "GET" });
  line("done", "SESSION:COMPLETE", `PUT ${changed.status}`, "another URL, and method GET");
  const deleted = await paveRequest(pave, "DELETE", "SESSION:STATUS_CHANGE");
  line("done", "SESSION:STATUS_CHANGE", `DELETE ${deleted.status}`, "gone");
}

async function findDrift(): Promise<void> {
  const found = new Map<string, string>();
  const onEvent = ({ resOutputsEvent }: EngineEvent) => {
    const step = resOutputsEvent?.metadata;
    if (step && step.op !== "same") found.set(nameOf(step), differenceOf(step));
  };
  const refused = await stack.previewRefresh({ onEvent, expectNoChanges: true }).then(
    () => false,
    (error: unknown) => {
      if (!(error instanceof CommandError)) throw error;
      return true;
    },
  );
  stopIfInterrupted();
  for (const [resource, difference] of found) line("found", "drift", resource, difference);
  expect(refused, "refresh --expect-no-changes did not notice the drift");
  const expected = {
    "inspection-complete": "changed outside: method, url",
    "inspection-status": "deleted outside",
  };
  expect(
    isDeepStrictEqual(Object.fromEntries(found), expected),
    `the drift is ${JSON.stringify(Object.fromEntries(found))}, but should be ${JSON.stringify(expected)}`,
  );
}

/** What the vendor has that the state has not, or the other way round. */
function differenceOf({ op, old, new: observed }: Step): string {
  if (op === "delete") return "deleted outside";
  const before = old?.outputs as Record<string, unknown>;
  const after = observed?.outputs as Record<string, unknown>;
  const names = Object.keys({ ...before, ...after }).filter(
    (name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]),
  );
  return `changed outside: ${names.sort().join(", ")}`;
}

async function expectCallbacks({ pave }: Connections): Promise<void> {
  const answer = await paveRequest(pave, "GET", "");
  const { data } = (await answer.json()) as { data: { event: string; url: string; method: string }[] };
  const complete = data.find(({ event }) => event === "SESSION:COMPLETE");
  expect(
    complete?.method === "POST" && complete.url.endsWith("/inbox/pave-complete"),
    "SESSION:COMPLETE was not repaired",
  );
  expect(
    data.some(({ event }) => event === "SESSION:STATUS_CHANGE"),
    "SESSION:STATUS_CHANGE was not made again",
  );
  line("done", "GET /callbacks", "", "the vendor has what the program says");
}

async function remove(): Promise<void> {
  const { url } = ((await stack.outputs()).connections?.value as Connections).svix;
  chapter("Remove everything", "pulumi destroy");
  await operate((observers) => stack.destroy(observers), "deleted");
  expect((await resources()).length === 0, "the stack still has resources");
  const answers = await fetch(url).then(
    () => true,
    () => false,
  );
  expect(!answers, `the service at ${url} still answers`);
  line("done", "No resource, no process", "", "");
}

async function removeQuietly(): Promise<void> {
  await stack.cancel().catch(() => {
    // Nothing was running.
  });
  await stack.destroy().catch((error: unknown) => {
    note(`Not everything could be removed: ${error instanceof Error ? error.message : String(error)}`);
  });
}

function keep({ svix }: Connections): void {
  chapter("It keeps running");
  note(
    [
      `The service is at ${svix.url}. To look around:`,
      "  npm run -s pulumi -- stack output connections --show-secrets --stack demo",
      `  curl -H "Authorization: Bearer <svix token>" ${svix.url}/inbox/casey/requests`,
      `  curl -H "Authorization: Bearer <svix token>" ${svix.url}/api/v1/app/pave/msg`,
      "To remove it:",
      "  npm run -s pulumi -- destroy --yes --stack demo",
    ].join("\n"),
  );
}

/** Runs an operation of the engine and shows each resource as it is done. */
async function operate(
  operation: (observers: { onEvent(event: EngineEvent): void }) => Promise<unknown>,
  done: string,
): Promise<void> {
  const startedAt = new Map<string, number>();
  await operation({
    onEvent({ resourcePreEvent, resOutputsEvent, diagnosticEvent }) {
      if (diagnosticEvent?.severity === "warning") note(diagnosticEvent.message.trim());
      const begun = resourcePreEvent?.metadata;
      if (begun) startedAt.set(begun.urn, performance.now());
      const step = resOutputsEvent?.metadata;
      // The stack and Pulumi's own provider resource are not part of the story.
      if (!step || ["same", "refresh", "read"].includes(step.op) || step.type.startsWith("pulumi:")) return;
      const seconds = (performance.now() - (startedAt.get(step.urn) ?? performance.now())) / 1000;
      line(
        "done",
        step.type.replace("pulumi-nodejs:dynamic/", ""),
        nameOf(step),
        `${done} (${seconds.toFixed(1)} s)`,
      );
    },
  });
  stopIfInterrupted();
}

function isInterrupted(): boolean {
  return interruption.signal.aborted;
}

function stopIfInterrupted(): void {
  if (isInterrupted()) throw new Miss("interrupted");
}

function nameOf({ urn }: Step): string {
  return urn.split("::").at(-1) ?? urn;
}

async function resources(): Promise<unknown[]> {
  const { deployment } = (await stack.exportStack()) as { deployment: { resources?: unknown[] } };
  return deployment.resources ?? [];
}

function expect(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Miss(message);
}

/** The delivery service's own API. */
function serviceApi({ svix }: Connections) {
  const call = async (method: string, route: string, body?: unknown): Promise<unknown> => {
    const answer = await fetch(svix.url + route, {
      method,
      headers: { authorization: `Bearer ${svix.token}`, "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    expect(answer.ok, `${method} ${route} answered ${answer.status}: ${text}`);
    return text === "" ? undefined : JSON.parse(text);
  };
  return {
    publish: (application: string, eventType: string, payload: object) =>
      call("POST", `/api/v1/app/${application}/msg`, { eventType, payload }),
    hook: async (application: string, eventType: string, payload: object) =>
      (await call("POST", `/api/v1/app/${application}/hook`, { eventType, payload })) as {
        publish: boolean;
        changes: Record<string, string>;
      },
    answer: (inbox: string, answer: { status: number; body: string }) =>
      call("PUT", `/inbox/${inbox}/answer`, answer),
    requests: async (inbox: string) =>
      ((await call("GET", `/inbox/${inbox}/requests`)) as { data: InboxRequest[] }).data,
  };
}

/** A request as PAVE's documentation describes it: the token is an HMAC over account, key and time. */
function paveRequest(
  pave: Connections["pave"],
  method: string,
  event: string,
  body?: object,
): Promise<Response> {
  const timestamp = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const token = createHmac("sha256", pave.apiSecret)
    .update(`${pave.username}:${pave.apiKey}@${timestamp}`)
    .digest("hex");
  return fetch(`${pave.url}/callbacks${event === "" ? "" : `/${event}`}`, {
    method,
    headers: {
      "API-Key": pave.apiKey,
      "API-Timestamp": timestamp,
      "API-Token": token,
      "Content-type": "application/json",
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}
