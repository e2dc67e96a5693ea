/**
 * The events PAVE sends (https://docs.paveapi.com/integrations/developer-docs/callbacks), and whether the body names its
 * event. Documented payloads, to be published as they are:
 *
 * - `SESSION:SMS_PROCESS`: `phone`, `status` (`success` or `error`), `message` (optional, the error)
 * - `SESSION:STAGE_CHANGE`: `session_key`, `photo_url`, `photo_status`, `message` (optional, why it was rejected)
 * - `SESSION:COMPLETE`: `event`, `session` (the inspection session)
 *
 * PAVE documents no payload for the other two; this service's recommendation:
 *
 * - `SESSION:STATUS_CHANGE`: `event`, `session_key`, `status`
 * - `SESSION:NOTE_INSERT`: `event`, `session_key`, `note` (`title`, `description`, `inserted_by`, `inserted_at`)
 *
 * Where the body names its event, the service adds `event` if the publisher left it out.
 */
const bodyNamesEvent: Readonly<Record<string, boolean>> = {
  "SESSION:SMS_PROCESS": false,
  "SESSION:STAGE_CHANGE": false,
  "SESSION:STATUS_CHANGE": true,
  "SESSION:COMPLETE": true,
  "SESSION:NOTE_INSERT": true,
};

export const paveEvents: readonly string[] = Object.keys(bodyNamesEvent);

/** What the service itself puts into the body of an event. */
export function defaultPayload(event: string): Readonly<Record<string, string>> {
  return bodyNamesEvent[event] === true ? { event } : {};
}
