-- THE STATE MACHINE.
--
-- A job is the work on one version of one object. Its whole life:
--
--   available   It waits for a listener. A retry is this too, with a later available_at. The claim moves it on.
--   running     A listener holds it under a lease, and says so with a heartbeat. It is fenced by (id, attempt): every
--               claim makes attempt one larger, and a write that names an older attempt changes nothing.
--   completed   Its chunks are published. Set in the transaction that publishes them. Final, but that an operator may have it
--               done again (`pipeline doctor --fix`), where chunks lack vectors; what it published is searchable meanwhile.
--   dead        It failed for good; `error` says why in the owner's words. The owner or an operator may retry it.
--   cancelled   Its owner cancelled it, or its file was replaced or deleted. May be retried while the file is there.
--
--                        claim
--      available ────────────────────▶ running ───── publish ────▶ completed ─── do again ──▶ available
--        ▲  ▲  │   ◀── fail, release ──┘  │  │
--        │  │  └─── cancel ──▶ cancelled ◀┘  └── fail ──▶ dead
--        │  └────── retry ────────┘                         │
--        └───────── retry ──────────────────────────────────┘
--
-- The legal transitions are rows of `job_transitions`. A trigger refuses any other, whoever asks, and appends each one to
-- `job_events`. It works on whole statements, because a trigger for each row costs a third of the throughput; and it
-- keeps the owners' counters, because counters kept by the functions would drift under a raw, legal UPDATE.
--
-- Beside the jobs stand small tables that the claim walks, so that no index of `jobs` knows a state or a time: a job that is
-- claimed and completed touches none of them (Postgres calls that a heap-only update), and history weighs nothing.
--   queue         the available jobs, by owner and by when they are due; kept by the trigger
--   lease_checks  which jobs to look at again, and when: at the end of their leases; written by the trigger
--   owners        for each owner how many of its jobs were ever started, whether any waits, and when its last turn was
--   owner_stops   for each owner how many of its jobs ever stopped running
--   wakeups       owners for whom a job becomes due
--
-- Fairness: a claim serves waiting owners in turn; a turn is one job, or as many as the owner's priority. Who enqueues does
-- not touch the owner's row (a long client transaction would block every claim and acknowledgement); it appends to
-- `wakeups`, and the next claim marks those owners as waiting.
--
-- A queued job stands in one of two lanes, by what it needs next: the parser (lane 1), or, once it came as far as that, the
-- embedder (lane 2). While a provider is down its lane is shut, and the other goes on. An owner's `lanes` add up.
--
-- Costs do not grow with the tables: what the queue walks holds only jobs that have not ended, and the retention in the
-- migration `operations` removes what nobody asks for any more, a bounded step at a time.
--
-- Started minus stopped is what runs. They are two rows, because a row is locked until its transaction is on the disk: so
-- claims, which write the one, and acknowledgements, which write the other, do not wait for each other. A claim reads the
-- stops without a lock, and may see too few of them, never too many: the limit is exact.
--
-- Locks are taken in one order: document, job, owner's stops, owner, the owner's uploads; several of a kind in the order of
-- their ids. Once the claim has swept and woken, it takes owners before jobs. It waits for no job, and for an owner some
-- milliseconds at most.

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
  ('completed', 'available', 'do again'),
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
  state            text not null default 'available',  -- no foreign key: the guard lets no other state in, at less cost
  stage            text constraint stage_is_known check (stage in ('fetch', 'parse', 'chunk', 'embed', 'publish')),
  progress         real not null default 0 constraint progress_is_a_fraction check (progress between 0 and 1),
  attempt          integer not null default 0 constraint attempt_grows_from_zero check (attempt >= 0),
  failures         smallint not null default 0 constraint failures_are_counted check (failures >= 0),
  available_at     timestamptz not null default pipeline.now(),
  claimed_by       text,
  lease_expires_at timestamptz,
  error            text,
  error_class      text constraint error_class_is_known
                   check (error_class in ('transient', 'crash', 'lost', 'throttled', 'permanent', 'configuration',
                                          'budget', 'lease_expired', 'cancelled', 'superseded', 'deleted')),
  error_detail     text,
  created_at       timestamptz not null default pipeline.now(),
  started_at       timestamptz,
  finished_at      timestamptz,
  lane             smallint not null generated always as (case when stage in ('embed', 'publish') then 2 else 1 end) stored,
  constraint one_job_for_each_version unique (document_id, object_version),
  constraint finished_iff_final check ((finished_at is not null) = (state in ('completed', 'dead', 'cancelled'))),
  constraint leased_iff_running check ((lease_expires_at is not null) = (state = 'running')),
  constraint claimed_iff_running check ((claimed_by is not null) = (state = 'running')),
  constraint dead_has_a_reason check (state <> 'dead' or (error is not null and error_class is not null)),
  constraint completed_has_no_error check (state <> 'completed' or error is null)
) with (fillfactor = 33);  -- room for the next versions of each row beside it, without which an update touches every index
comment on table pipeline.jobs is 'The work on one version of one object. Written by the queue''s functions and the storage trigger only.';
comment on column pipeline.jobs.attempt is 'How often it was claimed; the fence. It only ever grows, through release and retry too.';
comment on column pipeline.jobs.failures is 'Failures since it was last made available by hand; compared with settings.max_failures.';
comment on column pipeline.jobs.stage is 'How far the last attempt came.';
comment on column pipeline.jobs.progress is 'The part of the stage that is done, 0 to 1.';
comment on column pipeline.jobs.available_at is 'Not claimed before; a retry''s backoff.';
comment on column pipeline.jobs.lease_expires_at is 'When another listener may take it over.';
comment on column pipeline.jobs.lane is 'What the job needs next: 1 the parser, 2 the embedder.';
comment on column pipeline.jobs.error is 'Why the last attempt ended without a result, in the owner''s words.';
comment on column pipeline.jobs.error_detail is 'The same for the operator; clients never see it.';

create index jobs_by_owner on pipeline.jobs (owner_id, id);
-- Finds the dead. It must not name the state, or no update of a job would be heap-only.
create index jobs_failed on pipeline.jobs (id) where error_class not in ('cancelled', 'superseded', 'deleted');

alter table pipeline.jobs enable row level security;
create policy owner_reads on pipeline.jobs for select to authenticated using (owner_id = (select pipeline.caller()));

create table pipeline.job_events (
  job_id      bigint not null,
  id          bigint generated always as identity,
  owner_id    uuid not null,
  at          timestamptz not null,
  from_state  text,
  to_state    text not null,
  attempt     integer not null,
  failures    smallint not null,
  stage       text,
  claimed_by  text,
  error_class text,
  error       text,
  primary key (job_id, id)
);
comment on table pipeline.job_events is 'Every transition of every job, appended by the guard trigger and by nobody else.';
-- Rows lie in the order of time, so that a few bytes for each stretch of the table say where a day is.
create index job_events_by_time on pipeline.job_events using brin (at);
alter table pipeline.job_events enable row level security;

create table pipeline.queue (
  owner_id uuid not null,
  lane     smallint not null constraint lane_is_known check (lane in (1, 2)),
  due_at   timestamptz not null,
  job_id   bigint not null,
  primary key (owner_id, lane, due_at, job_id)
);
comment on table pipeline.queue is 'The available jobs: their owner, lane and available_at. Kept by the triggers of pipeline.jobs.';
alter table pipeline.queue enable row level security;

create table pipeline.lease_checks (
  id      bigint generated always as identity primary key,
  due_at  timestamptz not null,
  job_ids bigint[] not null
) with (toast_tuple_target = 8160);  -- a claim's jobs lie in the row, which is soon gone: compressing them costs more than it saves
comment on table pipeline.lease_checks is
  'Jobs to look at when the first of their leases ends: those that still run are taken back, or looked at again later.';
create index lease_checks_due on pipeline.lease_checks (due_at);
alter table pipeline.lease_checks enable row level security;

create table pipeline.owners (
  owner_id            uuid primary key,
  max_concurrent_jobs integer not null,
  priority            integer not null,
  started             bigint not null default 0 constraint started_is_counted check (started >= 0),
  lanes               smallint not null default 0 constraint lanes_add_up check (lanes between 0 and 3),
  taken               integer not null default 0 constraint a_full_turn_is_over check (taken between 0 and priority - 1),
  served_at           timestamptz not null default '-infinity'
) with (fillfactor = 50);
comment on table pipeline.owners is 'The queue''s view of each owner; the claim serves the waiting ones in turn.';
comment on column pipeline.owners.started is 'How many of the owner''s jobs began to run, ever; kept by the guard trigger.';
comment on column pipeline.owners.lanes is
  'The sum of the lanes in which a job may be due. One too many is harmless, one too few is not.';
comment on column pipeline.owners.taken is 'Jobs taken in the turn that has begun; at `priority` the turn is over.';
comment on column pipeline.owners.served_at is 'When the last turn ended; the longest ago is served first.';
-- Owners that run as much as they may stand in it too, and are passed over: there are never more than running jobs.
create index owners_waiting on pipeline.owners (lanes, served_at) where lanes > 0;
alter table pipeline.owners enable row level security;

create table pipeline.owner_stops (
  owner_id uuid primary key references pipeline.owners on delete cascade,
  stopped  bigint not null default 0 constraint stopped_is_counted check (stopped >= 0)
) with (fillfactor = 50);
comment on table pipeline.owner_stops is
  'How many of the owner''s jobs stopped running, ever, by whatever end; kept by the guard trigger. Each owner has one row.';
alter table pipeline.owner_stops enable row level security;

create function pipeline.owners_inserted()
  returns trigger
  language plpgsql
  set search_path = ''
as $$
begin
  insert into pipeline.owner_stops (owner_id) select n.owner_id from new_owners n;
  return null;
end
$$;
comment on function pipeline.owners_inserted is 'Gives a new owner its row in owner_stops.';
create trigger owners_inserted after insert on pipeline.owners
  referencing new table as new_owners
  for each statement execute function pipeline.owners_inserted();

create view pipeline.owners_running with (security_invoker = true) as
select o.owner_id, o.started - s.stopped as running, o.max_concurrent_jobs
  from pipeline.owners o join pipeline.owner_stops s using (owner_id);
comment on view pipeline.owners_running is 'How many jobs of each owner run, and how many may.';

create table pipeline.wakeups (
  id       bigint generated always as identity primary key,
  owner_id uuid not null,
  lane     smallint not null,
  due_at   timestamptz not null
);
comment on table pipeline.wakeups is 'Owners for whom a job becomes due; consumed by the claim.';
create index wakeups_by_owner on pipeline.wakeups (owner_id, due_at);
create index wakeups_due on pipeline.wakeups (due_at);
alter table pipeline.wakeups enable row level security;

-- In PL/pgSQL, which keeps its plan: a SQL function with a setting is planned anew in each transaction.
create function pipeline.limits_of(owner_id uuid)
  returns pipeline.limits
  language plpgsql
  stable
  set search_path = ''
as $$
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
$$;
comment on function pipeline.limits_of is 'What the owner may use: the owner''s own row, or the default.';

create function pipeline.limits_changed()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  update pipeline.owners o
     set max_concurrent_jobs = l.max_concurrent_jobs, priority = l.priority, taken = 0
    from pipeline.owners i cross join lateral pipeline.limits_of(i.owner_id) l
   -- who may run none is being erased
   where i.owner_id = o.owner_id and (o.max_concurrent_jobs, o.priority) <> (l.max_concurrent_jobs, l.priority)
     and o.max_concurrent_jobs > 0;
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
$$;
comment on function pipeline.jobs_inserted is 'Begins the history of new jobs, puts them into the queue and wakes the listeners.';
create trigger jobs_inserted after insert on pipeline.jobs
  referencing new table as new_jobs
  for each statement execute function pipeline.jobs_inserted();

-- One statement looks at each changed row once; it is the queue's hot path.
create function pipeline.jobs_updated()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
  set enable_nestloop = off  -- else a plan that was made for one job compares each of a thousand with every other
as $$
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
$$;
comment on function pipeline.jobs_updated is
  'The guard: refuses what is no row of job_transitions, appends to job_events, keeps queue, lease_checks and the owners'' '
  'counters, wakes listeners.';
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
$$;
comment on function pipeline.jobs_deleted is 'A removed job takes its history and its place in the queue along, and counts no more as running.';
create trigger jobs_deleted after delete on pipeline.jobs
  referencing old table as old_jobs
  for each statement execute function pipeline.jobs_deleted();

-- What a trigger sets reaches the functions that it calls; here each owner is one probe of an index.
create function pipeline.count_started(owner_ids uuid[])
  returns void
  language plpgsql
  set search_path = ''
  set enable_nestloop = on
  set enable_hashjoin = off
as $$
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
$$;
comment on function pipeline.count_started is
  'Counts jobs that began to run, each by its owner, and ends the turn of who was served enough. The claim holds the owners'' locks.';

create function pipeline.count_stopped(owner_ids uuid[])
  returns void
  language plpgsql
  set search_path = ''
  set enable_nestloop = on
  set enable_hashjoin = off
as $$
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
$$;
comment on function pipeline.count_stopped is 'Counts jobs that stopped running, each by its owner.';

create function pipeline.message(job pipeline.jobs)
  returns jsonb
  language plpgsql
  stable
  set search_path = ''
as $$
begin
  return jsonb_build_object('id', job.id, 'document_id', job.document_id, 'name', job.name, 'state', job.state,
                            'stage', job.stage, 'progress', job.progress, 'attempt', job.attempt, 'error', job.error);
end
$$;
comment on function pipeline.message is 'What an owner hears of a job.';

-- One insert for a statement: `realtime.send` would open a subtransaction for each job.
create function pipeline.jobs_broadcast()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
  set enable_nestloop = off
as $$
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
$$;
comment on function pipeline.jobs_broadcast is
  'Tells the owner over Realtime: topic user:<uid>:jobs, event job_changed. Progress is throttled where it is written.';
create trigger jobs_broadcast_insert after insert on pipeline.jobs
  referencing new table as new_jobs
  for each statement execute function pipeline.jobs_broadcast();
create trigger jobs_broadcast_update after update on pipeline.jobs
  referencing old table as old_jobs new table as new_jobs
  for each statement execute function pipeline.jobs_broadcast();

revoke execute on all functions in schema pipeline from public, anon, authenticated;
