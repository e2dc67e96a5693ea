import { setTimeout as sleep } from "node:timers/promises";
import { HookplaneError } from "../errors.ts";

/** Resolves after `ms`. Throws `aborted` as soon as the signal says that the operation is over. */
export async function wait(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch (cause) {
    throw new HookplaneError("aborted", "The operation was canceled", { cause });
  }
}
