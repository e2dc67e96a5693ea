import { z } from "zod";
import { HookplaneError, PartlyDoneError } from "../../errors.ts";
import { distinctList, httpUrl, knownName } from "../../fields.ts";
import { HttpError } from "../../http/client.ts";
import { wait } from "../../http/wait.ts";
import { isSameUrl } from "../../http/same-url.ts";
import { isSame } from "../../normal.ts";
import { defineResource, type Context } from "../../resource.ts";
import {
  caseyConnection,
  createCaseyClient,
  type CaseyClient,
  type CaseyConnection,
  type CaseyWebhook,
  type CaseyWebhookSettings,
} from "./client.ts";

/** Source: https://developers.tellcasey.com/docs/api/reference/webhook-events */
const eventTypes = [
  "conversation.started",
  "conversation.completed",
  "conversation.abandoned",
  "test.event",
] as const;

const inputs = z.object({
  url: httpUrl().meta({
    description: "Where the events go: an absolute http or https URL without credentials.",
    replaces: true,
  }),
  description: z
    .string()
    .default("")
    .meta({ description: "What the endpoint is for, in one's own words.", replaces: true }),
  eventTypes: distinctList(knownName("Casey event type", eventTypes))
    .min(1, "must name at least one event type; leave it out for conversation.completed")
    .default(["conversation.completed"])
    .meta({
      description:
        "The events it gets: `conversation.started`, `conversation.completed` (the default), `conversation.abandoned` " +
        "and `test.event`.",
      replaces: true,
      compare: "set",
    }),
  replaceWhenDisabled: z
    .boolean()
    .default(false)
    .meta({
      description:
        "Whether an endpoint that was disabled at Casey is replaced by the next `up`. Casey has no way to enable one again, " +
        "and a replacement has another secret, so this is off by default and a warning is shown instead.",
      local: true,
    }),
});

type Inputs = z.output<typeof inputs>;

const outputs = z.object({
  secret: z
    .string()
    .meta({ description: "The key that Casey signs this endpoint's events with.", secret: true }),
  enabled: z
    .boolean()
    .meta({ description: "Whether Casey sends it events. Nothing but a replacement enables one again." }),
  createdAt: z.string().meta({ description: "When it was made, in ISO 8601." }),
});

interface Observed {
  readonly webhook: CaseyWebhook;
  /** Null where Casey did not tell it. */
  readonly secret: string | null;
}

/** An endpoint at which Casey delivers its events, signed. Casey cannot change one, so each change makes a new one. */
export const webhookEndpoint = defineResource({
  type: "casey:WebhookEndpoint",
  description: `
An endpoint at which [Casey](https://developers.tellcasey.com/docs/api/reference/webhooks) delivers its events, signed.

Casey has no route that changes an endpoint, so each changed input replaces it: the new one is made before the old one is
deleted, both get the events for that moment, and **the secret changes**. A receiver should accept both secrets meanwhile.

Someone may disable an endpoint at Casey. That shows as drift of \`enabled\` and as a warning; only a replacement repairs
it: \`pulumi up --replace <urn>\`, or by itself with \`replaceWhenDisabled\`.

Import id: the endpoint's id at Casey. Importing neither replaces the endpoint nor changes its secret.
`.trim(),
  example: `import * as hookplane from "hookplane";

const completed = new hookplane.casey.WebhookEndpoint("completed", {
  url: "https://example.com/hooks/casey",
  description: "Completed conversations",
  eventTypes: ["conversation.completed"],
});

export const secret = completed.secret;
`,
  inputs,
  outputs,
  connection: caseyConnection,

  async observe(context, id, state): Promise<Observed | undefined> {
    const client = createCaseyClient(context);
    const webhook = await client.get(id);
    return webhook && { webhook, secret: await readSecret(context, client, id, state.secret) };
  },

  list: async (context) => (await createCaseyClient(context).list()).map(({ id }) => id),

  async create(context, wanted) {
    const client = createCaseyClient(context);
    const made = await createOnce(context, client, wanted);
    const { id } = made.webhook;
    if (made.secret !== null) return { id, observed: made };
    try {
      return { id, observed: { webhook: made.webhook, secret: await client.getSecret(id) } };
    } catch (error) {
      if (!(error instanceof HookplaneError)) throw error;
      const problem = `The endpoint was made, but its secret could not be read: ${error.problem}`;
      const remedy = "Run `pulumi up --refresh`: it reads the secret.";
      throw new PartlyDoneError(
        id,
        made,
        new HookplaneError(error.code, problem, { ...error.details, remedy }),
      );
    }
  },

  demandsReplacement: ({ enabled }, { replaceWhenDisabled }) =>
    enabled === false && replaceWhenDisabled === true ? ["replaceWhenDisabled"] : [],

  delete: (context, id) => createCaseyClient(context).delete(id),

  toState: ({ webhook, secret }, known) => ({
    url: known.url !== undefined && isSameUrl(webhook.url, known.url) ? known.url : webhook.url,
    description: webhook.description,
    // Casey may have a type that cannot be declared here; the state has to show it.
    eventTypes: webhook.eventTypes as Inputs["eventTypes"],
    secret: secret ?? known.secret ?? "",
    enabled: webhook.enabled,
    createdAt: webhook.createdAt,
  }),

  warnings: ({ enabled, replaceWhenDisabled }) =>
    enabled === false && replaceWhenDisabled !== true
      ? [
          "Casey has disabled this endpoint and sends it no events. It has no route to enable one again, so only a " +
            "replacement repairs it: run `pulumi up --replace <urn>`, or set `replaceWhenDisabled: true`. The secret changes.",
        ]
      : [],
});

type CaseyContext = Context<CaseyConnection>;

/**
 * The secret as Casey shows it. Where it shows none, or only a masked one, the one that is known is kept: it was not
 * changed by that.
 */
async function readSecret(
  context: CaseyContext,
  client: CaseyClient,
  id: string,
  known: string | undefined,
): Promise<string | null> {
  try {
    const secret = await client.getSecret(id);
    return known && isMasked(secret) ? known : secret;
  } catch (error) {
    const refused = error instanceof HttpError && (error.status === 403 || error.status === 404);
    if (!refused || !known) throw error;
    context.log(
      "warning",
      `Casey does not show the secret of "${id}" (${error.status}); the known one is kept.`,
    );
    return known;
  }
}

function isMasked(secret: string): boolean {
  return /\*{3}|•|…|\.{3}/u.test(secret);
}

/** The endpoints that this process made or took over, with their account, so that no two resources take the same one. */
const taken = new Set<string>();

function takenKey({ connection }: CaseyContext, { id }: CaseyWebhook): string {
  return `${connection.url} ${id}`;
}

/** Waits before each look for what a lost request may have made: it may still be at work when its answer is lost. */
const looksAfterMs = [0, 250, 750] as const;

/**
 * Makes one endpoint, and only one. Casey knows no idempotency key and urls are not unique, so after a try whose answer was
 * lost, what is there is looked through for an endpoint with just these settings that was made since (by Casey's own
 * clock, to two seconds) and that no other resource of this run has: that one is ours. Only where there is none is a
 * second try made. A list before every create would tell the same, at the price of one whole list for each endpoint.
 */
async function createOnce(
  context: CaseyContext,
  client: CaseyClient,
  settings: CaseyWebhookSettings,
): Promise<Observed> {
  const startedAt = context.now();
  for (let tries = 1; ; tries++) {
    try {
      const made = await client.create(settings);
      taken.add(takenKey(context, made.webhook));
      return made;
    } catch (error) {
      // A failure that did nothing ends it, except after a lost try, which may show only now.
      if (!(error instanceof HttpError) || (error.outcome !== "unknown" && tries === 1)) throw error;
      const found = await findMade(context, client, settings, startedAt, error);
      if (found) {
        taken.add(takenKey(context, found));
        return { webhook: found, secret: null };
      }
      if (tries === 2) throw error;
    }
  }
}

async function findMade(
  context: CaseyContext,
  client: CaseyClient,
  settings: CaseyWebhookSettings,
  startedAt: number,
  lost: HttpError,
): Promise<CaseyWebhook | undefined> {
  for (const afterMs of looksAfterMs) {
    await wait(afterMs, context.signal);
    const webhooks = await listAfter(client, lost);
    const since = client.toVendorTime(startedAt) - 2_000;
    const candidates = webhooks.filter(
      (webhook) =>
        !taken.has(takenKey(context, webhook)) &&
        Date.parse(webhook.createdAt) >= since &&
        hasSettings(webhook, settings),
    );
    if (candidates.length > 1) {
      const ids = candidates.map(({ id }) => `"${id}"`).join(", ");
      throw new HookplaneError(
        "answer_lost",
        `Casey's answer was lost, and it has several new endpoints like it: ${ids}`,
        {
          remedy: "Delete all but one at Casey, and import that one.",
          cause: lost,
        },
      );
    }
    if (candidates[0]) return candidates[0];
  }
  return undefined;
}

async function listAfter(client: CaseyClient, lost: HttpError): Promise<readonly CaseyWebhook[]> {
  try {
    return await client.list();
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
    throw new HookplaneError("answer_lost", `${lost.problem}; and then ${error.problem}`, {
      ...lost.details,
      remedy: "Look at Casey whether the endpoint is there before the next `up`: import it, or delete it.",
    });
  }
}

function hasSettings(webhook: CaseyWebhook, settings: CaseyWebhookSettings): boolean {
  return (
    isSameUrl(webhook.url, settings.url) &&
    webhook.description === settings.description &&
    isSame(webhook.eventTypes, settings.eventTypes, "set")
  );
}
