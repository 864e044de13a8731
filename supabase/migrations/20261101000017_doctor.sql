-- The doctor: does the database still say what Storage and Auth say?
--
-- While the triggers on the platform's tables were gone, or when Storage's rows were restored from another moment than
-- ours, files came without a job, and files and users went unseen. Each function here looks at the next so many rows behind
-- a place, in the order of an index, and returns how far it came and what it found; with `fix` it mends that in the same
-- short transaction. `pipeline doctor` calls them until the end is reached: no step reads a whole table, and no lock
-- outlives its step. They can be run on a project that is in use. The queue's own tables are mended by the migration `healing`.

create type pipeline.examined as (
  place    text,
  looked_at integer,
  problems text[],
  subjects text[]
);
comment on type pipeline.examined is
  'place: go on behind it, null at the end; looked_at: so many rows; problems and subjects: what was found, and where.';

create function pipeline.take_in(object uuid)
  returns boolean
  language plpgsql
  set search_path = ''
as $$
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
$$;
comment on function pipeline.take_in is
  'Brings the document of a stored file up to date and makes its job, as the trigger does; counts no quota. False when the file is gone.';

create function pipeline.examine_files(after text, max_rows integer default 500, fix boolean default false)
  returns pipeline.examined
  language plpgsql
  set search_path = ''
as $$
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
$$;
comment on function pipeline.examine_files is
  'Looks whether the next so many files have a document that says the same, a job and a user; fix makes them, or erases the user.';

create function pipeline.examine_documents(after text, max_rows integer default 500, fix boolean default false)
  returns pipeline.examined
  language plpgsql
  set search_path = ''
as $$
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
$$;
comment on function pipeline.examine_documents is
  'Looks whether the next so many documents have their file and their user; fix hides the one and erases the other.';

create function pipeline.chunks_without_vector(document_id uuid, space_id smallint)
  returns bigint
  language sql
  stable
  set search_path = ''
as $$
  select count(*)
    from pipeline.documents d join pipeline.chunks c on c.document_id = d.id and c.job_id = d.published_job_id
   where d.id = $1 and d.deleted_at is null
     -- one probe of the index for each, whatever the statistics say
     and (select true from pipeline.embeddings e
           where e.owner_id = c.owner_id and e.space_id = $2 and e.input_sha256 = c.input_sha256 limit 1) is null
$$;
comment on function pipeline.chunks_without_vector is 'How many of a document''s published chunks semantic search of the space cannot find.';

create function pipeline.examine_vectors(after text, max_rows integer default 100, fix boolean default false, space text default null)
  returns pipeline.examined
  language plpgsql
  set search_path = ''
as $$
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
$$;
comment on function pipeline.examine_vectors is
  'Looks for chunks without a vector in the space (or the active one) in the next so many documents; fix has their jobs done '
  'again, which buys only what is missing.';

revoke execute on function pipeline.take_in, pipeline.examine_files, pipeline.examine_documents, pipeline.chunks_without_vector,
  pipeline.examine_vectors from public, anon, authenticated;
