import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { BlockingDialect, Dialect } from "../core/dialect.ts";
import { ServiceError } from "../errors.ts";
import { publishing } from "./admission.ts";
import { requireApplication, type ApplicationParams } from "./application-access.ts";
import { vendorEventType } from "./fields.ts";
import { readInput } from "./input.ts";
import { toEvent } from "./messages.ts";
import type { ServerContext } from "./server.ts";

const hookIn = z
  .object({
    eventType: vendorEventType,
    payload: z.record(z.string(), z.unknown(), "The payload must be a JSON object."),
  })
  .meta({ id: "HookIn" });

/** What a blocking pre-event is answered with. */
const hookOut = z
  .object({
    publish: z.boolean().describe("Whether the event may happen."),
    changes: z.record(z.string(), z.string()).describe("What the receiver changes in it; empty for nothing."),
    reason: z.string(),
  })
  .meta({ id: "HookOut" });

type HookOut = z.output<typeof hookOut>;

const operation = publishing({
  summary: "Ask before an event",
  description:
    "Calls the receivers of a blocking pre-event, and waits for them. Some vendors have such events.",
  tag: "Message",
  body: hookIn,
  answers: { 200: hookOut },
});

/** Asks the receivers of a blocking pre-event; only some vendors have them. */
export function registerHook(instance: FastifyInstance, context: ServerContext): void {
  instance.post<{ Params: ApplicationParams }>(
    "/app/:app/hook",
    operation,
    async (request): Promise<HookOut> => {
      const application = await requireApplication(context.store, request.caller, request.params.app);
      if (!isBlocking(context.dialectOf(application))) {
        throw new ServiceError(
          "not_found",
          `The application "${application.uid ?? application.id}" has no blocking pre-events: publish to it with POST …/msg.`,
        );
      }
      const { body } = readInput(request, { body: hookIn });
      const outcome = await context.publisher.hook(application, toEvent(request, body, context.now()));
      return {
        publish: outcome.publish,
        changes: outcome.publish ? outcome.changes : {},
        reason: outcome.reason,
      };
    },
  );
}

function isBlocking(dialect: Dialect): dialect is BlockingDialect {
  return "hookTimeoutMs" in dialect;
}
