-- The front door: what the triggers on the bucket's files do, which turn a committed write into a job. The bucket, its
-- policies and the triggers themselves are made by the migration `platform`.
--
-- Storage writes each upload twice: a permission check that is rolled back, and the write that stays. The triggers work in
-- both; what they do in the first vanishes with it. So there is no job without a committed file, and no committed file
-- without its job. The owner is the first folder of the name, which the policies tie to pipeline.caller(), the signed-in user:
-- in the final write, which the service makes, there is none.

-- Quotas. The permission check only looks: fifty at once all see the same number. The write that stays counts under the lock
-- of the owner's row, and refuses what a race let through, with the same sentence. Storage passes a 42501 on to the user, and
-- throws the refused bytes away.
--
-- The row is locked last, after document and job, since whoever else uploads for this owner waits for it until the commit. It
-- also tells a deleted user's upload from one that came before: the deletion takes the same lock (see the migration
-- `erasure`), and whoever gets it looks for the user behind it.
--
-- An owner's files and bytes are not counted with each upload: the row holds numbers that they cannot be above, since every
-- committed write adds to them and no delete subtracts. Only where these pass a quota, and once a day, the documents are
-- counted and the numbers set right.
create table pipeline.upload_days (
  owner_id uuid primary key,
  day      date not null,
  uploads  integer not null,
  files    bigint,
  bytes    numeric
) with (fillfactor = 50);
comment on table pipeline.upload_days is
  'How many files each owner has uploaded on the last day, UTC, on which there was an upload, and how much at most is stored.';
comment on column pipeline.upload_days.files is 'The owner has no more documents than this; null: to be counted.';
comment on column pipeline.upload_days.bytes is 'The owner''s documents have no more bytes than this together; null: to be counted.';
alter table pipeline.upload_days enable row level security;

create function pipeline.count_upload(owner_id uuid, today date, uploads integer, files integer, bytes bigint)
  returns void
  language plpgsql
  set search_path = ''
as $$
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
$$;
comment on function pipeline.count_upload is
  'Adds to what the owner has uploaded and stores; the owner''s row stays locked until the transaction ends.';

create function pipeline.check_room(owner_id uuid, max_documents bigint, max_stored_bytes bigint, foreseen integer)
  returns void
  language plpgsql
  set search_path = ''
as $$
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
$$;
comment on function pipeline.check_room is
  'Counts the owner''s documents, and refuses one too many. In a permission check `foreseen` is the number of new files, which '
  'no document stands for yet; in the write that stays it is null, and the owner''s row is set right.';

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
