import { createHmac } from "node:crypto";
import { Writable } from "node:stream";
import type { RouteOptions } from "fastify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { capabilities, type Access, type Capability } from "../core/caller.ts";
import { createLogger } from "../log.ts";
import { createServer, type ServerContext } from "./server.ts";
import { eventually, startService, type TestService } from "./service.suite.ts";

/** Who may do what, for every route there is: the routes are asked of the server, so that none can be forgotten. */

interface Route {
  readonly method: string;
  /** With its parameters: `/api/v1/app/:app`. */
  readonly url: string;
  readonly access: Access;
}

const routes = await listRoutes();
const named = routes.map((route): [string, Route] => [`${route.method} ${route.url}`, route]);

/** What a token of one application can be let do. Whoever adds a route here opens it to the customers of customers. */
const openToPortals: Record<string, Capability> = {
  "GET /api/v1/app/:app": "ViewBase",
  "GET /api/v1/app/:app/attempt/endpoint/:endpoint": "ViewBase",
  "GET /api/v1/app/:app/attempt/msg/:message": "ViewBase",
  "GET /api/v1/app/:app/endpoint": "ViewBase",
  "POST /api/v1/app/:app/endpoint": "ManageEndpoint",
  "GET /api/v1/app/:app/endpoint/:endpoint": "ViewBase",
  "PUT /api/v1/app/:app/endpoint/:endpoint": "ManageEndpoint",
  "PATCH /api/v1/app/:app/endpoint/:endpoint": "ManageEndpoint",
  "DELETE /api/v1/app/:app/endpoint/:endpoint": "ManageEndpoint",
  "GET /api/v1/app/:app/endpoint/:endpoint/headers": "ViewBase",
  "PUT /api/v1/app/:app/endpoint/:endpoint/headers": "ManageEndpoint",
  "PATCH /api/v1/app/:app/endpoint/:endpoint/headers": "ManageEndpoint",
  "GET /api/v1/app/:app/endpoint/:endpoint/msg": "ViewBase",
  "POST /api/v1/app/:app/endpoint/:endpoint/bulk-replay": "CreateAttempts",
  "GET /api/v1/app/:app/endpoint/:endpoint/order": "ViewBase",
  "POST /api/v1/app/:app/endpoint/:endpoint/order/retry": "CreateAttempts",
  "POST /api/v1/app/:app/endpoint/:endpoint/order/skip": "ManageEndpoint",
  "POST /api/v1/app/:app/endpoint/:endpoint/recover": "CreateAttempts",
  "POST /api/v1/app/:app/endpoint/:endpoint/replay": "CreateAttempts",
  "POST /api/v1/app/:app/endpoint/:endpoint/replay-missing": "CreateAttempts",
  "GET /api/v1/app/:app/endpoint/:endpoint/secret": "ViewEndpointSecret",
  "POST /api/v1/app/:app/endpoint/:endpoint/secret/rotate": "ManageEndpointSecret",
  "POST /api/v1/app/:app/endpoint/:endpoint/send-example": "CreateAttempts",
  "GET /api/v1/app/:app/endpoint/:endpoint/stats": "ViewBase",
  "GET /api/v1/app/:app/msg": "ViewBase",
  "GET /api/v1/app/:app/msg/:message": "ViewBase",
  "GET /api/v1/app/:app/msg/:message/attempt/:attempt": "ViewBase",
  "GET /api/v1/app/:app/msg/:message/endpoint": "ViewBase",
  "GET /api/v1/app/:app/tail": "ViewBase",
  "POST /api/v1/app/:app/msg/:message/endpoint/:endpoint/resend": "CreateAttempts",
  "POST /api/v1/auth/logout": "ViewBase",
  "GET /api/v1/background-task": "ViewBase",
  "GET /api/v1/background-task/:task": "ViewBase",
  "POST /api/v1/background-task/:task/cancel": "CreateAttempts",
  "GET /api/v1/event-type": "ViewBase",
  "GET /api/v1/event-type/:name": "ViewBase",
};

/** A body that each route takes, so that a refusal is for the caller's sake and not for the body's. */
const bodies: Record<string, unknown> = {
  "POST /api/v1/app": { name: "Mine" },
  "PUT /api/v1/app/:app": { name: "Mine" },
  "PATCH /api/v1/app/:app": { name: "Mine" },
  "POST /api/v1/event-type": { name: "mine", description: "" },
  "PUT /api/v1/event-type/:name": { description: "mine" },
  "PATCH /api/v1/event-type/:name": { description: "mine" },
  "POST /api/v1/app/:app/endpoint": { url: "https://example.com/mine" },
  "PUT /api/v1/app/:app/endpoint/:endpoint": { url: "https://example.com/mine" },
  "PATCH /api/v1/app/:app/endpoint/:endpoint": { description: "mine" },
  "PUT /api/v1/app/:app/endpoint/:endpoint/headers": { headers: { "x-mine": "1" } },
  "PATCH /api/v1/app/:app/endpoint/:endpoint/headers": { headers: { "x-mine": "1" } },
  "POST /api/v1/app/:app/endpoint/:endpoint/secret/rotate": {},
  "POST /api/v1/app/:app/endpoint/:endpoint/bulk-replay": { since: "2026-01-01T00:00:00Z" },
  "POST /api/v1/app/:app/endpoint/:endpoint/recover": { since: "2026-01-01T00:00:00Z" },
  "POST /api/v1/app/:app/endpoint/:endpoint/replay": { since: "2026-01-01T00:00:00Z" },
  "POST /api/v1/app/:app/endpoint/:endpoint/replay-missing": { since: "2026-01-01T00:00:00Z" },
  "POST /api/v1/app/:app/endpoint/:endpoint/order/retry": { messageId: "mine" },
  "POST /api/v1/app/:app/endpoint/:endpoint/order/skip": { messageId: "mine" },
  "POST /api/v1/app/:app/endpoint/:endpoint/send-example": { eventType: "victim.paid" },
  "POST /api/v1/app/:app/msg": { eventType: "mine", payload: {} },
  "POST /api/v1/app/:app/msg/batch": { messages: [{ eventType: "mine", payload: {} }] },
  "POST /api/v1/app/:app/hook": { eventType: "mine", payload: {} },
  "POST /api/v1/auth/app-portal-access/:app": {},
  "POST /api/v1/auth/app/:app/expire-all": {},
  "POST /api/v1/organization": { name: "Mine" },
  "POST /api/v1/organization/:organization/token": {},
  "PUT /inbox/:name/answer": {},
};

/** What another organization makes for itself, and under the victim's name. */
const makesItsOwn: readonly string[] = [
  "POST /api/v1/app",
  "POST /api/v1/event-type",
  "PUT /api/v1/event-type/:name",
];

const jwtSecret = "a-secret-that-the-operator-has-set";
const logged: string[] = [];
const logger = createLogger(
  "trace",
  new Writable({
    write(chunk: Buffer, _encoding, callback) {
      logged.push(chunk.toString());
      callback();
    },
  }),
);

let service: TestService;
/** Another organization, with an application of its own under the uid `own`. */
let other: { id: string; token: string };
/** Everybody's tokens, none of which may be written anywhere. */
const tokens: string[] = [];
/** Of the victim: what goes into paths. */
let parameters: Record<string, string>;
/** The victim's token, of its organization. */
let owner: string;
let organizationId: string;
/** Another application of the victim's organization. */
let neighbor: string;
/** All that the victim has, as it reads it. */
let before: unknown;

beforeAll(async () => {
  service = await startService({ jwtSecret }, logger);
  tokens.push(service.token);
  ({ id: organizationId, token: owner } = await addOrganization());
  const mine = { authorization: `Bearer ${owner}` };
  const make = async (path: string, body: unknown) =>
    (await service.request("POST", `/api/v1${path}`, body, mine)).json;
  const metadata = { note: "canary-metadata" };
  const app = (await make("/app", { name: "canary-application", uid: "victim", metadata })).id;
  await make("/event-type", {
    name: "victim.paid",
    description: "canary-event-type",
    featureFlags: ["victims-flag"],
  });
  const url = `${service.url}/inbox/canary-endpoint`;
  const headers = { "x-note": "canary-header" };
  const endpoint = (await make(`/app/${app}/endpoint`, { url, headers, description: "canary-text" })).id;
  const message = (
    await make(`/app/${app}/msg`, { eventType: "victim.paid", payload: { note: "canary-payload" } })
  ).id;
  let attempt = "";
  await eventually(async () => {
    const { json } = await service.request(
      "GET",
      `/api/v1/app/${app}/attempt/msg/${message}`,
      undefined,
      mine,
    );
    attempt = json.data[0].id;
  });
  const since = new Date(0).toISOString();
  const task = (await make(`/app/${app}/endpoint/${endpoint}/recover`, { since })).id;
  await eventually(async () => {
    const { json } = await service.request("GET", `/api/v1/background-task/${task}`, undefined, mine);
    expect(json.status).toBe("finished");
  });
  neighbor = (await make("/app", { name: "Neighbor", uid: "neighbor" })).id;
  const { json: list } = await service.request("GET", `/api/v1/organization/${organizationId}/token`);
  parameters = {
    app,
    endpoint,
    message,
    attempt,
    task,
    name: "victim.paid",
    organization: organizationId,
    token: list.data[0].id,
  };
  other = await addOrganization();
  await addPortal(other.token, "own");
  before = await everything();
});
afterAll(() => service[Symbol.asyncDispose]());

/** Texts that are the victim's alone, and in no request of this test. */
const secrets = ["canary", "victims-flag", "whsec_"];

async function addOrganization(): Promise<{ id: string; token: string }> {
  const { json: organization } = await service.request("POST", "/api/v1/organization", { name: "Other" });
  const { json } = await service.request("POST", `/api/v1/organization/${organization.id}/token`, {});
  tokens.push(json.token);
  return { id: organization.id, token: json.token };
}

/** A token for an application of the organization whose token is given; one under a uid is made. */
async function addPortal(token: string, app: string, given?: readonly Capability[]): Promise<string> {
  const application = app.startsWith("app_") ? undefined : { name: "Mine", uid: app };
  const { status, json } = await service.request(
    "POST",
    `/api/v1/auth/app-portal-access/${app}`,
    { application, capabilities: given },
    { authorization: `Bearer ${token}` },
  );
  expect(status).toBe(200);
  tokens.push(json.token);
  return json.token;
}

function jwt(claims: object): string {
  const signed = [{ alg: "HS256", typ: "JWT" }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
  const token = `${signed}.${createHmac("sha256", jwtSecret).update(signed).digest("base64url")}`;
  tokens.push(token);
  return token;
}

/** Everything that the victim has, but when it was last read. */
async function everything(): Promise<unknown> {
  const { app, endpoint, message } = parameters;
  const read = async (path: string) =>
    (await service.request("GET", path, undefined, { authorization: `Bearer ${owner}` })).text;
  return Promise.all(
    [
      "/api/v1/app",
      "/api/v1/event-type?with_content=true&include_archived=true",
      `/api/v1/app/${app}/endpoint`,
      `/api/v1/app/${app}/endpoint/${endpoint}/secret`,
      `/api/v1/app/${app}/endpoint/${endpoint}/headers`,
      `/api/v1/app/${app}/msg`,
      `/api/v1/app/${app}/attempt/msg/${message}`,
      "/api/v1/background-task",
      "/inbox/canary-endpoint/requests",
    ].map(read),
  );
}

/** Sends a request to the victim's things: to those of the parameters, or of others that are given. */
async function send(route: Route, token: string | null, own: Record<string, string> = {}) {
  const values = { ...parameters, ...own };
  const isInbox = route.url.startsWith("/inbox/");
  const path = route.url.replaceAll(/:(\w+)/g, (_, name: string) => {
    const value = isInbox ? "canary-endpoint" : values[name];
    if (value === undefined)
      throw new Error(`This test does not know the parameter "${name}" of ${route.url}`);
    return value;
  });
  const response = await fetch(service.url + path, {
    method: route.method,
    headers: token === null ? {} : { authorization: `Bearer ${token}` },
    body: ["GET", "HEAD"].includes(route.method)
      ? null
      : JSON.stringify(bodies[`${route.method} ${route.url}`] ?? null),
  });
  return { status: response.status, headers: response.headers, text: await textOf(response) };
}

/** An answer that has no end is read for as long as it has something to say at once. */
async function textOf(response: Response): Promise<string> {
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) return response.text();
  const reader = response.body!.getReader();
  const { value = new Uint8Array() } = await reader.read();
  await reader.cancel();
  return Buffer.from(value).toString();
}

function codeOf(route: Route, text: string): unknown {
  return route.method === "HEAD" ? null : (JSON.parse(text) as { code: unknown }).code;
}

function asShown(route: Route, status: number, code: string | undefined): unknown[] {
  return [status, route.method === "HEAD" ? null : code];
}

function expectNoLeak(text: string): void {
  for (const secret of secrets) expect(text).not.toContain(secret);
  for (const token of tokens) expect(text).not.toContain(token);
}

test("there are routes", () => {
  expect(routes.length).toBeGreaterThan(50);
});

test("what is open to a token of one application is on the list above, and nothing else", () => {
  const open = routes.filter(({ method, access }) => isCapability(access) && method !== "HEAD");
  expect(Object.fromEntries(open.map(({ method, url, access }) => [`${method} ${url}`, access]))).toEqual(
    openToPortals,
  );
});

describe("without a token, with a wrong one and with one that has expired", () => {
  const expiredAt = Math.floor(Date.now() / 1000) - 3600;
  test.each(named)("%s is answered with 401", async (_, route) => {
    const expired = jwt({ sub: organizationId, exp: expiredAt });
    const forged = expired.replace(/[^.]*$/, "") + "x".repeat(43);
    for (const token of [null, `hp_${"w".repeat(43)}`, expired, forged, owner.slice(0, -1)]) {
      const { status, headers, text } = await send(route, token);
      expect([status, headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
      if (route.method !== "HEAD") expect(JSON.parse(text).code).toBe("authentication_failed");
      expectNoLeak(text);
    }
  });
});

describe("with a token of another organization", () => {
  test.each(named)("%s neither shows nor changes what is not its own", async (name, route) => {
    const isMaking = makesItsOwn.includes(name);
    // What it makes under the victim's name would be found by the others.
    const { token, id } = isMaking ? await addOrganization() : other;
    for (const each of [token, jwt({ iss: "svix-server", sub: id })]) {
      const { status, text } = await send(route, each);
      expectNoLeak(text);
      if (route.access === "admin" || name === "POST /api/v1/auth/logout") expect(status).toBe(403);
      else if (isMaking) expect([200, 201, 409]).toContain(status);
      else if (route.url.startsWith("/inbox/") || !route.url.includes(":")) expect(status).toBe(200);
      else expect([status, codeOf(route, text)]).toEqual(asShown(route, 404, "not_found"));
    }
  });

  test.each(named.filter(([, { url }]) => url.includes(":app")))(
    "%s does not find it by its uid either",
    async (name, route) => {
      // A PUT makes one of the same name, in the organization of the caller.
      const isMaking = name === "PUT /api/v1/app/:app";
      const { token } = isMaking ? await addOrganization() : other;
      const { status, text } = await send(route, token, { app: "victim" });
      expect(status).toBe(isMaking ? 201 : 404);
      expectNoLeak(text);
    },
  );

  test.each(named.filter(([, { url }]) => url.includes(":app/")))(
    "%s does not find what is in it by way of an application of one's own",
    async (_, route) => {
      const { status, text } = await send(route, other.token, { app: "own" });
      expectNoLeak(text);
      // What has no other parameter is about the caller's own application.
      if (/:app\/.*:/.test(route.url)) expect(status).toBe(404);
      else expect([200, 201, 202, 204, 404]).toContain(status);
    },
  );
});

describe("with a token of another application", () => {
  const portals: string[] = [];
  beforeAll(async () => {
    // Of the same organization, by either kind of token, and of another organization.
    portals.push(
      await addPortal(owner, neighbor),
      jwt({ iss: "svix-server", org: organizationId, sub: neighbor }),
      await addPortal(other.token, "own"),
    );
  });

  test.each(named.filter(([name]) => name !== "POST /api/v1/auth/logout"))(
    "%s neither shows nor changes what is not its own",
    async (_, route) => {
      for (const token of portals) {
        const { status, text } = await send(route, token);
        expectNoLeak(text);
        // Where no application is in the path, what shows is the caller's own; the victim's event type is behind a flag.
        const isRefused = !isCapability(route.access) || route.url.includes(":app");
        const expected = isRefused
          ? asShown(route, 403, "forbidden")
          : route.url.includes(":")
            ? asShown(route, 404, "not_found")
            : asShown(route, 200, undefined);
        expect([status, codeOf(route, text)]).toEqual(expected);
      }
    },
  );
});

describe("with a token of the application itself", () => {
  test.each<[string, readonly Capability[] | undefined, readonly Capability[]]>([
    ["everything", undefined, capabilities],
    ["looking", ["ViewBase"], ["ViewBase"]],
    [
      "managing endpoints",
      ["ViewBase", "ManageEndpoint"],
      ["ViewBase", "ViewEndpointSecret", "ManageEndpointSecret", "ManageEndpoint"],
    ],
  ])("for %s, that much is open, and nothing of the victim's", async (_, given, granted) => {
    let portal = await addPortal(other.token, "own", given);
    for (const route of routes) {
      const { status, text } = await send(route, portal, { app: "own" });
      const where = `${route.method} ${route.url}`;
      expectNoLeak(text);
      const isOpen = isCapability(route.access) && granted.includes(route.access);
      if (isOpen) expect([200, 201, 202, 204, 404], where).toContain(status);
      else expect(status, where).toBe(403);
      if (where === "POST /api/v1/auth/logout") portal = await addPortal(other.token, "own", given);
    }
  });
});

test("after all that, everything of the victim's is as it was", async () => {
  expect(await everything()).toEqual(before);
});

test("no token was written to the log", () => {
  expect(logged.length).toBeGreaterThan(routes.length);
  const text = logged.join("");
  for (const token of tokens) expect(text).not.toContain(token);
});

function isCapability(access: Access): access is Capability {
  return (capabilities as readonly string[]).includes(access);
}

/** Every route but those that are open to everybody: health, and the inbox's receiving side. */
async function listRoutes(): Promise<Route[]> {
  const server = createServer({
    store: { onChange: () => undefined },
    accounts: [],
    adminToken: "none",
    jwtSecret: null,
    inbox: true,
    limits: { maxBodyBytes: 1024, maxInFlightRequests: 10 },
    logger: createLogger("silent"),
  } as unknown as ServerContext);
  const found: Route[] = [];
  // The routes are added when the server gets ready.
  server.addHook("onRoute", ({ method, url, config }: RouteOptions) => {
    if (url === "/inbox/:name" && method !== "DELETE") return;
    for (const each of [method].flat()) {
      found.push({ method: each, url, access: config?.access ?? "organization" });
    }
  });
  await server.ready();
  await server.close();
  return found;
}
