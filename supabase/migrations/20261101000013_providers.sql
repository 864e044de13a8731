-- What the listeners know together about the services that they work with: the providers, which cost money, and Storage.
--
-- One row for each key of a service, found by a fingerprint that tells nothing of the key. For a provider it answers one
-- question before every call, under one short lock: may this call be made, and when? Three things decide it:
--
--   the pace      Requests and tokens a minute, told by the provider or found: see the migration `pace`.
--   the cooldown  A refusal that names a time holds for all listeners.
--   the circuit   ready; down: it failed several times running; refused: our key, credit or setting is wrong. A key that is
--                 not ready is asked by nobody, but for one listener that may probe it, about once a minute. The first
--                 answer that works opens it for all. It costs no job a failure.
--
-- Jobs whose next stage needs a key that is shut are not claimed: `shut_stages` tells the claim which stages those are.
--
-- Storage has the circuit and the cooldown alone. It costs nothing, so nobody asks before a download; a listener tells what it
-- met (`observe`), and only when that says something new. Every job begins with a download: with a key of Storage that is shut
-- a listener claims nothing. Its probe is no job but a request of the listener's own, so it comes back without an upload.
--
-- A purchase that takes several requests, such as a parse that is waited for, asks again before each of them, so that these
-- keep the same pace and rest in the same cooldown.
--
-- A call is a row of the ledger from before it is made. It holds as long as the job's lease does; when the listener dies, its
-- slot is free again and its price is booked as unconfirmed, because nobody knows whether the provider worked.

create table pipeline.provider_keys (
  provider      text not null,
  fingerprint   text not null,
  stage         text not null constraint stage_needs_a_key check (stage in ('fetch', 'parse', 'embed')),
  state         text not null default 'ready' constraint state_is_known check (state in ('ready', 'down', 'refused')),
  state_since   timestamptz not null default pipeline.now(),
  reason        text,
  outages       integer not null default 0 constraint outages_are_counted check (outages >= 0),
  retry_at      timestamptz,
  prober        text,
  probe_until   timestamptz,
  probe_call    bigint,
  cooling_until timestamptz,
  used_at       timestamptz not null default pipeline.now(),
  requests      pipeline.pace,
  tokens        pipeline.pace,
  token_factor  double precision not null default 1,
  primary key (provider, fingerprint),
  constraint ready_has_no_reason check (state <> 'ready' or (reason is null and retry_at is null)),
  constraint shut_has_a_date check (state = 'ready' or (reason is not null and retry_at is not null))
) with (fillfactor = 50);
comment on table pipeline.provider_keys is
  'Each key of a paid provider or of Storage: its pace, cooldown and circuit, shared by all listeners.';
comment on column pipeline.provider_keys.fingerprint is 'A short hash of key, address and model; never the key.';
comment on column pipeline.provider_keys.outages is 'Calls in a row that found the provider broken or away.';
comment on column pipeline.provider_keys.retry_at is 'When a key that is shut may be probed.';
comment on column pipeline.provider_keys.prober is 'The listener that may probe it, until probe_until.';
comment on column pipeline.provider_keys.probe_call is 'The call that probes it.';
comment on column pipeline.provider_keys.cooling_until is 'The provider asked to be left alone until then.';
comment on column pipeline.provider_keys.used_at is 'The last call; a key that nobody uses any more is forgotten as old jobs are.';
comment on column pipeline.provider_keys.token_factor is 'Tokens as the provider counts them, for one of ours.';
alter table pipeline.provider_keys enable row level security;

create table pipeline.provider_limits (
  provider      text primary key,
  max_in_flight integer not null constraint something_is_in_flight check (max_in_flight > 0)
);
comment on table pipeline.provider_limits is 'What operators allow beside what the provider does; it outlives a key.';
comment on column pipeline.provider_limits.max_in_flight is
  'So many calls at once with each key of the provider; without a row, as many as the listeners make.';
alter table pipeline.provider_limits enable row level security;

create table pipeline.ledger (
  id          bigint generated always as identity primary key,
  state       text not null default 'reserved' constraint state_is_known check (state in ('reserved', 'confirmed', 'unconfirmed')),
  at          timestamptz not null default pipeline.now(),
  sends_at    timestamptz not null,
  asked_at    timestamptz not null default pipeline.now(),
  settled_at  timestamptz,
  owner_id    uuid,
  document_id uuid,
  job_id      bigint not null,
  attempt     integer not null,
  parse_id    bigint,
  provider    text not null,
  fingerprint text not null,
  stage       text not null,
  model       text not null,
  pages       integer not null default 0 constraint pages_are_counted check (pages >= 0),
  inputs      integer not null default 0 constraint inputs_are_counted check (inputs >= 0),
  tokens      bigint not null default 0 constraint tokens_are_counted check (tokens >= 0),
  amount      numeric constraint amount_is_no_debt check (amount >= 0 and amount < 'infinity'),
  constraint settled_iff_not_reserved check ((settled_at is null) = (state = 'reserved'))
);
comment on table pipeline.ledger is
  'Every purchase from a provider, from before the call is made. confirmed: the provider delivered; unconfirmed: nobody knows, '
  'and the estimate stands; reserved: the call is under way.';
comment on column pipeline.ledger.owner_id is 'Whose file it was. Erasure replaces it; the amount stays.';
comment on column pipeline.ledger.asked_at is 'When its last request was admitted.';
comment on column pipeline.ledger.parse_id is 'The kept parse that was bought: a later attempt that collects it pays nothing more.';
comment on column pipeline.ledger.pages is 'As the provider billed them; estimated until then.';
comment on column pipeline.ledger.tokens is 'As the provider counted them; as we did until then.';
comment on column pipeline.ledger.amount is 'In US dollars; null where no price is known.';
create index ledger_under_way on pipeline.ledger (provider, fingerprint) where state = 'reserved';
create index ledger_by_time on pipeline.ledger (at);
create index ledger_by_day on pipeline.ledger (((at at time zone 'utc')::date));
create index ledger_by_job on pipeline.ledger (job_id);
create index ledger_by_owner on pipeline.ledger (owner_id, at);
create index ledger_by_parse on pipeline.ledger (parse_id) where parse_id is not null;
alter table pipeline.ledger enable row level security;

-- The circuit and the cooldown -----------------------------------------------------------------------------------------------

create function pipeline.locked_key(provider text, fingerprint text, stage text)
  returns pipeline.provider_keys
  language plpgsql
  set search_path = ''
as $$
#variable_conflict use_column
declare
  key pipeline.provider_keys;
begin
  loop
    select * into key from pipeline.provider_keys k
     where k.provider = locked_key.provider and k.fingerprint = locked_key.fingerprint
       for no key update;
    exit when found;
    insert into pipeline.provider_keys (provider, fingerprint, stage)
    values (locked_key.provider, locked_key.fingerprint, locked_key.stage)
    on conflict do nothing;
  end loop;
  return key;
end
$$;
comment on function pipeline.locked_key is 'The row of a key, locked; a key that nobody has used yet gets one.';

create function pipeline.check_outcome(outcome text)
  returns void
  language plpgsql
  set search_path = ''
as $$
begin
  if outcome not in ('bought', 'declined', 'limited', 'down', 'refused', 'unclear') then
    raise exception using errcode = 'invalid_parameter_value', message = format('%L is no outcome of a call.', outcome);
  end if;
end
$$;
comment on function pipeline.check_outcome is 'Refuses what is no outcome of a call; see `settle`.';

create function pipeline.turned(key pipeline.provider_keys, outcome text, retry_after interval, reason text, now timestamptz)
  returns pipeline.provider_keys
  language plpgsql
  set search_path = ''
as $$
declare
  every constant interval := (select s.probe_every from pipeline.settings s);
begin
  if outcome = 'limited' and retry_after is not null then
    key.cooling_until := greatest(key.cooling_until, now + retry_after);
  end if;
  key.outages := case when outcome = 'down' then key.outages + 1 when outcome = 'unclear' then key.outages else 0 end;
  if outcome = 'refused' or outcome = 'down' and (key.outages >= 3 or key.state <> 'ready') then
    if key.state is distinct from outcome then
      key.state := outcome;
      key.state_since := now;
    end if;
    key.reason := coalesce(reason, 'no reason was given');
    key.retry_at := now + case when outcome = 'refused' then every
                               else greatest(least(every, every / 12 * 2 ^ least(key.outages - 3, 10)), coalesce(retry_after, '0')) end;
    key.prober := null;
    key.probe_until := null;
    key.probe_call := null;
  elsif key.state <> 'ready' and outcome in ('bought', 'declined', 'limited') then
    key.state := 'ready';
    key.state_since := now;
    key.reason := null;
    key.retry_at := null;
    key.prober := null;
    key.probe_until := null;
    key.probe_call := null;
    perform pg_catalog.pg_notify('pipeline_jobs', '');
  end if;
  return key;
end
$$;
comment on function pipeline.turned is
  'A key''s circuit and cooldown after an outcome (see `settle`): shut, opened for all, or as it was. Nothing is written.';

create function pipeline.observe(provider text, fingerprint text, stage text, outcome text, retry_after interval default null,
                                 reason text default null)
  returns void
  language plpgsql
  security definer
  set search_path = ''
as $$
#variable_conflict use_column
declare
  key pipeline.provider_keys;
begin
  perform pipeline.check_outcome(outcome);
  key := pipeline.locked_key(observe.provider, observe.fingerprint, observe.stage);
  key := pipeline.turned(key, outcome, retry_after, reason, pipeline.now());
  update pipeline.provider_keys k
     set state = key.state, state_since = key.state_since, reason = key.reason, outages = key.outages, retry_at = key.retry_at,
         prober = key.prober, probe_until = key.probe_until, probe_call = key.probe_call, cooling_until = key.cooling_until,
         used_at = pipeline.now()
   where k.provider = key.provider and k.fingerprint = key.fingerprint;
end
$$;
comment on function pipeline.observe is
  'Tells how a service was found that is asked without a reservation, as Storage is. The outcomes are those of `settle`.';

-- Before and after a call -------------------------------------------------------------------------------------------------

create function pipeline.reserve(listener text, job_id bigint, attempt integer, provider text, fingerprint text, stage text,
                                 model text, pages integer default 0, inputs integer default 0, tokens bigint default 0,
                                 parse_id bigint default null)
  returns table (status text, call_id bigint, wait double precision, reason text)
  language plpgsql
  security definer
  set search_path = ''
as $$
#variable_conflict use_column
declare
  job pipeline.jobs;
  key pipeline.provider_keys;
  request_pace pipeline.pace;
  token_pace pipeline.pace;
  now timestamptz;
  pause double precision;
  weight constant double precision := reserve.tokens;
  missing text;
  refusal record;
begin
  select * into job from pipeline.jobs j where j.id = reserve.job_id;
  if not pipeline.holds(reserve.job_id, reserve.attempt) then
    return query select 'lost', null::bigint, 0::double precision, null::text;
    return;
  end if;
  missing := pipeline.missing_price(reserve.provider, reserve.model, reserve.stage, job.owner_id);
  if missing is not null then
    -- Nobody needs to ask before that: a new price, like a change of the budgets, lets the job ask again at once.
    return query select 'unpriced', null::bigint, 3600::double precision, missing;
    return;
  end if;
  key := pipeline.locked_key(reserve.provider, reserve.fingerprint, reserve.stage);
  now := pipeline.now();

  if key.state <> 'ready' then
    if key.prober is distinct from listener or key.probe_until <= now then
      return query select key.state, null::bigint, greatest(extract(epoch from key.retry_at - now), 1)::double precision, key.reason;
      return;
    elsif key.probe_call is not null and exists (select from pipeline.ledger l where l.id = key.probe_call and l.state = 'reserved') then
      return query select 'later', null::bigint, 0.5::double precision, key.reason;
      return;
    end if;
  elsif key.cooling_until > now + interval '10 seconds' then
    return query select 'cooling', null::bigint, extract(epoch from key.cooling_until - now)::double precision,
                        'the provider asked for a pause';
    return;
  end if;

  request_pace := pipeline.refilled(key.requests, now);
  token_pace := pipeline.refilled(key.tokens, now);
  if reserve.inputs > 1 and weight * key.token_factor > token_pace.per_minute * 0.9 then
    return query select 'smaller', null::bigint, 0::double precision, 'the limit of the provider';
    return;
  end if;
  pause := greatest(pipeline.wait_for(request_pace, 1), pipeline.wait_for(token_pace, weight * key.token_factor),
                    extract(epoch from key.cooling_until - now), 0);
  -- What is promised far ahead would still go out when the pace has changed meanwhile.
  if pause > 5 then
    return query select 'later', null::bigint, pause - 4 + pg_catalog.random(), 'the limit of the provider';
    return;
  end if;
  if (select count(*) from pipeline.ledger l
       where l.provider = reserve.provider and l.fingerprint = reserve.fingerprint and l.state = 'reserved'
         and pipeline.holds(l.job_id, l.attempt))
     >= (select m.max_in_flight from pipeline.provider_limits m where m.provider = reserve.provider) then
    return query select 'later', null::bigint, 0.5 + pg_catalog.random(), 'as many calls as allowed are under way';
    return;
  end if;

  insert into pipeline.ledger as l (sends_at, owner_id, document_id, job_id, attempt, parse_id, provider, fingerprint, stage, model,
                                    pages, inputs, tokens, amount)
  values (now + make_interval(secs => pause), job.owner_id, job.document_id, job.id, reserve.attempt, reserve.parse_id,
          reserve.provider, reserve.fingerprint, reserve.stage, reserve.model, reserve.pages, reserve.inputs, reserve.tokens,
          pipeline.price_of(reserve.provider, reserve.model, reserve.pages, null, reserve.tokens, now))
  returning l.id into call_id;
  -- Judged with this call in it and its rows locked: two that ask at once cannot both have the last dollar.
  select * into refusal from pipeline.over_budget(job.owner_id, call_id);
  if refusal.reason is not null then
    delete from pipeline.ledger l where l.id = call_id;
    return query select 'budget', null::bigint, extract(epoch from refusal.again_at - now)::double precision, refusal.reason;
    return;
  end if;
  request_pace.available := request_pace.available - 1;
  token_pace.available := token_pace.available - weight * key.token_factor;
  update pipeline.provider_keys k
     set requests = request_pace, tokens = token_pace, used_at = now,
         probe_call = case when key.state <> 'ready' then call_id end
   where k.provider = key.provider and k.fingerprint = key.fingerprint;
  return query select 'go', call_id, pause, null::text;
end
$$;
comment on function pipeline.reserve is
  'Asks for one call. go: make it after `wait` seconds; later: ask again after `wait`, nothing is reserved; smaller: ask for a part of '
  'its inputs, since a minute''s limit does not hold them all; down, refused, cooling: the '
  'key is shut for about `wait` seconds; budget: there is none left before `wait` seconds have passed; unpriced: a budget holds and nobody knows the '
  'price; lost: the lease is gone.';

create function pipeline.ask_again(call_id bigint, let_through boolean)
  returns double precision
  language plpgsql
  security definer
  set search_path = ''
as $$
#variable_conflict use_column
declare
  call pipeline.ledger;
  key pipeline.provider_keys;
  request_pace pipeline.pace;
  now timestamptz;
  pause double precision;
begin
  select * into call from pipeline.ledger l where l.id = ask_again.call_id;
  select * into key from pipeline.provider_keys k
   where k.provider = call.provider and k.fingerprint = call.fingerprint
     for no key update;
  if not found then
    return 0;
  end if;
  now := pipeline.now();
  request_pace := pipeline.refilled(key.requests, now);
  if let_through then
    request_pace := pipeline.accepted(request_pace, 1, now);
  end if;
  pause := greatest(pipeline.wait_for(request_pace, 1), extract(epoch from key.cooling_until - now), 0);
  if pause <= 10 then
    request_pace.available := request_pace.available - 1;
    update pipeline.ledger l set asked_at = now, sends_at = now + make_interval(secs => pause) where l.id = call.id;
  end if;
  update pipeline.provider_keys k
     set requests = request_pace, used_at = now
   where k.provider = key.provider and k.fingerprint = key.fingerprint;
  return pause;
end
$$;
comment on function pipeline.ask_again is
  'Seconds to wait before one more request of a call under way; above ten, nothing is admitted. let_through: whether its last '
  'request was.';

create function pipeline.resume_call(job_id bigint, attempt integer, parse_id bigint)
  returns bigint
  language sql
  security definer
  set search_path = ''
as $$
  -- One that is confirmed already stays so: its pages were delivered, and got lost before they were kept.
  update pipeline.ledger l
     set state = case l.state when 'confirmed' then l.state else 'reserved' end,
         settled_at = case l.state when 'confirmed' then l.settled_at end, job_id = $1, attempt = $2
   where l.id = (select max(i.id) from pipeline.ledger i where i.parse_id = $3) and pipeline.holds($1, $2)
  returning l.id
$$;
comment on function pipeline.resume_call is 'Takes over the purchase of a parse that is to be collected; null where there is none.';

create function pipeline.settle(call_id bigint, outcome text, may_be_bought boolean, pages integer, credits numeric, tokens bigint,
                                most_requests double precision, requests_left double precision,
                                most_tokens double precision, tokens_left double precision,
                                retry_after interval, reason text)
  returns void
  language plpgsql
  security definer
  set search_path = ''
as $$
#variable_conflict use_column
declare
  call pipeline.ledger;
  key pipeline.provider_keys;
  request_pace pipeline.pace;
  token_pace pipeline.pace;
  now timestamptz;
  promised double precision := 0;
  age double precision;
  counts_tokens boolean;
begin
  perform pipeline.check_outcome(outcome);
  select * into call from pipeline.ledger l where l.id = settle.call_id;
  if not found then
    return;
  end if;
  select * into key from pipeline.provider_keys k
   where k.provider = call.provider and k.fingerprint = call.fingerprint
     for no key update;
  now := pipeline.now();
  age := greatest(extract(epoch from now - call.sends_at), 0);
  key := pipeline.turned(key, outcome, retry_after, reason, now);

  -- The money: what is delivered is confirmed, what may have been is not, and the rest never was.
  if outcome = 'bought' then
    update pipeline.ledger l
       set state = 'confirmed', settled_at = now, pages = coalesce(settle.pages, l.pages), tokens = coalesce(settle.tokens, l.tokens),
           amount = pipeline.price_of(l.provider, l.model, coalesce(settle.pages, l.pages), settle.credits,
                                      coalesce(settle.tokens, l.tokens), l.at)
     where l.id = call.id;
  elsif may_be_bought then
    update pipeline.ledger l set state = 'unconfirmed', settled_at = now where l.id = call.id and l.state <> 'confirmed';
  else
    delete from pipeline.ledger l where l.id = call.id and l.state <> 'confirmed';
  end if;

  -- The pace.
  request_pace := pipeline.refilled(key.requests, now);
  token_pace := pipeline.refilled(key.tokens, now);
  if outcome = 'bought' then
    if call.tokens > 0 and settle.tokens > 0 then
      token_pace.available := token_pace.available + call.tokens * key.token_factor - settle.tokens;
      key.token_factor := key.token_factor * 0.9 + 0.1 * settle.tokens / call.tokens;
    end if;
    request_pace := pipeline.accepted(request_pace, 1, now);
    token_pace := pipeline.accepted(token_pace, coalesce(settle.tokens, call.tokens), now);
  elsif outcome in ('declined', 'refused') or outcome = 'limited' and most_tokens is not null then
    token_pace.available := token_pace.available + call.tokens * key.token_factor;
  end if;
  if most_requests is not null or most_tokens is not null then
    if token_pace.told is not true or request_pace.told is not true then
      select coalesce(sum(l.tokens), 0) into promised from pipeline.ledger l
       where l.provider = call.provider and l.fingerprint = call.fingerprint and l.state = 'reserved';
    end if;
    request_pace := pipeline.told(request_pace, most_requests, requests_left, 0, now, age);
    token_pace := pipeline.told(token_pace, most_tokens, tokens_left, promised * key.token_factor, now, age);
  end if;
  if outcome = 'limited' then
    -- It is the pace that is used up more that is too fast.
    counts_tokens := call.tokens > 0
      and (request_pace.per_minute is null or token_pace.per_minute is null
           or token_pace.available / token_pace.per_minute <= request_pace.available / request_pace.per_minute);
    if most_requests is null and most_tokens is null then
      -- Calls that were on their way together are refused together: one change of pace answers them all.
      if counts_tokens and (token_pace.limited_at is null or token_pace.told or call.asked_at > token_pace.limited_at) then
        token_pace := pipeline.limited(token_pace, call.tokens, now);
      elsif not counts_tokens and (request_pace.limited_at is null or request_pace.told or call.asked_at > request_pace.limited_at) then
        request_pace := pipeline.limited(request_pace, 1, now);
      end if;
      if token_pace.per_minute is null and request_pace.per_minute is null then
        key.cooling_until := greatest(key.cooling_until, now + interval '1 second');
      end if;
    elsif retry_after is null
          and (requests_left < 1 or call.tokens > 0 and tokens_left < call.tokens * key.token_factor) is not true then
      -- What it tells leaves room for the call, so it counts something else: the pace begins at nothing, and all rest a moment.
      if counts_tokens then
        token_pace.available := least(token_pace.available, 0);
      else
        request_pace.available := least(request_pace.available, 0);
      end if;
      key.cooling_until := greatest(key.cooling_until, now + interval '1 second');
    end if;
  end if;

  update pipeline.provider_keys k
     set state = key.state, state_since = key.state_since, reason = key.reason, outages = key.outages, retry_at = key.retry_at,
         prober = key.prober, probe_until = key.probe_until, probe_call = key.probe_call, cooling_until = key.cooling_until,
         requests = request_pace, tokens = token_pace, token_factor = key.token_factor
   where k.provider = key.provider and k.fingerprint = key.fingerprint;
end
$$;
comment on function pipeline.settle is
  'Tells how a call ended. bought: delivered; declined: the provider works and sold nothing; limited: asked too often; down: broken '
  'or away; refused: key, credit or setting; unclear: none of these. What the provider told of its limits comes along.';

-- Who is shut, and who may try ------------------------------------------------------------------------------------------

create function pipeline.shut_stages(listener text)
  returns text[]
  language sql
  stable
  set search_path = ''
as $$
  select coalesce(array_agg(distinct k.stage), '{}')
    from pipeline.provider_keys k
    join pipeline.listeners l on l.id = $1 and k.fingerprint = any (l.keys)
   where (k.state <> 'ready' and (k.stage <> 'fetch' and k.prober = $1 and k.probe_until > pipeline.now()) is not true)
      or k.cooling_until > pipeline.now() + interval '2 seconds'
$$;
comment on function pipeline.shut_stages is
  'The stages (fetch, parse, embed) for which the listener''s key is shut or cooling: jobs that need them next are not for it.';

create function pipeline.watch_providers(listener text)
  returns boolean
  language plpgsql
  set search_path = ''
as $$
declare
  granted text[];
begin
  update pipeline.ledger l
     set state = 'unconfirmed', settled_at = pipeline.now()
   where l.id in (select i.id from pipeline.ledger i
                   where i.state = 'reserved' and not pipeline.holds(i.job_id, i.attempt)
                   order by i.id limit 1000 for update skip locked);
  delete from pipeline.provider_keys k
   where k.used_at < pipeline.now() - (select s.keep_history from pipeline.settings s)
     and not exists (select from pipeline.ledger l
                      where l.provider = k.provider and l.fingerprint = k.fingerprint and l.state = 'reserved')
     and not exists (select from pipeline.listeners l
                      where k.fingerprint = any (l.keys) and l.stopped_at is null
                        and l.seen_at > pipeline.now() - interval '1 hour');
  -- A provider is probed by a job's own call, so one listener is let at such jobs again; Storage by the listener itself.
  with probes as (
    update pipeline.provider_keys k
       set prober = watch_providers.listener, probe_until = pipeline.now() + interval '30 seconds', probe_call = null
      from pipeline.listeners l
     where l.id = watch_providers.listener and k.fingerprint = any (l.keys)
       and k.state <> 'ready' and k.retry_at <= pipeline.now()
       and (k.probe_until is null or k.probe_until <= pipeline.now() or k.prober = watch_providers.listener)
       and not exists (select from pipeline.ledger p where p.id = k.probe_call and p.state = 'reserved')
    returning k.stage
  )
  select coalesce(array_agg(p.stage), '{}') into granted from probes p;
  if granted && '{parse, embed}' then
    perform pg_catalog.pg_notify('pipeline_jobs', '');
  end if;
  return 'fetch' = any (granted);
end
$$;
comment on function pipeline.watch_providers is
  'What every listener does every few seconds: books calls whose listener died as unconfirmed, forgets keys of long ago, and takes '
  'on a probe that is due. True when it is that of Storage.';

create view pipeline.provider_health with (security_invoker = true) as
select k.provider, k.fingerprint, k.stage,
       case when k.state = 'ready' and k.cooling_until > pipeline.now() then 'cooling' else k.state end as state,
       case when k.state = 'ready' and k.cooling_until > pipeline.now()
            then greatest(k.state_since, (k.tokens).limited_at, (k.requests).limited_at) else k.state_since end as since,
       case when k.state = 'ready' and k.cooling_until > pipeline.now() then 'the provider asked for a pause' else k.reason end as reason,
       case when k.state = 'ready' then k.cooling_until else k.retry_at end as retry_at,
       round((k.requests).per_minute) as requests_per_minute, round((k.tokens).per_minute) as tokens_per_minute,
       coalesce((k.tokens).told, (k.requests).told, false) as limits_told,
       (select o.max_in_flight from pipeline.provider_limits o where o.provider = k.provider) as max_in_flight,
       m.requests as requests_last_minute, m.tokens as tokens_last_minute, m.in_flight,
       (select count(*) from pipeline.listeners l
         where k.fingerprint = any (l.keys) and l.stopped_at is null
           and l.seen_at > pipeline.now() - interval '1 minute') as listeners
  from pipeline.provider_keys k
 cross join lateral (select count(*) as requests, coalesce(sum(l.tokens), 0)::bigint as tokens,
                            count(*) filter (where l.state = 'reserved') as in_flight
                       from pipeline.ledger l
                      where l.provider = k.provider and l.fingerprint = k.fingerprint and l.at > pipeline.now() - interval '1 minute') m;
comment on view pipeline.provider_health is
  'Each key of a paid provider and of Storage by its fingerprint: ready, cooling, down or refused, since when and why, and how fast '
  'it is used.';
revoke all on pipeline.provider_health from public, anon, authenticated;

create function pipeline.providers()
  returns setof pipeline.provider_health
  language sql
  stable
  security definer
  set search_path = ''
as $$
  select * from pipeline.provider_health order by provider, fingerprint
$$;
comment on function pipeline.providers is 'provider_health for the listener''s role.';

revoke execute on function pipeline.locked_key, pipeline.check_outcome, pipeline.turned, pipeline.observe, pipeline.reserve, pipeline.ask_again, pipeline.resume_call, pipeline.settle, pipeline.shut_stages,
  pipeline.watch_providers, pipeline.providers from public, anon, authenticated;
grant execute on function pipeline.observe, pipeline.reserve, pipeline.ask_again, pipeline.resume_call, pipeline.settle,
  pipeline.providers to pipeline_worker;
