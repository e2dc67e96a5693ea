-- The same tables as the SQLite migrations end with; times are milliseconds since the epoch unless they say otherwise.
-- Ids are compared byte by byte, so that they sort as they were made.
create table facts (
  name text primary key,
  value text not null
);

create table organizations (
  id text collate "C" primary key,
  name text not null,
  created_at bigint not null
);

insert into organizations (id, name, created_at) values ('default', 'Default', 0);

create table applications (
  id text collate "C" primary key,
  organization_id text collate "C" not null references organizations (id),
  uid text collate "C",
  name text not null,
  dialect text not null,
  throttle_rate bigint,
  policy text not null,
  metadata text not null,
  version bigint not null,
  created_at bigint not null,
  updated_at bigint not null,
  unique (organization_id, uid)
);

create index applications_by_organization on applications (organization_id, id);

create table endpoints (
  id text collate "C" primary key,
  application_id text collate "C" not null references applications (id),
  uid text collate "C",
  url text not null,
  target_hash text,
  pre_target_hash text,
  description text not null,
  filter_types text,
  channels text,
  headers text not null,
  disabled bigint not null,
  throttle_rate bigint,
  version bigint not null,
  metadata text not null,
  settings text not null,
  secrets text not null,
  policy text not null default '{}',
  tls text,
  created_at bigint not null,
  updated_at bigint not null,
  unique (application_id, uid)
);

create index endpoints_by_application on endpoints (application_id, id);
create index endpoints_by_target on endpoints (target_hash);
create index endpoints_by_pre_target on endpoints (pre_target_hash) where pre_target_hash is not null;

create table endpoint_states (
  endpoint_id text collate "C" primary key,
  failing_since bigint,
  failures bigint not null,
  openings bigint not null,
  open_until bigint,
  next_slot_us bigint not null,
  next_sequence bigint not null
);

create table event_types (
  organization_id text collate "C" not null,
  name text collate "C" not null,
  description text not null,
  archived bigint not null,
  deprecated bigint not null,
  schemas text,
  feature_flags text,
  group_name text,
  created_at bigint not null,
  updated_at bigint not null,
  primary key (organization_id, name)
);

create table messages (
  id text collate "C" not null,
  application_id text collate "C" not null,
  event_type text not null,
  event_id text collate "C",
  channels text,
  tags text not null,
  ordering_key text,
  payload bytea,
  payload_expires_at bigint,
  created_at bigint not null,
  primary key (application_id, id)
);

-- JSON is compressed poorly and slowly at this size: payloads are stored as they are.
alter table messages alter column payload set storage external;
create unique index messages_by_event_id on messages (application_id, event_id) where event_id is not null;
create index messages_by_payload_expiry on messages (payload_expires_at) where payload_expires_at is not null;

create table deliveries (
  message_id text collate "C" not null,
  endpoint_id text collate "C" not null,
  application_id text collate "C" not null,
  state text not null,
  attempts bigint not null,
  next_attempt_at bigint,
  leased_by bigint not null,
  trigger_type text not null,
  ordering_key text collate "C",
  sequence bigint,
  primary key (message_id, endpoint_id)
);

create index deliveries_pending on deliveries (leased_by, endpoint_id, next_attempt_at) where state = 'pending';
create index deliveries_in_order on deliveries (endpoint_id, ordering_key, sequence)
  where state = 'pending' and sequence is not null;
create index deliveries_by_endpoint on deliveries (endpoint_id, message_id);

create table attempts (
  id text collate "C" not null,
  message_id text collate "C" not null,
  endpoint_id text collate "C" not null,
  application_id text collate "C" not null,
  url text not null,
  succeeded bigint not null,
  response_status_code bigint not null,
  response text not null,
  duration_ms bigint not null,
  trigger_type text not null,
  started_at bigint not null,
  primary key (message_id, id)
);

create index attempts_by_endpoint on attempts (endpoint_id, id);

create table idempotency (
  key text primary key,
  request_hash text not null,
  status bigint not null,
  body text not null,
  expires_at bigint not null
);

create index idempotency_by_expiry on idempotency (expires_at);

create table nodes (
  number bigint primary key,
  expires_at bigint not null
);

create table tokens (
  id text collate "C" primary key,
  hash text not null unique,
  organization_id text collate "C" not null,
  application_id text collate "C",
  capabilities text,
  feature_flags text not null,
  session_id text,
  description text not null,
  created_at bigint not null,
  expires_at bigint
);

create index tokens_by_organization on tokens (organization_id, id);
create index tokens_by_application on tokens (application_id) where application_id is not null;
create index tokens_by_expiry on tokens (expires_at) where expires_at is not null;

create table tasks (
  id text collate "C" primary key,
  organization_id text collate "C" not null,
  application_id text collate "C" not null,
  kind text not null,
  input text not null,
  cursor text,
  status text not null,
  done bigint not null,
  total bigint,
  error text,
  leased_by bigint not null,
  created_at bigint not null,
  updated_at bigint not null
);

create index tasks_by_organization on tasks (organization_id, id);
create index tasks_by_application on tasks (application_id, id);
create index tasks_by_end on tasks (updated_at) where status <> 'running';
create index tasks_open on tasks (leased_by, id) where status = 'running';
