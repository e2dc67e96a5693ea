import type { Json } from "./json.ts";

/** A JSON object. */
export type JsonObject = Readonly<Record<string, Json>>;

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A published payload as the object it is; empty for anything else, which no dialect that asks this accepts. */
export function parsePayload(payload: Uint8Array): JsonObject {
  const value: unknown = JSON.parse(new TextDecoder().decode(payload));
  return isJsonObject(value) ? value : {};
}

/** Why a payload cannot be published where an object is needed. */
export function payloadProblems(payload: unknown): string[] {
  if (isJsonObject(payload)) return [];
  const found = payload === null ? "null" : Array.isArray(payload) ? "a list" : `a ${typeof payload}`;
  return [`The payload must be a JSON object, such as {"id": 1}; it is ${found}.`];
}
