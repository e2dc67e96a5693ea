import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { ServiceError } from "../errors.ts";
import { requireApplication } from "./application-access.ts";
import { requiring } from "./auth.ts";
import { requireEndpoint, type EndpointParams } from "./endpoints.ts";
import { isoTime, queryTime } from "./fields.ts";
import { readInput } from "./input.ts";
import type { ServerContext } from "./server.ts";

const dayMs = 24 * 60 * 60 * 1000;
/** As in Svix's server: what is counted stays within bounds. */
const longestDays = 28;
/** Deliveries that are counted at a time: 2 to 3 ms, during which nothing else happens on SQLite. */
const stretchSize = 1_000;
/** For callers whose clock is not this one's. */
const toleranceMs = 5 * 60 * 1000;

/** The contract's `EndpointStats`: how many messages stand how, by when they were made. */
const statsOut = z
  .object({
    success: z.int(),
    pending: z.int().describe("Those that are being sent are among them."),
    sending: z.int(),
    fail: z.int(),
    canceled: z.int(),
  })
  .meta({ id: "EndpointStats" });

const statsQuery = z.object({ since: queryTime.optional(), until: queryTime.optional() });

const operation = requiring("ViewBase", {
  summary: "Get an endpoint's statistics",
  tag: "Endpoint",
  query: statsQuery,
  answers: { 200: statsOut },
});

export function registerStats(instance: FastifyInstance, context: ServerContext): void {
  const { store } = context;

  instance.get<{ Params: EndpointParams }>(
    "/app/:app/endpoint/:endpoint/stats",
    operation,
    async (request): Promise<z.output<typeof statsOut>> => {
      const { query } = readInput(request, { query: statsQuery });
      const times = toTimes(query, context.now());
      const { id } = await store.read(async (tx) =>
        requireEndpoint(
          tx,
          await requireApplication(tx, request.caller, request.params.app),
          request.params.endpoint,
        ),
      );
      const total = { succeeded: 0, pending: 0, failed: 0 };
      for (let after: string | null = ""; after !== null;) {
        const stretch: { after: string; limit: number } = { after, limit: stretchSize };
        const counted = await store.read((tx) => tx.deliveries.countByEndpoint(id, times, stretch));
        for (const [state, count] of counted.counts) total[state] += count;
        ({ after } = counted);
        // Everything else gets its turn: an endpoint may have millions.
        await new Promise(setImmediate);
      }
      return {
        success: total.succeeded,
        pending: total.pending,
        sending: 0,
        fail: total.failed,
        canceled: 0,
      };
    },
  );
}

/** @throws ServiceError `bad_request` for a time that is too long, lies ahead or runs backwards */
function toTimes(
  given: { since?: number | undefined; until?: number | undefined },
  now: number,
): { readonly since: number; readonly until: number } {
  const until = given.until ?? now;
  const since = given.since ?? until - longestDays * dayMs;
  if (until > now + toleranceMs) {
    throw new ServiceError("bad_request", `"until" lies ahead: give a time up to ${isoTime(now)}.`);
  }
  if (since > until) {
    throw new ServiceError("bad_request", `"since" is after "until": give a time up to ${isoTime(until)}.`);
  }
  if (until - since > longestDays * dayMs + toleranceMs) {
    throw new ServiceError(
      "bad_request",
      `"since" is more than ${longestDays} days before "until": give ${isoTime(until - longestDays * dayMs)} or later.`,
    );
  }
  return { since, until };
}
