import { createHmac, randomUUID } from "node:crypto";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { defaultConfig } from "../../delivery/config.ts";
import { createLogger } from "../../delivery/log.ts";
import { openService, type Service } from "../../delivery/service.ts";
import { openVendorServer, type VendorServer } from "../../provider/http/vendor-server.suite.ts";

/** A callback as PAVE's API has it. */
interface PaveCallback {
  readonly event: string;
  readonly url: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** Twilio's webhook configuration. */
interface TwilioConfiguration {
  readonly method: string;
  readonly filters: readonly string[] | null;
  readonly pre_webhook_url: string | null;
  readonly post_webhook_url: string | null;
  readonly target: string;
}

/** An endpoint as Casey's API has it. */
interface CaseyWebhook {
  readonly id: string;
  readonly url: string;
  readonly description: string;
  readonly event_types: readonly string[];
  readonly enabled: boolean;
}

/** A request as the inbox shows it. */
interface ReceivedEvent {
  readonly verified: boolean;
  readonly body: string;
}

export interface Connections {
  readonly pave: { url: string; username: string; apiKey: string; apiSecret: string };
  readonly twilio: { url: string; accountSid: string; authToken: string };
  readonly casey: { url: string; apiKey: string };
  readonly svix: { url: string; token: string };
}

/** What somebody does at the vendors with curl: none of it counts as a request of the provider. */
export interface RawVendor {
  pave(
    method: "GET" | "PUT" | "POST" | "DELETE",
    event: string,
    body?: object,
  ): Promise<PaveCallback | undefined>;
  twilio(change?: Readonly<Record<string, string | readonly string[]>>): Promise<TwilioConfiguration>;
  casey(): Promise<readonly CaseyWebhook[]>;
  deleteCasey(id: string): Promise<void>;
  caseySecret(id: string): Promise<string>;
  /** Publishes an event and answers the message's id. */
  publish(application: string, eventType: string, payload: object): Promise<string>;
  /** What the inbox answers from now on. */
  answerWith(inbox: string, status: number): Promise<void>;
  /** Waits until the inbox has received as many requests. */
  received(inbox: string, count: number): Promise<readonly ReceivedEvent[]>;
}

/** The vendors, played by the delivery service, behind an address that counts requests and misbehaves on command. */
export interface Vendor extends AsyncDisposable, Pick<VendorServer, "url" | "requests" | "misbehave"> {
  readonly connections: Connections;
  readonly raw: RawVendor;
  /** Where its inbox receives under a name. */
  inboxUrl(name: string): string;
  /** The requests that were made meanwhile, as `PUT /pave/v1/callbacks/…`. */
  requestsOf(operation: () => Promise<unknown>): Promise<readonly string[]>;
  /** Gives an account other credentials; the old ones are refused from then on. */
  rotate(credentials: Readonly<Record<string, Readonly<Record<string, string>>>>): Promise<void>;
}

/** Opens a service of its own, with random credentials. */
export async function openVendor(): Promise<Vendor> {
  const dataDir = await fs.mkdtemp(path.join(os.tmpdir(), "hookplane-vendor-"));
  const start = (
    credentials: Readonly<Record<string, Readonly<Record<string, string>>>> = {},
  ): Promise<Service> =>
    openService(
      { ...defaultConfig(), port: 0, dataDir, inbox: true, allowSubnets: ["127.0.0.0/8"], credentials },
      createLogger("silent"),
    );
  let service = await start();
  const server = await openVendorServer(async ({ method, path: asked, headers, body }) => {
    const { host: _host, "content-length": _length, connection: _connection, ...rest } = headers;
    const answer = await fetch(service.url + asked, {
      method,
      headers: rest as Record<string, string>,
      ...(body === "" ? {} : { body }),
      redirect: "manual",
    });
    const text = await answer.text();
    return { status: answer.status, ...(text === "" ? {} : { json: JSON.parse(text) as unknown }) };
  });
  const connectionsAt = (url: string): Connections => connectionsOf(url, service);

  return {
    url: server.url,
    requests: server.requests,
    misbehave: (...behaviors) => {
      server.misbehave(...behaviors);
    },
    get connections() {
      return connectionsAt(server.url);
    },
    get raw() {
      return rawVendor(connectionsAt(service.url));
    },
    inboxUrl: (name) => `${service.url}/inbox/${name}`,
    async requestsOf(operation) {
      const before = server.requests.length;
      await operation();
      return server.requests.slice(before).map((request) => `${request.method} ${request.path}`);
    },
    async rotate(credentials) {
      await service.close();
      service = await start(credentials);
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await service.close();
      await fs.rm(dataDir, { recursive: true, force: true });
    },
  };
}

function connectionsOf(url: string, { credentials }: Service): Connections {
  const { admin, pave, twilio, casey } = credentials as unknown as {
    admin: { token: string };
    pave: Omit<Connections["pave"], "url">;
    twilio: Omit<Connections["twilio"], "url">;
    casey: Omit<Connections["casey"], "url">;
  };
  return {
    pave: { url: `${url}/pave/v1`, ...pave },
    twilio: { url: `${url}/twilio`, ...twilio },
    casey: { url: `${url}/casey/v1/backend`, ...casey },
    svix: { url, token: admin.token },
  };
}

/** The vendors' APIs as their documentation has them, written without the provider's code. */
export function rawVendor({ pave, twilio, casey, svix }: Connections): RawVendor {
  async function call<T>(url: string, init: RequestInit, mayMiss = false): Promise<T> {
    const answer = await fetch(url, init);
    const body = await answer.text();
    if (mayMiss && answer.status === 404) return undefined as T;
    if (!answer.ok) throw new Error(`${init.method ?? "GET"} ${url} answered ${answer.status}: ${body}`);
    return (body === "" ? undefined : JSON.parse(body)) as T;
  }
  const json = (headers: Record<string, string>, body?: object): RequestInit => ({
    headers: { ...headers, ...(body && { "content-type": "application/json" }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  const paveHeaders = (): Record<string, string> => {
    const timestamp = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const token = createHmac("sha256", pave.apiSecret)
      .update(`${pave.username}:${pave.apiKey}@${timestamp}`)
      .digest("hex");
    return { "API-Key": pave.apiKey, "API-Token": token, "API-Timestamp": timestamp };
  };
  const caseyHeaders = { authorization: `Bearer ${casey.apiKey}` };
  const adminHeaders = { authorization: `Bearer ${svix.token}` };

  return {
    async pave(method, event, body) {
      const place = method === "POST" ? "" : `/${encodeURIComponent(event)}`;
      const init = { ...json(paveHeaders(), body), method };
      const answer = await call<({ data?: PaveCallback } & PaveCallback) | undefined>(
        `${pave.url}/callbacks${place}`,
        init,
        true,
      );
      return answer?.data ?? answer;
    },
    twilio(change) {
      const form = new URLSearchParams();
      for (const [name, value] of Object.entries(change ?? {})) {
        for (const one of [value].flat()) form.append(name, one);
      }
      const authorization = `Basic ${btoa(`${twilio.accountSid}:${twilio.authToken}`)}`;
      return call(`${twilio.url}/v1/Configuration/Webhooks`, {
        headers: { authorization },
        ...(change && { method: "POST", body: form }),
      });
    },
    casey: async () =>
      (await call<{ data: CaseyWebhook[] }>(`${casey.url}/webhooks`, json(caseyHeaders))).data,
    async deleteCasey(id) {
      await call(`${casey.url}/webhooks/${id}`, { ...json(caseyHeaders), method: "DELETE" });
    },
    caseySecret: async (id) =>
      (await call<{ data: { secret: string } }>(`${casey.url}/webhooks/${id}/secret`, json(caseyHeaders)))
        .data.secret,
    publish: async (application, eventType, payload) =>
      (
        await call<{ id: string }>(`${svix.url}/api/v1/app/${application}/msg`, {
          ...json(adminHeaders, { eventType, payload, eventId: randomUUID() }),
          method: "POST",
        })
      ).id,
    async answerWith(inbox, status) {
      await call(`${svix.url}/inbox/${inbox}/answer`, { ...json(adminHeaders, { status }), method: "PUT" });
    },
    async received(inbox, count) {
      const endsAt = Date.now() + 5_000;
      for (;;) {
        const { data } = await call<{ data: ReceivedEvent[] }>(
          `${svix.url}/inbox/${inbox}/requests`,
          json(adminHeaders),
        );
        if (data.length >= count) return data;
        if (Date.now() > endsAt)
          throw new Error(`The inbox '${inbox}' received ${data.length}, not ${count}.`);
        await sleep(20);
      }
    },
  };
}
