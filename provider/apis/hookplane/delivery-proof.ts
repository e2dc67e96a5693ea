import { randomUUID } from "node:crypto";
import { z } from "zod";
import { HookplaneError } from "../../errors.ts";
import { wait } from "../../http/wait.ts";
import { defineResource, type Context } from "../../resource.ts";
import {
  createDeliveryClient,
  svixConnection,
  type DeliveryAttempt,
  type DeliveryClient,
  type Destination,
  type InboxRequest,
  type PublishedEvent,
  type SvixConnection,
} from "./client.ts";

const inputs = z.object({
  events: z
    .array(
      z.object({
        application: z.string().min(1, "must name an application").meta({
          description: "The application's uid or id; a vendor's account is `pave`, `twilio` or `casey`.",
        }),
        eventType: z.string().min(1, "must name an event type").meta({ description: "The event's type." }),
        payload: z.record(z.string(), z.json()).meta({ description: "The event's content." }),
      }),
    )
    .min(1, "must hold at least one event, or nothing is proven")
    .meta({ description: "The events to publish. A change runs the proof again." }),
  timeoutSeconds: z
    .number()
    .positive()
    .max(3600)
    .default(30)
    .meta({ description: "How long the deliveries may take, in seconds.", local: true }),
  triggers: z.array(z.json()).default([]).meta({
    description:
      "Any values; when one changes, the proof runs again. Name what it is to prove, such as an endpoint's id.",
  }),
});

type Inputs = z.output<typeof inputs>;

const deliverySchema = z.object({
  application: z.string().meta({ description: "The event's application." }),
  eventType: z.string().meta({ description: "The event's type." }),
  messageId: z.string().meta({ description: "The message that was published." }),
  endpointId: z.string().meta({ description: "The endpoint that it was for." }),
  status: z.number().meta({ description: "The status that the endpoint answered." }),
  attempts: z.number().meta({ description: "How many attempts it took." }),
  verifiedBy: z
    .string()
    .nullable()
    .meta({
      description:
        "What the inbox verified it by: `signature`, or `credentials` where the vendor signs nothing. Null where the " +
        "endpoint is not the service's inbox.",
    }),
});

type Proven = z.output<typeof deliverySchema>;

const outputs = z.object({
  provenAt: z.string().meta({ description: "When the last event had arrived, in ISO 8601." }),
  deliveries: z.array(deliverySchema).meta({ description: "What arrived where." }),
});

type Observed = z.output<typeof outputs>;

/** Proof that a deployment works: events are published, and the deployment fails unless they arrive. */
export const deliveryProof = defineResource({
  type: "index:DeliveryProof",
  description: `
Proves that a deployment works: publishes the given events and waits until every endpoint that they are meant for has
answered 2xx, and, where an endpoint is the service's own inbox, until the inbox has verified the request. \`up\` fails when
that takes longer than \`timeoutSeconds\`, and says which attempt got what; an event that no endpoint is meant for fails it
too.

Let it depend on everything it is to prove. It runs when it is created and whenever \`events\`, \`triggers\` or the
connection's account change; a refresh leaves it as it is, and deleting it does nothing. It cannot be imported.
`.trim(),
  example: `import * as hookplane from "hookplane";

const service = new hookplane.DeliveryService("service", { inbox: true, allowSubnets: ["127.0.0.0/8"] });

const endpoint = new hookplane.casey.WebhookEndpoint("completed", {
  url: service.inboxUrl.apply((inbox) => \`\${inbox}/casey\`),
  connection: service.connections.casey,
});

new hookplane.DeliveryProof("proof", {
  connection: service.connections.svix,
  events: [
    { application: "casey", eventType: "conversation.completed", payload: { conversation_id: "example" } },
  ],
  triggers: [endpoint.id],
});
`,
  inputs,
  outputs,
  connection: svixConnection,

  // What was proven stays proven; there is nothing to look at.
  async observe(_context, _id, { provenAt, deliveries }): Promise<Observed | undefined> {
    return provenAt === undefined || deliveries === undefined ? undefined : { provenAt, deliveries };
  },

  async create(context, wanted) {
    const observed = await prove(context, wanted);
    return { id: observed.deliveries[0]?.messageId ?? "", observed };
  },

  update: (context, _id, wanted) => prove(context, wanted),

  async delete() {
    // What was published cannot be taken back.
  },

  toState: ({ provenAt, deliveries }, { events, triggers }) => ({ events, triggers, provenAt, deliveries }),
});

type ProofContext = Context<SvixConnection>;

/** How long an application may take to find the endpoints of a message. */
const fanOutMs = 2_000;

async function prove(context: ProofContext, wanted: Inputs): Promise<Observed> {
  const client = createDeliveryClient(context);
  const deadline = context.now() + wanted.timeoutSeconds * 1000;
  const messages: { event: PublishedEvent; messageId: string }[] = [];
  for (const event of wanted.events) {
    messages.push({ event, messageId: await client.publish(event, randomUUID()) });
  }
  const results = await Promise.all(
    messages.map(({ event, messageId }) => proveMessage(context, client, event, messageId, deadline)),
  );
  const faults = results.flatMap((result) => ("fault" in result ? [result.fault] : []));
  if (faults.length > 0) {
    throw new HookplaneError("not_ready", ["The proof failed.", ...faults].join("\n  "), {
      remedy: "Correct what the attempts show, and run `pulumi up` again",
    });
  }
  return {
    provenAt: new Date(context.now()).toISOString(),
    deliveries: results.flatMap((result) => ("proven" in result ? result.proven : [])),
  };
}

/** What is known of a message at one moment. */
interface Progress {
  readonly destinations: readonly Destination[];
  readonly attempts: readonly DeliveryAttempt[];
  /** By endpoint: what the inbox verified it by; null where the endpoint is not the inbox. */
  readonly verified: ReadonlyMap<string, Verified>;
}

type Verified = { readonly by: string | null } | { readonly reason: string };

async function proveMessage(
  context: ProofContext,
  client: DeliveryClient,
  event: PublishedEvent,
  messageId: string,
  deadline: number,
): Promise<{ readonly proven: readonly Proven[] } | { readonly fault: string }> {
  const publishedAt = context.now();
  const title = `"${event.eventType}" of application "${event.application}" (${messageId})`;
  for (let waitMs = 50; ; waitMs = Math.min(waitMs * 1.5, 1_000)) {
    const progress = await look(context, client, event, messageId);
    const { destinations } = progress;
    const provenOnes = destinations.map((destination) => toProven(destination, progress, event, messageId));
    if (destinations.length > 0 && provenOnes.every((one) => one !== undefined))
      return { proven: provenOnes };

    const now = context.now();
    const isUnmeant =
      destinations.length === 0 && now - publishedAt >= Math.min(fanOutMs, deadline - publishedAt);
    if (isUnmeant) {
      return {
        fault: `${title}: no endpoint is meant for it, so nothing was proven. Check filters and event type.`,
      };
    }
    const isGivenUp = destinations.some(({ status }) => status === "failed");
    if (isGivenUp || now >= deadline) {
      const lines = destinations
        .filter((_, index) => provenOnes[index] === undefined)
        .map((destination) => describe(destination, progress));
      return { fault: `${title}: ${lines.join("; ")}` };
    }
    await wait(Math.max(1, Math.min(waitMs, deadline - now)), context.signal);
  }
}

async function look(
  context: ProofContext,
  client: DeliveryClient,
  event: PublishedEvent,
  messageId: string,
): Promise<Progress> {
  const destinations = await client.listDestinations(event.application, messageId);
  if (destinations.length === 0) return { destinations, attempts: [], verified: new Map() };
  const attempts = await client.listAttempts(event.application, messageId);
  const verified = new Map<string, Verified>();
  for (const { endpointId } of destinations) {
    const attempt = attempts.find((one) => one.endpointId === endpointId && one.succeeded);
    if (!attempt) continue;
    const name = inboxName(context.connection.url, attempt.url);
    verified.set(
      endpointId,
      name === undefined
        ? { by: null }
        : findReceipt(await client.listInboxRequests(name), attempt, messageId),
    );
  }
  return { destinations, attempts, verified };
}

/** The inbox of the service that a URL is: `orders` of `<service>/inbox/orders?…`. */
function inboxName(serviceUrl: string, url: string): string | undefined {
  const prefix = `${serviceUrl}/inbox/`;
  if (!url.startsWith(prefix)) return undefined;
  return decodeURIComponent(url.slice(prefix.length).replace(/[?#/].*$/s, ""));
}

/** The receipt of an attempt: both times are the service's, and where the request says its message, it is this one. */
function findReceipt(
  requests: readonly InboxRequest[],
  attempt: DeliveryAttempt,
  messageId: string,
): Verified {
  const candidates = requests.filter(
    ({ receivedAt, headers }) =>
      Date.parse(receivedAt) >= Date.parse(attempt.timestamp) &&
      [undefined, messageId].includes(headers["webhook-id"] ?? headers["svix-id"]),
  );
  const receipt = candidates.find((request) => request.verified && request.endpointId === attempt.endpointId);
  if (receipt) return { by: receipt.by };
  const reasons = candidates.filter((request) => !request.verified).flatMap((request) => request.reasons);
  return { reason: `its inbox did not verify the request (${reasons.join("; ") || "it is not there"})` };
}

function toProven(
  { endpointId, status }: Destination,
  { attempts, verified }: Progress,
  { application, eventType }: PublishedEvent,
  messageId: string,
): Proven | undefined {
  const own = attempts.filter((attempt) => attempt.endpointId === endpointId);
  const success = own.find((attempt) => attempt.succeeded);
  const verification = verified.get(endpointId);
  if (status !== "success" || !success || !verification || !("by" in verification)) return undefined;
  return {
    application,
    eventType,
    messageId,
    endpointId,
    status: success.statusCode,
    attempts: own.length,
    verifiedBy: verification.by,
  };
}

/** What an endpoint got and answered, for the person who has to repair it. */
function describe({ endpointId, url, nextAttempt }: Destination, { attempts, verified }: Progress): string {
  const own = attempts.filter((attempt) => attempt.endpointId === endpointId);
  const where = `endpoint ${endpointId} at ${withoutSecrets(own.at(-1)?.url ?? url)}`;
  const verification = verified.get(endpointId);
  if (verification && "reason" in verification) return `${where} answered 2xx, but ${verification.reason}`;
  if (own.length === 0) return `${where} got no attempt yet`;
  const told = own.map(({ statusCode, response }, index) => {
    const reason = response
      .replace(/[\p{Cc}\s]+/gu, " ")
      .trim()
      .slice(0, 200);
    const answer = statusCode === 0 ? "no answer" : `answered ${statusCode}`;
    return `attempt ${index + 1}: ${answer}${reason === "" ? "" : ` "${reason}"`}`;
  });
  const next = nextAttempt === null ? "no further attempt" : `next attempt at ${nextAttempt}`;
  return `${where}: ${[...told, next].join(", ")}`;
}

/** Credentials and query may hold secrets. */
function withoutSecrets(url: string): string {
  if (!URL.canParse(url)) return "an unreadable URL";
  const { origin, pathname } = new URL(url);
  return origin + pathname;
}
