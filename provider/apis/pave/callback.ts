import { z } from "zod";
import { HookplaneError } from "../../errors.ts";
import { headerMap, httpMethod, httpUrl, knownName } from "../../fields.ts";
import { HttpError } from "../../http/client.ts";
import { isSame } from "../../normal.ts";
import { defineResource } from "../../resource.ts";
import {
  createPaveClient,
  paveConnection,
  type PaveCallback,
  type PaveClient,
  type PaveSettings,
} from "./client.ts";

/** https://docs.paveapi.com/integrations/developer-docs/callbacks, "Supported events". */
const events = [
  "SESSION:SMS_PROCESS",
  "SESSION:STAGE_CHANGE",
  "SESSION:STATUS_CHANGE",
  "SESSION:COMPLETE",
  "SESSION:NOTE_INSERT",
] as const;

const inputs = z.object({
  event: knownName("PAVE event", events).meta({
    description:
      "The event that calls: `SESSION:SMS_PROCESS`, `SESSION:STAGE_CHANGE`, `SESSION:STATUS_CHANGE`, `SESSION:COMPLETE` or " +
      "`SESSION:NOTE_INSERT`. An API key has at most one callback for each. A change makes a new callback.",
    replaces: true,
  }),
  url: httpUrl().meta({
    description: "Where PAVE sends the event: an absolute http or https URL without credentials.",
  }),
  method: httpMethod().default("POST").meta({ description: "`POST` (the default) or `GET`, in any case." }),
  headers: headerMap()
    .default({})
    .meta({
      description:
        "Headers that PAVE adds to the request, such as `Authorization`: PAVE signs nothing, so this is what tells its " +
        "requests from others'. Always secret.",
      secret: true,
      compare: "headers",
    }),
  payload: z.record(z.string(), z.json()).default({}).meta({
    description: "Attributes that PAVE merges into the event's own, at the top level.",
  }),
});

type Inputs = z.output<typeof inputs>;

export const callback = defineResource({
  type: "pave:Callback",
  description:
    "A PAVE callback: where an event of the vehicle inspection sessions of an API key goes, with which headers and which " +
    "additional attributes.\n\nAn API key has one callback for an event, so the event is the id. A callback that exists " +
    "already is not taken over: import it under the event's name, or delete it first.",
  example: `import * as hookplane from "hookplane";

const done = new hookplane.pave.Callback("done", {
  event: "SESSION:COMPLETE",
  url: "https://example.com/hooks/pave",
  headers: { Authorization: "Bearer example-token" },
  payload: { source: "PAVE" },
});

export const event = done.event;
`,
  inputs,
  connection: paveConnection,
  // Another event is another object, so the new one can come first; a forced replacement of the same event cannot.
  deleteBeforeReplace: (state, wanted) => state.event === wanted.event,

  observe: (context, id) => createPaveClient(context).get(id),

  list: async (context) => (await createPaveClient(context).list()).map(({ event }) => event),

  async create(context, wanted) {
    const client = createPaveClient(context);
    const { event } = wanted;
    if (await client.get(event)) {
      throw new HookplaneError("already_exists", `The PAVE account already has a callback for "${event}"`, {
        remedy: `To manage it from here, import it with the id "${event}"; to start anew, delete it first`,
      });
    }
    return { id: event, observed: await createOnce(client, wanted) };
  },

  async update(context, id, wanted) {
    const updated = await createPaveClient(context).update(id, settingsOf(wanted));
    if (!updated) throw new HookplaneError("gone", `The PAVE account has no callback for "${id}" any more`);
    return updated;
  },

  async delete(context, id) {
    await createPaveClient(context).delete(id);
  },

  toState: ({ event, url, method, headers, payload }) =>
    // What PAVE holds is not limited to what can be declared here: a callback set by hand may have another method.
    ({ event, url, method, headers, payload }) as Inputs,
});

function settingsOf({ url, method, headers, payload }: Inputs): PaveSettings {
  return { url, method, headers, payload };
}

/** Looks after each try whose answer was lost: there is at most one callback for an event, so what is as wanted is ours. */
async function createOnce(client: PaveClient, wanted: Inputs): Promise<PaveCallback> {
  const settings = settingsOf(wanted);
  for (let triesLeft = 2; ; triesLeft--) {
    try {
      return await client.create(wanted.event, settings);
    } catch (error) {
      if (!(error instanceof HttpError) || (triesLeft === 2 && error.outcome !== "unknown")) throw error;
      const made = await client.get(wanted.event);
      if (made && isAsWanted(made, settings)) return made;
      if (made || triesLeft === 0) throw error;
    }
  }
}

function isAsWanted(made: PaveCallback, wanted: PaveSettings): boolean {
  return (
    made.url === wanted.url &&
    made.method === wanted.method &&
    isSame(made.headers, wanted.headers, "headers") &&
    isSame(made.payload, wanted.payload, undefined)
  );
}
