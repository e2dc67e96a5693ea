import * as pulumi from "@pulumi/pulumi";

const { runtime } = pulumi;
let isConnected = false;

/**
 * Shows a message in the output of the Pulumi command. The engine gives its address to a provider process as the first
 * argument; the SDK's log functions look for it among the options of a program, where a provider has none, so it is put
 * there. Without an address they write to the console.
 */
export function logToEngine(severity: "debug" | "info" | "warning" | "error", message: string): void {
  const address = process.argv[2];
  if (!isConnected && address && /^[\w.-]+:\d+$/.test(address)) {
    runtime.resetOptions(runtime.getProject(), runtime.getStack(), -1, address, "", runtime.isDryRun(), "");
    isConnected = true;
  }
  const log = {
    debug: pulumi.log.debug,
    info: pulumi.log.info,
    warning: pulumi.log.warn,
    error: pulumi.log.error,
  };
  // A message that cannot be shown must not fail the operation that it is about.
  log[severity](message).catch(() => undefined);
}
