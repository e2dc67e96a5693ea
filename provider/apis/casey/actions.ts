import { createSettings, findConnection } from "../../config.ts";
import { HookplaneError } from "../../errors.ts";
import { createHttpClient } from "../../http/client.ts";
import { caseyConnection, createCaseyClient, type CaseyConnection } from "./client.ts";

/**
 * Sends Casey's test event (`test.event`) to *all* webhook endpoints of the account, those of other programs included,
 * and answers the event's id. Never part of a deployment: call it where a test is wanted.
 *
 *     await hookplane.casey.sendTestEvent({ apiKey: "sk_test_…" });
 *
 * @param connection the account; by default the one of `HOOKPLANE_CASEY_API_KEY` and `HOOKPLANE_CASEY_URL`
 * @throws HookplaneError where the account is not given, is wrong, or Casey does not accept the request
 */
export async function sendTestEvent(connection?: {
  readonly apiKey: string;
  readonly url?: string;
}): Promise<string> {
  const account = connection
    ? parseConnection(connection)
    : findConnection(caseyConnection, createSettings());
  return createCaseyClient({ http: createHttpClient(), connection: account }).sendTestEvent();
}

function parseConnection(connection: object): CaseyConnection {
  const { data, error } = caseyConnection.schema.safeParse(connection);
  if (data) return data;
  const faults = error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  throw new HookplaneError("invalid_input", `The Casey connection is wrong: ${faults.join("; ")}`);
}
