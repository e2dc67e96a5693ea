import { createApplications } from "./applications.ts";
import { createAttempts } from "./attempts.ts";
import { createDeliveries } from "./deliveries.ts";
import { createEndpointStates } from "./endpoint-states.ts";
import { createEndpoints } from "./endpoints.ts";
import { createEventTypes } from "./event-types.ts";
import { createIdempotency } from "./idempotency.ts";
import { createMessages } from "./messages.ts";
import { createNodes } from "./nodes.ts";
import { createOrganizations } from "./organizations.ts";
import { createRecent } from "./recent.ts";
import { createReplays } from "./replays.ts";
import { createResealing } from "./resealing.ts";
import { createRetention } from "./retention.ts";
import type { Seal } from "./seal.ts";
import type { Changes, Sql } from "./sql.ts";
import type { Tx } from "./store.ts";
import { createTasks } from "./tasks.ts";
import { createTokens } from "./tokens.ts";

/** Every table over one connection. */
export function createTx(sql: Sql, changes: Changes, seal: Seal): Tx {
  const attempts = createAttempts(sql);
  const tokens = createTokens(sql, changes);
  const endpointStates = createEndpointStates(sql);
  const deliveries = createDeliveries(sql, changes, { attempts, endpointStates });
  return {
    organizations: createOrganizations(sql),
    applications: createApplications(sql, changes, tokens),
    endpoints: createEndpoints(sql, changes, seal),
    endpointStates,
    eventTypes: createEventTypes(sql, changes),
    messages: createMessages(sql),
    deliveries,
    attempts,
    idempotency: createIdempotency(sql),
    tokens,
    tasks: createTasks(sql),
    recent: createRecent(sql),
    replays: createReplays(sql, changes),
    retention: createRetention(sql),
    nodes: createNodes(sql, deliveries),
    resealing: createResealing(sql, seal),
  };
}
