/**
 * What a Pulumi program imports: `import * as hookplane from "hookplane"`. One class for each resource kind, by API, and the
 * shapes of the accounts.
 */
export * from "./generated/index.ts";
