import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { ServiceError } from "../errors.ts";
import { ConflictError, type NewKeptAnswer, type Tx } from "../store/store.ts";
import { bodyText } from "./input.ts";
import type { ServerContext } from "./server.ts";

/** What a request is answered with. `body` is JSON text; empty for none. */
export interface Answer {
  readonly status: number;
  readonly body: string;
}

export function sendAnswer(reply: FastifyReply, { status, body }: Answer): FastifyReply {
  return body === ""
    ? reply.code(status).send()
    : reply.code(status).type("application/json; charset=utf-8").send(Buffer.from(body));
}

/** Notes the answer under the request's key, in the transaction of the work itself; nothing where the request has none. */
export interface Keep {
  within(tx: Tx, answer: Answer): Promise<void>;
  /** For work that stores it by itself. */
  of(answer: Answer): NewKeptAnswer | null;
}

/** How long an answer is kept, as in Svix's API. */
const retentionMs = 12 * 60 * 60 * 1000;

/**
 * Does the work once for an `Idempotency-Key`: the same request again gets the first one's answer. A key counts for its
 * method and path, within the organization or, for a caller that is limited to one, the application; it is optional.
 *
 * @param work hands `keep` its answer in its transaction, so that work and answer are on disk together or not at all
 * @throws ServiceError `conflict` when the key was used for a different request
 */
export async function answerOnce(
  context: ServerContext,
  request: FastifyRequest,
  work: (keep: Keep) => Promise<Answer>,
): Promise<Answer> {
  const keyed = keyedBy(request);
  if (keyed === null) return work(keepNothing);
  const of = (answer: Answer): NewKeptAnswer => toKept(context, keyed, answer);
  try {
    return await work({ of, within: (tx, answer) => tx.idempotency.insert(of(answer), context.now()) });
  } catch (error) {
    // Looked up only now: nearly every key is new, and a request that was answered before fails on its kept answer at
    // the latest. It may fail earlier, on what its own first try has made or what has changed since.
    if (!(error instanceof ServiceError || error instanceof ConflictError)) throw error;
    const kept = await findKept(context, keyed);
    if (kept === undefined) throw error;
    return kept;
  }
}

/**
 * Does work that stores by itself, and may be done once more without harm, once for an `Idempotency-Key`: where the
 * service fails between the work and the note of it, the same request does it again.
 *
 * @throws ServiceError `conflict` when the key was used for a different request
 */
export async function answerAtLeastOnce(
  context: ServerContext,
  request: FastifyRequest,
  work: () => Promise<Answer>,
): Promise<Answer> {
  const keyed = keyedBy(request);
  if (keyed === null) return work();
  const known = await findKept(context, keyed);
  if (known !== undefined) return known;
  const answer = await work();
  try {
    await context.store.write((tx) => tx.idempotency.insert(toKept(context, keyed, answer), context.now()));
  } catch (error) {
    // The same request at the same time was faster.
    if (!(error instanceof ConflictError)) throw error;
  }
  return answer;
}

/** The answers to the parts of a request, each kept under the request's key with the part's work. */
export interface PartAnswers {
  of(part: number, answer: Answer): NewKeptAnswer;
  /** What the part was answered with before. */
  find(part: number): Promise<Answer | undefined>;
}

/**
 * Takes the request's `Idempotency-Key` for work in parts, of which each may fail for itself: the same request again
 * does those that have failed, and gets the first answers of the others.
 *
 * @returns null for a request without a key
 * @throws ServiceError `conflict` when the key was used for a different request
 */
export async function answerParts(
  context: ServerContext,
  request: FastifyRequest,
): Promise<PartAnswers | null> {
  const keyed = keyedBy(request);
  if (keyed === null) return null;
  const partOf = (part: number): KeyedRequest => ({ ...keyed, key: `${keyed.key}.${part}` });
  try {
    await context.store.write((tx) => tx.idempotency.insert(toKept(context, keyed, started), context.now()));
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
    await findKept(context, keyed);
  }
  return {
    of: (part, answer) => toKept(context, partOf(part), answer),
    find: (part) => findKept(context, partOf(part)),
  };
}

/** Kept for a request as a whole whose parts are answered one by one. */
const started: Answer = { status: 0, body: "" };

/** What tells a request with a key from others. */
interface KeyedRequest {
  readonly key: string;
  readonly requestHash: string;
}

function keyedBy(request: FastifyRequest): KeyedRequest | null {
  const given = request.headers["idempotency-key"];
  if (given === undefined || given.length === 0) return null;
  const path = request.url.split("?", 1)[0];
  const { organizationId, limits } = request.caller;
  const scope = `${organizationId} ${limits?.applicationId ?? ""}`;
  return {
    key: digest(`${scope}\n${request.method} ${path}\n${given.toString()}`),
    requestHash: digest(`${request.url}\n${bodyText(request)}`),
  };
}

function toKept(context: ServerContext, keyed: KeyedRequest, answer: Answer): NewKeptAnswer {
  return { ...keyed, ...answer, expiresAt: context.now() + retentionMs };
}

async function findKept(context: ServerContext, keyed: KeyedRequest): Promise<Answer | undefined> {
  const kept = await context.store.read((tx) => tx.idempotency.find(keyed.key, context.now()));
  if (kept === undefined) return undefined;
  if (kept.requestHash !== keyed.requestHash) {
    throw new ServiceError(
      "conflict",
      "The Idempotency-Key was used for a different request: take a new key for each request.",
    );
  }
  return { status: kept.status, body: kept.body };
}

const keepNothing: Keep = { within: async () => undefined, of: () => null };

function digest(text: string): string {
  return createHash("sha256").update(text).digest("base64url");
}
