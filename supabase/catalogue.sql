-- All that the migrations make, part by part: what `pipeline check` compares a database with, and what
-- `pipeline migrate` puts back. Written by `make catalogue`; a change of the schema is read here as a diff.
-- migrations 0ee0b2cd6eddb769

--: bucket documents
--= "private"
select pipeline.attach()

--: column pipeline.budgets.amount
--= "numeric"
alter table pipeline.budgets add column amount numeric

--: column pipeline.budgets.owner_id
--= "uuid"
alter table pipeline.budgets add column owner_id uuid

--: column pipeline.budgets.period
--= "text"
alter table pipeline.budgets add column period text not null

--: column pipeline.budgets.scope
--= "text"
alter table pipeline.budgets add column scope text not null

--: column pipeline.chunks.content
--= "text"
alter table pipeline.chunks add column content text not null

--: column pipeline.chunks.document_id
--= "uuid"
alter table pipeline.chunks add column document_id uuid not null

--: column pipeline.chunks.heading
--= "text"
alter table pipeline.chunks add column heading text

--: column pipeline.chunks.id
--= "bigint generated always as identity"
alter table pipeline.chunks add column id bigint generated always as identity not null

--: column pipeline.chunks.input_sha256
--= "bytea"
alter table pipeline.chunks add column input_sha256 bytea not null

--: column pipeline.chunks.job_id
--= "bigint"
alter table pipeline.chunks add column job_id bigint not null

--: column pipeline.chunks.lexemes
--= "tsvector"
alter table pipeline.chunks add column lexemes tsvector not null

--: column pipeline.chunks.ordinal
--= "integer"
alter table pipeline.chunks add column ordinal integer not null

--: column pipeline.chunks.owner_id
--= "uuid"
alter table pipeline.chunks add column owner_id uuid not null

--: column pipeline.chunks.page
--= "integer"
alter table pipeline.chunks add column page integer

--: column pipeline.chunks.token_count
--= "integer generated always as (pipeline.token_count(lexemes)) stored"
alter table pipeline.chunks add column token_count integer generated always as (pipeline.token_count(lexemes)) stored not null

--: column pipeline.documents.bucket_id
--= "text"
alter table pipeline.documents add column bucket_id text not null

--: column pipeline.documents.chunk_count
--= "integer"
alter table pipeline.documents add column chunk_count integer default 0 not null

--: column pipeline.documents.content_sha256
--= "bytea"
alter table pipeline.documents add column content_sha256 bytea

--: column pipeline.documents.created_at
--= "timestamp with time zone"
alter table pipeline.documents add column created_at timestamp with time zone default pipeline.now() not null

--: column pipeline.documents.deleted_at
--= "timestamp with time zone"
alter table pipeline.documents add column deleted_at timestamp with time zone

--: column pipeline.documents.embedding_model
--= "text"
alter table pipeline.documents add column embedding_model text

--: column pipeline.documents.failed_pages
--= "jsonb"
alter table pipeline.documents add column failed_pages jsonb default '{}'::jsonb not null

--: column pipeline.documents.id
--= "uuid"
alter table pipeline.documents add column id uuid default gen_random_uuid() not null

--: column pipeline.documents.media_type
--= "text"
alter table pipeline.documents add column media_type text

--: column pipeline.documents.name
--= "text"
alter table pipeline.documents add column name text not null

--: column pipeline.documents.object_id
--= "uuid"
alter table pipeline.documents add column object_id uuid not null

--: column pipeline.documents.object_version
--= "text"
alter table pipeline.documents add column object_version text not null

--: column pipeline.documents.owner_id
--= "uuid"
alter table pipeline.documents add column owner_id uuid not null

--: column pipeline.documents.page_count
--= "integer"
alter table pipeline.documents add column page_count integer

--: column pipeline.documents.parser
--= "text"
alter table pipeline.documents add column parser text

--: column pipeline.documents.published_at
--= "timestamp with time zone"
alter table pipeline.documents add column published_at timestamp with time zone

--: column pipeline.documents.published_job_id
--= "bigint"
alter table pipeline.documents add column published_job_id bigint

--: column pipeline.documents.published_version
--= "text"
alter table pipeline.documents add column published_version text

--: column pipeline.documents.purged_at
--= "timestamp with time zone"
alter table pipeline.documents add column purged_at timestamp with time zone

--: column pipeline.documents.size
--= "bigint"
alter table pipeline.documents add column size bigint

--: column pipeline.documents.updated_at
--= "timestamp with time zone"
alter table pipeline.documents add column updated_at timestamp with time zone default pipeline.now() not null

--: column pipeline.embedding_purchases.attempt
--= "integer"
alter table pipeline.embedding_purchases add column attempt integer not null

--: column pipeline.embedding_purchases.input_sha256
--= "bytea"
alter table pipeline.embedding_purchases add column input_sha256 bytea not null

--: column pipeline.embedding_purchases.job_id
--= "bigint"
alter table pipeline.embedding_purchases add column job_id bigint not null

--: column pipeline.embedding_purchases.owner_id
--= "uuid"
alter table pipeline.embedding_purchases add column owner_id uuid not null

--: column pipeline.embedding_purchases.space_id
--= "smallint"
alter table pipeline.embedding_purchases add column space_id smallint not null

--: column pipeline.embeddings.bought_at
--= "timestamp with time zone"
alter table pipeline.embeddings add column bought_at timestamp with time zone default pipeline.now() not null

--: column pipeline.embeddings.document_id
--= "uuid"
alter table pipeline.embeddings add column document_id uuid not null

--: column pipeline.embeddings.embedding
--= "extensions.halfvec"
alter table pipeline.embeddings add column embedding extensions.halfvec not null

--: column pipeline.embeddings.input_sha256
--= "bytea"
alter table pipeline.embeddings add column input_sha256 bytea not null

--: column pipeline.embeddings.owner_id
--= "uuid"
alter table pipeline.embeddings add column owner_id uuid not null

--: column pipeline.embeddings.space_id
--= "smallint"
alter table pipeline.embeddings add column space_id smallint not null

--: column pipeline.erasures.bytes
--= "bigint"
alter table pipeline.erasures add column bytes bigint default 0 not null

--: column pipeline.erasures.completed_at
--= "timestamp with time zone"
alter table pipeline.erasures add column completed_at timestamp with time zone

--: column pipeline.erasures.costs
--= "bigint"
alter table pipeline.erasures add column costs bigint default 0 not null

--: column pipeline.erasures.documents
--= "bigint"
alter table pipeline.erasures add column documents bigint default 0 not null

--: column pipeline.erasures.due_at
--= "timestamp with time zone"
alter table pipeline.erasures add column due_at timestamp with time zone default pipeline.now() not null

--: column pipeline.erasures.embeddings
--= "bigint"
alter table pipeline.erasures add column embeddings bigint default 0 not null

--: column pipeline.erasures.emptied_at
--= "timestamp with time zone"
alter table pipeline.erasures add column emptied_at timestamp with time zone

--: column pipeline.erasures.events
--= "bigint"
alter table pipeline.erasures add column events bigint default 0 not null

--: column pipeline.erasures.failures
--= "smallint"
alter table pipeline.erasures add column failures smallint default 0 not null

--: column pipeline.erasures.files
--= "bigint"
alter table pipeline.erasures add column files bigint default 0 not null

--: column pipeline.erasures.id
--= "bigint generated always as identity"
alter table pipeline.erasures add column id bigint generated always as identity not null

--: column pipeline.erasures.jobs
--= "bigint"
alter table pipeline.erasures add column jobs bigint default 0 not null

--: column pipeline.erasures.last_error
--= "text"
alter table pipeline.erasures add column last_error text

--: column pipeline.erasures.messages
--= "bigint"
alter table pipeline.erasures add column messages bigint default 0 not null

--: column pipeline.erasures.owner_id
--= "uuid"
alter table pipeline.erasures add column owner_id uuid

--: column pipeline.erasures.parses
--= "bigint"
alter table pipeline.erasures add column parses bigint default 0 not null

--: column pipeline.erasures.passages
--= "bigint"
alter table pipeline.erasures add column passages bigint default 0 not null

--: column pipeline.erasures.pseudonym
--= "uuid"
alter table pipeline.erasures add column pseudonym uuid not null

--: column pipeline.erasures.requested_at
--= "timestamp with time zone"
alter table pipeline.erasures add column requested_at timestamp with time zone default pipeline.now() not null

--: column pipeline.healing."position"
--= "jsonb"
alter table pipeline.healing add column "position" jsonb

--: column pipeline.healing.every
--= "interval"
alter table pipeline.healing add column every interval not null

--: column pipeline.healing.hand
--= "text"
alter table pipeline.healing add column hand text not null

--: column pipeline.healing.rested_at
--= "timestamp with time zone"
alter table pipeline.healing add column rested_at timestamp with time zone default '-infinity'::timestamp with time zone not null

--: column pipeline.job_events.at
--= "timestamp with time zone"
alter table pipeline.job_events add column at timestamp with time zone not null

--: column pipeline.job_events.attempt
--= "integer"
alter table pipeline.job_events add column attempt integer not null

--: column pipeline.job_events.claimed_by
--= "text"
alter table pipeline.job_events add column claimed_by text

--: column pipeline.job_events.error
--= "text"
alter table pipeline.job_events add column error text

--: column pipeline.job_events.error_class
--= "text"
alter table pipeline.job_events add column error_class text

--: column pipeline.job_events.failures
--= "smallint"
alter table pipeline.job_events add column failures smallint not null

--: column pipeline.job_events.from_state
--= "text"
alter table pipeline.job_events add column from_state text

--: column pipeline.job_events.id
--= "bigint generated always as identity"
alter table pipeline.job_events add column id bigint generated always as identity not null

--: column pipeline.job_events.job_id
--= "bigint"
alter table pipeline.job_events add column job_id bigint not null

--: column pipeline.job_events.owner_id
--= "uuid"
alter table pipeline.job_events add column owner_id uuid not null

--: column pipeline.job_events.stage
--= "text"
alter table pipeline.job_events add column stage text

--: column pipeline.job_events.to_state
--= "text"
alter table pipeline.job_events add column to_state text not null

--: column pipeline.job_states.final
--= "boolean"
alter table pipeline.job_states add column final boolean not null

--: column pipeline.job_states.meaning
--= "text"
alter table pipeline.job_states add column meaning text not null

--: column pipeline.job_states.state
--= "text"
alter table pipeline.job_states add column state text not null

--: column pipeline.job_transitions.from_state
--= "text"
alter table pipeline.job_transitions add column from_state text not null

--: column pipeline.job_transitions.meaning
--= "text"
alter table pipeline.job_transitions add column meaning text not null

--: column pipeline.job_transitions.to_state
--= "text"
alter table pipeline.job_transitions add column to_state text not null

--: column pipeline.job_work.inputs
--= "integer"
alter table pipeline.job_work add column inputs integer default 0 not null

--: column pipeline.job_work.job_id
--= "bigint"
alter table pipeline.job_work add column job_id bigint not null

--: column pipeline.job_work.model
--= "text"
alter table pipeline.job_work add column model text not null

--: column pipeline.job_work.pages
--= "integer"
alter table pipeline.job_work add column pages integer default 0 not null

--: column pipeline.job_work.provider
--= "text"
alter table pipeline.job_work add column provider text not null

--: column pipeline.job_work.stage
--= "text"
alter table pipeline.job_work add column stage text not null

--: column pipeline.job_work.tokens
--= "bigint"
alter table pipeline.job_work add column tokens bigint default 0 not null

--: column pipeline.jobs.attempt
--= "integer"
alter table pipeline.jobs add column attempt integer default 0 not null

--: column pipeline.jobs.available_at
--= "timestamp with time zone"
alter table pipeline.jobs add column available_at timestamp with time zone default pipeline.now() not null

--: column pipeline.jobs.bucket_id
--= "text"
alter table pipeline.jobs add column bucket_id text not null

--: column pipeline.jobs.claimed_by
--= "text"
alter table pipeline.jobs add column claimed_by text

--: column pipeline.jobs.created_at
--= "timestamp with time zone"
alter table pipeline.jobs add column created_at timestamp with time zone default pipeline.now() not null

--: column pipeline.jobs.document_id
--= "uuid"
alter table pipeline.jobs add column document_id uuid not null

--: column pipeline.jobs.error
--= "text"
alter table pipeline.jobs add column error text

--: column pipeline.jobs.error_class
--= "text"
alter table pipeline.jobs add column error_class text

--: column pipeline.jobs.error_detail
--= "text"
alter table pipeline.jobs add column error_detail text

--: column pipeline.jobs.etag
--= "text"
alter table pipeline.jobs add column etag text

--: column pipeline.jobs.failures
--= "smallint"
alter table pipeline.jobs add column failures smallint default 0 not null

--: column pipeline.jobs.finished_at
--= "timestamp with time zone"
alter table pipeline.jobs add column finished_at timestamp with time zone

--: column pipeline.jobs.id
--= "bigint generated always as identity"
alter table pipeline.jobs add column id bigint generated always as identity not null

--: column pipeline.jobs.lane
--= "smallint generated always as (\nCASE\n    WHEN (stage = ANY (ARRAY['embed'::text, 'publish'::text])) THEN 2\n    ELSE 1\nEND) stored"
alter table pipeline.jobs add column lane smallint generated always as (
CASE
    WHEN (stage = ANY (ARRAY['embed'::text, 'publish'::text])) THEN 2
    ELSE 1
END) stored not null

--: column pipeline.jobs.lease_expires_at
--= "timestamp with time zone"
alter table pipeline.jobs add column lease_expires_at timestamp with time zone

--: column pipeline.jobs.name
--= "text"
alter table pipeline.jobs add column name text not null

--: column pipeline.jobs.object_id
--= "uuid"
alter table pipeline.jobs add column object_id uuid not null

--: column pipeline.jobs.object_version
--= "text"
alter table pipeline.jobs add column object_version text not null

--: column pipeline.jobs.owner_id
--= "uuid"
alter table pipeline.jobs add column owner_id uuid not null

--: column pipeline.jobs.progress
--= "real"
alter table pipeline.jobs add column progress real default 0 not null

--: column pipeline.jobs.size
--= "bigint"
alter table pipeline.jobs add column size bigint

--: column pipeline.jobs.stage
--= "text"
alter table pipeline.jobs add column stage text

--: column pipeline.jobs.started_at
--= "timestamp with time zone"
alter table pipeline.jobs add column started_at timestamp with time zone

--: column pipeline.jobs.state
--= "text"
alter table pipeline.jobs add column state text default 'available'::text not null

--: column pipeline.lease_checks.due_at
--= "timestamp with time zone"
alter table pipeline.lease_checks add column due_at timestamp with time zone not null

--: column pipeline.lease_checks.id
--= "bigint generated always as identity"
alter table pipeline.lease_checks add column id bigint generated always as identity not null

--: column pipeline.lease_checks.job_ids
--= "bigint[]"
alter table pipeline.lease_checks add column job_ids bigint[] not null

--: column pipeline.ledger.amount
--= "numeric"
alter table pipeline.ledger add column amount numeric

--: column pipeline.ledger.asked_at
--= "timestamp with time zone"
alter table pipeline.ledger add column asked_at timestamp with time zone default pipeline.now() not null

--: column pipeline.ledger.at
--= "timestamp with time zone"
alter table pipeline.ledger add column at timestamp with time zone default pipeline.now() not null

--: column pipeline.ledger.attempt
--= "integer"
alter table pipeline.ledger add column attempt integer not null

--: column pipeline.ledger.document_id
--= "uuid"
alter table pipeline.ledger add column document_id uuid

--: column pipeline.ledger.fingerprint
--= "text"
alter table pipeline.ledger add column fingerprint text not null

--: column pipeline.ledger.id
--= "bigint generated always as identity"
alter table pipeline.ledger add column id bigint generated always as identity not null

--: column pipeline.ledger.inputs
--= "integer"
alter table pipeline.ledger add column inputs integer default 0 not null

--: column pipeline.ledger.job_id
--= "bigint"
alter table pipeline.ledger add column job_id bigint not null

--: column pipeline.ledger.model
--= "text"
alter table pipeline.ledger add column model text not null

--: column pipeline.ledger.owner_id
--= "uuid"
alter table pipeline.ledger add column owner_id uuid

--: column pipeline.ledger.pages
--= "integer"
alter table pipeline.ledger add column pages integer default 0 not null

--: column pipeline.ledger.parse_id
--= "bigint"
alter table pipeline.ledger add column parse_id bigint

--: column pipeline.ledger.provider
--= "text"
alter table pipeline.ledger add column provider text not null

--: column pipeline.ledger.sends_at
--= "timestamp with time zone"
alter table pipeline.ledger add column sends_at timestamp with time zone not null

--: column pipeline.ledger.settled_at
--= "timestamp with time zone"
alter table pipeline.ledger add column settled_at timestamp with time zone

--: column pipeline.ledger.stage
--= "text"
alter table pipeline.ledger add column stage text not null

--: column pipeline.ledger.state
--= "text"
alter table pipeline.ledger add column state text default 'reserved'::text not null

--: column pipeline.ledger.tokens
--= "bigint"
alter table pipeline.ledger add column tokens bigint default 0 not null

--: column pipeline.limits.max_concurrent_jobs
--= "integer"
alter table pipeline.limits add column max_concurrent_jobs integer default 2 not null

--: column pipeline.limits.max_documents
--= "integer"
alter table pipeline.limits add column max_documents integer default 10000

--: column pipeline.limits.max_file_bytes
--= "bigint"
alter table pipeline.limits add column max_file_bytes bigint default 26214400

--: column pipeline.limits.max_stored_bytes
--= "bigint"
alter table pipeline.limits add column max_stored_bytes bigint default '10737418240'::bigint

--: column pipeline.limits.owner_id
--= "uuid"
alter table pipeline.limits add column owner_id uuid

--: column pipeline.limits.priority
--= "integer"
alter table pipeline.limits add column priority integer default 1 not null

--: column pipeline.limits.uploads_per_day
--= "integer"
alter table pipeline.limits add column uploads_per_day integer default 30

--: column pipeline.listeners.id
--= "text"
alter table pipeline.listeners add column id text not null

--: column pipeline.listeners.keys
--= "text[]"
alter table pipeline.listeners add column keys text[] default '{}'::text[] not null

--: column pipeline.listeners.parser
--= "text"
alter table pipeline.listeners add column parser text not null

--: column pipeline.listeners.release
--= "text"
alter table pipeline.listeners add column release text not null

--: column pipeline.listeners.seen_at
--= "timestamp with time zone"
alter table pipeline.listeners add column seen_at timestamp with time zone not null

--: column pipeline.listeners.space
--= "text"
alter table pipeline.listeners add column space text not null

--: column pipeline.listeners.started_at
--= "timestamp with time zone"
alter table pipeline.listeners add column started_at timestamp with time zone not null

--: column pipeline.listeners.stopped_at
--= "timestamp with time zone"
alter table pipeline.listeners add column stopped_at timestamp with time zone

--: column pipeline.owner_stops.owner_id
--= "uuid"
alter table pipeline.owner_stops add column owner_id uuid not null

--: column pipeline.owner_stops.stopped
--= "bigint"
alter table pipeline.owner_stops add column stopped bigint default 0 not null

--: column pipeline.owners.lanes
--= "smallint"
alter table pipeline.owners add column lanes smallint default 0 not null

--: column pipeline.owners.max_concurrent_jobs
--= "integer"
alter table pipeline.owners add column max_concurrent_jobs integer not null

--: column pipeline.owners.owner_id
--= "uuid"
alter table pipeline.owners add column owner_id uuid not null

--: column pipeline.owners.priority
--= "integer"
alter table pipeline.owners add column priority integer not null

--: column pipeline.owners.served_at
--= "timestamp with time zone"
alter table pipeline.owners add column served_at timestamp with time zone default '-infinity'::timestamp with time zone not null

--: column pipeline.owners.started
--= "bigint"
alter table pipeline.owners add column started bigint default 0 not null

--: column pipeline.owners.taken
--= "integer"
alter table pipeline.owners add column taken integer default 0 not null

--: column pipeline.parses.attempt
--= "integer"
alter table pipeline.parses add column attempt integer not null

--: column pipeline.parses.bought_at
--= "timestamp with time zone"
alter table pipeline.parses add column bought_at timestamp with time zone

--: column pipeline.parses.content_sha256
--= "bytea"
alter table pipeline.parses add column content_sha256 bytea not null

--: column pipeline.parses.created_at
--= "timestamp with time zone"
alter table pipeline.parses add column created_at timestamp with time zone default pipeline.now() not null

--: column pipeline.parses.document_id
--= "uuid"
alter table pipeline.parses add column document_id uuid not null

--: column pipeline.parses.failed_pages
--= "jsonb"
alter table pipeline.parses add column failed_pages jsonb default '{}'::jsonb not null

--: column pipeline.parses.fingerprint
--= "text"
alter table pipeline.parses add column fingerprint text not null

--: column pipeline.parses.id
--= "bigint generated always as identity"
alter table pipeline.parses add column id bigint generated always as identity not null

--: column pipeline.parses.job_id
--= "bigint"
alter table pipeline.parses add column job_id bigint not null

--: column pipeline.parses.owner_id
--= "uuid"
alter table pipeline.parses add column owner_id uuid not null

--: column pipeline.parses.pages
--= "jsonb"
alter table pipeline.parses add column pages jsonb

--: column pipeline.parses.provider_job_id
--= "text"
alter table pipeline.parses add column provider_job_id text

--: column pipeline.prices.model
--= "text"
alter table pipeline.prices add column model text not null

--: column pipeline.prices.price
--= "numeric"
alter table pipeline.prices add column price numeric not null

--: column pipeline.prices.provider
--= "text"
alter table pipeline.prices add column provider text not null

--: column pipeline.prices.unit
--= "text"
alter table pipeline.prices add column unit text not null

--: column pipeline.prices.valid_from
--= "date"
alter table pipeline.prices add column valid_from date not null

--: column pipeline.provider_keys.cooling_until
--= "timestamp with time zone"
alter table pipeline.provider_keys add column cooling_until timestamp with time zone

--: column pipeline.provider_keys.fingerprint
--= "text"
alter table pipeline.provider_keys add column fingerprint text not null

--: column pipeline.provider_keys.outages
--= "integer"
alter table pipeline.provider_keys add column outages integer default 0 not null

--: column pipeline.provider_keys.probe_call
--= "bigint"
alter table pipeline.provider_keys add column probe_call bigint

--: column pipeline.provider_keys.probe_until
--= "timestamp with time zone"
alter table pipeline.provider_keys add column probe_until timestamp with time zone

--: column pipeline.provider_keys.prober
--= "text"
alter table pipeline.provider_keys add column prober text

--: column pipeline.provider_keys.provider
--= "text"
alter table pipeline.provider_keys add column provider text not null

--: column pipeline.provider_keys.reason
--= "text"
alter table pipeline.provider_keys add column reason text

--: column pipeline.provider_keys.requests
--= "pipeline.pace"
alter table pipeline.provider_keys add column requests pipeline.pace

--: column pipeline.provider_keys.retry_at
--= "timestamp with time zone"
alter table pipeline.provider_keys add column retry_at timestamp with time zone

--: column pipeline.provider_keys.stage
--= "text"
alter table pipeline.provider_keys add column stage text not null

--: column pipeline.provider_keys.state
--= "text"
alter table pipeline.provider_keys add column state text default 'ready'::text not null

--: column pipeline.provider_keys.state_since
--= "timestamp with time zone"
alter table pipeline.provider_keys add column state_since timestamp with time zone default pipeline.now() not null

--: column pipeline.provider_keys.token_factor
--= "double precision"
alter table pipeline.provider_keys add column token_factor double precision default 1 not null

--: column pipeline.provider_keys.tokens
--= "pipeline.pace"
alter table pipeline.provider_keys add column tokens pipeline.pace

--: column pipeline.provider_keys.used_at
--= "timestamp with time zone"
alter table pipeline.provider_keys add column used_at timestamp with time zone default pipeline.now() not null

--: column pipeline.provider_limits.max_in_flight
--= "integer"
alter table pipeline.provider_limits add column max_in_flight integer not null

--: column pipeline.provider_limits.provider
--= "text"
alter table pipeline.provider_limits add column provider text not null

--: column pipeline.pseudonym_key.key
--= "bytea"
alter table pipeline.pseudonym_key add column key bytea not null

--: column pipeline.pseudonym_key.only_row
--= "boolean"
alter table pipeline.pseudonym_key add column only_row boolean default true not null

--: column pipeline.queue.due_at
--= "timestamp with time zone"
alter table pipeline.queue add column due_at timestamp with time zone not null

--: column pipeline.queue.job_id
--= "bigint"
alter table pipeline.queue add column job_id bigint not null

--: column pipeline.queue.lane
--= "smallint"
alter table pipeline.queue add column lane smallint not null

--: column pipeline.queue.owner_id
--= "uuid"
alter table pipeline.queue add column owner_id uuid not null

--: column pipeline.retention."position"
--= "text"
alter table pipeline.retention add column "position" text

--: column pipeline.retention.began_at
--= "timestamp with time zone"
alter table pipeline.retention add column began_at timestamp with time zone default '-infinity'::timestamp with time zone not null

--: column pipeline.retention.hand
--= "text"
alter table pipeline.retention add column hand text not null

--: column pipeline.retention.rested_at
--= "timestamp with time zone"
alter table pipeline.retention add column rested_at timestamp with time zone default '-infinity'::timestamp with time zone not null

--: column pipeline.settings.anonymous_sign_ins
--= "boolean"
alter table pipeline.settings add column anonymous_sign_ins boolean default false not null

--: column pipeline.settings.backoff_base
--= "interval"
alter table pipeline.settings add column backoff_base interval default '00:00:10'::interval not null

--: column pipeline.settings.backoff_cap
--= "interval"
alter table pipeline.settings add column backoff_cap interval default '01:00:00'::interval not null

--: column pipeline.settings.keep_history
--= "interval"
alter table pipeline.settings add column keep_history interval default '90 days'::interval not null

--: column pipeline.settings.keep_unused_work
--= "interval"
alter table pipeline.settings add column keep_unused_work interval default '7 days'::interval not null

--: column pipeline.settings.max_failures
--= "smallint"
alter table pipeline.settings add column max_failures smallint default 3 not null

--: column pipeline.settings.only_row
--= "boolean"
alter table pipeline.settings add column only_row boolean default true not null

--: column pipeline.settings.paused
--= "boolean"
alter table pipeline.settings add column paused boolean default false not null

--: column pipeline.settings.paused_at
--= "timestamp with time zone"
alter table pipeline.settings add column paused_at timestamp with time zone

--: column pipeline.settings.probe_every
--= "interval"
alter table pipeline.settings add column probe_every interval default '00:01:00'::interval not null

--: column pipeline.settings.retries_per_day
--= "smallint"
alter table pipeline.settings add column retries_per_day smallint default 5 not null

--: column pipeline.settings.schema_version
--= "integer"
alter table pipeline.settings add column schema_version integer default 1 not null

--: column pipeline.spaces.active
--= "boolean"
alter table pipeline.spaces add column active boolean default false not null

--: column pipeline.spaces.created_at
--= "timestamp with time zone"
alter table pipeline.spaces add column created_at timestamp with time zone default pipeline.now() not null

--: column pipeline.spaces.dimensions
--= "integer"
alter table pipeline.spaces add column dimensions integer not null

--: column pipeline.spaces.id
--= "smallint generated always as identity"
alter table pipeline.spaces add column id smallint generated always as identity not null

--: column pipeline.spaces.input_format
--= "text"
alter table pipeline.spaces add column input_format text not null

--: column pipeline.spaces.latin_only
--= "boolean"
alter table pipeline.spaces add column latin_only boolean default false not null

--: column pipeline.spaces.model
--= "text"
alter table pipeline.spaces add column model text not null

--: column pipeline.spaces.name
--= "text"
alter table pipeline.spaces add column name text not null

--: column pipeline.spent_days.amount
--= "numeric"
alter table pipeline.spent_days add column amount numeric not null

--: column pipeline.spent_days.day
--= "date"
alter table pipeline.spent_days add column day date not null

--: column pipeline.spent_days.owner_id
--= "uuid"
alter table pipeline.spent_days add column owner_id uuid

--: column pipeline.upload_days.bytes
--= "numeric"
alter table pipeline.upload_days add column bytes numeric

--: column pipeline.upload_days.day
--= "date"
alter table pipeline.upload_days add column day date not null

--: column pipeline.upload_days.files
--= "bigint"
alter table pipeline.upload_days add column files bigint

--: column pipeline.upload_days.owner_id
--= "uuid"
alter table pipeline.upload_days add column owner_id uuid not null

--: column pipeline.upload_days.uploads
--= "integer"
alter table pipeline.upload_days add column uploads integer not null

--: column pipeline.wakeups.due_at
--= "timestamp with time zone"
alter table pipeline.wakeups add column due_at timestamp with time zone not null

--: column pipeline.wakeups.id
--= "bigint generated always as identity"
alter table pipeline.wakeups add column id bigint generated always as identity not null

--: column pipeline.wakeups.lane
--= "smallint"
alter table pipeline.wakeups add column lane smallint not null

--: column pipeline.wakeups.owner_id
--= "uuid"
alter table pipeline.wakeups add column owner_id uuid not null

--: comment on column pipeline.chunks.heading
--= "The heading path, outermost first, joined by \" > \"."
comment on column pipeline.chunks.heading is 'The heading path, outermost first, joined by " > ".'

--: comment on column pipeline.chunks.input_sha256
--= "Finds the passage's vector in pipeline.embeddings."
comment on column pipeline.chunks.input_sha256 is 'Finds the passage''s vector in pipeline.embeddings.'

--: comment on column pipeline.chunks.lexemes
--= "What keyword search reads; made by pipeline.lexemes()."
comment on column pipeline.chunks.lexemes is 'What keyword search reads; made by pipeline.lexemes().'

--: comment on column pipeline.chunks.token_count
--= "How many tokens lexemes holds."
comment on column pipeline.chunks.token_count is 'How many tokens lexemes holds.'

--: comment on column pipeline.documents.content_sha256
--= "SHA-256 of the published version's bytes, computed by the listener."
comment on column pipeline.documents.content_sha256 is 'SHA-256 of the published version''s bytes, computed by the listener.'

--: comment on column pipeline.documents.deleted_at
--= "Set in the transaction that deletes the object; hides the document at once."
comment on column pipeline.documents.deleted_at is 'Set in the transaction that deletes the object; hides the document at once.'

--: comment on column pipeline.documents.failed_pages
--= "Page number to reason, for pages of the published version that could not be read."
comment on column pipeline.documents.failed_pages is 'Page number to reason, for pages of the published version that could not be read.'

--: comment on column pipeline.documents.media_type
--= "The published version's type, sniffed from its bytes."
comment on column pipeline.documents.media_type is 'The published version''s type, sniffed from its bytes.'

--: comment on column pipeline.documents.name
--= "The object's name, with the owner's folder."
comment on column pipeline.documents.name is 'The object''s name, with the owner''s folder.'

--: comment on column pipeline.documents.object_id
--= "storage.objects.id; no foreign key, since one would block deletes there."
comment on column pipeline.documents.object_id is 'storage.objects.id; no foreign key, since one would block deletes there.'

--: comment on column pipeline.documents.object_version
--= "The newest committed version."
comment on column pipeline.documents.object_version is 'The newest committed version.'

--: comment on column pipeline.documents.owner_id
--= "The first folder of the object's name, which the storage policy ties to pipeline.caller()."
comment on column pipeline.documents.owner_id is 'The first folder of the object''s name, which the storage policy ties to pipeline.caller().'

--: comment on column pipeline.documents.published_job_id
--= "The job whose chunks are the document's."
comment on column pipeline.documents.published_job_id is 'The job whose chunks are the document''s.'

--: comment on column pipeline.documents.published_version
--= "The version whose text is searchable; null before the first publish."
comment on column pipeline.documents.published_version is 'The version whose text is searchable; null before the first publish.'

--: comment on column pipeline.documents.purged_at
--= "When a listener removed the deleted document's content."
comment on column pipeline.documents.purged_at is 'When a listener removed the deleted document''s content.'

--: comment on column pipeline.embeddings.document_id
--= "The document that it was bought for; a purge begins there."
comment on column pipeline.embeddings.document_id is 'The document that it was bought for; a purge begins there.'

--: comment on column pipeline.erasures.bytes
--= "Their size together."
comment on column pipeline.erasures.bytes is 'Their size together.'

--: comment on column pipeline.erasures.costs
--= "Rows of the ledger that now bear the pseudonym."
comment on column pipeline.erasures.costs is 'Rows of the ledger that now bear the pseudonym.'

--: comment on column pipeline.erasures.due_at
--= "When a listener goes on with it: a lease, or a delay after a failure."
comment on column pipeline.erasures.due_at is 'When a listener goes on with it: a lease, or a delay after a failure.'

--: comment on column pipeline.erasures.emptied_at
--= "When nothing was left; a second look follows."
comment on column pipeline.erasures.emptied_at is 'When nothing was left; a second look follows.'

--: comment on column pipeline.erasures.failures
--= "How often in a row it could not go on."
comment on column pipeline.erasures.failures is 'How often in a row it could not go on.'

--: comment on column pipeline.erasures.files
--= "Objects that Storage removed."
comment on column pipeline.erasures.files is 'Objects that Storage removed.'

--: comment on column pipeline.erasures.last_error
--= "Why, for the operator."
comment on column pipeline.erasures.last_error is 'Why, for the operator.'

--: comment on column pipeline.erasures.messages
--= "Realtime messages that were blanked; Realtime drops them after three days."
comment on column pipeline.erasures.messages is 'Realtime messages that were blanked; Realtime drops them after three days.'

--: comment on column pipeline.erasures.owner_id
--= "Who is being erased; null afterwards."
comment on column pipeline.erasures.owner_id is 'Who is being erased; null afterwards.'

--: comment on column pipeline.healing."position"
--= "The last row that was looked at in the round that goes on; null when it rests."
comment on column pipeline.healing."position" is 'The last row that was looked at in the round that goes on; null when it rests.'

--: comment on column pipeline.healing.every
--= "How long a hand rests between two rounds."
comment on column pipeline.healing.every is 'How long a hand rests between two rounds.'

--: comment on column pipeline.healing.rested_at
--= "When the last round ended."
comment on column pipeline.healing.rested_at is 'When the last round ended.'

--: comment on column pipeline.jobs.attempt
--= "How often it was claimed; the fence. It only ever grows, through release and retry too."
comment on column pipeline.jobs.attempt is 'How often it was claimed; the fence. It only ever grows, through release and retry too.'

--: comment on column pipeline.jobs.available_at
--= "Not claimed before; a retry's backoff."
comment on column pipeline.jobs.available_at is 'Not claimed before; a retry''s backoff.'

--: comment on column pipeline.jobs.error
--= "Why the last attempt ended without a result, in the owner's words."
comment on column pipeline.jobs.error is 'Why the last attempt ended without a result, in the owner''s words.'

--: comment on column pipeline.jobs.error_detail
--= "The same for the operator; clients never see it."
comment on column pipeline.jobs.error_detail is 'The same for the operator; clients never see it.'

--: comment on column pipeline.jobs.failures
--= "Failures since it was last made available by hand; compared with settings.max_failures."
comment on column pipeline.jobs.failures is 'Failures since it was last made available by hand; compared with settings.max_failures.'

--: comment on column pipeline.jobs.lane
--= "What the job needs next: 1 the parser, 2 the embedder."
comment on column pipeline.jobs.lane is 'What the job needs next: 1 the parser, 2 the embedder.'

--: comment on column pipeline.jobs.lease_expires_at
--= "When another listener may take it over."
comment on column pipeline.jobs.lease_expires_at is 'When another listener may take it over.'

--: comment on column pipeline.jobs.progress
--= "The part of the stage that is done, 0 to 1."
comment on column pipeline.jobs.progress is 'The part of the stage that is done, 0 to 1.'

--: comment on column pipeline.jobs.stage
--= "How far the last attempt came."
comment on column pipeline.jobs.stage is 'How far the last attempt came.'

--: comment on column pipeline.ledger.amount
--= "In US dollars; null where no price is known."
comment on column pipeline.ledger.amount is 'In US dollars; null where no price is known.'

--: comment on column pipeline.ledger.asked_at
--= "When its last request was admitted."
comment on column pipeline.ledger.asked_at is 'When its last request was admitted.'

--: comment on column pipeline.ledger.owner_id
--= "Whose file it was. Erasure replaces it; the amount stays."
comment on column pipeline.ledger.owner_id is 'Whose file it was. Erasure replaces it; the amount stays.'

--: comment on column pipeline.ledger.pages
--= "As the provider billed them; estimated until then."
comment on column pipeline.ledger.pages is 'As the provider billed them; estimated until then.'

--: comment on column pipeline.ledger.parse_id
--= "The kept parse that was bought: a later attempt that collects it pays nothing more."
comment on column pipeline.ledger.parse_id is 'The kept parse that was bought: a later attempt that collects it pays nothing more.'

--: comment on column pipeline.ledger.tokens
--= "As the provider counted them; as we did until then."
comment on column pipeline.ledger.tokens is 'As the provider counted them; as we did until then.'

--: comment on column pipeline.limits.max_concurrent_jobs
--= "So many jobs of the owner run at once, over all listeners, exactly."
comment on column pipeline.limits.max_concurrent_jobs is 'So many jobs of the owner run at once, over all listeners, exactly.'

--: comment on column pipeline.limits.max_documents
--= "Files that the owner has at once."
comment on column pipeline.limits.max_documents is 'Files that the owner has at once.'

--: comment on column pipeline.limits.max_file_bytes
--= "The largest file. The bucket's file_size_limit holds besides."
comment on column pipeline.limits.max_file_bytes is 'The largest file. The bucket''s file_size_limit holds besides.'

--: comment on column pipeline.limits.max_stored_bytes
--= "The size of the owner's files together."
comment on column pipeline.limits.max_stored_bytes is 'The size of the owner''s files together.'

--: comment on column pipeline.limits.owner_id
--= "The owner; null for the default."
comment on column pipeline.limits.owner_id is 'The owner; null for the default.'

--: comment on column pipeline.limits.priority
--= "So many of the owner's jobs are taken when it is its turn."
comment on column pipeline.limits.priority is 'So many of the owner''s jobs are taken when it is its turn.'

--: comment on column pipeline.limits.uploads_per_day
--= "Uploads, overwrites and copies in one day, UTC; a delete refunds none."
comment on column pipeline.limits.uploads_per_day is 'Uploads, overwrites and copies in one day, UTC; a delete refunds none.'

--: comment on column pipeline.listeners.keys
--= "The fingerprints of the keys that it cannot work without: of Storage, and of what it pays for; see provider_keys."
comment on column pipeline.listeners.keys is 'The fingerprints of the keys that it cannot work without: of Storage, and of what it pays for; see provider_keys.'

--: comment on column pipeline.owners.lanes
--= "The sum of the lanes in which a job may be due. One too many is harmless, one too few is not."
comment on column pipeline.owners.lanes is 'The sum of the lanes in which a job may be due. One too many is harmless, one too few is not.'

--: comment on column pipeline.owners.served_at
--= "When the last turn ended; the longest ago is served first."
comment on column pipeline.owners.served_at is 'When the last turn ended; the longest ago is served first.'

--: comment on column pipeline.owners.started
--= "How many of the owner's jobs began to run, ever; kept by the guard trigger."
comment on column pipeline.owners.started is 'How many of the owner''s jobs began to run, ever; kept by the guard trigger.'

--: comment on column pipeline.owners.taken
--= "Jobs taken in the turn that has begun; at `priority` the turn is over."
comment on column pipeline.owners.taken is 'Jobs taken in the turn that has begun; at `priority` the turn is over.'

--: comment on column pipeline.parses.document_id
--= "The document that it was bought for; a purge begins there."
comment on column pipeline.parses.document_id is 'The document that it was bought for; a purge begins there.'

--: comment on column pipeline.parses.pages
--= "Array of {number, markdown}."
comment on column pipeline.parses.pages is 'Array of {number, markdown}.'

--: comment on column pipeline.parses.provider_job_id
--= "The provider's own id, stored before its answer is awaited: a crash resumes and does not pay again."
comment on column pipeline.parses.provider_job_id is 'The provider''s own id, stored before its answer is awaited: a crash resumes and does not pay again.'

--: comment on column pipeline.prices.model
--= "The embedding model, or the parser's tier."
comment on column pipeline.prices.model is 'The embedding model, or the parser''s tier.'

--: comment on column pipeline.prices.price
--= "Of one unit. A credit's is used where the provider says how many it took."
comment on column pipeline.prices.price is 'Of one unit. A credit''s is used where the provider says how many it took.'

--: comment on column pipeline.provider_keys.cooling_until
--= "The provider asked to be left alone until then."
comment on column pipeline.provider_keys.cooling_until is 'The provider asked to be left alone until then.'

--: comment on column pipeline.provider_keys.fingerprint
--= "A short hash of key, address and model; never the key."
comment on column pipeline.provider_keys.fingerprint is 'A short hash of key, address and model; never the key.'

--: comment on column pipeline.provider_keys.outages
--= "Calls in a row that found the provider broken or away."
comment on column pipeline.provider_keys.outages is 'Calls in a row that found the provider broken or away.'

--: comment on column pipeline.provider_keys.probe_call
--= "The call that probes it."
comment on column pipeline.provider_keys.probe_call is 'The call that probes it.'

--: comment on column pipeline.provider_keys.prober
--= "The listener that may probe it, until probe_until."
comment on column pipeline.provider_keys.prober is 'The listener that may probe it, until probe_until.'

--: comment on column pipeline.provider_keys.retry_at
--= "When a key that is shut may be probed."
comment on column pipeline.provider_keys.retry_at is 'When a key that is shut may be probed.'

--: comment on column pipeline.provider_keys.token_factor
--= "Tokens as the provider counts them, for one of ours."
comment on column pipeline.provider_keys.token_factor is 'Tokens as the provider counts them, for one of ours.'

--: comment on column pipeline.provider_keys.used_at
--= "The last call; a key that nobody uses any more is forgotten as old jobs are."
comment on column pipeline.provider_keys.used_at is 'The last call; a key that nobody uses any more is forgotten as old jobs are.'

--: comment on column pipeline.provider_limits.max_in_flight
--= "So many calls at once with each key of the provider; without a row, as many as the listeners make."
comment on column pipeline.provider_limits.max_in_flight is 'So many calls at once with each key of the provider; without a row, as many as the listeners make.'

--: comment on column pipeline.retention."position"
--= "The last id that was looked at; null before the first."
comment on column pipeline.retention."position" is 'The last id that was looked at; null before the first.'

--: comment on column pipeline.retention.rested_at
--= "When the last round ended; the next begins a day later."
comment on column pipeline.retention.rested_at is 'When the last round ended; the next begins a day later.'

--: comment on column pipeline.settings.anonymous_sign_ins
--= "Whether who signed in anonymously may upload, see and search; off, they are nobody."
comment on column pipeline.settings.anonymous_sign_ins is 'Whether who signed in anonymously may upload, see and search; off, they are nobody.'

--: comment on column pipeline.settings.backoff_base
--= "The delay before the first retry; it doubles with each failure."
comment on column pipeline.settings.backoff_base is 'The delay before the first retry; it doubles with each failure.'

--: comment on column pipeline.settings.backoff_cap
--= "The longest delay before a retry."
comment on column pipeline.settings.backoff_cap is 'The longest delay before a retry.'

--: comment on column pipeline.settings.keep_history
--= "Ended jobs and events older than this go, save those that a living document shows."
comment on column pipeline.settings.keep_history is 'Ended jobs and events older than this go, save those that a living document shows.'

--: comment on column pipeline.settings.keep_unused_work
--= "Parses and embeddings that no document uses any more are kept for so long."
comment on column pipeline.settings.keep_unused_work is 'Parses and embeddings that no document uses any more are kept for so long.'

--: comment on column pipeline.settings.max_failures
--= "After so many failures a job is dead."
comment on column pipeline.settings.max_failures is 'After so many failures a job is dead.'

--: comment on column pipeline.settings.paused
--= "While true, claims hand out nothing; running jobs finish."
comment on column pipeline.settings.paused is 'While true, claims hand out nothing; running jobs finish.'

--: comment on column pipeline.settings.probe_every
--= "How often a provider that refuses our key or settings is tried again."
comment on column pipeline.settings.probe_every is 'How often a provider that refuses our key or settings is tried again.'

--: comment on column pipeline.settings.retries_per_day
--= "How often a day a client may ask for another run of one job, or get one by moving its file."
comment on column pipeline.settings.retries_per_day is 'How often a day a client may ask for another run of one job, or get one by moving its file.'

--: comment on column pipeline.settings.schema_version
--= "A claim hands out jobs only to a listener that knows this version."
comment on column pipeline.settings.schema_version is 'A claim hands out jobs only to a listener that knows this version.'

--: comment on column pipeline.spaces.latin_only
--= "Whether the model knows languages in Latin letters only: a question in others is then answered by its words."
comment on column pipeline.spaces.latin_only is 'Whether the model knows languages in Latin letters only: a question in others is then answered by its words.'

--: comment on column pipeline.upload_days.bytes
--= "The owner's documents have no more bytes than this together; null: to be counted."
comment on column pipeline.upload_days.bytes is 'The owner''s documents have no more bytes than this together; null: to be counted.'

--: comment on column pipeline.upload_days.files
--= "The owner has no more documents than this; null: to be counted."
comment on column pipeline.upload_days.files is 'The owner has no more documents than this; null: to be counted.'

--: comment on function pipeline.accepted(pipeline.pace,double precision,timestamp with time zone)
--= "The pace after something was delivered."
comment on function pipeline.accepted(pipeline.pace,double precision,timestamp with time zone) is 'The pace after something was delivered.'

--: comment on function pipeline.activate_space(pg_catalog.text)
--= "Makes search read another space."
comment on function pipeline.activate_space(pg_catalog.text) is 'Makes search read another space.'

--: comment on function pipeline.add_spent(pg_catalog.date[],pg_catalog.uuid[],numeric[])
--= "Adds amounts to the days of their owners and of all."
comment on function pipeline.add_spent(pg_catalog.date[],pg_catalog.uuid[],numeric[]) is 'Adds amounts to the days of their owners and of all.'

--: comment on function pipeline.ask_again(bigint,boolean)
--= "Seconds to wait before one more request of a call under way; above ten, nothing is admitted. let_through: whether its last request was."
comment on function pipeline.ask_again(bigint,boolean) is 'Seconds to wait before one more request of a call under way; above ten, nothing is admitted. let_through: whether its last request was.'

--: comment on function pipeline.attach()
--= "Makes the triggers, policies and the bucket that are missing on the platform's tables, and returns their names. Again and again without harm; run as postgres."
comment on function pipeline.attach() is 'Makes the triggers, policies and the bucket that are missing on the platform''s tables, and returns their names. Again and again without harm; run as postgres.'

--: comment on function pipeline.attachments()
--= "What is ours on the platform's tables: the triggers and policies, each with the rest of the statement that makes it."
comment on function pipeline.attachments() is 'What is ours on the platform''s tables: the triggers and policies, each with the rest of the statement that makes it.'

--: comment on function pipeline.await_owner(pg_catalog.uuid)
--= "Waits until no other claim serves the owner, but not much longer than a claim takes."
comment on function pipeline.await_owner(pg_catalog.uuid) is 'Waits until no other claim serves the owner, but not much longer than a claim takes.'

--: comment on function pipeline.backoff(integer)
--= "The delay before the next try: doubling, capped, with a quarter of jitter either way."
comment on function pipeline.backoff(integer) is 'The delay before the next try: doubling, capped, with a quarter of jitter either way.'

--: comment on function pipeline.begin_embeddings(bigint,integer,smallint,pg_catalog.bytea[])
--= "For each input: kept (stored already), buy (this attempt holds the purchase), wait (another job is buying it). Raises PL001 when the lease is lost."
comment on function pipeline.begin_embeddings(bigint,integer,smallint,pg_catalog.bytea[]) is 'For each input: kept (stored already), buy (this attempt holds the purchase), wait (another job is buying it). Raises PL001 when the lease is lost.'

--: comment on function pipeline.begin_parse(bigint,integer,pg_catalog.bytea,pg_catalog.text)
--= "kept: here are the pages; buy: this attempt holds the purchase (provider_job_id of an earlier one, if any); wait: another job is buying the same; lost: the lease is gone."
comment on function pipeline.begin_parse(bigint,integer,pg_catalog.bytea,pg_catalog.text) is 'kept: here are the pages; buy: this attempt holds the purchase (provider_job_id of an earlier one, if any); wait: another job is buying the same; lost: the lease is gone.'

--: comment on function pipeline.blank_messages(pg_catalog.uuid)
--= "Takes the names of files out of what Realtime keeps of an owner's topic."
comment on function pipeline.blank_messages(pg_catalog.uuid) is 'Takes the names of files out of what Realtime keeps of an owner''s topic.'

--: comment on function pipeline.bucket_mark()
--= "The mark that stands now: another listener may have written one since."
comment on function pipeline.bucket_mark() is 'The mark that stands now: another listener may have written one since.'

--: comment on function pipeline.budgets_changed()
--= "Lets jobs that wait for a budget or a price ask again."
comment on function pipeline.budgets_changed() is 'Lets jobs that wait for a budget or a price ask again.'

--: comment on function pipeline.budgets_of(pg_catalog.uuid)
--= "The budgets that hold for an owner, what is spent of each, and when it begins anew."
comment on function pipeline.budgets_of(pg_catalog.uuid) is 'The budgets that hold for an owner, what is spent of each, and when it begins anew.'

--: comment on function pipeline.by_meaning(pg_catalog.uuid,pipeline.question,pg_catalog.text,integer,extensions.vector,pipeline.spaces)
--= "The nearest visible passages and their cosines."
comment on function pipeline.by_meaning(pg_catalog.uuid,pipeline.question,pg_catalog.text,integer,extensions.vector,pipeline.spaces) is 'The nearest visible passages and their cosines.'

--: comment on function pipeline.by_words(pg_catalog.uuid,pipeline.question,pg_catalog.text,integer,bigint[])
--= "The best visible passages by BM25, and the BM25 of also. whole: the BM25 of a passage of average length that holds each of the question's words once."
comment on function pipeline.by_words(pg_catalog.uuid,pipeline.question,pg_catalog.text,integer,bigint[]) is 'The best visible passages by BM25, and the BM25 of also. whole: the BM25 of a passage of average length that holds each of the question''s words once.'

--: comment on function pipeline.caller()
--= "Whose rows a request may see: auth.uid(), or null for nobody. That is who signed in anonymously, unless settings.anonymous_sign_ins is on, and who was deleted, for as long as the token is still good. 503 in a project that has lost one of the triggers that notice uploads and deletes."
comment on function pipeline.caller() is 'Whose rows a request may see: auth.uid(), or null for nobody. That is who signed in anonymously, unless settings.anonymous_sign_ins is on, and who was deleted, for as long as the token is still good. 503 in a project that has lost one of the triggers that notice uploads and deletes.'

--: comment on function pipeline.cancel(bigint)
--= "Cancels a job that has not ended and returns its state; a listener that works on it loses the lease."
comment on function pipeline.cancel(bigint) is 'Cancels a job that has not ended and returns its state; a listener that works on it loses the lease.'

--: comment on function pipeline.cancel_own_job(bigint)
--= "Cancel for the owner."
comment on function pipeline.cancel_own_job(bigint) is 'Cancel for the owner.'

--: comment on function pipeline.candidates(pg_catalog.text[],double precision[],bigint,double precision)
--= "The input of a tsquery that about budget passages of total fit. words: the rarest first, in so many passages each."
comment on function pipeline.candidates(pg_catalog.text[],double precision[],bigint,double precision) is 'The input of a tsquery that about budget passages of total fit. words: the rarest first, in so many passages each.'

--: comment on function pipeline.check_outcome(pg_catalog.text)
--= "Refuses what is no outcome of a call; see `settle`."
comment on function pipeline.check_outcome(pg_catalog.text) is 'Refuses what is no outcome of a call; see `settle`.'

--: comment on function pipeline.check_room(pg_catalog.uuid,bigint,bigint,integer)
--= "Counts the owner's documents, and refuses one too many. In a permission check `foreseen` is the number of new files, which no document stands for yet; in the write that stays it is null, and the owner's row is set right."
comment on function pipeline.check_room(pg_catalog.uuid,bigint,bigint,integer) is 'Counts the owner''s documents, and refuses one too many. In a permission check `foreseen` is the number of new files, which no document stands for yet; in the write that stays it is null, and the owner''s row is set right.'

--: comment on function pipeline.chunks_without_vector(pg_catalog.uuid,smallint)
--= "How many of a document's published chunks semantic search of the space cannot find."
comment on function pipeline.chunks_without_vector(pg_catalog.uuid,smallint) is 'How many of a document''s published chunks semantic search of the space cannot find.'

--: comment on function pipeline.claim(pg_catalog.text,integer,interval,integer)
--= "Takes up to max_jobs due jobs under a lease: expired leases first go back, owners are served in turn, each up to its max_concurrent_jobs exactly. Nothing while paused, or for a listener of another schema_version; no job whose lane is shut."
comment on function pipeline.claim(pg_catalog.text,integer,interval,integer) is 'Takes up to max_jobs due jobs under a lease: expired leases first go back, owners are served in turn, each up to its max_concurrent_jobs exactly. Nothing while paused, or for a listener of another schema_version; no job whose lane is shut.'

--: comment on function pipeline.claim_erasure(pg_catalog.text,interval)
--= "The erasure that has waited longest, or null; nobody else gets it before the lease ends. None with files for a listener whose key of Storage is shut."
comment on function pipeline.claim_erasure(pg_catalog.text,interval) is 'The erasure that has waited longest, or null; nobody else gets it before the lease ends. None with files for a listener whose key of Storage is shut.'

--: comment on function pipeline.complete(bigint[],integer[])
--= "Ends running jobs as completed and returns those whose lease was still held. Publish calls it."
comment on function pipeline.complete(bigint[],integer[]) is 'Ends running jobs as completed and returns those whose lease was still held. Publish calls it.'

--: comment on function pipeline.count_erased_file(pg_catalog.uuid,bigint)
--= "Counts a file that Storage removed, if its owner is being erased."
comment on function pipeline.count_erased_file(pg_catalog.uuid,bigint) is 'Counts a file that Storage removed, if its owner is being erased.'

--: comment on function pipeline.count_started(pg_catalog.uuid[])
--= "Counts jobs that began to run, each by its owner, and ends the turn of who was served enough. The claim holds the owners' locks."
comment on function pipeline.count_started(pg_catalog.uuid[]) is 'Counts jobs that began to run, each by its owner, and ends the turn of who was served enough. The claim holds the owners'' locks.'

--: comment on function pipeline.count_stopped(pg_catalog.uuid[])
--= "Counts jobs that stopped running, each by its owner."
comment on function pipeline.count_stopped(pg_catalog.uuid[]) is 'Counts jobs that stopped running, each by its owner.'

--: comment on function pipeline.count_upload(pg_catalog.uuid,pg_catalog.date,integer,integer,bigint)
--= "Adds to what the owner has uploaded and stores; the owner's row stays locked until the transaction ends."
comment on function pipeline.count_upload(pg_catalog.uuid,pg_catalog.date,integer,integer,bigint) is 'Adds to what the owner has uploaded and stores; the owner''s row stays locked until the transaction ends.'

--: comment on function pipeline.create_space(pg_catalog.text,integer,pg_catalog.text)
--= "Registers an embedding space and makes its index; returns the id of an existing one."
comment on function pipeline.create_space(pg_catalog.text,integer,pg_catalog.text) is 'Registers an embedding space and makes its index; returns the id of an existing one.'

--: comment on function pipeline.detached()
--= "What is missing of the attachments and the bucket; nothing in a whole project. Listeners ask it, before they start and while they work."
comment on function pipeline.detached() is 'What is missing of the attachments and the bucket; nothing in a whole project. Listeners ask it, before they start and while they work.'

--: comment on function pipeline.do_again(bigint)
--= "Makes a job that has ended available again, a completed one too: it buys what is not kept, and publishes anew."
comment on function pipeline.do_again(bigint) is 'Makes a job that has ended available again, a completed one too: it buys what is not kept, and publishes anew.'

--: comment on function pipeline.document_lives(bigint)
--= "Whether the job's document is there, and holds it there until the transaction ends."
comment on function pipeline.document_lives(bigint) is 'Whether the job''s document is there, and holds it there until the transaction ends.'

--: comment on function pipeline.drop_parse(bigint,bigint,integer)
--= "Gives up a purchase that failed for good."
comment on function pipeline.drop_parse(bigint,bigint,integer) is 'Gives up a purchase that failed for good.'

--: comment on function pipeline.due_owners(integer,pg_catalog.uuid[],timestamp with time zone)
--= "Owners of due wake-ups: the first ones, and so many from a random place on."
comment on function pipeline.due_owners(integer,pg_catalog.uuid[],timestamp with time zone) is 'Owners of due wake-ups: the first ones, and so many from a random place on.'

--: comment on function pipeline.enqueue(pipeline.documents,pg_catalog.text)
--= "Makes the job of a document's newest version; null where there is one already."
comment on function pipeline.enqueue(pipeline.documents,pg_catalog.text) is 'Makes the job of a document''s newest version; null where there is one already.'

--: comment on function pipeline.erase(bigint,integer,interval)
--= "One step: more (call again), files (some are still there), emptied (it is due again for a second look), or completed."
comment on function pipeline.erase(bigint,integer,interval) is 'One step: more (call again), files (some are still there), emptied (it is due again for a second look), or completed.'

--: comment on function pipeline.erasures_waiting()
--= "Deleted users of whom something is left, since when, and what stands in the way."
comment on function pipeline.erasures_waiting() is 'Deleted users of whom something is left, since when, and what stands in the way.'

--: comment on function pipeline.examine_documents(pg_catalog.text,integer,boolean)
--= "Looks whether the next so many documents have their file and their user; fix hides the one and erases the other."
comment on function pipeline.examine_documents(pg_catalog.text,integer,boolean) is 'Looks whether the next so many documents have their file and their user; fix hides the one and erases the other.'

--: comment on function pipeline.examine_files(pg_catalog.text,integer,boolean)
--= "Looks whether the next so many files have a document that says the same, a job and a user; fix makes them, or erases the user."
comment on function pipeline.examine_files(pg_catalog.text,integer,boolean) is 'Looks whether the next so many files have a document that says the same, a job and a user; fix makes them, or erases the user.'

--: comment on function pipeline.examine_vectors(pg_catalog.text,integer,boolean,pg_catalog.text)
--= "Looks for chunks without a vector in the space (or the active one) in the next so many documents; fix has their jobs done again, which buys only what is missing."
comment on function pipeline.examine_vectors(pg_catalog.text,integer,boolean,pg_catalog.text) is 'Looks for chunks without a vector in the space (or the active one) in the next so many documents; fix has their jobs done again, which buys only what is missing.'

--: comment on function pipeline.fail(bigint,integer,pg_catalog.text,pg_catalog.text,pg_catalog.text,interval)
--= "Ends an attempt without a result and returns the job's new state, or null when the lease is lost. Classes: transient and lost (count a failure), crash (counts one, and the second is the file's fault: dead), throttled, configuration and budget (count none), permanent (dead at once)."
comment on function pipeline.fail(bigint,integer,pg_catalog.text,pg_catalog.text,pg_catalog.text,interval) is 'Ends an attempt without a result and returns the job''s new state, or null when the lease is lost. Classes: transient and lost (count a failure), crash (counts one, and the second is the file''s fault: dead), throttled, configuration and budget (count none), permanent (dead at once).'

--: comment on function pipeline.files_of(pg_catalog.uuid,integer)
--= "The first names in the owner's folder."
comment on function pipeline.files_of(pg_catalog.uuid,integer) is 'The first names in the owner''s folder.'

--: comment on function pipeline.files_to_erase(bigint,integer,interval)
--= "A page of names for Storage to remove; none when all are gone."
comment on function pipeline.files_to_erase(bigint,integer,interval) is 'A page of names for Storage to remove; none when all are gone.'

--: comment on function pipeline.first_letter(pg_catalog.text)
--= "The code of a quoted lexeme's first letter: Latin ones end below 592, scripts without spaces begin at 3584 (Thai)."
comment on function pipeline.first_letter(pg_catalog.text) is 'The code of a quoted lexeme''s first letter: Latin ones end below 592, scripts without spaces begin at 3584 (Thai).'

--: comment on function pipeline.forget_costs(pg_catalog.uuid,pg_catalog.uuid,integer)
--= "Puts the pseudonym in the owner's place in at most so many rows of the ledger, and returns how many it changed."
comment on function pipeline.forget_costs(pg_catalog.uuid,pg_catalog.uuid,integer) is 'Puts the pseudonym in the owner''s place in at most so many rows of the ledger, and returns how many it changed.'

--: comment on function pipeline.forget_jobs(bigint,integer)
--= "Removes old ended jobs and old events among the next so many jobs; returns those looked at."
comment on function pipeline.forget_jobs(bigint,integer) is 'Removes old ended jobs and old events among the next so many jobs; returns those looked at.'

--: comment on function pipeline.forget_work(pg_catalog.uuid,integer)
--= "Removes old kept work that no passage uses, among what the next so many documents bought; returns those looked at."
comment on function pipeline.forget_work(pg_catalog.uuid,integer) is 'Removes old kept work that no passage uses, among what the next so many documents bought; returns those looked at.'

--: comment on function pipeline.heal(integer)
--= "One step of the healing: how much was mended, by what it was; {} for nothing, null when all hands rest or others move them."
comment on function pipeline.heal(integer) is 'One step of the healing: how much was mended, by what it was; {} for nothing, null when all hands rest or others move them.'

--: comment on function pipeline.heal_jobs(bigint,integer)
--= "Gives the next so many jobs what they lack: a place in the queue, a check of the lease, the end of the history."
comment on function pipeline.heal_jobs(bigint,integer) is 'Gives the next so many jobs what they lack: a place in the queue, a check of the lease, the end of the history.'

--: comment on function pipeline.heal_owners(pg_catalog.uuid,integer)
--= "Puts the counters of running jobs right of the next so many owners."
comment on function pipeline.heal_owners(pg_catalog.uuid,integer) is 'Puts the counters of running jobs right of the next so many owners.'

--: comment on function pipeline.heal_queue(pg_catalog.jsonb,integer)
--= "Removes what no available job stands behind, among the next so many places in the queue."
comment on function pipeline.heal_queue(pg_catalog.jsonb,integer) is 'Removes what no available job stands behind, among the next so many places in the queue.'

--: comment on function pipeline.heal_waiting(pg_catalog.uuid,integer)
--= "Wakes for the due jobs, which nobody is woken for, of the next so many owners."
comment on function pipeline.heal_waiting(pg_catalog.uuid,integer) is 'Wakes for the due jobs, which nobody is woken for, of the next so many owners.'

--: comment on function pipeline.health()
--= "queue_health for the listener's role."
comment on function pipeline.health() is 'queue_health for the listener''s role.'

--: comment on function pipeline.heartbeat(bigint[],integer[],interval)
--= "Renews the leases that are still held and returns their jobs; the others are lost."
comment on function pipeline.heartbeat(bigint[],integer[],interval) is 'Renews the leases that are still held and returns their jobs; the others are lost.'

--: comment on function pipeline.hide_document(pg_catalog.uuid,pg_catalog.text)
--= "Makes an object's document invisible and cancels its work; a listener purges later."
comment on function pipeline.hide_document(pg_catalog.uuid,pg_catalog.text) is 'Makes an object''s document invisible and cancels its work; a listener purges later.'

--: comment on function pipeline.holds(bigint,integer)
--= "Whether the attempt still has its lease."
comment on function pipeline.holds(bigint,integer) is 'Whether the attempt still has its lease.'

--: comment on function pipeline.is_stored(pg_catalog.uuid,pg_catalog.text)
--= "Whether Storage's table has that version of an object in our bucket."
comment on function pipeline.is_stored(pg_catalog.uuid,pg_catalog.text) is 'Whether Storage''s table has that version of an object in our bucket.'

--: comment on function pipeline.jobs_broadcast()
--= "Tells the owner over Realtime: topic user:<uid>:jobs, event job_changed. Progress is throttled where it is written."
comment on function pipeline.jobs_broadcast() is 'Tells the owner over Realtime: topic user:<uid>:jobs, event job_changed. Progress is throttled where it is written.'

--: comment on function pipeline.jobs_deleted()
--= "A removed job takes its history and its place in the queue along, and counts no more as running."
comment on function pipeline.jobs_deleted() is 'A removed job takes its history and its place in the queue along, and counts no more as running.'

--: comment on function pipeline.jobs_inserted()
--= "Begins the history of new jobs, puts them into the queue and wakes the listeners."
comment on function pipeline.jobs_inserted() is 'Begins the history of new jobs, puts them into the queue and wakes the listeners.'

--: comment on function pipeline.jobs_updated()
--= "The guard: refuses what is no row of job_transitions, appends to job_events, keeps queue, lease_checks and the owners' counters, wakes listeners."
comment on function pipeline.jobs_updated() is 'The guard: refuses what is no row of job_transitions, appends to job_events, keeps queue, lease_checks and the owners'' counters, wakes listeners.'

--: comment on function pipeline.ledger_changed()
--= "Keeps spent_days."
comment on function pipeline.ledger_changed() is 'Keeps spent_days.'

--: comment on function pipeline.lexemes(pg_catalog.uuid,pg_catalog.text,pg_catalog.text)
--= "What keyword search reads of a passage."
comment on function pipeline.lexemes(pg_catalog.uuid,pg_catalog.text,pg_catalog.text) is 'What keyword search reads of a passage.'

--: comment on function pipeline.limited(pipeline.pace,double precision,timestamp with time zone)
--= "The pace after a call of that cost was refused."
comment on function pipeline.limited(pipeline.pace,double precision,timestamp with time zone) is 'The pace after a call of that cost was refused.'

--: comment on function pipeline.limits_changed()
--= "Brings the owners' rows up to date with the limits."
comment on function pipeline.limits_changed() is 'Brings the owners'' rows up to date with the limits.'

--: comment on function pipeline.limits_of(pg_catalog.uuid)
--= "What the owner may use: the owner's own row, or the default."
comment on function pipeline.limits_of(pg_catalog.uuid) is 'What the owner may use: the owner''s own row, or the default.'

--: comment on function pipeline.listener_seen(pg_catalog.text,pg_catalog.text,pg_catalog.text,pg_catalog.text,boolean,pg_catalog.text[])
--= "A listener says that it lives, every few seconds, and once when it stops. True when it is to look whether Storage is well again."
comment on function pipeline.listener_seen(pg_catalog.text,pg_catalog.text,pg_catalog.text,pg_catalog.text,boolean,pg_catalog.text[]) is 'A listener says that it lives, every few seconds, and once when it stops. True when it is to look whether Storage is well again.'

--: comment on function pipeline.locked_key(pg_catalog.text,pg_catalog.text,pg_catalog.text)
--= "The row of a key, locked; a key that nobody has used yet gets one."
comment on function pipeline.locked_key(pg_catalog.text,pg_catalog.text,pg_catalog.text) is 'The row of a key, locked; a key that nobody has used yet gets one.'

--: comment on function pipeline.lost_files_count()
--= "How many files are lost, and of how many owners."
comment on function pipeline.lost_files_count() is 'How many files are lost, and of how many owners.'

--: comment on function pipeline.mark_bucket()
--= "Writes a new time into the bucket's row, for Storage to show: so a listener knows that both are one project. Null without a bucket."
comment on function pipeline.mark_bucket() is 'Writes a new time into the bucket''s row, for Storage to show: so a listener knows that both are one project. Null without a bucket.'

--: comment on function pipeline.message(pipeline.jobs)
--= "What an owner hears of a job."
comment on function pipeline.message(pipeline.jobs) is 'What an owner hears of a job.'

--: comment on function pipeline.missing_price(pg_catalog.text,pg_catalog.text,pg_catalog.text,pg_catalog.uuid)
--= "Which price (provider, model and unit) is missing for the owner's budgets to hold, or for anybody's; null where it is there or no budget is."
comment on function pipeline.missing_price(pg_catalog.text,pg_catalog.text,pg_catalog.text,pg_catalog.uuid) is 'Which price (provider, model and unit) is missing for the owner''s budgets to hold, or for anybody''s; null where it is there or no budget is.'

--: comment on function pipeline.nearest_by_index(pg_catalog.uuid,pg_catalog.text,integer,extensions.vector,pipeline.spaces)
--= "The nearest of the owner's passages, by the index of the space."
comment on function pipeline.nearest_by_index(pg_catalog.uuid,pg_catalog.text,integer,extensions.vector,pipeline.spaces) is 'The nearest of the owner''s passages, by the index of the space.'

--: comment on function pipeline.note_work(bigint,integer,pg_catalog.text,pg_catalog.text,pg_catalog.text,integer,integer,bigint)
--= "Says what the job's result is made of."
comment on function pipeline.note_work(bigint,integer,pg_catalog.text,pg_catalog.text,pg_catalog.text,integer,integer,bigint) is 'Says what the job''s result is made of.'

--: comment on function pipeline.now()
--= "The only clock. Declared stable, so that it can be an index condition; each statement sees the real time, so that what waited for a lock judges its lease anew. A test moves time by replacing this function as its owner."
comment on function pipeline.now() is 'The only clock. Declared stable, so that it can be an index condition; each statement sees the real time, so that what waited for a lock judges its lease anew. A test moves time by replacing this function as its owner.'

--: comment on function pipeline.object_gone()
--= "A delete, or a move out of the bucket."
comment on function pipeline.object_gone() is 'A delete, or a move out of the bucket.'

--: comment on function pipeline.object_written()
--= "An upload, overwrite, copy or move: brings the document up to date, cancels the work on its older version, makes the job."
comment on function pipeline.object_written() is 'An upload, overwrite, copy or move: brings the document up to date, cancels the work on its older version, makes the job.'

--: comment on function pipeline.observe(pg_catalog.text,pg_catalog.text,pg_catalog.text,pg_catalog.text,interval,pg_catalog.text)
--= "Tells how a service was found that is asked without a reservation, as Storage is. The outcomes are those of `settle`."
comment on function pipeline.observe(pg_catalog.text,pg_catalog.text,pg_catalog.text,pg_catalog.text,interval,pg_catalog.text) is 'Tells how a service was found that is asked without a reservation, as Storage is. The outcomes are those of `settle`.'

--: comment on function pipeline.open_lanes()
--= "The lanes that some listener serves: all but those whose provider, or Storage, is down or cooling for each of them. All, if there is none."
comment on function pipeline.open_lanes() is 'The lanes that some listener serves: all but those whose provider, or Storage, is down or cooling for each of them. All, if there is none.'

--: comment on function pipeline.other_files(pg_catalog.uuid)
--= "Names of up to six other files, by which a listener sees whether Storage hands out bytes; none where there is no other."
comment on function pipeline.other_files(pg_catalog.uuid) is 'Names of up to six other files, by which a listener sees whether Storage hands out bytes; none where there is no other.'

--: comment on function pipeline.over_budget(pg_catalog.uuid,bigint)
--= "Which budget the call exceeds, in the owner's words, and when to ask again: when it begins anew, or soon where what is left is only set aside for other calls; nothing when none is exceeded."
comment on function pipeline.over_budget(pg_catalog.uuid,bigint) is 'Which budget the call exceeds, in the owner''s words, and when to ask again: when it begins anew, or soon where what is left is only set aside for other calls; nothing when none is exceeded.'

--: comment on function pipeline.own_job(bigint)
--= "Refuses (404) a job that is not the caller's."
comment on function pipeline.own_job(bigint) is 'Refuses (404) a job that is not the caller''s.'

--: comment on function pipeline.owner_token(pg_catalog.uuid)
--= "Four characters that stand before each lexeme of the owner."
comment on function pipeline.owner_token(pg_catalog.uuid) is 'Four characters that stand before each lexeme of the owner.'

--: comment on function pipeline.owners_inserted()
--= "Gives a new owner its row in owner_stops."
comment on function pipeline.owners_inserted() is 'Gives a new owner its row in owner_stops.'

--: comment on function pipeline.parse_question(pg_catalog.uuid,pg_catalog.text)
--= "Any of the words; each \"phrase\"; no -word and no -\"phrase\"."
comment on function pipeline.parse_question(pg_catalog.uuid,pg_catalog.text) is 'Any of the words; each "phrase"; no -word and no -"phrase".'

--: comment on function pipeline.phrase(pg_catalog.uuid,pg_catalog.text)
--= "Words that stand one after the other; null when there are none but stop words."
comment on function pipeline.phrase(pg_catalog.uuid,pg_catalog.text) is 'Words that stand one after the other; null when there are none but stop words.'

--: comment on function pipeline.postpone_erasure(bigint,pg_catalog.text)
--= "Something stands in the way: tried again after a delay that doubles up to ten minutes."
comment on function pipeline.postpone_erasure(bigint,pg_catalog.text) is 'Something stands in the way: tried again after a delay that doubles up to ten minutes.'

--: comment on function pipeline.price_of(pg_catalog.text,pg_catalog.text,integer,numeric,bigint,timestamp with time zone)
--= "What a call costs: by the provider's credits where it tells them, else by pages and tokens; null: unknown."
comment on function pipeline.price_of(pg_catalog.text,pg_catalog.text,integer,numeric,bigint,timestamp with time zone) is 'What a call costs: by the provider''s credits where it tells them, else by pages and tokens; null: unknown.'

--: comment on function pipeline.providers()
--= "provider_health for the listener's role."
comment on function pipeline.providers() is 'provider_health for the listener''s role.'

--: comment on function pipeline.pseudonym(pg_catalog.uuid)
--= "What stands for an owner who was erased, in receipts and in the ledger: the same each time."
comment on function pipeline.pseudonym(pg_catalog.uuid) is 'What stands for an owner who was erased, in receipts and in the ledger: the same each time.'

--: comment on function pipeline.publish(bigint,integer,smallint,pg_catalog.bytea,pg_catalog.text,integer,pg_catalog.jsonb,pg_catalog.text,integer[],pg_catalog.text[],pg_catalog.text[],pg_catalog.bytea[])
--= "One transaction: fence, replace the document's passages, point it at the new version, complete the job. Returns the number of passages. Raises PL001 when the lease or the version is gone, PL002 when a vector is missing."
comment on function pipeline.publish(bigint,integer,smallint,pg_catalog.bytea,pg_catalog.text,integer,pg_catalog.jsonb,pg_catalog.text,integer[],pg_catalog.text[],pg_catalog.text[],pg_catalog.bytea[]) is 'One transaction: fence, replace the document''s passages, point it at the new version, complete the job. Returns the number of passages. Raises PL001 when the lease or the version is gone, PL002 when a vector is missing.'

--: comment on function pipeline.purge(integer)
--= "Removes one step of a deleted document's content, and kept work that no other document of the owner uses. Returns 0 when there is nothing to do now."
comment on function pipeline.purge(integer) is 'Removes one step of a deleted document''s content, and kept work that no other document of the owner uses. Returns 0 when there is nothing to do now.'

--: comment on function pipeline.put_setting(pg_catalog.text,pg_catalog.text)
--= "Sets a setting for the rest of the transaction. Declared stable because its callers are, which put the old value back."
comment on function pipeline.put_setting(pg_catalog.text,pg_catalog.text) is 'Sets a setting for the rest of the transaction. Declared stable because its callers are, which put the old value back.'

--: comment on function pipeline.quoted(pg_catalog.uuid,pg_catalog.text)
--= "The owner's lexeme as the input of a tsvector or tsquery spells it."
comment on function pipeline.quoted(pg_catalog.uuid,pg_catalog.text) is 'The owner''s lexeme as the input of a tsvector or tsquery spells it.'

--: comment on function pipeline.refilled(pipeline.pace,timestamp with time zone)
--= "The pace as it is now."
comment on function pipeline.refilled(pipeline.pace,timestamp with time zone) is 'The pace as it is now.'

--: comment on function pipeline.release(bigint[],integer[])
--= "Gives running jobs back at once and without a failure: a listener that stops."
comment on function pipeline.release(bigint[],integer[]) is 'Gives running jobs back at once and without a failure: a listener that stops.'

--: comment on function pipeline.remember_parse(bigint,bigint,integer,pg_catalog.text)
--= "Stores (or, with null, forgets) the provider's job id of a purchase."
comment on function pipeline.remember_parse(bigint,bigint,integer,pg_catalog.text) is 'Stores (or, with null, forgets) the provider''s job id of a purchase.'

--: comment on function pipeline.report(bigint,integer,pg_catalog.text,real)
--= "Shows stage and progress (0 to 1) of a running job; false when the lease is lost."
comment on function pipeline.report(bigint,integer,pg_catalog.text,real) is 'Shows stage and progress (0 to 1) of a running job; false when the lease is lost.'

--: comment on function pipeline.request_erasure(pg_catalog.uuid)
--= "Hides everything of an owner at once, and queues its removal."
comment on function pipeline.request_erasure(pg_catalog.uuid) is 'Hides everything of an owner at once, and queues its removal.'

--: comment on function pipeline.reserve(pg_catalog.text,bigint,integer,pg_catalog.text,pg_catalog.text,pg_catalog.text,pg_catalog.text,integer,integer,bigint,bigint)
--= "Asks for one call. go: make it after `wait` seconds; later: ask again after `wait`, nothing is reserved; smaller: ask for a part of its inputs, since a minute's limit does not hold them all; down, refused, cooling: the key is shut for about `wait` seconds; budget: there is none left before `wait` seconds have passed; unpriced: a budget holds and nobody knows the price; lost: the lease is gone."
comment on function pipeline.reserve(pg_catalog.text,bigint,integer,pg_catalog.text,pg_catalog.text,pg_catalog.text,pg_catalog.text,integer,integer,bigint,bigint) is 'Asks for one call. go: make it after `wait` seconds; later: ask again after `wait`, nothing is reserved; smaller: ask for a part of its inputs, since a minute''s limit does not hold them all; down, refused, cooling: the key is shut for about `wait` seconds; budget: there is none left before `wait` seconds have passed; unpriced: a budget holds and nobody knows the price; lost: the lease is gone.'

--: comment on function pipeline.resume_call(bigint,integer,bigint)
--= "Takes over the purchase of a parse that is to be collected; null where there is none."
comment on function pipeline.resume_call(bigint,integer,bigint) is 'Takes over the purchase of a parse that is to be collected; null where there is none.'

--: comment on function pipeline.retry(bigint)
--= "Makes a dead or cancelled job available again; refused (409) when its version is gone. Null when there is no such job."
comment on function pipeline.retry(bigint) is 'Makes a dead or cancelled job available again; refused (409) when its version is gone. Null when there is no such job.'

--: comment on function pipeline.retry_own_job(bigint)
--= "Retry for the owner, capped a day, since each run may cost money."
comment on function pipeline.retry_own_job(bigint) is 'Retry for the owner, capped a day, since each run may cost money.'

--: comment on function pipeline.running_of(pg_catalog.uuid)
--= "The owner's running jobs, in order; found among those whose leases are to be looked at."
comment on function pipeline.running_of(pg_catalog.uuid) is 'The owner''s running jobs, in order; found among those whose leases are to be looked at.'

--: comment on function pipeline.saved_at_most(pipeline.pace)
--= "What is there after a long rest."
comment on function pipeline.saved_at_most(pipeline.pace) is 'What is there after a long rest.'

--: comment on function pipeline.search(pg_catalog.text,extensions.vector,pg_catalog.text,integer,pg_catalog.text)
--= "See public.search. Runs as its owner, so that the indexes serve; it filters by pipeline.caller() itself."
comment on function pipeline.search(pg_catalog.text,extensions.vector,pg_catalog.text,integer,pg_catalog.text) is 'See public.search. Runs as its owner, so that the indexes serve; it filters by pipeline.caller() itself.'

--: comment on function pipeline.settle(bigint,pg_catalog.text,boolean,integer,numeric,bigint,double precision,double precision,double precision,double precision,interval,pg_catalog.text)
--= "Tells how a call ended. bought: delivered; declined: the provider works and sold nothing; limited: asked too often; down: broken or away; refused: key, credit or setting; unclear: none of these. What the provider told of its limits comes along."
comment on function pipeline.settle(bigint,pg_catalog.text,boolean,integer,numeric,bigint,double precision,double precision,double precision,double precision,interval,pg_catalog.text) is 'Tells how a call ended. bought: delivered; declined: the provider works and sold nothing; limited: asked too often; down: broken or away; refused: key, credit or setting; unclear: none of these. What the provider told of its limits comes along.'

--: comment on function pipeline.shut_stages(pg_catalog.text)
--= "The stages (fetch, parse, embed) for which the listener's key is shut or cooling: jobs that need them next are not for it."
comment on function pipeline.shut_stages(pg_catalog.text) is 'The stages (fetch, parse, embed) for which the listener''s key is shut or cooling: jobs that need them next are not for it.'

--: comment on function pipeline.stop_work(pg_catalog.uuid)
--= "Cancels what runs for an owner; its listeners lose their leases."
comment on function pipeline.stop_work(pg_catalog.uuid) is 'Cancels what runs for an owner; its listeners lose their leases.'

--: comment on function pipeline.store_embeddings(bigint,integer,smallint,pg_catalog.bytea[],extensions.halfvec[])
--= "Keeps vectors whose purchase this attempt holds and returns how many; a wrong dimension or length is refused by leaving it out."
comment on function pipeline.store_embeddings(bigint,integer,smallint,pg_catalog.bytea[],extensions.halfvec[]) is 'Keeps vectors whose purchase this attempt holds and returns how many; a wrong dimension or length is refused by leaving it out.'

--: comment on function pipeline.store_parse(bigint,bigint,integer,pg_catalog.jsonb,pg_catalog.jsonb)
--= "Keeps a parse; false when it is no longer this attempt's to store."
comment on function pipeline.store_parse(bigint,bigint,integer,pg_catalog.jsonb,pg_catalog.jsonb) is 'Keeps a parse; false when it is no longer this attempt''s to store.'

--: comment on function pipeline.stored_file(bigint,integer)
--= "What a listener asks when a download failed: whether the job's version is still there, its ids, and other files to compare with. No row when the lease is lost."
comment on function pipeline.stored_file(bigint,integer) is 'What a listener asks when a download failed: whether the job''s version is still there, its ids, and other files to compare with. No row when the lease is lost.'

--: comment on function pipeline.supersede(bigint,integer)
--= "Ends the job of a version that Storage no longer has; while storage.objects has a row of that version, it changes nothing."
comment on function pipeline.supersede(bigint,integer) is 'Ends the job of a version that Storage no longer has; while storage.objects has a row of that version, it changes nothing.'

--: comment on function pipeline.sweep(integer)
--= "Takes expired leases back, from at most so many due checks, and has the others looked at again; every claim begins with it."
comment on function pipeline.sweep(integer) is 'Takes expired leases back, from at most so many due checks, and has the others looked at again; every claim begins with it.'

--: comment on function pipeline.take_in(pg_catalog.uuid)
--= "Brings the document of a stored file up to date and makes its job, as the trigger does; counts no quota. False when the file is gone."
comment on function pipeline.take_in(pg_catalog.uuid) is 'Brings the document of a stored file up to date and makes its job, as the trigger does; counts no quota. False when the file is gone.'

--: comment on function pipeline.tidy(integer,integer)
--= "Moves the retention on by one step; false when both hands rest or somebody else moves them."
comment on function pipeline.tidy(integer,integer) is 'Moves the retention on by one step; false when both hands rest or somebody else moves them.'

--: comment on function pipeline.token_count(pg_catalog.tsvector)
--= "The length of a passage, as BM25 counts it."
comment on function pipeline.token_count(pg_catalog.tsvector) is 'The length of a passage, as BM25 counts it.'

--: comment on function pipeline.tokens(pg_catalog.text,boolean)
--= "The tokens of a text in order. is_prefix: a question's single character, which stands for every bigram that begins so."
comment on function pipeline.tokens(pg_catalog.text,boolean) is 'The tokens of a text in order. is_prefix: a question''s single character, which stands for every bigram that begins so.'

--: comment on function pipeline.told(pipeline.pace,double precision,double precision,double precision,timestamp with time zone,double precision)
--= "The pace after the provider told its limit and what is left of it."
comment on function pipeline.told(pipeline.pace,double precision,double precision,double precision,timestamp with time zone,double precision) is 'The pace after the provider told its limit and what is left of it.'

--: comment on function pipeline.turned(pipeline.provider_keys,pg_catalog.text,interval,pg_catalog.text,timestamp with time zone)
--= "A key's circuit and cooldown after an outcome (see `settle`): shut, opened for all, or as it was. Nothing is written."
comment on function pipeline.turned(pipeline.provider_keys,pg_catalog.text,interval,pg_catalog.text,timestamp with time zone) is 'A key''s circuit and cooldown after an outcome (see `settle`): shut, opened for all, or as it was. Nothing is written.'

--: comment on function pipeline.under(pg_catalog.text,pg_catalog.uuid,pg_catalog.text)
--= "Whether a document's name begins so, with or without the owner's folder."
comment on function pipeline.under(pg_catalog.text,pg_catalog.uuid,pg_catalog.text) is 'Whether a document''s name begins so, with or without the owner''s folder.'

--: comment on function pipeline.unit_price(pg_catalog.text,pg_catalog.text,pg_catalog.text,timestamp with time zone)
--= "What one unit costs then; null where no price is known."
comment on function pipeline.unit_price(pg_catalog.text,pg_catalog.text,pg_catalog.text,timestamp with time zone) is 'What one unit costs then; null where no price is known.'

--: comment on function pipeline.user_deleted()
--= "A deleted user is erased. So is one whom Auth deletes softly: that cannot be undone either."
comment on function pipeline.user_deleted() is 'A deleted user is erased. So is one whom Auth deletes softly: that cannot be undone either.'

--: comment on function pipeline.visible(pg_catalog.uuid,pipeline.question,pg_catalog.text)
--= "SQL: the condition on a passage c of a document d that may be an answer."
comment on function pipeline.visible(pg_catalog.uuid,pipeline.question,pg_catalog.text) is 'SQL: the condition on a passage c of a document d that may be an answer.'

--: comment on function pipeline.wait_for(pipeline.pace,double precision)
--= "Seconds until so much may be spent."
comment on function pipeline.wait_for(pipeline.pace,double precision) is 'Seconds until so much may be spent.'

--: comment on function pipeline.wake(integer)
--= "Turns due wake-ups into waiting owners."
comment on function pipeline.wake(integer) is 'Turns due wake-ups into waiting owners.'

--: comment on function pipeline.watch_providers(pg_catalog.text)
--= "What every listener does every few seconds: books calls whose listener died as unconfirmed, forgets keys of long ago, and takes on a probe that is due. True when it is that of Storage."
comment on function pipeline.watch_providers(pg_catalog.text) is 'What every listener does every few seconds: books calls whose listener died as unconfirmed, forgets keys of long ago, and takes on a probe that is due. True when it is that of Storage.'

--: comment on function pipeline.word_frequencies(pg_catalog.uuid,pg_catalog.text[],bigint)
--= "For each word: how many of the owner's passages hold it; and their average length."
comment on function pipeline.word_frequencies(pg_catalog.uuid,pg_catalog.text[],bigint) is 'For each word: how many of the owner''s passages hold it; and their average length.'

--: comment on function public.cancel_job(bigint)
--= "Cancels a job of yours that has not ended and returns the state that it is in then. 404: not yours."
comment on function public.cancel_job(bigint) is 'Cancels a job of yours that has not ended and returns the state that it is in then. 404: not yours.'

--: comment on function public.retry_job(bigint)
--= "Runs a dead or cancelled job of yours again and returns its state. 404: not yours. 409: it is not dead or cancelled, or its version was replaced. 429: retried too often within a day."
comment on function public.retry_job(bigint) is 'Runs a dead or cancelled job of yours again and returns its state. 404: not yours. 409: it is not dead or cancelled, or its version was replaced. 429: retried too often within a day.'

--: comment on function public.search(pg_catalog.text,extensions.vector,pg_catalog.text,integer,pg_catalog.text)
--= "The best passages of your files for a question. Any of its words finds; \"a phrase\" must stand so, -word must not. With the question's vector (of the active embedding space, named by space) it is hybrid: score is then 0.8 of the cosine and 0.2 of the BM25, as a part of what a passage with each of the words once gets or, if more, of the best hit's (0.1 and 0.9 for a question in another script, where the space's model knows Latin letters only); without, it is the BM25. matched_by: keyword, vector or both. path_prefix: only files whose name begins so, with or without your folder. At most 100. 400: another space is active, or the vector does not fit it."
comment on function public.search(pg_catalog.text,extensions.vector,pg_catalog.text,integer,pg_catalog.text) is 'The best passages of your files for a question. Any of its words finds; "a phrase" must stand so, -word must not. With the question''s vector (of the active embedding space, named by space) it is hybrid: score is then 0.8 of the cosine and 0.2 of the BM25, as a part of what a passage with each of the words once gets or, if more, of the best hit''s (0.1 and 0.9 for a question in another script, where the space''s model knows Latin letters only); without, it is the BM25. matched_by: keyword, vector or both. path_prefix: only files whose name begins so, with or without your folder. At most 100. 400: another space is active, or the vector does not fit it.'

--: comment on schema pipeline
--= "The document pipeline: its queue, content and accounts. Private: no API exposes it."
comment on schema pipeline is 'The document pipeline: its queue, content and accounts. Private: no API exposes it.'

--: comment on table pipeline.budgets
--= "How many US dollars may be spent in a UTC day or month: by all together, by one owner, or (scope owner without an owner) by each owner who has no row of that period. Without a row, or with a null amount, there is no limit."
comment on table pipeline.budgets is 'How many US dollars may be spent in a UTC day or month: by all together, by one owner, or (scope owner without an owner) by each owner who has no row of that period. Without a row, or with a null amount, there is no limit.'

--: comment on table pipeline.chunks
--= "The passages of published documents. A reader sees those of the document's published_job_id alone."
comment on table pipeline.chunks is 'The passages of published documents. A reader sees those of the document''s published_job_id alone.'

--: comment on table pipeline.documents
--= "A stored object over its versions; at most one living document for each object."
comment on table pipeline.documents is 'A stored object over its versions; at most one living document for each object.'

--: comment on table pipeline.embedding_purchases
--= "Inputs that a job is about to embed; held as long as the job's lease."
comment on table pipeline.embedding_purchases is 'Inputs that a job is about to embed; held as long as the job''s lease.'

--: comment on table pipeline.embeddings
--= "Vectors of length 1 by their exact input. The column has no fixed dimension; each space has its own partial index."
comment on table pipeline.embeddings is 'Vectors of length 1 by their exact input. The column has no fixed dimension; each space has its own partial index.'

--: comment on table pipeline.erasures
--= "Users who were deleted: what of theirs is still to be removed, and what was."
comment on table pipeline.erasures is 'Users who were deleted: what of theirs is still to be removed, and what was.'

--: comment on table pipeline.healing
--= "How far the healing is on its way round."
comment on table pipeline.healing is 'How far the healing is on its way round.'

--: comment on table pipeline.job_events
--= "Every transition of every job, appended by the guard trigger and by nobody else."
comment on table pipeline.job_events is 'Every transition of every job, appended by the guard trigger and by nobody else.'

--: comment on table pipeline.job_states
--= "The five states of a job."
comment on table pipeline.job_states is 'The five states of a job.'

--: comment on table pipeline.job_transitions
--= "The legal transitions of a job; the guard trigger refuses any other."
comment on table pipeline.job_transitions is 'The legal transitions of a job; the guard trigger refuses any other.'

--: comment on table pipeline.job_work
--= "How many pages and inputs a job's result is made of, bought or reused."
comment on table pipeline.job_work is 'How many pages and inputs a job''s result is made of, bought or reused.'

--: comment on table pipeline.jobs
--= "The work on one version of one object. Written by the queue's functions and the storage trigger only."
comment on table pipeline.jobs is 'The work on one version of one object. Written by the queue''s functions and the storage trigger only.'

--: comment on table pipeline.lease_checks
--= "Jobs to look at when the first of their leases ends: those that still run are taken back, or looked at again later."
comment on table pipeline.lease_checks is 'Jobs to look at when the first of their leases ends: those that still run are taken back, or looked at again later.'

--: comment on table pipeline.ledger
--= "Every purchase from a provider, from before the call is made. confirmed: the provider delivered; unconfirmed: nobody knows, and the estimate stands; reserved: the call is under way."
comment on table pipeline.ledger is 'Every purchase from a provider, from before the call is made. confirmed: the provider delivered; unconfirmed: nobody knows, and the estimate stands; reserved: the call is under way.'

--: comment on table pipeline.limits
--= "What an owner may use. The row without an owner holds for everybody who has no row. Null in a quota: no limit."
comment on table pipeline.limits is 'What an owner may use. The row without an owner holds for everybody who has no row. Null in a quota: no limit.'

--: comment on table pipeline.listeners
--= "The listeners that have been seen, so that an operator can tell \"busy\" from \"nobody is there\"."
comment on table pipeline.listeners is 'The listeners that have been seen, so that an operator can tell "busy" from "nobody is there".'

--: comment on table pipeline.owner_stops
--= "How many of the owner's jobs stopped running, ever, by whatever end; kept by the guard trigger. Each owner has one row."
comment on table pipeline.owner_stops is 'How many of the owner''s jobs stopped running, ever, by whatever end; kept by the guard trigger. Each owner has one row.'

--: comment on table pipeline.owners
--= "The queue's view of each owner; the claim serves the waiting ones in turn."
comment on table pipeline.owners is 'The queue''s view of each owner; the claim serves the waiting ones in turn.'

--: comment on table pipeline.parses
--= "Parsed files by their bytes. Without pages it is a purchase under way, held by (job_id, attempt)."
comment on table pipeline.parses is 'Parsed files by their bytes. Without pages it is a purchase under way, held by (job_id, attempt).'

--: comment on table pipeline.prices
--= "List prices in US dollars; the newest that is valid on the day holds. Change it by adding a row."
comment on table pipeline.prices is 'List prices in US dollars; the newest that is valid on the day holds. Change it by adding a row.'

--: comment on table pipeline.provider_keys
--= "Each key of a paid provider or of Storage: its pace, cooldown and circuit, shared by all listeners."
comment on table pipeline.provider_keys is 'Each key of a paid provider or of Storage: its pace, cooldown and circuit, shared by all listeners.'

--: comment on table pipeline.provider_limits
--= "What operators allow beside what the provider does; it outlives a key."
comment on table pipeline.provider_limits is 'What operators allow beside what the provider does; it outlives a key.'

--: comment on table pipeline.pseudonym_key
--= "The secret behind pipeline.pseudonym(); made here, read by nobody else."
comment on table pipeline.pseudonym_key is 'The secret behind pipeline.pseudonym(); made here, read by nobody else.'

--: comment on table pipeline.queue
--= "The available jobs: their owner, lane and available_at. Kept by the triggers of pipeline.jobs."
comment on table pipeline.queue is 'The available jobs: their owner, lane and available_at. Kept by the triggers of pipeline.jobs.'

--: comment on table pipeline.retention
--= "How far the retention is on its way round."
comment on table pipeline.retention is 'How far the retention is on its way round.'

--: comment on table pipeline.settings
--= "One row: what holds for the whole project."
comment on table pipeline.settings is 'One row: what holds for the whole project.'

--: comment on table pipeline.spaces
--= "Embedding spaces. Vectors are comparable only within one; search reads the active one."
comment on table pipeline.spaces is 'Embedding spaces. Vectors are comparable only within one; search reads the active one.'

--: comment on table pipeline.spent_days
--= "The ledger's amounts by UTC day and owner, kept by its trigger; without an owner: of all together."
comment on table pipeline.spent_days is 'The ledger''s amounts by UTC day and owner, kept by its trigger; without an owner: of all together.'

--: comment on table pipeline.upload_days
--= "How many files each owner has uploaded on the last day, UTC, on which there was an upload, and how much at most is stored."
comment on table pipeline.upload_days is 'How many files each owner has uploaded on the last day, UTC, on which there was an upload, and how much at most is stored.'

--: comment on table pipeline.wakeups
--= "Owners for whom a job becomes due; consumed by the claim."
comment on table pipeline.wakeups is 'Owners for whom a job becomes due; consumed by the claim.'

--: comment on type pipeline.examined
--= "place: go on behind it, null at the end; looked_at: so many rows; problems and subjects: what was found, and where."
comment on type pipeline.examined is 'place: go on behind it, null at the end; looked_at: so many rows; problems and subjects: what was found, and where.'

--: comment on type pipeline.neighbour
--= "A passage and the cosine of its vector and the question's."
comment on type pipeline.neighbour is 'A passage and the cosine of its vector and the question''s.'

--: comment on type pipeline.pace
--= "How fast something may be spent; without per_minute no limit is known."
comment on type pipeline.pace is 'How fast something may be spent; without per_minute no limit is known.'

--: comment on type pipeline.question
--= "words: single lexemes, as the input of a tsquery spells them; required: all phrases; excluded: any of what a minus stood before."
comment on type pipeline.question is 'words: single lexemes, as the input of a tsquery spells them; required: all phrases; excluded: any of what a minus stood before.'

--: comment on view pipeline.costs
--= "The ledger by UTC day, owner, document, provider and model, in US dollars."
comment on view pipeline.costs is 'The ledger by UTC day, owner, document, provider and model, in US dollars.'

--: comment on view pipeline.dead_jobs
--= "Jobs that failed for good, with the reason for the owner and the one for the operator."
comment on view pipeline.dead_jobs is 'Jobs that failed for good, with the reason for the owner and the one for the operator.'

--: comment on view pipeline.invariant_violations
--= "Empty, or something is broken. Reads whole tables: for tests and for suspicion."
comment on view pipeline.invariant_violations is 'Empty, or something is broken. Reads whole tables: for tests and for suspicion.'

--: comment on view pipeline.job_costs
--= "For each job what it bought (US dollars, of which unconfirmed; calls without a price are counted apart), what it reused instead of buying, and what that saved."
comment on view pipeline.job_costs is 'For each job what it bought (US dollars, of which unconfirmed; calls without a price are counted apart), what it reused instead of buying, and what that saved.'

--: comment on view pipeline.lost_files
--= "Files whose row Storage has and whose bytes it has not, until they are uploaded again or deleted. When the bytes are back, `pipeline jobs retry` reads them."
comment on view pipeline.lost_files is 'Files whose row Storage has and whose bytes it has not, until they are uploaded again or deleted. When the bytes are back, `pipeline jobs retry` reads them.'

--: comment on view pipeline.owners_running
--= "How many jobs of each owner run, and how many may."
comment on view pipeline.owners_running is 'How many jobs of each owner run, and how many may.'

--: comment on view pipeline.provider_health
--= "Each key of a paid provider and of Storage by its fingerprint: ready, cooling, down or refused, since when and why, and how fast it is used."
comment on view pipeline.provider_health is 'Each key of a paid provider and of Storage by its fingerprint: ready, cooling, down or refused, since when and why, and how fast it is used.'

--: comment on view pipeline.queue_health
--= "One row: how much is due, how old the oldest is, and whether anybody works. `startable + running` is what an autoscaler wants to know: due jobs beyond their owners' limits, or for a provider that is down, would only wait in a further listener."
comment on view pipeline.queue_health is 'One row: how much is due, how old the oldest is, and whether anybody works. `startable + running` is what an autoscaler wants to know: due jobs beyond their owners'' limits, or for a provider that is down, would only wait in a further listener.'

--: comment on view pipeline.receipts
--= "Erased users, one a row and without a name: what was removed, and when. pipeline.pseudonym(user_id) finds a user's."
comment on view pipeline.receipts is 'Erased users, one a row and without a name: what was removed, and when. pipeline.pseudonym(user_id) finds a user''s.'

--: comment on view pipeline.throughput
--= "Outcomes by hour, UTC."
comment on view pipeline.throughput is 'Outcomes by hour, UTC.'

--: comment on view public.chunks
--= "The searchable passages of your files, in order of (document_id, ordinal)."
comment on view public.chunks is 'The searchable passages of your files, in order of (document_id, ordinal).'

--: comment on view public.documents
--= "Your files. up_to_date is null before the first publish, and false while the searchable text is that of an older version: job_state and job_error say how the newest one fares."
comment on view public.documents is 'Your files. up_to_date is null before the first publish, and false while the searchable text is that of an older version: job_state and job_error say how the newest one fares.'

--: comment on view public.jobs
--= "The processing of your files: one row for each uploaded version."
comment on view public.jobs is 'The processing of your files: one row for each uploaded version.'

--: constraint a_file_has_bytes on pipeline.limits
--= "CHECK ((max_file_bytes > 0))"
alter table pipeline.limits add constraint a_file_has_bytes CHECK ((max_file_bytes > 0))

--: constraint a_full_turn_is_over on pipeline.owners
--= "CHECK (((taken >= 0) AND (taken <= (priority - 1))))"
alter table pipeline.owners add constraint a_full_turn_is_over CHECK (((taken >= 0) AND (taken <= (priority - 1))))

--: constraint a_job_has_at_least_one_try on pipeline.settings
--= "CHECK ((max_failures > 0))"
alter table pipeline.settings add constraint a_job_has_at_least_one_try CHECK ((max_failures > 0))

--: constraint a_turn_has_a_job on pipeline.limits
--= "CHECK (((priority >= 1) AND (priority <= 1000)))"
alter table pipeline.limits add constraint a_turn_has_a_job CHECK (((priority >= 1) AND (priority <= 1000)))

--: constraint all_have_no_owner on pipeline.budgets
--= "CHECK (((scope = 'owner'::text) OR (owner_id IS NULL)))"
alter table pipeline.budgets add constraint all_have_no_owner CHECK (((scope = 'owner'::text) OR (owner_id IS NULL)))

--: constraint amount_is_no_debt on pipeline.budgets
--= "CHECK (((amount >= (0)::numeric) AND (amount < 'Infinity'::numeric)))"
alter table pipeline.budgets add constraint amount_is_no_debt CHECK (((amount >= (0)::numeric) AND (amount < 'Infinity'::numeric)))

--: constraint amount_is_no_debt on pipeline.ledger
--= "CHECK (((amount >= (0)::numeric) AND (amount < 'Infinity'::numeric)))"
alter table pipeline.ledger add constraint amount_is_no_debt CHECK (((amount >= (0)::numeric) AND (amount < 'Infinity'::numeric)))

--: constraint at_least_one_job_at_once on pipeline.limits
--= "CHECK ((max_concurrent_jobs > 0))"
alter table pipeline.limits add constraint at_least_one_job_at_once CHECK ((max_concurrent_jobs > 0))

--: constraint attempt_grows_from_zero on pipeline.jobs
--= "CHECK ((attempt >= 0))"
alter table pipeline.jobs add constraint attempt_grows_from_zero CHECK ((attempt >= 0))

--: constraint bought_iff_there_are_pages on pipeline.parses
--= "CHECK (((bought_at IS NULL) = (pages IS NULL)))"
alter table pipeline.parses add constraint bought_iff_there_are_pages CHECK (((bought_at IS NULL) = (pages IS NULL)))

--: constraint budgets_scope_owner_id_period_key on pipeline.budgets
--= "UNIQUE NULLS NOT DISTINCT (scope, owner_id, period)"
alter table pipeline.budgets add constraint budgets_scope_owner_id_period_key UNIQUE NULLS NOT DISTINCT (scope, owner_id, period)

--: constraint chunks_document_id_fkey on pipeline.chunks
--= "FOREIGN KEY (document_id) REFERENCES pipeline.documents(id) ON DELETE CASCADE"
alter table pipeline.chunks add constraint chunks_document_id_fkey FOREIGN KEY (document_id) REFERENCES pipeline.documents(id) ON DELETE CASCADE

--: constraint chunks_document_id_job_id_ordinal_key on pipeline.chunks
--= "UNIQUE (document_id, job_id, ordinal)"
alter table pipeline.chunks add constraint chunks_document_id_job_id_ordinal_key UNIQUE (document_id, job_id, ordinal)

--: constraint chunks_pkey on pipeline.chunks
--= "PRIMARY KEY (id)"
alter table pipeline.chunks add constraint chunks_pkey PRIMARY KEY (id)

--: constraint claimed_iff_running on pipeline.jobs
--= "CHECK (((claimed_by IS NOT NULL) = (state = 'running'::text)))"
alter table pipeline.jobs add constraint claimed_iff_running CHECK (((claimed_by IS NOT NULL) = (state = 'running'::text)))

--: constraint completed_has_no_error on pipeline.jobs
--= "CHECK (((state <> 'completed'::text) OR (error IS NULL)))"
alter table pipeline.jobs add constraint completed_has_no_error CHECK (((state <> 'completed'::text) OR (error IS NULL)))

--: constraint completed_only_when_empty on pipeline.erasures
--= "CHECK (((completed_at IS NULL) OR (emptied_at IS NOT NULL)))"
alter table pipeline.erasures add constraint completed_only_when_empty CHECK (((completed_at IS NULL) OR (emptied_at IS NOT NULL)))

--: constraint content_is_not_blank on pipeline.chunks
--= "CHECK ((content ~ '\\S'::text))"
alter table pipeline.chunks add constraint content_is_not_blank CHECK ((content ~ '\S'::text))

--: constraint content_sha256_is_32_bytes on pipeline.documents
--= "CHECK ((length(content_sha256) = 32))"
alter table pipeline.documents add constraint content_sha256_is_32_bytes CHECK ((length(content_sha256) = 32))

--: constraint content_sha256_is_32_bytes on pipeline.parses
--= "CHECK ((length(content_sha256) = 32))"
alter table pipeline.parses add constraint content_sha256_is_32_bytes CHECK ((length(content_sha256) = 32))

--: constraint dead_has_a_reason on pipeline.jobs
--= "CHECK (((state <> 'dead'::text) OR ((error IS NOT NULL) AND (error_class IS NOT NULL))))"
alter table pipeline.jobs add constraint dead_has_a_reason CHECK (((state <> 'dead'::text) OR ((error IS NOT NULL) AND (error_class IS NOT NULL))))

--: constraint dimensions_fit_an_index on pipeline.spaces
--= "CHECK (((dimensions >= 1) AND (dimensions <= 4000)))"
alter table pipeline.spaces add constraint dimensions_fit_an_index CHECK (((dimensions >= 1) AND (dimensions <= 4000)))

--: constraint documents_are_counted on pipeline.limits
--= "CHECK ((max_documents >= 0))"
alter table pipeline.limits add constraint documents_are_counted CHECK ((max_documents >= 0))

--: constraint documents_pkey on pipeline.documents
--= "PRIMARY KEY (id)"
alter table pipeline.documents add constraint documents_pkey PRIMARY KEY (id)

--: constraint embedding_purchases_pkey on pipeline.embedding_purchases
--= "PRIMARY KEY (owner_id, space_id, input_sha256)"
alter table pipeline.embedding_purchases add constraint embedding_purchases_pkey PRIMARY KEY (owner_id, space_id, input_sha256)

--: constraint embedding_purchases_space_id_fkey on pipeline.embedding_purchases
--= "FOREIGN KEY (space_id) REFERENCES pipeline.spaces(id)"
alter table pipeline.embedding_purchases add constraint embedding_purchases_space_id_fkey FOREIGN KEY (space_id) REFERENCES pipeline.spaces(id)

--: constraint embeddings_pkey on pipeline.embeddings
--= "PRIMARY KEY (owner_id, space_id, input_sha256)"
alter table pipeline.embeddings add constraint embeddings_pkey PRIMARY KEY (owner_id, space_id, input_sha256)

--: constraint embeddings_space_id_fkey on pipeline.embeddings
--= "FOREIGN KEY (space_id) REFERENCES pipeline.spaces(id)"
alter table pipeline.embeddings add constraint embeddings_space_id_fkey FOREIGN KEY (space_id) REFERENCES pipeline.spaces(id)

--: constraint erasures_owner_id_key on pipeline.erasures
--= "UNIQUE (owner_id)"
alter table pipeline.erasures add constraint erasures_owner_id_key UNIQUE (owner_id)

--: constraint erasures_pkey on pipeline.erasures
--= "PRIMARY KEY (id)"
alter table pipeline.erasures add constraint erasures_pkey PRIMARY KEY (id)

--: constraint error_class_is_known on pipeline.jobs
--= "CHECK ((error_class = ANY (ARRAY['transient'::text, 'crash'::text, 'lost'::text, 'throttled'::text, 'permanent'::text, 'configuration'::text, 'budget'::text, 'lease_expired'::text, 'cancelled'::text, 'superseded'::text, 'deleted'::text])))"
alter table pipeline.jobs add constraint error_class_is_known CHECK ((error_class = ANY (ARRAY['transient'::text, 'crash'::text, 'lost'::text, 'throttled'::text, 'permanent'::text, 'configuration'::text, 'budget'::text, 'lease_expired'::text, 'cancelled'::text, 'superseded'::text, 'deleted'::text])))

--: constraint failures_are_counted on pipeline.jobs
--= "CHECK ((failures >= 0))"
alter table pipeline.jobs add constraint failures_are_counted CHECK ((failures >= 0))

--: constraint finished_iff_final on pipeline.jobs
--= "CHECK (((finished_at IS NOT NULL) = (state = ANY (ARRAY['completed'::text, 'dead'::text, 'cancelled'::text]))))"
alter table pipeline.jobs add constraint finished_iff_final CHECK (((finished_at IS NOT NULL) = (state = ANY (ARRAY['completed'::text, 'dead'::text, 'cancelled'::text]))))

--: constraint hand_is_known on pipeline.retention
--= "CHECK ((hand = ANY (ARRAY['jobs'::text, 'documents'::text])))"
alter table pipeline.retention add constraint hand_is_known CHECK ((hand = ANY (ARRAY['jobs'::text, 'documents'::text])))

--: constraint healing_hand_is_known on pipeline.healing
--= "CHECK ((hand = ANY (ARRAY['waiting'::text, 'owners'::text, 'queue'::text, 'jobs'::text])))"
alter table pipeline.healing add constraint healing_hand_is_known CHECK ((hand = ANY (ARRAY['waiting'::text, 'owners'::text, 'queue'::text, 'jobs'::text])))

--: constraint healing_pkey on pipeline.healing
--= "PRIMARY KEY (hand)"
alter table pipeline.healing add constraint healing_pkey PRIMARY KEY (hand)

--: constraint input_sha256_is_32_bytes on pipeline.embeddings
--= "CHECK ((length(input_sha256) = 32))"
alter table pipeline.embeddings add constraint input_sha256_is_32_bytes CHECK ((length(input_sha256) = 32))

--: constraint inputs_are_counted on pipeline.ledger
--= "CHECK ((inputs >= 0))"
alter table pipeline.ledger add constraint inputs_are_counted CHECK ((inputs >= 0))

--: constraint job_events_pkey on pipeline.job_events
--= "PRIMARY KEY (job_id, id)"
alter table pipeline.job_events add constraint job_events_pkey PRIMARY KEY (job_id, id)

--: constraint job_states_pkey on pipeline.job_states
--= "PRIMARY KEY (state)"
alter table pipeline.job_states add constraint job_states_pkey PRIMARY KEY (state)

--: constraint job_transitions_from_state_fkey on pipeline.job_transitions
--= "FOREIGN KEY (from_state) REFERENCES pipeline.job_states(state)"
alter table pipeline.job_transitions add constraint job_transitions_from_state_fkey FOREIGN KEY (from_state) REFERENCES pipeline.job_states(state)

--: constraint job_transitions_pkey on pipeline.job_transitions
--= "PRIMARY KEY (from_state, to_state)"
alter table pipeline.job_transitions add constraint job_transitions_pkey PRIMARY KEY (from_state, to_state)

--: constraint job_transitions_to_state_fkey on pipeline.job_transitions
--= "FOREIGN KEY (to_state) REFERENCES pipeline.job_states(state)"
alter table pipeline.job_transitions add constraint job_transitions_to_state_fkey FOREIGN KEY (to_state) REFERENCES pipeline.job_states(state)

--: constraint job_work_job_id_fkey on pipeline.job_work
--= "FOREIGN KEY (job_id) REFERENCES pipeline.jobs(id) ON DELETE CASCADE"
alter table pipeline.job_work add constraint job_work_job_id_fkey FOREIGN KEY (job_id) REFERENCES pipeline.jobs(id) ON DELETE CASCADE

--: constraint job_work_pkey on pipeline.job_work
--= "PRIMARY KEY (job_id, stage)"
alter table pipeline.job_work add constraint job_work_pkey PRIMARY KEY (job_id, stage)

--: constraint jobs_document_id_fkey on pipeline.jobs
--= "FOREIGN KEY (document_id) REFERENCES pipeline.documents(id) ON DELETE CASCADE"
alter table pipeline.jobs add constraint jobs_document_id_fkey FOREIGN KEY (document_id) REFERENCES pipeline.documents(id) ON DELETE CASCADE

--: constraint jobs_pkey on pipeline.jobs
--= "PRIMARY KEY (id)"
alter table pipeline.jobs add constraint jobs_pkey PRIMARY KEY (id)

--: constraint key_has_32_bytes on pipeline.pseudonym_key
--= "CHECK ((length(key) = 32))"
alter table pipeline.pseudonym_key add constraint key_has_32_bytes CHECK ((length(key) = 32))

--: constraint lane_is_known on pipeline.queue
--= "CHECK ((lane = ANY (ARRAY[1, 2])))"
alter table pipeline.queue add constraint lane_is_known CHECK ((lane = ANY (ARRAY[1, 2])))

--: constraint lanes_add_up on pipeline.owners
--= "CHECK (((lanes >= 0) AND (lanes <= 3)))"
alter table pipeline.owners add constraint lanes_add_up CHECK (((lanes >= 0) AND (lanes <= 3)))

--: constraint lease_checks_pkey on pipeline.lease_checks
--= "PRIMARY KEY (id)"
alter table pipeline.lease_checks add constraint lease_checks_pkey PRIMARY KEY (id)

--: constraint leased_iff_running on pipeline.jobs
--= "CHECK (((lease_expires_at IS NOT NULL) = (state = 'running'::text)))"
alter table pipeline.jobs add constraint leased_iff_running CHECK (((lease_expires_at IS NOT NULL) = (state = 'running'::text)))

--: constraint ledger_pkey on pipeline.ledger
--= "PRIMARY KEY (id)"
alter table pipeline.ledger add constraint ledger_pkey PRIMARY KEY (id)

--: constraint limits_owner_id_key on pipeline.limits
--= "UNIQUE NULLS NOT DISTINCT (owner_id)"
alter table pipeline.limits add constraint limits_owner_id_key UNIQUE NULLS NOT DISTINCT (owner_id)

--: constraint listeners_pkey on pipeline.listeners
--= "PRIMARY KEY (id)"
alter table pipeline.listeners add constraint listeners_pkey PRIMARY KEY (id)

--: constraint one_job_for_each_version on pipeline.jobs
--= "UNIQUE (document_id, object_version)"
alter table pipeline.jobs add constraint one_job_for_each_version UNIQUE (document_id, object_version)

--: constraint ordinal_counts_from_zero on pipeline.chunks
--= "CHECK ((ordinal >= 0))"
alter table pipeline.chunks add constraint ordinal_counts_from_zero CHECK ((ordinal >= 0))

--: constraint outages_are_counted on pipeline.provider_keys
--= "CHECK ((outages >= 0))"
alter table pipeline.provider_keys add constraint outages_are_counted CHECK ((outages >= 0))

--: constraint owner_is_forgotten_iff_completed on pipeline.erasures
--= "CHECK (((owner_id IS NULL) = (completed_at IS NOT NULL)))"
alter table pipeline.erasures add constraint owner_is_forgotten_iff_completed CHECK (((owner_id IS NULL) = (completed_at IS NOT NULL)))

--: constraint owner_stops_owner_id_fkey on pipeline.owner_stops
--= "FOREIGN KEY (owner_id) REFERENCES pipeline.owners(owner_id) ON DELETE CASCADE"
alter table pipeline.owner_stops add constraint owner_stops_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES pipeline.owners(owner_id) ON DELETE CASCADE

--: constraint owner_stops_pkey on pipeline.owner_stops
--= "PRIMARY KEY (owner_id)"
alter table pipeline.owner_stops add constraint owner_stops_pkey PRIMARY KEY (owner_id)

--: constraint owners_pkey on pipeline.owners
--= "PRIMARY KEY (owner_id)"
alter table pipeline.owners add constraint owners_pkey PRIMARY KEY (owner_id)

--: constraint page_counts_from_one on pipeline.chunks
--= "CHECK ((page >= 1))"
alter table pipeline.chunks add constraint page_counts_from_one CHECK ((page >= 1))

--: constraint pages_are_counted on pipeline.ledger
--= "CHECK ((pages >= 0))"
alter table pipeline.ledger add constraint pages_are_counted CHECK ((pages >= 0))

--: constraint parses_owner_id_content_sha256_fingerprint_key on pipeline.parses
--= "UNIQUE (owner_id, content_sha256, fingerprint)"
alter table pipeline.parses add constraint parses_owner_id_content_sha256_fingerprint_key UNIQUE (owner_id, content_sha256, fingerprint)

--: constraint parses_pkey on pipeline.parses
--= "PRIMARY KEY (id)"
alter table pipeline.parses add constraint parses_pkey PRIMARY KEY (id)

--: constraint paused_since_iff_paused on pipeline.settings
--= "CHECK ((paused = (paused_at IS NOT NULL)))"
alter table pipeline.settings add constraint paused_since_iff_paused CHECK ((paused = (paused_at IS NOT NULL)))

--: constraint period_is_known on pipeline.budgets
--= "CHECK ((period = ANY (ARRAY['day'::text, 'month'::text])))"
alter table pipeline.budgets add constraint period_is_known CHECK ((period = ANY (ARRAY['day'::text, 'month'::text])))

--: constraint price_is_no_gift on pipeline.prices
--= "CHECK (((price >= (0)::numeric) AND (price < 'Infinity'::numeric)))"
alter table pipeline.prices add constraint price_is_no_gift CHECK (((price >= (0)::numeric) AND (price < 'Infinity'::numeric)))

--: constraint prices_pkey on pipeline.prices
--= "PRIMARY KEY (provider, model, unit, valid_from)"
alter table pipeline.prices add constraint prices_pkey PRIMARY KEY (provider, model, unit, valid_from)

--: constraint progress_is_a_fraction on pipeline.jobs
--= "CHECK (((progress >= (0)::double precision) AND (progress <= (1)::double precision)))"
alter table pipeline.jobs add constraint progress_is_a_fraction CHECK (((progress >= (0)::double precision) AND (progress <= (1)::double precision)))

--: constraint provider_keys_pkey on pipeline.provider_keys
--= "PRIMARY KEY (provider, fingerprint)"
alter table pipeline.provider_keys add constraint provider_keys_pkey PRIMARY KEY (provider, fingerprint)

--: constraint provider_limits_pkey on pipeline.provider_limits
--= "PRIMARY KEY (provider)"
alter table pipeline.provider_limits add constraint provider_limits_pkey PRIMARY KEY (provider)

--: constraint pseudonym_key_pkey on pipeline.pseudonym_key
--= "PRIMARY KEY (only_row)"
alter table pipeline.pseudonym_key add constraint pseudonym_key_pkey PRIMARY KEY (only_row)

--: constraint published_whole_or_not_at_all on pipeline.documents
--= "CHECK ((((published_version IS NULL) = (published_at IS NULL)) AND ((published_version IS NULL) = (published_job_id IS NULL)) AND ((published_version IS NULL) = (content_sha256 IS NULL))))"
alter table pipeline.documents add constraint published_whole_or_not_at_all CHECK ((((published_version IS NULL) = (published_at IS NULL)) AND ((published_version IS NULL) = (published_job_id IS NULL)) AND ((published_version IS NULL) = (content_sha256 IS NULL))))

--: constraint purged_only_after_deletion on pipeline.documents
--= "CHECK (((purged_at IS NULL) OR (deleted_at IS NOT NULL)))"
alter table pipeline.documents add constraint purged_only_after_deletion CHECK (((purged_at IS NULL) OR (deleted_at IS NOT NULL)))

--: constraint queue_pkey on pipeline.queue
--= "PRIMARY KEY (owner_id, lane, due_at, job_id)"
alter table pipeline.queue add constraint queue_pkey PRIMARY KEY (owner_id, lane, due_at, job_id)

--: constraint ready_has_no_reason on pipeline.provider_keys
--= "CHECK (((state <> 'ready'::text) OR ((reason IS NULL) AND (retry_at IS NULL))))"
alter table pipeline.provider_keys add constraint ready_has_no_reason CHECK (((state <> 'ready'::text) OR ((reason IS NULL) AND (retry_at IS NULL))))

--: constraint retention_pkey on pipeline.retention
--= "PRIMARY KEY (hand)"
alter table pipeline.retention add constraint retention_pkey PRIMARY KEY (hand)

--: constraint scope_is_known on pipeline.budgets
--= "CHECK ((scope = ANY (ARRAY['all'::text, 'owner'::text])))"
alter table pipeline.budgets add constraint scope_is_known CHECK ((scope = ANY (ARRAY['all'::text, 'owner'::text])))

--: constraint settings_pkey on pipeline.settings
--= "PRIMARY KEY (only_row)"
alter table pipeline.settings add constraint settings_pkey PRIMARY KEY (only_row)

--: constraint settled_iff_not_reserved on pipeline.ledger
--= "CHECK (((settled_at IS NULL) = (state = 'reserved'::text)))"
alter table pipeline.ledger add constraint settled_iff_not_reserved CHECK (((settled_at IS NULL) = (state = 'reserved'::text)))

--: constraint shut_has_a_date on pipeline.provider_keys
--= "CHECK (((state = 'ready'::text) OR ((reason IS NOT NULL) AND (retry_at IS NOT NULL))))"
alter table pipeline.provider_keys add constraint shut_has_a_date CHECK (((state = 'ready'::text) OR ((reason IS NOT NULL) AND (retry_at IS NOT NULL))))

--: constraint something_is_in_flight on pipeline.provider_limits
--= "CHECK ((max_in_flight > 0))"
alter table pipeline.provider_limits add constraint something_is_in_flight CHECK ((max_in_flight > 0))

--: constraint spaces_model_dimensions_input_format_key on pipeline.spaces
--= "UNIQUE (model, dimensions, input_format)"
alter table pipeline.spaces add constraint spaces_model_dimensions_input_format_key UNIQUE (model, dimensions, input_format)

--: constraint spaces_name_key on pipeline.spaces
--= "UNIQUE (name)"
alter table pipeline.spaces add constraint spaces_name_key UNIQUE (name)

--: constraint spaces_pkey on pipeline.spaces
--= "PRIMARY KEY (id)"
alter table pipeline.spaces add constraint spaces_pkey PRIMARY KEY (id)

--: constraint spent_days_owner_id_day_key on pipeline.spent_days
--= "UNIQUE NULLS NOT DISTINCT (owner_id, day)"
alter table pipeline.spent_days add constraint spent_days_owner_id_day_key UNIQUE NULLS NOT DISTINCT (owner_id, day)

--: constraint stage_costs_money on pipeline.job_work
--= "CHECK ((stage = ANY (ARRAY['parse'::text, 'embed'::text])))"
alter table pipeline.job_work add constraint stage_costs_money CHECK ((stage = ANY (ARRAY['parse'::text, 'embed'::text])))

--: constraint stage_is_known on pipeline.jobs
--= "CHECK ((stage = ANY (ARRAY['fetch'::text, 'parse'::text, 'chunk'::text, 'embed'::text, 'publish'::text])))"
alter table pipeline.jobs add constraint stage_is_known CHECK ((stage = ANY (ARRAY['fetch'::text, 'parse'::text, 'chunk'::text, 'embed'::text, 'publish'::text])))

--: constraint stage_needs_a_key on pipeline.provider_keys
--= "CHECK ((stage = ANY (ARRAY['fetch'::text, 'parse'::text, 'embed'::text])))"
alter table pipeline.provider_keys add constraint stage_needs_a_key CHECK ((stage = ANY (ARRAY['fetch'::text, 'parse'::text, 'embed'::text])))

--: constraint started_is_counted on pipeline.owners
--= "CHECK ((started >= 0))"
alter table pipeline.owners add constraint started_is_counted CHECK ((started >= 0))

--: constraint state_is_known on pipeline.ledger
--= "CHECK ((state = ANY (ARRAY['reserved'::text, 'confirmed'::text, 'unconfirmed'::text])))"
alter table pipeline.ledger add constraint state_is_known CHECK ((state = ANY (ARRAY['reserved'::text, 'confirmed'::text, 'unconfirmed'::text])))

--: constraint state_is_known on pipeline.provider_keys
--= "CHECK ((state = ANY (ARRAY['ready'::text, 'down'::text, 'refused'::text])))"
alter table pipeline.provider_keys add constraint state_is_known CHECK ((state = ANY (ARRAY['ready'::text, 'down'::text, 'refused'::text])))

--: constraint stopped_is_counted on pipeline.owner_stops
--= "CHECK ((stopped >= 0))"
alter table pipeline.owner_stops add constraint stopped_is_counted CHECK ((stopped >= 0))

--: constraint stored_bytes_are_counted on pipeline.limits
--= "CHECK ((max_stored_bytes >= 0))"
alter table pipeline.limits add constraint stored_bytes_are_counted CHECK ((max_stored_bytes >= 0))

--: constraint there_is_one_row on pipeline.pseudonym_key
--= "CHECK (only_row)"
alter table pipeline.pseudonym_key add constraint there_is_one_row CHECK (only_row)

--: constraint there_is_one_row on pipeline.settings
--= "CHECK (only_row)"
alter table pipeline.settings add constraint there_is_one_row CHECK (only_row)

--: constraint tokens_are_counted on pipeline.ledger
--= "CHECK ((tokens >= 0))"
alter table pipeline.ledger add constraint tokens_are_counted CHECK ((tokens >= 0))

--: constraint unit_is_known on pipeline.prices
--= "CHECK ((unit = ANY (ARRAY['page'::text, 'token'::text, 'credit'::text])))"
alter table pipeline.prices add constraint unit_is_known CHECK ((unit = ANY (ARRAY['page'::text, 'token'::text, 'credit'::text])))

--: constraint upload_days_pkey on pipeline.upload_days
--= "PRIMARY KEY (owner_id)"
alter table pipeline.upload_days add constraint upload_days_pkey PRIMARY KEY (owner_id)

--: constraint uploads_are_counted on pipeline.limits
--= "CHECK ((uploads_per_day >= 0))"
alter table pipeline.limits add constraint uploads_are_counted CHECK ((uploads_per_day >= 0))

--: constraint wakeups_pkey on pipeline.wakeups
--= "PRIMARY KEY (id)"
alter table pipeline.wakeups add constraint wakeups_pkey PRIMARY KEY (id)

--: default of pipeline.documents.chunk_count
--= "0"
alter table pipeline.documents alter column chunk_count set default 0

--: default of pipeline.documents.created_at
--= "pipeline.now()"
alter table pipeline.documents alter column created_at set default pipeline.now()

--: default of pipeline.documents.failed_pages
--= "'{}'::jsonb"
alter table pipeline.documents alter column failed_pages set default '{}'::jsonb

--: default of pipeline.documents.id
--= "gen_random_uuid()"
alter table pipeline.documents alter column id set default gen_random_uuid()

--: default of pipeline.documents.updated_at
--= "pipeline.now()"
alter table pipeline.documents alter column updated_at set default pipeline.now()

--: default of pipeline.embeddings.bought_at
--= "pipeline.now()"
alter table pipeline.embeddings alter column bought_at set default pipeline.now()

--: default of pipeline.erasures.bytes
--= "0"
alter table pipeline.erasures alter column bytes set default 0

--: default of pipeline.erasures.costs
--= "0"
alter table pipeline.erasures alter column costs set default 0

--: default of pipeline.erasures.documents
--= "0"
alter table pipeline.erasures alter column documents set default 0

--: default of pipeline.erasures.due_at
--= "pipeline.now()"
alter table pipeline.erasures alter column due_at set default pipeline.now()

--: default of pipeline.erasures.embeddings
--= "0"
alter table pipeline.erasures alter column embeddings set default 0

--: default of pipeline.erasures.events
--= "0"
alter table pipeline.erasures alter column events set default 0

--: default of pipeline.erasures.failures
--= "0"
alter table pipeline.erasures alter column failures set default 0

--: default of pipeline.erasures.files
--= "0"
alter table pipeline.erasures alter column files set default 0

--: default of pipeline.erasures.jobs
--= "0"
alter table pipeline.erasures alter column jobs set default 0

--: default of pipeline.erasures.messages
--= "0"
alter table pipeline.erasures alter column messages set default 0

--: default of pipeline.erasures.parses
--= "0"
alter table pipeline.erasures alter column parses set default 0

--: default of pipeline.erasures.passages
--= "0"
alter table pipeline.erasures alter column passages set default 0

--: default of pipeline.erasures.requested_at
--= "pipeline.now()"
alter table pipeline.erasures alter column requested_at set default pipeline.now()

--: default of pipeline.healing.rested_at
--= "'-infinity'::timestamp with time zone"
alter table pipeline.healing alter column rested_at set default '-infinity'::timestamp with time zone

--: default of pipeline.job_work.inputs
--= "0"
alter table pipeline.job_work alter column inputs set default 0

--: default of pipeline.job_work.pages
--= "0"
alter table pipeline.job_work alter column pages set default 0

--: default of pipeline.job_work.tokens
--= "0"
alter table pipeline.job_work alter column tokens set default 0

--: default of pipeline.jobs.attempt
--= "0"
alter table pipeline.jobs alter column attempt set default 0

--: default of pipeline.jobs.available_at
--= "pipeline.now()"
alter table pipeline.jobs alter column available_at set default pipeline.now()

--: default of pipeline.jobs.created_at
--= "pipeline.now()"
alter table pipeline.jobs alter column created_at set default pipeline.now()

--: default of pipeline.jobs.failures
--= "0"
alter table pipeline.jobs alter column failures set default 0

--: default of pipeline.jobs.progress
--= "0"
alter table pipeline.jobs alter column progress set default 0

--: default of pipeline.jobs.state
--= "'available'::text"
alter table pipeline.jobs alter column state set default 'available'::text

--: default of pipeline.ledger.asked_at
--= "pipeline.now()"
alter table pipeline.ledger alter column asked_at set default pipeline.now()

--: default of pipeline.ledger.at
--= "pipeline.now()"
alter table pipeline.ledger alter column at set default pipeline.now()

--: default of pipeline.ledger.inputs
--= "0"
alter table pipeline.ledger alter column inputs set default 0

--: default of pipeline.ledger.pages
--= "0"
alter table pipeline.ledger alter column pages set default 0

--: default of pipeline.ledger.state
--= "'reserved'::text"
alter table pipeline.ledger alter column state set default 'reserved'::text

--: default of pipeline.ledger.tokens
--= "0"
alter table pipeline.ledger alter column tokens set default 0

--: default of pipeline.limits.max_concurrent_jobs
--= "2"
alter table pipeline.limits alter column max_concurrent_jobs set default 2

--: default of pipeline.limits.max_documents
--= "10000"
alter table pipeline.limits alter column max_documents set default 10000

--: default of pipeline.limits.max_file_bytes
--= "26214400"
alter table pipeline.limits alter column max_file_bytes set default 26214400

--: default of pipeline.limits.max_stored_bytes
--= "'10737418240'::bigint"
alter table pipeline.limits alter column max_stored_bytes set default '10737418240'::bigint

--: default of pipeline.limits.priority
--= "1"
alter table pipeline.limits alter column priority set default 1

--: default of pipeline.limits.uploads_per_day
--= "30"
alter table pipeline.limits alter column uploads_per_day set default 30

--: default of pipeline.listeners.keys
--= "'{}'::text[]"
alter table pipeline.listeners alter column keys set default '{}'::text[]

--: default of pipeline.owner_stops.stopped
--= "0"
alter table pipeline.owner_stops alter column stopped set default 0

--: default of pipeline.owners.lanes
--= "0"
alter table pipeline.owners alter column lanes set default 0

--: default of pipeline.owners.served_at
--= "'-infinity'::timestamp with time zone"
alter table pipeline.owners alter column served_at set default '-infinity'::timestamp with time zone

--: default of pipeline.owners.started
--= "0"
alter table pipeline.owners alter column started set default 0

--: default of pipeline.owners.taken
--= "0"
alter table pipeline.owners alter column taken set default 0

--: default of pipeline.parses.created_at
--= "pipeline.now()"
alter table pipeline.parses alter column created_at set default pipeline.now()

--: default of pipeline.parses.failed_pages
--= "'{}'::jsonb"
alter table pipeline.parses alter column failed_pages set default '{}'::jsonb

--: default of pipeline.provider_keys.outages
--= "0"
alter table pipeline.provider_keys alter column outages set default 0

--: default of pipeline.provider_keys.state
--= "'ready'::text"
alter table pipeline.provider_keys alter column state set default 'ready'::text

--: default of pipeline.provider_keys.state_since
--= "pipeline.now()"
alter table pipeline.provider_keys alter column state_since set default pipeline.now()

--: default of pipeline.provider_keys.token_factor
--= "1"
alter table pipeline.provider_keys alter column token_factor set default 1

--: default of pipeline.provider_keys.used_at
--= "pipeline.now()"
alter table pipeline.provider_keys alter column used_at set default pipeline.now()

--: default of pipeline.pseudonym_key.only_row
--= "true"
alter table pipeline.pseudonym_key alter column only_row set default true

--: default of pipeline.retention.began_at
--= "'-infinity'::timestamp with time zone"
alter table pipeline.retention alter column began_at set default '-infinity'::timestamp with time zone

--: default of pipeline.retention.rested_at
--= "'-infinity'::timestamp with time zone"
alter table pipeline.retention alter column rested_at set default '-infinity'::timestamp with time zone

--: default of pipeline.settings.anonymous_sign_ins
--= "false"
alter table pipeline.settings alter column anonymous_sign_ins set default false

--: default of pipeline.settings.backoff_base
--= "'00:00:10'::interval"
alter table pipeline.settings alter column backoff_base set default '00:00:10'::interval

--: default of pipeline.settings.backoff_cap
--= "'01:00:00'::interval"
alter table pipeline.settings alter column backoff_cap set default '01:00:00'::interval

--: default of pipeline.settings.keep_history
--= "'90 days'::interval"
alter table pipeline.settings alter column keep_history set default '90 days'::interval

--: default of pipeline.settings.keep_unused_work
--= "'7 days'::interval"
alter table pipeline.settings alter column keep_unused_work set default '7 days'::interval

--: default of pipeline.settings.max_failures
--= "3"
alter table pipeline.settings alter column max_failures set default 3

--: default of pipeline.settings.only_row
--= "true"
alter table pipeline.settings alter column only_row set default true

--: default of pipeline.settings.paused
--= "false"
alter table pipeline.settings alter column paused set default false

--: default of pipeline.settings.probe_every
--= "'00:01:00'::interval"
alter table pipeline.settings alter column probe_every set default '00:01:00'::interval

--: default of pipeline.settings.retries_per_day
--= "5"
alter table pipeline.settings alter column retries_per_day set default 5

--: default of pipeline.settings.schema_version
--= "1"
alter table pipeline.settings alter column schema_version set default 1

--: default of pipeline.spaces.active
--= "false"
alter table pipeline.spaces alter column active set default false

--: default of pipeline.spaces.created_at
--= "pipeline.now()"
alter table pipeline.spaces alter column created_at set default pipeline.now()

--: default of pipeline.spaces.latin_only
--= "false"
alter table pipeline.spaces alter column latin_only set default false

--: extension vector
--= "in extensions"
create extension if not exists vector with schema extensions

--: function pipeline.accepted(pipeline.pace,double precision,timestamp with time zone)
--= "(p pipeline.pace, amount double precision, now timestamp with time zone) returns pipeline.pace, plpgsql, immutable, cost 100 rows 0, search_path=\"\", body 31f1686a9a5ffe2be41665697dd2f137"
CREATE OR REPLACE FUNCTION pipeline.accepted(p pipeline.pace, amount double precision, now timestamp with time zone)
 RETURNS pipeline.pace
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  p.accepted := coalesce(p.accepted, 0) + amount;
  p.limited_at := coalesce(p.limited_at, now);
  if p.per_minute is not null and p.told is not true and now - p.raised_at >= interval '15 seconds' then
    p.per_minute := case when p.per_minute < p.ceiling * 0.95 then (p.per_minute + p.ceiling * 0.97) / 2
                         -- beyond: the longer nothing was refused, the bolder
                         else p.per_minute * (1 + 0.003 * least(extract(epoch from now - p.limited_at) / 60, 8) ^ 2) end;
    p.raised_at := now;
  end if;
  return p;
end
$function$

--: function pipeline.activate_space(text)
--= "(space_name text) returns void, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 9f6eca5dce5b79f5ef6752c38914d387"
CREATE OR REPLACE FUNCTION pipeline.activate_space(space_name text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if not exists (select from pipeline.spaces s where s.name = space_name) then
    raise exception using errcode = 'undefined_object', message = format('There is no embedding space %L.', space_name);
  end if;
  update pipeline.spaces s set active = false where s.active and s.name <> space_name;
  update pipeline.spaces s set active = true where s.name = space_name and not s.active;
end
$function$

--: function pipeline.add_spent(date[],uuid[],numeric[])
--= "(days date[], owner_ids uuid[], amounts numeric[]) returns void, sql, volatile, cost 100 rows 0, search_path=\"\", body 61c4ec4cc33fe4d3400bbcbf25dee6bd"
CREATE OR REPLACE FUNCTION pipeline.add_spent(days date[], owner_ids uuid[], amounts numeric[])
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  -- One order for all, the sum of the day last: two calls that meet cannot wait for each other.
  insert into pipeline.spent_days as s (day, owner_id, amount)
  select c.day, c.owner_id, sum(c.amount)
    from (select u.day, u.owner_id, u.amount from unnest(days, owner_ids, amounts) as u (day, owner_id, amount)
           where u.owner_id is not null and u.amount <> 0
          union all
          select u.day, null, u.amount from unnest(days, owner_ids, amounts) as u (day, owner_id, amount)
           where u.amount <> 0) c
   group by c.day, c.owner_id
   order by c.day, c.owner_id nulls last
  on conflict (day, owner_id) do update set amount = s.amount + excluded.amount
$function$

--: function pipeline.ask_again(bigint,boolean)
--= "(call_id bigint, let_through boolean) returns double precision, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 136fcf4cc37a3393556e0cb01fe699cb"
CREATE OR REPLACE FUNCTION pipeline.ask_again(call_id bigint, let_through boolean)
 RETURNS double precision
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  call pipeline.ledger;
  key pipeline.provider_keys;
  request_pace pipeline.pace;
  now timestamptz;
  pause double precision;
begin
  select * into call from pipeline.ledger l where l.id = ask_again.call_id;
  select * into key from pipeline.provider_keys k
   where k.provider = call.provider and k.fingerprint = call.fingerprint
     for no key update;
  if not found then
    return 0;
  end if;
  now := pipeline.now();
  request_pace := pipeline.refilled(key.requests, now);
  if let_through then
    request_pace := pipeline.accepted(request_pace, 1, now);
  end if;
  pause := greatest(pipeline.wait_for(request_pace, 1), extract(epoch from key.cooling_until - now), 0);
  if pause <= 10 then
    request_pace.available := request_pace.available - 1;
    update pipeline.ledger l set asked_at = now, sends_at = now + make_interval(secs => pause) where l.id = call.id;
  end if;
  update pipeline.provider_keys k
     set requests = request_pace, used_at = now
   where k.provider = key.provider and k.fingerprint = key.fingerprint;
  return pause;
end
$function$

--: function pipeline.attach()
--= "() returns text[], plpgsql, volatile, cost 100 rows 0, search_path=\"\", lock_timeout=10s, body 539af6387cd3bee7edccdcc7843b5d0c"
CREATE OR REPLACE FUNCTION pipeline.attach()
 RETURNS text[]
 LANGUAGE plpgsql
 SET search_path TO ''
 SET lock_timeout TO '10s'
AS $function$
declare
  part record;
  made text[] := array[]::text[];
begin
  for part in select d.* from pipeline.detached() d loop
    case part.kind
      when 'bucket' then
        insert into storage.buckets (id, name, public, file_size_limit) values ('documents', 'documents', false, 26214400);
      when 'trigger' then
        execute format('create or replace trigger %I %s', part.name, part.definition);
      else
        execute format('create policy %I on %s %s', part.name, part.relation, part.definition);
    end case;
    made := made || format('%s %s on %s', part.kind, part.name, part.relation);
  end loop;
  return made;
end
$function$

--: function pipeline.attachments()
--= "() returns TABLE(kind text, name text, relation text, definition text), sql, immutable, cost 100 rows 1000, search_path=\"\", body e6fb3818931260c05ed5c0f4b5f868a8"
CREATE OR REPLACE FUNCTION pipeline.attachments()
 RETURNS TABLE(kind text, name text, relation text, definition text)
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  values
  -- Storage writes each upload twice: a permission check that is rolled back, and the write that stays.
  ('trigger', 'pipeline_object_inserted', 'storage.objects',
   'after insert on storage.objects for each row when (new.bucket_id = ''documents'')
    execute function pipeline.object_written()'),
  ('trigger', 'pipeline_object_updated', 'storage.objects',
   'after update on storage.objects
    for each row when (new.bucket_id = ''documents''
                       and (old.bucket_id, old.name, old.version) is distinct from (new.bucket_id, new.name, new.version))
    execute function pipeline.object_written()'),
  ('trigger', 'pipeline_object_moved_out', 'storage.objects',
   'after update on storage.objects
    for each row when (old.bucket_id = ''documents'' and new.bucket_id <> ''documents'')
    execute function pipeline.object_gone()'),
  ('trigger', 'pipeline_object_deleted', 'storage.objects',
   'after delete on storage.objects for each row when (old.bucket_id = ''documents'')
    execute function pipeline.object_gone()'),

  ('trigger', 'pipeline_user_deleted', 'auth.users',
   'after delete on auth.users for each row execute function pipeline.user_deleted()'),
  ('trigger', 'pipeline_user_deleted_softly', 'auth.users',
   'after update of deleted_at on auth.users for each row when (old.deleted_at is null and new.deleted_at is not null)
    execute function pipeline.user_deleted()'),

  ('policy', 'pipeline: owners read their files', 'storage.objects',
   'for select to authenticated
    using (bucket_id = ''documents'' and starts_with(name, (select pipeline.caller() || ''/'')))'),
  ('policy', 'pipeline: owners upload to their folder', 'storage.objects',
   'for insert to authenticated
    with check (bucket_id = ''documents'' and starts_with(name, (select pipeline.caller() || ''/'')))'),
  ('policy', 'pipeline: owners overwrite and move their files', 'storage.objects',
   'for update to authenticated
    using (bucket_id = ''documents'' and starts_with(name, (select pipeline.caller() || ''/'')))
    with check (bucket_id = ''documents'' and starts_with(name, (select pipeline.caller() || ''/'')))'),
  ('policy', 'pipeline: owners delete their files', 'storage.objects',
   'for delete to authenticated
    using (bucket_id = ''documents'' and starts_with(name, (select pipeline.caller() || ''/'')))'),
  -- A wall behind the door: whatever permissive policy is added later, ours is the widest that holds for this bucket.
  ('policy', 'pipeline: nobody beyond their folder', 'storage.objects',
   'as restrictive for all to authenticated
    using (bucket_id <> ''documents'' or starts_with(name, (select pipeline.caller() || ''/'')))
    with check (bucket_id <> ''documents'' or starts_with(name, (select pipeline.caller() || ''/'')))'),
  ('policy', 'pipeline: nobody without a user', 'storage.objects',
   'as restrictive for all to anon using (bucket_id <> ''documents'') with check (bucket_id <> ''documents'')'),

  ('policy', 'pipeline: owners hear of their jobs', 'realtime.messages',
   'for select to authenticated
    using (extension = ''broadcast''
           and (select realtime.topic()) = ''user:'' || (select pipeline.caller()) || '':jobs'')')
$function$

--: function pipeline.await_owner(uuid)
--= "(owner_id uuid) returns void, plpgsql, volatile, cost 100 rows 0, search_path=\"\", lock_timeout=20ms, body 4ea15d7361f649c5afd2b391cb20b9b5"
CREATE OR REPLACE FUNCTION pipeline.await_owner(owner_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
 SET lock_timeout TO '20ms'
AS $function$
begin
  perform from pipeline.owners o where o.owner_id = await_owner.owner_id for no key update;
exception
  when lock_not_available then
    null;
end
$function$

--: function pipeline.backoff(integer)
--= "(failures integer) returns interval, sql, volatile, cost 100 rows 0, search_path=\"\", body 46b825c4d61dfcae6aa35ef73b75a104"
CREATE OR REPLACE FUNCTION pipeline.backoff(failures integer)
 RETURNS interval
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select least(s.backoff_base * power(2, least(greatest(failures, 1) - 1, 20)), s.backoff_cap)
         * (0.75 + 0.5 * pg_catalog.random())
    from pipeline.settings s
$function$

--: function pipeline.begin_embeddings(bigint,integer,smallint,bytea[])
--= "(job_id bigint, attempt integer, space_id smallint, inputs bytea[]) returns TABLE(input_sha256 bytea, status text), plpgsql, volatile, definer, cost 100 rows 1000, search_path=\"\", body 1e796cad0f5e5e69693a551973fc5cab"
CREATE OR REPLACE FUNCTION pipeline.begin_embeddings(job_id bigint, attempt integer, space_id smallint, inputs bytea[])
 RETURNS TABLE(input_sha256 bytea, status text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  owner uuid;
begin
  select j.owner_id into owner from pipeline.jobs j where j.id = begin_embeddings.job_id;
  if not pipeline.holds(begin_embeddings.job_id, begin_embeddings.attempt) then
    raise exception using errcode = 'PL001', message = 'The lease is lost.';
  end if;
  insert into pipeline.embedding_purchases as p (owner_id, space_id, input_sha256, job_id, attempt)
  select owner, begin_embeddings.space_id, i.sha, begin_embeddings.job_id, begin_embeddings.attempt
    from (select distinct unnest(inputs) as sha) i
   where (select true from pipeline.embeddings e
           where e.owner_id = owner and e.space_id = begin_embeddings.space_id and e.input_sha256 = i.sha) is null
   order by i.sha
  on conflict (owner_id, space_id, input_sha256) do update
     set job_id = excluded.job_id, attempt = excluded.attempt
   where (p.job_id, p.attempt) <> (excluded.job_id, excluded.attempt) and not pipeline.holds(p.job_id, p.attempt);
  -- Bought by another between the look and the claim: seen here, in a statement of its own.
  delete from pipeline.embedding_purchases p
   where p.job_id = begin_embeddings.job_id and p.space_id = begin_embeddings.space_id
     and exists (select from pipeline.embeddings e
                  where e.owner_id = p.owner_id and e.space_id = p.space_id and e.input_sha256 = p.input_sha256);
  -- Scalars, so that each input stays one probe of an index, whatever the statistics say.
  return query
  select i.sha,
         case when (select true from pipeline.embeddings e
                     where e.owner_id = owner and e.space_id = begin_embeddings.space_id and e.input_sha256 = i.sha) then 'kept'
              when (select p.job_id = begin_embeddings.job_id and p.attempt = begin_embeddings.attempt
                      from pipeline.embedding_purchases p
                     where p.owner_id = owner and p.space_id = begin_embeddings.space_id and p.input_sha256 = i.sha) then 'buy'
              else 'wait' end
    from (select distinct unnest(inputs) as sha) i;
end
$function$

--: function pipeline.begin_parse(bigint,integer,bytea,text)
--= "(job_id bigint, attempt integer, content_sha256 bytea, fingerprint text) returns TABLE(status text, parse_id bigint, provider_job_id text, pages jsonb, failed_pages jsonb), plpgsql, volatile, definer, cost 100 rows 1000, search_path=\"\", body a9958f5253f21359931f53b56c1f960e"
CREATE OR REPLACE FUNCTION pipeline.begin_parse(job_id bigint, attempt integer, content_sha256 bytea, fingerprint text)
 RETURNS TABLE(status text, parse_id bigint, provider_job_id text, pages jsonb, failed_pages jsonb)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  job pipeline.jobs;
  parse pipeline.parses;
begin
  select * into job from pipeline.jobs j where j.id = begin_parse.job_id;
  if not pipeline.holds(begin_parse.job_id, begin_parse.attempt) then
    return query select 'lost', null::bigint, null::text, null::jsonb, null::jsonb;
    return;
  end if;
  insert into pipeline.parses (owner_id, content_sha256, fingerprint, document_id, job_id, attempt)
  values (job.owner_id, begin_parse.content_sha256, begin_parse.fingerprint, job.document_id, job.id, begin_parse.attempt)
  on conflict do nothing
  returning * into parse;
  if not found then
    select * into parse from pipeline.parses p
     where p.owner_id = job.owner_id and p.content_sha256 = begin_parse.content_sha256
       and p.fingerprint = begin_parse.fingerprint
       for update;
    if not found then
      return query select 'wait', null::bigint, null::text, null::jsonb, null::jsonb;
      return;
    end if;
    if parse.pages is not null then
      return query select 'kept', parse.id, null::text, parse.pages, parse.failed_pages;
      return;
    end if;
    if (parse.job_id, parse.attempt) <> (job.id, begin_parse.attempt) then
      if pipeline.holds(parse.job_id, parse.attempt) then
        return query select 'wait', parse.id, null::text, null::jsonb, null::jsonb;
        return;
      end if;
      update pipeline.parses p
         set job_id = job.id, attempt = begin_parse.attempt, document_id = job.document_id
       where p.id = parse.id;
    end if;
  end if;
  return query select 'buy', parse.id, parse.provider_job_id, null::jsonb, null::jsonb;
end
$function$

--: function pipeline.blank_messages(uuid)
--= "(owner_id uuid) returns bigint, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body ddf5796563e549098cf2e3a6af0e2a48"
CREATE OR REPLACE FUNCTION pipeline.blank_messages(owner_id uuid)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  blanked bigint;
begin
  if to_regclass('realtime.messages') is null then
    return 0;
  end if;
  -- On the platform nobody but Realtime may delete them.
  update realtime.messages m set payload = '{}', topic = 'erased' where m.topic = 'user:' || owner_id || ':jobs';
  get diagnostics blanked = row_count;
  return blanked;
exception
  when others then
    raise warning 'Realtime''s messages are left to their three days: %', sqlerrm;
    return 0;
end
$function$

--: function pipeline.bucket_mark()
--= "() returns timestamp with time zone, sql, stable, definer, cost 100 rows 0, search_path=\"\", body 9ac035c12baa0b46a266d2cadaca7788"
CREATE OR REPLACE FUNCTION pipeline.bucket_mark()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select b.updated_at from storage.buckets b where b.id = 'documents'
$function$

--: function pipeline.budgets_changed()
--= "() returns trigger, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 7cc5d18d87891a6cb9d245bbe7d87be0"
CREATE OR REPLACE FUNCTION pipeline.budgets_changed()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  update pipeline.jobs j set available_at = pipeline.now()
   where j.state = 'available' and j.error_class in ('budget', 'configuration') and j.available_at > pipeline.now();
  return null;
end
$function$

--: function pipeline.budgets_of(uuid)
--= "(owner_id uuid) returns TABLE(scope text, period text, amount numeric, spent numeric, renews_at timestamp with time zone), sql, stable, cost 100 rows 1000, search_path=\"\", body b91b57bad7ea1d64e5b93198dc637108"
CREATE OR REPLACE FUNCTION pipeline.budgets_of(owner_id uuid)
 RETURNS TABLE(scope text, period text, amount numeric, spent numeric, renews_at timestamp with time zone)
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select b.scope, b.period, b.amount,
         -- apart, since only so each is a look into the index, however many owners and days there are
         coalesce(case b.scope
                    when 'all' then (select sum(s.amount) from pipeline.spent_days s
                                      where s.owner_id is null
                                        and s.day >= (date_trunc(b.period, pipeline.now() at time zone 'utc'))::date)
                    else (select sum(s.amount) from pipeline.spent_days s
                           where s.owner_id = $1
                             and s.day >= (date_trunc(b.period, pipeline.now() at time zone 'utc'))::date) end, 0),
         (date_trunc(b.period, pipeline.now() at time zone 'utc') + ('1 ' || b.period)::interval) at time zone 'utc'
    from (select distinct on (i.scope, i.period) i.scope, i.period, i.amount
            from pipeline.budgets i
           where i.scope = 'all' or i.owner_id = $1 or i.owner_id is null
           order by i.scope, i.period, i.owner_id nulls last) b
   where b.amount is not null
$function$

--: function pipeline.by_meaning(uuid,pipeline.question,text,integer,extensions.vector,pipeline.spaces)
--= "(owner uuid, question pipeline.question, path_prefix text, wanted integer, query_embedding extensions.vector, space pipeline.spaces) returns TABLE(id bigint, cosine double precision), plpgsql, stable, cost 100 rows 1000, search_path=\"\", enable_seqscan=off, body 03a88f6dc81ba1aed41ef4435b8001c3"
CREATE OR REPLACE FUNCTION pipeline.by_meaning(owner uuid, question pipeline.question, path_prefix text, wanted integer, query_embedding extensions.vector, space pipeline.spaces)
 RETURNS TABLE(id bigint, cosine double precision)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
  visible constant text := pipeline.visible(owner, question, path_prefix);
  own double precision;
  everybodys double precision;
  top integer := wanted + 30;
  ids bigint[];
  cosines double precision[];
  seen bigint;
begin
  select sum(d.chunk_count) into own
    from pipeline.documents d
   where d.owner_id = owner and d.deleted_at is null
     and (path_prefix is null or pipeline.under(d.name, d.owner_id, path_prefix));
  if own is null then
    return;
  end if;

  -- A filter that leaves little: its passages, each with its vector.
  if question.required is not null or (path_prefix is not null and own <= 5000) then
    return query execute format(
      'select c.id, 1 - (e.embedding operator(extensions.<=>) $1::extensions.halfvec) from pipeline.documents d '
      'join pipeline.chunks c on c.document_id = d.id '
      'join pipeline.embeddings e on e.owner_id = %1$L and e.space_id = %2$s and e.input_sha256 = c.input_sha256 '
      'where c.owner_id = %1$L and %3$s order by 2 desc, 1 limit %4$s', owner, space.id, visible, wanted)
      using query_embedding;
    return;
  end if;

  -- All of the owner's vectors, or everybody's through the index? Reading one costs about 0.2 µs and 0.6 ns a
  -- dimension; the index costs 16 µs for each vector of anybody that comes by before enough of the owner's have.
  select greatest(c.reltuples, own) into everybodys
    from pg_class c where c.oid = to_regclass(format('pipeline.embeddings_space_%s', space.id));
  if own > 5000 and path_prefix is null and question.excluded is null
     and own * (0.2 + 0.0006 * space.dimensions) > 16 * wanted * everybodys / own then
    select array_agg(n.id order by n.cosine desc), array_agg(n.cosine order by n.cosine desc) into ids, cosines
      from pipeline.nearest_by_index(owner, visible, wanted, query_embedding, space) n;
    -- Fewer, when much of what is near was deleted a moment ago, or when an older pgvector stops early.
    if cardinality(ids) >= wanted then
      return query select u.id, u.cosine from unnest(ids, cosines) as u (id, cosine) limit wanted;
      return;
    end if;
  end if;
  loop
    -- Lateral, with an offset: one probe of the index for each vector, whatever the planner expects.
    execute format(
      'select array_agg(c.id order by n.distance, c.id), array_agg(1 - n.distance order by n.distance, c.id), '
      '       count(distinct n.input_sha256) '
      'from (select e.input_sha256, e.embedding operator(extensions.<=>) $1::extensions.halfvec as distance '
      '        from pipeline.embeddings e where e.owner_id = %1$L and e.space_id = %2$s order by 2 limit %3$s) n '
      'left join lateral (select c.id from pipeline.chunks c join pipeline.documents d on d.id = c.document_id '
      '                    where c.owner_id = %1$L and c.input_sha256 = n.input_sha256 and %4$s offset 0) c on true',
      owner, space.id, top, visible)
      into ids, cosines, seen using query_embedding;
    exit when seen < top or cardinality(array_remove(ids, null)) >= wanted;
    top := top * 10;
  end loop;
  return query
  select u.id, u.cosine from unnest(ids, cosines) with ordinality as u (id, cosine, o)
   where u.id is not null order by u.o limit wanted;
end
$function$

--: function pipeline.by_words(uuid,pipeline.question,text,integer,bigint[])
--= "(owner uuid, question pipeline.question, path_prefix text, wanted integer, also bigint[]) returns TABLE(id bigint, score double precision, whole double precision), plpgsql, stable, cost 100 rows 1000, search_path=\"\", extra_float_digits=1, enable_seqscan=off, body d23b9a1d1066f2fb0ec5ff0bba7e8319"
CREATE OR REPLACE FUNCTION pipeline.by_words(owner uuid, question pipeline.question, path_prefix text, wanted integer, also bigint[])
 RETURNS TABLE(id bigint, score double precision, whole double precision)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET extra_float_digits TO '1'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
  -- So many rows are ranked, as far as the frequencies tell; never more than the second.
  budget constant integer := 1500;
  most constant integer := 5000;
  visible constant text := pipeline.visible(owner, question, path_prefix);
  total bigint;
  words text[];
  passages double precision[];
  average double precision;
  unknown integer;
  whole_question double precision;
  bm25 text;
  frequencies text;
  any_word text;
  attempts text[];
  sought text;
  ranked text;
  ids bigint[] := array[]::bigint[];
  scores double precision[] := array[]::double precision[];
  more_ids bigint[];
  more_scores double precision[];
  seen bigint;
  top integer;
begin
  if coalesce(cardinality(question.words), 0) = 0 then
    return;
  end if;
  select coalesce(sum(d.chunk_count), 0) into total
    from pipeline.documents d where d.owner_id = owner and d.deleted_at is null;
  -- A bigram that occurs nowhere is most often the end of one word and the beginning of the next: it is not missed.
  select array_agg(f.word order by f.passages) filter (where f.passages > 0),
         array_agg(f.passages order by f.passages) filter (where f.passages > 0), max(f.average_length),
         count(*) filter (where f.passages = 0 and pipeline.first_letter(f.word) < 3584)
    into words, passages, average, unknown
    from pipeline.word_frequencies(owner, question.words, total) f;
  if words is null then
    return;
  end if;
  total := greatest(total, passages[cardinality(passages)]);
  select sum(ln(1 + (total - p + 0.5) / (p + 0.5))) + unknown * ln(1 + (total + 0.5) / 0.5) into whole_question
    from unnest(passages) p;

  -- The index knows no term frequencies, but ts_rank() of a single word does: with every weight 1 it is the sum of 1/i² for
  -- i up to the frequency, over π²/6; the rest of that series is 1/(frequency + ½) but for less than a rounding.
  -- f1, f2, … are the words' frequencies in the passage; longer grows with its length. k1 is 1.5 and b is 0.75.
  select string_agg(format('round(1 / greatest(1.6449340668482264 * (1 - ts_rank(''{1,1,1,1}'', c.lexemes, %L)), 0.004) - 0.5) as f%s', w, o), ', '),
         string_agg(format('%L::float8 * r.f%s / (r.f%s + r.longer)', 2.5 * ln(1 + (total - p + 0.5) / (p + 0.5)), o, o), ' + ')
    into frequencies, bm25
    from unnest(words, passages) with ordinality as u (w, p, o);
  frequencies := frequencies || format(', %L::float8 + %L::float8 * c.token_count as longer', 1.5 * 0.25, 1.5 * 0.75 / average);
  -- The subquery keeps the planner from reading the owner's part of another index beside the words' postings.
  ranked := 'select r.id, r.document_id, r.job_id, ' || bm25 || ' as score from ('
    || 'select c.id, c.document_id, c.job_id, ' || frequencies || ' from '
    || case when path_prefix is null
         then format('(select c.* from pipeline.chunks c where c.lexemes @@ $1 offset 0) c where c.owner_id = %L', owner)
         else format('(select c.* from pipeline.chunks c join pipeline.documents d on d.id = c.document_id '
                     'where c.lexemes @@ $1 and c.owner_id = %L and ', owner) || visible || ' offset 0) c where true' end
    || coalesce(' and c.lexemes @@ ' || quote_literal(question.required::text) || '::tsquery', '')
    || coalesce(' and not c.lexemes @@ ' || quote_literal(question.excluded::text) || '::tsquery', '')
    || format(' limit %s) r', most);

  any_word := array_to_string(words, ' | ');
  if question.required is not null then
    attempts := array[question.required::text];
  elsif path_prefix is not null and budget >= coalesce(
    (select sum(d.chunk_count) from pipeline.documents d
      where d.owner_id = owner and d.deleted_at is null and pipeline.under(d.name, d.owner_id, path_prefix)), 0) then
    attempts := array[any_word];
  else
    attempts := array[pipeline.candidates(words, passages, total, budget)];
    if coalesce(cardinality(also), 0) < wanted then
      attempts := attempts || format('(%s) & !(%s)', any_word, attempts[1]);
    end if;
  end if;
  foreach sought in array attempts loop
    exit when cardinality(ids) = wanted;
    top := wanted + 30;
    loop
      -- Nearly all of the best are visible; what is not belongs to a document that was deleted a moment ago.
      execute 'select array_agg(t.id order by t.score desc, t.id) filter (where d.id is not null), '
              'array_agg(t.score order by t.score desc, t.id) filter (where d.id is not null), count(*) '
              'from (' || ranked || ' order by score desc, id limit $2) t '
              'left join pipeline.documents d on d.id = t.document_id and d.published_job_id = t.job_id and d.deleted_at is null'
        into more_ids, more_scores, seen using sought::tsquery, top;
      exit when seen < top or cardinality(more_ids) >= wanted;
      top := top * 10;
    end loop;
    scores := scores || more_scores[1:wanted - cardinality(ids)];
    ids := ids || more_ids[1:wanted - cardinality(ids)];
  end loop;
  return query select u.id, u.score, whole_question from unnest(ids, scores) as u (id, score);
  if cardinality(also) > 0 then
    return query execute
      'select r.id, ' || bm25 || ', $2 from (select c.id, ' || frequencies ||
      '  from pipeline.chunks c where c.id = any ($1) offset 0) r'
      using also, whole_question;
  end if;
end
$function$

--: function pipeline.caller()
--= "() returns uuid, plpgsql, stable, definer, cost 100 rows 0, search_path=\"\", body 05f94802f4b2dd5375e3600fe52635e3"
CREATE OR REPLACE FUNCTION pipeline.caller()
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  caller constant uuid := auth.uid();
begin
  -- Two steps: the first is no query, and takes a tenth of the time.
  if (auth.jwt() ->> 'is_anonymous')::boolean then
    if not (select s.anonymous_sign_ins from pipeline.settings s) then
      return null;
    end if;
  end if;
  -- Without these nobody notices that a file or a user comes or goes, as in a dump that was restored: see the migration
  -- `platform`. The look takes about 10 µs, a thousandth of a search.
  if (select count(*) from pg_catalog.pg_trigger t
       where t.tgrelid in ('storage.objects'::regclass, 'auth.users'::regclass) and t.tgenabled in ('O', 'A')
         and t.tgname in ('pipeline_object_inserted', 'pipeline_object_updated', 'pipeline_object_moved_out',
                          'pipeline_object_deleted', 'pipeline_user_deleted', 'pipeline_user_deleted_softly')) < 6 then
    raise sqlstate 'PT503' using
      message = 'This project is not whole: it does not notice what is uploaded or deleted, so it shows nothing.',
      hint = 'Its operator runs `pipeline migrate`, and then `pipeline doctor --fix`.';
  end if;
  return case when not exists (select from pipeline.erasures e where e.owner_id = caller) then caller end;
end
$function$

--: function pipeline.cancel(bigint)
--= "(job_id bigint) returns text, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 4d14ffa1158fd3d673652b42034aa395"
CREATE OR REPLACE FUNCTION pipeline.cancel(job_id bigint)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  new_state text;
begin
  update pipeline.jobs j
     set state = 'cancelled', finished_at = pipeline.now(), claimed_by = null, lease_expires_at = null,
         error_class = 'cancelled', error = 'Cancelled.'
   where j.id = cancel.job_id and j.state in ('available', 'running');
  select j.state into new_state from pipeline.jobs j where j.id = cancel.job_id;
  return new_state;
end
$function$

--: function pipeline.cancel_own_job(bigint)
--= "(job_id bigint) returns text, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 38df3db71b54cce852440e57b0ba876c"
CREATE OR REPLACE FUNCTION pipeline.cancel_own_job(job_id bigint)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  perform pipeline.own_job(cancel_own_job.job_id);
  return pipeline.cancel(cancel_own_job.job_id);
end
$function$

--: function pipeline.candidates(text[],double precision[],bigint,double precision)
--= "(words text[], passages double precision[], total bigint, budget double precision) returns text, plpgsql, stable, cost 100 rows 0, search_path=\"\", body 26a54cf5a7af4950a453d36c59e01a52"
CREATE OR REPLACE FUNCTION pipeline.candidates(words text[], passages double precision[], total bigint, budget double precision)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  many constant integer := cardinality(words);
  answer text[];
  expected double precision := 0;
  taken integer := 0;
  last integer;
  others double precision;
begin
  while taken < many and expected + passages[taken + 1] <= budget loop
    taken := taken + 1;
    answer := answer || words[taken];
    expected := expected + passages[taken];
  end loop;
  for i in taken + 1 .. many - 1 loop
    last := i;
    others := 0;
    while last < many and expected + passages[i] * (others + passages[last + 1]) / total <= budget loop
      last := last + 1;
      others := others + passages[last];
    end loop;
    exit when last = i;
    answer := answer || format('%s & (%s)', words[i], array_to_string(words[i + 1:last], ' | '));
    expected := expected + passages[i] * others / total;
  end loop;
  if answer is null then -- All are common: what holds several of them.
    expected := passages[1];
    last := 1;
    while last < many and expected > budget loop
      last := last + 1;
      expected := expected * passages[last] / total;
    end loop;
    answer := array[array_to_string(words[1:last], ' & ')];
  end if;
  return array_to_string(answer, ' | ');
end
$function$

--: function pipeline.check_outcome(text)
--= "(outcome text) returns void, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body d3842e54ee58bb8da2affb4fb92423ba"
CREATE OR REPLACE FUNCTION pipeline.check_outcome(outcome text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  if outcome not in ('bought', 'declined', 'limited', 'down', 'refused', 'unclear') then
    raise exception using errcode = 'invalid_parameter_value', message = format('%L is no outcome of a call.', outcome);
  end if;
end
$function$

--: function pipeline.check_room(uuid,bigint,bigint,integer)
--= "(owner_id uuid, max_documents bigint, max_stored_bytes bigint, foreseen integer) returns void, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 72ddf53c803ad6e6598a5cda16ac5129"
CREATE OR REPLACE FUNCTION pipeline.check_room(owner_id uuid, max_documents bigint, max_stored_bytes bigint, foreseen integer)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  stored_files bigint;
  stored_bytes numeric;
begin
  select count(*) + coalesce(foreseen, 0), coalesce(sum(d.size), 0) into stored_files, stored_bytes
    from pipeline.documents d
   where d.owner_id = check_room.owner_id and d.deleted_at is null;
  if foreseen is null then
    update pipeline.upload_days u
       set files = stored_files, bytes = stored_bytes
     where u.owner_id = check_room.owner_id;
  end if;
  if stored_files > max_documents then
    raise exception using errcode = 'insufficient_privilege',
      message = format('You have %s files already. Delete some to make room.', max_documents);
  end if;
  if stored_bytes > max_stored_bytes then
    raise exception using errcode = 'insufficient_privilege',
      message = format('With this file yours would have more than %s together. Delete some to make room.',
                       pg_size_pretty(max_stored_bytes));
  end if;
end
$function$

--: function pipeline.chunks_without_vector(uuid,smallint)
--= "(document_id uuid, space_id smallint) returns bigint, sql, stable, cost 100 rows 0, search_path=\"\", body 21e7435d64f52b79a581c1ba1d3b0d77"
CREATE OR REPLACE FUNCTION pipeline.chunks_without_vector(document_id uuid, space_id smallint)
 RETURNS bigint
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select count(*)
    from pipeline.documents d join pipeline.chunks c on c.document_id = d.id and c.job_id = d.published_job_id
   where d.id = $1 and d.deleted_at is null
     -- one probe of the index for each, whatever the statistics say
     and (select true from pipeline.embeddings e
           where e.owner_id = c.owner_id and e.space_id = $2 and e.input_sha256 = c.input_sha256 limit 1) is null
$function$

--: function pipeline.claim(text,integer,interval,integer)
--= "(listener text, max_jobs integer, lease interval, schema_version integer) returns TABLE(id bigint, attempt integer, document_id uuid, owner_id uuid, bucket_id text, name text, object_id uuid, object_version text, size bigint, etag text, lease_expires_at timestamp with time zone), plpgsql, volatile, definer, cost 100 rows 1000, search_path=\"\", plan_cache_mode=force_generic_plan, body fa8cae16034af59560e95eca92909117"
CREATE OR REPLACE FUNCTION pipeline.claim(listener text, max_jobs integer, lease interval, schema_version integer)
 RETURNS TABLE(id bigint, attempt integer, document_id uuid, owner_id uuid, bucket_id text, name text, object_id uuid, object_version text, size bigint, etag text, lease_expires_at timestamp with time zone)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
declare
  now timestamptz;
  shut text[];
  open_lanes smallint[] := array[2, 1]::smallint[];  -- what has begun goes first
  open_sum integer := 3;
  busy uuid;
  ready uuid[];
  lanes_of smallint[];
  started_of bigint[];
  turns integer[];
  shares integer[];
  wanted integer := max_jobs;
  found integer;
  emptied integer;
begin
  -- With an older snapshot it would not see the newest jobs, mark their owners as waiting for nothing, and undo what another
  -- claim has made of their wake-ups.
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception using errcode = 'invalid_transaction_state',
      message = 'A claim needs a read committed transaction.',
      hint = 'Begin it with `begin isolation level read committed`, or set default_transaction_isolation.';
  end if;
  if max_jobs <= 0 or exists (select from pipeline.settings s where s.paused or s.schema_version <> claim.schema_version) then
    return;
  end if;
  shut := pipeline.shut_stages(listener);
  if cardinality(shut) > 0 then
    -- Every job begins with a download.
    open_lanes := array(select l from unnest(open_lanes) l
                         where not shut && array['fetch', case l when 1 then 'parse' else 'embed' end]);
    open_sum := coalesce((select sum(l) from unnest(open_lanes) l), 0);
  end if;
  perform pipeline.sweep();
  perform pipeline.wake();

  -- Again while jobs are wanted and owners are ready: some wait for nothing any more, and their places go to the next. So a
  -- claim that returns nothing says that nothing is due. Bounded, for owners whose jobs somebody else has locked.
  for again in 1..20 loop
    -- Each owner's share is a turn, or as many turns as the wanted jobs are worth rounds; never more than its room.
    select array_agg(r.owner_id), array_agg(r.lanes), array_agg(r.started), array_agg(r.turn),
           array_agg(least(r.room, r.turn * ((wanted + r.round - 1) / r.round)))
      into ready, lanes_of, started_of, turns, shares
      from (select l.*, sum(l.turn) over () as round
              from (select s from generate_series(1, 3) s where s & open_sum > 0) as lanes (lanes)
             cross join lateral (
                     select o.owner_id, o.served_at, o.lanes, o.started,
                            o.max_concurrent_jobs - (o.started - s.stopped) as room, o.priority - o.taken as turn
                       from pipeline.owners o join pipeline.owner_stops s using (owner_id)
                      where o.lanes = lanes.lanes and o.lanes > 0 and o.started - s.stopped < o.max_concurrent_jobs
                      order by o.served_at
                      limit wanted
                        for no key update of o skip locked) l
             order by l.served_at
             limit wanted) r;
    if ready is null then
      exit when wanted < max_jobs or again > 3;
      -- Another claim may be serving those who are ready, for some milliseconds: worth waiting for, since whoever comes back
      -- later leaves a listener idle beside a full queue.
      select o.owner_id into busy
        from pipeline.owners o join pipeline.owner_stops s using (owner_id)
       where o.lanes in (1, 2, 3) and o.lanes & open_sum > 0 and o.lanes > 0 and o.started - s.stopped < o.max_concurrent_jobs
       limit 1;
      exit when busy is null;
      perform pipeline.await_owner(busy);
      continue;
    end if;

    -- The jobs' rows are found again by their place (ctid), which cannot change under the lock.
    now := pipeline.now();
    return query
    with candidates as (
      select j.ctid, (j.nth - 1) / u.turn as round, u.place
        from unnest(ready, lanes_of, turns, shares) with ordinality as u (owner_id, lanes, turn, share, place)
       cross join lateral (
               select l.ctid, row_number() over () as nth
                 from (select i.ctid
                         from unnest(open_lanes) as o (lane)
                        cross join lateral (select q.job_id from pipeline.queue q
                                             where q.owner_id = u.owner_id and q.lane = o.lane and q.due_at <= now
                                             order by q.due_at, q.job_id) q
                        cross join lateral (select j.ctid from pipeline.jobs j
                                             where j.id = q.job_id and j.state = 'available'
                                               for no key update skip locked) i
                        where u.lanes & o.lane > 0
                        limit u.share) l) j
    )
    update pipeline.jobs j
       set state = 'running', attempt = j.attempt + 1, stage = 'fetch', progress = 0,
           claimed_by = listener, lease_expires_at = now + lease, started_at = coalesce(j.started_at, now),
           error = null, error_class = null, error_detail = null
     where j.ctid = any (array(select c.ctid from candidates c order by c.round, c.place limit wanted))
    returning j.id, j.attempt, j.document_id, j.owner_id, j.bucket_id, j.name, j.object_id, j.object_version,
              j.size, j.etag, j.lease_expires_at;
    get diagnostics found = row_count;
    wanted := wanted - found;
    exit when wanted = 0;

    -- Whether they still wait is asked of those who gave less than their share, in a statement after the owners' locks, so
    -- that no job that was committed before them is overlooked. Who gave nothing, since somebody else has locked it, goes
    -- to the end of the line like those who were served.
    update pipeline.owners o
       set lanes = (select coalesce(bit_or(l.lane), 0::smallint) from unnest('{1, 2}'::smallint[]) as l (lane)
                     where exists (select from pipeline.queue q
                                    where q.owner_id = o.owner_id and q.lane = l.lane and q.due_at <= now)),
           served_at = case when o.started = u.started then now else o.served_at end
      from unnest(ready, started_of, shares) as u (owner_id, started, share)
     where o.owner_id = u.owner_id and o.started - u.started < u.share;
    get diagnostics emptied = row_count;
    exit when emptied = cardinality(ready) and emptied < wanted + found;
  end loop;
end
$function$

--: function pipeline.claim_erasure(text,interval)
--= "(listener text DEFAULT NULL::text, lease interval DEFAULT '00:01:00'::interval) returns bigint, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 95314afe224001f85031d8308e8fa66c"
CREATE OR REPLACE FUNCTION pipeline.claim_erasure(listener text DEFAULT NULL::text, lease interval DEFAULT '00:01:00'::interval)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  no_storage constant boolean := 'fetch' = any (pipeline.shut_stages(claim_erasure.listener));
  erasure pipeline.erasures;
begin
  update pipeline.erasures e
     set due_at = pipeline.now() + lease
   where e.id = (select i.id from pipeline.erasures i
                  where i.completed_at is null and i.due_at <= pipeline.now()
                    -- Files are left to a listener that Storage lets in.
                    and not (no_storage and cardinality(pipeline.files_of(i.owner_id, 1)) > 0)
                  order by i.due_at
                  limit 1
                    for no key update skip locked)
  returning e.* into erasure;
  perform pipeline.stop_work(erasure.owner_id);
  return erasure.id;
end
$function$

--: function pipeline.complete(bigint[],integer[])
--= "(job_ids bigint[], attempts integer[]) returns SETOF bigint, plpgsql, volatile, definer, cost 100 rows 1000, search_path=\"\", plan_cache_mode=force_generic_plan, body f1f7e2a8e922bd0dc1814a86296641b4"
CREATE OR REPLACE FUNCTION pipeline.complete(job_ids bigint[], attempts integer[])
 RETURNS SETOF bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  now constant timestamptz := pipeline.now();
begin
  -- In the order of their ids. Who has waited for a row's lock judges the row anew, and the guard the clock.
  return query
  update pipeline.jobs j
     set state = 'completed', finished_at = now, claimed_by = null, lease_expires_at = null, stage = 'publish', progress = 1
    from (select h.id, h.attempt from unnest(job_ids, attempts) as h (id, attempt) order by h.id) h
   where j.id = h.id and j.attempt = h.attempt and j.state = 'running' and j.lease_expires_at > now
  returning j.id;
end
$function$

--: function pipeline.count_erased_file(uuid,bigint)
--= "(owner_id uuid, size bigint) returns void, sql, volatile, cost 100 rows 0, search_path=\"\", body 06220b50760991f266f1099fd081e1f7"
CREATE OR REPLACE FUNCTION pipeline.count_erased_file(owner_id uuid, size bigint)
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  update pipeline.erasures e set files = e.files + 1, bytes = e.bytes + coalesce($2, 0) where e.owner_id = $1
$function$

--: function pipeline.count_started(uuid[])
--= "(owner_ids uuid[]) returns void, plpgsql, volatile, cost 100 rows 0, search_path=\"\", enable_nestloop=on, enable_hashjoin=off, body feeafc433f064b805b06795c4f7db6cf"
CREATE OR REPLACE FUNCTION pipeline.count_started(owner_ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_nestloop TO 'on'
 SET enable_hashjoin TO 'off'
AS $function$
declare
  now constant timestamptz := pipeline.now();
  expected integer;
  known integer;
begin
  with counts as materialized (
    select u.owner_id, count(*)::integer as n from unnest(owner_ids) as u (owner_id) group by u.owner_id
  ),
  counted as (
    update pipeline.owners o
       set started = o.started + c.n,
           taken = case when o.taken + c.n >= o.priority then 0 else o.taken + c.n end,
           served_at = case when o.taken + c.n >= o.priority then now else o.served_at end
      from counts c
     where o.owner_id = c.owner_id
    returning 1
  )
  select (select count(*) from counts), (select count(*) from counted) into expected, known;
  if known < expected then
    -- An owner without a row, which only a raw UPDATE finds: the claim makes it before.
    insert into pipeline.owners as o (owner_id, max_concurrent_jobs, priority, started, lanes)
    select u.owner_id, l.max_concurrent_jobs, l.priority, count(*), 3
      from unnest(owner_ids) as u (owner_id) cross join lateral pipeline.limits_of(u.owner_id) l
     where not exists (select from pipeline.owners x where x.owner_id = u.owner_id)
     group by u.owner_id, l.max_concurrent_jobs, l.priority
    on conflict (owner_id) do update set started = o.started + excluded.started;
  end if;
end
$function$

--: function pipeline.count_stopped(uuid[])
--= "(owner_ids uuid[]) returns void, plpgsql, volatile, cost 100 rows 0, search_path=\"\", enable_nestloop=on, enable_hashjoin=off, body c1e223bb751b123458ee3015e4afd51e"
CREATE OR REPLACE FUNCTION pipeline.count_stopped(owner_ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
 SET enable_nestloop TO 'on'
 SET enable_hashjoin TO 'off'
AS $function$
begin
  -- In the order of their ids, so that two statements over several owners cannot wait for each other.
  if cardinality(owner_ids) > 1 then
    perform from pipeline.owner_stops s where s.owner_id = any (owner_ids) order by s.owner_id for no key update;
  end if;
  update pipeline.owner_stops s
     set stopped = s.stopped + c.n
    from (select u.owner_id, count(*) as n from unnest(owner_ids) as u (owner_id) group by u.owner_id) c
   where s.owner_id = c.owner_id;
end
$function$

--: function pipeline.count_upload(uuid,date,integer,integer,bigint)
--= "(owner_id uuid, today date, uploads integer, files integer, bytes bigint) returns void, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 5a00eb91e785a5e1d177c2228c29bff7"
CREATE OR REPLACE FUNCTION pipeline.count_upload(owner_id uuid, today date, uploads integer, files integer, bytes bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
begin
  insert into pipeline.upload_days as u (owner_id, day, uploads)
  values (count_upload.owner_id, today, count_upload.uploads)
  on conflict (owner_id) do update
     -- Who waited for the lock over midnight counts for the new day: else the count of that day would begin anew.
     set uploads = case when u.day >= excluded.day then u.uploads else 0 end + excluded.uploads,
         files = case when u.day >= excluded.day then u.files + count_upload.files end,
         bytes = case when u.day >= excluded.day then u.bytes + count_upload.bytes end,
         day = greatest(u.day, excluded.day);
end
$function$

--: function pipeline.create_space(text,integer,text)
--= "(model text, dimensions integer, input_format text DEFAULT 'heading-content-1'::text) returns smallint, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 816cd5d7987cc0faebfccafd833bc586"
CREATE OR REPLACE FUNCTION pipeline.create_space(model text, dimensions integer, input_format text DEFAULT 'heading-content-1'::text)
 RETURNS smallint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  new_id smallint;
begin
  select s.id into new_id from pipeline.spaces s
   where s.model = create_space.model and s.dimensions = create_space.dimensions and s.input_format = create_space.input_format;
  if found then
    return new_id;
  end if;
  insert into pipeline.spaces (name, model, dimensions, input_format)
  values (concat_ws('-', create_space.model, create_space.dimensions::text, nullif(create_space.input_format, 'heading-content-1')),
          create_space.model, create_space.dimensions, create_space.input_format)
  returning id into new_id;
  -- The index's expression fixes the dimension that the column leaves open.
  execute format('create index %I on pipeline.embeddings using hnsw ((embedding::extensions.halfvec(%s)) '
                 'extensions.halfvec_cosine_ops) where space_id = %s', 'embeddings_space_' || new_id, create_space.dimensions, new_id);
  return new_id;
end
$function$

--: function pipeline.detached()
--= "() returns TABLE(kind text, name text, relation text, definition text), sql, stable, definer, cost 100 rows 1000, search_path=\"\", body 7970b1426f5142aa064d69987a950a2c"
CREATE OR REPLACE FUNCTION pipeline.detached()
 RETURNS TABLE(kind text, name text, relation text, definition text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select a.kind, a.name, a.relation, a.definition
    from pipeline.attachments() a
   -- A project may run without Realtime.
   where to_regclass(a.relation) is not null
     and (a.relation <> 'realtime.messages' or to_regprocedure('realtime.topic()') is not null)
     and case a.kind
           when 'trigger' then not exists (select from pg_catalog.pg_trigger t
                                            where t.tgrelid = to_regclass(a.relation) and t.tgname = a.name and t.tgenabled in ('O', 'A'))
           else not exists (select from pg_catalog.pg_policy p
                             where p.polrelid = to_regclass(a.relation) and p.polname = a.name) end
  union all
  select 'bucket', 'documents', 'storage.buckets', null
   where not exists (select from storage.buckets b where b.id = 'documents')
$function$

--: function pipeline.do_again(bigint)
--= "(job_id bigint) returns boolean, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body e7fbe22c00c34c7ea559d3876a73ade0"
CREATE OR REPLACE FUNCTION pipeline.do_again(job_id bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  update pipeline.jobs j
     set state = 'available', failures = 0, available_at = pipeline.now(), finished_at = null,
         stage = null, progress = 0, error = null, error_class = null, error_detail = null
   where j.id = do_again.job_id and j.state in ('completed', 'dead', 'cancelled');
  return found;
end
$function$

--: function pipeline.document_lives(bigint)
--= "(job_id bigint) returns boolean, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 83b1e9ec5f06548bcaeff19b59a4a993"
CREATE OR REPLACE FUNCTION pipeline.document_lives(job_id bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  perform from pipeline.documents d
    join pipeline.jobs j on j.document_id = d.id
   where j.id = document_lives.job_id and d.deleted_at is null
     for share of d;
  return found;
end
$function$

--: function pipeline.drop_parse(bigint,bigint,integer)
--= "(parse_id bigint, job_id bigint, attempt integer) returns void, sql, volatile, definer, cost 100 rows 0, search_path=\"\", body 7e63f5b343230ec398d9327609e3417d"
CREATE OR REPLACE FUNCTION pipeline.drop_parse(parse_id bigint, job_id bigint, attempt integer)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  delete from pipeline.parses p
   where p.id = $1 and p.job_id = $2 and p.attempt = $3 and p.pages is null
$function$

--: function pipeline.due_owners(integer,uuid[],timestamp with time zone)
--= "(max_owners integer, first uuid[], now timestamp with time zone) returns uuid[], sql, volatile, cost 100 rows 0, search_path=\"\", body 099e2d0a5fac5020cf688defe9e69f49"
CREATE OR REPLACE FUNCTION pipeline.due_owners(max_owners integer, first uuid[], now timestamp with time zone)
 RETURNS uuid[]
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  with recursive walk as (
    select (select w.owner_id from pipeline.wakeups w where w.owner_id >= (select gen_random_uuid()) order by w.owner_id limit 1) as owner_id, 1 as step
    union all
    select (select w.owner_id from pipeline.wakeups w where w.owner_id > k.owner_id order by w.owner_id limit 1), k.step + 1
      from walk k
     where k.owner_id is not null and k.step < max_owners
  ),
  wrapped as (
    select (select w.owner_id from pipeline.wakeups w order by w.owner_id limit 1) as owner_id, 1 as step
    union all
    select (select w.owner_id from pipeline.wakeups w where w.owner_id > k.owner_id order by w.owner_id limit 1), k.step + 1
      from wrapped k
     where k.owner_id is not null and k.step < max_owners
  ),
  candidates as (
    select k.owner_id from walk k
    union
    select k.owner_id from wrapped k
    union
    select unnest(first)
  )
  select array_agg(c.owner_id)
    from candidates c
   where c.owner_id is not null
     -- one probe for each, where exists() would read all wake-ups that are due
     and (select true from pipeline.wakeups w where w.owner_id = c.owner_id and w.due_at <= due_owners.now limit 1)
$function$

--: function pipeline.enqueue(pipeline.documents,text)
--= "(document pipeline.documents, etag text) returns bigint, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body a31c17a599f6bb7e22d6e4da421e63b3"
CREATE OR REPLACE FUNCTION pipeline.enqueue(document pipeline.documents, etag text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  now constant timestamptz := pipeline.now();
  made bigint;
begin
  insert into pipeline.jobs (document_id, owner_id, object_id, object_version, bucket_id, name, size, etag, available_at, created_at)
  values (document.id, document.owner_id, document.object_id, document.object_version, document.bucket_id,
          document.name, document.size, enqueue.etag, now, now)
  on conflict on constraint one_job_for_each_version do nothing
  returning id into made;
  return made;
end
$function$

--: function pipeline.erase(bigint,integer,interval)
--= "(erasure bigint, max_rows integer DEFAULT 1000, lease interval DEFAULT '00:01:00'::interval) returns text, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", enable_seqscan=off, body 00edb70dbdb389511e253e9039a6076d"
CREATE OR REPLACE FUNCTION pipeline.erase(erasure bigint, max_rows integer DEFAULT 1000, lease interval DEFAULT '00:01:00'::interval)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET enable_seqscan TO 'off'
AS $function$
declare
  now constant timestamptz := pipeline.now();
  -- Longer than the longest statement of a listener: what had looked before all was gone has ended, or has written.
  second_look constant interval := interval '10 minutes';
  e pipeline.erasures;
  owner uuid;
  n bigint;
  removed bigint := 0;
  job_ids bigint[];
begin
  select * into e from pipeline.erasures i where i.id = erase.erasure and i.completed_at is null for no key update;
  if not found then
    return 'completed';
  end if;
  owner := e.owner_id;
  if cardinality(pipeline.files_of(owner, 1)) > 0 then
    return 'files';
  end if;

  -- First all documents: whoever is about to keep paid work for one waits for its lock, and then finds it deleted.
  update pipeline.documents d set deleted_at = now, updated_at = now
   where d.id = any (array(select i.id from pipeline.documents i
                            where i.owner_id = owner and i.deleted_at is null
                            order by i.id limit max_rows for no key update));
  get diagnostics removed = row_count;
  if removed > 0 then
    update pipeline.erasures i set due_at = now + lease, emptied_at = null where i.id = e.id;
    return 'more';
  end if;

  delete from pipeline.chunks c
   where c.id = any (array(select i.id from pipeline.chunks i where i.owner_id = owner limit max_rows));
  get diagnostics n = row_count;
  e.passages := e.passages + n;
  removed := removed + n;

  delete from pipeline.embeddings v
   where v.ctid = any (array(select i.ctid from pipeline.embeddings i where i.owner_id = owner limit max_rows));
  get diagnostics n = row_count;
  e.embeddings := e.embeddings + n;
  removed := removed + n;

  -- A parse is a whole document's text.
  delete from pipeline.parses p
   where p.id = any (array(select i.id from pipeline.parses i where i.owner_id = owner limit greatest(max_rows / 20, 1)));
  get diagnostics n = row_count;
  e.parses := e.parses + n;
  removed := removed + n;

  delete from pipeline.embedding_purchases p
   where p.ctid = any (array(select i.ctid from pipeline.embedding_purchases i where i.owner_id = owner limit max_rows));
  get diagnostics n = row_count;
  removed := removed + n;

  job_ids := array(select j.id from pipeline.jobs j where j.owner_id = owner order by j.id limit max_rows);
  if cardinality(job_ids) > 0 then
    e.events := e.events + (select count(*) from pipeline.job_events v where v.job_id = any (job_ids));
    delete from pipeline.jobs j where j.id = any (job_ids);
    get diagnostics n = row_count;
    e.jobs := e.jobs + n;
    removed := removed + n;
  end if;

  -- A document takes its passages along: not before these are gone, a step at a time.
  if not exists (select from pipeline.chunks c where c.owner_id = owner) then
    delete from pipeline.documents d
     where d.id = any (array(select i.id from pipeline.documents i
                              where i.owner_id = owner and i.deleted_at is not null limit max_rows));
    get diagnostics n = row_count;
    e.documents := e.documents + n;
    removed := removed + n;
  end if;

  -- Last: the ledger is looked through.
  if removed = 0 then
    removed := coalesce(pipeline.forget_costs(owner, e.pseudonym, max_rows), 0);
    e.costs := e.costs + removed;
  end if;

  if removed = 0 then
    delete from pipeline.wakeups w where w.owner_id = owner;
    delete from pipeline.limits l where l.owner_id = owner;
    e.messages := e.messages + pipeline.blank_messages(owner);
    if e.emptied_at is null or e.emptied_at > now - second_look then
      e.emptied_at := coalesce(e.emptied_at, now);
      e.due_at := e.emptied_at + second_look;
    else
      delete from pipeline.owners o where o.owner_id = owner;
      e.owner_id := null;
      e.completed_at := now;
    end if;
    -- Last, as everywhere: an upload that waits for this row holds all that it needs.
    delete from pipeline.upload_days u where u.owner_id = owner;
  else
    e.emptied_at := null;
    e.due_at := now + lease;
  end if;
  update pipeline.erasures i
     set owner_id = e.owner_id, due_at = e.due_at, emptied_at = e.emptied_at, completed_at = e.completed_at, failures = 0,
         last_error = null, documents = e.documents, passages = e.passages, embeddings = e.embeddings, parses = e.parses,
         jobs = e.jobs, events = e.events, messages = e.messages, costs = e.costs
   where i.id = e.id;
  return case when removed > 0 then 'more' when e.completed_at is null then 'emptied' else 'completed' end;
end
$function$

--: function pipeline.erasures_waiting()
--= "() returns TABLE(waiting bigint, failing bigint, since timestamp with time zone, last_error text), sql, stable, definer, cost 100 rows 1000, search_path=\"\", body da0702951cdc9c5f991e584862300e5e"
CREATE OR REPLACE FUNCTION pipeline.erasures_waiting()
 RETURNS TABLE(waiting bigint, failing bigint, since timestamp with time zone, last_error text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select count(*), count(*) filter (where e.failures > 0), min(e.requested_at), max(e.last_error)
    from pipeline.erasures e
   where e.completed_at is null and e.emptied_at is null
$function$

--: function pipeline.examine_documents(text,integer,boolean)
--= "(after text, max_rows integer DEFAULT 500, fix boolean DEFAULT false) returns pipeline.examined, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body a1f4cedee8bcb03ac9daa3908b846cb1"
CREATE OR REPLACE FUNCTION pipeline.examine_documents(after text, max_rows integer DEFAULT 500, fix boolean DEFAULT false)
 RETURNS pipeline.examined
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  examined pipeline.examined;
  problem record;
begin
  with page as materialized (
    select d.id, d.object_id, d.owner_id, d.deleted_at
      from pipeline.documents d
     where after is null or d.id > after::uuid
     order by d.id
     limit max_rows
  ),
  judged as (
    select p.id, p.object_id,
           case when (select true from auth.users u where u.id = p.owner_id and u.deleted_at is null limit 1) is null
                then case when (select true from pipeline.erasures e where e.owner_id = p.owner_id limit 1) is null
                          then 'a user who is gone' end
                when p.deleted_at is null
                 and (select true from storage.objects o where o.id = p.object_id and o.bucket_id = 'documents' limit 1) is null
                then 'a document whose file is gone' end as problem, p.owner_id
      from page p
  )
  select case when (select count(*) from page) = max_rows then (select p.id::text from page p order by p.id desc limit 1) end,
         (select count(*) from page), array_agg(j.problem order by j.id),
         array_agg(case j.problem when 'a user who is gone' then j.owner_id else j.object_id end::text order by j.id)
    into examined
    from judged j
   where j.problem is not null;
  if fix then
    for problem in select distinct u.kind, u.subject from unnest(examined.problems, examined.subjects) as u (kind, subject) order by 2 loop
      if problem.kind = 'a user who is gone' then
        perform pipeline.request_erasure(problem.subject::uuid);
      else
        perform pipeline.hide_document(problem.subject::uuid, 'The file was deleted.');
      end if;
    end loop;
  end if;
  return examined;
end
$function$

--: function pipeline.examine_files(text,integer,boolean)
--= "(after text, max_rows integer DEFAULT 500, fix boolean DEFAULT false) returns pipeline.examined, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 1eca0baf38f3ba2e320f96d1c0e8e63e"
CREATE OR REPLACE FUNCTION pipeline.examine_files(after text, max_rows integer DEFAULT 500, fix boolean DEFAULT false)
 RETURNS pipeline.examined
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  examined pipeline.examined;
  problem record;
begin
  with page as materialized (
    select o.id, o.name, o.version, (o.metadata ->> 'size')::bigint as size,
           case when o.name ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/' then split_part(o.name, '/', 1)::uuid end as owner
      from storage.objects o
     where o.bucket_id = 'documents' and o.name collate "C" > coalesce(after, '')
     order by o.name collate "C"
     limit max_rows
  ),
  -- One probe of an index for each, whatever the statistics of a restored database say.
  judged as (
    select p.id, p.name,
           case when p.owner is null then 'a file of nobody'
                when p.version is null or p.name ~ '(^|/)[.]{1,2}(/|$)' then 'a file that no upload could make'
                when (select true from auth.users u where u.id = p.owner and u.deleted_at is null limit 1) is null
                then case when (select true from pipeline.erasures e where e.owner_id = p.owner limit 1) is null
                          then 'a user who is gone' end
                when d.id is null then 'a file without a document'
                when d.object_version is distinct from p.version or d.name is distinct from p.name
                then 'a document that is behind its file'
                when (select true from pipeline.jobs j where j.document_id = d.id and j.object_version = d.object_version limit 1) is null
                then 'a file without a job' end as problem
      from page p
      left join lateral (select i.id, i.object_version, i.name from pipeline.documents i
                          where i.object_id = p.id and i.deleted_at is null limit 1) d on true
     where not (p.name like '%/.emptyFolderPlaceholder' and coalesce(p.size, 0) <= 16 and d.id is null)
  )
  select case when (select count(*) from page) = max_rows then (select max(p.name collate "C") from page p) end,
         (select count(*) from page), array_agg(j.problem order by j.name collate "C"),
         array_agg(case j.problem when 'a user who is gone' then split_part(j.name, '/', 1)
                                  when 'a file of nobody' then j.name else j.id::text end order by j.name collate "C")
    into examined
    from judged j
   where j.problem is not null;
  if fix then
    for problem in select distinct u.kind, u.subject from unnest(examined.problems, examined.subjects) as u (kind, subject) order by 2 loop
      if problem.kind = 'a user who is gone' then
        perform pipeline.request_erasure(problem.subject::uuid);
      elsif problem.kind not in ('a file of nobody', 'a file that no upload could make') then
        perform pipeline.take_in(problem.subject::uuid);
      end if;
    end loop;
  end if;
  return examined;
end
$function$

--: function pipeline.examine_vectors(text,integer,boolean,text)
--= "(after text, max_rows integer DEFAULT 100, fix boolean DEFAULT false, space text DEFAULT NULL::text) returns pipeline.examined, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 0f5d7d884bc00f4fe8a2ba1787d25b18"
CREATE OR REPLACE FUNCTION pipeline.examine_vectors(after text, max_rows integer DEFAULT 100, fix boolean DEFAULT false, space text DEFAULT NULL::text)
 RETURNS pipeline.examined
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  examined pipeline.examined;
  wanted constant smallint := (select s.id from pipeline.spaces s where case when examine_vectors.space is null then s.active else s.name = examine_vectors.space end);
  lacking record;
begin
  if wanted is null then
    raise exception using errcode = 'undefined_object', message = coalesce(format('There is no embedding space %L.', space), 'No embedding space is active.');
  end if;
  with page as materialized (
    select d.id, d.published_job_id, d.published_version = d.object_version as newest from pipeline.documents d
     where after is null or d.id > after::uuid
     order by d.id
     limit max_rows
  ),
  judged as materialized (
    select p.id, p.newest, n.chunks
      from page p cross join lateral (select pipeline.chunks_without_vector(p.id, wanted) as chunks) n
     where p.published_job_id is not null and n.chunks > 0
       -- What is on its way is no problem of the active space.
       and (examine_vectors.space is not null
            or (select true from pipeline.jobs j
                 where j.document_id = p.id and j.state in ('available', 'running') limit 1) is null)
  )
  -- The subject is the document and how many chunks it is about.
  select case when (select count(*) from page) = max_rows then (select p.id::text from page p order by p.id desc limit 1) end,
         (select count(*) from page), array_agg('a document that lacks vectors' || case when j.newest then '' else ', and whose newer version failed' end order by j.id),
         array_agg(format('%s %s', j.id, j.chunks) order by j.id)
    into examined
    from judged j;
  if fix then
    for lacking in
      select d.id, j.id as job_id
        from unnest(examined.subjects) as u (subject)
        join pipeline.documents d on d.id = split_part(u.subject, ' ', 1)::uuid
        join pipeline.jobs j on j.id = d.published_job_id
       -- The bytes of an older version are no longer there.
       where d.published_version = d.object_version and j.state in ('completed', 'dead', 'cancelled')
       order by d.id
    loop
      perform from pipeline.documents d
        where d.id = lacking.id and d.deleted_at is null and d.object_version = d.published_version
          and d.published_job_id = lacking.job_id
          for no key update;
      if found then
        perform pipeline.do_again(lacking.job_id);
      end if;
    end loop;
  end if;
  return examined;
end
$function$

--: function pipeline.fail(bigint,integer,text,text,text,interval)
--= "(job_id bigint, attempt integer, error_class text, error text, error_detail text DEFAULT NULL::text, retry_after interval DEFAULT NULL::interval) returns text, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 94143287b7c65e5f25f69a1501270009"
CREATE OR REPLACE FUNCTION pipeline.fail(job_id bigint, attempt integer, error_class text, error text, error_detail text DEFAULT NULL::text, retry_after interval DEFAULT NULL::interval)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  costs constant integer := case when fail.error_class in ('transient', 'crash', 'lost') then 1 else 0 end;
  again boolean := false;
  new_state text;
begin
  if fail.error_class not in ('transient', 'crash', 'lost', 'throttled', 'permanent', 'configuration', 'budget') then
    raise exception using errcode = 'invalid_parameter_value', message = format('%L is no class of failure.', fail.error_class);
  end if;
  if fail.error_class = 'crash' then
    -- The bytes of a job are always the same: what ends the parser twice would end it for ever.
    select j.failures > 0 into again
      from pipeline.jobs j
     where j.id = fail.job_id
       and exists (select from pipeline.job_events e where e.job_id = j.id and e.error_class = 'crash');
  end if;
  update pipeline.jobs j
     set state = case when fail.error_class = 'permanent' or again or j.failures + costs >= s.max_failures and costs = 1
                      then 'dead' else 'available' end,
         failures = j.failures + costs,
         available_at = pipeline.now() + case fail.error_class
           when 'transient' then coalesce(fail.retry_after, pipeline.backoff(j.failures + 1))
           when 'crash' then coalesce(fail.retry_after, pipeline.backoff(j.failures + 1))
           when 'lost' then coalesce(fail.retry_after, pipeline.backoff(j.failures + 1))
           when 'throttled' then coalesce(fail.retry_after, interval '30 seconds') * (1 + 0.2 * pg_catalog.random())
           when 'budget' then coalesce(fail.retry_after, interval '1 hour') + interval '1 minute' * pg_catalog.random()
           else coalesce(fail.retry_after, interval '60 seconds') end,
         finished_at = case when fail.error_class = 'permanent' or again
                              or j.failures + costs >= s.max_failures and costs = 1 then pipeline.now() end,
         claimed_by = null, lease_expires_at = null,
         error_class = fail.error_class, error_detail = fail.error_detail,
         error = case when fail.error_class = 'lost' and j.failures + 1 >= s.max_failures
                      then 'Storage lost the file; upload it again.' else fail.error end
    from pipeline.settings s
   where j.id = fail.job_id and j.attempt = fail.attempt and j.state = 'running' and j.lease_expires_at > pipeline.now()
  returning j.state into new_state;
  return new_state;
end
$function$

--: function pipeline.files_of(uuid,integer)
--= "(owner_id uuid, max_files integer) returns text[], sql, stable, cost 100 rows 0, search_path=\"\", body 764d434c904e471ac1ae6add161df628"
CREATE OR REPLACE FUNCTION pipeline.files_of(owner_id uuid, max_files integer)
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(array_agg(f.name), '{}')
    from (select o.name from storage.objects o
           where o.bucket_id = 'documents' and o.name collate "C" >= $1 || '/' and o.name collate "C" < $1 || '0'
           order by o.name collate "C"
           limit $2) f
$function$

--: function pipeline.files_to_erase(bigint,integer,interval)
--= "(erasure bigint, max_files integer DEFAULT 200, lease interval DEFAULT '00:01:00'::interval) returns text[], plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 0fe6b4ff49870f56c18c945e0fbbc0d5"
CREATE OR REPLACE FUNCTION pipeline.files_to_erase(erasure bigint, max_files integer DEFAULT 200, lease interval DEFAULT '00:01:00'::interval)
 RETURNS text[]
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  owner uuid;
begin
  update pipeline.erasures e set due_at = pipeline.now() + lease
   where e.id = erasure and e.completed_at is null
  returning e.owner_id into owner;
  return pipeline.files_of(owner, max_files);
end
$function$

--: function pipeline.first_letter(text)
--= "(word text) returns integer, sql, immutable, cost 100 rows 0, search_path=\"\", body ce6f0996a4d869aecaab3c570a029539"
CREATE OR REPLACE FUNCTION pipeline.first_letter(word text)
 RETURNS integer
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  -- Behind the quote and the owner's token.
  select pg_catalog.ascii(pg_catalog.substr($1, 6))
$function$

--: function pipeline.forget_costs(uuid,uuid,integer)
--= "(owner_id uuid, pseudonym uuid, max_rows integer) returns integer, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 356cbf2d9807638cb35edc928f30c752"
CREATE OR REPLACE FUNCTION pipeline.forget_costs(owner_id uuid, pseudonym uuid, max_rows integer)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  changed integer;
begin
  delete from pipeline.budgets b where b.owner_id = forget_costs.owner_id;
  update pipeline.ledger l
     set owner_id = forget_costs.pseudonym, document_id = null, parse_id = null
   where l.id in (select i.id from pipeline.ledger i where i.owner_id = forget_costs.owner_id limit max_rows);
  get diagnostics changed = row_count;
  delete from pipeline.spent_days s where s.owner_id = forget_costs.owner_id and s.amount = 0;
  return changed;
end
$function$

--: function pipeline.forget_jobs(bigint,integer)
--= "(after bigint, max_jobs integer) returns bigint[], plpgsql, volatile, cost 100 rows 0, search_path=\"\", body fbbb990abca2a9b381e651bba48e93db"
CREATE OR REPLACE FUNCTION pipeline.forget_jobs(after bigint, max_jobs integer)
 RETURNS bigint[]
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  cutoff constant timestamptz := pipeline.now() - (select s.keep_history from pipeline.settings s);
  looked_at constant bigint[] := array(select j.id from pipeline.jobs j where j.id > forget_jobs.after order by j.id limit max_jobs);
  forgotten bigint[];
  documents uuid[];
begin
  -- The newest version's job and the published one's stay for as long as the document has content.
  with gone as (
    delete from pipeline.jobs j
     where j.id = any (looked_at) and j.finished_at < cutoff
       and not exists (select from pipeline.documents d
                        where d.id = j.document_id and d.purged_at is null
                          and (d.object_version = j.object_version or d.published_job_id = j.id))
    returning j.id, j.document_id
  )
  select array_agg(g.id), array_agg(distinct g.document_id) into forgotten, documents from gone g;
  delete from pipeline.embedding_purchases p where p.job_id = any (forgotten);
  delete from pipeline.documents d
   where d.id = any (documents) and d.purged_at is not null
     and not exists (select from pipeline.jobs j where j.document_id = d.id)
     and not exists (select from pipeline.embeddings e where e.document_id = d.id)
     and not exists (select from pipeline.parses p where p.document_id = d.id);
  -- A job that stays keeps its last event.
  delete from pipeline.job_events e
   where e.job_id = any (looked_at) and e.at < cutoff
     and exists (select from pipeline.job_events l where l.job_id = e.job_id and l.id > e.id);
  return looked_at;
end
$function$

--: function pipeline.forget_work(uuid,integer)
--= "(after uuid, max_documents integer) returns uuid[], plpgsql, volatile, cost 100 rows 0, search_path=\"\", body b06fcb6678b962dd18d1e565716586f0"
CREATE OR REPLACE FUNCTION pipeline.forget_work(after uuid, max_documents integer)
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  cutoff constant timestamptz := pipeline.now() - (select s.keep_unused_work from pipeline.settings s);
  looked_at constant uuid[] := array(select d.id from pipeline.documents d
                                      where forget_work.after is null or d.id > forget_work.after
                                      order by d.id limit max_documents);
  idle uuid[];
begin
  -- A user who was deleted unseen is erased all the same. But not while most owners have no user: then the users of a
  -- restored project are still to come, or gone for good, and a person decides (`pipeline doctor`).
  if (select 2 * count(u.id) >= count(*)
        from (select i.owner_id from pipeline.owners i where i.max_concurrent_jobs > 0 order by i.owner_id limit 200) o
        left join auth.users u on u.id = o.owner_id and u.deleted_at is null) then
    perform pipeline.request_erasure(d.owner_id)
       from (select distinct i.owner_id from pipeline.documents i where i.id = any (looked_at)) d
      where not exists (select from auth.users u where u.id = d.owner_id and u.deleted_at is null);
  end if;
  -- Who runs pins; as in purge, the owner's lock keeps a claim from starting a job in between.
  with locked as (
    select o.owner_id from pipeline.owners o join pipeline.owner_stops s using (owner_id)
     where o.owner_id in (select d.owner_id from pipeline.documents d where d.id = any (looked_at)) and o.started = s.stopped
     order by o.owner_id
       for no key update of o skip locked
  )
  select array_agg(d.id) into idle
    from pipeline.documents d join locked l on l.owner_id = d.owner_id
   where d.id = any (looked_at);
  delete from pipeline.embeddings e
   where e.document_id = any (idle) and e.bought_at < cutoff
     and not exists (select from pipeline.chunks c where c.owner_id = e.owner_id and c.input_sha256 = e.input_sha256);
  delete from pipeline.parses p
   where p.document_id = any (idle) and p.created_at < cutoff
     and not exists (select from pipeline.documents d
                      where d.owner_id = p.owner_id and d.deleted_at is null and d.content_sha256 = p.content_sha256);
  return looked_at;
end
$function$

--: function pipeline.heal(integer)
--= "(max_rows integer DEFAULT 1000) returns jsonb, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 81881e5f384ced56d65eded0b16a703c"
CREATE OR REPLACE FUNCTION pipeline.heal(max_rows integer DEFAULT 1000)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  due pipeline.healing;
  healed jsonb;
  next_position jsonb;
begin
  select * into due from pipeline.healing h
   where h."position" is not null or h.rested_at < pipeline.now() - h.every
   order by h.every, h.hand
   limit 1
     for no key update skip locked;
  if not found then
    return null;
  end if;
  case due.hand
    when 'waiting' then
      select h.healed, h."position" into healed, next_position
        from pipeline.heal_waiting((due."position" #>> '{}')::uuid, max_rows) h;
    when 'owners' then
      select h.healed, h."position" into healed, next_position
        from pipeline.heal_owners((due."position" #>> '{}')::uuid, max_rows) h;
    when 'queue' then
      select h.healed, h."position" into healed, next_position from pipeline.heal_queue(due."position", max_rows) h;
    when 'jobs' then
      select h.healed, h."position" into healed, next_position
        from pipeline.heal_jobs((due."position" #>> '{}')::bigint, max_rows) h;
  end case;
  update pipeline.healing h
     set "position" = next_position, rested_at = case when next_position is null then pipeline.now() else h.rested_at end
   where h.hand = due.hand;
  return coalesce((select jsonb_object_agg(e.key, e.value) from jsonb_each(healed) e where e.value <> '0'::jsonb), '{}');
end
$function$

--: function pipeline.heal_jobs(bigint,integer)
--= "(after bigint, max_rows integer, OUT healed jsonb, OUT \"position\" jsonb) returns record, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body bebd2a8de59f085d234bef2d6936227e"
CREATE OR REPLACE FUNCTION pipeline.heal_jobs(after bigint, max_rows integer, OUT healed jsonb, OUT "position" jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  looked_at constant bigint[] := array(select j.id from pipeline.jobs j where j.id > coalesce(heal_jobs.after, 0)
                                        order by j.id limit max_rows);
  unseen bigint[];
  endless bigint[];
  queued integer := 0;
  leased integer := 0;
  told integer := 0;
begin
  -- Locked, the row is the newest one; its place is there already if the trigger has made it meanwhile.
  with missing as materialized (
    select j.id, j.owner_id, j.lane, j.available_at
      from pipeline.jobs j
     where j.id = any (looked_at) and j.state = 'available'
       and (select true from pipeline.queue q
             where q.owner_id = j.owner_id and q.lane = j.lane and q.due_at = j.available_at and q.job_id = j.id
             limit 1) is null
     order by j.id
       for no key update skip locked
  ),
  woken as (
    insert into pipeline.wakeups (owner_id, lane, due_at) select m.owner_id, m.lane, m.available_at from missing m
  )
  insert into pipeline.queue (owner_id, lane, due_at, job_id)
  select m.owner_id, m.lane, m.available_at, m.id from missing m
  on conflict do nothing;
  get diagnostics queued = row_count;
  if queued > 0 then
    perform pg_catalog.pg_notify('pipeline_jobs', '');
  end if;

  if exists (select from pipeline.jobs j where j.id = any (looked_at) and j.state = 'running') then
    with checks as materialized (
      select c.due_at, i.job_id from pipeline.lease_checks c cross join lateral unnest(c.job_ids) as i (job_id)
    ),
    unseen as (
      select j.id, j.lease_expires_at
        from pipeline.jobs j
       where j.id = any (looked_at) and j.state = 'running'
         and not exists (select from checks c where c.job_id = j.id and c.due_at <= j.lease_expires_at)
    )
    select array_agg(u.id) into unseen from unseen u;
    insert into pipeline.lease_checks (due_at, job_ids)
    select min(j.lease_expires_at), array_agg(j.id)
      from pipeline.jobs j
     where j.id = any (unseen) and j.state = 'running'
    having count(*) > 0;
    leased := coalesce(cardinality(unseen), 0);
  end if;

  select array_agg(j.id) into endless
    from pipeline.jobs j
    left join lateral (select e.to_state from pipeline.job_events e where e.job_id = j.id order by e.id desc limit 1) e on true
   where j.id = any (looked_at) and e.to_state is distinct from j.state;
  if endless is not null then
    -- Locked first, or an event of a change that is on its way would come before ours.
    perform from pipeline.jobs j where j.id = any (endless) order by j.id for no key update;
    insert into pipeline.job_events (job_id, owner_id, at, from_state, to_state, attempt, failures, stage, claimed_by,
                                     error_class, error)
    select j.id, j.owner_id, pipeline.now(), e.to_state, j.state, j.attempt, j.failures, j.stage, j.claimed_by,
           j.error_class, j.error
      from pipeline.jobs j
      left join lateral (select i.to_state from pipeline.job_events i where i.job_id = j.id order by i.id desc limit 1) e on true
     where j.id = any (endless) and e.to_state is distinct from j.state
     order by j.id;
    get diagnostics told = row_count;
  end if;
  healed := jsonb_build_object('jobs that were not in the queue', queued, 'leases that nobody looked at', leased,
                               'histories without their end', told);
  "position" := case when cardinality(looked_at) = max_rows then to_jsonb(looked_at[max_rows]) end;
end
$function$

--: function pipeline.heal_owners(uuid,integer)
--= "(after uuid, max_rows integer, OUT healed jsonb, OUT \"position\" jsonb) returns record, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 9e16c40cd22e77277c4e2d8f61b48b7b"
CREATE OR REPLACE FUNCTION pipeline.heal_owners(after uuid, max_rows integer, OUT healed jsonb, OUT "position" jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  looked_at constant uuid[] := array(select o.owner_id from pipeline.owners o
                                      where heal_owners.after is null or o.owner_id > heal_owners.after
                                      order by o.owner_id limit max_rows);
  suspects uuid[];
  wrong uuid[];
  surplus bigint[];
begin
  -- One at a time: a second healer would see the same difference and take it off once more.
  perform from pipeline.healing h where h.hand = 'owners' for no key update;
  insert into pipeline.owner_stops (owner_id)
  select l.owner_id
    from unnest(looked_at) as l (owner_id)
   where not exists (select from pipeline.owner_stops s where s.owner_id = l.owner_id)
  on conflict do nothing;

  -- Running jobs are found among those whose leases are looked at; who differs from that is counted with care.
  select array_agg(r.owner_id) into suspects
    from pipeline.owners_running r
    left join (select j.owner_id, count(distinct j.id) as running
                 from pipeline.lease_checks c
                cross join lateral unnest(c.job_ids) as i (job_id)
                 join pipeline.jobs j on j.id = i.job_id and j.state = 'running'
                group by j.owner_id) n using (owner_id)
   where r.owner_id = any (looked_at) and r.running <> coalesce(n.running, 0);

  if suspects is not null then
    select array_agg(r.owner_id order by r.owner_id), array_agg(r.running - n.running order by r.owner_id)
      into wrong, surplus
      from pipeline.owners_running r
     cross join lateral (select count(*) as running from pipeline.jobs j
                          where j.owner_id = r.owner_id and j.state = 'running') n
     where r.owner_id = any (suspects) and r.running <> n.running;
    -- What moves meanwhile moves both sides alike, so the difference stays true. Both counters only ever grow.
    update pipeline.owner_stops s set stopped = s.stopped + w.surplus
      from unnest(wrong, surplus) as w (owner_id, surplus)
     where s.owner_id = w.owner_id and w.surplus > 0;
    update pipeline.owners o set started = o.started - w.surplus
      from unnest(wrong, surplus) as w (owner_id, surplus)
     where o.owner_id = w.owner_id and w.surplus < 0;
  end if;
  healed := jsonb_build_object('owners whose counters were wrong', coalesce(cardinality(wrong), 0));
  "position" := case when cardinality(looked_at) = max_rows then to_jsonb(looked_at[max_rows]) end;
end
$function$

--: function pipeline.heal_queue(jsonb,integer)
--= "(after jsonb, max_rows integer, OUT healed jsonb, OUT \"position\" jsonb) returns record, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body d4750f8838c6e801231e9c2e6250dcdb"
CREATE OR REPLACE FUNCTION pipeline.heal_queue(after jsonb, max_rows integer, OUT healed jsonb, OUT "position" jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  looked_at constant pipeline.queue[] := array(
    select q from pipeline.queue q
     where after is null
        or (q.owner_id, q.lane, q.due_at, q.job_id)
           > ((after ->> 'owner_id')::uuid, (after ->> 'lane')::smallint, (after ->> 'due_at')::timestamptz, (after ->> 'job_id')::bigint)
     order by q.owner_id, q.lane, q.due_at, q.job_id
     limit max_rows);
  removed integer;
begin
  delete from pipeline.queue q
   using unnest(looked_at) as l
   where (q.owner_id, q.lane, q.due_at, q.job_id) = (l.owner_id, l.lane, l.due_at, l.job_id)
     and (select true from pipeline.jobs j
           where j.id = q.job_id and j.state = 'available' and j.owner_id = q.owner_id and j.lane = q.lane
             and j.available_at = q.due_at limit 1) is null;
  get diagnostics removed = row_count;
  healed := jsonb_build_object('places in the queue without a job', removed);
  "position" := case when cardinality(looked_at) = max_rows then to_jsonb(looked_at[max_rows]) end;
end
$function$

--: function pipeline.heal_waiting(uuid,integer)
--= "(after uuid, max_rows integer, OUT healed jsonb, OUT \"position\" jsonb) returns record, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body c48bc4556ff27b05086cd6fa721d37c7"
CREATE OR REPLACE FUNCTION pipeline.heal_waiting(after uuid, max_rows integer, OUT healed jsonb, OUT "position" jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  now constant timestamptz := pipeline.now();
  looked_at uuid[];
  woken integer;
begin
  -- From owner to owner, by one probe of the index for each, however many jobs they have.
  with recursive walk as (
    select (select q.owner_id from pipeline.queue q
             where q.owner_id > coalesce(heal_waiting.after, '00000000-0000-0000-0000-000000000000')
             order by q.owner_id limit 1) as owner_id, 1 as step
    union all
    select (select q.owner_id from pipeline.queue q where q.owner_id > k.owner_id order by q.owner_id limit 1), k.step + 1
      from walk k
     where k.owner_id is not null and k.step < max_rows
  )
  select array_agg(k.owner_id order by k.step) into looked_at from walk k where k.owner_id is not null;

  insert into pipeline.wakeups (owner_id, lane, due_at)
  select l.owner_id, lanes.lane, now
    from unnest(looked_at) as l (owner_id) cross join unnest('{1, 2}'::smallint[]) as lanes (lane)
   -- One probe of the index for each, which the order sees to: exists() would read all that are due.
   where (select true from pipeline.queue q
           where q.owner_id = l.owner_id and q.lane = lanes.lane and q.due_at <= now order by q.due_at limit 1)
     and (select true from pipeline.owners o where o.owner_id = l.owner_id and o.lanes & lanes.lane > 0 limit 1) is null
     and (select true from pipeline.wakeups w
           where w.owner_id = l.owner_id and w.lane = lanes.lane and w.due_at <= now order by w.due_at limit 1) is null;
  get diagnostics woken = row_count;
  if woken > 0 then
    perform pg_catalog.pg_notify('pipeline_jobs', '');
  end if;
  healed := jsonb_build_object('owners that nobody was woken for', woken);
  "position" := case when cardinality(looked_at) = max_rows then to_jsonb(looked_at[max_rows]) end;
end
$function$

--: function pipeline.health()
--= "() returns SETOF pipeline.queue_health, sql, stable, definer, cost 100 rows 1000, search_path=\"\", body 3ae7104db1d2205d8e996a1a071aafa3"
CREATE OR REPLACE FUNCTION pipeline.health()
 RETURNS SETOF pipeline.queue_health
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select * from pipeline.queue_health
$function$

--: function pipeline.heartbeat(bigint[],integer[],interval)
--= "(job_ids bigint[], attempts integer[], lease interval) returns SETOF bigint, sql, volatile, definer, cost 100 rows 1000, search_path=\"\", body b726621c40a5a68ec4c5149912f80803"
CREATE OR REPLACE FUNCTION pipeline.heartbeat(job_ids bigint[], attempts integer[], lease interval)
 RETURNS SETOF bigint
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  with held as (
    select j.id
      from unnest(job_ids, attempts) as h (id, attempt)
      join pipeline.jobs j on j.id = h.id and j.attempt = h.attempt
     where j.state = 'running' and j.lease_expires_at > pipeline.now()
     order by j.id
       for no key update of j
  )
  update pipeline.jobs j
     set lease_expires_at = pipeline.now() + lease
    from held
   where j.id = held.id and j.state = 'running' and j.lease_expires_at > pipeline.now()
  returning j.id
$function$

--: function pipeline.hide_document(uuid,text)
--= "(object uuid, reason text) returns void, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body f2a5cc7f13f0ab7005594a7876249caa"
CREATE OR REPLACE FUNCTION pipeline.hide_document(object uuid, reason text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  hidden uuid;
begin
  update pipeline.documents d
     set deleted_at = pipeline.now(), updated_at = pipeline.now()
   where d.object_id = object and d.deleted_at is null
  returning d.id into hidden;
  if hidden is null then
    return;
  end if;
  update pipeline.jobs j
     set state = 'cancelled', finished_at = pipeline.now(), claimed_by = null, lease_expires_at = null,
         error_class = 'deleted', error = reason
   where j.document_id = hidden and j.state in ('available', 'running');
  perform pg_catalog.pg_notify('pipeline_jobs', '');
end
$function$

--: function pipeline.holds(bigint,integer)
--= "(job_id bigint, attempt integer) returns boolean, sql, stable, cost 100 rows 0, search_path=\"\", body 7be7d4bc3085b901cc680f297bdbba1b"
CREATE OR REPLACE FUNCTION pipeline.holds(job_id bigint, attempt integer)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select exists (select from pipeline.jobs j
                  where j.id = holds.job_id and j.attempt = holds.attempt and j.state = 'running'
                    and j.lease_expires_at > pipeline.now())
$function$

--: function pipeline.is_stored(uuid,text)
--= "(object_id uuid, version text) returns boolean, sql, stable, cost 100 rows 0, search_path=\"\", body a8060c42aca9ea553c48ab2924d2e364"
CREATE OR REPLACE FUNCTION pipeline.is_stored(object_id uuid, version text)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select exists (select from storage.objects o where o.id = $1 and o.version = $2 and o.bucket_id = 'documents')
$function$

--: function pipeline.jobs_broadcast()
--= "() returns trigger, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", enable_nestloop=off, body 5b3964eec31929c32ad9773e757f5d69"
CREATE OR REPLACE FUNCTION pipeline.jobs_broadcast()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET enable_nestloop TO 'off'
AS $function$
begin
  -- A project may run without Realtime; polling the view works all the same.
  if to_regclass('realtime.messages') is null then
    return null;
  end if;
  if tg_op = 'INSERT' then
    insert into realtime.messages (payload, event, topic, private, extension)
    select pipeline.message(n), 'job_changed', 'user:' || n.owner_id || ':jobs', true, 'broadcast'
      from new_jobs n;
  else
    -- What its owner cannot see, such as a renewed lease, is not told.
    insert into realtime.messages (payload, event, topic, private, extension)
    select pipeline.message(n), 'job_changed', 'user:' || n.owner_id || ':jobs', true, 'broadcast'
      from old_jobs o join new_jobs n using (id)
     where (o.state, o.stage, o.progress, o.attempt, o.error) is distinct from (n.state, n.stage, n.progress, n.attempt, n.error);
  end if;
  return null;
exception
  -- Nobody's job fails because nobody could be told of it.
  when others then
    raise warning 'Realtime was not told: %', sqlerrm;
    return null;
end
$function$

--: function pipeline.jobs_deleted()
--= "() returns trigger, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body a7f679afa7e55bda5fb198c9d04b07de"
CREATE OR REPLACE FUNCTION pipeline.jobs_deleted()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  delete from pipeline.job_events e where e.job_id in (select id from old_jobs);
  delete from pipeline.queue q
   where q.ctid = any (array(select (select i.ctid from pipeline.queue i
                                      where i.owner_id = o.owner_id and i.lane = o.lane and i.due_at = o.available_at
                                        and i.job_id = o.id)
                               from old_jobs o
                              where o.state = 'available'));
  perform pipeline.count_stopped(array_agg(o.owner_id))
    from old_jobs o
   where o.state = 'running'
  having count(*) > 0;
  return null;
end
$function$

--: function pipeline.jobs_inserted()
--= "() returns trigger, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 0333c9d562a31d88498ed9b75fb1da90"
CREATE OR REPLACE FUNCTION pipeline.jobs_inserted()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  if exists (select from new_jobs where state <> 'available' or attempt <> 0) then
    raise exception using errcode = 'check_violation', message = 'A job begins available, with attempt 0.';
  end if;
  with history as (
    insert into pipeline.job_events (job_id, owner_id, at, to_state, attempt, failures)
    select id, owner_id, created_at, state, attempt, failures from new_jobs order by id
  ),
  woken as (
    insert into pipeline.wakeups (owner_id, lane, due_at)
    select owner_id, lane, min(available_at) from new_jobs
     group by owner_id, lane, case when available_at > pipeline.now() then available_at end
  )
  insert into pipeline.queue (owner_id, lane, due_at, job_id)
  select owner_id, lane, available_at, id from new_jobs;
  perform pg_catalog.pg_notify('pipeline_jobs', '');
  return null;
end
$function$

--: function pipeline.jobs_updated()
--= "() returns trigger, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", enable_nestloop=off, body 34f1958217b6e2aacba4e9aa82d6a8fa"
CREATE OR REPLACE FUNCTION pipeline.jobs_updated()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET enable_nestloop TO 'off'
AS $function$
declare
  now constant timestamptz := pipeline.now();
  wrong text;
  was_queued boolean;
  is_queued boolean;
  cancelled boolean;
  lease_ends timestamptz;
  leased bigint[];
  started uuid[];
  stopped uuid[];
begin
  with changed as materialized (
    select n.id, n.owner_id, o.state as from_state, n.state as to_state, n.attempt, n.failures, n.stage,
           coalesce(n.claimed_by, o.claimed_by) as claimed_by, n.error_class, n.error, n.lease_expires_at,
           o.state <> n.state or o.attempt <> n.attempt as moved,
           case when o.state = n.state and o.attempt = n.attempt then null
                when (o.state, n.state) not in (select t.from_state, t.to_state from pipeline.job_transitions t)
                then format('Job %s cannot go from %s to %s.', n.id, o.state, n.state)
                when n.attempt <> o.attempt + (n.state = 'running')::int
                then format('The attempt of job %s cannot go from %s to %s.', n.id, o.attempt, n.attempt)
                -- Judged here, where whoever had to wait for the row has it.
                when n.state = 'completed' and o.lease_expires_at <= now
                then format('Job %s cannot be completed: its lease is over.', n.id) end as wrong
      from old_jobs o join new_jobs n using (id)
     where o.state <> n.state or o.attempt <> n.attempt or n.lease_expires_at < o.lease_expires_at
        or n.state = 'available' and (o.owner_id, o.lane, o.available_at) <> (n.owner_id, n.lane, n.available_at)
  ),
  history as (
    insert into pipeline.job_events (job_id, owner_id, at, from_state, to_state, attempt, failures, stage, claimed_by,
                                     error_class, error)
    select id, owner_id, now, from_state, to_state, attempt, failures, stage, claimed_by, error_class, error
      from changed
     where moved
  )
  select min(c.wrong), bool_or(c.from_state = 'available'), bool_or(c.to_state = 'available'),
         bool_or(c.from_state = 'running' and c.to_state = 'cancelled'),
         min(c.lease_expires_at) filter (where c.to_state = 'running'), array_agg(c.id) filter (where c.to_state = 'running'),
         array_agg(c.owner_id) filter (where c.moved and c.to_state = 'running'),
         array_agg(c.owner_id) filter (where c.moved and c.from_state = 'running')
    into wrong, was_queued, is_queued, cancelled, lease_ends, leased, started, stopped
    from changed c;

  if wrong is not null then
    raise exception using errcode = 'check_violation', message = wrong,
      hint = 'The legal transitions are the rows of pipeline.job_transitions.';
  end if;
  if was_queued then
    -- one probe of the index for each, whatever the statistics say
    delete from pipeline.queue q
     where q.ctid = any (array(select (select i.ctid from pipeline.queue i
                                        where i.owner_id = o.owner_id and i.lane = o.lane and i.due_at = o.available_at
                                          and i.job_id = o.id)
                                 from old_jobs o
                                where o.state = 'available'));
  end if;
  if is_queued then
    insert into pipeline.queue (owner_id, lane, due_at, job_id)
    select n.owner_id, n.lane, n.available_at, n.id from new_jobs n where n.state = 'available'
    on conflict do nothing;  -- that of a job which changed nothing of it
    insert into pipeline.wakeups (owner_id, lane, due_at)
    -- One for all that are due, and one for each that becomes due: when that comes, the first one is used up.
    select n.owner_id, n.lane, min(n.available_at) from new_jobs n where n.state = 'available'
     group by n.owner_id, n.lane, case when n.available_at > now then n.available_at end;
    perform pg_catalog.pg_notify('pipeline_jobs', '');
  end if;
  if leased is not null then
    insert into pipeline.lease_checks (due_at, job_ids) values (lease_ends, leased);
  end if;
  if stopped is not null then
    perform pipeline.count_stopped(stopped);
  end if;
  if started is not null then
    perform pipeline.count_started(started);
  end if;
  -- Whoever works on a cancelled job should stop spending now, not at the next heartbeat.
  if cancelled then
    perform pg_catalog.pg_notify('pipeline_jobs', 'cancelled');
  end if;
  return null;
end
$function$

--: function pipeline.ledger_changed()
--= "() returns trigger, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 208011f81f6a26914f197c6dc7fd2f39"
CREATE OR REPLACE FUNCTION pipeline.ledger_changed()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  if tg_op = 'INSERT' then
    perform pipeline.add_spent(array_agg((n.at at time zone 'utc')::date), array_agg(n.owner_id), array_agg(n.amount))
       from new_rows n where n.amount is not null having count(*) > 0;
  elsif tg_op = 'DELETE' then
    perform pipeline.add_spent(array_agg((o.at at time zone 'utc')::date), array_agg(o.owner_id), array_agg(-o.amount))
       from old_rows o where o.amount is not null having count(*) > 0;
  else
    perform pipeline.add_spent(array_agg((c.at at time zone 'utc')::date), array_agg(c.owner_id), array_agg(c.amount))
       from (select n.at, n.owner_id, n.amount from new_rows n join old_rows o using (id)
              where n.amount is not null and (o.amount, o.owner_id, o.at) is distinct from (n.amount, n.owner_id, n.at)
             union all
             select o.at, o.owner_id, -o.amount from new_rows n join old_rows o using (id)
              where o.amount is not null and (o.amount, o.owner_id, o.at) is distinct from (n.amount, n.owner_id, n.at)) c
     having count(*) > 0;
  end if;
  return null;
end
$function$

--: function pipeline.lexemes(uuid,text,text)
--= "(owner_id uuid, heading text, content text) returns tsvector, plpgsql, stable, cost 100 rows 0, search_path=\"\", body 0cf22ee139900bf23ef3555c803806c9"
CREATE OR REPLACE FUNCTION pipeline.lexemes(owner_id uuid, heading text, content text)
 RETURNS tsvector
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  -- As quoted() spells it, once for the passage and not for each of its words: a publish calls this ten thousand times.
  opening constant text := '''' || pipeline.owner_token(owner_id);
begin
  return coalesce(
    (select pg_catalog.string_agg(
              opening || pg_catalog.replace(pg_catalog.replace(t.lexeme, E'\\', E'\\\\'), '''', '''''') || ''':' || least(t.position, 16383), ' ')
       from pipeline.tokens(pg_catalog.concat_ws(E'\n', heading, content)) t), '')::pg_catalog.tsvector;
end
$function$

--: function pipeline.limited(pipeline.pace,double precision,timestamp with time zone)
--= "(p pipeline.pace, cost double precision, now timestamp with time zone) returns pipeline.pace, plpgsql, immutable, cost 100 rows 0, search_path=\"\", body 191f317a7495dc3295b51f93560b920f"
CREATE OR REPLACE FUNCTION pipeline.limited(p pipeline.pace, cost double precision, now timestamp with time zone)
 RETURNS pipeline.pace
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
declare
  seconds constant double precision := greatest(extract(epoch from now - p.limited_at), 0.1);
  -- At each refusal less is left than the refused call asked for. So what went through between two of them is what the
  -- provider allows, give or take one call: a long time measures well, a short one gives bounds.
  measured constant double precision := p.accepted * 60 / seconds;
  slack constant double precision := cost * 60 / seconds;
  before double precision := coalesce(p.per_minute, measured, 0);
begin
  if before = 0 and now - p.raised_at >= interval '1 minute' then
    -- Nothing ever went through, and any limit has refilled meanwhile: the call itself is larger than it.
    before := cost;
  elsif before = 0 then
    p.raised_at := coalesce(p.raised_at, now);
  end if;
  if before > 0 then
    p.per_minute := case when p.told or p.per_minute is null then before * 0.7
                         when seconds >= 15 then least(greatest(measured * 0.98, before * 0.7), before * 0.98)
                         else greatest(least(before * 0.7, measured + slack), measured - slack) end;
    p.ceiling := before;
    p.available := least(coalesce(p.available, 0), 0);
    p.at := now;
    p.raised_at := now;
  end if;
  p.told := false;
  p.accepted := 0;
  p.limited_at := now;
  return p;
end
$function$

--: function pipeline.limits_changed()
--= "() returns trigger, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 4b6c79e4b5d4bee770dbe638ab53b06c"
CREATE OR REPLACE FUNCTION pipeline.limits_changed()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  update pipeline.owners o
     set max_concurrent_jobs = l.max_concurrent_jobs, priority = l.priority, taken = 0
    from pipeline.owners i cross join lateral pipeline.limits_of(i.owner_id) l
   -- who may run none is being erased
   where i.owner_id = o.owner_id and (o.max_concurrent_jobs, o.priority) <> (l.max_concurrent_jobs, l.priority)
     and o.max_concurrent_jobs > 0;
  return null;
end
$function$

--: function pipeline.limits_of(uuid)
--= "(owner_id uuid) returns pipeline.limits, plpgsql, stable, cost 100 rows 0, search_path=\"\", body 91287eb7205ce2259dc516ab6191b24f"
CREATE OR REPLACE FUNCTION pipeline.limits_of(owner_id uuid)
 RETURNS pipeline.limits
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  found pipeline.limits;
begin
  select * into found
    from pipeline.limits l
   where l.owner_id = limits_of.owner_id or l.owner_id is null
   order by l.owner_id nulls last
   limit 1;
  return found;
end
$function$

--: function pipeline.listener_seen(text,text,text,text,boolean,text[])
--= "(id text, release text, parser text, space text, stopped boolean DEFAULT false, keys text[] DEFAULT '{}'::text[]) returns boolean, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 9e97e66979d6d68cfae9ae08a13f4e13"
CREATE OR REPLACE FUNCTION pipeline.listener_seen(id text, release text, parser text, space text, stopped boolean DEFAULT false, keys text[] DEFAULT '{}'::text[])
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  insert into pipeline.listeners as l (id, started_at, seen_at, release, parser, space, keys)
  values ($1, pipeline.now(), pipeline.now(), $2, $3, $4, $6)
  on conflict on constraint listeners_pkey do update
     set seen_at = pipeline.now(), stopped_at = case when $5 then pipeline.now() end;
  delete from pipeline.listeners l where l.seen_at < pipeline.now() - interval '7 days';
  return case when not stopped then pipeline.watch_providers($1) else false end;
end
$function$

--: function pipeline.locked_key(text,text,text)
--= "(provider text, fingerprint text, stage text) returns pipeline.provider_keys, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body fa2200ea87efe01078d71103cf626815"
CREATE OR REPLACE FUNCTION pipeline.locked_key(provider text, fingerprint text, stage text)
 RETURNS pipeline.provider_keys
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  key pipeline.provider_keys;
begin
  loop
    select * into key from pipeline.provider_keys k
     where k.provider = locked_key.provider and k.fingerprint = locked_key.fingerprint
       for no key update;
    exit when found;
    insert into pipeline.provider_keys (provider, fingerprint, stage)
    values (locked_key.provider, locked_key.fingerprint, locked_key.stage)
    on conflict do nothing;
  end loop;
  return key;
end
$function$

--: function pipeline.lost_files_count()
--= "() returns TABLE(files bigint, owners bigint), sql, stable, definer, cost 100 rows 1000, search_path=\"\", body 00348f358b57c612a84197c1f703a9fc"
CREATE OR REPLACE FUNCTION pipeline.lost_files_count()
 RETURNS TABLE(files bigint, owners bigint)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select count(*), count(distinct l.owner_id) from pipeline.lost_files l
$function$

--: function pipeline.mark_bucket()
--= "() returns timestamp with time zone, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 1d5c2dbb54e13c852600353dd9a3f0d5"
CREATE OR REPLACE FUNCTION pipeline.mark_bucket()
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  mark timestamptz;
begin
  if not has_table_privilege('storage.buckets', 'update') then
    -- A platform that lets us write no bucket: the time that is there proves less, and still tells most projects apart.
    return pipeline.bucket_mark();
  end if;
  -- Whole milliseconds, as Storage tells them; never the same twice.
  update storage.buckets b
     set updated_at = greatest(date_trunc('milliseconds', pipeline.now()),
                               date_trunc('milliseconds', b.updated_at) + interval '1 millisecond')
   where b.id = 'documents'
  returning b.updated_at into mark;
  return mark;
end
$function$

--: function pipeline.message(pipeline.jobs)
--= "(job pipeline.jobs) returns jsonb, plpgsql, stable, cost 100 rows 0, search_path=\"\", body cb8eb0f65bdf7f90ba6d95724353cbcf"
CREATE OR REPLACE FUNCTION pipeline.message(job pipeline.jobs)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  return jsonb_build_object('id', job.id, 'document_id', job.document_id, 'name', job.name, 'state', job.state,
                            'stage', job.stage, 'progress', job.progress, 'attempt', job.attempt, 'error', job.error);
end
$function$

--: function pipeline.missing_price(text,text,text,uuid)
--= "(provider text, model text, stage text, owner_id uuid DEFAULT NULL::uuid) returns text, sql, stable, definer, cost 100 rows 0, search_path=\"\", body 66f83735f1f5e330543e32af35456f06"
CREATE OR REPLACE FUNCTION pipeline.missing_price(provider text, model text, stage text, owner_id uuid DEFAULT NULL::uuid)
 RETURNS text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select format('%s %s %s', $1, $2, u.unit)
    from (select case $3 when 'parse' then 'page' else 'token' end as unit) u
   where pipeline.unit_price($1, $2, u.unit, pipeline.now()) is null
     and case when $4 is null then exists (select from pipeline.budgets b where b.amount is not null)
              else exists (select from pipeline.budgets_of($4)) end
$function$

--: function pipeline.nearest_by_index(uuid,text,integer,extensions.vector,pipeline.spaces)
--= "(owner uuid, visible text, wanted integer, query_embedding extensions.vector, space pipeline.spaces) returns SETOF pipeline.neighbour, plpgsql, stable, cost 100 rows 1000, search_path=\"\", enable_seqscan=off, enable_sort=off, body eed48811ec1782aa8ae3fbc79422d666"
CREATE OR REPLACE FUNCTION pipeline.nearest_by_index(owner uuid, visible text, wanted integer, query_embedding extensions.vector, space pipeline.spaces)
 RETURNS SETOF pipeline.neighbour
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_sort TO 'off'
AS $function$
declare
  -- Set at run time and put back, not by the function's definition: that could only be made, and a dump of it only be
  -- restored, by a session that has used a vector, as the caller of this function has. Below 0.8 there is no iterative scan.
  ef_search constant text := current_setting('hnsw.ef_search');
  iterative_scan constant text := current_setting('hnsw.iterative_scan', true);
begin
  perform pipeline.put_setting('hnsw.ef_search', '100');
  if iterative_scan is not null then
    perform pipeline.put_setting('hnsw.iterative_scan', 'relaxed_order');
  end if;
  return query execute format(
    'select n.id, 1 - n.distance from (select (select c.id from pipeline.chunks c join pipeline.documents d on d.id = c.document_id '
    '    where c.owner_id = e.owner_id and c.input_sha256 = e.input_sha256 and %1$s limit 1) as id, '
    '  e.embedding::extensions.halfvec(%2$s) operator(extensions.<=>) $1::extensions.halfvec(%2$s) as distance '
    'from pipeline.embeddings e where e.owner_id = %3$L and e.space_id = %4$s '
    'order by 2 limit %5$s) n where n.id is not null',
    visible, space.dimensions, owner, space.id, wanted + 10)
    using query_embedding;
  perform pipeline.put_setting('hnsw.ef_search', ef_search);
  if iterative_scan is not null then
    perform pipeline.put_setting('hnsw.iterative_scan', iterative_scan);
  end if;
end
$function$

--: function pipeline.note_work(bigint,integer,text,text,text,integer,integer,bigint)
--= "(job_id bigint, attempt integer, stage text, provider text, model text, pages integer, inputs integer, tokens bigint) returns void, sql, volatile, definer, cost 100 rows 0, search_path=\"\", body 9892b0dddc6cf12616f11a8a2c88fc8a"
CREATE OR REPLACE FUNCTION pipeline.note_work(job_id bigint, attempt integer, stage text, provider text, model text, pages integer, inputs integer, tokens bigint)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  insert into pipeline.job_work as w (job_id, stage, provider, model, pages, inputs, tokens)
  select $1, $3, $4, $5, $6, $7, $8 where pipeline.holds($1, $2)
  on conflict (job_id, stage) do update
     set provider = excluded.provider, model = excluded.model, pages = excluded.pages, inputs = excluded.inputs,
         tokens = excluded.tokens
$function$

--: function pipeline.now()
--= "() returns timestamp with time zone, sql, stable, cost 100 rows 0, search_path=\"\", body 3224ce03dca1ad4b11bae5ba30ac4cf0"
CREATE OR REPLACE FUNCTION pipeline.now()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select pg_catalog.clock_timestamp()
$function$

--: function pipeline.object_gone()
--= "() returns trigger, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 2488a692a899bb1d8edaf6e74de9a760"
CREATE OR REPLACE FUNCTION pipeline.object_gone()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  folder constant text := split_part(old.name, '/', 1);
begin
  -- The erasure's row first: it comes ahead of documents in the order of locks.
  if tg_op = 'DELETE' and folder ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
    perform pipeline.count_erased_file(folder::uuid, (old.metadata ->> 'size')::bigint);
  end if;
  perform pipeline.hide_document(old.id, 'The file was deleted.');
  return null;
end
$function$

--: function pipeline.object_written()
--= "() returns trigger, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 7c6c984330ac8a18cdc1a89bf1363bbb"
CREATE OR REPLACE FUNCTION pipeline.object_written()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  folder constant text := split_part(new.name, '/', 1);
  nobody constant text := format(
    'Files in the bucket documents belong to a user: the first folder of the name must be a user''s id, and %L is none.', folder);
  -- The permission check before the bytes move, which is rolled back, needs the refusals alone. That of a move has the final
  -- version, and is done in full.
  stays constant boolean := new.version is distinct from '1';
  size constant bigint := (new.metadata ->> 'size')::bigint;
  now constant timestamptz := pipeline.now();
  known pipeline.documents;
  document pipeline.documents;
  terms record;
  user_id uuid;
  most bigint;
  today constant date := (now at time zone 'utc')::date;
  moved boolean := false;
  counted boolean;
  placeholder boolean;
  new_files integer;
begin
  -- A new object has a document only where a backup brought its row back.
  if tg_op = 'UPDATE' or new.name like '%/.emptyFolderPlaceholder' then
    select * into known from pipeline.documents d where d.object_id = new.id and d.deleted_at is null;
  end if;
  if tg_op = 'UPDATE' and known.id is not null then
    moved := old.bucket_id = new.bucket_id and old.name <> new.name;
  end if;
  -- Not a move, which takes no room, and nothing that an operator uploads with the service key: that has no owner in Storage.
  counted := new.owner_id is not null and not moved;
  -- What Studio makes of a new folder, a few bytes at most, is no document. With content it is a file like any other; and
  -- one that a user makes is counted, or she could store such objects without end.
  placeholder := new.name like '%/.emptyFolderPlaceholder' and known.id is null and coalesce(size, 0) <= 16;
  if placeholder and not counted then
    return null;
  end if;
  if position('/' in new.name) = 0
     or folder !~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
    raise exception using errcode = 'insufficient_privilege', message = nobody;
  end if;
  user_id := folder::uuid;

  -- Storage takes such a name as it is; what stands between it and a listener may not, and would ask for another object.
  if new.name ~ '(^|/)[.]{1,2}(/|$)' then
    raise exception using errcode = 'insufficient_privilege',
      message = 'No folder or file can be called "." or "..": please rename it and upload it again.';
  end if;

  new_files := (not placeholder and known.owner_id is distinct from user_id)::integer;
  if stays and not placeholder then
    loop
      insert into pipeline.documents as d (owner_id, object_id, object_version, bucket_id, name, size, created_at, updated_at)
      values (user_id, new.id, new.version, new.bucket_id, new.name, size, now, now)
      on conflict (object_id) where deleted_at is null do update
         set object_version = excluded.object_version, name = excluded.name, bucket_id = excluded.bucket_id,
             size = excluded.size, updated_at = excluded.updated_at
       where d.owner_id = excluded.owner_id
      returning * into document;
      exit when found;
      -- An object that came into another user's folder is that user's new document, not the old one with a new owner.
      perform pipeline.hide_document(new.id, 'The file was moved to another user.');
      known := null;
    end loop;

    if known.id is not null or document.created_at <> now then
      update pipeline.jobs j
         set state = 'cancelled', finished_at = now, claimed_by = null, lease_expires_at = null,
             error_class = 'superseded', error = 'A newer version of this file took its place.'
       where j.document_id = document.id and j.object_version <> new.version and j.state in ('available', 'running');
    end if;

    -- A move of what was not read asks for another run of the same bytes, which may cost money, as a retry does.
    if moved and new.owner_id is not null
       and (select count(*) from pipeline.jobs j
             where j.document_id = document.id and j.etag = new.metadata ->> 'eTag' and j.state in ('dead', 'cancelled')
               and j.created_at > now - interval '1 day') > (select s.retries_per_day from pipeline.settings s) then
      raise exception using errcode = 'insufficient_privilege',
        message = 'This file was moved too often before it could be read. Wait a day, or upload it again.';
    end if;

    perform pipeline.enqueue(document, new.metadata ->> 'eTag');
  end if;

  -- Last, and in the write that stays under the lock of the owner's row.
  if stays then
    perform pipeline.count_upload(user_id, today, counted::integer, new_files,
                                  coalesce(document.size, 0) - coalesce(known.size, 0));
  end if;
  select l.uploads_per_day, l.max_file_bytes, l.max_documents, l.max_stored_bytes, b.file_size_limit,
         coalesce(case when u.day >= today then u.uploads end, 0) + (not stays)::integer as uploads,
         u.files + case when stays then 0 else new_files end as files, u.bytes,
         -- An id that is given out again is not somebody's while what it stood for is being removed.
         exists (select from auth.users a where a.id = user_id and a.deleted_at is null)
           and not exists (select from pipeline.erasures e where e.owner_id = user_id) as is_user
    into terms
    from storage.buckets b
   cross join pipeline.limits_of(user_id) l
    left join pipeline.upload_days u on u.owner_id = user_id
   where b.id = new.bucket_id;
  if not terms.is_user then
    raise exception using errcode = 'insufficient_privilege', message = nobody;
  end if;
  if counted and terms.uploads > terms.uploads_per_day then
    raise exception using errcode = 'insufficient_privilege',
      message = format('You have reached your limit of uploads for today (%s). The next day begins at midnight UTC.',
                       terms.uploads_per_day);
  end if;
  -- A size that is declared before the bytes move includes the envelope. Storage itself does not hold a body without a
  -- declared length to the limit of the bucket.
  most := least(case when not moved then terms.file_size_limit end, case when counted then terms.max_file_bytes end);
  if stays and size > most then
    raise exception using errcode = 'insufficient_privilege',
      message = case when pg_size_pretty(size) = pg_size_pretty(most)
                     then format('This file has %s bytes; a file may have %s bytes.', size, most)
                     else format('This file has %s; a file may have %s.', pg_size_pretty(size), pg_size_pretty(most)) end;
  end if;
  if counted and (terms.max_documents is not null or terms.max_stored_bytes is not null)
     and (terms.files is null or terms.files > terms.max_documents or terms.bytes > terms.max_stored_bytes) then
    perform pipeline.check_room(user_id, terms.max_documents, terms.max_stored_bytes, case when not stays then new_files end);
  end if;
  return null;
end
$function$

--: function pipeline.observe(text,text,text,text,interval,text)
--= "(provider text, fingerprint text, stage text, outcome text, retry_after interval DEFAULT NULL::interval, reason text DEFAULT NULL::text) returns void, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 1f73dd0ea292b4e8cdfdee0af149d67d"
CREATE OR REPLACE FUNCTION pipeline.observe(provider text, fingerprint text, stage text, outcome text, retry_after interval DEFAULT NULL::interval, reason text DEFAULT NULL::text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  key pipeline.provider_keys;
begin
  perform pipeline.check_outcome(outcome);
  key := pipeline.locked_key(observe.provider, observe.fingerprint, observe.stage);
  key := pipeline.turned(key, outcome, retry_after, reason, pipeline.now());
  update pipeline.provider_keys k
     set state = key.state, state_since = key.state_since, reason = key.reason, outages = key.outages, retry_at = key.retry_at,
         prober = key.prober, probe_until = key.probe_until, probe_call = key.probe_call, cooling_until = key.cooling_until,
         used_at = pipeline.now()
   where k.provider = key.provider and k.fingerprint = key.fingerprint;
end
$function$

--: function pipeline.open_lanes()
--= "() returns smallint[], plpgsql, stable, cost 100 rows 0, search_path=\"\", body 34fb1020413df1e4f50cb3f4949f467d"
CREATE OR REPLACE FUNCTION pipeline.open_lanes()
 RETURNS smallint[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  alive constant text[] := array(select l.id from pipeline.listeners l
                                  where l.stopped_at is null and l.seen_at > pipeline.now() - interval '1 minute');
begin
  return array(select s.lane
                 from (values (1::smallint, 'parse'), (2::smallint, 'embed')) as s (lane, stage)
                where cardinality(alive) = 0
                   or exists (select from unnest(alive) as a (id)
                               where not pipeline.shut_stages(a.id) && array['fetch', s.stage]));
end
$function$

--: function pipeline.other_files(uuid)
--= "(object_id uuid DEFAULT NULL::uuid) returns text[], sql, volatile, definer, cost 100 rows 0, search_path=\"\", body 9c6c728d2f25e58a98c630b4486afc97"
CREATE OR REPLACE FUNCTION pipeline.other_files(object_id uuid DEFAULT NULL::uuid)
 RETURNS text[]
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  with recent as materialized (
    select j.id, j.owner_id, j.state, o.name
      from (select * from pipeline.jobs i order by i.id desc limit 1000) j
      join storage.objects o on o.id = j.object_id and o.version = j.object_version
     where j.object_id is distinct from $1 and j.error_class is distinct from 'lost'
  ),
  chosen as (
    -- Many may be lost together, those of one owner or all that are old: so the newest of several owners, some that were read
    -- before, and some by chance.
    (select n.name from (select distinct on (r.owner_id) r.id, r.name from recent r order by r.owner_id, r.id desc) n
      order by n.id desc limit 2)
    union
    (select r.name from recent r where r.state = 'completed' order by r.id desc limit 2)
    union
    (select r.name from recent r order by pg_catalog.random() limit 2)
  )
  select coalesce(array_agg(c.name), '{}') from chosen c
$function$

--: function pipeline.over_budget(uuid,bigint)
--= "(owner_id uuid, call_id bigint) returns TABLE(reason text, again_at timestamp with time zone), sql, stable, cost 100 rows 1000, search_path=\"\", body 94291e84076811f0ab5360003716c457"
CREATE OR REPLACE FUNCTION pipeline.over_budget(owner_id uuid, call_id bigint)
 RETURNS TABLE(reason text, again_at timestamp with time zone)
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  -- Clients read the reason: of a budget that others share it tells no figures.
  select format(case when o.promised
                     then 'What is left of the %s budget for processing %s is set aside for files at work; this file continues by itself.'
                     else 'The %s budget for processing %s is used up; this file continues by itself on %s.' end,
                case o.period when 'day' then 'daily' else 'monthly' end,
                case o.scope when 'all' then 'at this installation' else 'your files' end,
                to_char(o.renews_at at time zone 'utc', 'FMDD FMMonth YYYY')),
         case when o.promised then pipeline.now() + interval '1 minute' else o.renews_at end
    from (select b.*,
                 -- What is set aside for other calls under way is an estimate, which their bills may fall far below.
                 b.spent - coalesce((select sum(l.amount) from pipeline.ledger l
                                      where l.state = 'reserved' and l.id <> $2
                                        and (b.scope = 'all' or l.owner_id = $1)), 0) <= b.amount as promised
            from pipeline.budgets_of($1) b
           where b.spent > b.amount) o
   order by o.promised, o.renews_at desc
   limit 1
$function$

--: function pipeline.own_job(bigint)
--= "(job_id bigint) returns void, plpgsql, stable, cost 100 rows 0, search_path=\"\", body 17ac8adb12318d6810e454b85d723dea"
CREATE OR REPLACE FUNCTION pipeline.own_job(job_id bigint)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  if not exists (select from pipeline.jobs j
                  where j.id = own_job.job_id
                    and (j.owner_id = (select pipeline.caller()) or (select auth.role()) = 'service_role')) then
    raise sqlstate 'PT404' using message = format('You have no job %s.', own_job.job_id);
  end if;
end
$function$

--: function pipeline.owner_token(uuid)
--= "(owner_id uuid) returns text, sql, immutable, cost 100 rows 0, search_path=\"\", body 26e0d1dbbf081d58d4b40c11f6fa01bb"
CREATE OR REPLACE FUNCTION pipeline.owner_token(owner_id uuid)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  -- The end of a uuid is random in all versions in use. Two owners may share a token; owner_id is compared as well.
  select pg_catalog.encode(pg_catalog.substring(pg_catalog.uuid_send($1), 14), 'base64')
$function$

--: function pipeline.owners_inserted()
--= "() returns trigger, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body f1977fc52e4b33e1ab4192e01c04a269"
CREATE OR REPLACE FUNCTION pipeline.owners_inserted()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  insert into pipeline.owner_stops (owner_id) select n.owner_id from new_owners n;
  return null;
end
$function$

--: function pipeline.parse_question(uuid,text)
--= "(owner_id uuid, input text) returns pipeline.question, plpgsql, stable, cost 100 rows 0, search_path=\"\", standard_conforming_strings=on, body 62c1d68d49a0ac99315ae7b220d04ddc"
CREATE OR REPLACE FUNCTION pipeline.parse_question(owner_id uuid, input text)
 RETURNS pipeline.question
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET standard_conforming_strings TO 'on'
AS $function$
declare
  answer pipeline.question;
  part record;
  meant text := '';
  phrase tsquery;
begin
  for part in
    select coalesce(m[1] = '-', m[3] ~ '^-\w', false) as excluded, m[2] is not null as quoted, coalesce(m[2], m[3]) as words
      from regexp_matches(translate(input, '“”„「」『』', '"""""""'), '(-?)"([^"]+)"|([^\s"]+)', 'g') as m
  loop
    if not part.excluded then
      meant := meant || ' ' || part.words;
    end if;
    if part.excluded or part.quoted then
      phrase := pipeline.phrase(owner_id, ltrim(part.words, '-'));
      if phrase is null then
        continue;
      elsif part.excluded then
        answer.excluded := coalesce(answer.excluded || phrase, phrase);
      else
        answer.required := coalesce(answer.required && phrase, phrase);
      end if;
    end if;
  end loop;
  answer.words := array(
    select distinct pipeline.quoted(owner_id, t.lexeme) || case when t.is_prefix then ':*' else '' end
      from pipeline.tokens(meant, is_question => true) t
     limit 64);
  return answer;
end
$function$

--: function pipeline.phrase(uuid,text)
--= "(owner_id uuid, input text) returns tsquery, plpgsql, stable, cost 100 rows 0, search_path=\"\", body bc53c6ca413385944cac86e92fb5250f"
CREATE OR REPLACE FUNCTION pipeline.phrase(owner_id uuid, input text)
 RETURNS tsquery
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
declare
  answer text;
  word record;
begin
  for word in
    select t.lexeme, t.is_prefix, t.position - lag(t.position) over (order by t.position) as distance
      from pipeline.tokens(input, is_question => true) t
     order by t.position
  loop
    answer := coalesce(answer || format(' <%s> ', word.distance), '')
              || pipeline.quoted(owner_id, word.lexeme) || case when word.is_prefix then ':*' else '' end;
  end loop;
  return answer::pg_catalog.tsquery;
end
$function$

--: function pipeline.postpone_erasure(bigint,text)
--= "(erasure bigint, error text) returns void, sql, volatile, definer, cost 100 rows 0, search_path=\"\", body 4661f084a57b7cdc6c6df9c8197e31d8"
CREATE OR REPLACE FUNCTION pipeline.postpone_erasure(erasure bigint, error text)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  update pipeline.erasures e
     set failures = least(e.failures + 1, 100), last_error = $2,
         due_at = pipeline.now() + least(interval '10 seconds' * power(2, least(e.failures, 10)), interval '10 minutes')
   where e.id = $1 and e.completed_at is null
$function$

--: function pipeline.price_of(text,text,integer,numeric,bigint,timestamp with time zone)
--= "(provider text, model text, pages integer, credits numeric, tokens bigint, at timestamp with time zone) returns numeric, sql, stable, cost 100 rows 0, search_path=\"\", body 21f211da3dc11d6fba360df998bc29cd"
CREATE OR REPLACE FUNCTION pipeline.price_of(provider text, model text, pages integer, credits numeric, tokens bigint, at timestamp with time zone)
 RETURNS numeric
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select case when $4 is not null and pipeline.unit_price($1, $2, 'credit', $6) is not null
              then $4 * pipeline.unit_price($1, $2, 'credit', $6)
              else (case when $3 > 0 then $3 * pipeline.unit_price($1, $2, 'page', $6) else 0 end)
                 + (case when $5 > 0 then $5 * pipeline.unit_price($1, $2, 'token', $6) else 0 end) end
$function$

--: function pipeline.providers()
--= "() returns SETOF pipeline.provider_health, sql, stable, definer, cost 100 rows 1000, search_path=\"\", body 99786e65dfc04293497d80b3da82fc1f"
CREATE OR REPLACE FUNCTION pipeline.providers()
 RETURNS SETOF pipeline.provider_health
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select * from pipeline.provider_health order by provider, fingerprint
$function$

--: function pipeline.pseudonym(uuid)
--= "(owner_id uuid) returns uuid, sql, stable, cost 100 rows 0, search_path=\"\", body 8aa9a52c1f0ae7396b2e7ca016808226"
CREATE OR REPLACE FUNCTION pipeline.pseudonym(owner_id uuid)
 RETURNS uuid
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select encode(substring(sha256(k.key || uuid_send($1)) for 16), 'hex')::uuid from pipeline.pseudonym_key k
$function$

--: function pipeline.publish(bigint,integer,smallint,bytea,text,integer,jsonb,text,integer[],text[],text[],bytea[])
--= "(job_id bigint, attempt integer, space_id smallint, content_sha256 bytea, media_type text, page_count integer, failed_pages jsonb, parser text, pages integer[], headings text[], contents text[], inputs bytea[]) returns integer, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 9449b3b85cea90899babeb067041c1fc"
CREATE OR REPLACE FUNCTION pipeline.publish(job_id bigint, attempt integer, space_id smallint, content_sha256 bytea, media_type text, page_count integer, failed_pages jsonb, parser text, pages integer[], headings text[], contents text[], inputs bytea[])
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  job pipeline.jobs;
  written integer;
begin
  select * into job from pipeline.jobs j where j.id = publish.job_id;
  if not pipeline.holds(publish.job_id, publish.attempt) then
    raise exception using errcode = 'PL001', message = 'The lease is lost.';
  end if;
  -- What the same job published before, where it is done again; readers see it until this transaction ends.
  delete from pipeline.chunks c where c.document_id = job.document_id and c.job_id = job.id;
  -- The slow part first, while nothing is locked; if the fence below does not hold, none of it has happened.
  insert into pipeline.chunks (document_id, job_id, owner_id, ordinal, page, heading, content, input_sha256, lexemes)
  select job.document_id, job.id, job.owner_id, c.ordinal - 1, c.page, c.heading, c.content, c.input,
         pipeline.lexemes(job.owner_id, c.heading, c.content)
    from unnest(pages, headings, contents, inputs) with ordinality as c (page, heading, content, input, ordinal);
  get diagnostics written = row_count;
  if written = 0 then
    raise exception using errcode = 'check_violation', message = 'A document without passages is not published.';
  end if;
  if exists (select from pipeline.chunks c
              where c.document_id = job.document_id and c.job_id = job.id
                -- a scalar, so that it stays one probe of the index for each passage, whatever the statistics say
                and (select true from pipeline.embeddings e
                      where e.owner_id = job.owner_id and e.space_id = publish.space_id
                        and e.input_sha256 = c.input_sha256) is null) then
    raise exception using errcode = 'PL002', message = 'A passage has no vector.';
  end if;

  perform from pipeline.documents d
    where d.id = job.document_id and d.deleted_at is null and d.object_version = job.object_version
      for no key update;
  if not found then
    raise exception using errcode = 'PL001', message = 'The file was replaced or deleted.';
  end if;
  perform pipeline.complete(array[publish.job_id], array[publish.attempt]);
  if not found then
    raise exception using errcode = 'PL001', message = 'The lease is lost.';
  end if;
  delete from pipeline.chunks c where c.document_id = job.document_id and c.job_id <> job.id;
  update pipeline.documents d
     set published_version = job.object_version, published_at = pipeline.now(),
         published_job_id = job.id, content_sha256 = publish.content_sha256, media_type = publish.media_type,
         page_count = publish.page_count, failed_pages = publish.failed_pages, chunk_count = written,
         parser = publish.parser, embedding_model = (select s.model from pipeline.spaces s where s.id = publish.space_id),
         updated_at = pipeline.now()
   where d.id = job.document_id;
  return written;
end
$function$

--: function pipeline.purge(integer)
--= "(max_chunks integer DEFAULT 1000) returns integer, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 2fdf676b0bdf6cd6f0f62944c3389e8a"
CREATE OR REPLACE FUNCTION pipeline.purge(max_chunks integer DEFAULT 1000)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  document pipeline.documents;
  removed integer := 0;
  shas bytea[];
begin
  select d.* into document
    from pipeline.documents d
   where d.deleted_at is not null and d.purged_at is null
     and not exists (select from pipeline.owners_running r where r.owner_id = d.owner_id and r.running > 0)
     -- that one goes whole
     and not exists (select from pipeline.erasures e where e.owner_id = d.owner_id)
   order by d.deleted_at
   limit 1
     for no key update skip locked;
  if not found then
    return 0;
  end if;
  perform from pipeline.owners o join pipeline.owner_stops s using (owner_id)
    where o.owner_id = document.owner_id and o.started = s.stopped
      for no key update of o skip locked;
  if not found and exists (select from pipeline.owners o where o.owner_id = document.owner_id) then
    return 0;
  end if;

  with gone as (
    delete from pipeline.chunks c
     where c.id in (select i.id from pipeline.chunks i where i.document_id = document.id limit max_chunks)
    returning c.input_sha256
  )
  select array_agg(distinct g.input_sha256), count(*) into shas, removed from gone g;
  delete from pipeline.embeddings e
   where e.owner_id = document.owner_id and e.input_sha256 = any (shas)
     and not exists (select from pipeline.chunks c where c.owner_id = e.owner_id and c.input_sha256 = e.input_sha256);
  if removed < max_chunks then
    delete from pipeline.embeddings e
     where e.document_id = document.id
       and not exists (select from pipeline.chunks c where c.owner_id = e.owner_id and c.input_sha256 = e.input_sha256);
    delete from pipeline.embedding_purchases p using pipeline.jobs j
     where j.document_id = document.id and p.job_id = j.id;
    delete from pipeline.parses p
     where (p.document_id = document.id or (p.owner_id = document.owner_id and p.content_sha256 = document.content_sha256))
       and not exists (select from pipeline.documents d
                        where d.owner_id = p.owner_id and d.deleted_at is null and d.content_sha256 = p.content_sha256);
    update pipeline.documents d set purged_at = pipeline.now() where d.id = document.id;
  end if;
  return greatest(removed, 1);
end
$function$

--: function pipeline.put_setting(text,text)
--= "(name text, value text) returns text, sql, stable, cost 100 rows 0, search_path=\"\", body 3d8db880144f8f1bd9d16be65fdd5e47"
CREATE OR REPLACE FUNCTION pipeline.put_setting(name text, value text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select pg_catalog.set_config($1, $2, true)
$function$

--: function pipeline.quoted(uuid,text)
--= "(owner_id uuid, lexeme text) returns text, sql, immutable, cost 100 rows 0, search_path=\"\", body 1c4e7f461e2794cd7474ac8ce8b34f92"
CREATE OR REPLACE FUNCTION pipeline.quoted(owner_id uuid, lexeme text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select '''' || pipeline.owner_token($1)
         || pg_catalog.replace(pg_catalog.replace($2, E'\\', E'\\\\'), '''', '''''') || ''''
$function$

--: function pipeline.refilled(pipeline.pace,timestamp with time zone)
--= "(p pipeline.pace, now timestamp with time zone) returns pipeline.pace, plpgsql, immutable, cost 100 rows 0, search_path=\"\", body d630596fcda5a36a7780c80e026c4a40"
CREATE OR REPLACE FUNCTION pipeline.refilled(p pipeline.pace, now timestamp with time zone)
 RETURNS pipeline.pace
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
begin
  if p.per_minute is not null then
    p.available := least(p.available + p.per_minute / 60 * greatest(extract(epoch from now - p.at), 0), pipeline.saved_at_most(p));
    -- Who waited for the lock may look at an older clock; a clock that was set back is another one.
    p.at := case when extract(epoch from p.at - now) < 60 then greatest(p.at, now) else now end;
  end if;
  return p;
end
$function$

--: function pipeline.release(bigint[],integer[])
--= "(job_ids bigint[], attempts integer[]) returns SETOF bigint, sql, volatile, definer, cost 100 rows 1000, search_path=\"\", body decc0cf5db159e70b7e24d8fca1c1be0"
CREATE OR REPLACE FUNCTION pipeline.release(job_ids bigint[], attempts integer[])
 RETURNS SETOF bigint
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  with held as (
    select j.id
      from unnest(job_ids, attempts) as h (id, attempt)
      join pipeline.jobs j on j.id = h.id and j.attempt = h.attempt
     where j.state = 'running'
     order by j.id
       for no key update of j
  )
  update pipeline.jobs j
     set state = 'available', available_at = pipeline.now(), claimed_by = null, lease_expires_at = null
    from held
   where j.id = held.id and j.state = 'running'
  returning j.id
$function$

--: function pipeline.remember_parse(bigint,bigint,integer,text)
--= "(parse_id bigint, job_id bigint, attempt integer, provider_job_id text) returns boolean, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body c115cdf121323cb57f899fc479650556"
CREATE OR REPLACE FUNCTION pipeline.remember_parse(parse_id bigint, job_id bigint, attempt integer, provider_job_id text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  update pipeline.parses p
     set provider_job_id = remember_parse.provider_job_id
   where p.id = remember_parse.parse_id and p.job_id = remember_parse.job_id and p.attempt = remember_parse.attempt
     and p.pages is null;
  return found;
end
$function$

--: function pipeline.report(bigint,integer,text,real)
--= "(job_id bigint, attempt integer, stage text, progress real) returns boolean, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 7dcc6e06d86b893bd359c5cdd857bf39"
CREATE OR REPLACE FUNCTION pipeline.report(job_id bigint, attempt integer, stage text, progress real)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  update pipeline.jobs j
     set stage = report.stage, progress = report.progress
   where j.id = report.job_id and j.attempt = report.attempt and j.state = 'running'
     and j.lease_expires_at > pipeline.now();
  return found;
end
$function$

--: function pipeline.request_erasure(uuid)
--= "(owner_id uuid) returns void, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 70b7576d2aa073dc24132387e25793f4"
CREATE OR REPLACE FUNCTION pipeline.request_erasure(owner_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
begin
  insert into pipeline.erasures (pseudonym, owner_id)
  values (pipeline.pseudonym(request_erasure.owner_id), request_erasure.owner_id)
  on conflict do nothing;
  -- Jobs before the owner: the order of locks. A claim that comes in between is cancelled by the listener's first step.
  perform pipeline.stop_work(request_erasure.owner_id);
  -- Not an update: a claim may be about to insert the row.
  insert into pipeline.owners as o (owner_id, max_concurrent_jobs, priority)
  values (request_erasure.owner_id, 0, 1)
  on conflict on constraint owners_pkey do update set max_concurrent_jobs = 0;
  -- Uploads that hold this row come first, and the erasure finds what they made; those that wait for it find no user.
  insert into pipeline.upload_days as u (owner_id, day, uploads)
  values (request_erasure.owner_id, (pipeline.now() at time zone 'utc')::date, 0)
  on conflict on constraint upload_days_pkey do update set uploads = u.uploads;
  perform pg_catalog.pg_notify('pipeline_jobs', '');
end
$function$

--: function pipeline.reserve(text,bigint,integer,text,text,text,text,integer,integer,bigint,bigint)
--= "(listener text, job_id bigint, attempt integer, provider text, fingerprint text, stage text, model text, pages integer DEFAULT 0, inputs integer DEFAULT 0, tokens bigint DEFAULT 0, parse_id bigint DEFAULT NULL::bigint) returns TABLE(status text, call_id bigint, wait double precision, reason text), plpgsql, volatile, definer, cost 100 rows 1000, search_path=\"\", body 459fbe357c51140c409baa53f2d8c468"
CREATE OR REPLACE FUNCTION pipeline.reserve(listener text, job_id bigint, attempt integer, provider text, fingerprint text, stage text, model text, pages integer DEFAULT 0, inputs integer DEFAULT 0, tokens bigint DEFAULT 0, parse_id bigint DEFAULT NULL::bigint)
 RETURNS TABLE(status text, call_id bigint, wait double precision, reason text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  job pipeline.jobs;
  key pipeline.provider_keys;
  request_pace pipeline.pace;
  token_pace pipeline.pace;
  now timestamptz;
  pause double precision;
  weight constant double precision := reserve.tokens;
  missing text;
  refusal record;
begin
  select * into job from pipeline.jobs j where j.id = reserve.job_id;
  if not pipeline.holds(reserve.job_id, reserve.attempt) then
    return query select 'lost', null::bigint, 0::double precision, null::text;
    return;
  end if;
  missing := pipeline.missing_price(reserve.provider, reserve.model, reserve.stage, job.owner_id);
  if missing is not null then
    -- Nobody needs to ask before that: a new price, like a change of the budgets, lets the job ask again at once.
    return query select 'unpriced', null::bigint, 3600::double precision, missing;
    return;
  end if;
  key := pipeline.locked_key(reserve.provider, reserve.fingerprint, reserve.stage);
  now := pipeline.now();

  if key.state <> 'ready' then
    if key.prober is distinct from listener or key.probe_until <= now then
      return query select key.state, null::bigint, greatest(extract(epoch from key.retry_at - now), 1)::double precision, key.reason;
      return;
    elsif key.probe_call is not null and exists (select from pipeline.ledger l where l.id = key.probe_call and l.state = 'reserved') then
      return query select 'later', null::bigint, 0.5::double precision, key.reason;
      return;
    end if;
  elsif key.cooling_until > now + interval '10 seconds' then
    return query select 'cooling', null::bigint, extract(epoch from key.cooling_until - now)::double precision,
                        'the provider asked for a pause';
    return;
  end if;

  request_pace := pipeline.refilled(key.requests, now);
  token_pace := pipeline.refilled(key.tokens, now);
  if reserve.inputs > 1 and weight * key.token_factor > token_pace.per_minute * 0.9 then
    return query select 'smaller', null::bigint, 0::double precision, 'the limit of the provider';
    return;
  end if;
  pause := greatest(pipeline.wait_for(request_pace, 1), pipeline.wait_for(token_pace, weight * key.token_factor),
                    extract(epoch from key.cooling_until - now), 0);
  -- What is promised far ahead would still go out when the pace has changed meanwhile.
  if pause > 5 then
    return query select 'later', null::bigint, pause - 4 + pg_catalog.random(), 'the limit of the provider';
    return;
  end if;
  if (select count(*) from pipeline.ledger l
       where l.provider = reserve.provider and l.fingerprint = reserve.fingerprint and l.state = 'reserved'
         and pipeline.holds(l.job_id, l.attempt))
     >= (select m.max_in_flight from pipeline.provider_limits m where m.provider = reserve.provider) then
    return query select 'later', null::bigint, 0.5 + pg_catalog.random(), 'as many calls as allowed are under way';
    return;
  end if;

  insert into pipeline.ledger as l (sends_at, owner_id, document_id, job_id, attempt, parse_id, provider, fingerprint, stage, model,
                                    pages, inputs, tokens, amount)
  values (now + make_interval(secs => pause), job.owner_id, job.document_id, job.id, reserve.attempt, reserve.parse_id,
          reserve.provider, reserve.fingerprint, reserve.stage, reserve.model, reserve.pages, reserve.inputs, reserve.tokens,
          pipeline.price_of(reserve.provider, reserve.model, reserve.pages, null, reserve.tokens, now))
  returning l.id into call_id;
  -- Judged with this call in it and its rows locked: two that ask at once cannot both have the last dollar.
  select * into refusal from pipeline.over_budget(job.owner_id, call_id);
  if refusal.reason is not null then
    delete from pipeline.ledger l where l.id = call_id;
    return query select 'budget', null::bigint, extract(epoch from refusal.again_at - now)::double precision, refusal.reason;
    return;
  end if;
  request_pace.available := request_pace.available - 1;
  token_pace.available := token_pace.available - weight * key.token_factor;
  update pipeline.provider_keys k
     set requests = request_pace, tokens = token_pace, used_at = now,
         probe_call = case when key.state <> 'ready' then call_id end
   where k.provider = key.provider and k.fingerprint = key.fingerprint;
  return query select 'go', call_id, pause, null::text;
end
$function$

--: function pipeline.resume_call(bigint,integer,bigint)
--= "(job_id bigint, attempt integer, parse_id bigint) returns bigint, sql, volatile, definer, cost 100 rows 0, search_path=\"\", body 1e8f634957971da7f0607ff331a490c8"
CREATE OR REPLACE FUNCTION pipeline.resume_call(job_id bigint, attempt integer, parse_id bigint)
 RETURNS bigint
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  -- One that is confirmed already stays so: its pages were delivered, and got lost before they were kept.
  update pipeline.ledger l
     set state = case l.state when 'confirmed' then l.state else 'reserved' end,
         settled_at = case l.state when 'confirmed' then l.settled_at end, job_id = $1, attempt = $2
   where l.id = (select max(i.id) from pipeline.ledger i where i.parse_id = $3) and pipeline.holds($1, $2)
  returning l.id
$function$

--: function pipeline.retry(bigint)
--= "(job_id bigint) returns text, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 42072e795eb3c5d95d116a3a323d57e8"
CREATE OR REPLACE FUNCTION pipeline.retry(job_id bigint)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  job pipeline.jobs;
  document pipeline.documents;
begin
  select * into job from pipeline.jobs j where j.id = retry.job_id;
  if not found then
    return null;
  end if;
  select * into document from pipeline.documents d where d.id = job.document_id for no key update;
  select * into job from pipeline.jobs j where j.id = retry.job_id for no key update;
  if job.state not in ('dead', 'cancelled') then
    raise sqlstate 'PT409' using message = format('Job %s is %s; only a dead or cancelled job can be retried.', job.id, job.state);
  end if;
  if document.deleted_at is not null or document.object_version <> job.object_version then
    raise sqlstate 'PT409' using message = format('Job %s is for a version of the file that is no longer there.', job.id),
      hint = 'The newest version has its own job.';
  end if;
  update pipeline.jobs j
     set state = 'available', failures = 0, available_at = pipeline.now(), finished_at = null,
         stage = null, progress = 0, error = null, error_class = null, error_detail = null
   where j.id = retry.job_id;
  return 'available';
end
$function$

--: function pipeline.retry_own_job(bigint)
--= "(job_id bigint) returns text, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 4a21d6b0da70d3ed9b611f45b20d31c0"
CREATE OR REPLACE FUNCTION pipeline.retry_own_job(job_id bigint)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  allowed constant integer := (select s.retries_per_day from pipeline.settings s);
  state text;
begin
  perform pipeline.own_job(retry_own_job.job_id);
  -- Counted behind it, under its locks: else many at once would all see the same number.
  state := pipeline.retry(retry_own_job.job_id);
  if (select count(*) from pipeline.job_events e
       where e.job_id = retry_own_job.job_id and e.to_state = 'available' and e.from_state in ('dead', 'cancelled')
         and e.at > pipeline.now() - interval '1 day') > allowed then
    raise sqlstate 'PT429' using message = format('Job %s was retried %s times within a day.', retry_own_job.job_id, allowed),
      hint = 'Wait a day, or upload a new version of the file.';
  end if;
  return state;
end
$function$

--: function pipeline.running_of(uuid)
--= "(owner_id uuid) returns bigint[], plpgsql, stable, cost 100 rows 0, search_path=\"\", body 05d204b33734e9feab1cc0c306b167b6"
CREATE OR REPLACE FUNCTION pipeline.running_of(owner_id uuid)
 RETURNS bigint[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  if not exists (select from pipeline.owners_running r where r.owner_id = running_of.owner_id and r.running > 0) then
    return array[]::bigint[];
  end if;
  return array(select j.id
                 from pipeline.lease_checks c
                cross join lateral unnest(c.job_ids) as i (job_id)
                cross join lateral (select r.id from pipeline.jobs r
                                     where r.id = i.job_id and r.owner_id = running_of.owner_id and r.state = 'running'
                                    offset 0) j
                order by j.id);
end
$function$

--: function pipeline.saved_at_most(pipeline.pace)
--= "(p pipeline.pace) returns double precision, sql, immutable, cost 100 rows 0, search_path=\"\", body 3d1af98f53d0715cb9e84ad7bc7597d4"
CREATE OR REPLACE FUNCTION pipeline.saved_at_most(p pipeline.pace)
 RETURNS double precision
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  -- A limit that was told may be saved up for a minute; how much of a found one may be is not known.
  select p.per_minute * case when p.told then 1 else 1 / 6.0 end
$function$

--: function pipeline.search(text,extensions.vector,text,integer,text)
--= "(query_text text, query_embedding extensions.vector, space text, match_count integer, path_prefix text) returns TABLE(document_id uuid, name text, page integer, heading text, content text, score real, matched_by text), plpgsql, stable, definer, cost 100 rows 1000, search_path=\"\", body 0fcfcf8b82e1adcef3e000300764010a"
CREATE OR REPLACE FUNCTION pipeline.search(query_text text, query_embedding extensions.vector, space text, match_count integer, path_prefix text)
 RETURNS TABLE(document_id uuid, name text, page integer, heading text, content text, score real, matched_by text)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  owner constant uuid := pipeline.caller();
  wanted constant integer := greatest(1, least(coalesce(match_count, 10), 100));
  -- How much of a mixed score is the cosine. The rest is the BM25, as a part of that of the whole question, so that it
  -- counts as far as the question's words are there: else one common word in common would outdo the meaning.
  share double precision := 0.8;
  -- Of each side. It need not be many: what one side finds gets its true score on the other.
  candidates constant integer := wanted + 20;
  question pipeline.question;
  active pipeline.spaces;
  near_ids bigint[];
  cosines double precision[];
begin
  if owner is null then
    raise insufficient_privilege using message = 'Search needs a signed-in user.',
      hint = 'An anonymous sign-in is none, unless pipeline.settings.anonymous_sign_ins is on.';
  end if;
  if length(query_text) > 2000 then
    raise sqlstate 'PT400' using message = format('The question has %s characters; search reads 2000.', length(query_text));
  end if;
  select * into active from pipeline.spaces s where s.active;
  if search.space is not null and search.space is distinct from active.name then
    raise sqlstate 'PT400' using
      message = format('Search reads the embedding space %s, not %s.', active.name, search.space),
      hint = format('Embed the question with %s in %s dimensions.', active.model, active.dimensions);
  end if;
  if query_embedding is not null and extensions.vector_dims(query_embedding) is distinct from active.dimensions then
    raise sqlstate 'PT400' using
      message = format('The question''s vector has %s dimensions; the embedding space %s has %s.',
                       extensions.vector_dims(query_embedding), active.name, active.dimensions),
      hint = format('Embed the question with %s in %s dimensions.', active.model, active.dimensions);
  end if;
  if query_embedding is not null and extensions.vector_norm(query_embedding) = 0 then
    raise sqlstate 'PT400' using message = 'The question''s vector is zero, which is near to nothing.';
  end if;

  -- Halves hold neither very large nor very small numbers.
  query_embedding := extensions.l2_normalize(query_embedding);

  question := pipeline.parse_question(owner, coalesce(query_text, ''));
  if active.latin_only and 2 * (select count(*) from unnest(question.words) w where pipeline.first_letter(w) >= 592)
                           > cardinality(question.words) then
    share := 0.1; -- What the model makes of such a question is little more than noise.
  end if;
  if query_embedding is null then
    return query
    select c.document_id, d.name, c.page, c.heading, c.content, r.score::real, 'keyword'
      from pipeline.by_words(owner, question, path_prefix, wanted, null) r
      join pipeline.chunks c on c.id = r.id
      join pipeline.documents d on d.id = c.document_id
     order by r.score desc, r.id;
    return;
  end if;

  select coalesce(array_agg(m.id), '{}'), coalesce(array_agg(m.cosine), '{}') into near_ids, cosines
    from pipeline.by_meaning(owner, question, path_prefix, candidates, query_embedding, active) m;
  return query
  with words as materialized (
    select w.id, max(w.score) as score, max(w.whole) as whole from pipeline.by_words(owner, question, path_prefix, candidates, near_ids) w group by w.id
  ), near as (
    select n.id, n.cosine from unnest(near_ids, cosines) as n (id, cosine)
  ), mixed as (
    select id, coalesce(w.score, 0) as bm25, w.whole, n.cosine from words w full join near n using (id)
  ), scored as (
    select m.id, c.document_id, c.page, c.heading, c.content,
           share * coalesce(m.cosine, 1 - (e.embedding operator(extensions.<=>) query_embedding::extensions.halfvec), 0)
             + (1 - share) * coalesce(m.bm25 / nullif(greatest(max(m.bm25) over (), max(m.whole) over ()), 0), 0) as score,
           case when m.cosine is null then 'keyword' when m.bm25 > 0 then 'both' else 'vector' end as matched_by
      from mixed m
      join pipeline.chunks c on c.id = m.id
      left join pipeline.embeddings e
             on m.cosine is null and e.owner_id = owner and e.space_id = active.id and e.input_sha256 = c.input_sha256
  )
  select s.document_id, d.name, s.page, s.heading, s.content, s.score::real, s.matched_by
    from scored s
    join pipeline.documents d on d.id = s.document_id
   order by s.score desc, s.id
   limit wanted;
end
$function$

--: function pipeline.settle(bigint,text,boolean,integer,numeric,bigint,double precision,double precision,double precision,double precision,interval,text)
--= "(call_id bigint, outcome text, may_be_bought boolean, pages integer, credits numeric, tokens bigint, most_requests double precision, requests_left double precision, most_tokens double precision, tokens_left double precision, retry_after interval, reason text) returns void, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 7415040dd046010f55f0deb3ca3aedda"
CREATE OR REPLACE FUNCTION pipeline.settle(call_id bigint, outcome text, may_be_bought boolean, pages integer, credits numeric, tokens bigint, most_requests double precision, requests_left double precision, most_tokens double precision, tokens_left double precision, retry_after interval, reason text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
#variable_conflict use_column
declare
  call pipeline.ledger;
  key pipeline.provider_keys;
  request_pace pipeline.pace;
  token_pace pipeline.pace;
  now timestamptz;
  promised double precision := 0;
  age double precision;
  counts_tokens boolean;
begin
  perform pipeline.check_outcome(outcome);
  select * into call from pipeline.ledger l where l.id = settle.call_id;
  if not found then
    return;
  end if;
  select * into key from pipeline.provider_keys k
   where k.provider = call.provider and k.fingerprint = call.fingerprint
     for no key update;
  now := pipeline.now();
  age := greatest(extract(epoch from now - call.sends_at), 0);
  key := pipeline.turned(key, outcome, retry_after, reason, now);

  -- The money: what is delivered is confirmed, what may have been is not, and the rest never was.
  if outcome = 'bought' then
    update pipeline.ledger l
       set state = 'confirmed', settled_at = now, pages = coalesce(settle.pages, l.pages), tokens = coalesce(settle.tokens, l.tokens),
           amount = pipeline.price_of(l.provider, l.model, coalesce(settle.pages, l.pages), settle.credits,
                                      coalesce(settle.tokens, l.tokens), l.at)
     where l.id = call.id;
  elsif may_be_bought then
    update pipeline.ledger l set state = 'unconfirmed', settled_at = now where l.id = call.id and l.state <> 'confirmed';
  else
    delete from pipeline.ledger l where l.id = call.id and l.state <> 'confirmed';
  end if;

  -- The pace.
  request_pace := pipeline.refilled(key.requests, now);
  token_pace := pipeline.refilled(key.tokens, now);
  if outcome = 'bought' then
    if call.tokens > 0 and settle.tokens > 0 then
      token_pace.available := token_pace.available + call.tokens * key.token_factor - settle.tokens;
      key.token_factor := key.token_factor * 0.9 + 0.1 * settle.tokens / call.tokens;
    end if;
    request_pace := pipeline.accepted(request_pace, 1, now);
    token_pace := pipeline.accepted(token_pace, coalesce(settle.tokens, call.tokens), now);
  elsif outcome in ('declined', 'refused') or outcome = 'limited' and most_tokens is not null then
    token_pace.available := token_pace.available + call.tokens * key.token_factor;
  end if;
  if most_requests is not null or most_tokens is not null then
    if token_pace.told is not true or request_pace.told is not true then
      select coalesce(sum(l.tokens), 0) into promised from pipeline.ledger l
       where l.provider = call.provider and l.fingerprint = call.fingerprint and l.state = 'reserved';
    end if;
    request_pace := pipeline.told(request_pace, most_requests, requests_left, 0, now, age);
    token_pace := pipeline.told(token_pace, most_tokens, tokens_left, promised * key.token_factor, now, age);
  end if;
  if outcome = 'limited' then
    -- It is the pace that is used up more that is too fast.
    counts_tokens := call.tokens > 0
      and (request_pace.per_minute is null or token_pace.per_minute is null
           or token_pace.available / token_pace.per_minute <= request_pace.available / request_pace.per_minute);
    if most_requests is null and most_tokens is null then
      -- Calls that were on their way together are refused together: one change of pace answers them all.
      if counts_tokens and (token_pace.limited_at is null or token_pace.told or call.asked_at > token_pace.limited_at) then
        token_pace := pipeline.limited(token_pace, call.tokens, now);
      elsif not counts_tokens and (request_pace.limited_at is null or request_pace.told or call.asked_at > request_pace.limited_at) then
        request_pace := pipeline.limited(request_pace, 1, now);
      end if;
      if token_pace.per_minute is null and request_pace.per_minute is null then
        key.cooling_until := greatest(key.cooling_until, now + interval '1 second');
      end if;
    elsif retry_after is null
          and (requests_left < 1 or call.tokens > 0 and tokens_left < call.tokens * key.token_factor) is not true then
      -- What it tells leaves room for the call, so it counts something else: the pace begins at nothing, and all rest a moment.
      if counts_tokens then
        token_pace.available := least(token_pace.available, 0);
      else
        request_pace.available := least(request_pace.available, 0);
      end if;
      key.cooling_until := greatest(key.cooling_until, now + interval '1 second');
    end if;
  end if;

  update pipeline.provider_keys k
     set state = key.state, state_since = key.state_since, reason = key.reason, outages = key.outages, retry_at = key.retry_at,
         prober = key.prober, probe_until = key.probe_until, probe_call = key.probe_call, cooling_until = key.cooling_until,
         requests = request_pace, tokens = token_pace, token_factor = key.token_factor
   where k.provider = key.provider and k.fingerprint = key.fingerprint;
end
$function$

--: function pipeline.shut_stages(text)
--= "(listener text) returns text[], sql, stable, cost 100 rows 0, search_path=\"\", body f6bd29b43fa001cc052868691c9136c6"
CREATE OR REPLACE FUNCTION pipeline.shut_stages(listener text)
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(array_agg(distinct k.stage), '{}')
    from pipeline.provider_keys k
    join pipeline.listeners l on l.id = $1 and k.fingerprint = any (l.keys)
   where (k.state <> 'ready' and (k.stage <> 'fetch' and k.prober = $1 and k.probe_until > pipeline.now()) is not true)
      or k.cooling_until > pipeline.now() + interval '2 seconds'
$function$

--: function pipeline.stop_work(uuid)
--= "(owner_id uuid) returns void, sql, volatile, cost 100 rows 0, search_path=\"\", body 22db4fad888e14c2e9e36837ed36b944"
CREATE OR REPLACE FUNCTION pipeline.stop_work(owner_id uuid)
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  update pipeline.jobs j
     set state = 'cancelled', finished_at = pipeline.now(), claimed_by = null, lease_expires_at = null,
         error_class = 'deleted', error = 'The user was deleted.'
   where j.id = any (pipeline.running_of($1)) and j.state = 'running'
$function$

--: function pipeline.store_embeddings(bigint,integer,smallint,bytea[],extensions.halfvec[])
--= "(job_id bigint, attempt integer, space_id smallint, inputs bytea[], vectors extensions.halfvec[]) returns integer, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body ab0d6c34f099b739fc06339b7de7531a"
CREATE OR REPLACE FUNCTION pipeline.store_embeddings(job_id bigint, attempt integer, space_id smallint, inputs bytea[], vectors extensions.halfvec[])
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  stored integer;
begin
  if not pipeline.document_lives(store_embeddings.job_id) then
    return 0;
  end if;
  with mine as (
    delete from pipeline.embedding_purchases p
     using (select i.sha, i.vector from unnest(inputs, vectors) as i (sha, vector)) i, pipeline.jobs j
     where j.id = store_embeddings.job_id and p.owner_id = j.owner_id and p.space_id = store_embeddings.space_id
       and p.input_sha256 = i.sha and p.job_id = store_embeddings.job_id and p.attempt = store_embeddings.attempt
    returning p.owner_id, p.input_sha256, i.vector, j.document_id
  )
  insert into pipeline.embeddings (owner_id, space_id, input_sha256, embedding, document_id)
  select m.owner_id, s.id, m.input_sha256, m.vector, m.document_id
    from mine m
    join pipeline.spaces s on s.id = store_embeddings.space_id
   where extensions.vector_dims(m.vector) = s.dimensions and extensions.l2_norm(m.vector) between 0.99 and 1.01
  on conflict do nothing;
  get diagnostics stored = row_count;
  return stored;
end
$function$

--: function pipeline.store_parse(bigint,bigint,integer,jsonb,jsonb)
--= "(parse_id bigint, job_id bigint, attempt integer, pages jsonb, failed_pages jsonb) returns boolean, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 95201b0d09eb954c9a040d7fc8c41ea4"
CREATE OR REPLACE FUNCTION pipeline.store_parse(parse_id bigint, job_id bigint, attempt integer, pages jsonb, failed_pages jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  if not pipeline.document_lives(store_parse.job_id) then
    return false;
  end if;
  update pipeline.parses p
     set pages = store_parse.pages, failed_pages = store_parse.failed_pages, bought_at = pipeline.now()
   where p.id = store_parse.parse_id and p.job_id = store_parse.job_id and p.attempt = store_parse.attempt and p.pages is null;
  return found;
end
$function$

--: function pipeline.stored_file(bigint,integer)
--= "(job_id bigint, attempt integer) returns TABLE(stands boolean, object_id text, object_version text, others text[]), sql, volatile, definer, cost 100 rows 1000, search_path=\"\", body 418fb7910abd0477693bc00026e1c53a"
CREATE OR REPLACE FUNCTION pipeline.stored_file(job_id bigint, attempt integer)
 RETURNS TABLE(stands boolean, object_id text, object_version text, others text[])
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select pipeline.is_stored(j.object_id, j.object_version), j.object_id::text, j.object_version, pipeline.other_files(j.object_id)
    from pipeline.jobs j
   where j.id = $1 and pipeline.holds($1, $2)
$function$

--: function pipeline.supersede(bigint,integer)
--= "(job_id bigint, attempt integer) returns boolean, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 1ef77e7c7018c5e6f1cf72a31bd6e841"
CREATE OR REPLACE FUNCTION pipeline.supersede(job_id bigint, attempt integer)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  update pipeline.jobs j
     set state = 'cancelled', finished_at = pipeline.now(), claimed_by = null, lease_expires_at = null,
         error_class = 'superseded', error = 'The stored file is no longer this version.'
   where j.id = supersede.job_id and j.attempt = supersede.attempt and j.state = 'running'
     and not pipeline.is_stored(j.object_id, j.object_version);
  return found;
end
$function$

--: function pipeline.sweep(integer)
--= "(max_checks integer DEFAULT 5) returns integer, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 76a06d69d47e790682e1699339fd28f5"
CREATE OR REPLACE FUNCTION pipeline.sweep(max_checks integer DEFAULT 5)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  now constant timestamptz := pipeline.now();
  looked_at bigint[];
  swept integer;
begin
  -- The usual case ends here, after one probe.
  if not exists (select from pipeline.lease_checks c where c.due_at <= now) then
    return 0;
  end if;
  with due as (
    delete from pipeline.lease_checks c
     where c.id in (select d.id from pipeline.lease_checks d
                     where d.due_at <= now
                     order by d.due_at
                     limit max_checks
                       for update skip locked)
    returning c.job_ids
  )
  select array_agg(i.job_id) into looked_at from due d cross join lateral unnest(d.job_ids) as i (job_id);

  with expired as (
    select j.id
      from pipeline.jobs j
     where j.id = any (looked_at) and j.state = 'running' and j.lease_expires_at <= now
     order by j.id
       for no key update skip locked
  )
  update pipeline.jobs j
     set state = case when j.failures + 1 >= s.max_failures then 'dead' else 'available' end,
         failures = j.failures + 1,
         available_at = now + pipeline.backoff(j.failures + 1),
         finished_at = case when j.failures + 1 >= s.max_failures then now end,
         claimed_by = null, lease_expires_at = null,
         error_class = 'lease_expired',
         error = 'The processing of this file stopped without an answer.',
         error_detail = 'The lease of ' || j.claimed_by || ' expired.'
    from expired e, pipeline.settings s
   where j.id = e.id;
  get diagnostics swept = row_count;

  -- Renewed meanwhile, or locked by somebody whose change may be undone.
  insert into pipeline.lease_checks (due_at, job_ids)
  select min(j.lease_expires_at), array_agg(j.id)
    from pipeline.jobs j
   where j.id = any (looked_at) and j.state = 'running'
  having count(*) > 0;
  return swept;
end
$function$

--: function pipeline.take_in(uuid)
--= "(object uuid) returns boolean, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 5d18ad7771a0da86112c4d07e80b02ad"
CREATE OR REPLACE FUNCTION pipeline.take_in(object uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  file record;
  owner uuid;
  document pipeline.documents;
begin
  -- Held as the file's own writes hold it, and before the document as they do: no older version overtakes a newer one.
  select o.id, o.bucket_id, o.name, o.version, o.metadata into file
    from storage.objects o where o.id = object and o.bucket_id = 'documents' for share;
  if not found then
    return false;
  end if;
  owner := split_part(file.name, '/', 1)::uuid;
  if exists (select from pipeline.documents d where d.object_id = object and d.deleted_at is null and d.owner_id <> owner) then
    perform pipeline.hide_document(object, 'The file was moved to another user.');
  end if;
  insert into pipeline.documents as d (owner_id, object_id, object_version, bucket_id, name, size)
  values (owner, object, file.version, file.bucket_id, file.name, (file.metadata ->> 'size')::bigint)
  on conflict (object_id) where deleted_at is null do update
     set object_version = excluded.object_version, name = excluded.name, bucket_id = excluded.bucket_id,
         size = excluded.size, updated_at = pipeline.now()
  returning * into document;
  update pipeline.jobs j
     set state = 'cancelled', finished_at = pipeline.now(), claimed_by = null, lease_expires_at = null,
         error_class = 'superseded', error = 'A newer version of this file took its place.'
   where j.document_id = document.id and j.object_version <> document.object_version and j.state in ('available', 'running');
  perform pipeline.enqueue(document, file.metadata ->> 'eTag');
  -- The owner's numbers are bounds, so a document that was counted before may be counted again. The row's lock keeps a
  -- deletion of the user waiting; one that came first is seen behind it, as by an upload.
  perform pipeline.count_upload(owner, (pipeline.now() at time zone 'utc')::date, 0, 1, coalesce(document.size, 0));
  if not exists (select from auth.users u where u.id = owner and u.deleted_at is null) then
    perform pipeline.hide_document(object, 'The user was deleted.');
    return false;
  end if;
  return true;
end
$function$

--: function pipeline.tidy(integer,integer)
--= "(max_jobs integer DEFAULT 1000, max_documents integer DEFAULT 20) returns boolean, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 8b3f15379bc3c09c15796b6020f5d687"
CREATE OR REPLACE FUNCTION pipeline.tidy(max_jobs integer DEFAULT 1000, max_documents integer DEFAULT 20)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  due pipeline.retention;
  looked_at text[];
  whole boolean;
begin
  select * into due from pipeline.retention r
   where r.rested_at < r.began_at or r.rested_at < pipeline.now() - interval '1 day'
   order by r.hand
   limit 1
     for no key update skip locked;
  if not found then
    return false;
  end if;
  if due.hand = 'jobs' then
    looked_at := pipeline.forget_jobs(coalesce(due.position, '0')::bigint, max_jobs)::text[];
    whole := cardinality(looked_at) = max_jobs;
  else
    looked_at := pipeline.forget_work(due.position::uuid, max_documents)::text[];
    whole := cardinality(looked_at) = max_documents;
  end if;
  update pipeline.retention r
     set position = case when whole then looked_at[cardinality(looked_at)] end,
         began_at = case when due.position is null then pipeline.now() else r.began_at end,
         rested_at = case when whole then r.rested_at else pipeline.now() end
   where r.hand = due.hand;
  return true;
end
$function$

--: function pipeline.token_count(tsvector)
--= "(lexemes tsvector) returns integer, sql, immutable, cost 100 rows 0, search_path=\"\", body a619886532ab67929406d64484e701cc"
CREATE OR REPLACE FUNCTION pipeline.token_count(lexemes tsvector)
 RETURNS integer
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select coalesce(pg_catalog.sum(pg_catalog.cardinality(l.positions)), 0)::integer from pg_catalog.unnest($1) l
$function$

--: function pipeline.tokens(text,boolean)
--= "(input text, is_question boolean DEFAULT false) returns TABLE(lexeme text, \"position\" integer, is_prefix boolean), plpgsql, immutable, cost 100 rows 1000, search_path=\"\", standard_conforming_strings=on, body 2fc933f8445deeca451069f33b4fa635"
CREATE OR REPLACE FUNCTION pipeline.tokens(input text, is_question boolean DEFAULT false)
 RETURNS TABLE(lexeme text, "position" integer, is_prefix boolean)
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
 SET standard_conforming_strings TO 'on'
AS $function$
declare
  spaceless constant text := '\u0E00-\u0EFF\u1000-\u109F\u1100-\u11FF\u1780-\u17FF\u2E80-\u2FDF\u3005-\u3007\u3041-\u309F'
                             '\u30A1-\u30FF\u3130-\u318F\u31F0-\u31FF\u3400-\u4DBF\u4E00-\u9FFF\uAC00-\uD7A3\uF900-\uFAFF'
                             '\U00020000-\U0003FFFF';
  hidden constant text := '\u00AD\u034F\u061C\u180B-\u180F\u200B\u200E\u200F\u202A-\u202E\u2060-\u206F\uFE00-\uFE0F\uFEFF'
                          '\U000E0000-\U000E0FFF';
  cleaned text := input;
  part record;
  start integer := 0;
begin
  if cleaned ~ '[^\x01-\x7F]' then
    cleaned := normalize(cleaned, nfkc);
    if is_question then
      -- What a reader cannot see is no part of a word. Stored text has been through pipeline/files/text.py.
      cleaned := pg_catalog.regexp_replace(cleaned, '[' || hidden || ']', '', 'g');
    end if;
  end if;
  -- The parser takes a/b for a path, <b> for a tag and the 7 of INC-7 for a negative number.
  cleaned := pg_catalog.regexp_replace(pg_catalog.translate(cleaned, '/\<>&', '     '), '-(?=\d)', ' ', 'g');
  if cleaned !~ ('[' || spaceless || ']') then
    return query
    select w.lexeme, p.position::integer, false
      from pg_catalog.unnest(pg_catalog.to_tsvector('pg_catalog.english', cleaned)) w
     cross join pg_catalog.unnest(w.positions) as p (position)
     where pg_catalog.octet_length(w.lexeme) <= 255;
    return;
  end if;
  for part in
    select m[1] as run, m[2] as words
      from pg_catalog.regexp_matches(cleaned, '([' || spaceless || ']+)|([^' || spaceless || ']+)', 'g') as m
  loop
    if part.run is null then
      return query
      select w.lexeme, start + p.position, false
        from pg_catalog.unnest(pg_catalog.to_tsvector('pg_catalog.english', part.words)) w
       cross join pg_catalog.unnest(w.positions) as p (position)
       where pg_catalog.octet_length(w.lexeme) <= 255;
      start := start + coalesce((select pg_catalog.max(p) from pg_catalog.unnest(
        pg_catalog.to_tsvector('pg_catalog.simple', part.words)) w, pg_catalog.unnest(w.positions) p), 0);
    else
      return query
      select pg_catalog.lower(pg_catalog.substr(part.run, i, 2)), start + i, is_question and pg_catalog.length(part.run) = 1
        from pg_catalog.generate_series(1, pg_catalog.length(part.run)) i
       where i < pg_catalog.length(part.run) or not is_question or i = 1;
      start := start + pg_catalog.length(part.run);
    end if;
  end loop;
end
$function$

--: function pipeline.told(pipeline.pace,double precision,double precision,double precision,timestamp with time zone,double precision)
--= "(p pipeline.pace, most double precision, available double precision, promised double precision, now timestamp with time zone, age double precision) returns pipeline.pace, plpgsql, immutable, cost 100 rows 0, search_path=\"\", body 3a1470904f8b8ca7611365f664f2d1bb"
CREATE OR REPLACE FUNCTION pipeline.told(p pipeline.pace, most double precision, available double precision, promised double precision, now timestamp with time zone, age double precision)
 RETURNS pipeline.pace
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO ''
AS $function$
declare
  per_minute constant double precision := most * 0.99;
begin
  if most is null or available is null or most <= 0 then
    return p;
  end if;
  if p.told is not true then
    p := row (per_minute, true, available - promised, now, 0, null, null, null);
  else
    -- What it says is as old as the call, so it only ever corrects downwards: somebody else uses the same key.
    p.per_minute := per_minute;
    p.available := least(p.available, available + per_minute / 60 * age);
  end if;
  return p;
end
$function$

--: function pipeline.turned(pipeline.provider_keys,text,interval,text,timestamp with time zone)
--= "(key pipeline.provider_keys, outcome text, retry_after interval, reason text, now timestamp with time zone) returns pipeline.provider_keys, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 97e5881c6a5134318bbc6840fd7733c8"
CREATE OR REPLACE FUNCTION pipeline.turned(key pipeline.provider_keys, outcome text, retry_after interval, reason text, now timestamp with time zone)
 RETURNS pipeline.provider_keys
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  every constant interval := (select s.probe_every from pipeline.settings s);
begin
  if outcome = 'limited' and retry_after is not null then
    key.cooling_until := greatest(key.cooling_until, now + retry_after);
  end if;
  key.outages := case when outcome = 'down' then key.outages + 1 when outcome = 'unclear' then key.outages else 0 end;
  if outcome = 'refused' or outcome = 'down' and (key.outages >= 3 or key.state <> 'ready') then
    if key.state is distinct from outcome then
      key.state := outcome;
      key.state_since := now;
    end if;
    key.reason := coalesce(reason, 'no reason was given');
    key.retry_at := now + case when outcome = 'refused' then every
                               else greatest(least(every, every / 12 * 2 ^ least(key.outages - 3, 10)), coalesce(retry_after, '0')) end;
    key.prober := null;
    key.probe_until := null;
    key.probe_call := null;
  elsif key.state <> 'ready' and outcome in ('bought', 'declined', 'limited') then
    key.state := 'ready';
    key.state_since := now;
    key.reason := null;
    key.retry_at := null;
    key.prober := null;
    key.probe_until := null;
    key.probe_call := null;
    perform pg_catalog.pg_notify('pipeline_jobs', '');
  end if;
  return key;
end
$function$

--: function pipeline.under(text,uuid,text)
--= "(name text, owner_id uuid, path_prefix text) returns boolean, sql, immutable, cost 100 rows 0, search_path=\"\", body 40d91cda3267eac7c6557e2df69ec0a8"
CREATE OR REPLACE FUNCTION pipeline.under(name text, owner_id uuid, path_prefix text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select $3 is null or starts_with($1, $3) or starts_with($1, $2 || '/' || ltrim($3, '/'))
$function$

--: function pipeline.unit_price(text,text,text,timestamp with time zone)
--= "(provider text, model text, unit text, at timestamp with time zone) returns numeric, sql, stable, cost 100 rows 0, search_path=\"\", body bcf72cbc9e98248e47ab5c9631db80ce"
CREATE OR REPLACE FUNCTION pipeline.unit_price(provider text, model text, unit text, at timestamp with time zone)
 RETURNS numeric
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select p.price from pipeline.prices p
   where p.provider = $1 and p.model = $2 and p.unit = $3 and p.valid_from <= ($4 at time zone 'utc')::date
   order by p.valid_from desc
   limit 1
$function$

--: function pipeline.user_deleted()
--= "() returns trigger, plpgsql, volatile, definer, cost 100 rows 0, search_path=\"\", body 8e305e9fee8112cb665399e55b2cba17"
CREATE OR REPLACE FUNCTION pipeline.user_deleted()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  perform pipeline.request_erasure(old.id);
  return null;
end
$function$

--: function pipeline.visible(uuid,pipeline.question,text)
--= "(owner uuid, question pipeline.question, path_prefix text) returns text, sql, stable, cost 100 rows 0, search_path=\"\", body 93aa261b03e1d4b3d43fba50377ddf78"
CREATE OR REPLACE FUNCTION pipeline.visible(owner uuid, question pipeline.question, path_prefix text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select format('d.owner_id = %L and d.deleted_at is null and d.published_job_id = c.job_id', $1)
         || coalesce(' and c.lexemes @@ ' || quote_literal(($2).required::text) || '::tsquery', '')
         || coalesce(' and not c.lexemes @@ ' || quote_literal(($2).excluded::text) || '::tsquery', '')
         || coalesce(' and pipeline.under(d.name, d.owner_id, ' || quote_literal($3) || ')', '')
$function$

--: function pipeline.wait_for(pipeline.pace,double precision)
--= "(p pipeline.pace, cost double precision) returns double precision, sql, immutable, cost 100 rows 0, search_path=\"\", body c9523ef6a6f52593bca7db2e696ed4a4"
CREATE OR REPLACE FUNCTION pipeline.wait_for(p pipeline.pace, cost double precision)
 RETURNS double precision
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  -- One and a half seconds' worth always stay: the provider may refill by the second, and its clock is not ours. What costs
  -- more than can be saved waits until all of that is there; the next one waits for the rest of it.
  select case when p.per_minute is null or cost = 0 then 0
              else greatest(0, (least(cost + p.per_minute / 40, pipeline.saved_at_most(p)) - p.available) / (p.per_minute / 60)) end
$function$

--: function pipeline.wake(integer)
--= "(max_owners integer DEFAULT 50) returns integer, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 1ec9270dd2e795e13b62c9926a978e6a"
CREATE OR REPLACE FUNCTION pipeline.wake(max_owners integer DEFAULT 50)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  now constant timestamptz := pipeline.now();
  due uuid[];
  woken uuid[];
begin
  select array_agg(f.owner_id)
    into due
    from (select w.owner_id from pipeline.wakeups w where w.due_at <= now order by w.due_at limit max_owners) f;
  if due is null then
    return 0;
  end if;
  if cardinality(due) = max_owners then
    due := pipeline.due_owners(max_owners, due, now);
  end if;
  if exists (select from unnest(due) d where not exists (select from pipeline.owners o where o.owner_id = d)) then
    insert into pipeline.owners (owner_id, max_concurrent_jobs, priority)
    select distinct d, l.max_concurrent_jobs, l.priority from unnest(due) d cross join lateral pipeline.limits_of(d) l
     order by d  -- two claims that meet at new owners wait for each other here
    on conflict do nothing;
  end if;

  select array_agg(l.owner_id)
    into woken
    from (select o.owner_id from pipeline.owners o
           where o.owner_id = any (due)
           order by o.owner_id
             for no key update skip locked) l;

  -- A statement of its own: it must see what lanes the owners have now that they are locked.
  with consumed as (
    delete from pipeline.wakeups w
     where w.id = any (array(select x.id
                               from unnest(woken) o (owner_id)
                              cross join lateral (select i.id from pipeline.wakeups i
                                                   where i.owner_id = o.owner_id and i.due_at <= now
                                                   limit 5000 for update skip locked) x))
    returning w.owner_id, w.lane
  )
  update pipeline.owners o
     set lanes = o.lanes | c.lanes
    from (select c.owner_id, bit_or(c.lane) as lanes from consumed c group by c.owner_id) c
   where o.owner_id = c.owner_id and o.lanes <> o.lanes | c.lanes;
  return coalesce(cardinality(woken), 0);
end
$function$

--: function pipeline.watch_providers(text)
--= "(listener text) returns boolean, plpgsql, volatile, cost 100 rows 0, search_path=\"\", body 952c6f59030ba849cab43e0e362e22a7"
CREATE OR REPLACE FUNCTION pipeline.watch_providers(listener text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  granted text[];
begin
  update pipeline.ledger l
     set state = 'unconfirmed', settled_at = pipeline.now()
   where l.id in (select i.id from pipeline.ledger i
                   where i.state = 'reserved' and not pipeline.holds(i.job_id, i.attempt)
                   order by i.id limit 1000 for update skip locked);
  delete from pipeline.provider_keys k
   where k.used_at < pipeline.now() - (select s.keep_history from pipeline.settings s)
     and not exists (select from pipeline.ledger l
                      where l.provider = k.provider and l.fingerprint = k.fingerprint and l.state = 'reserved')
     and not exists (select from pipeline.listeners l
                      where k.fingerprint = any (l.keys) and l.stopped_at is null
                        and l.seen_at > pipeline.now() - interval '1 hour');
  -- A provider is probed by a job's own call, so one listener is let at such jobs again; Storage by the listener itself.
  with probes as (
    update pipeline.provider_keys k
       set prober = watch_providers.listener, probe_until = pipeline.now() + interval '30 seconds', probe_call = null
      from pipeline.listeners l
     where l.id = watch_providers.listener and k.fingerprint = any (l.keys)
       and k.state <> 'ready' and k.retry_at <= pipeline.now()
       and (k.probe_until is null or k.probe_until <= pipeline.now() or k.prober = watch_providers.listener)
       and not exists (select from pipeline.ledger p where p.id = k.probe_call and p.state = 'reserved')
    returning k.stage
  )
  select coalesce(array_agg(p.stage), '{}') into granted from probes p;
  if granted && '{parse, embed}' then
    perform pg_catalog.pg_notify('pipeline_jobs', '');
  end if;
  return 'fetch' = any (granted);
end
$function$

--: function pipeline.word_frequencies(uuid,text[],bigint)
--= "(owner_id uuid, words text[], total bigint) returns TABLE(word text, passages double precision, average_length double precision), plpgsql, stable, cost 100 rows 1000, search_path=\"\", enable_seqscan=off, body 77f0480866655110d2b27f317ed81560"
CREATE OR REPLACE FUNCTION pipeline.word_frequencies(owner_id uuid, words text[], total bigint)
 RETURNS TABLE(word text, passages double precision, average_length double precision)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
  sample_size constant integer := 500;
  enough constant integer := 5;
  hits integer[];
  sampled integer;
  average double precision;
  counted bigint;
begin
  execute format(
    'select count(*), avg(c.token_count), array[%s]::integer[] '
    'from (select i.lexemes, i.token_count from pipeline.chunks i where i.owner_id = $1 order by i.input_sha256 limit $2) c',
    (select string_agg(format('count(*) filter (where c.lexemes @@ %L::tsquery)', w), ', ' order by o)
       from unnest(words) with ordinality as u (w, o)))
    into sampled, average, hits using word_frequencies.owner_id, sample_size;
  for i in 1 .. cardinality(words) loop
    if sampled < sample_size then
      counted := hits[i];
    elsif hits[i] >= enough then
      counted := greatest(total, sampled) * hits[i] / sampled;
    else
      execute 'select count(*) from (select c.owner_id from pipeline.chunks c where c.lexemes @@ $1 offset 0) c where c.owner_id = $2'
        into counted using words[i]::tsquery, word_frequencies.owner_id;
    end if;
    return query select words[i], counted::double precision, greatest(average, 1);
  end loop;
end
$function$

--: function public.cancel_job(bigint)
--= "(job_id bigint) returns text, sql, volatile, cost 100 rows 0, search_path=\"\""
CREATE OR REPLACE FUNCTION public.cancel_job(job_id bigint)
 RETURNS text
 LANGUAGE sql
 SET search_path TO ''
BEGIN ATOMIC
 SELECT pipeline.cancel_own_job(job_id) AS cancel_own_job;
END

--: function public.retry_job(bigint)
--= "(job_id bigint) returns text, sql, volatile, cost 100 rows 0, search_path=\"\""
CREATE OR REPLACE FUNCTION public.retry_job(job_id bigint)
 RETURNS text
 LANGUAGE sql
 SET search_path TO ''
BEGIN ATOMIC
 SELECT pipeline.retry_own_job(job_id) AS retry_own_job;
END

--: function public.search(text,extensions.vector,text,integer,text)
--= "(query_text text, query_embedding extensions.vector DEFAULT NULL::extensions.vector, space text DEFAULT NULL::text, match_count integer DEFAULT 10, path_prefix text DEFAULT NULL::text) returns TABLE(document_id uuid, name text, page integer, heading text, content text, score real, matched_by text), sql, stable, cost 100 rows 1000, search_path=\"\""
CREATE OR REPLACE FUNCTION public.search(query_text text, query_embedding extensions.vector DEFAULT NULL::extensions.vector, space text DEFAULT NULL::text, match_count integer DEFAULT 10, path_prefix text DEFAULT NULL::text)
 RETURNS TABLE(document_id uuid, name text, page integer, heading text, content text, score real, matched_by text)
 LANGUAGE sql
 STABLE
 SET search_path TO ''
BEGIN ATOMIC
 SELECT s.document_id,
     s.name,
     s.page,
     s.heading,
     s.content,
     s.score,
     s.matched_by
    FROM pipeline.search(search.query_text, search.query_embedding, search.space, search.match_count, search.path_prefix) s(document_id, name, page, heading, content, score, matched_by);
END

--: grant on function pipeline.ask_again(bigint,boolean) to pipeline_worker
--= "execute"
grant execute on function pipeline.ask_again(bigint,boolean) to pipeline_worker

--: grant on function pipeline.begin_embeddings(bigint,integer,smallint,bytea[]) to pipeline_worker
--= "execute"
grant execute on function pipeline.begin_embeddings(bigint,integer,smallint,bytea[]) to pipeline_worker

--: grant on function pipeline.begin_parse(bigint,integer,bytea,text) to pipeline_worker
--= "execute"
grant execute on function pipeline.begin_parse(bigint,integer,bytea,text) to pipeline_worker

--: grant on function pipeline.bucket_mark() to pipeline_worker
--= "execute"
grant execute on function pipeline.bucket_mark() to pipeline_worker

--: grant on function pipeline.caller() to authenticated
--= "execute"
grant execute on function pipeline.caller() to authenticated

--: grant on function pipeline.cancel_own_job(bigint) to authenticated
--= "execute"
grant execute on function pipeline.cancel_own_job(bigint) to authenticated

--: grant on function pipeline.cancel_own_job(bigint) to service_role
--= "execute"
grant execute on function pipeline.cancel_own_job(bigint) to service_role

--: grant on function pipeline.claim(text,integer,interval,integer) to pipeline_worker
--= "execute"
grant execute on function pipeline.claim(text,integer,interval,integer) to pipeline_worker

--: grant on function pipeline.claim_erasure(text,interval) to pipeline_worker
--= "execute"
grant execute on function pipeline.claim_erasure(text,interval) to pipeline_worker

--: grant on function pipeline.complete(bigint[],integer[]) to pipeline_worker
--= "execute"
grant execute on function pipeline.complete(bigint[],integer[]) to pipeline_worker

--: grant on function pipeline.detached() to pipeline_worker
--= "execute"
grant execute on function pipeline.detached() to pipeline_worker

--: grant on function pipeline.drop_parse(bigint,bigint,integer) to pipeline_worker
--= "execute"
grant execute on function pipeline.drop_parse(bigint,bigint,integer) to pipeline_worker

--: grant on function pipeline.erase(bigint,integer,interval) to pipeline_worker
--= "execute"
grant execute on function pipeline.erase(bigint,integer,interval) to pipeline_worker

--: grant on function pipeline.erasures_waiting() to pipeline_worker
--= "execute"
grant execute on function pipeline.erasures_waiting() to pipeline_worker

--: grant on function pipeline.fail(bigint,integer,text,text,text,interval) to pipeline_worker
--= "execute"
grant execute on function pipeline.fail(bigint,integer,text,text,text,interval) to pipeline_worker

--: grant on function pipeline.files_to_erase(bigint,integer,interval) to pipeline_worker
--= "execute"
grant execute on function pipeline.files_to_erase(bigint,integer,interval) to pipeline_worker

--: grant on function pipeline.heal(integer) to pipeline_worker
--= "execute"
grant execute on function pipeline.heal(integer) to pipeline_worker

--: grant on function pipeline.health() to pipeline_worker
--= "execute"
grant execute on function pipeline.health() to pipeline_worker

--: grant on function pipeline.heartbeat(bigint[],integer[],interval) to pipeline_worker
--= "execute"
grant execute on function pipeline.heartbeat(bigint[],integer[],interval) to pipeline_worker

--: grant on function pipeline.listener_seen(text,text,text,text,boolean,text[]) to pipeline_worker
--= "execute"
grant execute on function pipeline.listener_seen(text,text,text,text,boolean,text[]) to pipeline_worker

--: grant on function pipeline.lost_files_count() to pipeline_worker
--= "execute"
grant execute on function pipeline.lost_files_count() to pipeline_worker

--: grant on function pipeline.mark_bucket() to pipeline_worker
--= "execute"
grant execute on function pipeline.mark_bucket() to pipeline_worker

--: grant on function pipeline.missing_price(text,text,text,uuid) to pipeline_worker
--= "execute"
grant execute on function pipeline.missing_price(text,text,text,uuid) to pipeline_worker

--: grant on function pipeline.note_work(bigint,integer,text,text,text,integer,integer,bigint) to pipeline_worker
--= "execute"
grant execute on function pipeline.note_work(bigint,integer,text,text,text,integer,integer,bigint) to pipeline_worker

--: grant on function pipeline.now() to pipeline_worker
--= "execute"
grant execute on function pipeline.now() to pipeline_worker

--: grant on function pipeline.observe(text,text,text,text,interval,text) to pipeline_worker
--= "execute"
grant execute on function pipeline.observe(text,text,text,text,interval,text) to pipeline_worker

--: grant on function pipeline.other_files(uuid) to pipeline_worker
--= "execute"
grant execute on function pipeline.other_files(uuid) to pipeline_worker

--: grant on function pipeline.postpone_erasure(bigint,text) to pipeline_worker
--= "execute"
grant execute on function pipeline.postpone_erasure(bigint,text) to pipeline_worker

--: grant on function pipeline.providers() to pipeline_worker
--= "execute"
grant execute on function pipeline.providers() to pipeline_worker

--: grant on function pipeline.publish(bigint,integer,smallint,bytea,text,integer,jsonb,text,integer[],text[],text[],bytea[]) to pipeline_worker
--= "execute"
grant execute on function pipeline.publish(bigint,integer,smallint,bytea,text,integer,jsonb,text,integer[],text[],text[],bytea[]) to pipeline_worker

--: grant on function pipeline.purge(integer) to pipeline_worker
--= "execute"
grant execute on function pipeline.purge(integer) to pipeline_worker

--: grant on function pipeline.release(bigint[],integer[]) to pipeline_worker
--= "execute"
grant execute on function pipeline.release(bigint[],integer[]) to pipeline_worker

--: grant on function pipeline.remember_parse(bigint,bigint,integer,text) to pipeline_worker
--= "execute"
grant execute on function pipeline.remember_parse(bigint,bigint,integer,text) to pipeline_worker

--: grant on function pipeline.report(bigint,integer,text,real) to pipeline_worker
--= "execute"
grant execute on function pipeline.report(bigint,integer,text,real) to pipeline_worker

--: grant on function pipeline.reserve(text,bigint,integer,text,text,text,text,integer,integer,bigint,bigint) to pipeline_worker
--= "execute"
grant execute on function pipeline.reserve(text,bigint,integer,text,text,text,text,integer,integer,bigint,bigint) to pipeline_worker

--: grant on function pipeline.resume_call(bigint,integer,bigint) to pipeline_worker
--= "execute"
grant execute on function pipeline.resume_call(bigint,integer,bigint) to pipeline_worker

--: grant on function pipeline.retry_own_job(bigint) to authenticated
--= "execute"
grant execute on function pipeline.retry_own_job(bigint) to authenticated

--: grant on function pipeline.retry_own_job(bigint) to service_role
--= "execute"
grant execute on function pipeline.retry_own_job(bigint) to service_role

--: grant on function pipeline.search(text,extensions.vector,text,integer,text) to authenticated
--= "execute"
grant execute on function pipeline.search(text,extensions.vector,text,integer,text) to authenticated

--: grant on function pipeline.settle(bigint,text,boolean,integer,numeric,bigint,double precision,double precision,double precision,double precision,interval,text) to pipeline_worker
--= "execute"
grant execute on function pipeline.settle(bigint,text,boolean,integer,numeric,bigint,double precision,double precision,double precision,double precision,interval,text) to pipeline_worker

--: grant on function pipeline.store_embeddings(bigint,integer,smallint,bytea[],extensions.halfvec[]) to pipeline_worker
--= "execute"
grant execute on function pipeline.store_embeddings(bigint,integer,smallint,bytea[],extensions.halfvec[]) to pipeline_worker

--: grant on function pipeline.store_parse(bigint,bigint,integer,jsonb,jsonb) to pipeline_worker
--= "execute"
grant execute on function pipeline.store_parse(bigint,bigint,integer,jsonb,jsonb) to pipeline_worker

--: grant on function pipeline.stored_file(bigint,integer) to pipeline_worker
--= "execute"
grant execute on function pipeline.stored_file(bigint,integer) to pipeline_worker

--: grant on function pipeline.supersede(bigint,integer) to pipeline_worker
--= "execute"
grant execute on function pipeline.supersede(bigint,integer) to pipeline_worker

--: grant on function pipeline.tidy(integer,integer) to pipeline_worker
--= "execute"
grant execute on function pipeline.tidy(integer,integer) to pipeline_worker

--: grant on function public.cancel_job(bigint) to authenticated
--= "execute"
grant execute on function public.cancel_job(bigint) to authenticated

--: grant on function public.cancel_job(bigint) to service_role
--= "execute"
grant execute on function public.cancel_job(bigint) to service_role

--: grant on function public.retry_job(bigint) to authenticated
--= "execute"
grant execute on function public.retry_job(bigint) to authenticated

--: grant on function public.retry_job(bigint) to service_role
--= "execute"
grant execute on function public.retry_job(bigint) to service_role

--: grant on function public.search(text,extensions.vector,text,integer,text) to authenticated
--= "execute"
grant execute on function public.search(text,extensions.vector,text,integer,text) to authenticated

--: grant on pipeline.chunks to authenticated
--= "select (content, document_id, heading, id, job_id, ordinal, owner_id, page)"
grant select (content, document_id, heading, id, job_id, ordinal, owner_id, page) on pipeline.chunks to authenticated

--: grant on pipeline.chunks to service_role
--= "select (content, document_id, heading, id, job_id, ordinal, owner_id, page)"
grant select (content, document_id, heading, id, job_id, ordinal, owner_id, page) on pipeline.chunks to service_role

--: grant on pipeline.documents to authenticated
--= "select (chunk_count, created_at, deleted_at, embedding_model, failed_pages, id, media_type, name, object_version, owner_id, page_count, parser, published_at, published_job_id, published_version, size, updated_at)"
grant select (chunk_count, created_at, deleted_at, embedding_model, failed_pages, id, media_type, name, object_version, owner_id, page_count, parser, published_at, published_job_id, published_version, size, updated_at) on pipeline.documents to authenticated

--: grant on pipeline.documents to service_role
--= "select (chunk_count, created_at, deleted_at, embedding_model, failed_pages, id, media_type, name, object_version, owner_id, page_count, parser, published_at, published_job_id, published_version, size, updated_at)"
grant select (chunk_count, created_at, deleted_at, embedding_model, failed_pages, id, media_type, name, object_version, owner_id, page_count, parser, published_at, published_job_id, published_version, size, updated_at) on pipeline.documents to service_role

--: grant on pipeline.jobs to authenticated
--= "select (attempt, available_at, created_at, document_id, error, failures, finished_at, id, name, owner_id, progress, stage, started_at, state)"
grant select (attempt, available_at, created_at, document_id, error, failures, finished_at, id, name, owner_id, progress, stage, started_at, state) on pipeline.jobs to authenticated

--: grant on pipeline.jobs to service_role
--= "select (attempt, available_at, created_at, document_id, error, failures, finished_at, id, name, owner_id, progress, stage, started_at, state)"
grant select (attempt, available_at, created_at, document_id, error, failures, finished_at, id, name, owner_id, progress, stage, started_at, state) on pipeline.jobs to service_role

--: grant on pipeline.settings to pipeline_worker
--= "select"
grant select on pipeline.settings to pipeline_worker

--: grant on pipeline.spaces to pipeline_worker
--= "select"
grant select on pipeline.spaces to pipeline_worker

--: grant on public.chunks to authenticated
--= "select"
grant select on public.chunks to authenticated

--: grant on public.chunks to service_role
--= "select"
grant select on public.chunks to service_role

--: grant on public.documents to authenticated
--= "select"
grant select on public.documents to authenticated

--: grant on public.documents to service_role
--= "select"
grant select on public.documents to service_role

--: grant on public.jobs to authenticated
--= "select"
grant select on public.jobs to authenticated

--: grant on public.jobs to service_role
--= "select"
grant select on public.jobs to service_role

--: grant on schema extensions to pipeline_worker
--= "usage"
grant usage on schema extensions to pipeline_worker

--: grant on schema pipeline to pipeline_worker
--= "usage"
grant usage on schema pipeline to pipeline_worker

--: index pipeline.chunks_by_input
--= "CREATE INDEX chunks_by_input ON pipeline.chunks USING btree (owner_id, input_sha256)"
CREATE INDEX chunks_by_input ON pipeline.chunks USING btree (owner_id, input_sha256)

--: index pipeline.chunks_by_lexeme
--= "CREATE INDEX chunks_by_lexeme ON pipeline.chunks USING gin (lexemes) WITH (fastupdate=off)"
CREATE INDEX chunks_by_lexeme ON pipeline.chunks USING gin (lexemes) WITH (fastupdate=off)

--: index pipeline.documents_by_content
--= "CREATE INDEX documents_by_content ON pipeline.documents USING btree (owner_id, content_sha256) WHERE ((deleted_at IS NULL) AND (content_sha256 IS NOT NULL))"
CREATE INDEX documents_by_content ON pipeline.documents USING btree (owner_id, content_sha256) WHERE ((deleted_at IS NULL) AND (content_sha256 IS NOT NULL))

--: index pipeline.documents_by_owner
--= "CREATE INDEX documents_by_owner ON pipeline.documents USING btree (owner_id, name) INCLUDE (chunk_count, size) WHERE (deleted_at IS NULL)"
CREATE INDEX documents_by_owner ON pipeline.documents USING btree (owner_id, name) INCLUDE (chunk_count, size) WHERE (deleted_at IS NULL)

--: index pipeline.documents_deleted
--= "CREATE INDEX documents_deleted ON pipeline.documents USING btree (owner_id) WHERE (deleted_at IS NOT NULL)"
CREATE INDEX documents_deleted ON pipeline.documents USING btree (owner_id) WHERE (deleted_at IS NOT NULL)

--: index pipeline.documents_living_object
--= "CREATE UNIQUE INDEX documents_living_object ON pipeline.documents USING btree (object_id) WHERE (deleted_at IS NULL)"
CREATE UNIQUE INDEX documents_living_object ON pipeline.documents USING btree (object_id) WHERE (deleted_at IS NULL)

--: index pipeline.documents_to_purge
--= "CREATE INDEX documents_to_purge ON pipeline.documents USING btree (deleted_at) WHERE ((deleted_at IS NOT NULL) AND (purged_at IS NULL))"
CREATE INDEX documents_to_purge ON pipeline.documents USING btree (deleted_at) WHERE ((deleted_at IS NOT NULL) AND (purged_at IS NULL))

--: index pipeline.embedding_purchases_by_job
--= "CREATE INDEX embedding_purchases_by_job ON pipeline.embedding_purchases USING btree (job_id)"
CREATE INDEX embedding_purchases_by_job ON pipeline.embedding_purchases USING btree (job_id)

--: index pipeline.embeddings_by_document
--= "CREATE INDEX embeddings_by_document ON pipeline.embeddings USING btree (document_id)"
CREATE INDEX embeddings_by_document ON pipeline.embeddings USING btree (document_id)

--: index pipeline.embeddings_space_1
--= "CREATE INDEX embeddings_space_1 ON pipeline.embeddings USING hnsw (((embedding)::extensions.halfvec(1536)) extensions.halfvec_cosine_ops) WHERE (space_id = 1)"
CREATE INDEX embeddings_space_1 ON pipeline.embeddings USING hnsw (((embedding)::extensions.halfvec(1536)) extensions.halfvec_cosine_ops) WHERE (space_id = 1)

--: index pipeline.embeddings_space_2
--= "CREATE INDEX embeddings_space_2 ON pipeline.embeddings USING hnsw (((embedding)::extensions.halfvec(384)) extensions.halfvec_cosine_ops) WHERE (space_id = 2)"
CREATE INDEX embeddings_space_2 ON pipeline.embeddings USING hnsw (((embedding)::extensions.halfvec(384)) extensions.halfvec_cosine_ops) WHERE (space_id = 2)

--: index pipeline.erasures_by_pseudonym
--= "CREATE INDEX erasures_by_pseudonym ON pipeline.erasures USING btree (pseudonym)"
CREATE INDEX erasures_by_pseudonym ON pipeline.erasures USING btree (pseudonym)

--: index pipeline.erasures_due
--= "CREATE INDEX erasures_due ON pipeline.erasures USING btree (due_at) WHERE (completed_at IS NULL)"
CREATE INDEX erasures_due ON pipeline.erasures USING btree (due_at) WHERE (completed_at IS NULL)

--: index pipeline.job_events_by_time
--= "CREATE INDEX job_events_by_time ON pipeline.job_events USING brin (at)"
CREATE INDEX job_events_by_time ON pipeline.job_events USING brin (at)

--: index pipeline.jobs_by_owner
--= "CREATE INDEX jobs_by_owner ON pipeline.jobs USING btree (owner_id, id)"
CREATE INDEX jobs_by_owner ON pipeline.jobs USING btree (owner_id, id)

--: index pipeline.jobs_failed
--= "CREATE INDEX jobs_failed ON pipeline.jobs USING btree (id) WHERE (error_class <> ALL (ARRAY['cancelled'::text, 'superseded'::text, 'deleted'::text]))"
CREATE INDEX jobs_failed ON pipeline.jobs USING btree (id) WHERE (error_class <> ALL (ARRAY['cancelled'::text, 'superseded'::text, 'deleted'::text]))

--: index pipeline.lease_checks_due
--= "CREATE INDEX lease_checks_due ON pipeline.lease_checks USING btree (due_at)"
CREATE INDEX lease_checks_due ON pipeline.lease_checks USING btree (due_at)

--: index pipeline.ledger_by_day
--= "CREATE INDEX ledger_by_day ON pipeline.ledger USING btree ((((at AT TIME ZONE 'utc'::text))::date))"
CREATE INDEX ledger_by_day ON pipeline.ledger USING btree ((((at AT TIME ZONE 'utc'::text))::date))

--: index pipeline.ledger_by_job
--= "CREATE INDEX ledger_by_job ON pipeline.ledger USING btree (job_id)"
CREATE INDEX ledger_by_job ON pipeline.ledger USING btree (job_id)

--: index pipeline.ledger_by_owner
--= "CREATE INDEX ledger_by_owner ON pipeline.ledger USING btree (owner_id, at)"
CREATE INDEX ledger_by_owner ON pipeline.ledger USING btree (owner_id, at)

--: index pipeline.ledger_by_parse
--= "CREATE INDEX ledger_by_parse ON pipeline.ledger USING btree (parse_id) WHERE (parse_id IS NOT NULL)"
CREATE INDEX ledger_by_parse ON pipeline.ledger USING btree (parse_id) WHERE (parse_id IS NOT NULL)

--: index pipeline.ledger_by_time
--= "CREATE INDEX ledger_by_time ON pipeline.ledger USING btree (at)"
CREATE INDEX ledger_by_time ON pipeline.ledger USING btree (at)

--: index pipeline.ledger_under_way
--= "CREATE INDEX ledger_under_way ON pipeline.ledger USING btree (provider, fingerprint) WHERE (state = 'reserved'::text)"
CREATE INDEX ledger_under_way ON pipeline.ledger USING btree (provider, fingerprint) WHERE (state = 'reserved'::text)

--: index pipeline.owners_waiting
--= "CREATE INDEX owners_waiting ON pipeline.owners USING btree (lanes, served_at) WHERE (lanes > 0)"
CREATE INDEX owners_waiting ON pipeline.owners USING btree (lanes, served_at) WHERE (lanes > 0)

--: index pipeline.parses_by_document
--= "CREATE INDEX parses_by_document ON pipeline.parses USING btree (document_id)"
CREATE INDEX parses_by_document ON pipeline.parses USING btree (document_id)

--: index pipeline.spaces_one_active
--= "CREATE UNIQUE INDEX spaces_one_active ON pipeline.spaces USING btree (active) WHERE active"
CREATE UNIQUE INDEX spaces_one_active ON pipeline.spaces USING btree (active) WHERE active

--: index pipeline.wakeups_by_owner
--= "CREATE INDEX wakeups_by_owner ON pipeline.wakeups USING btree (owner_id, due_at)"
CREATE INDEX wakeups_by_owner ON pipeline.wakeups USING btree (owner_id, due_at)

--: index pipeline.wakeups_due
--= "CREATE INDEX wakeups_due ON pipeline.wakeups USING btree (due_at)"
CREATE INDEX wakeups_due ON pipeline.wakeups USING btree (due_at)

--: member of pipeline_worker: the owner of the schema
--= "can take its place"
grant pipeline_worker to current_user

--: not-null pipeline.budgets.period
--= "is not null"
alter table pipeline.budgets alter column period set not null

--: not-null pipeline.budgets.scope
--= "is not null"
alter table pipeline.budgets alter column scope set not null

--: not-null pipeline.chunks.content
--= "is not null"
alter table pipeline.chunks alter column content set not null

--: not-null pipeline.chunks.document_id
--= "is not null"
alter table pipeline.chunks alter column document_id set not null

--: not-null pipeline.chunks.id
--= "is not null"
alter table pipeline.chunks alter column id set not null

--: not-null pipeline.chunks.input_sha256
--= "is not null"
alter table pipeline.chunks alter column input_sha256 set not null

--: not-null pipeline.chunks.job_id
--= "is not null"
alter table pipeline.chunks alter column job_id set not null

--: not-null pipeline.chunks.lexemes
--= "is not null"
alter table pipeline.chunks alter column lexemes set not null

--: not-null pipeline.chunks.ordinal
--= "is not null"
alter table pipeline.chunks alter column ordinal set not null

--: not-null pipeline.chunks.owner_id
--= "is not null"
alter table pipeline.chunks alter column owner_id set not null

--: not-null pipeline.chunks.token_count
--= "is not null"
alter table pipeline.chunks alter column token_count set not null

--: not-null pipeline.documents.bucket_id
--= "is not null"
alter table pipeline.documents alter column bucket_id set not null

--: not-null pipeline.documents.chunk_count
--= "is not null"
alter table pipeline.documents alter column chunk_count set not null

--: not-null pipeline.documents.created_at
--= "is not null"
alter table pipeline.documents alter column created_at set not null

--: not-null pipeline.documents.failed_pages
--= "is not null"
alter table pipeline.documents alter column failed_pages set not null

--: not-null pipeline.documents.id
--= "is not null"
alter table pipeline.documents alter column id set not null

--: not-null pipeline.documents.name
--= "is not null"
alter table pipeline.documents alter column name set not null

--: not-null pipeline.documents.object_id
--= "is not null"
alter table pipeline.documents alter column object_id set not null

--: not-null pipeline.documents.object_version
--= "is not null"
alter table pipeline.documents alter column object_version set not null

--: not-null pipeline.documents.owner_id
--= "is not null"
alter table pipeline.documents alter column owner_id set not null

--: not-null pipeline.documents.updated_at
--= "is not null"
alter table pipeline.documents alter column updated_at set not null

--: not-null pipeline.embedding_purchases.attempt
--= "is not null"
alter table pipeline.embedding_purchases alter column attempt set not null

--: not-null pipeline.embedding_purchases.input_sha256
--= "is not null"
alter table pipeline.embedding_purchases alter column input_sha256 set not null

--: not-null pipeline.embedding_purchases.job_id
--= "is not null"
alter table pipeline.embedding_purchases alter column job_id set not null

--: not-null pipeline.embedding_purchases.owner_id
--= "is not null"
alter table pipeline.embedding_purchases alter column owner_id set not null

--: not-null pipeline.embedding_purchases.space_id
--= "is not null"
alter table pipeline.embedding_purchases alter column space_id set not null

--: not-null pipeline.embeddings.bought_at
--= "is not null"
alter table pipeline.embeddings alter column bought_at set not null

--: not-null pipeline.embeddings.document_id
--= "is not null"
alter table pipeline.embeddings alter column document_id set not null

--: not-null pipeline.embeddings.embedding
--= "is not null"
alter table pipeline.embeddings alter column embedding set not null

--: not-null pipeline.embeddings.input_sha256
--= "is not null"
alter table pipeline.embeddings alter column input_sha256 set not null

--: not-null pipeline.embeddings.owner_id
--= "is not null"
alter table pipeline.embeddings alter column owner_id set not null

--: not-null pipeline.embeddings.space_id
--= "is not null"
alter table pipeline.embeddings alter column space_id set not null

--: not-null pipeline.erasures.bytes
--= "is not null"
alter table pipeline.erasures alter column bytes set not null

--: not-null pipeline.erasures.costs
--= "is not null"
alter table pipeline.erasures alter column costs set not null

--: not-null pipeline.erasures.documents
--= "is not null"
alter table pipeline.erasures alter column documents set not null

--: not-null pipeline.erasures.due_at
--= "is not null"
alter table pipeline.erasures alter column due_at set not null

--: not-null pipeline.erasures.embeddings
--= "is not null"
alter table pipeline.erasures alter column embeddings set not null

--: not-null pipeline.erasures.events
--= "is not null"
alter table pipeline.erasures alter column events set not null

--: not-null pipeline.erasures.failures
--= "is not null"
alter table pipeline.erasures alter column failures set not null

--: not-null pipeline.erasures.files
--= "is not null"
alter table pipeline.erasures alter column files set not null

--: not-null pipeline.erasures.id
--= "is not null"
alter table pipeline.erasures alter column id set not null

--: not-null pipeline.erasures.jobs
--= "is not null"
alter table pipeline.erasures alter column jobs set not null

--: not-null pipeline.erasures.messages
--= "is not null"
alter table pipeline.erasures alter column messages set not null

--: not-null pipeline.erasures.parses
--= "is not null"
alter table pipeline.erasures alter column parses set not null

--: not-null pipeline.erasures.passages
--= "is not null"
alter table pipeline.erasures alter column passages set not null

--: not-null pipeline.erasures.pseudonym
--= "is not null"
alter table pipeline.erasures alter column pseudonym set not null

--: not-null pipeline.erasures.requested_at
--= "is not null"
alter table pipeline.erasures alter column requested_at set not null

--: not-null pipeline.healing.every
--= "is not null"
alter table pipeline.healing alter column every set not null

--: not-null pipeline.healing.hand
--= "is not null"
alter table pipeline.healing alter column hand set not null

--: not-null pipeline.healing.rested_at
--= "is not null"
alter table pipeline.healing alter column rested_at set not null

--: not-null pipeline.job_events.at
--= "is not null"
alter table pipeline.job_events alter column at set not null

--: not-null pipeline.job_events.attempt
--= "is not null"
alter table pipeline.job_events alter column attempt set not null

--: not-null pipeline.job_events.failures
--= "is not null"
alter table pipeline.job_events alter column failures set not null

--: not-null pipeline.job_events.id
--= "is not null"
alter table pipeline.job_events alter column id set not null

--: not-null pipeline.job_events.job_id
--= "is not null"
alter table pipeline.job_events alter column job_id set not null

--: not-null pipeline.job_events.owner_id
--= "is not null"
alter table pipeline.job_events alter column owner_id set not null

--: not-null pipeline.job_events.to_state
--= "is not null"
alter table pipeline.job_events alter column to_state set not null

--: not-null pipeline.job_states.final
--= "is not null"
alter table pipeline.job_states alter column final set not null

--: not-null pipeline.job_states.meaning
--= "is not null"
alter table pipeline.job_states alter column meaning set not null

--: not-null pipeline.job_states.state
--= "is not null"
alter table pipeline.job_states alter column state set not null

--: not-null pipeline.job_transitions.from_state
--= "is not null"
alter table pipeline.job_transitions alter column from_state set not null

--: not-null pipeline.job_transitions.meaning
--= "is not null"
alter table pipeline.job_transitions alter column meaning set not null

--: not-null pipeline.job_transitions.to_state
--= "is not null"
alter table pipeline.job_transitions alter column to_state set not null

--: not-null pipeline.job_work.inputs
--= "is not null"
alter table pipeline.job_work alter column inputs set not null

--: not-null pipeline.job_work.job_id
--= "is not null"
alter table pipeline.job_work alter column job_id set not null

--: not-null pipeline.job_work.model
--= "is not null"
alter table pipeline.job_work alter column model set not null

--: not-null pipeline.job_work.pages
--= "is not null"
alter table pipeline.job_work alter column pages set not null

--: not-null pipeline.job_work.provider
--= "is not null"
alter table pipeline.job_work alter column provider set not null

--: not-null pipeline.job_work.stage
--= "is not null"
alter table pipeline.job_work alter column stage set not null

--: not-null pipeline.job_work.tokens
--= "is not null"
alter table pipeline.job_work alter column tokens set not null

--: not-null pipeline.jobs.attempt
--= "is not null"
alter table pipeline.jobs alter column attempt set not null

--: not-null pipeline.jobs.available_at
--= "is not null"
alter table pipeline.jobs alter column available_at set not null

--: not-null pipeline.jobs.bucket_id
--= "is not null"
alter table pipeline.jobs alter column bucket_id set not null

--: not-null pipeline.jobs.created_at
--= "is not null"
alter table pipeline.jobs alter column created_at set not null

--: not-null pipeline.jobs.document_id
--= "is not null"
alter table pipeline.jobs alter column document_id set not null

--: not-null pipeline.jobs.failures
--= "is not null"
alter table pipeline.jobs alter column failures set not null

--: not-null pipeline.jobs.id
--= "is not null"
alter table pipeline.jobs alter column id set not null

--: not-null pipeline.jobs.lane
--= "is not null"
alter table pipeline.jobs alter column lane set not null

--: not-null pipeline.jobs.name
--= "is not null"
alter table pipeline.jobs alter column name set not null

--: not-null pipeline.jobs.object_id
--= "is not null"
alter table pipeline.jobs alter column object_id set not null

--: not-null pipeline.jobs.object_version
--= "is not null"
alter table pipeline.jobs alter column object_version set not null

--: not-null pipeline.jobs.owner_id
--= "is not null"
alter table pipeline.jobs alter column owner_id set not null

--: not-null pipeline.jobs.progress
--= "is not null"
alter table pipeline.jobs alter column progress set not null

--: not-null pipeline.jobs.state
--= "is not null"
alter table pipeline.jobs alter column state set not null

--: not-null pipeline.lease_checks.due_at
--= "is not null"
alter table pipeline.lease_checks alter column due_at set not null

--: not-null pipeline.lease_checks.id
--= "is not null"
alter table pipeline.lease_checks alter column id set not null

--: not-null pipeline.lease_checks.job_ids
--= "is not null"
alter table pipeline.lease_checks alter column job_ids set not null

--: not-null pipeline.ledger.asked_at
--= "is not null"
alter table pipeline.ledger alter column asked_at set not null

--: not-null pipeline.ledger.at
--= "is not null"
alter table pipeline.ledger alter column at set not null

--: not-null pipeline.ledger.attempt
--= "is not null"
alter table pipeline.ledger alter column attempt set not null

--: not-null pipeline.ledger.fingerprint
--= "is not null"
alter table pipeline.ledger alter column fingerprint set not null

--: not-null pipeline.ledger.id
--= "is not null"
alter table pipeline.ledger alter column id set not null

--: not-null pipeline.ledger.inputs
--= "is not null"
alter table pipeline.ledger alter column inputs set not null

--: not-null pipeline.ledger.job_id
--= "is not null"
alter table pipeline.ledger alter column job_id set not null

--: not-null pipeline.ledger.model
--= "is not null"
alter table pipeline.ledger alter column model set not null

--: not-null pipeline.ledger.pages
--= "is not null"
alter table pipeline.ledger alter column pages set not null

--: not-null pipeline.ledger.provider
--= "is not null"
alter table pipeline.ledger alter column provider set not null

--: not-null pipeline.ledger.sends_at
--= "is not null"
alter table pipeline.ledger alter column sends_at set not null

--: not-null pipeline.ledger.stage
--= "is not null"
alter table pipeline.ledger alter column stage set not null

--: not-null pipeline.ledger.state
--= "is not null"
alter table pipeline.ledger alter column state set not null

--: not-null pipeline.ledger.tokens
--= "is not null"
alter table pipeline.ledger alter column tokens set not null

--: not-null pipeline.limits.max_concurrent_jobs
--= "is not null"
alter table pipeline.limits alter column max_concurrent_jobs set not null

--: not-null pipeline.limits.priority
--= "is not null"
alter table pipeline.limits alter column priority set not null

--: not-null pipeline.listeners.id
--= "is not null"
alter table pipeline.listeners alter column id set not null

--: not-null pipeline.listeners.keys
--= "is not null"
alter table pipeline.listeners alter column keys set not null

--: not-null pipeline.listeners.parser
--= "is not null"
alter table pipeline.listeners alter column parser set not null

--: not-null pipeline.listeners.release
--= "is not null"
alter table pipeline.listeners alter column release set not null

--: not-null pipeline.listeners.seen_at
--= "is not null"
alter table pipeline.listeners alter column seen_at set not null

--: not-null pipeline.listeners.space
--= "is not null"
alter table pipeline.listeners alter column space set not null

--: not-null pipeline.listeners.started_at
--= "is not null"
alter table pipeline.listeners alter column started_at set not null

--: not-null pipeline.owner_stops.owner_id
--= "is not null"
alter table pipeline.owner_stops alter column owner_id set not null

--: not-null pipeline.owner_stops.stopped
--= "is not null"
alter table pipeline.owner_stops alter column stopped set not null

--: not-null pipeline.owners.lanes
--= "is not null"
alter table pipeline.owners alter column lanes set not null

--: not-null pipeline.owners.max_concurrent_jobs
--= "is not null"
alter table pipeline.owners alter column max_concurrent_jobs set not null

--: not-null pipeline.owners.owner_id
--= "is not null"
alter table pipeline.owners alter column owner_id set not null

--: not-null pipeline.owners.priority
--= "is not null"
alter table pipeline.owners alter column priority set not null

--: not-null pipeline.owners.served_at
--= "is not null"
alter table pipeline.owners alter column served_at set not null

--: not-null pipeline.owners.started
--= "is not null"
alter table pipeline.owners alter column started set not null

--: not-null pipeline.owners.taken
--= "is not null"
alter table pipeline.owners alter column taken set not null

--: not-null pipeline.parses.attempt
--= "is not null"
alter table pipeline.parses alter column attempt set not null

--: not-null pipeline.parses.content_sha256
--= "is not null"
alter table pipeline.parses alter column content_sha256 set not null

--: not-null pipeline.parses.created_at
--= "is not null"
alter table pipeline.parses alter column created_at set not null

--: not-null pipeline.parses.document_id
--= "is not null"
alter table pipeline.parses alter column document_id set not null

--: not-null pipeline.parses.failed_pages
--= "is not null"
alter table pipeline.parses alter column failed_pages set not null

--: not-null pipeline.parses.fingerprint
--= "is not null"
alter table pipeline.parses alter column fingerprint set not null

--: not-null pipeline.parses.id
--= "is not null"
alter table pipeline.parses alter column id set not null

--: not-null pipeline.parses.job_id
--= "is not null"
alter table pipeline.parses alter column job_id set not null

--: not-null pipeline.parses.owner_id
--= "is not null"
alter table pipeline.parses alter column owner_id set not null

--: not-null pipeline.prices.model
--= "is not null"
alter table pipeline.prices alter column model set not null

--: not-null pipeline.prices.price
--= "is not null"
alter table pipeline.prices alter column price set not null

--: not-null pipeline.prices.provider
--= "is not null"
alter table pipeline.prices alter column provider set not null

--: not-null pipeline.prices.unit
--= "is not null"
alter table pipeline.prices alter column unit set not null

--: not-null pipeline.prices.valid_from
--= "is not null"
alter table pipeline.prices alter column valid_from set not null

--: not-null pipeline.provider_keys.fingerprint
--= "is not null"
alter table pipeline.provider_keys alter column fingerprint set not null

--: not-null pipeline.provider_keys.outages
--= "is not null"
alter table pipeline.provider_keys alter column outages set not null

--: not-null pipeline.provider_keys.provider
--= "is not null"
alter table pipeline.provider_keys alter column provider set not null

--: not-null pipeline.provider_keys.stage
--= "is not null"
alter table pipeline.provider_keys alter column stage set not null

--: not-null pipeline.provider_keys.state
--= "is not null"
alter table pipeline.provider_keys alter column state set not null

--: not-null pipeline.provider_keys.state_since
--= "is not null"
alter table pipeline.provider_keys alter column state_since set not null

--: not-null pipeline.provider_keys.token_factor
--= "is not null"
alter table pipeline.provider_keys alter column token_factor set not null

--: not-null pipeline.provider_keys.used_at
--= "is not null"
alter table pipeline.provider_keys alter column used_at set not null

--: not-null pipeline.provider_limits.max_in_flight
--= "is not null"
alter table pipeline.provider_limits alter column max_in_flight set not null

--: not-null pipeline.provider_limits.provider
--= "is not null"
alter table pipeline.provider_limits alter column provider set not null

--: not-null pipeline.pseudonym_key.key
--= "is not null"
alter table pipeline.pseudonym_key alter column key set not null

--: not-null pipeline.pseudonym_key.only_row
--= "is not null"
alter table pipeline.pseudonym_key alter column only_row set not null

--: not-null pipeline.queue.due_at
--= "is not null"
alter table pipeline.queue alter column due_at set not null

--: not-null pipeline.queue.job_id
--= "is not null"
alter table pipeline.queue alter column job_id set not null

--: not-null pipeline.queue.lane
--= "is not null"
alter table pipeline.queue alter column lane set not null

--: not-null pipeline.queue.owner_id
--= "is not null"
alter table pipeline.queue alter column owner_id set not null

--: not-null pipeline.retention.began_at
--= "is not null"
alter table pipeline.retention alter column began_at set not null

--: not-null pipeline.retention.hand
--= "is not null"
alter table pipeline.retention alter column hand set not null

--: not-null pipeline.retention.rested_at
--= "is not null"
alter table pipeline.retention alter column rested_at set not null

--: not-null pipeline.settings.anonymous_sign_ins
--= "is not null"
alter table pipeline.settings alter column anonymous_sign_ins set not null

--: not-null pipeline.settings.backoff_base
--= "is not null"
alter table pipeline.settings alter column backoff_base set not null

--: not-null pipeline.settings.backoff_cap
--= "is not null"
alter table pipeline.settings alter column backoff_cap set not null

--: not-null pipeline.settings.keep_history
--= "is not null"
alter table pipeline.settings alter column keep_history set not null

--: not-null pipeline.settings.keep_unused_work
--= "is not null"
alter table pipeline.settings alter column keep_unused_work set not null

--: not-null pipeline.settings.max_failures
--= "is not null"
alter table pipeline.settings alter column max_failures set not null

--: not-null pipeline.settings.only_row
--= "is not null"
alter table pipeline.settings alter column only_row set not null

--: not-null pipeline.settings.paused
--= "is not null"
alter table pipeline.settings alter column paused set not null

--: not-null pipeline.settings.probe_every
--= "is not null"
alter table pipeline.settings alter column probe_every set not null

--: not-null pipeline.settings.retries_per_day
--= "is not null"
alter table pipeline.settings alter column retries_per_day set not null

--: not-null pipeline.settings.schema_version
--= "is not null"
alter table pipeline.settings alter column schema_version set not null

--: not-null pipeline.spaces.active
--= "is not null"
alter table pipeline.spaces alter column active set not null

--: not-null pipeline.spaces.created_at
--= "is not null"
alter table pipeline.spaces alter column created_at set not null

--: not-null pipeline.spaces.dimensions
--= "is not null"
alter table pipeline.spaces alter column dimensions set not null

--: not-null pipeline.spaces.id
--= "is not null"
alter table pipeline.spaces alter column id set not null

--: not-null pipeline.spaces.input_format
--= "is not null"
alter table pipeline.spaces alter column input_format set not null

--: not-null pipeline.spaces.latin_only
--= "is not null"
alter table pipeline.spaces alter column latin_only set not null

--: not-null pipeline.spaces.model
--= "is not null"
alter table pipeline.spaces alter column model set not null

--: not-null pipeline.spaces.name
--= "is not null"
alter table pipeline.spaces alter column name set not null

--: not-null pipeline.spent_days.amount
--= "is not null"
alter table pipeline.spent_days alter column amount set not null

--: not-null pipeline.spent_days.day
--= "is not null"
alter table pipeline.spent_days alter column day set not null

--: not-null pipeline.upload_days.day
--= "is not null"
alter table pipeline.upload_days alter column day set not null

--: not-null pipeline.upload_days.owner_id
--= "is not null"
alter table pipeline.upload_days alter column owner_id set not null

--: not-null pipeline.upload_days.uploads
--= "is not null"
alter table pipeline.upload_days alter column uploads set not null

--: not-null pipeline.wakeups.due_at
--= "is not null"
alter table pipeline.wakeups alter column due_at set not null

--: not-null pipeline.wakeups.id
--= "is not null"
alter table pipeline.wakeups alter column id set not null

--: not-null pipeline.wakeups.lane
--= "is not null"
alter table pipeline.wakeups alter column lane set not null

--: not-null pipeline.wakeups.owner_id
--= "is not null"
alter table pipeline.wakeups alter column owner_id set not null

--: policy "pipeline: nobody beyond their folder" on storage.objects
--= "as restrictive for all to authenticated using (((bucket_id <> 'documents'::text) OR starts_with(name, ( SELECT (pipeline.caller() || '/'::text))))) with check (((bucket_id <> 'documents'::text) OR starts_with(name, ( SELECT (pipeline.caller() || '/'::text)))))"
select pipeline.attach()

--: policy "pipeline: nobody without a user" on storage.objects
--= "as restrictive for all to anon using ((bucket_id <> 'documents'::text)) with check ((bucket_id <> 'documents'::text))"
select pipeline.attach()

--: policy "pipeline: owners delete their files" on storage.objects
--= "as permissive for delete to authenticated using (((bucket_id = 'documents'::text) AND starts_with(name, ( SELECT (pipeline.caller() || '/'::text)))))"
select pipeline.attach()

--: policy "pipeline: owners hear of their jobs" on realtime.messages
--= "as permissive for select to authenticated using (((extension = 'broadcast'::text) AND (( SELECT realtime.topic() AS topic) = (('user:'::text || ( SELECT pipeline.caller() AS caller)) || ':jobs'::text))))"
select pipeline.attach()

--: policy "pipeline: owners overwrite and move their files" on storage.objects
--= "as permissive for update to authenticated using (((bucket_id = 'documents'::text) AND starts_with(name, ( SELECT (pipeline.caller() || '/'::text))))) with check (((bucket_id = 'documents'::text) AND starts_with(name, ( SELECT (pipeline.caller() || '/'::text)))))"
select pipeline.attach()

--: policy "pipeline: owners read their files" on storage.objects
--= "as permissive for select to authenticated using (((bucket_id = 'documents'::text) AND starts_with(name, ( SELECT (pipeline.caller() || '/'::text)))))"
select pipeline.attach()

--: policy "pipeline: owners upload to their folder" on storage.objects
--= "as permissive for insert to authenticated with check (((bucket_id = 'documents'::text) AND starts_with(name, ( SELECT (pipeline.caller() || '/'::text)))))"
select pipeline.attach()

--: policy owner_reads on pipeline.chunks
--= "as permissive for select to authenticated using ((owner_id = ( SELECT pipeline.caller() AS caller)))"
create policy owner_reads on pipeline.chunks as permissive for select to authenticated using ((owner_id = ( SELECT pipeline.caller() AS caller)))

--: policy owner_reads on pipeline.documents
--= "as permissive for select to authenticated using ((owner_id = ( SELECT pipeline.caller() AS caller)))"
create policy owner_reads on pipeline.documents as permissive for select to authenticated using ((owner_id = ( SELECT pipeline.caller() AS caller)))

--: policy owner_reads on pipeline.jobs
--= "as permissive for select to authenticated using ((owner_id = ( SELECT pipeline.caller() AS caller)))"
create policy owner_reads on pipeline.jobs as permissive for select to authenticated using ((owner_id = ( SELECT pipeline.caller() AS caller)))

--: policy worker_reads on pipeline.settings
--= "as permissive for select to pipeline_worker using (true)"
create policy worker_reads on pipeline.settings as permissive for select to pipeline_worker using (true)

--: policy worker_reads on pipeline.spaces
--= "as permissive for select to pipeline_worker using (true)"
create policy worker_reads on pipeline.spaces as permissive for select to pipeline_worker using (true)

--: role pipeline_worker
--= "login, noinherit"
create role pipeline_worker login noinherit

--: row an active space
--= "is there"
select pipeline.activate_space('text-embedding-3-small-1536')

--: row healing of jobs
--= "is there"
insert into pipeline.healing (hand, every) values ('jobs', '06:00:00')

--: row healing of owners
--= "is there"
insert into pipeline.healing (hand, every) values ('owners', '01:00:00')

--: row healing of queue
--= "is there"
insert into pipeline.healing (hand, every) values ('queue', '01:00:00')

--: row healing of waiting
--= "is there"
insert into pipeline.healing (hand, every) values ('waiting', '00:01:00')

--: row job state available
--= "waits for a listener; a retry has a later available_at"
insert into pipeline.job_states values ('available', 'f', 'waits for a listener; a retry has a later available_at')

--: row job state cancelled
--= "cancelled by its owner, or its file was replaced or deleted, final"
insert into pipeline.job_states values ('cancelled', 't', 'cancelled by its owner, or its file was replaced or deleted')

--: row job state completed
--= "its chunks are published, final"
insert into pipeline.job_states values ('completed', 't', 'its chunks are published')

--: row job state dead
--= "it failed for good; error says why, final"
insert into pipeline.job_states values ('dead', 't', 'it failed for good; error says why')

--: row job state running
--= "a listener works on it under a lease"
insert into pipeline.job_states values ('running', 'f', 'a listener works on it under a lease')

--: row job transition available to cancelled
--= "cancel"
insert into pipeline.job_transitions values ('available', 'cancelled', 'cancel')

--: row job transition available to running
--= "claim"
insert into pipeline.job_transitions values ('available', 'running', 'claim')

--: row job transition cancelled to available
--= "retry"
insert into pipeline.job_transitions values ('cancelled', 'available', 'retry')

--: row job transition completed to available
--= "do again"
insert into pipeline.job_transitions values ('completed', 'available', 'do again')

--: row job transition dead to available
--= "retry"
insert into pipeline.job_transitions values ('dead', 'available', 'retry')

--: row job transition running to available
--= "fail with tries left, or release"
insert into pipeline.job_transitions values ('running', 'available', 'fail with tries left, or release')

--: row job transition running to cancelled
--= "cancel"
insert into pipeline.job_transitions values ('running', 'cancelled', 'cancel')

--: row job transition running to completed
--= "publish"
insert into pipeline.job_transitions values ('running', 'completed', 'publish')

--: row job transition running to dead
--= "fail for good"
insert into pipeline.job_transitions values ('running', 'dead', 'fail for good')

--: row retention of documents
--= "is there"
insert into pipeline.retention (hand) values ('documents')

--: row retention of jobs
--= "is there"
insert into pipeline.retention (hand) values ('jobs')

--: row space all-MiniLM-L6-v2-int8-384
--= "all-MiniLM-L6-v2-int8, 384 dimensions, heading-content-1"
insert into pipeline.spaces (id, name, model, dimensions, input_format, latin_only) overriding system value values ('2', 'all-MiniLM-L6-v2-int8-384', 'all-MiniLM-L6-v2-int8', '384', 'heading-content-1', 't'); select setval(pg_get_serial_sequence('pipeline.spaces', 'id'), (select max(id) from pipeline.spaces))

--: row space text-embedding-3-small-1536
--= "text-embedding-3-small, 1536 dimensions, heading-content-1"
insert into pipeline.spaces (id, name, model, dimensions, input_format, latin_only) overriding system value values ('1', 'text-embedding-3-small-1536', 'text-embedding-3-small', '1536', 'heading-content-1', 'f'); select setval(pg_get_serial_sequence('pipeline.spaces', 'id'), (select max(id) from pipeline.spaces))

--: row the key of pseudonyms
--= "is there"
insert into pipeline.pseudonym_key (key) values (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())))

--: row the limits of everybody
--= "is there"
insert into pipeline.limits default values

--: row the settings
--= "is there"
insert into pipeline.settings default values

--: schema pipeline
--= "is there"
create schema pipeline

--: setting of pipeline_worker: idle_in_transaction_session_timeout
--= "is set"
alter role pipeline_worker set idle_in_transaction_session_timeout = '30s'

--: setting of pipeline_worker: statement_timeout
--= "is set"
alter role pipeline_worker set statement_timeout = '5min'

--: storage of pipeline.chunks.lexemes
--= "external"
alter table pipeline.chunks alter column lexemes set storage external

--: table pipeline.budgets
--= "table, row security"
create table pipeline.budgets (
  scope text not null,
  owner_id uuid,
  period text not null,
  amount numeric);
alter table pipeline.budgets enable row level security

--: table pipeline.chunks
--= "table, row security, toast_tuple_target=8160"
create table pipeline.chunks (
  id bigint generated always as identity not null,
  document_id uuid not null,
  job_id bigint not null,
  owner_id uuid not null,
  ordinal integer not null,
  page integer,
  heading text,
  content text not null,
  input_sha256 bytea not null,
  lexemes tsvector not null,
  token_count integer generated always as (pipeline.token_count(lexemes)) stored not null) with (toast_tuple_target=8160);
alter table pipeline.chunks enable row level security

--: table pipeline.documents
--= "table, row security"
create table pipeline.documents (
  id uuid default gen_random_uuid() not null,
  owner_id uuid not null,
  object_id uuid not null,
  object_version text not null,
  bucket_id text not null,
  name text not null,
  size bigint,
  published_version text,
  published_at timestamp with time zone,
  published_job_id bigint,
  content_sha256 bytea,
  media_type text,
  page_count integer,
  failed_pages jsonb default '{}'::jsonb not null,
  chunk_count integer default 0 not null,
  parser text,
  embedding_model text,
  created_at timestamp with time zone default pipeline.now() not null,
  updated_at timestamp with time zone default pipeline.now() not null,
  deleted_at timestamp with time zone,
  purged_at timestamp with time zone);
alter table pipeline.documents enable row level security

--: table pipeline.embedding_purchases
--= "table, row security"
create table pipeline.embedding_purchases (
  owner_id uuid not null,
  space_id smallint not null,
  input_sha256 bytea not null,
  job_id bigint not null,
  attempt integer not null);
alter table pipeline.embedding_purchases enable row level security

--: table pipeline.embeddings
--= "table, row security, toast_tuple_target=8160"
create table pipeline.embeddings (
  owner_id uuid not null,
  space_id smallint not null,
  input_sha256 bytea not null,
  embedding extensions.halfvec not null,
  document_id uuid not null,
  bought_at timestamp with time zone default pipeline.now() not null) with (toast_tuple_target=8160);
alter table pipeline.embeddings enable row level security

--: table pipeline.erasures
--= "table, row security"
create table pipeline.erasures (
  id bigint generated always as identity not null,
  pseudonym uuid not null,
  owner_id uuid,
  requested_at timestamp with time zone default pipeline.now() not null,
  due_at timestamp with time zone default pipeline.now() not null,
  failures smallint default 0 not null,
  last_error text,
  emptied_at timestamp with time zone,
  completed_at timestamp with time zone,
  files bigint default 0 not null,
  bytes bigint default 0 not null,
  documents bigint default 0 not null,
  passages bigint default 0 not null,
  embeddings bigint default 0 not null,
  parses bigint default 0 not null,
  jobs bigint default 0 not null,
  events bigint default 0 not null,
  messages bigint default 0 not null,
  costs bigint default 0 not null);
alter table pipeline.erasures enable row level security

--: table pipeline.healing
--= "table, row security"
create table pipeline.healing (
  hand text not null,
  every interval not null,
  "position" jsonb,
  rested_at timestamp with time zone default '-infinity'::timestamp with time zone not null);
alter table pipeline.healing enable row level security

--: table pipeline.job_events
--= "table, row security"
create table pipeline.job_events (
  job_id bigint not null,
  id bigint generated always as identity not null,
  owner_id uuid not null,
  at timestamp with time zone not null,
  from_state text,
  to_state text not null,
  attempt integer not null,
  failures smallint not null,
  stage text,
  claimed_by text,
  error_class text,
  error text);
alter table pipeline.job_events enable row level security

--: table pipeline.job_states
--= "table, row security"
create table pipeline.job_states (
  state text not null,
  final boolean not null,
  meaning text not null);
alter table pipeline.job_states enable row level security

--: table pipeline.job_transitions
--= "table, row security"
create table pipeline.job_transitions (
  from_state text not null,
  to_state text not null,
  meaning text not null);
alter table pipeline.job_transitions enable row level security

--: table pipeline.job_work
--= "table, row security"
create table pipeline.job_work (
  job_id bigint not null,
  stage text not null,
  provider text not null,
  model text not null,
  pages integer default 0 not null,
  inputs integer default 0 not null,
  tokens bigint default 0 not null);
alter table pipeline.job_work enable row level security

--: table pipeline.jobs
--= "table, row security, fillfactor=33"
create table pipeline.jobs (
  id bigint generated always as identity not null,
  document_id uuid not null,
  owner_id uuid not null,
  object_id uuid not null,
  object_version text not null,
  bucket_id text not null,
  name text not null,
  size bigint,
  etag text,
  state text default 'available'::text not null,
  stage text,
  progress real default 0 not null,
  attempt integer default 0 not null,
  failures smallint default 0 not null,
  available_at timestamp with time zone default pipeline.now() not null,
  claimed_by text,
  lease_expires_at timestamp with time zone,
  error text,
  error_class text,
  error_detail text,
  created_at timestamp with time zone default pipeline.now() not null,
  started_at timestamp with time zone,
  finished_at timestamp with time zone,
  lane smallint generated always as (
CASE
    WHEN (stage = ANY (ARRAY['embed'::text, 'publish'::text])) THEN 2
    ELSE 1
END) stored not null) with (fillfactor=33);
alter table pipeline.jobs enable row level security

--: table pipeline.lease_checks
--= "table, row security, toast_tuple_target=8160"
create table pipeline.lease_checks (
  id bigint generated always as identity not null,
  due_at timestamp with time zone not null,
  job_ids bigint[] not null) with (toast_tuple_target=8160);
alter table pipeline.lease_checks enable row level security

--: table pipeline.ledger
--= "table, row security"
create table pipeline.ledger (
  id bigint generated always as identity not null,
  state text default 'reserved'::text not null,
  at timestamp with time zone default pipeline.now() not null,
  sends_at timestamp with time zone not null,
  asked_at timestamp with time zone default pipeline.now() not null,
  settled_at timestamp with time zone,
  owner_id uuid,
  document_id uuid,
  job_id bigint not null,
  attempt integer not null,
  parse_id bigint,
  provider text not null,
  fingerprint text not null,
  stage text not null,
  model text not null,
  pages integer default 0 not null,
  inputs integer default 0 not null,
  tokens bigint default 0 not null,
  amount numeric);
alter table pipeline.ledger enable row level security

--: table pipeline.limits
--= "table, row security"
create table pipeline.limits (
  owner_id uuid,
  max_concurrent_jobs integer default 2 not null,
  priority integer default 1 not null,
  uploads_per_day integer default 30,
  max_file_bytes bigint default 26214400,
  max_documents integer default 10000,
  max_stored_bytes bigint default '10737418240'::bigint);
alter table pipeline.limits enable row level security

--: table pipeline.listeners
--= "table, row security"
create table pipeline.listeners (
  id text not null,
  started_at timestamp with time zone not null,
  seen_at timestamp with time zone not null,
  stopped_at timestamp with time zone,
  release text not null,
  parser text not null,
  space text not null,
  keys text[] default '{}'::text[] not null);
alter table pipeline.listeners enable row level security

--: table pipeline.owner_stops
--= "table, row security, fillfactor=50"
create table pipeline.owner_stops (
  owner_id uuid not null,
  stopped bigint default 0 not null) with (fillfactor=50);
alter table pipeline.owner_stops enable row level security

--: table pipeline.owners
--= "table, row security, fillfactor=50"
create table pipeline.owners (
  owner_id uuid not null,
  max_concurrent_jobs integer not null,
  priority integer not null,
  started bigint default 0 not null,
  lanes smallint default 0 not null,
  taken integer default 0 not null,
  served_at timestamp with time zone default '-infinity'::timestamp with time zone not null) with (fillfactor=50);
alter table pipeline.owners enable row level security

--: table pipeline.parses
--= "table, row security"
create table pipeline.parses (
  id bigint generated always as identity not null,
  owner_id uuid not null,
  content_sha256 bytea not null,
  fingerprint text not null,
  document_id uuid not null,
  job_id bigint not null,
  attempt integer not null,
  provider_job_id text,
  pages jsonb,
  failed_pages jsonb default '{}'::jsonb not null,
  bought_at timestamp with time zone,
  created_at timestamp with time zone default pipeline.now() not null);
alter table pipeline.parses enable row level security

--: table pipeline.prices
--= "table, row security"
create table pipeline.prices (
  provider text not null,
  model text not null,
  unit text not null,
  price numeric not null,
  valid_from date not null);
alter table pipeline.prices enable row level security

--: table pipeline.provider_keys
--= "table, row security, fillfactor=50"
create table pipeline.provider_keys (
  provider text not null,
  fingerprint text not null,
  stage text not null,
  state text default 'ready'::text not null,
  state_since timestamp with time zone default pipeline.now() not null,
  reason text,
  outages integer default 0 not null,
  retry_at timestamp with time zone,
  prober text,
  probe_until timestamp with time zone,
  probe_call bigint,
  cooling_until timestamp with time zone,
  used_at timestamp with time zone default pipeline.now() not null,
  requests pipeline.pace,
  tokens pipeline.pace,
  token_factor double precision default 1 not null) with (fillfactor=50);
alter table pipeline.provider_keys enable row level security

--: table pipeline.provider_limits
--= "table, row security"
create table pipeline.provider_limits (
  provider text not null,
  max_in_flight integer not null);
alter table pipeline.provider_limits enable row level security

--: table pipeline.pseudonym_key
--= "table, row security"
create table pipeline.pseudonym_key (
  only_row boolean default true not null,
  key bytea not null);
alter table pipeline.pseudonym_key enable row level security

--: table pipeline.queue
--= "table, row security"
create table pipeline.queue (
  owner_id uuid not null,
  lane smallint not null,
  due_at timestamp with time zone not null,
  job_id bigint not null);
alter table pipeline.queue enable row level security

--: table pipeline.retention
--= "table, row security"
create table pipeline.retention (
  hand text not null,
  "position" text,
  began_at timestamp with time zone default '-infinity'::timestamp with time zone not null,
  rested_at timestamp with time zone default '-infinity'::timestamp with time zone not null);
alter table pipeline.retention enable row level security

--: table pipeline.settings
--= "table, row security"
create table pipeline.settings (
  only_row boolean default true not null,
  schema_version integer default 1 not null,
  paused boolean default false not null,
  paused_at timestamp with time zone,
  max_failures smallint default 3 not null,
  backoff_base interval default '00:00:10'::interval not null,
  backoff_cap interval default '01:00:00'::interval not null,
  retries_per_day smallint default 5 not null,
  keep_history interval default '90 days'::interval not null,
  keep_unused_work interval default '7 days'::interval not null,
  probe_every interval default '00:01:00'::interval not null,
  anonymous_sign_ins boolean default false not null);
alter table pipeline.settings enable row level security

--: table pipeline.spaces
--= "table, row security"
create table pipeline.spaces (
  id smallint generated always as identity not null,
  name text not null,
  model text not null,
  dimensions integer not null,
  input_format text not null,
  active boolean default false not null,
  latin_only boolean default false not null,
  created_at timestamp with time zone default pipeline.now() not null);
alter table pipeline.spaces enable row level security

--: table pipeline.spent_days
--= "table, row security, fillfactor=50"
create table pipeline.spent_days (
  day date not null,
  owner_id uuid,
  amount numeric not null) with (fillfactor=50);
alter table pipeline.spent_days enable row level security

--: table pipeline.upload_days
--= "table, row security, fillfactor=50"
create table pipeline.upload_days (
  owner_id uuid not null,
  day date not null,
  uploads integer not null,
  files bigint,
  bytes numeric) with (fillfactor=50);
alter table pipeline.upload_days enable row level security

--: table pipeline.wakeups
--= "table, row security"
create table pipeline.wakeups (
  id bigint generated always as identity not null,
  owner_id uuid not null,
  lane smallint not null,
  due_at timestamp with time zone not null);
alter table pipeline.wakeups enable row level security

--: trigger budgets_changed on pipeline.budgets
--= "CREATE TRIGGER budgets_changed AFTER INSERT OR DELETE OR UPDATE ON pipeline.budgets FOR EACH STATEMENT EXECUTE FUNCTION pipeline.budgets_changed()"
CREATE TRIGGER budgets_changed AFTER INSERT OR DELETE OR UPDATE ON pipeline.budgets FOR EACH STATEMENT EXECUTE FUNCTION pipeline.budgets_changed()

--: trigger jobs_broadcast_insert on pipeline.jobs
--= "CREATE TRIGGER jobs_broadcast_insert AFTER INSERT ON pipeline.jobs REFERENCING NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION pipeline.jobs_broadcast()"
CREATE TRIGGER jobs_broadcast_insert AFTER INSERT ON pipeline.jobs REFERENCING NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION pipeline.jobs_broadcast()

--: trigger jobs_broadcast_update on pipeline.jobs
--= "CREATE TRIGGER jobs_broadcast_update AFTER UPDATE ON pipeline.jobs REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION pipeline.jobs_broadcast()"
CREATE TRIGGER jobs_broadcast_update AFTER UPDATE ON pipeline.jobs REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION pipeline.jobs_broadcast()

--: trigger jobs_deleted on pipeline.jobs
--= "CREATE TRIGGER jobs_deleted AFTER DELETE ON pipeline.jobs REFERENCING OLD TABLE AS old_jobs FOR EACH STATEMENT EXECUTE FUNCTION pipeline.jobs_deleted()"
CREATE TRIGGER jobs_deleted AFTER DELETE ON pipeline.jobs REFERENCING OLD TABLE AS old_jobs FOR EACH STATEMENT EXECUTE FUNCTION pipeline.jobs_deleted()

--: trigger jobs_inserted on pipeline.jobs
--= "CREATE TRIGGER jobs_inserted AFTER INSERT ON pipeline.jobs REFERENCING NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION pipeline.jobs_inserted()"
CREATE TRIGGER jobs_inserted AFTER INSERT ON pipeline.jobs REFERENCING NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION pipeline.jobs_inserted()

--: trigger jobs_updated on pipeline.jobs
--= "CREATE TRIGGER jobs_updated AFTER UPDATE ON pipeline.jobs REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION pipeline.jobs_updated()"
CREATE TRIGGER jobs_updated AFTER UPDATE ON pipeline.jobs REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION pipeline.jobs_updated()

--: trigger ledger_deleted on pipeline.ledger
--= "CREATE TRIGGER ledger_deleted AFTER DELETE ON pipeline.ledger REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION pipeline.ledger_changed()"
CREATE TRIGGER ledger_deleted AFTER DELETE ON pipeline.ledger REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION pipeline.ledger_changed()

--: trigger ledger_inserted on pipeline.ledger
--= "CREATE TRIGGER ledger_inserted AFTER INSERT ON pipeline.ledger REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pipeline.ledger_changed()"
CREATE TRIGGER ledger_inserted AFTER INSERT ON pipeline.ledger REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pipeline.ledger_changed()

--: trigger ledger_updated on pipeline.ledger
--= "CREATE TRIGGER ledger_updated AFTER UPDATE ON pipeline.ledger REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pipeline.ledger_changed()"
CREATE TRIGGER ledger_updated AFTER UPDATE ON pipeline.ledger REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pipeline.ledger_changed()

--: trigger limits_changed on pipeline.limits
--= "CREATE TRIGGER limits_changed AFTER INSERT OR DELETE OR UPDATE ON pipeline.limits FOR EACH STATEMENT EXECUTE FUNCTION pipeline.limits_changed()"
CREATE TRIGGER limits_changed AFTER INSERT OR DELETE OR UPDATE ON pipeline.limits FOR EACH STATEMENT EXECUTE FUNCTION pipeline.limits_changed()

--: trigger owners_inserted on pipeline.owners
--= "CREATE TRIGGER owners_inserted AFTER INSERT ON pipeline.owners REFERENCING NEW TABLE AS new_owners FOR EACH STATEMENT EXECUTE FUNCTION pipeline.owners_inserted()"
CREATE TRIGGER owners_inserted AFTER INSERT ON pipeline.owners REFERENCING NEW TABLE AS new_owners FOR EACH STATEMENT EXECUTE FUNCTION pipeline.owners_inserted()

--: trigger pipeline_object_deleted on storage.objects
--= "CREATE TRIGGER pipeline_object_deleted AFTER DELETE ON storage.objects FOR EACH ROW WHEN ((old.bucket_id = 'documents'::text)) EXECUTE FUNCTION pipeline.object_gone()"
select pipeline.attach()

--: trigger pipeline_object_inserted on storage.objects
--= "CREATE TRIGGER pipeline_object_inserted AFTER INSERT ON storage.objects FOR EACH ROW WHEN ((new.bucket_id = 'documents'::text)) EXECUTE FUNCTION pipeline.object_written()"
select pipeline.attach()

--: trigger pipeline_object_moved_out on storage.objects
--= "CREATE TRIGGER pipeline_object_moved_out AFTER UPDATE ON storage.objects FOR EACH ROW WHEN (((old.bucket_id = 'documents'::text) AND (new.bucket_id <> 'documents'::text))) EXECUTE FUNCTION pipeline.object_gone()"
select pipeline.attach()

--: trigger pipeline_object_updated on storage.objects
--= "CREATE TRIGGER pipeline_object_updated AFTER UPDATE ON storage.objects FOR EACH ROW WHEN (((new.bucket_id = 'documents'::text) AND (((old.bucket_id IS DISTINCT FROM new.bucket_id) OR (old.name IS DISTINCT FROM new.name)) OR (old.version IS DISTINCT FROM new.version)))) EXECUTE FUNCTION pipeline.object_written()"
select pipeline.attach()

--: trigger pipeline_user_deleted on auth.users
--= "CREATE TRIGGER pipeline_user_deleted AFTER DELETE ON auth.users FOR EACH ROW EXECUTE FUNCTION pipeline.user_deleted()"
select pipeline.attach()

--: trigger pipeline_user_deleted_softly on auth.users
--= "CREATE TRIGGER pipeline_user_deleted_softly AFTER UPDATE OF deleted_at ON auth.users FOR EACH ROW WHEN (((old.deleted_at IS NULL) AND (new.deleted_at IS NOT NULL))) EXECUTE FUNCTION pipeline.user_deleted()"
select pipeline.attach()

--: trigger prices_changed on pipeline.prices
--= "CREATE TRIGGER prices_changed AFTER INSERT OR DELETE OR UPDATE ON pipeline.prices FOR EACH STATEMENT EXECUTE FUNCTION pipeline.budgets_changed()"
CREATE TRIGGER prices_changed AFTER INSERT OR DELETE OR UPDATE ON pipeline.prices FOR EACH STATEMENT EXECUTE FUNCTION pipeline.budgets_changed()

--: type pipeline.examined
--= "place text, looked_at integer, problems text[], subjects text[]"
create type pipeline.examined as (place text, looked_at integer, problems text[], subjects text[])

--: type pipeline.neighbour
--= "id bigint, cosine double precision"
create type pipeline.neighbour as (id bigint, cosine double precision)

--: type pipeline.pace
--= "per_minute double precision, told boolean, available double precision, at timestamp with time zone, accepted double precision, limited_at timestamp with time zone, raised_at timestamp with time zone, ceiling double precision"
create type pipeline.pace as (per_minute double precision, told boolean, available double precision, at timestamp with time zone, accepted double precision, limited_at timestamp with time zone, raised_at timestamp with time zone, ceiling double precision)

--: type pipeline.question
--= "words text[], required tsquery, excluded tsquery"
create type pipeline.question as (words text[], required tsquery, excluded tsquery)

--: view pipeline.costs
--= "view, security_invoker=true: day date, owner_id uuid, document_id uuid, provider text, model text, calls bigint, pages bigint, inputs bigint, tokens numeric, amount numeric, unconfirmed numeric, without_price bigint"
create or replace view pipeline.costs with (security_invoker=true) as
 SELECT ((at AT TIME ZONE 'utc'::text))::date AS day,
    owner_id,
    document_id,
    provider,
    model,
    count(*) AS calls,
    sum(pages) AS pages,
    sum(inputs) AS inputs,
    sum(tokens) AS tokens,
    sum(amount) AS amount,
    COALESCE(sum(amount) FILTER (WHERE (state <> 'confirmed'::text)), (0)::numeric) AS unconfirmed,
    count(*) FILTER (WHERE (amount IS NULL)) AS without_price
   FROM pipeline.ledger l
  GROUP BY (((at AT TIME ZONE 'utc'::text))::date), owner_id, document_id, provider, model

--: view pipeline.dead_jobs
--= "view, security_invoker=true: id bigint, owner_id uuid, name text, stage text, attempt integer, failures smallint, error_class text, error text, error_detail text, finished_at timestamp with time zone"
create or replace view pipeline.dead_jobs with (security_invoker=true) as
 SELECT id,
    owner_id,
    name,
    stage,
    attempt,
    failures,
    error_class,
    error,
    error_detail,
    finished_at
   FROM pipeline.jobs j
  WHERE ((state = 'dead'::text) AND (error_class <> ALL (ARRAY['cancelled'::text, 'superseded'::text, 'deleted'::text])))

--: view pipeline.invariant_violations
--= "view, security_invoker=true: invariant text, subject text, detail text"
create or replace view pipeline.invariant_violations with (security_invoker=true) as
 SELECT 'the counters of an owner are wrong'::text AS invariant,
    (o.owner_id)::text AS subject,
    format('counted %s, running %s'::text, o.running, r.n) AS detail
   FROM (( SELECT i.owner_id,
            o_1.running
           FROM (pipeline.owners i
             LEFT JOIN pipeline.owners_running o_1 USING (owner_id))) o
     CROSS JOIN LATERAL ( SELECT count(*) AS n
           FROM pipeline.jobs j
          WHERE ((j.owner_id = o.owner_id) AND (j.state = 'running'::text))) r)
  WHERE (o.running IS DISTINCT FROM r.n)
UNION ALL
 SELECT 'an owner runs more than the limit'::text AS invariant,
    (o.owner_id)::text AS subject,
    format('%s of %s'::text, o.running, o.max_concurrent_jobs) AS detail
   FROM pipeline.owners_running o
  WHERE (o.running > o.max_concurrent_jobs)
UNION ALL
 SELECT 'a due job that nobody is woken for'::text AS invariant,
    (j.id)::text AS subject,
    (j.owner_id)::text AS detail
   FROM pipeline.jobs j
  WHERE ((j.state = 'available'::text) AND (j.available_at <= pipeline.now()) AND (NOT (EXISTS ( SELECT
           FROM pipeline.owners o
          WHERE ((o.owner_id = j.owner_id) AND ((o.lanes & j.lane) > 0))))) AND (NOT (EXISTS ( SELECT
           FROM pipeline.wakeups w
          WHERE ((w.owner_id = j.owner_id) AND (w.lane = j.lane) AND (w.due_at <= pipeline.now()))))))
UNION ALL
 SELECT 'an available job that is not in the queue, or a queued one that is not available'::text AS invariant,
    (COALESCE(j.id, q.job_id))::text AS subject,
    j.state AS detail
   FROM (( SELECT jobs.id,
            jobs.document_id,
            jobs.owner_id,
            jobs.object_id,
            jobs.object_version,
            jobs.bucket_id,
            jobs.name,
            jobs.size,
            jobs.etag,
            jobs.state,
            jobs.stage,
            jobs.progress,
            jobs.attempt,
            jobs.failures,
            jobs.available_at,
            jobs.claimed_by,
            jobs.lease_expires_at,
            jobs.error,
            jobs.error_class,
            jobs.error_detail,
            jobs.created_at,
            jobs.started_at,
            jobs.finished_at,
            jobs.lane
           FROM pipeline.jobs
          WHERE (jobs.state = 'available'::text)) j
     FULL JOIN pipeline.queue q ON (((q.job_id = j.id) AND (q.owner_id = j.owner_id) AND (q.lane = j.lane) AND (q.due_at = j.available_at))))
  WHERE ((j.id IS NULL) OR (q.job_id IS NULL))
UNION ALL
 SELECT 'a lease that nobody looks at when it ends'::text AS invariant,
    (j.id)::text AS subject,
    (j.lease_expires_at)::text AS detail
   FROM pipeline.jobs j
  WHERE ((j.state = 'running'::text) AND (NOT (EXISTS ( SELECT
           FROM pipeline.lease_checks c
          WHERE ((c.due_at <= j.lease_expires_at) AND (j.id = ANY (c.job_ids)))))))
UNION ALL
 SELECT 'a committed file without a job'::text AS invariant,
    (o.id)::text AS subject,
    o.name AS detail
   FROM storage.objects o
  WHERE ((o.bucket_id = 'documents'::text) AND (o.name !~~ '%/.emptyFolderPlaceholder'::text) AND (NOT (EXISTS ( SELECT
           FROM (pipeline.documents d
             JOIN pipeline.jobs j ON ((j.document_id = d.id)))
          WHERE ((d.object_id = o.id) AND (d.deleted_at IS NULL) AND (j.object_version = o.version))))))
UNION ALL
 SELECT 'a document whose file is gone'::text AS invariant,
    (d.id)::text AS subject,
    d.name AS detail
   FROM pipeline.documents d
  WHERE ((d.deleted_at IS NULL) AND (NOT (EXISTS ( SELECT
           FROM storage.objects o
          WHERE (o.id = d.object_id)))))
UNION ALL
 SELECT 'a published document with the wrong number of passages'::text AS invariant,
    (d.id)::text AS subject,
    d.name AS detail
   FROM pipeline.documents d
  WHERE ((d.deleted_at IS NULL) AND (d.published_job_id IS NOT NULL) AND (d.chunk_count <> ( SELECT count(*) AS count
           FROM pipeline.chunks c
          WHERE ((c.document_id = d.id) AND (c.job_id = d.published_job_id)))))
UNION ALL
 SELECT 'a passage without a vector in any space'::text AS invariant,
    (c.id)::text AS subject,
    (c.document_id)::text AS detail
   FROM (pipeline.chunks c
     JOIN pipeline.documents d ON (((d.id = c.document_id) AND (d.deleted_at IS NULL))))
  WHERE (NOT (EXISTS ( SELECT
           FROM pipeline.embeddings e
          WHERE ((e.owner_id = c.owner_id) AND (e.input_sha256 = c.input_sha256)))))
UNION ALL
 SELECT 'a published job that never ran'::text AS invariant,
    (d.id)::text AS subject,
    j.state AS detail
   FROM (pipeline.documents d
     JOIN pipeline.jobs j ON ((j.id = d.published_job_id)))
  WHERE (j.attempt = 0)
UNION ALL
 SELECT 'a history that does not end in the job''s state'::text AS invariant,
    (j.id)::text AS subject,
    format('%s, last event %s'::text, j.state, e.to_state) AS detail
   FROM (pipeline.jobs j
     LEFT JOIN LATERAL ( SELECT i.to_state
           FROM pipeline.job_events i
          WHERE (i.job_id = j.id)
          ORDER BY i.id DESC
         LIMIT 1) e ON (true))
  WHERE (e.to_state IS DISTINCT FROM j.state)

--: view pipeline.job_costs
--= "view, security_invoker=true: job_id bigint, owner_id uuid, document_id uuid, name text, pages_bought bigint, inputs_bought bigint, tokens_bought bigint, bought numeric, unconfirmed numeric, without_price bigint, pages_reused bigint, inputs_reused bigint, saved numeric"
create or replace view pipeline.job_costs with (security_invoker=true) as
 SELECT j.id AS job_id,
    j.owner_id,
    j.document_id,
    j.name,
    b.pages AS pages_bought,
    b.inputs AS inputs_bought,
    b.tokens AS tokens_bought,
    b.amount AS bought,
    b.unconfirmed,
    b.without_price,
    w.pages AS pages_reused,
    w.inputs AS inputs_reused,
    w.saved
   FROM ((pipeline.jobs j
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(l.pages), (0)::bigint) AS pages,
            COALESCE(sum(l.inputs), (0)::bigint) AS inputs,
            (COALESCE(sum(l.tokens), (0)::numeric))::bigint AS tokens,
            COALESCE(sum(l.amount), (0)::numeric) AS amount,
            COALESCE(sum(l.amount) FILTER (WHERE (l.state = 'unconfirmed'::text)), (0)::numeric) AS unconfirmed,
            count(*) FILTER (WHERE (l.amount IS NULL)) AS without_price
           FROM pipeline.ledger l
          WHERE (l.job_id = j.id)) b)
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(r.pages), (0)::bigint) AS pages,
            COALESCE(sum(r.inputs), (0)::bigint) AS inputs,
            COALESCE(sum(pipeline.price_of(r.provider, r.model, r.pages, NULL::numeric, r.tokens, pipeline.now())), (0)::numeric) AS saved
           FROM ( SELECT m.provider,
                    m.model,
                    (GREATEST((m.pages - COALESCE(sum(l.pages), (0)::bigint)), (0)::bigint))::integer AS pages,
                    (GREATEST((m.inputs - COALESCE(sum(l.inputs), (0)::bigint)), (0)::bigint))::integer AS inputs,
                    (GREATEST(((m.tokens)::numeric - COALESCE(sum(l.tokens), (0)::numeric)), (0)::numeric))::bigint AS tokens
                   FROM (pipeline.job_work m
                     LEFT JOIN pipeline.ledger l ON (((l.job_id = m.job_id) AND (l.stage = m.stage))))
                  WHERE (m.job_id = j.id)
                  GROUP BY m.stage, m.provider, m.model, m.pages, m.inputs, m.tokens) r) w)

--: view pipeline.lost_files
--= "view, security_invoker=true: job_id bigint, document_id uuid, owner_id uuid, name text, object_id uuid, object_version text, error_detail text, lost_at timestamp with time zone"
create or replace view pipeline.lost_files with (security_invoker=true) as
 SELECT j.id AS job_id,
    j.document_id,
    j.owner_id,
    j.name,
    j.object_id,
    j.object_version,
    j.error_detail,
    j.finished_at AS lost_at
   FROM (pipeline.jobs j
     JOIN storage.objects o ON (((o.id = j.object_id) AND (o.version = j.object_version) AND (o.bucket_id = 'documents'::text))))
  WHERE ((j.state = 'dead'::text) AND (j.error_class = 'lost'::text) AND (j.error_class <> ALL (ARRAY['cancelled'::text, 'superseded'::text, 'deleted'::text])))

--: view pipeline.owners_running
--= "view, security_invoker=true: owner_id uuid, running bigint, max_concurrent_jobs integer"
create or replace view pipeline.owners_running with (security_invoker=true) as
 SELECT o.owner_id,
    (o.started - s.stopped) AS running,
    o.max_concurrent_jobs
   FROM (pipeline.owners o
     JOIN pipeline.owner_stops s USING (owner_id))

--: view pipeline.provider_health
--= "view, security_invoker=true: provider text, fingerprint text, stage text, state text, since timestamp with time zone, reason text, retry_at timestamp with time zone, requests_per_minute double precision, tokens_per_minute double precision, limits_told boolean, max_in_flight integer, requests_last_minute bigint, tokens_last_minute bigint, in_flight bigint, listeners bigint"
create or replace view pipeline.provider_health with (security_invoker=true) as
 SELECT k.provider,
    k.fingerprint,
    k.stage,
        CASE
            WHEN ((k.state = 'ready'::text) AND (k.cooling_until > pipeline.now())) THEN 'cooling'::text
            ELSE k.state
        END AS state,
        CASE
            WHEN ((k.state = 'ready'::text) AND (k.cooling_until > pipeline.now())) THEN GREATEST(k.state_since, (k.tokens).limited_at, (k.requests).limited_at)
            ELSE k.state_since
        END AS since,
        CASE
            WHEN ((k.state = 'ready'::text) AND (k.cooling_until > pipeline.now())) THEN 'the provider asked for a pause'::text
            ELSE k.reason
        END AS reason,
        CASE
            WHEN (k.state = 'ready'::text) THEN k.cooling_until
            ELSE k.retry_at
        END AS retry_at,
    round((k.requests).per_minute) AS requests_per_minute,
    round((k.tokens).per_minute) AS tokens_per_minute,
    COALESCE((k.tokens).told, (k.requests).told, false) AS limits_told,
    ( SELECT o.max_in_flight
           FROM pipeline.provider_limits o
          WHERE (o.provider = k.provider)) AS max_in_flight,
    m.requests AS requests_last_minute,
    m.tokens AS tokens_last_minute,
    m.in_flight,
    ( SELECT count(*) AS count
           FROM pipeline.listeners l
          WHERE ((k.fingerprint = ANY (l.keys)) AND (l.stopped_at IS NULL) AND (l.seen_at > (pipeline.now() - '00:01:00'::interval)))) AS listeners
   FROM (pipeline.provider_keys k
     CROSS JOIN LATERAL ( SELECT count(*) AS requests,
            (COALESCE(sum(l.tokens), (0)::numeric))::bigint AS tokens,
            count(*) FILTER (WHERE (l.state = 'reserved'::text)) AS in_flight
           FROM pipeline.ledger l
          WHERE ((l.provider = k.provider) AND (l.fingerprint = k.fingerprint) AND (l.at > (pipeline.now() - '00:01:00'::interval)))) m)

--: view pipeline.queue_health
--= "view, security_invoker=true: due bigint, startable bigint, waiting_for_retry bigint, running bigint, expired_leases bigint, dead bigint, oldest_due_seconds real, paused boolean, listeners bigint, listener_last_seen_at timestamp with time zone"
create or replace view pipeline.queue_health with (security_invoker=true) as
 SELECT a.due,
    a.startable,
    a.waiting_for_retry,
    r.running,
    e.expired_leases,
    d.dead,
    (COALESCE(EXTRACT(epoch FROM (t.now - a.due_since)), (0)::numeric))::real AS oldest_due_seconds,
    s.paused,
    l.listeners,
    l.listener_last_seen_at
   FROM ((((((( SELECT pipeline.now() AS now,
            pipeline.open_lanes() AS lanes
         OFFSET 0) t
     CROSS JOIN LATERAL ( SELECT (COALESCE(sum(o.due), (0)::numeric))::bigint AS due,
            (COALESCE(sum(LEAST(o.open, o.room)), (0)::numeric))::bigint AS startable,
            (COALESCE(sum(o.waiting_for_retry), (0)::numeric))::bigint AS waiting_for_retry,
            min(o.due_since) AS due_since
           FROM ( SELECT count(*) FILTER (WHERE (q.due_at <= t.now)) AS due,
                    count(*) FILTER (WHERE ((q.due_at <= t.now) AND (q.lane = ANY (t.lanes)))) AS open,
                    count(*) FILTER (WHERE (q.due_at > t.now)) AS waiting_for_retry,
                    min(q.due_at) FILTER (WHERE (q.due_at <= t.now)) AS due_since,
                    ( SELECT COALESCE(max((w.max_concurrent_jobs - w.running)), ((pipeline.limits_of(q.owner_id)).max_concurrent_jobs)::bigint) AS "coalesce"
                           FROM pipeline.owners_running w
                          WHERE (w.owner_id = q.owner_id)) AS room
                   FROM pipeline.queue q
                  GROUP BY q.owner_id) o) a)
     CROSS JOIN ( SELECT (COALESCE(sum(o.running), (0)::numeric))::bigint AS running
           FROM pipeline.owners_running o) r)
     CROSS JOIN LATERAL ( SELECT count(*) AS expired_leases
           FROM ((pipeline.lease_checks c
             CROSS JOIN LATERAL unnest(c.job_ids) i(job_id))
             JOIN pipeline.jobs j ON (((j.id = i.job_id) AND (j.state = 'running'::text) AND (j.lease_expires_at <= t.now))))
          WHERE (c.due_at <= t.now)) e)
     CROSS JOIN ( SELECT count(*) AS dead
           FROM pipeline.dead_jobs) d)
     CROSS JOIN pipeline.settings s)
     CROSS JOIN LATERAL ( SELECT count(*) FILTER (WHERE ((i.stopped_at IS NULL) AND (i.seen_at > (t.now - '00:01:00'::interval)))) AS listeners,
            max(i.seen_at) AS listener_last_seen_at
           FROM pipeline.listeners i) l)

--: view pipeline.receipts
--= "view, security_invoker=true: id bigint, pseudonym uuid, state text, requested_at timestamp with time zone, emptied_at timestamp with time zone, completed_at timestamp with time zone, files bigint, bytes bigint, documents bigint, passages bigint, embeddings bigint, parses bigint, jobs bigint, events bigint, messages bigint, costs bigint, failures smallint, last_error text"
create or replace view pipeline.receipts with (security_invoker=true) as
 SELECT id,
    pseudonym,
        CASE
            WHEN (completed_at IS NOT NULL) THEN 'completed'::text
            WHEN (failures > 0) THEN 'failing'::text
            WHEN (emptied_at IS NOT NULL) THEN 'emptied'::text
            ELSE 'under way'::text
        END AS state,
    requested_at,
    emptied_at,
    completed_at,
    files,
    bytes,
    documents,
    passages,
    embeddings,
    parses,
    jobs,
    events,
    messages,
    costs,
    failures,
    last_error
   FROM pipeline.erasures e

--: view pipeline.throughput
--= "view, security_invoker=true: hour timestamp with time zone, completed bigint, dead bigint, tries_again bigint"
create or replace view pipeline.throughput with (security_invoker=true) as
 SELECT date_trunc('hour'::text, at, 'UTC'::text) AS hour,
    count(*) FILTER (WHERE (to_state = 'completed'::text)) AS completed,
    count(*) FILTER (WHERE (to_state = 'dead'::text)) AS dead,
    count(*) FILTER (WHERE ((from_state = 'running'::text) AND (to_state = 'available'::text))) AS tries_again
   FROM pipeline.job_events e
  GROUP BY (date_trunc('hour'::text, at, 'UTC'::text))

--: view public.chunks
--= "view, security_invoker=true: id bigint, document_id uuid, name text, ordinal integer, page integer, heading text, content text, parser text, embedding_model text"
create or replace view public.chunks with (security_invoker=true) as
 SELECT c.id,
    c.document_id,
    d.name,
    c.ordinal,
    c.page,
    c.heading,
    c.content,
    d.parser,
    d.embedding_model
   FROM (pipeline.chunks c
     JOIN pipeline.documents d ON (((d.id = c.document_id) AND (d.published_job_id = c.job_id))))
  WHERE (d.deleted_at IS NULL)

--: view public.documents
--= "view, security_invoker=true: id uuid, name text, size bigint, media_type text, page_count integer, chunk_count integer, failed_pages jsonb, up_to_date boolean, published_at timestamp with time zone, parser text, embedding_model text, created_at timestamp with time zone, updated_at timestamp with time zone, job_id bigint, job_state text, job_error text"
create or replace view public.documents with (security_invoker=true) as
 SELECT d.id,
    d.name,
    d.size,
    d.media_type,
    d.page_count,
    d.chunk_count,
    d.failed_pages,
    (d.published_version = d.object_version) AS up_to_date,
    d.published_at,
    d.parser,
    d.embedding_model,
    d.created_at,
    d.updated_at,
    j.id AS job_id,
    j.state AS job_state,
    j.error AS job_error
   FROM (pipeline.documents d
     LEFT JOIN LATERAL ( SELECT i.id,
            i.state,
            i.error
           FROM pipeline.jobs i
          WHERE (i.document_id = d.id)
          ORDER BY i.id DESC
         LIMIT 1) j ON (true))
  WHERE (d.deleted_at IS NULL)

--: view public.jobs
--= "view, security_invoker=true: id bigint, document_id uuid, name text, state text, stage text, progress real, attempt integer, failures smallint, error text, available_at timestamp with time zone, created_at timestamp with time zone, started_at timestamp with time zone, finished_at timestamp with time zone"
create or replace view public.jobs with (security_invoker=true) as
 SELECT id,
    document_id,
    name,
    state,
    stage,
    progress,
    attempt,
    failures,
    error,
    available_at,
    created_at,
    started_at,
    finished_at
   FROM pipeline.jobs j
