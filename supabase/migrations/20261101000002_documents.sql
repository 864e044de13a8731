-- A document is a stored object, seen over its versions.
--
-- It begins with the first committed upload of an object, lives through overwrites and moves (Storage keeps the object's
-- id through both), and ends with the object's delete: `deleted_at` hides it from every reader in the deleting
-- transaction, and a listener purges its content soon after. While a newer version is on its way, or has failed, the
-- text of the last published version stays searchable.

create table pipeline.limits (
  owner_id            uuid unique nulls not distinct,
  max_concurrent_jobs integer not null default 2 constraint at_least_one_job_at_once check (max_concurrent_jobs > 0),
  priority            integer not null default 1 constraint a_turn_has_a_job check (priority between 1 and 1000),
  uploads_per_day     integer default 30 constraint uploads_are_counted check (uploads_per_day >= 0),
  max_file_bytes      bigint default 26214400 constraint a_file_has_bytes check (max_file_bytes > 0),
  max_documents       integer default 10000 constraint documents_are_counted check (max_documents >= 0),
  max_stored_bytes    bigint default 10737418240 constraint stored_bytes_are_counted check (max_stored_bytes >= 0)
);
comment on table pipeline.limits is
  'What an owner may use. The row without an owner holds for everybody who has no row. Null in a quota: no limit.';
comment on column pipeline.limits.owner_id is 'The owner; null for the default.';
comment on column pipeline.limits.max_concurrent_jobs is 'So many jobs of the owner run at once, over all listeners, exactly.';
comment on column pipeline.limits.priority is 'So many of the owner''s jobs are taken when it is its turn.';
comment on column pipeline.limits.uploads_per_day is 'Uploads, overwrites and copies in one day, UTC; a delete refunds none.';
comment on column pipeline.limits.max_file_bytes is 'The largest file. The bucket''s file_size_limit holds besides.';
comment on column pipeline.limits.max_documents is 'Files that the owner has at once.';
comment on column pipeline.limits.max_stored_bytes is 'The size of the owner''s files together.';
insert into pipeline.limits default values;
alter table pipeline.limits enable row level security;

create table pipeline.documents (
  id                    uuid primary key default gen_random_uuid(),
  owner_id              uuid not null,
  object_id             uuid not null,
  object_version        text not null,
  bucket_id             text not null,
  name                  text not null,
  size                  bigint,
  published_version     text,
  published_at          timestamptz,
  published_job_id      bigint,
  content_sha256        bytea constraint content_sha256_is_32_bytes check (length(content_sha256) = 32),
  media_type            text,
  page_count            integer,
  failed_pages          jsonb not null default '{}',
  chunk_count           integer not null default 0,
  parser                text,
  embedding_model       text,
  created_at            timestamptz not null default pipeline.now(),
  updated_at            timestamptz not null default pipeline.now(),
  deleted_at            timestamptz,
  purged_at             timestamptz,
  constraint published_whole_or_not_at_all
    check ((published_version is null) = (published_at is null)
       and (published_version is null) = (published_job_id is null)
       and (published_version is null) = (content_sha256 is null)),
  constraint purged_only_after_deletion check (purged_at is null or deleted_at is not null)
);
comment on table pipeline.documents is 'A stored object over its versions; at most one living document for each object.';
comment on column pipeline.documents.owner_id is 'The first folder of the object''s name, which the storage policy ties to pipeline.caller().';
comment on column pipeline.documents.object_id is 'storage.objects.id; no foreign key, since one would block deletes there.';
comment on column pipeline.documents.object_version is 'The newest committed version.';
comment on column pipeline.documents.name is 'The object''s name, with the owner''s folder.';
comment on column pipeline.documents.published_version is 'The version whose text is searchable; null before the first publish.';
comment on column pipeline.documents.published_job_id is 'The job whose chunks are the document''s.';
comment on column pipeline.documents.content_sha256 is 'SHA-256 of the published version''s bytes, computed by the listener.';
comment on column pipeline.documents.media_type is 'The published version''s type, sniffed from its bytes.';
comment on column pipeline.documents.failed_pages is 'Page number to reason, for pages of the published version that could not be read.';
comment on column pipeline.documents.deleted_at is 'Set in the transaction that deletes the object; hides the document at once.';
comment on column pipeline.documents.purged_at is 'When a listener removed the deleted document''s content.';

create unique index documents_living_object on pipeline.documents (object_id) where deleted_at is null;
-- A search sums the owner's chunk_count, and a quota the sizes, from the index alone.
create index documents_by_owner on pipeline.documents (owner_id, name) include (chunk_count, size) where deleted_at is null;
create index documents_by_content on pipeline.documents (owner_id, content_sha256)
  where deleted_at is null and content_sha256 is not null;
create index documents_to_purge on pipeline.documents (deleted_at) where deleted_at is not null and purged_at is null;

alter table pipeline.documents enable row level security;
create policy owner_reads on pipeline.documents for select to authenticated
  using (owner_id = (select pipeline.caller()));
