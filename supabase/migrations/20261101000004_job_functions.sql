-- The queue's functions: what moves a job from state to state.
--
-- A listener in any language can be written on these alone: claim, heartbeat, report, fail, release, and publish (in the
-- migration `content`). Every one that a worker calls names (job_id, attempt); where the lease is lost it changes nothing
-- and says so by leaving the job out of its result.

create function pipeline.enqueue(document pipeline.documents, etag text)
  returns bigint
  language plpgsql
  set search_path = ''
as $$
declare
  now constant timestamptz := pipeline.now();
  made bigint;
begin
  insert into pipeline.jobs (document_id, owner_id, object_id, object_version, bucket_id, name, size, etag, available_at, created_at)
  values (document.id, document.owner_id, document.object_id, document.object_version, document.bucket_id,
          document.name, document.size, enqueue.etag, now, now)
  on conflict on constraint one_job_for_each_version do nothing
  returning id into made;
  return made;
end
$$;
comment on function pipeline.enqueue is 'Makes the job of a document''s newest version; null where there is one already.';

create function pipeline.backoff(failures integer)
  returns interval
  language sql
  volatile
  set search_path = ''
as $$
  select least(s.backoff_base * power(2, least(greatest(failures, 1) - 1, 20)), s.backoff_cap)
         * (0.75 + 0.5 * pg_catalog.random())
    from pipeline.settings s
$$;
comment on function pipeline.backoff is 'The delay before the next try: doubling, capped, with a quarter of jitter either way.';

-- An expired lease is a failure: whatever froze or killed the listener may be the file.
create function pipeline.sweep(max_checks integer default 5)
  returns integer
  language plpgsql
  set search_path = ''
as $$
declare
  now constant timestamptz := pipeline.now();
  looked_at bigint[];
  swept integer;
begin
  -- The usual case ends here, after one probe.
  if not exists (select from pipeline.lease_checks c where c.due_at <= now) then
    return 0;
  end if;
  with due as (
    delete from pipeline.lease_checks c
     where c.id in (select d.id from pipeline.lease_checks d
                     where d.due_at <= now
                     order by d.due_at
                     limit max_checks
                       for update skip locked)
    returning c.job_ids
  )
  select array_agg(i.job_id) into looked_at from due d cross join lateral unnest(d.job_ids) as i (job_id);

  with expired as (
    select j.id
      from pipeline.jobs j
     where j.id = any (looked_at) and j.state = 'running' and j.lease_expires_at <= now
     order by j.id
       for no key update skip locked
  )
  update pipeline.jobs j
     set state = case when j.failures + 1 >= s.max_failures then 'dead' else 'available' end,
         failures = j.failures + 1,
         available_at = now + pipeline.backoff(j.failures + 1),
         finished_at = case when j.failures + 1 >= s.max_failures then now end,
         claimed_by = null, lease_expires_at = null,
         error_class = 'lease_expired',
         error = 'The processing of this file stopped without an answer.',
         error_detail = 'The lease of ' || j.claimed_by || ' expired.'
    from expired e, pipeline.settings s
   where j.id = e.id;
  get diagnostics swept = row_count;

  -- Renewed meanwhile, or locked by somebody whose change may be undone.
  insert into pipeline.lease_checks (due_at, job_ids)
  select min(j.lease_expires_at), array_agg(j.id)
    from pipeline.jobs j
   where j.id = any (looked_at) and j.state = 'running'
  having count(*) > 0;
  return swept;
end
$$;
comment on function pipeline.sweep is
  'Takes expired leases back, from at most so many due checks, and has the others looked at again; every claim begins with it.';

create function pipeline.running_of(owner_id uuid)
  returns bigint[]
  language plpgsql
  stable
  set search_path = ''
as $$
begin
  if not exists (select from pipeline.owners_running r where r.owner_id = running_of.owner_id and r.running > 0) then
    return array[]::bigint[];
  end if;
  return array(select j.id
                 from pipeline.lease_checks c
                cross join lateral unnest(c.job_ids) as i (job_id)
                cross join lateral (select r.id from pipeline.jobs r
                                     where r.id = i.job_id and r.owner_id = running_of.owner_id and r.state = 'running'
                                    offset 0) j
                order by j.id);
end
$$;
comment on function pipeline.running_of is 'The owner''s running jobs, in order; found among those whose leases are to be looked at.';

-- Marks the owners of due wake-ups as waiting. Where there are many it looks in two ways, each of them bounded: at the
-- wake-ups that are due longest, and owner by owner from a random place on, so that neither one owner's ten thousand uploads
-- nor ten thousand owners in backoff stand before the next owner's first. An owner whose row is locked keeps the wake-up for
-- the next claim.
create function pipeline.due_owners(max_owners integer, first uuid[], now timestamptz)
  returns uuid[]
  language sql
  volatile
  set search_path = ''
as $$
  with recursive walk as (
    select (select w.owner_id from pipeline.wakeups w where w.owner_id >= (select gen_random_uuid()) order by w.owner_id limit 1) as owner_id, 1 as step
    union all
    select (select w.owner_id from pipeline.wakeups w where w.owner_id > k.owner_id order by w.owner_id limit 1), k.step + 1
      from walk k
     where k.owner_id is not null and k.step < max_owners
  ),
  wrapped as (
    select (select w.owner_id from pipeline.wakeups w order by w.owner_id limit 1) as owner_id, 1 as step
    union all
    select (select w.owner_id from pipeline.wakeups w where w.owner_id > k.owner_id order by w.owner_id limit 1), k.step + 1
      from wrapped k
     where k.owner_id is not null and k.step < max_owners
  ),
  candidates as (
    select k.owner_id from walk k
    union
    select k.owner_id from wrapped k
    union
    select unnest(first)
  )
  select array_agg(c.owner_id)
    from candidates c
   where c.owner_id is not null
     -- one probe for each, where exists() would read all wake-ups that are due
     and (select true from pipeline.wakeups w where w.owner_id = c.owner_id and w.due_at <= due_owners.now limit 1)
$$;
comment on function pipeline.due_owners is 'Owners of due wake-ups: the first ones, and so many from a random place on.';

create function pipeline.wake(max_owners integer default 50)
  returns integer
  language plpgsql
  set search_path = ''
as $$
declare
  now constant timestamptz := pipeline.now();
  due uuid[];
  woken uuid[];
begin
  select array_agg(f.owner_id)
    into due
    from (select w.owner_id from pipeline.wakeups w where w.due_at <= now order by w.due_at limit max_owners) f;
  if due is null then
    return 0;
  end if;
  if cardinality(due) = max_owners then
    due := pipeline.due_owners(max_owners, due, now);
  end if;
  if exists (select from unnest(due) d where not exists (select from pipeline.owners o where o.owner_id = d)) then
    insert into pipeline.owners (owner_id, max_concurrent_jobs, priority)
    select distinct d, l.max_concurrent_jobs, l.priority from unnest(due) d cross join lateral pipeline.limits_of(d) l
     order by d  -- two claims that meet at new owners wait for each other here
    on conflict do nothing;
  end if;

  select array_agg(l.owner_id)
    into woken
    from (select o.owner_id from pipeline.owners o
           where o.owner_id = any (due)
           order by o.owner_id
             for no key update skip locked) l;

  -- A statement of its own: it must see what lanes the owners have now that they are locked.
  with consumed as (
    delete from pipeline.wakeups w
     where w.id = any (array(select x.id
                               from unnest(woken) o (owner_id)
                              cross join lateral (select i.id from pipeline.wakeups i
                                                   where i.owner_id = o.owner_id and i.due_at <= now
                                                   limit 5000 for update skip locked) x))
    returning w.owner_id, w.lane
  )
  update pipeline.owners o
     set lanes = o.lanes | c.lanes
    from (select c.owner_id, bit_or(c.lane) as lanes from consumed c group by c.owner_id) c
   where o.owner_id = c.owner_id and o.lanes <> o.lanes | c.lanes;
  return coalesce(cardinality(woken), 0);
end
$$;
comment on function pipeline.wake is 'Turns due wake-ups into waiting owners.';

create function pipeline.await_owner(owner_id uuid)
  returns void
  language plpgsql
  set search_path = ''
  set lock_timeout = '20ms'
as $$
begin
  perform from pipeline.owners o where o.owner_id = await_owner.owner_id for no key update;
exception
  when lock_not_available then
    null;
end
$$;
comment on function pipeline.await_owner is 'Waits until no other claim serves the owner, but not much longer than a claim takes.';

create function pipeline.claim(listener text, max_jobs integer, lease interval, schema_version integer)
  returns table (id bigint, attempt integer, document_id uuid, owner_id uuid, bucket_id text, name text,
                 object_id uuid, object_version text, size bigint, etag text, lease_expires_at timestamptz)
  language plpgsql
  security definer
  set search_path = ''
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  now timestamptz;
  shut text[];
  open_lanes smallint[] := array[2, 1]::smallint[];  -- what has begun goes first
  open_sum integer := 3;
  busy uuid;
  ready uuid[];
  lanes_of smallint[];
  started_of bigint[];
  turns integer[];
  shares integer[];
  wanted integer := max_jobs;
  found integer;
  emptied integer;
begin
  -- With an older snapshot it would not see the newest jobs, mark their owners as waiting for nothing, and undo what another
  -- claim has made of their wake-ups.
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception using errcode = 'invalid_transaction_state',
      message = 'A claim needs a read committed transaction.',
      hint = 'Begin it with `begin isolation level read committed`, or set default_transaction_isolation.';
  end if;
  if max_jobs <= 0 or exists (select from pipeline.settings s where s.paused or s.schema_version <> claim.schema_version) then
    return;
  end if;
  shut := pipeline.shut_stages(listener);
  if cardinality(shut) > 0 then
    -- Every job begins with a download.
    open_lanes := array(select l from unnest(open_lanes) l
                         where not shut && array['fetch', case l when 1 then 'parse' else 'embed' end]);
    open_sum := coalesce((select sum(l) from unnest(open_lanes) l), 0);
  end if;
  perform pipeline.sweep();
  perform pipeline.wake();

  -- Again while jobs are wanted and owners are ready: some wait for nothing any more, and their places go to the next. So a
  -- claim that returns nothing says that nothing is due. Bounded, for owners whose jobs somebody else has locked.
  for again in 1..20 loop
    -- Each owner's share is a turn, or as many turns as the wanted jobs are worth rounds; never more than its room.
    select array_agg(r.owner_id), array_agg(r.lanes), array_agg(r.started), array_agg(r.turn),
           array_agg(least(r.room, r.turn * ((wanted + r.round - 1) / r.round)))
      into ready, lanes_of, started_of, turns, shares
      from (select l.*, sum(l.turn) over () as round
              from (select s from generate_series(1, 3) s where s & open_sum > 0) as lanes (lanes)
             cross join lateral (
                     select o.owner_id, o.served_at, o.lanes, o.started,
                            o.max_concurrent_jobs - (o.started - s.stopped) as room, o.priority - o.taken as turn
                       from pipeline.owners o join pipeline.owner_stops s using (owner_id)
                      where o.lanes = lanes.lanes and o.lanes > 0 and o.started - s.stopped < o.max_concurrent_jobs
                      order by o.served_at
                      limit wanted
                        for no key update of o skip locked) l
             order by l.served_at
             limit wanted) r;
    if ready is null then
      exit when wanted < max_jobs or again > 3;
      -- Another claim may be serving those who are ready, for some milliseconds: worth waiting for, since whoever comes back
      -- later leaves a listener idle beside a full queue.
      select o.owner_id into busy
        from pipeline.owners o join pipeline.owner_stops s using (owner_id)
       where o.lanes in (1, 2, 3) and o.lanes & open_sum > 0 and o.lanes > 0 and o.started - s.stopped < o.max_concurrent_jobs
       limit 1;
      exit when busy is null;
      perform pipeline.await_owner(busy);
      continue;
    end if;

    -- The jobs' rows are found again by their place (ctid), which cannot change under the lock.
    now := pipeline.now();
    return query
    with candidates as (
      select j.ctid, (j.nth - 1) / u.turn as round, u.place
        from unnest(ready, lanes_of, turns, shares) with ordinality as u (owner_id, lanes, turn, share, place)
       cross join lateral (
               select l.ctid, row_number() over () as nth
                 from (select i.ctid
                         from unnest(open_lanes) as o (lane)
                        cross join lateral (select q.job_id from pipeline.queue q
                                             where q.owner_id = u.owner_id and q.lane = o.lane and q.due_at <= now
                                             order by q.due_at, q.job_id) q
                        cross join lateral (select j.ctid from pipeline.jobs j
                                             where j.id = q.job_id and j.state = 'available'
                                               for no key update skip locked) i
                        where u.lanes & o.lane > 0
                        limit u.share) l) j
    )
    update pipeline.jobs j
       set state = 'running', attempt = j.attempt + 1, stage = 'fetch', progress = 0,
           claimed_by = listener, lease_expires_at = now + lease, started_at = coalesce(j.started_at, now),
           error = null, error_class = null, error_detail = null
     where j.ctid = any (array(select c.ctid from candidates c order by c.round, c.place limit wanted))
    returning j.id, j.attempt, j.document_id, j.owner_id, j.bucket_id, j.name, j.object_id, j.object_version,
              j.size, j.etag, j.lease_expires_at;
    get diagnostics found = row_count;
    wanted := wanted - found;
    exit when wanted = 0;

    -- Whether they still wait is asked of those who gave less than their share, in a statement after the owners' locks, so
    -- that no job that was committed before them is overlooked. Who gave nothing, since somebody else has locked it, goes
    -- to the end of the line like those who were served.
    update pipeline.owners o
       set lanes = (select coalesce(bit_or(l.lane), 0::smallint) from unnest('{1, 2}'::smallint[]) as l (lane)
                     where exists (select from pipeline.queue q
                                    where q.owner_id = o.owner_id and q.lane = l.lane and q.due_at <= now)),
           served_at = case when o.started = u.started then now else o.served_at end
      from unnest(ready, started_of, shares) as u (owner_id, started, share)
     where o.owner_id = u.owner_id and o.started - u.started < u.share;
    get diagnostics emptied = row_count;
    exit when emptied = cardinality(ready) and emptied < wanted + found;
  end loop;
end
$$;
comment on function pipeline.claim is
  'Takes up to max_jobs due jobs under a lease: expired leases first go back, owners are served in turn, each up to its '
  'max_concurrent_jobs exactly. Nothing while paused, or for a listener of another schema_version; no job whose lane is shut.';

create function pipeline.heartbeat(job_ids bigint[], attempts integer[], lease interval)
  returns setof bigint
  language sql
  security definer
  set search_path = ''
as $$
  with held as (
    select j.id
      from unnest(job_ids, attempts) as h (id, attempt)
      join pipeline.jobs j on j.id = h.id and j.attempt = h.attempt
     where j.state = 'running' and j.lease_expires_at > pipeline.now()
     order by j.id
       for no key update of j
  )
  update pipeline.jobs j
     set lease_expires_at = pipeline.now() + lease
    from held
   where j.id = held.id and j.state = 'running' and j.lease_expires_at > pipeline.now()
  returning j.id
$$;
comment on function pipeline.heartbeat is 'Renews the leases that are still held and returns their jobs; the others are lost.';

create function pipeline.report(job_id bigint, attempt integer, stage text, progress real)
  returns boolean
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  update pipeline.jobs j
     set stage = report.stage, progress = report.progress
   where j.id = report.job_id and j.attempt = report.attempt and j.state = 'running'
     and j.lease_expires_at > pipeline.now();
  return found;
end
$$;
comment on function pipeline.report is 'Shows stage and progress (0 to 1) of a running job; false when the lease is lost.';

create function pipeline.complete(job_ids bigint[], attempts integer[])
  returns setof bigint
  language plpgsql
  security definer
  set search_path = ''
  set plan_cache_mode = force_generic_plan
as $$
declare
  now constant timestamptz := pipeline.now();
begin
  -- In the order of their ids. Who has waited for a row's lock judges the row anew, and the guard the clock.
  return query
  update pipeline.jobs j
     set state = 'completed', finished_at = now, claimed_by = null, lease_expires_at = null, stage = 'publish', progress = 1
    from (select h.id, h.attempt from unnest(job_ids, attempts) as h (id, attempt) order by h.id) h
   where j.id = h.id and j.attempt = h.attempt and j.state = 'running' and j.lease_expires_at > now
  returning j.id;
end
$$;
comment on function pipeline.complete is 'Ends running jobs as completed and returns those whose lease was still held. Publish calls it.';

create function pipeline.fail(job_id bigint, attempt integer, error_class text, error text, error_detail text default null,
                              retry_after interval default null)
  returns text
  language plpgsql
  security definer
  set search_path = ''
as $$
declare
  costs constant integer := case when fail.error_class in ('transient', 'crash', 'lost') then 1 else 0 end;
  again boolean := false;
  new_state text;
begin
  if fail.error_class not in ('transient', 'crash', 'lost', 'throttled', 'permanent', 'configuration', 'budget') then
    raise exception using errcode = 'invalid_parameter_value', message = format('%L is no class of failure.', fail.error_class);
  end if;
  if fail.error_class = 'crash' then
    -- The bytes of a job are always the same: what ends the parser twice would end it for ever.
    select j.failures > 0 into again
      from pipeline.jobs j
     where j.id = fail.job_id
       and exists (select from pipeline.job_events e where e.job_id = j.id and e.error_class = 'crash');
  end if;
  update pipeline.jobs j
     set state = case when fail.error_class = 'permanent' or again or j.failures + costs >= s.max_failures and costs = 1
                      then 'dead' else 'available' end,
         failures = j.failures + costs,
         available_at = pipeline.now() + case fail.error_class
           when 'transient' then coalesce(fail.retry_after, pipeline.backoff(j.failures + 1))
           when 'crash' then coalesce(fail.retry_after, pipeline.backoff(j.failures + 1))
           when 'lost' then coalesce(fail.retry_after, pipeline.backoff(j.failures + 1))
           when 'throttled' then coalesce(fail.retry_after, interval '30 seconds') * (1 + 0.2 * pg_catalog.random())
           when 'budget' then coalesce(fail.retry_after, interval '1 hour') + interval '1 minute' * pg_catalog.random()
           else coalesce(fail.retry_after, interval '60 seconds') end,
         finished_at = case when fail.error_class = 'permanent' or again
                              or j.failures + costs >= s.max_failures and costs = 1 then pipeline.now() end,
         claimed_by = null, lease_expires_at = null,
         error_class = fail.error_class, error_detail = fail.error_detail,
         error = case when fail.error_class = 'lost' and j.failures + 1 >= s.max_failures
                      then 'Storage lost the file; upload it again.' else fail.error end
    from pipeline.settings s
   where j.id = fail.job_id and j.attempt = fail.attempt and j.state = 'running' and j.lease_expires_at > pipeline.now()
  returning j.state into new_state;
  return new_state;
end
$$;
comment on function pipeline.fail is
  'Ends an attempt without a result and returns the job''s new state, or null when the lease is lost. Classes: transient '
  'and lost (count a failure), crash (counts one, and the second is the file''s fault: dead), throttled, configuration and '
  'budget (count none), permanent (dead at once).';

create function pipeline.release(job_ids bigint[], attempts integer[])
  returns setof bigint
  language sql
  security definer
  set search_path = ''
as $$
  with held as (
    select j.id
      from unnest(job_ids, attempts) as h (id, attempt)
      join pipeline.jobs j on j.id = h.id and j.attempt = h.attempt
     where j.state = 'running'
     order by j.id
       for no key update of j
  )
  update pipeline.jobs j
     set state = 'available', available_at = pipeline.now(), claimed_by = null, lease_expires_at = null
    from held
   where j.id = held.id and j.state = 'running'
  returning j.id
$$;
comment on function pipeline.release is 'Gives running jobs back at once and without a failure: a listener that stops.';

create function pipeline.supersede(job_id bigint, attempt integer)
  returns boolean
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  update pipeline.jobs j
     set state = 'cancelled', finished_at = pipeline.now(), claimed_by = null, lease_expires_at = null,
         error_class = 'superseded', error = 'The stored file is no longer this version.'
   where j.id = supersede.job_id and j.attempt = supersede.attempt and j.state = 'running'
     and not pipeline.is_stored(j.object_id, j.object_version);
  return found;
end
$$;
comment on function pipeline.supersede is
  'Ends the job of a version that Storage no longer has; while storage.objects has a row of that version, it changes nothing.';

create function pipeline.cancel(job_id bigint)
  returns text
  language plpgsql
  set search_path = ''
as $$
declare
  new_state text;
begin
  update pipeline.jobs j
     set state = 'cancelled', finished_at = pipeline.now(), claimed_by = null, lease_expires_at = null,
         error_class = 'cancelled', error = 'Cancelled.'
   where j.id = cancel.job_id and j.state in ('available', 'running');
  select j.state into new_state from pipeline.jobs j where j.id = cancel.job_id;
  return new_state;
end
$$;
comment on function pipeline.cancel is 'Cancels a job that has not ended and returns its state; a listener that works on it loses the lease.';

create function pipeline.retry(job_id bigint)
  returns text
  language plpgsql
  set search_path = ''
as $$
declare
  job pipeline.jobs;
  document pipeline.documents;
begin
  select * into job from pipeline.jobs j where j.id = retry.job_id;
  if not found then
    return null;
  end if;
  select * into document from pipeline.documents d where d.id = job.document_id for no key update;
  select * into job from pipeline.jobs j where j.id = retry.job_id for no key update;
  if job.state not in ('dead', 'cancelled') then
    raise sqlstate 'PT409' using message = format('Job %s is %s; only a dead or cancelled job can be retried.', job.id, job.state);
  end if;
  if document.deleted_at is not null or document.object_version <> job.object_version then
    raise sqlstate 'PT409' using message = format('Job %s is for a version of the file that is no longer there.', job.id),
      hint = 'The newest version has its own job.';
  end if;
  update pipeline.jobs j
     set state = 'available', failures = 0, available_at = pipeline.now(), finished_at = null,
         stage = null, progress = 0, error = null, error_class = null, error_detail = null
   where j.id = retry.job_id;
  return 'available';
end
$$;
comment on function pipeline.retry is 'Makes a dead or cancelled job available again; refused (409) when its version is gone. Null when there is no such job.';

create function pipeline.do_again(job_id bigint)
  returns boolean
  language plpgsql
  set search_path = ''
as $$
begin
  update pipeline.jobs j
     set state = 'available', failures = 0, available_at = pipeline.now(), finished_at = null,
         stage = null, progress = 0, error = null, error_class = null, error_detail = null
   where j.id = do_again.job_id and j.state in ('completed', 'dead', 'cancelled');
  return found;
end
$$;
comment on function pipeline.do_again is
  'Makes a job that has ended available again, a completed one too: it buys what is not kept, and publishes anew.';

revoke execute on all functions in schema pipeline from public, anon, authenticated;
grant execute on function pipeline.claim, pipeline.heartbeat, pipeline.report, pipeline.complete, pipeline.fail,
  pipeline.release, pipeline.supersede, pipeline.now to pipeline_worker;
