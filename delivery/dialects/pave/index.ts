import { randomBytes } from "node:crypto";
import { z } from "zod";
import type { VendorAccount } from "../account.ts";
import { paveDialect } from "./dialect.ts";
import { paveDocumentation } from "./documentation.ts";
import { registerPaveRoutes, sendPaveError } from "./routes.ts";
import { defaultFreshnessWindowMs, type PaveCredentials } from "./token.ts";

/** PAVE, vehicle inspections (https://docs.paveapi.com). */
export const paveAccount = createPaveAccount();

/**
 * The account with another idea of a fresh `API-Timestamp`.
 *
 * @param options.freshnessWindowMs 15 minutes by default
 */
export function createPaveAccount(
  options: { freshnessWindowMs?: number } = {},
): VendorAccount<PaveCredentials> {
  return {
    name: "pave",
    title: "PAVE",
    prefix: "/pave/v1",
    credentials: z.strictObject({
      username: z.string().min(1),
      apiKey: z.string().min(1),
      apiSecret: z.string().min(1),
    }),
    documentation: paveDocumentation,
    generateCredentials: () => ({
      username: "hookplane",
      apiKey: randomBytes(16).toString("hex"),
      apiSecret: randomBytes(32).toString("hex"),
    }),
    createDialect: (_, { retryDelaysMs, timeoutMs }) => ({ ...paveDialect, retryDelaysMs, timeoutMs }),
    sendError: (error, request, reply) => sendPaveError(error, request, reply),
    registerRoutes(instance, context) {
      registerPaveRoutes(instance, context, options.freshnessWindowMs ?? defaultFreshnessWindowMs);
    },
  };
}
