/** What there is to know about an event. */
interface EventRule {
  /** The URL it goes to: `pre` blocks until the receiver has answered. */
  readonly when: "pre" | "post";
  /** What a receiver of a pre-event may change; nothing unless listed. */
  readonly modifiable?: readonly string[];
}

/**
 * The events of Twilio Conversations and the fields that a receiver may change
 * (https://www.twilio.com/docs/conversations/conversations-webhooks).
 */
const rules: Readonly<Record<string, EventRule>> = {
  onMessageAdd: { when: "pre", modifiable: ["body", "author", "attributes"] },
  onMessageUpdate: { when: "pre", modifiable: ["body", "author", "attributes"] },
  onMessageRemove: { when: "pre" },
  onMessageAdded: { when: "post" },
  onMessageUpdated: { when: "post" },
  onMessageRemoved: { when: "post" },
  onConversationAdd: { when: "pre", modifiable: ["friendly_name"] },
  onConversationUpdate: { when: "pre", modifiable: ["friendly_name"] },
  onConversationRemove: { when: "pre" },
  onConversationAdded: { when: "post" },
  onConversationUpdated: { when: "post" },
  onConversationRemoved: { when: "post" },
  onConversationStateUpdated: { when: "post" },
  onParticipantAdd: { when: "pre" },
  onParticipantUpdate: { when: "pre" },
  onParticipantRemove: { when: "pre" },
  onParticipantAdded: { when: "post" },
  onParticipantUpdated: { when: "post" },
  onParticipantRemoved: { when: "post" },
  onDeliveryUpdated: { when: "post" },
  onUserUpdate: { when: "pre" },
  onUserAdded: { when: "post" },
  onUserUpdated: { when: "post" },
};

export const twilioEvents: readonly string[] = Object.keys(rules);

/** What `Filters` may name: the events, and a name that Twilio's own sample still has although no event bears it. */
export const filterNames: readonly string[] = [...twilioEvents, "onMessageSend"];

export function isPreEvent(eventType: string): boolean {
  return rules[eventType]?.when === "pre";
}

export function isPostEvent(eventType: string): boolean {
  return rules[eventType]?.when === "post";
}

export function modifiableFields(eventType: string): readonly string[] {
  return rules[eventType]?.modifiable ?? [];
}
