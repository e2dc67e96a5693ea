import type { Application } from "./application.ts";
import type { Endpoint } from "./endpoint.ts";
import type { FullMessage, Message } from "./message.ts";

/** A request as it goes on the wire. */
export interface OutgoingRequest {
  readonly method: "GET" | "POST";
  /** Absolute, without a fragment. */
  readonly url: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Null for a GET. */
  readonly body: Uint8Array | null;
}

/** What came back from a receiver. */
export type Answer =
  | { readonly kind: "response"; readonly status: number; readonly retryAfterMs: number | null }
  /** No usable answer: refused, reset, timed out, or refused by the address guard. */
  | { readonly kind: "error"; readonly reason: string };

/**
 * What an answer means: `succeeded`; `retry` on the dialect's schedule, or no sooner than `afterMs`; `failed`, no more
 * attempts; `disable`, failed and the endpoint takes no further events.
 */
export type Verdict =
  | { readonly kind: "succeeded" }
  | { readonly kind: "retry"; readonly afterMs: number | null }
  | { readonly kind: "failed" }
  | { readonly kind: "disable" };

/** A request that reached the inbox, to be checked as the vendor's receivers check it. */
export interface ReceivedRequest {
  readonly method: string;
  /** As the sender addressed it: scheme, host, port, path and query. */
  readonly url: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** `signature`: signed and right. `credentials`: unsigned by contract, but the endpoint's own headers are right. */
export type Verification =
  | { readonly verified: true; readonly by: "signature" | "credentials" }
  | { readonly verified: false; readonly reason: string };

export interface EncodeInput {
  readonly application: Application;
  readonly endpoint: Endpoint;
  readonly message: FullMessage;
  /** 0 for the first attempt. */
  readonly attempt: number;
  /** Milliseconds since the epoch: the attempt's time. */
  readonly now: number;
}

/**
 * A vendor's way to deliver events: pure decisions, no I/O. One dialect is one folder in `dialects/`; every dialect
 * passes the suite in `dialects/dialect.suite.ts`.
 */
export interface Dialect {
  /** The API's name: the vendor account's application has it as `uid`. */
  readonly name: string;
  /** The vendor's event types; empty where applications name their own. */
  readonly eventTypes: readonly string[];
  /** Waits between attempts, in milliseconds: n waits make n + 1 attempts. */
  readonly retryDelaysMs: readonly number[];
  /** Each wait is varied by up to this share, so that receivers are not hit in waves: 0.2 is plus or minus 20 %. */
  readonly jitter: number;
  /** How long an answer may take in all. */
  readonly timeoutMs: number;
  /** What is wrong with an event, one sentence each; none when it may be published. */
  problemsOf(eventType: string, payload: unknown): readonly string[];
  /** Does the endpoint get the message? Disabled endpoints are never asked. */
  selects(endpoint: Endpoint, message: Message): boolean;
  encode(input: EncodeInput): OutgoingRequest;
  judge(answer: Answer): Verdict;
  verify(request: ReceivedRequest, endpoint: Endpoint, now: number): Verification;
}

/** What came of a blocking pre-event: publish as it is, publish with changes, or do not publish. */
export type HookOutcome =
  | { readonly publish: true; readonly changes: Readonly<Record<string, string>>; readonly reason: string }
  | { readonly publish: false; readonly reason: string };

/** A dialect whose vendor asks the receiver before an event happens. */
export interface BlockingDialect extends Dialect {
  /** The longest wait for the receiver, in milliseconds. */
  readonly hookTimeoutMs: number;
  /** The request that asks, or null when the endpoint has none for this event. */
  encodeHook(input: EncodeInput): OutgoingRequest | null;
  /** What the answer decides. `body` is the answer's text; null answer means that none came in time. */
  judgeHook(eventType: string, answer: { status: number; body: string } | null): HookOutcome;
}
