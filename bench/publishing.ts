import type { Load } from "./generator.ts";
import { eventPayload, type RequestText } from "./request-template.ts";

/** How much JSON an event has. */
const eventBytes = 1024;
/** Events of one request of the batch route. */
export const batchEvents = 50;
/** Connections of a closed loop with one event a request. */
const connections = 64;
/** Connections of a closed loop with many events a request. */
const batchConnections = 8;

/** The application of most rows. */
export const application = "bench";
const eventType = "bench.order";

/** 64 publishers, each of which waits for its answer before it sends again. */
export const closedLoop: Load["pace"] = { kind: "closed", connections };
export const closedBatchLoop: Load["pace"] = { kind: "closed", connections: batchConnections };

/** A request every so often, whether the ones before were answered or not. */
export function openLoop(requestsPerSecond: number): Load["pace"] {
  return { kind: "open", requestsPerSecond };
}

/** Publishes one event; `#####` in application or event type is the number of the target, in five digits. */
export function messageRequest(token: string, to = application, type = eventType): RequestText {
  return {
    path: `/api/v1/app/${to}/msg`,
    headers: { authorization: `Bearer ${token}` },
    body: message(type),
  };
}

/** Publishes `batchEvents` events. */
export function batchRequest(token: string, to = application): RequestText {
  return {
    path: `/api/v1/app/${to}/msg/batch`,
    headers: { authorization: `Bearer ${token}` },
    body: `{"messages":[${Array<string>(batchEvents).fill(message(eventType)).join(",")}]}`,
  };
}

function message(type: string): string {
  return `{"eventType":"${type}","payload":${eventPayload(eventBytes)}}`;
}
