import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { ServiceError } from "../errors.ts";
import type { Operation } from "../operation.ts";
import type { ServerContext } from "./server.ts";

const tag = "Health";
const ping: Operation = { summary: "Ask whether the API answers", tag, isOpen: true, answers: { 204: null } };
const operations = {
  "/api/v1/health": ping,
  "/api/v1/health/ping": { ...ping, summary: "Ping" },
  "/healthz": {
    summary: "Ask whether the process lives",
    tag,
    isOpen: true,
    answers: { 200: z.object({ status: z.literal("ok"), version: z.string() }) },
  },
  "/readyz": {
    summary: "Ask whether the service can work",
    tag,
    isOpen: true,
    answers: { 200: z.object({ status: z.literal("ready") }) },
  },
} satisfies Record<string, Operation>;

/** Whether the process lives and whether it can work; open to everybody. */
export function registerHealth(instance: FastifyInstance, context: ServerContext): void {
  const optionsOf = (path: keyof typeof operations) => ({ config: { operation: operations[path] } });

  for (const path of ["/api/v1/health", "/api/v1/health/ping"] as const) {
    instance.get(path, optionsOf(path), async (_request, reply) => reply.code(204).send());
  }

  instance.get("/healthz", optionsOf("/healthz"), async () => ({ status: "ok", version: context.version }));

  instance.get("/readyz", optionsOf("/readyz"), async () => {
    try {
      await context.store.ping();
    } catch (cause) {
      throw new ServiceError("unavailable", "The store does not answer.", { retryAfterSeconds: 5, cause });
    }
    return { status: "ready" };
  });
}
