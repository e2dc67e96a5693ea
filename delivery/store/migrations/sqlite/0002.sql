-- Organizations above applications, policies, order, breakers, nodes, tokens and tasks. Tables whose keys change are made
-- anew.

create table organizations (
  id text primary key,
  name text not null,
  created_at integer not null
) strict;

insert into organizations (id, name, created_at) values ('default', 'Default', 0);

-- version counts the changes to the application and to its endpoints: whoever has both in memory compares it.
create table new_applications (
  id text primary key,
  organization_id text not null references organizations (id),
  uid text,
  name text not null,
  dialect text not null,
  throttle_rate integer,
  policy text not null,
  metadata text not null,
  version integer not null,
  created_at integer not null,
  updated_at integer not null,
  unique (organization_id, uid)
) strict;

insert into new_applications
  (id, organization_id, uid, name, dialect, throttle_rate, policy, metadata, version, created_at, updated_at)
select id, 'default', uid, name, dialect, throttle_rate, '{}', metadata, 1, created_at, updated_at from applications;

drop table applications;
alter table new_applications rename to applications;
create index applications_by_organization on applications (organization_id, id);

alter table endpoints add column policy text not null default '{}';
-- A sealed text: client certificate and key.
alter table endpoints add column tls text;

-- What delivery has learned about an endpoint. `open_until` is set while its breaker is open; `next_slot_us` is when its
-- rate next lets a request go, in microseconds.
create table endpoint_states (
  endpoint_id text primary key,
  failing_since integer,
  failures integer not null,
  openings integer not null,
  open_until integer,
  next_slot_us integer not null,
  next_sequence integer not null
) strict, without rowid;

create table new_event_types (
  organization_id text not null,
  name text not null,
  description text not null,
  archived integer not null,
  deprecated integer not null,
  schemas text,
  feature_flags text,
  group_name text,
  created_at integer not null,
  updated_at integer not null,
  primary key (organization_id, name)
) strict;

insert into new_event_types
select 'default', name, description, archived, deprecated, schemas, feature_flags, group_name, created_at, updated_at
from event_types;

drop table event_types;
alter table new_event_types rename to event_types;

-- The payload goes before the message does: by hand, or when its time is over. It stands last, so that what else is known
-- of a message is found without reading through a long one.
create table new_messages (
  id text not null,
  application_id text not null,
  event_type text not null,
  event_id text,
  channels text,
  tags text not null,
  ordering_key text,
  payload_expires_at integer,
  created_at integer not null,
  payload blob,
  primary key (application_id, id)
) strict;

insert into new_messages
  (id, application_id, event_type, event_id, channels, tags, payload, created_at)
select id, application_id, event_type, event_id, channels, tags, payload, created_at from messages;

drop table messages;
alter table new_messages rename to messages;
create unique index messages_by_event_id on messages (application_id, event_id) where event_id is not null;
create index messages_by_payload_expiry on messages (payload_expires_at) where payload_expires_at is not null;

-- leased_by is the number of the node that has the delivery in memory, 0 while none has. A pending delivery without
-- next_attempt_at waits behind an earlier one of its order or, being the first itself, for a decision by hand.
create table new_deliveries (
  message_id text not null,
  endpoint_id text not null,
  application_id text not null,
  state text not null,
  attempts integer not null,
  next_attempt_at integer,
  leased_by integer not null,
  trigger_type text not null,
  ordering_key text,
  sequence integer,
  primary key (message_id, endpoint_id)
) strict, without rowid;

insert into new_deliveries
  (message_id, endpoint_id, application_id, state, attempts, next_attempt_at, leased_by, trigger_type)
select message_id, endpoint_id, application_id, state, attempts, next_attempt_at, 0, trigger_type from deliveries;

drop table deliveries;
alter table new_deliveries rename to deliveries;
-- Only what is pending is in it, so that it stays as small as the backlog.
create index deliveries_pending on deliveries (leased_by, endpoint_id, next_attempt_at) where state = 'pending';
create index deliveries_in_order on deliveries (endpoint_id, ordering_key, sequence)
  where state = 'pending' and sequence is not null;
create index deliveries_by_endpoint on deliveries (endpoint_id, message_id);

create table nodes (
  number integer primary key,
  expires_at integer not null
) strict;

-- hash: SHA-256 of the token, which is kept nowhere. application_id: the one application it opens; null for all of them.
-- capabilities and feature_flags are lists in JSON; capabilities null for all.
create table tokens (
  id text primary key,
  hash text not null unique,
  organization_id text not null,
  application_id text,
  capabilities text,
  feature_flags text not null,
  session_id text,
  description text not null,
  created_at integer not null,
  expires_at integer
) strict;

create index tokens_by_organization on tokens (organization_id, id);
create index tokens_by_application on tokens (application_id) where application_id is not null;
create index tokens_by_expiry on tokens (expires_at) where expires_at is not null;

-- Work that goes on in the background and over restarts. cursor: how far it has come; input and cursor are the kind's own.
create table tasks (
  id text primary key,
  organization_id text not null,
  application_id text not null,
  kind text not null,
  input text not null,
  cursor text,
  status text not null,
  done integer not null,
  total integer,
  error text,
  leased_by integer not null,
  created_at integer not null,
  updated_at integer not null
) strict;

create index tasks_by_organization on tasks (organization_id, id);
create index tasks_by_application on tasks (application_id, id);
create index tasks_by_end on tasks (updated_at) where status <> 'running';
create index tasks_open on tasks (leased_by, id) where status = 'running';
