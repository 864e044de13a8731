-- What operators and analysts ask, as views over the tables: is the queue well, what is stuck, does everything still hold.
-- And the retention, which keeps the tables from growing with what nobody asks for any more.

create view pipeline.dead_jobs with (security_invoker = true) as
select j.id, j.owner_id, j.name, j.stage, j.attempt, j.failures, j.error_class, j.error, j.error_detail, j.finished_at
  from pipeline.jobs j
 where j.state = 'dead'
   and j.error_class not in ('cancelled', 'superseded', 'deleted');  -- says nothing new; it names the index
comment on view pipeline.dead_jobs is 'Jobs that failed for good, with the reason for the owner and the one for the operator.';

create function pipeline.open_lanes()
  returns smallint[]
  language plpgsql
  stable
  set search_path = ''
as $$
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
$$;
comment on function pipeline.open_lanes is
  'The lanes that some listener serves: all but those whose provider, or Storage, is down or cooling for each of them. All, if there '
  'is none.';

-- It reads the small tables beside the jobs and the index of failed ones: the cost is that of what waits.
create view pipeline.queue_health with (security_invoker = true) as
select a.due, a.startable, a.waiting_for_retry, r.running, e.expired_leases, d.dead,
       coalesce(extract(epoch from t.now - a.due_since), 0)::real as oldest_due_seconds,
       s.paused, l.listeners, l.listener_last_seen_at
  from (select pipeline.now() as now, pipeline.open_lanes() as lanes offset 0) t
 cross join lateral (
         select coalesce(sum(o.due), 0)::bigint as due, coalesce(sum(least(o.open, o.room)), 0)::bigint as startable,
                coalesce(sum(o.waiting_for_retry), 0)::bigint as waiting_for_retry, min(o.due_since) as due_since
           from (select count(*) filter (where q.due_at <= t.now) as due,
                        count(*) filter (where q.due_at <= t.now and q.lane = any (t.lanes)) as open,
                        count(*) filter (where q.due_at > t.now) as waiting_for_retry,
                        min(q.due_at) filter (where q.due_at <= t.now) as due_since,
                        (select coalesce(max(w.max_concurrent_jobs - w.running), (pipeline.limits_of(q.owner_id)).max_concurrent_jobs)
                           from pipeline.owners_running w where w.owner_id = q.owner_id) as room
                   from pipeline.queue q
                  group by q.owner_id) o) a
 cross join (select coalesce(sum(o.running), 0)::bigint as running from pipeline.owners_running o) r
 cross join lateral (
         select count(*) as expired_leases
           from pipeline.lease_checks c
          cross join lateral unnest(c.job_ids) as i (job_id)
           join pipeline.jobs j on j.id = i.job_id and j.state = 'running' and j.lease_expires_at <= t.now
          where c.due_at <= t.now) e
 cross join (select count(*) as dead from pipeline.dead_jobs) d
 cross join pipeline.settings s
 cross join lateral (
         select count(*) filter (where i.stopped_at is null and i.seen_at > t.now - interval '1 minute') as listeners,
                max(i.seen_at) as listener_last_seen_at
           from pipeline.listeners i) l;
comment on view pipeline.queue_health is
  'One row: how much is due, how old the oldest is, and whether anybody works. `startable + running` is what an autoscaler '
  'wants to know: due jobs beyond their owners'' limits, or for a provider that is down, would only wait in a further listener.';

create view pipeline.throughput with (security_invoker = true) as
select date_trunc('hour', e.at, 'UTC') as hour,
       count(*) filter (where e.to_state = 'completed') as completed,
       count(*) filter (where e.to_state = 'dead') as dead,
       count(*) filter (where e.from_state = 'running' and e.to_state = 'available') as tries_again
  from pipeline.job_events e
 group by 1;
comment on view pipeline.throughput is 'Outcomes by hour, UTC.';

create view pipeline.invariant_violations with (security_invoker = true) as
select 'the counters of an owner are wrong' as invariant, o.owner_id::text as subject,
       format('counted %s, running %s', o.running, r.n) as detail
  from (select i.owner_id, o.running from pipeline.owners i left join pipeline.owners_running o using (owner_id)) o
 cross join lateral (select count(*) as n from pipeline.jobs j where j.owner_id = o.owner_id and j.state = 'running') r
 where o.running is distinct from r.n
union all
select 'an owner runs more than the limit', o.owner_id::text, format('%s of %s', o.running, o.max_concurrent_jobs)
  from pipeline.owners_running o where o.running > o.max_concurrent_jobs
union all
select 'a due job that nobody is woken for', j.id::text, j.owner_id::text
  from pipeline.jobs j
 where j.state = 'available' and j.available_at <= pipeline.now()
   and not exists (select from pipeline.owners o where o.owner_id = j.owner_id and o.lanes & j.lane > 0)
   and not exists (select from pipeline.wakeups w
                    where w.owner_id = j.owner_id and w.lane = j.lane and w.due_at <= pipeline.now())
union all
select 'an available job that is not in the queue, or a queued one that is not available', coalesce(j.id, q.job_id)::text, j.state
  from (select * from pipeline.jobs where state = 'available') j
  full join pipeline.queue q
    on q.job_id = j.id and q.owner_id = j.owner_id and q.lane = j.lane and q.due_at = j.available_at
 where j.id is null or q.job_id is null
union all
select 'a lease that nobody looks at when it ends', j.id::text, j.lease_expires_at::text
  from pipeline.jobs j
 where j.state = 'running'
   and not exists (select from pipeline.lease_checks c where c.due_at <= j.lease_expires_at and j.id = any (c.job_ids))
union all
select 'a committed file without a job', o.id::text, o.name
  from storage.objects o
 where o.bucket_id = 'documents' and o.name not like '%/.emptyFolderPlaceholder'
   and not exists (select from pipeline.documents d join pipeline.jobs j on j.document_id = d.id
                    where d.object_id = o.id and d.deleted_at is null and j.object_version = o.version)
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
select 'a published job that never ran', d.id::text, j.state
  from pipeline.documents d join pipeline.jobs j on j.id = d.published_job_id
 where j.attempt = 0
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
revoke execute on function pipeline.open_lanes, pipeline.health from public, anon, authenticated;
grant execute on function pipeline.health to pipeline_worker;

-- Retention ---------------------------------------------------------------------------------------------------------------

-- Two hands go round, one over the jobs and one over the documents, a bounded step at a time, and rest when they have been
-- everywhere. Whichever listener has nothing better to do moves them; the lock on their row lets one at a time. So no step
-- looks for old rows in a large table, and no index is kept for it.
create table pipeline.retention (
  hand          text primary key constraint hand_is_known check (hand in ('jobs', 'documents')),
  position      text,
  began_at      timestamptz not null default '-infinity',
  rested_at     timestamptz not null default '-infinity'
);
comment on table pipeline.retention is 'How far the retention is on its way round.';
comment on column pipeline.retention.position is 'The last id that was looked at; null before the first.';
comment on column pipeline.retention.rested_at is 'When the last round ended; the next begins a day later.';
alter table pipeline.retention enable row level security;
insert into pipeline.retention (hand) values ('jobs'), ('documents');

create function pipeline.forget_jobs(after bigint, max_jobs integer)
  returns bigint[]
  language plpgsql
  set search_path = ''
as $$
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
$$;
comment on function pipeline.forget_jobs is 'Removes old ended jobs and old events among the next so many jobs; returns those looked at.';

create function pipeline.forget_work(after uuid, max_documents integer)
  returns uuid[]
  language plpgsql
  set search_path = ''
as $$
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
$$;
comment on function pipeline.forget_work is
  'Removes old kept work that no passage uses, among what the next so many documents bought; returns those looked at.';

create function pipeline.tidy(max_jobs integer default 1000, max_documents integer default 20)
  returns boolean
  language plpgsql
  security definer
  set search_path = ''
as $$
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
$$;
comment on function pipeline.tidy is 'Moves the retention on by one step; false when both hands rest or somebody else moves them.';

revoke execute on function pipeline.forget_jobs, pipeline.forget_work, pipeline.tidy from public, anon, authenticated;
grant execute on function pipeline.tidy to pipeline_worker;
