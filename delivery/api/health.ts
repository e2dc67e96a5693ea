import type { FastifyInstance } from "fastify";
import { ServiceError } from "../errors.ts";
import type { ServerContext } from "./server.ts";

/** Whether the process lives and whether it can work; open to everybody. */
export function registerHealth(instance: FastifyInstance, context: ServerContext): void {
  for (const path of ["/api/v1/health", "/api/v1/health/ping"]) {
    instance.get(path, async (_request, reply) => reply.code(204).send());
  }

  instance.get("/healthz", async () => ({ status: "ok", version: context.version }));

  instance.get("/readyz", async () => {
    try {
      await context.store.ping();
    } catch (cause) {
      throw new ServiceError("unavailable", "The store does not answer.", { retryAfterSeconds: 5, cause });
    }
    return { status: "ready" };
  });
}
