-- Healing.
--
-- What must always hold is listed by the view `invariant_violations`. No transaction of ours breaks it; but a project lives
-- long, and somebody may restore a part of it, or delete rows by hand. What can be mended without a person is mended by
-- whichever listener has nothing better to do, as the retention is: hands go round, a bounded step at a time, and rest when
-- they have been everywhere. None of them reads a large table as a whole.
--
--   waiting   owners with due jobs that no lane and no wake-up stands for get a wake-up      every minute
--   owners    counters of running jobs that are wrong are put right                          every hour
--   queue     places in the queue without a job that waits there go                          every hour
--   jobs      available jobs get their place in the queue, running ones a check of their     every six hours
--             lease, and a history that does not end in the job's state its missing end
--
-- Each statement judges by one snapshot, in which triggers and functions have done all or nothing: what is wrong there is
-- wrong, however busy the queue is. A step that finds nothing writes nothing but its own row.
--
-- Not mended are files without a job, documents without a file, published text that lacks chunks or vectors, and an owner
-- who runs more than the limit: the last ends by itself, and the others may be the sight of a project that is restored
-- halfway, where hiding documents or buying everything anew would be the wrong answer. Those are for a person.

create table pipeline.healing (
  hand      text primary key constraint healing_hand_is_known check (hand in ('waiting', 'owners', 'queue', 'jobs')),
  every     interval not null,
  position  jsonb,
  rested_at timestamptz not null default '-infinity'
);
comment on table pipeline.healing is 'How far the healing is on its way round.';
comment on column pipeline.healing.every is 'How long a hand rests between two rounds.';
comment on column pipeline.healing.position is 'The last row that was looked at in the round that goes on; null when it rests.';
comment on column pipeline.healing.rested_at is 'When the last round ended.';
alter table pipeline.healing enable row level security;
insert into pipeline.healing (hand, every)
values ('waiting', '1 minute'), ('owners', '1 hour'), ('queue', '1 hour'), ('jobs', '6 hours');

create function pipeline.heal_waiting(after uuid, max_rows integer, out healed jsonb, out "position" jsonb)
  language plpgsql
  set search_path = ''
as $$
declare
  now constant timestamptz := pipeline.now();
  looked_at uuid[];
  woken integer;
begin
  -- From owner to owner, by one probe of the index for each, however many jobs they have.
  with recursive walk as (
    select (select q.owner_id from pipeline.queue q
             where q.owner_id > coalesce(heal_waiting.after, '00000000-0000-0000-0000-000000000000')
             order by q.owner_id limit 1) as owner_id, 1 as step
    union all
    select (select q.owner_id from pipeline.queue q where q.owner_id > k.owner_id order by q.owner_id limit 1), k.step + 1
      from walk k
     where k.owner_id is not null and k.step < max_rows
  )
  select array_agg(k.owner_id order by k.step) into looked_at from walk k where k.owner_id is not null;

  insert into pipeline.wakeups (owner_id, lane, due_at)
  select l.owner_id, lanes.lane, now
    from unnest(looked_at) as l (owner_id) cross join unnest('{1, 2}'::smallint[]) as lanes (lane)
   -- One probe of the index for each, which the order sees to: exists() would read all that are due.
   where (select true from pipeline.queue q
           where q.owner_id = l.owner_id and q.lane = lanes.lane and q.due_at <= now order by q.due_at limit 1)
     and (select true from pipeline.owners o where o.owner_id = l.owner_id and o.lanes & lanes.lane > 0 limit 1) is null
     and (select true from pipeline.wakeups w
           where w.owner_id = l.owner_id and w.lane = lanes.lane and w.due_at <= now order by w.due_at limit 1) is null;
  get diagnostics woken = row_count;
  if woken > 0 then
    perform pg_catalog.pg_notify('pipeline_jobs', '');
  end if;
  healed := jsonb_build_object('owners that nobody was woken for', woken);
  "position" := case when cardinality(looked_at) = max_rows then to_jsonb(looked_at[max_rows]) end;
end
$$;
comment on function pipeline.heal_waiting is 'Wakes for the due jobs, which nobody is woken for, of the next so many owners.';

create function pipeline.heal_owners(after uuid, max_rows integer, out healed jsonb, out "position" jsonb)
  language plpgsql
  set search_path = ''
as $$
declare
  looked_at constant uuid[] := array(select o.owner_id from pipeline.owners o
                                      where heal_owners.after is null or o.owner_id > heal_owners.after
                                      order by o.owner_id limit max_rows);
  suspects uuid[];
  wrong uuid[];
  surplus bigint[];
begin
  -- One at a time: a second healer would see the same difference and take it off once more.
  perform from pipeline.healing h where h.hand = 'owners' for no key update;
  insert into pipeline.owner_stops (owner_id)
  select l.owner_id
    from unnest(looked_at) as l (owner_id)
   where not exists (select from pipeline.owner_stops s where s.owner_id = l.owner_id)
  on conflict do nothing;

  -- Running jobs are found among those whose leases are looked at; who differs from that is counted with care.
  select array_agg(r.owner_id) into suspects
    from pipeline.owners_running r
    left join (select j.owner_id, count(distinct j.id) as running
                 from pipeline.lease_checks c
                cross join lateral unnest(c.job_ids) as i (job_id)
                 join pipeline.jobs j on j.id = i.job_id and j.state = 'running'
                group by j.owner_id) n using (owner_id)
   where r.owner_id = any (looked_at) and r.running <> coalesce(n.running, 0);

  if suspects is not null then
    select array_agg(r.owner_id order by r.owner_id), array_agg(r.running - n.running order by r.owner_id)
      into wrong, surplus
      from pipeline.owners_running r
     cross join lateral (select count(*) as running from pipeline.jobs j
                          where j.owner_id = r.owner_id and j.state = 'running') n
     where r.owner_id = any (suspects) and r.running <> n.running;
    -- What moves meanwhile moves both sides alike, so the difference stays true. Both counters only ever grow.
    update pipeline.owner_stops s set stopped = s.stopped + w.surplus
      from unnest(wrong, surplus) as w (owner_id, surplus)
     where s.owner_id = w.owner_id and w.surplus > 0;
    update pipeline.owners o set started = o.started - w.surplus
      from unnest(wrong, surplus) as w (owner_id, surplus)
     where o.owner_id = w.owner_id and w.surplus < 0;
  end if;
  healed := jsonb_build_object('owners whose counters were wrong', coalesce(cardinality(wrong), 0));
  "position" := case when cardinality(looked_at) = max_rows then to_jsonb(looked_at[max_rows]) end;
end
$$;
comment on function pipeline.heal_owners is 'Puts the counters of running jobs right of the next so many owners.';

create function pipeline.heal_queue(after jsonb, max_rows integer, out healed jsonb, out "position" jsonb)
  language plpgsql
  set search_path = ''
as $$
declare
  looked_at constant pipeline.queue[] := array(
    select q from pipeline.queue q
     where after is null
        or (q.owner_id, q.lane, q.due_at, q.job_id)
           > ((after ->> 'owner_id')::uuid, (after ->> 'lane')::smallint, (after ->> 'due_at')::timestamptz, (after ->> 'job_id')::bigint)
     order by q.owner_id, q.lane, q.due_at, q.job_id
     limit max_rows);
  removed integer;
begin
  delete from pipeline.queue q
   using unnest(looked_at) as l
   where (q.owner_id, q.lane, q.due_at, q.job_id) = (l.owner_id, l.lane, l.due_at, l.job_id)
     and (select true from pipeline.jobs j
           where j.id = q.job_id and j.state = 'available' and j.owner_id = q.owner_id and j.lane = q.lane
             and j.available_at = q.due_at limit 1) is null;
  get diagnostics removed = row_count;
  healed := jsonb_build_object('places in the queue without a job', removed);
  "position" := case when cardinality(looked_at) = max_rows then to_jsonb(looked_at[max_rows]) end;
end
$$;
comment on function pipeline.heal_queue is 'Removes what no available job stands behind, among the next so many places in the queue.';

create function pipeline.heal_jobs(after bigint, max_rows integer, out healed jsonb, out "position" jsonb)
  language plpgsql
  set search_path = ''
as $$
declare
  looked_at constant bigint[] := array(select j.id from pipeline.jobs j where j.id > coalesce(heal_jobs.after, 0)
                                        order by j.id limit max_rows);
  unseen bigint[];
  endless bigint[];
  queued integer := 0;
  leased integer := 0;
  told integer := 0;
begin
  -- Locked, the row is the newest one; its place is there already if the trigger has made it meanwhile.
  with missing as materialized (
    select j.id, j.owner_id, j.lane, j.available_at
      from pipeline.jobs j
     where j.id = any (looked_at) and j.state = 'available'
       and (select true from pipeline.queue q
             where q.owner_id = j.owner_id and q.lane = j.lane and q.due_at = j.available_at and q.job_id = j.id
             limit 1) is null
     order by j.id
       for no key update skip locked
  ),
  woken as (
    insert into pipeline.wakeups (owner_id, lane, due_at) select m.owner_id, m.lane, m.available_at from missing m
  )
  insert into pipeline.queue (owner_id, lane, due_at, job_id)
  select m.owner_id, m.lane, m.available_at, m.id from missing m
  on conflict do nothing;
  get diagnostics queued = row_count;
  if queued > 0 then
    perform pg_catalog.pg_notify('pipeline_jobs', '');
  end if;

  if exists (select from pipeline.jobs j where j.id = any (looked_at) and j.state = 'running') then
    with checks as materialized (
      select c.due_at, i.job_id from pipeline.lease_checks c cross join lateral unnest(c.job_ids) as i (job_id)
    ),
    unseen as (
      select j.id, j.lease_expires_at
        from pipeline.jobs j
       where j.id = any (looked_at) and j.state = 'running'
         and not exists (select from checks c where c.job_id = j.id and c.due_at <= j.lease_expires_at)
    )
    select array_agg(u.id) into unseen from unseen u;
    insert into pipeline.lease_checks (due_at, job_ids)
    select min(j.lease_expires_at), array_agg(j.id)
      from pipeline.jobs j
     where j.id = any (unseen) and j.state = 'running'
    having count(*) > 0;
    leased := coalesce(cardinality(unseen), 0);
  end if;

  select array_agg(j.id) into endless
    from pipeline.jobs j
    left join lateral (select e.to_state from pipeline.job_events e where e.job_id = j.id order by e.id desc limit 1) e on true
   where j.id = any (looked_at) and e.to_state is distinct from j.state;
  if endless is not null then
    -- Locked first, or an event of a change that is on its way would come before ours.
    perform from pipeline.jobs j where j.id = any (endless) order by j.id for no key update;
    insert into pipeline.job_events (job_id, owner_id, at, from_state, to_state, attempt, failures, stage, claimed_by,
                                     error_class, error)
    select j.id, j.owner_id, pipeline.now(), e.to_state, j.state, j.attempt, j.failures, j.stage, j.claimed_by,
           j.error_class, j.error
      from pipeline.jobs j
      left join lateral (select i.to_state from pipeline.job_events i where i.job_id = j.id order by i.id desc limit 1) e on true
     where j.id = any (endless) and e.to_state is distinct from j.state
     order by j.id;
    get diagnostics told = row_count;
  end if;
  healed := jsonb_build_object('jobs that were not in the queue', queued, 'leases that nobody looked at', leased,
                               'histories without their end', told);
  "position" := case when cardinality(looked_at) = max_rows then to_jsonb(looked_at[max_rows]) end;
end
$$;
comment on function pipeline.heal_jobs is
  'Gives the next so many jobs what they lack: a place in the queue, a check of the lease, the end of the history.';

create function pipeline.heal(max_rows integer default 1000)
  returns jsonb
  language plpgsql
  security definer
  set search_path = ''
as $$
declare
  due pipeline.healing;
  healed jsonb;
  next_position jsonb;
begin
  select * into due from pipeline.healing h
   where h."position" is not null or h.rested_at < pipeline.now() - h.every
   order by h.every, h.hand
   limit 1
     for no key update skip locked;
  if not found then
    return null;
  end if;
  case due.hand
    when 'waiting' then
      select h.healed, h."position" into healed, next_position
        from pipeline.heal_waiting((due."position" #>> '{}')::uuid, max_rows) h;
    when 'owners' then
      select h.healed, h."position" into healed, next_position
        from pipeline.heal_owners((due."position" #>> '{}')::uuid, max_rows) h;
    when 'queue' then
      select h.healed, h."position" into healed, next_position from pipeline.heal_queue(due."position", max_rows) h;
    when 'jobs' then
      select h.healed, h."position" into healed, next_position
        from pipeline.heal_jobs((due."position" #>> '{}')::bigint, max_rows) h;
  end case;
  update pipeline.healing h
     set "position" = next_position, rested_at = case when next_position is null then pipeline.now() else h.rested_at end
   where h.hand = due.hand;
  return coalesce((select jsonb_object_agg(e.key, e.value) from jsonb_each(healed) e where e.value <> '0'::jsonb), '{}');
end
$$;
comment on function pipeline.heal is
  'One step of the healing: how much was mended, by what it was; {} for nothing, null when all hands rest or others move them.';

revoke execute on function pipeline.heal_waiting, pipeline.heal_owners, pipeline.heal_queue, pipeline.heal_jobs, pipeline.heal
  from public, anon, authenticated;
grant execute on function pipeline.heal to pipeline_worker;
