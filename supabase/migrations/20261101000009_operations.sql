-- What operators and analysts ask, as views over the tables: is the queue well, what is stuck, does everything still hold.

create view pipeline.queue_health with (security_invoker = true) as
select count(*) filter (where j.state = 'available' and j.available_at <= pipeline.now()) as due,
       count(*) filter (where j.state = 'available' and j.available_at > pipeline.now()) as waiting_for_retry,
       count(*) filter (where j.state = 'running') as running,
       count(*) filter (where j.state = 'running' and j.lease_expires_at <= pipeline.now()) as expired_leases,
       (select count(*) from pipeline.jobs d where d.state = 'dead') as dead,
       coalesce(extract(epoch from pipeline.now() - min(j.available_at)
                        filter (where j.state = 'available' and j.available_at <= pipeline.now())), 0)::real as oldest_due_seconds,
       (select s.paused from pipeline.settings s) as paused,
       (select count(*) from pipeline.listeners l
         where l.stopped_at is null and l.seen_at > pipeline.now() - interval '1 minute') as listeners,
       (select max(l.seen_at) from pipeline.listeners l) as listener_last_seen_at
  from pipeline.jobs j
 where j.state in ('available', 'running');
comment on view pipeline.queue_health is 'One row: how much is due, how old the oldest is, and whether anybody works.';

create view pipeline.dead_jobs with (security_invoker = true) as
select j.id, j.owner_id, j.name, j.stage, j.attempt, j.failures, j.error_class, j.error, j.error_detail, j.finished_at
  from pipeline.jobs j
 where j.state = 'dead';
comment on view pipeline.dead_jobs is 'Jobs that failed for good, with the reason for the owner and the one for the operator.';

create view pipeline.throughput with (security_invoker = true) as
select date_trunc('hour', e.at) as hour,
       count(*) filter (where e.to_state = 'completed') as completed,
       count(*) filter (where e.to_state = 'dead') as dead,
       count(*) filter (where e.from_state = 'running' and e.to_state = 'available') as tries_again
  from pipeline.job_events e
 group by 1;
comment on view pipeline.throughput is 'Outcomes by hour.';

create view pipeline.invariant_violations with (security_invoker = true) as
select 'a running counter is wrong' as invariant, o.owner_id::text as subject,
       format('counted %s, running %s', o.running, r.n) as detail
  from pipeline.owners o
 cross join lateral (select count(*) as n from pipeline.jobs j where j.owner_id = o.owner_id and j.state = 'running') r
 where o.running <> r.n
union all
select 'an owner runs more than the limit', o.owner_id::text, format('%s of %s', o.running, o.max_concurrent_jobs)
  from pipeline.owners o where o.running > o.max_concurrent_jobs
union all
select 'a due job that nobody is woken for', j.id::text, j.owner_id::text
  from pipeline.jobs j
 where j.state = 'available' and j.available_at <= pipeline.now()
   and not exists (select from pipeline.owners o where o.owner_id = j.owner_id and o.waiting)
   and not exists (select from pipeline.wakeups w where w.owner_id = j.owner_id)
union all
select 'a committed file without a job', o.id::text, o.name
  from storage.objects o
 where o.bucket_id = 'documents' and o.name not like '%/.emptyFolderPlaceholder'
   and not exists (select from pipeline.jobs j where j.object_id = o.id and j.object_version = o.version)
union all
select 'a document whose file is gone', d.id::text, d.name
  from pipeline.documents d
 where d.deleted_at is null and not exists (select from storage.objects o where o.id = d.object_id)
union all
select 'a published document with the wrong number of passages', d.id::text, d.name
  from pipeline.documents d
 where d.deleted_at is null and d.published_job_id is not null
   and d.chunk_count <> (select count(*) from pipeline.chunks c where c.document_id = d.id and c.job_id = d.published_job_id)
union all
select 'a passage without a vector in any space', c.id::text, c.document_id::text
  from pipeline.chunks c join pipeline.documents d on d.id = c.document_id and d.deleted_at is null
 where not exists (select from pipeline.embeddings e where e.owner_id = c.owner_id and e.input_sha256 = c.input_sha256)
union all
select 'a published job that is not completed', d.id::text, j.state
  from pipeline.documents d join pipeline.jobs j on j.id = d.published_job_id
 where j.state <> 'completed'
union all
select 'a history that does not end in the job''s state', j.id::text, format('%s, last event %s', j.state, e.to_state)
  from pipeline.jobs j
  left join lateral (select i.to_state from pipeline.job_events i where i.job_id = j.id order by i.id desc limit 1) e on true
 where e.to_state is distinct from j.state;
comment on view pipeline.invariant_violations is 'Empty, or something is broken. Reads whole tables: for tests and for suspicion.';

revoke all on pipeline.queue_health, pipeline.dead_jobs, pipeline.throughput, pipeline.invariant_violations
  from public, anon, authenticated;

-- What remains readable to the listener: enough to say why nothing happens.
create function pipeline.health()
  returns setof pipeline.queue_health
  language sql
  stable
  security definer
  set search_path = ''
as $$
  select * from pipeline.queue_health
$$;
comment on function pipeline.health is 'queue_health for the listener''s role.';
revoke execute on function pipeline.health from public, anon, authenticated;
grant execute on function pipeline.health to pipeline_worker;
