import { z } from "zod";
import { HookplaneError, PartlyDoneError } from "../../errors.ts";
import { distinctList, httpMethod, knownName } from "../../fields.ts";
import { HttpError } from "../../http/client.ts";
import { isSameUrl } from "../../http/same-url.ts";
import { isSame } from "../../normal.ts";
import { defineResource, type Context, type Created } from "../../resource.ts";
import {
  createTwilioClient,
  twilioConnection,
  type ConfigurationChange,
  type TwilioClient,
  type TwilioConnection,
  type WebhookConfiguration,
} from "./client.ts";

/** Source: `Filters` of UpdateConfigurationWebhook in twilio-oai, spec/json/twilio_conversations_v1.json. */
const events = [
  "onMessageAdd",
  "onMessageAdded",
  "onMessageUpdate",
  "onMessageUpdated",
  "onMessageRemove",
  "onMessageRemoved",
  "onConversationAdd",
  "onConversationAdded",
  "onConversationUpdate",
  "onConversationUpdated",
  "onConversationRemove",
  "onConversationRemoved",
  "onConversationStateUpdated",
  "onParticipantAdd",
  "onParticipantAdded",
  "onParticipantUpdate",
  "onParticipantUpdated",
  "onParticipantRemove",
  "onParticipantRemoved",
  "onDeliveryUpdated",
  "onUserAdded",
  "onUserUpdate",
  "onUserUpdated",
] as const;

const inputs = z.object({
  method: httpMethod()
    .optional()
    .meta({ description: "How Twilio calls both URLs: `GET` or `POST`.", unmanaged: true }),
  filters: distinctList(knownName("Conversations event", events)).optional().meta({
    description: "The events that call a URL. `[]` clears the list.",
    unmanaged: true,
    compare: "set",
  }),
  preWebhookUrl: webhookUrl()
    .optional()
    .meta({
      description:
        "Called before an event happens, and may change or forbid it within 5 seconds. May hold `user:password@`, which " +
        'Twilio then authenticates with; secret for that reason. `""` clears it.',
      unmanaged: true,
      secret: true,
    }),
  postWebhookUrl: webhookUrl()
    .optional()
    .meta({
      description:
        'Called after an event happened. May hold `user:password@`, as `preWebhookUrl`; secret for that reason. `""` ' +
        "clears it.",
      unmanaged: true,
      secret: true,
    }),
  target: knownName("target", ["webhook", "flex"])
    .optional()
    .meta({ description: "Where events go: `webhook` (the URLs) or `flex`.", unmanaged: true }),
  onDelete: knownName("onDelete", ["restore", "retain", "clear"])
    .default("restore")
    .meta({
      description:
        "What a delete does to the values that the program manages: `restore` those from before, `retain` them as they " +
        "are, or `clear` URLs and filters (method and target have no empty value and stay).",
      local: true,
    }),
});

type Inputs = z.output<typeof inputs>;

/** The fields of the vendor's object that a program can manage. */
const fields = ["method", "filters", "preWebhookUrl", "postWebhookUrl", "target"] as const;
type Field = (typeof fields)[number];

const outputs = z.object({
  accountSid: z.string().meta({ description: "The account's SID." }),
  prior: z
    .object({
      method: z.string().nullable().optional(),
      filters: z.array(z.string()).optional(),
      preWebhookUrl: z.string().optional().meta({ secret: true }),
      postWebhookUrl: z.string().optional().meta({ secret: true }),
      target: z.string().nullable().optional(),
    })
    .meta({
      description: 'What each managed value was before, for `onDelete: "restore"`; empty after an import.',
      secret: true,
    }),
});

interface Observed {
  readonly configuration: WebhookConfiguration;
  /** Undefined where nothing was learned about it. */
  readonly prior?: ConfigurationChange;
}

/**
 * The account-wide webhook of Twilio Conversations. The object always exists: create takes it over and remembers what was there,
 * update sends only what differs.
 */
export const conversationsWebhook = defineResource({
  type: "twilio:ConversationsWebhook",
  description: `
The account-wide webhook of [Twilio Conversations](https://www.twilio.com/docs/conversations-classic/api/webhook-configuration-resource).

Each account has exactly one, and it always exists: creating the resource takes it over and remembers the values from
before, deleting it puts them back (see \`onDelete\`). An input that is left out is not managed: it keeps what it has, is
never compared, and a delete does not touch it. Declare one such resource per account; two would undo each other's work.

Import id: the account's SID, \`AC…\`. An import knows no values from before, so deleting it later leaves all as it is
unless \`onDelete\` is \`clear\`.
`.trim(),
  example: `
import * as hookplane from "hookplane";

new hookplane.twilio.ConversationsWebhook("conversations", {
  method: "POST",
  filters: ["onMessageAdd", "onMessageAdded"],
  preWebhookUrl: "https://example.com/twilio/pre",
  postWebhookUrl: "https://example.com/twilio/post",
});
`.trim(),
  inputs,
  outputs,
  connection: twilioConnection,
  // The new one would remember the old one's values as those from before, and the old one's delete would undo them.
  deleteBeforeReplace: () => true,

  async observe(context, id): Promise<Observed | undefined> {
    if (id !== context.connection.accountSid) {
      throw new HookplaneError(
        "invalid_input",
        `"${id}" is not the connection's account, "${context.connection.accountSid}"`,
        { remedy: "The resource's id is the SID of its account." },
      );
    }
    try {
      return { configuration: await fetchOwn(context) };
    } catch (error) {
      if (isGone(error)) return undefined;
      throw error;
    }
  },

  async create(context, inputs): Promise<Created<Observed>> {
    const current = await fetchOwn(context);
    const managed = fields.filter((field) => inputs[field] !== undefined);
    const differing = managed.filter((field) => !isSame(current[field], inputs[field], "set"));
    const id = context.connection.accountSid;
    const prior = pick(current, managed);
    if (differing.length === 0) return { id, observed: { configuration: current, prior } };
    try {
      const configuration = await client(context).updateConfiguration(pick(inputs, differing));
      return { id, observed: { configuration, prior } };
    } catch (error) {
      // It may have happened: what was there before must not be forgotten, or the next try would take our own for it.
      if (!(error instanceof HttpError) || error.outcome !== "unknown") throw error;
      throw new PartlyDoneError(id, { configuration: current, prior }, error);
    }
  },

  async update(context, _id, inputs, { changed, state }): Promise<Observed> {
    const sent = fields.filter((field) => changed.has(field));
    const takenOver = sent.filter((field) => state[field] === undefined);
    const prior = takenOver.length === 0 ? {} : pick(await fetchOwn(context), takenOver);
    const configuration = await client(context).updateConfiguration(pick(inputs, sent));
    return { configuration, prior: { ...state.prior, ...prior } };
  },

  async delete(context, _id, state) {
    const managed = fields.filter((field) => state[field] !== undefined);
    const change =
      state.onDelete === "retain"
        ? {}
        : state.onDelete === "clear"
          ? pick({ filters: [], preWebhookUrl: "", postWebhookUrl: "" }, managed)
          : pick(state.prior ?? {}, managed);
    if (Object.keys(change).length === 0) return;
    try {
      await client(context).updateConfiguration(change);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  },

  toState({ configuration, prior }, known) {
    const { accountSid, method, filters, target } = configuration;
    const url = (field: "preWebhookUrl" | "postWebhookUrl"): string => {
      const wanted = known[field];
      return wanted !== undefined && isSameUrl(configuration[field], wanted) ? wanted : configuration[field];
    };
    // The vendor may hold values that the inputs do not know; the state has to show them.
    return {
      method: (method ?? undefined) as Inputs["method"],
      filters: filters as Inputs["filters"],
      preWebhookUrl: url("preWebhookUrl"),
      postWebhookUrl: url("postWebhookUrl"),
      target: (target ?? undefined) as Inputs["target"],
      accountSid: accountSid ?? known.accountSid ?? "",
      prior: prior ?? known.prior ?? {},
    };
  },
});

type TwilioContext = Context<TwilioConnection>;

function client(context: TwilioContext): TwilioClient {
  return createTwilioClient(context.http, context.connection);
}

/** Twilio's own 404 says that there is no such account; one without its message comes from something else at that address. */
function isGone(error: unknown): boolean {
  return error instanceof HttpError && error.status === 404 && error.details.vendorMessage !== undefined;
}

/** The account's configuration. An API key reaches the account that it belongs to, whatever SID stands beside it. */
async function fetchOwn(context: TwilioContext): Promise<WebhookConfiguration> {
  const configuration = await client(context).fetchConfiguration();
  const { accountSid } = context.connection;
  if (configuration.accountSid !== null && configuration.accountSid !== accountSid) {
    throw new HookplaneError(
      "invalid_input",
      `The credentials belong to the Twilio account "${configuration.accountSid}", not to "${accountSid}"`,
      { remedy: "Correct `accountSid` of the connection, or use an API key of that account." },
    );
  }
  return configuration;
}

function pick(values: ConfigurationChange, names: readonly Field[]): ConfigurationChange {
  return Object.fromEntries(
    names.filter((name) => values[name] !== undefined).map((name) => [name, values[name]]),
  );
}

/**
 * Absolute http(s), or empty for none. `user:password@` is allowed: Twilio authenticates with it.
 * Source: https://www.twilio.com/docs/usage/security#http-authentication
 */
function webhookUrl(): z.ZodString {
  return z.string().check((context) => {
    const { value } = context;
    if (
      value === "" ||
      (/^https?:\/\/[^/]/i.test(value) && URL.canParse(value) && !/[\p{Cc}\s]/u.test(value))
    )
      return;
    // The value is secret, so it is not repeated.
    const message = 'must be empty or an absolute http or https URL, such as "https://example.com/hooks"';
    context.issues.push({ code: "custom", input: value, message });
  });
}
