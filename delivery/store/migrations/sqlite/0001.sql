-- What this database was made with; `master_key` is a sealed text that only the right master key opens.
create table facts (
  name text primary key,
  value text not null
) strict;

create table applications (
  id text primary key,
  uid text unique,
  name text not null,
  dialect text not null,
  throttle_rate integer,
  metadata text not null,
  created_at integer not null,
  updated_at integer not null
) strict;

-- Whatever may hold a secret is sealed: URLs (user:password@, tokens in the query), headers, settings, keys. An endpoint is
-- found by the SHA-256 of where its requests go: target_hash of url, pre_target_hash of settings.preWebhookUrl.
create table endpoints (
  id text primary key,
  application_id text not null references applications (id),
  uid text,
  url text not null,
  target_hash text,
  pre_target_hash text,
  description text not null,
  filter_types text,
  channels text,
  headers text not null,
  disabled integer not null,
  throttle_rate integer,
  version integer not null,
  metadata text not null,
  settings text not null,
  secrets text not null,
  created_at integer not null,
  updated_at integer not null,
  unique (application_id, uid)
) strict;

create index endpoints_by_application on endpoints (application_id, id);
create index endpoints_by_target on endpoints (target_hash);
create index endpoints_by_pre_target on endpoints (pre_target_hash) where pre_target_hash is not null;

create table event_types (
  name text primary key,
  description text not null,
  archived integer not null,
  deprecated integer not null,
  schemas text,
  feature_flags text,
  group_name text,
  created_at integer not null,
  updated_at integer not null
) strict;

create table messages (
  id text not null,
  application_id text not null references applications (id),
  event_type text not null,
  event_id text,
  channels text,
  tags text not null,
  payload blob not null,
  created_at integer not null,
  primary key (application_id, id)
) strict;

create unique index messages_by_event_id on messages (application_id, event_id) where event_id is not null;

-- claimable_at is set while the delivery is pending: when it is due or, if leased, when the lease runs out. Only pending
-- deliveries are in the index, so that it stays as small as the backlog.
create table deliveries (
  message_id text not null,
  endpoint_id text not null,
  application_id text not null,
  state text not null,
  attempts integer not null,
  next_attempt_at integer,
  leased_until integer,
  claimable_at integer,
  trigger_type text not null,
  primary key (message_id, endpoint_id)
) strict, without rowid;

create index deliveries_claimable on deliveries (claimable_at, endpoint_id) where claimable_at is not null;

create index deliveries_by_endpoint on deliveries (endpoint_id, message_id);

create table attempts (
  id text not null,
  message_id text not null,
  endpoint_id text not null,
  application_id text not null,
  url text not null,
  succeeded integer not null,
  response_status_code integer not null,
  response text not null,
  duration_ms integer not null,
  trigger_type text not null,
  started_at integer not null,
  primary key (message_id, id)
) strict, without rowid;

create index attempts_by_endpoint on attempts (endpoint_id, id);

create table idempotency (
  key text primary key,
  request_hash text not null,
  status integer not null,
  body text not null,
  expires_at integer not null
) strict;

create index idempotency_by_expiry on idempotency (expires_at);
