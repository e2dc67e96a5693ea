import type { Endpoint } from "./endpoint.ts";
import type { Message } from "./message.ts";

/** Whether the endpoint listens to the message's event type and, where it names channels, to one of its channels. */
export function listensTo(endpoint: Endpoint, message: Pick<Message, "eventType" | "channels">): boolean {
  const { filterTypes, channels } = endpoint;
  if (filterTypes !== null && !filterTypes.includes(message.eventType)) return false;
  return channels === null || (message.channels?.some((channel) => channels.includes(channel)) ?? false);
}
