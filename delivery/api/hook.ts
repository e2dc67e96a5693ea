import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { BlockingDialect, Dialect } from "../core/dialect.ts";
import { ServiceError } from "../errors.ts";
import { requireApplication, type ApplicationParams } from "./application-access.ts";
import { vendorEventType } from "./fields.ts";
import { readInput } from "./input.ts";
import { toEvent } from "./messages.ts";
import type { ServerContext } from "./server.ts";

const hookIn = z.object({
  eventType: vendorEventType,
  payload: z.record(z.string(), z.unknown(), "The payload must be a JSON object."),
});

/** What a blocking pre-event is answered with. */
interface HookOut {
  /** Whether the event may happen. */
  readonly publish: boolean;
  /** What the receiver changes in it; empty for nothing. */
  readonly changes: Readonly<Record<string, string>>;
  readonly reason: string;
}

/** Asks the receivers of a blocking pre-event; only some vendors have them. */
export function registerHook(instance: FastifyInstance, context: ServerContext): void {
  instance.post<{ Params: ApplicationParams }>("/app/:app/hook", async (request): Promise<HookOut> => {
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
  });
}

function isBlocking(dialect: Dialect): dialect is BlockingDialect {
  return "hookTimeoutMs" in dialect;
}
