-- How fast something may be spent at a provider: requests a minute, or tokens.
--
-- A pace is a bucket that refills evenly. Where the provider tells its limits, they are its limits and what it says is left.
-- Where it does not, the pace is found: a refusal (429) lowers it, time without one raises it, quickly up to where it was last
-- refused and slowly beyond. What went through between two refusals measures the limit itself.
--
-- These functions are arithmetic: they look at no table, and the time is given to them.

create type pipeline.pace as (
  per_minute double precision,
  told       boolean,
  available  double precision,
  at         timestamptz,
  accepted   double precision,
  limited_at timestamptz,
  raised_at  timestamptz,
  ceiling    double precision
);
comment on type pipeline.pace is 'How fast something may be spent; without per_minute no limit is known.';
comment on column pipeline.pace.told is 'Whether the provider told the limit; else it was found.';
comment on column pipeline.pace.available is 'What may be spent at the time `at`; below zero it is promised already.';
comment on column pipeline.pace.accepted is 'What the provider took since limited_at.';
comment on column pipeline.pace.limited_at is 'The last refusal that changed the pace.';
comment on column pipeline.pace.raised_at is 'When a found pace last changed; before there is one, the first refusal.';
comment on column pipeline.pace.ceiling is 'The pace at which it was last refused.';

create function pipeline.saved_at_most(p pipeline.pace)
  returns double precision
  language sql
  immutable
  set search_path = ''
as $$
  -- A limit that was told may be saved up for a minute; how much of a found one may be is not known.
  select p.per_minute * case when p.told then 1 else 1 / 6.0 end
$$;
comment on function pipeline.saved_at_most is 'What is there after a long rest.';

create function pipeline.refilled(p pipeline.pace, now timestamptz)
  returns pipeline.pace
  language plpgsql
  immutable
  set search_path = ''
as $$
begin
  if p.per_minute is not null then
    p.available := least(p.available + p.per_minute / 60 * greatest(extract(epoch from now - p.at), 0), pipeline.saved_at_most(p));
    -- Who waited for the lock may look at an older clock; a clock that was set back is another one.
    p.at := case when extract(epoch from p.at - now) < 60 then greatest(p.at, now) else now end;
  end if;
  return p;
end
$$;
comment on function pipeline.refilled is 'The pace as it is now.';

create function pipeline.wait_for(p pipeline.pace, cost double precision)
  returns double precision
  language sql
  immutable
  set search_path = ''
as $$
  -- One and a half seconds' worth always stay: the provider may refill by the second, and its clock is not ours. What costs
  -- more than can be saved waits until all of that is there; the next one waits for the rest of it.
  select case when p.per_minute is null or cost = 0 then 0
              else greatest(0, (least(cost + p.per_minute / 40, pipeline.saved_at_most(p)) - p.available) / (p.per_minute / 60)) end
$$;
comment on function pipeline.wait_for is 'Seconds until so much may be spent.';

create function pipeline.told(p pipeline.pace, most double precision, available double precision, promised double precision,
                              now timestamptz, age double precision)
  returns pipeline.pace
  language plpgsql
  immutable
  set search_path = ''
as $$
declare
  per_minute constant double precision := most * 0.99;
begin
  if most is null or available is null or most <= 0 then
    return p;
  end if;
  if p.told is not true then
    p := row (per_minute, true, available - promised, now, 0, null, null, null);
  else
    -- What it says is as old as the call, so it only ever corrects downwards: somebody else uses the same key.
    p.per_minute := per_minute;
    p.available := least(p.available, available + per_minute / 60 * age);
  end if;
  return p;
end
$$;
comment on function pipeline.told is 'The pace after the provider told its limit and what is left of it.';

create function pipeline.limited(p pipeline.pace, cost double precision, now timestamptz)
  returns pipeline.pace
  language plpgsql
  immutable
  set search_path = ''
as $$
declare
  seconds constant double precision := greatest(extract(epoch from now - p.limited_at), 0.1);
  -- At each refusal less is left than the refused call asked for. So what went through between two of them is what the
  -- provider allows, give or take one call: a long time measures well, a short one gives bounds.
  measured constant double precision := p.accepted * 60 / seconds;
  slack constant double precision := cost * 60 / seconds;
  before double precision := coalesce(p.per_minute, measured, 0);
begin
  if before = 0 and now - p.raised_at >= interval '1 minute' then
    -- Nothing ever went through, and any limit has refilled meanwhile: the call itself is larger than it.
    before := cost;
  elsif before = 0 then
    p.raised_at := coalesce(p.raised_at, now);
  end if;
  if before > 0 then
    p.per_minute := case when p.told or p.per_minute is null then before * 0.7
                         when seconds >= 15 then least(greatest(measured * 0.98, before * 0.7), before * 0.98)
                         else greatest(least(before * 0.7, measured + slack), measured - slack) end;
    p.ceiling := before;
    p.available := least(coalesce(p.available, 0), 0);
    p.at := now;
    p.raised_at := now;
  end if;
  p.told := false;
  p.accepted := 0;
  p.limited_at := now;
  return p;
end
$$;
comment on function pipeline.limited is 'The pace after a call of that cost was refused.';

create function pipeline.accepted(p pipeline.pace, amount double precision, now timestamptz)
  returns pipeline.pace
  language plpgsql
  immutable
  set search_path = ''
as $$
begin
  p.accepted := coalesce(p.accepted, 0) + amount;
  p.limited_at := coalesce(p.limited_at, now);
  if p.per_minute is not null and p.told is not true and now - p.raised_at >= interval '15 seconds' then
    p.per_minute := case when p.per_minute < p.ceiling * 0.95 then (p.per_minute + p.ceiling * 0.97) / 2
                         -- beyond: the longer nothing was refused, the bolder
                         else p.per_minute * (1 + 0.003 * least(extract(epoch from now - p.limited_at) / 60, 8) ^ 2) end;
    p.raised_at := now;
  end if;
  return p;
end
$$;
comment on function pipeline.accepted is 'The pace after something was delivered.';

revoke execute on function pipeline.saved_at_most, pipeline.refilled, pipeline.wait_for, pipeline.told, pipeline.limited, pipeline.accepted
  from public, anon, authenticated;
