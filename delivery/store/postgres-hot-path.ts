import type { ClientBase, QueryResult } from "pg";
import { toDelivery } from "./deliveries.ts";
import { toMessage } from "./messages.ts";
import { bigintArray, byteaArray, textArray } from "./postgres-arrays.ts";
import { named, prepare, type Statement } from "./postgres.ts";
import { toJson, type Changes, type Row } from "./sql.ts";
import {
  ConflictError,
  StaleError,
  type Acceptance,
  type DueDelivery,
  type EndpointClaim,
  type NewDelivery,
  type Outcome,
} from "./store.ts";

// The hot path, many events at a time: a column of the batch in each parameter, and all statements of a batch under way at
// once, the commit too, so that it costs one round trip.

/** Session settings that keep statements to their indexes, whatever the tables were like when they were last analyzed. */
export const indexSession = {
  enable_seqscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
} as const;

/** The same for the batch statements, which are planned once. */
export const hotSession = { ...indexSession, plan_cache_mode: "force_generic_plan" } as const;

/** What came of each of a batch's acceptances: undefined where it was stored. */
export type Refusal = StaleError | ConflictError | undefined;

const lockOrders = prepare(`
  insert into endpoint_states
    (endpoint_id, failing_since, failures, openings, open_until, next_slot_us, next_sequence)
  select endpoint_id, null, 0, 0, null, 0, 1 + amount from unnest(?::text[], ?::bigint[]) as given (endpoint_id, amount)
  on conflict (endpoint_id)
  do update set next_sequence = endpoint_states.next_sequence + excluded.next_sequence - 1`);

const ofCurrentVersion = `
  version = (select applications.version from applications where applications.id = given.application_id)`;

const insertAnswersText = `
  insert into idempotency (key, request_hash, status, body, expires_at)
  select key, request_hash, status, body, expires_at
  from unnest(?::text[], ?::text[], ?::bigint[], ?::text[], ?::bigint[], ?::text[], ?::bigint[])
    as given (key, request_hash, status, body, expires_at, application_id, version)
  where ${ofCurrentVersion}
  on conflict (key) do update set request_hash = excluded.request_hash, status = excluded.status,
    body = excluded.body, expires_at = excluded.expires_at
  where idempotency.expires_at <= ?::bigint`;

/** @param ofKeptAnswer the condition on the answer's \`key\`; null where no acceptance has one */
function insertMessagesText(ofKeptAnswer: string | null): string {
  const names =
    "id, application_id, event_type, event_id, channels, tags, ordering_key, payload, payload_expires_at, created_at";
  return `
  insert into messages (${names})
  select ${names} from unnest(
    ?::text[], ?::text[], ?::text[], ?::text[], ?::text[], ?::text[], ?::text[], ?::bytea[], ?::bigint[], ?::bigint[],
    ?::bigint[] ${ofKeptAnswer === null ? "" : ", ?::text[]"}
  ) as given (${names}, version ${ofKeptAnswer === null ? "" : ", key"})
  where ${ofCurrentVersion} ${ofKeptAnswer === null ? "" : `and (given.key is null or ${ofKeptAnswer})`}
  on conflict (application_id, event_id) where event_id is not null do nothing
  returning id`;
}

const deliveryColumns = `
  ?::text[], ?::text[], ?::text[], ?::text[], ?::bigint[], ?::bigint[], ?::bigint[], ?::text[]`;
const deliveryNames = `
  message_id, endpoint_id, application_id, state, attempts, next_attempt_at, leased_by, trigger_type`;

function insertDeliveriesText(ofStoredMessage: string): string {
  return `
  insert into deliveries (${deliveryNames})
  select ${deliveryNames} from unnest(${deliveryColumns}) as given (${deliveryNames}) where ${ofStoredMessage}`;
}

// All that most batches need is one statement. "Is true" keeps the lists of what was stored from being joined, row by row:
// they are looked up by hash.
const storeText = `
  accepted as (${insertMessagesText("(given.key in (select key from kept)) is true")}),
  scheduled as (${insertDeliveriesText("(given.message_id in (select id from accepted)) is true")})
  select id from accepted`;

const storeAnswered = prepare(`with kept as (${insertAnswersText} returning key), ${storeText}`);

const store = prepare(`
  with accepted as (${insertMessagesText(null)}),
  scheduled as (${insertDeliveriesText("(given.message_id in (select id from accepted)) is true")})
  select id from accepted`);

// The same in several statements, each of which finds in the tables what those before it have written: rows whose xmin is
// this transaction.
const ofThisTransaction = (table: string): string => `${table}.xmin = pg_current_xact_id()::xid`;
const ofStoredMessage = `exists (
    select 1 from messages where messages.application_id = given.application_id and messages.id = given.message_id)`;

const insertAnswers = prepare(insertAnswersText);

const insertMessages = prepare(insertMessagesText(null));

const insertAnsweredMessages = prepare(
  insertMessagesText(
    `exists (select 1 from idempotency where idempotency.key = given.key and ${ofThisTransaction("idempotency")})`,
  ),
);

/** Of a message that was not stored, the answer is not kept either. */
const removeAnswers = prepare(`
  delete from idempotency using unnest(?::text[], ?::text[], ?::text[]) as given (key, application_id, message_id)
  where idempotency.key = given.key and ${ofThisTransaction("idempotency")} and not ${ofStoredMessage}`);

const insertDeliveries = prepare(insertDeliveriesText(ofStoredMessage));

/** `remaining`: how many of the endpoint's places that the batch has taken come from this one on. */
const insertOrderedDeliveries = prepare(`
  insert into deliveries (${deliveryNames}, ordering_key, sequence)
  select message_id, endpoint_id, application_id, state, attempts,
    case
      when ordering_key is null then next_attempt_at
      when row_number() over (partition by endpoint_id, ordering_key order by place) > 1 then null
      when exists (
        select 1 from deliveries as earlier
        where earlier.endpoint_id = given.endpoint_id and earlier.ordering_key = given.ordering_key
          and earlier.state = 'pending' and earlier.sequence is not null) then null
      else next_attempt_at
    end,
    leased_by, trigger_type, ordering_key,
    (select next_sequence from endpoint_states where endpoint_states.endpoint_id = given.endpoint_id) - remaining
  from unnest(${deliveryColumns}, ?::text[], ?::bigint[])
    with ordinality as given (${deliveryNames}, ordering_key, remaining, place)
  where ${ofStoredMessage}
  returning message_id, endpoint_id, next_attempt_at`);

/** Why acceptances were not stored. */
const explainRefusals = prepare(`
  select
    (select version from applications where applications.id = given.application_id) as version,
    exists (select 1 from idempotency where idempotency.key = given.key) as key_taken,
    exists (
      select 1 from messages
      where messages.application_id = given.application_id and messages.event_id = given.event_id) as event_taken
  from unnest(?::text[], ?::text[], ?::text[]) with ordinality as given (application_id, event_id, key, place)
  order by place`);

const shareOrders = prepare(`
  select endpoint_id from endpoint_states where endpoint_id = any(?::text[]) order by endpoint_id for update`);

const learnedStates = `, learned as (
    insert into endpoint_states
      (endpoint_id, failing_since, failures, openings, open_until, next_slot_us, next_sequence)
    select distinct on (endpoint_id) endpoint_id, failing_since, failures, openings, open_until, 0, 1
    from settled where failures is not null order by endpoint_id, place desc
    on conflict (endpoint_id) do update set failing_since = excluded.failing_since, failures = excluded.failures,
      openings = excluded.openings, open_until = excluded.open_until
  )`;

/**
 * Writes down what came of attempts. "Pending" is put in other words than the partial indexes have: by the primary key it is
 * one step for each delivery, by all that is pending, or was so until the last vacuum, it would be thousands.
 *
 * @param placed whether some of the deliveries have a place in an order
 * @param learned whether something is told of endpoints
 */
function prepareSettle(placed: boolean, learned: boolean): Statement {
  const placeNames = placed ? ", ordering_key, sequence" : "";
  const stateNames = learned ? ", failing_since, failures, openings, open_until" : "";
  return prepare(`
  with settled as (
    update deliveries
    set state = given.state, attempts = given.attempts, next_attempt_at = given.next_attempt_at,
      leased_by = given.leased_by, trigger_type = given.trigger_type,
      ordering_key = ${placed ? "given.ordering_key" : "null"}, sequence = ${placed ? "given.sequence" : "null"}
    from unnest(
      ?::text[], ?::text[], ?::text[], ?::bigint[], ?::bigint[], ?::bigint[], ?::text[], ?::bigint[],
      ?::text[], ?::text[], ?::text[], ?::bigint[], ?::bigint[], ?::text[], ?::bigint[], ?::text[], ?::bigint[]
      ${placed ? ", ?::text[], ?::bigint[]" : ""} ${learned ? ", ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[]" : ""}
    ) with ordinality as given (
      message_id, endpoint_id, state, attempts, next_attempt_at, leased_by, trigger_type, node,
      attempt_id, application_id, url, succeeded, response_status_code, response, duration_ms, attempt_trigger, started_at
      ${placeNames} ${stateNames}, place)
    where deliveries.message_id = given.message_id and deliveries.endpoint_id = given.endpoint_id
      and deliveries.leased_by = given.node and deliveries.state not in ('succeeded', 'failed')
    returning given.message_id, given.endpoint_id, attempt_id, given.application_id, url, succeeded, response_status_code,
      response, duration_ms, attempt_trigger, started_at, place ${stateNames}
  ), recorded as (
    insert into attempts
      (id, message_id, endpoint_id, application_id, url, succeeded, response_status_code, response, duration_ms,
       trigger_type, started_at)
    select attempt_id, message_id, endpoint_id, application_id, url, succeeded, response_status_code, response,
      duration_ms, attempt_trigger, started_at
    from settled where attempt_id is not null
    on conflict (message_id, id) do nothing
  ) ${learned ? learnedStates : ""}
  select place from settled`);
}

const settle = {
  plain: prepareSettle(false, false),
  placed: prepareSettle(true, false),
  learned: prepareSettle(false, true),
  placedAndLearned: prepareSettle(true, true),
};

/** See `advanceOrder` in deliveries.ts. */
const advanceOrders = prepare(`
  update deliveries set next_attempt_at = given.now
  from unnest(?::text[], ?::text[], ?::text[], ?::bigint[], ?::bigint[])
    as given (message_id, endpoint_id, ordering_key, sequence, now)
  cross join lateral (
    select heads.message_id, heads.sequence from deliveries as heads
    where heads.endpoint_id = given.endpoint_id and heads.ordering_key = given.ordering_key
      and heads.state = 'pending' and heads.sequence is not null
    order by heads.sequence limit 1
  ) as head
  where deliveries.message_id = head.message_id and deliveries.endpoint_id = given.endpoint_id
    and head.sequence > given.sequence and deliveries.next_attempt_at is null and deliveries.leased_by = 0
    and exists (
      select 1 from deliveries as ended
      where ended.message_id = given.message_id and ended.endpoint_id = given.endpoint_id
        and ${ofThisTransaction("ended")})
  returning deliveries.endpoint_id, deliveries.application_id, given.now`);

const claim = prepare(`
  with found as (
    select locked.* from unnest(?::text[], ?::bigint[]) as given (endpoint_id, amount)
    cross join lateral (
      select message_id, deliveries.endpoint_id, application_id, next_attempt_at from deliveries
      where state = 'pending' and leased_by = 0 and deliveries.endpoint_id = given.endpoint_id
        and next_attempt_at <= ?::bigint
      order by next_attempt_at limit given.amount for update skip locked
    ) as locked
  ), sized as (
    select found.message_id, found.endpoint_id, sum(octet_length(messages.payload)) over (
      order by found.next_attempt_at, found.message_id, found.endpoint_id
      rows between unbounded preceding and 1 preceding) as bytes_before
    from found join messages on messages.application_id = found.application_id and messages.id = found.message_id
  ), claimed as (
    update deliveries set leased_by = ?::bigint from sized as taken
    where coalesce(taken.bytes_before, 0) < ?::bigint
      and deliveries.message_id = taken.message_id and deliveries.endpoint_id = taken.endpoint_id
    returning deliveries.*
  )
  select claimed.message_id, claimed.endpoint_id, claimed.state, claimed.attempts, claimed.next_attempt_at,
    claimed.leased_by, claimed.trigger_type, claimed.ordering_key as place_key, claimed.sequence, messages.*
  from claimed
  join messages on messages.application_id = claimed.application_id and messages.id = claimed.message_id
  order by claimed.next_attempt_at`);

const findNextDue = prepare(`
  select given.endpoint_id, (
    select min(next_attempt_at) from deliveries
    where state = 'pending' and leased_by = 0 and deliveries.endpoint_id = given.endpoint_id) as due_at
  from unnest(?::text[]) as given (endpoint_id)`);

/** Stores a batch; no two of its acceptances have a message, event or answer key in common. */
export async function acceptBatch(
  client: ClientBase,
  changes: Changes,
  batch: readonly Acceptance[],
): Promise<Refusal[]> {
  const answered = batch.filter(({ answer }) => answer !== null);
  const deliveries = batch.flatMap((acceptance) => acceptance.deliveries);
  const ordered = deliveries.some(({ order }) => order !== null);
  // By event id, and answers by key, so that nodes that get the same events at once wait for each other in one direction.
  const sorted = batch.some(({ message }) => message.eventId !== null) ? batch.toSorted(byEventId) : batch;

  const pipeline = new Pipeline(client);
  let stored: Promise<QueryResult<Row>>;
  let inserted: Promise<QueryResult<Row>> | null = null;
  if (!ordered && (answered.length === 0 || batch.every(({ message }) => message.eventId === null))) {
    stored =
      answered.length === 0
        ? pipeline.ask(store, [...messageValues(sorted), ...deliveryValues(deliveries)])
        : pipeline.ask(storeAnswered, [
            ...[...answerValues(answered), ...messageValues(batch), answerKeys(batch)],
            ...deliveryValues(deliveries),
          ]);
  } else {
    pipeline.begin();
    if (ordered) takeSequences(pipeline, deliveries);
    if (answered.length > 0) {
      pipeline.run(insertAnswers, answerValues(answered));
      stored = pipeline.ask(insertAnsweredMessages, [...messageValues(sorted), answerKeys(sorted)]);
      pipeline.run(removeAnswers, [
        answerKeys(answered),
        textArray(answered, ({ message }) => message.applicationId),
        textArray(answered, ({ message }) => message.id),
      ]);
    } else {
      stored = pipeline.ask(insertMessages, messageValues(sorted));
    }
    if (ordered) inserted = pipeline.ask(insertOrderedDeliveries, orderedDeliveryValues(deliveries));
    else pipeline.run(insertDeliveries, deliveryValues(deliveries));
  }
  await pipeline.commit();

  const storedIds = new Set((await stored).rows.map((row) => row["id"] as string));
  const dueTimes = inserted && toDueTimes((await inserted).rows);
  for (const delivery of deliveries) {
    if (delivery.leasedBy !== null || !storedIds.has(delivery.messageId)) continue;
    const dueAt = dueTimes ? (dueTimes.get(placeOf(delivery)) ?? null) : delivery.nextAttemptAt;
    if (dueAt !== null) changes.due(delivery, dueAt);
  }
  if (storedIds.size === batch.length) return batch.map(() => undefined);
  const refused = batch.filter(({ message }) => !storedIds.has(message.id));
  const reasons = await explain(client, refused);
  return batch.map(({ message }) => reasons.get(message.id));
}

/** Settles a batch in which no delivery is there twice; answers for each whether it was the node's to settle. */
export async function settleBatch(
  client: ClientBase,
  changes: Changes,
  batch: readonly Outcome[],
): Promise<boolean[]> {
  const placed = batch.filter(({ delivery }) => delivery.place !== null);
  const ended = placed.filter(({ delivery }) => delivery.state !== "pending");
  const pipeline = new Pipeline(client);
  if (placed.length > 0) {
    pipeline.begin();
    pipeline.run(shareOrders, [textArray(placed, ({ delivery }) => delivery.endpointId)]);
  }
  const settled = addSettled(pipeline, batch, placed.length > 0);
  const advanced = ended.length > 0 ? addAdvance(pipeline, ended) : null;
  await pipeline.commit();

  const places = new Set((await settled).rows.map((row) => row["place"] as number));
  for (const [index, { delivery }] of batch.entries()) {
    if (!places.has(index + 1) || delivery.state !== "pending" || delivery.leasedBy !== null) continue;
    if (delivery.nextAttemptAt !== null) changes.due(delivery, delivery.nextAttemptAt);
  }
  for (const row of (await advanced)?.rows ?? []) {
    const { endpoint_id: endpointId, application_id: applicationId } = row as Record<string, string>;
    changes.due({ endpointId: endpointId ?? "", applicationId: applicationId ?? "" }, row["now"] as number);
  }
  return batch.map((_, index) => places.has(index + 1));
}

/** What a claim takes, before it is committed. */
export interface Claimed {
  readonly due: DueDelivery[];
  readonly nextDueAt: Map<string, number | null>;
}

/** Takes due deliveries within a transaction that is begun here, and that the caller commits. */
export async function claimDue(
  client: ClientBase,
  claims: readonly EndpointClaim[],
  node: number,
  now: number,
  maxBytes = Number.MAX_SAFE_INTEGER,
): Promise<Claimed> {
  const pipeline = new Pipeline(client);
  pipeline.begin();
  const endpointIds = textArray(claims, ({ endpointId }) => endpointId);
  const claimed = pipeline.ask(claim, [
    endpointIds,
    bigintArray(claims, ({ limit }) => limit),
    now,
    node,
    maxBytes,
  ]);
  const nextDue = pipeline.ask(findNextDue, [endpointIds]);
  await pipeline.end();
  return {
    due: (await claimed).rows.map((row) => ({
      delivery: toDelivery({ ...row, ordering_key: row["place_key"] }),
      message: toMessage(row),
    })),
    nextDueAt: new Map(
      (await nextDue).rows.map((row) => [row["endpoint_id"] as string, row["due_at"] as number | null]),
    ),
  };
}

/** Statements that are sent one behind the other, without waiting for answers. */
class Pipeline {
  readonly #client: ClientBase;
  readonly #answers: Promise<QueryResult<Row>>[] = [];
  #isTransaction = false;

  constructor(client: ClientBase) {
    this.#client = client;
  }

  begin(): void {
    this.#isTransaction = true;
    void this.#note(this.#client.query<Row>("begin"));
  }

  run(statement: Statement, values: unknown[]): void {
    void this.#note(this.#client.query<Row>({ ...named(statement), values }));
  }

  ask(statement: Statement, values: unknown[]): Promise<QueryResult<Row>> {
    return this.#note(this.#client.query<Row>({ ...named(statement), values }));
  }

  /**
   * Resolves when all have been run, and what was begun is committed.
   *
   * @throws the first statement's error: the others' only tell that there was one
   */
  async commit(): Promise<void> {
    if (this.#isTransaction) void this.#note(this.#client.query<Row>("commit"));
    await this.end();
  }

  async end(): Promise<void> {
    const outcomes = await Promise.allSettled(this.#answers);
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  }

  #note(answer: Promise<QueryResult<Row>>): Promise<QueryResult<Row>> {
    // Whoever waits for it hears of it; the others need not.
    answer.catch(() => undefined);
    this.#answers.push(answer);
    return answer;
  }
}

function messageValues(batch: readonly Acceptance[]): unknown[] {
  return [
    textArray(batch, ({ message }) => message.id),
    textArray(batch, ({ message }) => message.applicationId),
    textArray(batch, ({ message }) => message.eventType),
    textArray(batch, ({ message }) => message.eventId),
    textArray(batch, ({ message }) => toJson(message.channels)),
    textArray(batch, ({ message }) => JSON.stringify(message.tags)),
    textArray(batch, ({ message }) => message.orderingKey),
    byteaArray(batch, ({ message }) => message.payload),
    bigintArray(batch, ({ message }) => message.payloadExpiresAt),
    bigintArray(batch, ({ message }) => message.createdAt),
    bigintArray(batch, ({ version }) => version),
  ];
}

function answerKeys(batch: readonly Acceptance[]): Buffer {
  return textArray(batch, ({ answer }) => answer?.key ?? null);
}

function answerValues(answered: readonly Acceptance[]): unknown[] {
  const sorted = answered.toSorted(byAnswerKey);
  return [
    answerKeys(sorted),
    textArray(sorted, ({ answer }) => answer?.requestHash ?? null),
    bigintArray(sorted, ({ answer }) => answer?.status ?? null),
    textArray(sorted, ({ answer }) => answer?.body ?? null),
    bigintArray(sorted, ({ answer }) => answer?.expiresAt ?? null),
    textArray(sorted, ({ message }) => message.applicationId),
    bigintArray(sorted, ({ version }) => version),
    Math.min(...sorted.map(({ message }) => message.createdAt)),
  ];
}

/** Takes the places of a batch, and keeps others from these orders until it is committed. */
function takeSequences(pipeline: Pipeline, deliveries: readonly NewDelivery[]): void {
  const amounts = new Map<string, number>();
  for (const { endpointId, order } of deliveries) {
    if (order !== null) amounts.set(endpointId, (amounts.get(endpointId) ?? 0) + 1);
  }
  const sorted = [...amounts].sort(([a], [b]) => (a < b ? -1 : 1));
  pipeline.run(lockOrders, [
    textArray(sorted, ([endpointId]) => endpointId),
    bigintArray(sorted, ([, amount]) => amount),
  ]);
}

function deliveryValues(deliveries: readonly NewDelivery[]): unknown[] {
  return [
    textArray(deliveries, ({ messageId }) => messageId),
    textArray(deliveries, ({ endpointId }) => endpointId),
    textArray(deliveries, ({ applicationId }) => applicationId),
    textArray(deliveries, ({ state }) => state),
    bigintArray(deliveries, ({ attempts }) => attempts),
    bigintArray(deliveries, ({ nextAttemptAt }) => nextAttemptAt),
    bigintArray(deliveries, ({ leasedBy }) => leasedBy ?? 0),
    textArray(deliveries, ({ trigger }) => trigger),
  ];
}

function orderedDeliveryValues(deliveries: readonly NewDelivery[]): unknown[] {
  const seen = new Map<string, number>();
  const remaining = deliveries.toReversed().map(({ endpointId, order }) => {
    if (order === null) return null;
    const places = (seen.get(endpointId) ?? 0) + 1;
    seen.set(endpointId, places);
    return places;
  });
  return [
    ...deliveryValues(deliveries),
    textArray(deliveries, ({ order }) => order),
    bigintArray(remaining.reverse(), (places) => places),
  ];
}

function addSettled(
  pipeline: Pipeline,
  batch: readonly Outcome[],
  placed: boolean,
): Promise<QueryResult<Row>> {
  const learned = batch.some(({ endpointState }) => endpointState !== null);
  const values: unknown[] = [
    textArray(batch, ({ delivery }) => delivery.messageId),
    textArray(batch, ({ delivery }) => delivery.endpointId),
    textArray(batch, ({ delivery }) => delivery.state),
    bigintArray(batch, ({ delivery }) => delivery.attempts),
    bigintArray(batch, ({ delivery }) => delivery.nextAttemptAt),
    bigintArray(batch, ({ delivery }) => delivery.leasedBy ?? 0),
    textArray(batch, ({ delivery }) => delivery.trigger),
    bigintArray(batch, ({ node }) => node),
    textArray(batch, ({ attempt }) => attempt?.id ?? null),
    textArray(batch, ({ delivery }) => delivery.applicationId),
    textArray(batch, ({ attempt }) => attempt?.url ?? null),
    bigintArray(batch, ({ attempt }) => attempt && Number(attempt.succeeded)),
    bigintArray(batch, ({ attempt }) => attempt?.responseStatusCode ?? null),
    textArray(batch, ({ attempt }) => attempt?.response ?? null),
    bigintArray(batch, ({ attempt }) => attempt?.durationMs ?? null),
    textArray(batch, ({ attempt }) => attempt?.trigger ?? null),
    bigintArray(batch, ({ attempt }) => attempt?.startedAt ?? null),
  ];
  if (placed) {
    values.push(
      textArray(batch, ({ delivery }) => delivery.place?.key ?? null),
      bigintArray(batch, ({ delivery }) => delivery.place?.sequence ?? null),
    );
  }
  if (learned) {
    values.push(
      bigintArray(batch, ({ endpointState }) => endpointState?.failingSince ?? null),
      bigintArray(batch, ({ endpointState }) => endpointState?.failures ?? null),
      bigintArray(batch, ({ endpointState }) => endpointState?.openings ?? null),
      bigintArray(batch, ({ endpointState }) => endpointState?.openUntil ?? null),
    );
  }
  if (placed) return pipeline.ask(learned ? settle.placedAndLearned : settle.placed, values);
  return pipeline.ask(learned ? settle.learned : settle.plain, values);
}

function addAdvance(pipeline: Pipeline, ended: readonly Outcome[]): Promise<QueryResult<Row>> {
  return pipeline.ask(advanceOrders, [
    textArray(ended, ({ delivery }) => delivery.messageId),
    textArray(ended, ({ delivery }) => delivery.endpointId),
    textArray(ended, ({ delivery }) => delivery.place?.key ?? null),
    bigintArray(ended, ({ delivery }) => delivery.place?.sequence ?? null),
    bigintArray(ended, ({ now }) => now),
  ]);
}

async function explain(
  client: ClientBase,
  refused: readonly Acceptance[],
): Promise<ReadonlyMap<string, Refusal>> {
  const { rows } = await client
    .query<Row>({
      ...named(explainRefusals),
      values: [
        textArray(refused, ({ message }) => message.applicationId),
        textArray(refused, ({ message }) => message.eventId),
        textArray(refused, ({ answer }) => answer?.key ?? null),
      ],
    })
    // The rest of the batch is stored, whatever becomes of the connection now.
    .catch(() => ({ rows: [] }));
  return new Map(
    refused.map(({ message, version }, index) => [message.id, toRefusal(rows[index] ?? {}, version)]),
  );
}

function toRefusal(row: Row, version: number): Refusal {
  if (row["version"] === version) {
    if (row["key_taken"] === true) return new ConflictError("idempotency.key");
    if (row["event_taken"] === true) return new ConflictError("messages.application_id, messages.event_id");
  }
  // Also where what stood in the way is gone by now: the next try finds out.
  return new StaleError("the application has changed");
}

function toDueTimes(rows: readonly Row[]): ReadonlyMap<string, number | null> {
  return new Map(
    rows.map((row) => [
      `${row["message_id"] as string} ${row["endpoint_id"] as string}`,
      row["next_attempt_at"] as number | null,
    ]),
  );
}

function placeOf({ messageId, endpointId }: NewDelivery): string {
  return `${messageId} ${endpointId}`;
}

function byAnswerKey(a: Acceptance, b: Acceptance): number {
  return compare(a.answer?.key ?? "", b.answer?.key ?? "");
}

function byEventId(a: Acceptance, b: Acceptance): number {
  return compare(a.message.eventId ?? "", b.message.eventId ?? "");
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
