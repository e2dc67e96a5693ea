import type { VendorAccount } from "./account.ts";
import { caseyAccount } from "./casey/index.ts";
import { paveAccount } from "./pave/index.ts";
import { twilioAccount } from "./twilio/index.ts";

export { createSvixDialect } from "./svix/index.ts";

/** The vendors whose accounts the service holds: a folder and a line each. */
export const accounts: readonly VendorAccount[] = [paveAccount, twilioAccount, caseyAccount];
