import { randomBytes } from "node:crypto";
import { z } from "zod";
import type { VendorAccount } from "../account.ts";
import { createCaseyDialect, type CaseyCredentials } from "./dialect.ts";
import { caseyDocumentation } from "./documentation.ts";
import { registerCaseyRoutes, sendCaseyError } from "./routes.ts";

/** Casey, conversational agents (https://developers.tellcasey.com). */
export const caseyAccount: VendorAccount<CaseyCredentials> = {
  name: "casey",
  title: "Casey",
  prefix: "/casey/v1/backend",
  credentials: z.strictObject({ apiKey: z.string().min(1) }),
  documentation: caseyDocumentation,
  generateCredentials: () => ({ apiKey: `sk_test_${randomBytes(24).toString("hex")}` }),
  createDialect: createCaseyDialect,
  sendError: sendCaseyError,
  registerRoutes: registerCaseyRoutes,
};
