-- What things cost, and how much may be spent.
--
-- Prices are rows with the day from which they hold; a purchase keeps the price of its own day. Budgets are rows too: of one
-- owner, of every owner who has none, and of all together, each for a UTC day or month. A call is entered in the ledger with
-- its estimated price before it is made, so a budget holds however many listeners ask at once, and settled when the provider
-- has said what it took. A job that finds its budget spent goes back to the queue with the reason and the date, and fails
-- nothing. While a budget holds, nothing is bought without a price: nobody could say what is left. What costs nothing, such as
-- a model server of one's own, has the price 0.
--
-- What was spent is kept as a sum for each day and owner, by a trigger on the ledger: asking whether there is money left
-- reads at most a month of days.

create table pipeline.prices (
  provider   text not null,
  model      text not null,
  unit       text not null constraint unit_is_known check (unit in ('page', 'token', 'credit')),
  price      numeric not null constraint price_is_no_gift check (price >= 0 and price < 'infinity'),
  valid_from date not null,
  primary key (provider, model, unit, valid_from)
);
comment on table pipeline.prices is 'List prices in US dollars; the newest that is valid on the day holds. Change it by adding a row.';
comment on column pipeline.prices.model is 'The embedding model, or the parser''s tier.';
comment on column pipeline.prices.price is 'Of one unit. A credit''s is used where the provider says how many it took.';
insert into pipeline.prices (provider, model, unit, price, valid_from)
select 'llamaparse', t.tier, 'page', t.credits * 0.00125, date '2026-01-01'
  from (values ('fast', 1), ('cost_effective', 3), ('agentic', 10), ('agentic_plus', 45)) as t (tier, credits)
union all
select 'llamaparse', t.tier, 'credit', 0.00125, date '2026-01-01'
  from (values ('fast'), ('cost_effective'), ('agentic'), ('agentic_plus')) as t (tier)
union all
select 'openai', m.model, 'token', m.million / 1000000, date '2026-01-01'
  from (values ('text-embedding-3-small', 0.02), ('text-embedding-3-large', 0.13), ('text-embedding-ada-002', 0.10)) as m (model, million);
alter table pipeline.prices enable row level security;

create function pipeline.unit_price(provider text, model text, unit text, at timestamptz)
  returns numeric
  language sql
  stable
  set search_path = ''
as $$
  select p.price from pipeline.prices p
   where p.provider = $1 and p.model = $2 and p.unit = $3 and p.valid_from <= ($4 at time zone 'utc')::date
   order by p.valid_from desc
   limit 1
$$;
comment on function pipeline.unit_price is 'What one unit costs then; null where no price is known.';

create function pipeline.price_of(provider text, model text, pages integer, credits numeric, tokens bigint, at timestamptz)
  returns numeric
  language sql
  stable
  set search_path = ''
as $$
  select case when $4 is not null and pipeline.unit_price($1, $2, 'credit', $6) is not null
              then $4 * pipeline.unit_price($1, $2, 'credit', $6)
              else (case when $3 > 0 then $3 * pipeline.unit_price($1, $2, 'page', $6) else 0 end)
                 + (case when $5 > 0 then $5 * pipeline.unit_price($1, $2, 'token', $6) else 0 end) end
$$;
comment on function pipeline.price_of is 'What a call costs: by the provider''s credits where it tells them, else by pages and tokens; null: unknown.';

-- What was spent ----------------------------------------------------------------------------------------------------------

create table pipeline.spent_days (
  day      date not null,
  owner_id uuid,
  amount   numeric not null,
  unique nulls not distinct (owner_id, day)
) with (fillfactor = 50);
comment on table pipeline.spent_days is 'The ledger''s amounts by UTC day and owner, kept by its trigger; without an owner: of all together.';
alter table pipeline.spent_days enable row level security;

create function pipeline.add_spent(days date[], owner_ids uuid[], amounts numeric[])
  returns void
  language sql
  set search_path = ''
as $$
  -- One order for all, the sum of the day last: two calls that meet cannot wait for each other.
  insert into pipeline.spent_days as s (day, owner_id, amount)
  select c.day, c.owner_id, sum(c.amount)
    from (select u.day, u.owner_id, u.amount from unnest(days, owner_ids, amounts) as u (day, owner_id, amount)
           where u.owner_id is not null and u.amount <> 0
          union all
          select u.day, null, u.amount from unnest(days, owner_ids, amounts) as u (day, owner_id, amount)
           where u.amount <> 0) c
   group by c.day, c.owner_id
   order by c.day, c.owner_id nulls last
  on conflict (day, owner_id) do update set amount = s.amount + excluded.amount
$$;
comment on function pipeline.add_spent is 'Adds amounts to the days of their owners and of all.';

create function pipeline.ledger_changed()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    perform pipeline.add_spent(array_agg((n.at at time zone 'utc')::date), array_agg(n.owner_id), array_agg(n.amount))
       from new_rows n where n.amount is not null having count(*) > 0;
  elsif tg_op = 'DELETE' then
    perform pipeline.add_spent(array_agg((o.at at time zone 'utc')::date), array_agg(o.owner_id), array_agg(-o.amount))
       from old_rows o where o.amount is not null having count(*) > 0;
  else
    perform pipeline.add_spent(array_agg((c.at at time zone 'utc')::date), array_agg(c.owner_id), array_agg(c.amount))
       from (select n.at, n.owner_id, n.amount from new_rows n join old_rows o using (id)
              where n.amount is not null and (o.amount, o.owner_id, o.at) is distinct from (n.amount, n.owner_id, n.at)
             union all
             select o.at, o.owner_id, -o.amount from new_rows n join old_rows o using (id)
              where o.amount is not null and (o.amount, o.owner_id, o.at) is distinct from (n.amount, n.owner_id, n.at)) c
     having count(*) > 0;
  end if;
  return null;
end
$$;
comment on function pipeline.ledger_changed is 'Keeps spent_days.';
create trigger ledger_inserted after insert on pipeline.ledger
  referencing new table as new_rows
  for each statement execute function pipeline.ledger_changed();
create trigger ledger_updated after update on pipeline.ledger
  referencing old table as old_rows new table as new_rows
  for each statement execute function pipeline.ledger_changed();
create trigger ledger_deleted after delete on pipeline.ledger
  referencing old table as old_rows
  for each statement execute function pipeline.ledger_changed();

-- Budgets -----------------------------------------------------------------------------------------------------------------

create table pipeline.budgets (
  scope    text not null constraint scope_is_known check (scope in ('all', 'owner')),
  owner_id uuid,
  period   text not null constraint period_is_known check (period in ('day', 'month')),
  amount   numeric constraint amount_is_no_debt check (amount >= 0 and amount < 'infinity'),
  unique nulls not distinct (scope, owner_id, period),
  constraint all_have_no_owner check (scope = 'owner' or owner_id is null)
);
comment on table pipeline.budgets is
  'How many US dollars may be spent in a UTC day or month: by all together, by one owner, or (scope owner without an owner) by '
  'each owner who has no row of that period. Without a row, or with a null amount, there is no limit.';
alter table pipeline.budgets enable row level security;

create function pipeline.budgets_of(owner_id uuid)
  returns table (scope text, period text, amount numeric, spent numeric, renews_at timestamptz)
  language sql
  stable
  set search_path = ''
as $$
  select b.scope, b.period, b.amount,
         -- apart, since only so each is a look into the index, however many owners and days there are
         coalesce(case b.scope
                    when 'all' then (select sum(s.amount) from pipeline.spent_days s
                                      where s.owner_id is null
                                        and s.day >= (date_trunc(b.period, pipeline.now() at time zone 'utc'))::date)
                    else (select sum(s.amount) from pipeline.spent_days s
                           where s.owner_id = $1
                             and s.day >= (date_trunc(b.period, pipeline.now() at time zone 'utc'))::date) end, 0),
         (date_trunc(b.period, pipeline.now() at time zone 'utc') + ('1 ' || b.period)::interval) at time zone 'utc'
    from (select distinct on (i.scope, i.period) i.scope, i.period, i.amount
            from pipeline.budgets i
           where i.scope = 'all' or i.owner_id = $1 or i.owner_id is null
           order by i.scope, i.period, i.owner_id nulls last) b
   where b.amount is not null
$$;
comment on function pipeline.budgets_of is 'The budgets that hold for an owner, what is spent of each, and when it begins anew.';

create function pipeline.over_budget(owner_id uuid, call_id bigint)
  returns table (reason text, again_at timestamptz)
  language sql
  stable
  set search_path = ''
as $$
  -- Clients read the reason: of a budget that others share it tells no figures.
  select format(case when o.promised
                     then 'What is left of the %s budget for processing %s is set aside for files at work; this file continues by itself.'
                     else 'The %s budget for processing %s is used up; this file continues by itself on %s.' end,
                case o.period when 'day' then 'daily' else 'monthly' end,
                case o.scope when 'all' then 'at this installation' else 'your files' end,
                to_char(o.renews_at at time zone 'utc', 'FMDD FMMonth YYYY')),
         case when o.promised then pipeline.now() + interval '1 minute' else o.renews_at end
    from (select b.*,
                 -- What is set aside for other calls under way is an estimate, which their bills may fall far below.
                 b.spent - coalesce((select sum(l.amount) from pipeline.ledger l
                                      where l.state = 'reserved' and l.id <> $2
                                        and (b.scope = 'all' or l.owner_id = $1)), 0) <= b.amount as promised
            from pipeline.budgets_of($1) b
           where b.spent > b.amount) o
   order by o.promised, o.renews_at desc
   limit 1
$$;
comment on function pipeline.over_budget is
  'Which budget the call exceeds, in the owner''s words, and when to ask again: when it begins anew, or soon where what is left is '
  'only set aside for other calls; nothing when none is exceeded.';

create function pipeline.missing_price(provider text, model text, stage text, owner_id uuid default null)
  returns text
  language sql
  stable
  security definer
  set search_path = ''
as $$
  select format('%s %s %s', $1, $2, u.unit)
    from (select case $3 when 'parse' then 'page' else 'token' end as unit) u
   where pipeline.unit_price($1, $2, u.unit, pipeline.now()) is null
     and case when $4 is null then exists (select from pipeline.budgets b where b.amount is not null)
              else exists (select from pipeline.budgets_of($4)) end
$$;
comment on function pipeline.missing_price is
  'Which price (provider, model and unit) is missing for the owner''s budgets to hold, or for anybody''s; null where it is there or '
  'no budget is.';

-- A budget that was raised, or a price that was missing, lets waiting jobs go on at once.
create function pipeline.budgets_changed()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  update pipeline.jobs j set available_at = pipeline.now()
   where j.state = 'available' and j.error_class in ('budget', 'configuration') and j.available_at > pipeline.now();
  return null;
end
$$;
comment on function pipeline.budgets_changed is 'Lets jobs that wait for a budget or a price ask again.';
create trigger budgets_changed after insert or update or delete on pipeline.budgets
  for each statement execute function pipeline.budgets_changed();
create trigger prices_changed after insert or update or delete on pipeline.prices
  for each statement execute function pipeline.budgets_changed();

-- What a job's result is made of, whoever paid for it: beside the ledger it tells what was reused.
create table pipeline.job_work (
  job_id   bigint not null references pipeline.jobs on delete cascade,
  stage    text not null constraint stage_costs_money check (stage in ('parse', 'embed')),
  provider text not null,
  model    text not null,
  pages    integer not null default 0,
  inputs   integer not null default 0,
  tokens   bigint not null default 0,
  primary key (job_id, stage)
);
comment on table pipeline.job_work is 'How many pages and inputs a job''s result is made of, bought or reused.';
alter table pipeline.job_work enable row level security;

create function pipeline.note_work(job_id bigint, attempt integer, stage text, provider text, model text, pages integer, inputs integer,
                                   tokens bigint)
  returns void
  language sql
  security definer
  set search_path = ''
as $$
  insert into pipeline.job_work as w (job_id, stage, provider, model, pages, inputs, tokens)
  select $1, $3, $4, $5, $6, $7, $8 where pipeline.holds($1, $2)
  on conflict (job_id, stage) do update
     set provider = excluded.provider, model = excluded.model, pages = excluded.pages, inputs = excluded.inputs,
         tokens = excluded.tokens
$$;
comment on function pipeline.note_work is 'Says what the job''s result is made of.';

create or replace function pipeline.forget_costs(owner_id uuid, pseudonym uuid, max_rows integer)
  returns integer
  language plpgsql
  set search_path = ''
as $$
declare
  changed integer;
begin
  delete from pipeline.budgets b where b.owner_id = forget_costs.owner_id;
  update pipeline.ledger l
     set owner_id = forget_costs.pseudonym, document_id = null, parse_id = null
   where l.id in (select i.id from pipeline.ledger i where i.owner_id = forget_costs.owner_id limit max_rows);
  get diagnostics changed = row_count;
  delete from pipeline.spent_days s where s.owner_id = forget_costs.owner_id and s.amount = 0;
  return changed;
end
$$;
comment on function pipeline.forget_costs is
  'Puts the pseudonym in the owner''s place in at most so many rows of the ledger, and returns how many it changed.';

create view pipeline.job_costs with (security_invoker = true) as
select j.id as job_id, j.owner_id, j.document_id, j.name,
       b.pages as pages_bought, b.inputs as inputs_bought, b.tokens as tokens_bought, b.amount as bought, b.unconfirmed,
       b.without_price,
       w.pages as pages_reused, w.inputs as inputs_reused, w.saved
  from pipeline.jobs j
 cross join lateral (
         select coalesce(sum(l.pages), 0)::bigint as pages, coalesce(sum(l.inputs), 0)::bigint as inputs,
                coalesce(sum(l.tokens), 0)::bigint as tokens, coalesce(sum(l.amount), 0) as amount,
                coalesce(sum(l.amount) filter (where l.state = 'unconfirmed'), 0) as unconfirmed,
                count(*) filter (where l.amount is null) as without_price
           from pipeline.ledger l where l.job_id = j.id) b
 cross join lateral (
         select coalesce(sum(r.pages), 0)::bigint as pages, coalesce(sum(r.inputs), 0)::bigint as inputs,
                coalesce(sum(pipeline.price_of(r.provider, r.model, r.pages, null, r.tokens, pipeline.now())), 0) as saved
           from (select m.provider, m.model, greatest(m.pages - coalesce(sum(l.pages), 0), 0)::integer as pages,
                        greatest(m.inputs - coalesce(sum(l.inputs), 0), 0)::integer as inputs,
                        greatest(m.tokens - coalesce(sum(l.tokens), 0), 0)::bigint as tokens
                   from pipeline.job_work m
                   left join pipeline.ledger l on l.job_id = m.job_id and l.stage = m.stage
                  where m.job_id = j.id
                  group by m.stage, m.provider, m.model, m.pages, m.inputs, m.tokens) r) w;
comment on view pipeline.job_costs is
  'For each job what it bought (US dollars, of which unconfirmed; calls without a price are counted apart), what it reused instead '
  'of buying, and what that saved.';

create view pipeline.costs with (security_invoker = true) as
select (l.at at time zone 'utc')::date as day, l.owner_id, l.document_id, l.provider, l.model, count(*) as calls,
       sum(l.pages) as pages, sum(l.inputs) as inputs, sum(l.tokens) as tokens, sum(l.amount) as amount,
       coalesce(sum(l.amount) filter (where l.state <> 'confirmed'), 0) as unconfirmed,
       count(*) filter (where l.amount is null) as without_price
  from pipeline.ledger l
 group by 1, 2, 3, 4, 5;
comment on view pipeline.costs is 'The ledger by UTC day, owner, document, provider and model, in US dollars.';
revoke all on pipeline.job_costs, pipeline.costs from public, anon, authenticated;

revoke execute on function pipeline.unit_price, pipeline.price_of, pipeline.add_spent, pipeline.ledger_changed, pipeline.budgets_of,
  pipeline.over_budget, pipeline.missing_price, pipeline.budgets_changed, pipeline.note_work, pipeline.forget_costs from public, anon, authenticated;
grant execute on function pipeline.note_work, pipeline.missing_price to pipeline_worker;
