-- THE STATE MACHINE.
--
-- A job is the work on one version of one object. Its whole life:
--
--   available   It waits for a listener. A retry is this too, with a later available_at. The claim moves it on.
--   running     A listener holds it under a lease, and says so with a heartbeat. It is fenced by (id, attempt): every
--               claim makes attempt one larger, and a write that names an older attempt changes nothing.
--   completed   Its chunks are published. Set in the transaction that publishes them. Final.
--   dead        It failed for good; `error` says why in the owner's words. The owner or an operator may retry it.
--   cancelled   Its owner cancelled it, or its file was replaced or deleted. May be retried while the file is there.
--
--                        claim
--      available ────────────────────▶ running ───── publish ────▶ completed
--        ▲  ▲  │   ◀── fail, release ──┘  │  │
--        │  │  └─── cancel ──▶ cancelled ◀┘  └── fail ──▶ dead
--        │  └────── retry ────────┘                         │
--        └───────── retry ──────────────────────────────────┘
--
-- The legal transitions are rows of `job_transitions`. A trigger refuses any other, whoever asks, and appends each one to
-- `job_events`. It works on whole statements, because a trigger for each row costs a third of the throughput; and it
-- keeps the owners' counters, because counters kept by the functions would drift under a raw, legal UPDATE.
--
-- Fairness: `owners` has a small row for each owner: how many of its jobs run, whether any waits, and when it was last
-- served. A claim serves waiting owners in turn. Who enqueues does not touch that row (a long client transaction would
-- block every claim and acknowledgement); it appends to `wakeups`, and the next claim marks those owners as waiting.
--
-- Locks are taken in one order: document, job, owner; several of a kind in the order of their ids. Once the claim has
-- swept and woken, it takes owners before jobs, but waits for neither.

create table pipeline.job_states (
  state text primary key,
  final boolean not null,
  meaning text not null
);
comment on table pipeline.job_states is 'The five states of a job.';
alter table pipeline.job_states enable row level security;
insert into pipeline.job_states values
  ('available', false, 'waits for a listener; a retry has a later available_at'),
  ('running',   false, 'a listener works on it under a lease'),
  ('completed', true,  'its chunks are published'),
  ('dead',      true,  'it failed for good; error says why'),
  ('cancelled', true,  'cancelled by its owner, or its file was replaced or deleted');

create table pipeline.job_transitions (
  from_state text not null references pipeline.job_states,
  to_state   text not null references pipeline.job_states,
  meaning    text not null,
  primary key (from_state, to_state)
);
comment on table pipeline.job_transitions is 'The legal transitions of a job; the guard trigger refuses any other.';
alter table pipeline.job_transitions enable row level security;
insert into pipeline.job_transitions values
  ('available', 'running',   'claim'),
  ('available', 'cancelled', 'cancel'),
  ('running',   'completed', 'publish'),
  ('running',   'available', 'fail with tries left, or release'),
  ('running',   'dead',      'fail for good'),
  ('running',   'cancelled', 'cancel'),
  ('dead',      'available', 'retry'),
  ('cancelled', 'available', 'retry');

create table pipeline.jobs (
  id               bigint generated always as identity primary key,
  document_id      uuid not null references pipeline.documents on delete cascade,
  owner_id         uuid not null,
  object_id        uuid not null,
  object_version   text not null,
  bucket_id        text not null,
  name             text not null,
  size             bigint,
  etag             text,
  state            text not null default 'available' references pipeline.job_states,
  stage            text constraint stage_is_known check (stage in ('fetch', 'parse', 'chunk', 'embed', 'publish')),
  progress         real not null default 0 constraint progress_is_a_fraction check (progress between 0 and 1),
  attempt          integer not null default 0 constraint attempt_grows_from_zero check (attempt >= 0),
  failures         smallint not null default 0 constraint failures_are_counted check (failures >= 0),
  available_at     timestamptz not null default pipeline.now(),
  claimed_by       text,
  lease_expires_at timestamptz,
  error            text,
  error_class      text constraint error_class_is_known
                   check (error_class in ('transient', 'throttled', 'permanent', 'configuration', 'lease_expired',
                                          'cancelled', 'superseded', 'deleted')),
  error_detail     text,
  created_at       timestamptz not null default pipeline.now(),
  started_at       timestamptz,
  finished_at      timestamptz,
  constraint one_job_for_each_version unique (object_id, object_version),
  constraint finished_iff_final check ((finished_at is not null) = (state in ('completed', 'dead', 'cancelled'))),
  constraint leased_iff_running check ((lease_expires_at is not null) = (state = 'running')),
  constraint claimed_iff_running check ((claimed_by is not null) = (state = 'running')),
  constraint dead_has_a_reason check (state <> 'dead' or error is not null),
  constraint completed_has_no_error check (state <> 'completed' or error is null)
) with (fillfactor = 80);
comment on table pipeline.jobs is 'The work on one version of one object. Written by the queue''s functions and the storage trigger only.';
comment on column pipeline.jobs.attempt is 'How often it was claimed; the fence. It only ever grows, through release and retry too.';
comment on column pipeline.jobs.failures is 'Failures since it was last made available by hand; compared with settings.max_failures.';
comment on column pipeline.jobs.stage is 'How far the last attempt came.';
comment on column pipeline.jobs.progress is 'The part of the stage that is done, 0 to 1.';
comment on column pipeline.jobs.available_at is 'Not claimed before; a retry''s backoff.';
comment on column pipeline.jobs.lease_expires_at is 'When another listener may take it over.';
comment on column pipeline.jobs.error is 'Why the last attempt ended without a result, in the owner''s words.';
comment on column pipeline.jobs.error_detail is 'The same for the operator; clients never see it.';

create index jobs_available on pipeline.jobs (owner_id, available_at, id) where state = 'available';
create index jobs_leased on pipeline.jobs (lease_expires_at) where state = 'running';
create index jobs_by_document on pipeline.jobs (document_id, id);
create index jobs_by_owner on pipeline.jobs (owner_id, id);
create index jobs_dead on pipeline.jobs (id) where state = 'dead';

alter table pipeline.jobs enable row level security;
create policy owner_reads on pipeline.jobs for select to authenticated using (owner_id = (select auth.uid()));

create table pipeline.job_events (
  id         bigint generated always as identity primary key,
  job_id     bigint not null,
  owner_id   uuid not null,
  at         timestamptz not null default pipeline.now(),
  from_state text,
  to_state   text not null,
  attempt    integer not null,
  failures   smallint not null,
  stage      text,
  claimed_by text,
  error_class text,
  error      text
);
comment on table pipeline.job_events is 'Every transition of every job, appended by the guard trigger and by nobody else.';
create index job_events_by_job on pipeline.job_events (job_id, id);
alter table pipeline.job_events enable row level security;

create table pipeline.owners (
  owner_id            uuid primary key,
  max_concurrent_jobs integer not null,
  running             integer not null default 0 constraint running_is_never_negative check (running >= 0),
  waiting             boolean not null default false,
  served_at           timestamptz not null default '-infinity'
) with (fillfactor = 50);
comment on table pipeline.owners is 'The queue''s view of each owner; the claim serves the waiting ones in turn.';
comment on column pipeline.owners.running is 'Jobs of the owner in state running, kept by the guard trigger.';
comment on column pipeline.owners.waiting is 'Whether a job may be due. True too often is harmless, false too often is not.';
create index owners_ready on pipeline.owners (served_at) where waiting and running < max_concurrent_jobs;
alter table pipeline.owners enable row level security;

create table pipeline.wakeups (
  id       bigint generated always as identity primary key,
  owner_id uuid not null,
  due_at   timestamptz not null
);
comment on table pipeline.wakeups is 'Owners for whom a job becomes due; consumed by the claim.';
create index wakeups_by_owner on pipeline.wakeups (owner_id, due_at);
create index wakeups_due on pipeline.wakeups (due_at);
alter table pipeline.wakeups enable row level security;

create function pipeline.limit_of(owner_id uuid)
  returns integer
  language sql
  stable
  set search_path = ''
as $$
  select max_concurrent_jobs from pipeline.limits l
   where l.owner_id = $1 or l.owner_id is null
   order by l.owner_id nulls last
   limit 1
$$;
comment on function pipeline.limit_of is 'How many jobs of the owner may run at once: the owner''s own row, or the default.';

create function pipeline.limits_changed()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  update pipeline.owners o
     set max_concurrent_jobs = pipeline.limit_of(o.owner_id)
   where o.max_concurrent_jobs <> pipeline.limit_of(o.owner_id);
  return null;
end
$$;
comment on function pipeline.limits_changed is 'Brings the owners'' rows up to date with the limits.';
create trigger limits_changed after insert or update or delete on pipeline.limits
  for each statement execute function pipeline.limits_changed();

-- What a statement changes in the states is guarded, written to the history, counted and woken for here, for inserts,
-- updates and deletes in turn.
create function pipeline.jobs_inserted()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  if exists (select from new_jobs where state <> 'available' or attempt <> 0) then
    raise exception using errcode = 'check_violation', message = 'A job begins available, with attempt 0.';
  end if;
  insert into pipeline.job_events (job_id, owner_id, to_state, attempt, failures)
  select id, owner_id, state, attempt, failures from new_jobs order by id;
  insert into pipeline.wakeups (owner_id, due_at)
  select owner_id, min(available_at) from new_jobs group by owner_id;
  perform pg_catalog.pg_notify('pipeline_jobs', '');
  return null;
end
$$;
comment on function pipeline.jobs_inserted is 'Begins the history of new jobs and wakes the listeners.';
create trigger jobs_inserted after insert on pipeline.jobs
  referencing new table as new_jobs
  for each statement execute function pipeline.jobs_inserted();

create function pipeline.jobs_updated()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
as $$
declare
  wrong text;
  woken integer;
begin
  select format('Job %s cannot go from %s to %s.', n.id, o.state, n.state)
    into wrong
    from old_jobs o join new_jobs n using (id)
   where o.state <> n.state
     and not exists (select from pipeline.job_transitions t where t.from_state = o.state and t.to_state = n.state)
   limit 1;
  if wrong is null then
    select format('The attempt of job %s cannot go from %s to %s.', n.id, o.attempt, n.attempt)
      into wrong
      from old_jobs o join new_jobs n using (id)
     where n.attempt < o.attempt or (n.attempt > o.attempt and not (o.state = 'available' and n.state = 'running'))
     limit 1;
  end if;
  if wrong is not null then
    raise exception using errcode = 'check_violation', message = wrong,
      hint = 'The legal transitions are the rows of pipeline.job_transitions.';
  end if;

  insert into pipeline.job_events (job_id, owner_id, from_state, to_state, attempt, failures, stage, claimed_by, error_class, error)
  select n.id, n.owner_id, o.state, n.state, n.attempt, n.failures, n.stage, coalesce(n.claimed_by, o.claimed_by),
         n.error_class, n.error
    from old_jobs o join new_jobs n using (id)
   where o.state <> n.state
   order by n.id;
  if not found then
    return null;
  end if;

  perform pipeline.count_running(
    array_agg(d.owner_id order by d.owner_id), array_agg(d.delta order by d.owner_id))
    from (select n.owner_id, sum((n.state = 'running')::int - (o.state = 'running')::int)::int as delta
            from old_jobs o join new_jobs n using (id)
           where (n.state = 'running') <> (o.state = 'running')
           group by n.owner_id) d
   where d.delta <> 0;

  insert into pipeline.wakeups (owner_id, due_at)
  select n.owner_id, min(n.available_at)
    from old_jobs o join new_jobs n using (id)
   where n.state = 'available' and o.state <> 'available'
   group by n.owner_id;
  get diagnostics woken = row_count;
  if woken > 0 then
    perform pg_catalog.pg_notify('pipeline_jobs', '');
  end if;
  -- Whoever works on a cancelled job should stop spending now, not at the next heartbeat.
  if exists (select from old_jobs o join new_jobs n using (id) where o.state = 'running' and n.state = 'cancelled') then
    perform pg_catalog.pg_notify('pipeline_jobs', 'cancelled');
  end if;
  return null;
end
$$;
comment on function pipeline.jobs_updated is
  'The guard: refuses what is no row of job_transitions, appends to job_events, keeps owners.running, wakes listeners.';
create trigger jobs_updated after update on pipeline.jobs
  referencing old table as old_jobs new table as new_jobs
  for each statement execute function pipeline.jobs_updated();

create function pipeline.jobs_deleted()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  perform pipeline.count_running(
    array_agg(d.owner_id order by d.owner_id), array_agg(d.delta order by d.owner_id))
    from (select owner_id, -count(*)::int as delta from old_jobs where state = 'running' group by owner_id) d;
  return null;
end
$$;
comment on function pipeline.jobs_deleted is 'Keeps owners.running when a running job''s row is removed.';
create trigger jobs_deleted after delete on pipeline.jobs
  referencing old table as old_jobs
  for each statement execute function pipeline.jobs_deleted();

create function pipeline.count_running(owner_ids uuid[], deltas integer[])
  returns void
  language plpgsql
  set search_path = ''
as $$
begin
  if owner_ids is null then
    return;
  end if;
  -- Locked in the order of their ids, so that two statements over several owners cannot wait for each other.
  perform from pipeline.owners o where o.owner_id = any (owner_ids) order by o.owner_id for no key update;
  update pipeline.owners o
     set running = o.running + d.delta
    from unnest(owner_ids, deltas) as d (owner_id, delta)
   where o.owner_id = d.owner_id;
  -- Only a raw UPDATE finds an owner without a row; the claim has made it before.
  insert into pipeline.owners as o (owner_id, max_concurrent_jobs, running, waiting)
  select d.owner_id, pipeline.limit_of(d.owner_id), greatest(d.delta, 0), true
    from unnest(owner_ids, deltas) as d (owner_id, delta)
   where not exists (select from pipeline.owners x where x.owner_id = d.owner_id)
  on conflict (owner_id) do update set running = o.running + excluded.running;
end
$$;
comment on function pipeline.count_running is 'Adds to the number of running jobs of each owner.';

create function pipeline.broadcast(owner_id uuid, job_id bigint, document_id uuid, name text, state text, stage text,
                                   progress real, attempt integer, error text)
  returns void
  language plpgsql
  set search_path = ''
as $$
begin
  perform realtime.send(
    jsonb_build_object('id', job_id, 'document_id', document_id, 'name', name, 'state', state, 'stage', stage,
                       'progress', progress, 'attempt', attempt, 'error', error),
    'job_changed', 'user:' || owner_id || ':jobs', true);
end
$$;
comment on function pipeline.broadcast is 'Tells a job''s owner how it stands.';

create function pipeline.jobs_broadcast()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  -- A project may run without Realtime; polling the view works all the same.
  if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null then
    return null;
  end if;
  if tg_op = 'INSERT' then
    perform pipeline.broadcast(n.owner_id, n.id, n.document_id, n.name, n.state, n.stage, n.progress, n.attempt, n.error)
      from (select * from new_jobs order by id) n;
  else
    -- What its owner cannot see, such as a renewed lease, is not told.
    perform pipeline.broadcast(n.owner_id, n.id, n.document_id, n.name, n.state, n.stage, n.progress, n.attempt, n.error)
      from (select n.*
              from old_jobs o join new_jobs n using (id)
             where (o.state, o.stage, o.progress, o.attempt, o.error)
                   is distinct from (n.state, n.stage, n.progress, n.attempt, n.error)
             order by n.id) n;
  end if;
  return null;
end
$$;
comment on function pipeline.jobs_broadcast is
  'Tells the owner over Realtime: topic user:<uid>:jobs, event job_changed. Progress is throttled where it is written.';
create trigger jobs_broadcast_insert after insert on pipeline.jobs
  referencing new table as new_jobs
  for each statement execute function pipeline.jobs_broadcast();
create trigger jobs_broadcast_update after update on pipeline.jobs
  referencing old table as old_jobs new table as new_jobs
  for each statement execute function pipeline.jobs_broadcast();

create policy "pipeline: owners hear of their jobs" on realtime.messages for select to authenticated
  using (extension = 'broadcast' and (select realtime.topic()) = 'user:' || (select auth.uid()) || ':jobs');

revoke execute on all functions in schema pipeline from public, anon, authenticated;
