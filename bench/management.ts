import type { ServerProcess } from "./server-process.ts";

/** How many objects are made at a time. */
const concurrency = 32;

/** What rows set up through the service's own API. */
export interface Management {
  /** Makes an application with this uid. */
  application(uid: string): Promise<void>;
  endpoint(application: string, input: { url: string; eventTypes?: readonly string[] }): Promise<void>;
  /** The account's webhooks of Twilio's API: one blocking pre-event. */
  twilioPreEvent(url: string, eventType: string, credentials: TwilioCredentials): Promise<void>;
}

export interface TwilioCredentials {
  readonly accountSid: string;
  readonly authToken: string;
}

export function createManagement(server: ServerProcess): Management {
  const base = `http://127.0.0.1:${server.port}`;
  const post = async (path: string, authorization: string, body: object): Promise<void> => {
    const isForm = body instanceof URLSearchParams;
    const response = await fetch(base + path, {
      method: "POST",
      headers: { authorization, ...(!isForm && { "content-type": "application/json" }) },
      body: isForm ? body : JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`POST ${path} was answered ${response.status}: ${text.slice(0, 300)}`);
  };
  const bearer = `Bearer ${server.token}`;
  return {
    application: (uid) => post("/api/v1/app", bearer, { name: uid, uid }),
    endpoint: (application, input) => post(`/api/v1/app/${application}/endpoint`, bearer, input),
    twilioPreEvent: (url, eventType, { accountSid, authToken }) =>
      post(
        "/twilio/v1/Configuration/Webhooks",
        `Basic ${Buffer.from(`${accountSid}:${authToken}`).toString("base64")}`,
        new URLSearchParams({ PreWebhookUrl: url, Filters: eventType }),
      ),
  };
}

/** Does something for 0 to count - 1, some at a time. */
export async function forEach(count: number, run: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < count) await run(next++);
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, work));
}
