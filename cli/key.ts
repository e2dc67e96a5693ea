import type { Command } from "commander";
import { parseStorageConfig, settings, type Flags, type StorageConfig } from "../delivery/config.ts";
import { StartError } from "../delivery/errors.ts";
import type { MasterKeyStatus } from "../delivery/store/master-key-care.ts";
import { addExamples } from "./command-reference.ts";
import { toOption } from "./setting-option.ts";

/** Exit code of `key status` and of `key rotate --wait` while something is sealed with an older key, or with a lost one. */
const incompleteExitCode = 6;

interface RotateFlags extends Flags {
  readonly wait?: boolean;
  readonly prune?: boolean;
}

/** Adds `key rotate` and `key status`, which print one line of JSON. */
export function registerKeyCommands(program: Command): void {
  const key = program
    .command("key")
    .description("Look after the master keys that seal the secrets in the database.");
  const status = key
    .command("status")
    .description(
      "Tell which keys there are and how much each of them has sealed; exits with 6 until all is sealed anew.",
    )
    .action((flags: Flags) =>
      run(flags, async (storage, care) => {
        print("status", await care.readMasterKeyStatus(storage), { isCompletionAsked: true });
      }),
    );
  const rotate = key
    .command("rotate")
    .description("Add a new key, which seals from now on. A running service notices within seconds.")
    .option("--wait", "wait until everything is sealed with it; where no service runs, seal it here")
    .option(
      "--prune",
      "add none, but drop the older keys that nothing needs any more; old backups need them still",
    )
    .action((flags: RotateFlags) =>
      run(flags, async (storage, care) => {
        if (flags.prune) {
          print("pruned", await care.pruneMasterKeys(storage));
          return;
        }
        print("rotated", await care.rotateMasterKey(storage));
        if (!flags.wait) return;
        const done = await care.completeRotation(storage, (progress) => {
          console.error(toLine("resealing", progress));
        });
        print("resealed", done, { isCompletionAsked: true });
      }),
    );
  addExamples(status, [["key status", "which keys there are, and how many texts each has sealed"]]);
  addExamples(rotate, [
    ["key rotate --wait", "adds a key, and waits until everything is sealed with it"],
    ["key rotate --prune", "drops the older keys that nothing needs any more"],
  ]);
  for (const command of [status, rotate]) {
    for (const setting of [settings.dataDir, settings.databaseUrl, settings.masterKeyFile]) {
      command.addOption(toOption(setting));
    }
  }
}

async function run(
  flags: Flags,
  fn: (storage: StorageConfig, care: typeof import("../delivery/store/master-key-care.ts")) => Promise<void>,
): Promise<void> {
  try {
    await fn(parseStorageConfig(flags), await import("../delivery/store/master-key-care.ts"));
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    console.error(JSON.stringify({ event: "failed", code: error.code, message: error.message }));
    process.exitCode = error.exitCode;
  }
}

function print(event: string, status: MasterKeyStatus, options: { isCompletionAsked?: boolean } = {}): void {
  console.log(toLine(event, status));
  if (options.isCompletionAsked && !status.isComplete) process.exitCode = incompleteExitCode;
}

function toLine(event: string, { file, keys, missing, isComplete }: MasterKeyStatus): string {
  return JSON.stringify({ event, file, keys, missing, complete: isComplete });
}
