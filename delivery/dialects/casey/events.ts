/**
 * The events Casey sends (https://developers.tellcasey.com/docs/api/reference/webhook-events). `test.event` is what
 * `POST /webhooks/test` sends to every endpoint.
 */
export const caseyEvents = [
  "conversation.started",
  "conversation.completed",
  "conversation.abandoned",
  "test.event",
] as const;

/** The event that goes to every endpoint, whatever its event types. */
export const testEvent = "test.event";

/** What an endpoint gets when it names no event types. */
export const defaultEventTypes: readonly string[] = ["conversation.completed"];
