-- All that a client may touch: three views, two functions and `search`.
--
-- The views run as their reader, so the policies on the tables hold. They show named columns only. Their readers have no
-- usage on the schema `pipeline`: a view and a function with a parsed body need none, and nobody can reach past them.
-- Every grant is written out, because what a new table or function is granted by itself differs from project to project.

create view public.documents with (security_invoker = true) as
select d.id, d.name, d.size, d.media_type, d.page_count, d.chunk_count, d.failed_pages,
       d.published_version = d.object_version as up_to_date,
       d.published_at, d.parser, d.embedding_model, d.created_at, d.updated_at,
       j.id as job_id, j.state as job_state, j.error as job_error
  from pipeline.documents d
  left join lateral (select i.id, i.state, i.error from pipeline.jobs i
                      where i.document_id = d.id order by i.id desc limit 1) j on true
 where d.deleted_at is null;
comment on view public.documents is
  'Your files. up_to_date is null before the first publish, and false while the searchable text is that of an older '
  'version: job_state and job_error say how the newest one fares.';

create view public.jobs with (security_invoker = true) as
select j.id, j.document_id, j.name, j.state, j.stage, j.progress, j.attempt, j.failures, j.error,
       j.available_at, j.created_at, j.started_at, j.finished_at
  from pipeline.jobs j;
comment on view public.jobs is 'The processing of your files: one row for each uploaded version.';

create view public.chunks with (security_invoker = true) as
select c.id, c.document_id, d.name, c.ordinal, c.page, c.heading, c.content, d.parser, d.embedding_model
  from pipeline.chunks c
  join pipeline.documents d on d.id = c.document_id and d.published_job_id = c.job_id
 where d.deleted_at is null;
comment on view public.chunks is 'The searchable passages of your files, in order of (document_id, ordinal).';

revoke all on public.documents, public.jobs, public.chunks from public, anon, authenticated, service_role;
grant select on public.documents, public.jobs, public.chunks to authenticated, service_role;

-- What the views read, column by column, under the owners' policies.
grant select (id, owner_id, object_version, name, size, published_version, published_at, published_job_id, media_type,
              page_count, failed_pages, chunk_count, parser, embedding_model, created_at, updated_at, deleted_at)
  on pipeline.documents to authenticated, service_role;
grant select (id, document_id, owner_id, name, state, stage, progress, attempt, failures, available_at, error, created_at,
              started_at, finished_at)
  on pipeline.jobs to authenticated, service_role;
grant select (id, document_id, job_id, owner_id, ordinal, page, heading, content) on pipeline.chunks to authenticated, service_role;

create function pipeline.own_job(job_id bigint)
  returns void
  language plpgsql
  stable
  set search_path = ''
as $$
begin
  if not exists (select from pipeline.jobs j
                  where j.id = own_job.job_id
                    and (j.owner_id = (select pipeline.caller()) or (select auth.role()) = 'service_role')) then
    raise sqlstate 'PT404' using message = format('You have no job %s.', own_job.job_id);
  end if;
end
$$;
comment on function pipeline.own_job is 'Refuses (404) a job that is not the caller''s.';

create function pipeline.retry_own_job(job_id bigint)
  returns text
  language plpgsql
  security definer
  set search_path = ''
as $$
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
$$;
comment on function pipeline.retry_own_job is 'Retry for the owner, capped a day, since each run may cost money.';

create function pipeline.cancel_own_job(job_id bigint)
  returns text
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  perform pipeline.own_job(cancel_own_job.job_id);
  return pipeline.cancel(cancel_own_job.job_id);
end
$$;
comment on function pipeline.cancel_own_job is 'Cancel for the owner.';

create function public.retry_job(job_id bigint)
  returns text
  language sql
  set search_path = ''
begin atomic
  select pipeline.retry_own_job(job_id);
end;
comment on function public.retry_job is
  'Runs a dead or cancelled job of yours again and returns its state. 404: not yours. 409: it is not dead or cancelled, or '
  'its version was replaced. 429: retried too often within a day.';

create function public.cancel_job(job_id bigint)
  returns text
  language sql
  set search_path = ''
begin atomic
  select pipeline.cancel_own_job(job_id);
end;
comment on function public.cancel_job is
  'Cancels a job of yours that has not ended and returns the state that it is in then. 404: not yours.';

revoke execute on function pipeline.own_job, pipeline.retry_own_job, pipeline.cancel_own_job from public, anon, authenticated;
revoke execute on function public.retry_job, public.cancel_job from public, anon, authenticated, service_role;
grant execute on function pipeline.retry_own_job, pipeline.cancel_own_job to authenticated, service_role;
grant execute on function public.retry_job, public.cancel_job to authenticated, service_role;
