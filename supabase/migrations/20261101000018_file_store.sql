-- What the database knows of the file store, Storage: which row it has, whether it is this project's, and which bytes are gone.
--
-- A download that fails says little by itself. A server with its blobs on a disk answers 500 for a row without bytes, one with S3
-- answers 404; the Storage of another project answers 404 too, and one that is broken 500. So a listener asks here first: does
-- storage.objects still have the job's version, and which other files could show whether Storage hands out bytes at all?
--
--   the row is gone                          the job is superseded
--   Storage knows no such row                it is another project's, or the key is wrong: our fault, no job's
--   it hands out no other file either        an outage
--   it hands out other files                 this one's bytes are lost: a failure, and after max_failures the job is dead
--
-- That database and Storage are one project is proved with a mark: `mark_bucket` writes a time into the bucket's row, and a
-- listener reads it back through Storage. Ids and old times would prove nothing, since clones and restored projects share them.

create function pipeline.is_stored(object_id uuid, version text)
  returns boolean
  language sql
  stable
  set search_path = ''
as $$
  select exists (select from storage.objects o where o.id = $1 and o.version = $2 and o.bucket_id = 'documents')
$$;
comment on function pipeline.is_stored is 'Whether Storage''s table has that version of an object in our bucket.';

create function pipeline.other_files(object_id uuid default null)
  returns text[]
  language sql
  volatile
  security definer
  set search_path = ''
as $$
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
$$;
comment on function pipeline.other_files is
  'Names of up to six other files, by which a listener sees whether Storage hands out bytes; none where there is no other.';

create function pipeline.stored_file(job_id bigint, attempt integer)
  returns table (stands boolean, object_id text, object_version text, others text[])
  language sql
  volatile
  security definer
  set search_path = ''
as $$
  select pipeline.is_stored(j.object_id, j.object_version), j.object_id::text, j.object_version, pipeline.other_files(j.object_id)
    from pipeline.jobs j
   where j.id = $1 and pipeline.holds($1, $2)
$$;
comment on function pipeline.stored_file is
  'What a listener asks when a download failed: whether the job''s version is still there, its ids, and other files to compare with. '
  'No row when the lease is lost.';

create function pipeline.mark_bucket()
  returns timestamptz
  language plpgsql
  security definer
  set search_path = ''
as $$
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
$$;
comment on function pipeline.mark_bucket is
  'Writes a new time into the bucket''s row, for Storage to show: so a listener knows that both are one project. Null without a bucket.';

create function pipeline.bucket_mark()
  returns timestamptz
  language sql
  stable
  security definer
  set search_path = ''
as $$
  select b.updated_at from storage.buckets b where b.id = 'documents'
$$;
comment on function pipeline.bucket_mark is 'The mark that stands now: another listener may have written one since.';

create view pipeline.lost_files with (security_invoker = true) as
select j.id as job_id, j.document_id, j.owner_id, j.name, j.object_id, j.object_version, j.error_detail, j.finished_at as lost_at
  from pipeline.jobs j join storage.objects o on o.id = j.object_id and o.version = j.object_version and o.bucket_id = 'documents'
 where j.state = 'dead' and j.error_class = 'lost'
   and j.error_class not in ('cancelled', 'superseded', 'deleted');  -- says nothing new; it names the index
comment on view pipeline.lost_files is
  'Files whose row Storage has and whose bytes it has not, until they are uploaded again or deleted. When the bytes are back, '
  '`pipeline jobs retry` reads them.';
revoke all on pipeline.lost_files from public, anon, authenticated;

create function pipeline.lost_files_count()
  returns table (files bigint, owners bigint)
  language sql
  stable
  security definer
  set search_path = ''
as $$
  select count(*), count(distinct l.owner_id) from pipeline.lost_files l
$$;
comment on function pipeline.lost_files_count is 'How many files are lost, and of how many owners.';

revoke execute on function pipeline.is_stored, pipeline.other_files, pipeline.stored_file, pipeline.mark_bucket, pipeline.bucket_mark,
  pipeline.lost_files_count from public, anon, authenticated;
grant execute on function pipeline.other_files, pipeline.stored_file, pipeline.mark_bucket, pipeline.bucket_mark,
  pipeline.lost_files_count to pipeline_worker;
