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
    : reply.code(status).type("application/json; charset=utf-8").send(body);
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
  const given = request.headers["idempotency-key"];
  if (given === undefined || given.length === 0) return work(keepNothing);
  const path = request.url.split("?", 1)[0];
  const { organizationId, limits } = request.caller;
  const scope = `${organizationId} ${limits?.applicationId ?? ""}`;
  const key = digest(`${scope}\n${request.method} ${path}\n${given.toString()}`);
  const requestHash = digest(`${request.url}\n${bodyText(request)}`);
  const of = (answer: Answer): NewKeptAnswer => ({
    key,
    requestHash,
    ...answer,
    expiresAt: context.now() + retentionMs,
  });
  try {
    return await work({ of, within: (tx, answer) => tx.idempotency.insert(of(answer), context.now()) });
  } catch (error) {
    // Looked up only now: nearly every key is new, and a request that was answered before fails on its kept answer at
    // the latest. It may fail earlier, on what its own first try has made or what has changed since.
    if (!(error instanceof ServiceError || error instanceof ConflictError)) throw error;
    const kept = await context.store.read((tx) => tx.idempotency.find(key, context.now()));
    if (kept === undefined) throw error;
    if (kept.requestHash !== requestHash) {
      throw new ServiceError(
        "conflict",
        "The Idempotency-Key was used for a different request: take a new key for each request.",
      );
    }
    return { status: kept.status, body: kept.body };
  }
}

const keepNothing: Keep = { within: async () => undefined, of: () => null };

function digest(text: string): string {
  return createHash("sha256").update(text).digest("base64url");
}
