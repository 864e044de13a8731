-- The front door: what the triggers on the bucket's files do, which turn a committed write into a job. The bucket, its
-- policies and the triggers themselves are made by the migration `platform`.
--
-- Storage writes each upload twice: a permission check that is rolled back, and the write that stays. The triggers work in
-- both; what they do in the first vanishes with it. So there is no job without a committed file, and no committed file
-- without its job. The owner is the first folder of the name, which the policies tie to pipeline.caller(), the signed-in user:
-- in the final write, which the service makes, there is none.

-- Quotas. A write that is rolled back counts nothing, so fifty permission checks at once all see the same number; the write
-- that stays counts under the lock of the owner's row, and refuses what a race let through, with the same sentence. Storage
-- passes a 42501 on to the user, and throws the refused bytes away.
create table pipeline.upload_days (
  owner_id uuid primary key,
  day      date not null,
  uploads  integer not null
);
comment on table pipeline.upload_days is 'How many files each owner has uploaded on the last day, UTC, on which there was an upload.';
alter table pipeline.upload_days enable row level security;

create function pipeline.count_upload(owner_id uuid, stays boolean)
  returns void
  language plpgsql
  set search_path = ''
as $$
#variable_conflict use_column
declare
  today constant date := (pipeline.now() at time zone 'utc')::date;
  quota constant integer := (pipeline.limits_of(count_upload.owner_id)).uploads_per_day;
  used integer;
begin
  if stays then
    insert into pipeline.upload_days as u (owner_id, day, uploads)
    values (count_upload.owner_id, today, 1)
    on conflict (owner_id) do update
       -- Who waited for the lock over midnight counts for the new day: else the count of that day would begin anew.
       set uploads = case when u.day >= excluded.day then u.uploads + 1 else 1 end, day = greatest(u.day, excluded.day)
    returning uploads into used;
  else
    select u.uploads + 1 into used
      from pipeline.upload_days u
     where u.owner_id = count_upload.owner_id and u.day >= today;
  end if;
  if coalesce(used, 1) > quota then
    raise exception using errcode = 'insufficient_privilege',
      message = format('You have reached your limit of uploads for today (%s). The next day begins at midnight UTC.', quota);
  end if;
end
$$;
comment on function pipeline.count_upload is 'Counts an upload of the owner''s day, or foresees it; refuses one too many.';

create function pipeline.check_room(owner_id uuid, size bigint)
  returns void
  language plpgsql
  set search_path = ''
as $$
declare
  quota constant pipeline.limits := pipeline.limits_of(check_room.owner_id);
  files bigint;
  bytes numeric;
begin
  if size > quota.max_file_bytes then
    raise exception using errcode = 'insufficient_privilege',
      message = format('This file has %s; a file may have %s.', pg_size_pretty(size), pg_size_pretty(quota.max_file_bytes));
  end if;
  select count(*), coalesce(sum(d.size), 0) into files, bytes
    from pipeline.documents d
   where d.owner_id = check_room.owner_id and d.deleted_at is null;
  if files > quota.max_documents then
    raise exception using errcode = 'insufficient_privilege',
      message = format('You have %s files already. Delete some to make room.', quota.max_documents);
  end if;
  if bytes > quota.max_stored_bytes then
    raise exception using errcode = 'insufficient_privilege',
      message = format('With this file yours would have more than %s together. Delete some to make room.',
                       pg_size_pretty(quota.max_stored_bytes));
  end if;
end
$$;
comment on function pipeline.check_room is 'Refuses a file that is too large, or for which its owner has no room; the file''s document is counted already.';

create function pipeline.hide_document(object uuid, reason text)
  returns void
  language plpgsql
  set search_path = ''
as $$
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
$$;
comment on function pipeline.hide_document is 'Makes an object''s document invisible and cancels its work; a listener purges later.';

create function pipeline.object_written()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
as $$
declare
  folder constant text := split_part(new.name, '/', 1);
  -- The permission check before the bytes move; it is rolled back.
  stays constant boolean := new.version <> '1';
  known constant boolean := exists (select from pipeline.documents d where d.object_id = new.id and d.deleted_at is null);
  moved constant boolean := tg_op = 'UPDATE' and old.bucket_id = new.bucket_id and old.name <> new.name and known;
  -- Not a move, which takes no room, and nothing that an operator uploads with the service key: that has no owner in Storage.
  counted constant boolean := new.owner_id is not null and not moved;
  -- What Studio makes of a new folder, a few bytes at most, is no document. With content it is a file like any other; and
  -- one that a user makes is counted, or she could store such objects without end.
  placeholder constant boolean := new.name like '%/.emptyFolderPlaceholder' and not known
    and coalesce((new.metadata ->> 'size')::bigint, 0) <= 16;
  document pipeline.documents;
begin
  if placeholder and not counted then
    return null;
  end if;
  if position('/' in new.name) = 0
     or folder !~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
     or not pipeline.hold_user(folder::uuid) then
    raise exception using errcode = 'insufficient_privilege',
      message = format('Files in the bucket documents belong to a user: the first folder of the name must be a user''s id, and %L is none.', folder);
  end if;

  -- Storage takes such a name as it is; what stands between it and a listener may not, and would ask for another object.
  if new.name ~ '(^|/)\.{1,2}(/|$)' then
    raise exception using errcode = 'insufficient_privilege',
      message = 'No folder or file can be called "." or "..": please rename it and upload it again.';
  end if;

  if counted then
    perform pipeline.count_upload(folder::uuid, stays);
  end if;
  if placeholder then
    return null;
  end if;

  -- An object that came into another user's folder is that user's new document, not the old one with a new owner.
  if exists (select from pipeline.documents d
              where d.object_id = new.id and d.deleted_at is null and d.owner_id <> folder::uuid) then
    perform pipeline.hide_document(new.id, 'The file was moved to another user.');
  end if;

  insert into pipeline.documents as d (owner_id, object_id, object_version, bucket_id, name, size)
  values (folder::uuid, new.id, new.version, new.bucket_id, new.name, (new.metadata ->> 'size')::bigint)
  on conflict (object_id) where deleted_at is null do update
     set object_version = excluded.object_version, name = excluded.name, bucket_id = excluded.bucket_id,
         size = excluded.size, updated_at = pipeline.now()
  returning * into document;
  if counted then
    -- The size is known of the write that stays only: what is declared before includes the envelope.
    perform pipeline.check_room(folder::uuid, document.size);
  end if;

  update pipeline.jobs j
     set state = 'cancelled', finished_at = pipeline.now(), claimed_by = null, lease_expires_at = null,
         error_class = 'superseded', error = 'A newer version of this file took its place.'
   where j.document_id = document.id and j.object_version <> new.version and j.state in ('available', 'running');

  -- A move of what was not read asks for another run of the same bytes, which may cost money, as a retry does.
  if moved and new.owner_id is not null
     and (select count(*) from pipeline.jobs j
           where j.document_id = document.id and j.etag = new.metadata ->> 'eTag' and j.state in ('dead', 'cancelled')
             and j.created_at > pipeline.now() - interval '1 day') > (select s.retries_per_day from pipeline.settings s) then
    raise exception using errcode = 'insufficient_privilege',
      message = 'This file was moved too often before it could be read. Wait a day, or upload it again.';
  end if;

  perform pipeline.enqueue(document, new.metadata ->> 'eTag');
  return null;
end
$$;
comment on function pipeline.object_written is
  'An upload, overwrite, copy or move: brings the document up to date, cancels the work on its older version, makes the job.';

create function pipeline.object_gone()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
as $$
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
$$;
comment on function pipeline.object_gone is 'A delete, or a move out of the bucket.';

revoke execute on all functions in schema pipeline from public, anon, authenticated;
