-- The ground that everything stands on.
--
-- All tables and functions of the pipeline live in the private schema `pipeline`, which no API exposes. Clients see the
-- few views and functions in `public` that the migration `api` makes. The listener works as the role `pipeline_worker`,
-- which may execute the queue's functions and nothing that it does not need; its password is never in a migration:
-- `pipeline migrate` sets it, or the operator does.
--
-- The first statement looks before anything is touched: in a project that already uses our names, nothing is changed.

do $$
declare
  found text[] := '{}';
  policy record;
begin
  select coalesce(array_agg(format('%s public.%I', case when c.relkind = 'v' then 'the view' else 'the table' end, c.relname)
                            order by c.relname), '{}')
    into found
    from pg_catalog.pg_class c
   where c.relnamespace = 'public'::regnamespace and c.relname in ('documents', 'jobs', 'chunks');

  select found || coalesce(array_agg(format('the function public.%I', p.proname) order by p.proname), '{}')
    into found
    from pg_catalog.pg_proc p
   where p.pronamespace = 'public'::regnamespace and p.proname in ('search', 'retry_job', 'cancel_job');

  if to_regnamespace('pipeline') is not null then
    found := found || 'the schema pipeline'::text;
  end if;
  if exists (select from storage.buckets where id = 'documents' or name = 'documents') then
    found := found || 'the storage bucket documents'::text;
  end if;

  -- A permissive policy that does not tie itself to another bucket would open ours as well.
  for policy in
    select p.policyname
      from pg_catalog.pg_policies p
     where p.schemaname = 'storage' and p.tablename = 'objects' and p.permissive = 'PERMISSIVE'
       and p.roles && array['public', 'anon', 'authenticated']::name[]
       and (coalesce(p.qual, p.with_check) !~ 'bucket_id *= *''[^'']+'''
            or coalesce(p.qual, '') || coalesce(p.with_check, '') ~ '''documents''')
  loop
    found := found || format('the policy %I on storage.objects, which also covers our bucket', policy.policyname);
  end loop;

  if cardinality(found) > 0 then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'This project already has ' || array_to_string(found, ', ') || '. Nothing was changed.',
      hint = 'Rename or remove what is named (a policy: add a condition on bucket_id), or use another project, and migrate again.';
  end if;
end
$$;

create schema if not exists extensions;
create extension if not exists vector with schema extensions;

create schema pipeline;
comment on schema pipeline is 'The document pipeline: its queue, content and accounts. Private: no API exposes it.';
revoke all on schema pipeline from public, anon, authenticated;

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'pipeline_worker') then
    create role pipeline_worker login noinherit;
  end if;
  -- So that a listener behind the session pooler, which signs in as postgres, can `set role`.
  execute format('grant pipeline_worker to %I', current_user);
end
$$;
-- A publish of the largest file takes a minute on a small machine.
alter role pipeline_worker set statement_timeout = '5min';
alter role pipeline_worker set idle_in_transaction_session_timeout = '30s';
grant usage on schema pipeline, extensions to pipeline_worker;

create function pipeline.now()
  returns timestamptz
  language sql
  stable
  set search_path = ''
as $$
  select pg_catalog.clock_timestamp()
$$;
comment on function pipeline.now() is
  'The only clock. Declared stable, so that it can be an index condition; each statement sees the real time, so that '
  'what waited for a lock judges its lease anew. A test moves time by replacing this function as its owner.';
revoke execute on function pipeline.now() from public, anon, authenticated;
grant execute on function pipeline.now() to pipeline_worker;

-- Every policy and every function for clients asks this one. A token is believed because the platform has verified it.
-- Late bound: the settings come next, and the table of erasures with the last of the story.
create function pipeline.caller()
  returns uuid
  language plpgsql
  stable
  security definer
  set search_path = ''
as $$
declare
  caller constant uuid := auth.uid();
begin
  -- Two steps: the first is no query, and takes a tenth of the time.
  if (auth.jwt() ->> 'is_anonymous')::boolean then
    if not (select s.anonymous_sign_ins from pipeline.settings s) then
      return null;
    end if;
  end if;
  -- Without these two nobody notices that a file or a user is deleted, as in a dump that was restored: see the migration
  -- `platform`. The look takes about 10 µs, a thousandth of a search.
  if not exists (select from pg_catalog.pg_trigger t
                  where t.tgrelid = 'storage.objects'::regclass and t.tgname = 'pipeline_object_deleted')
     or not exists (select from pg_catalog.pg_trigger t
                     where t.tgrelid = 'auth.users'::regclass and t.tgname = 'pipeline_user_deleted') then
    raise sqlstate 'PT503' using
      message = 'This project is not whole: it does not notice what is deleted, so it shows nothing.',
      hint = 'Its operator runs `pipeline migrate`, and then `pipeline doctor --fix`.';
  end if;
  return case when not exists (select from pipeline.erasures e where e.owner_id = caller) then caller end;
end
$$;
comment on function pipeline.caller is
  'Whose rows a request may see: auth.uid(), or null for nobody. That is who signed in anonymously, unless '
  'settings.anonymous_sign_ins is on, and who was deleted, for as long as the token is still good. 503 in a project that '
  'has lost the triggers which notice a delete.';

create table pipeline.settings (
  only_row        boolean primary key default true constraint there_is_one_row check (only_row),
  schema_version  integer not null default 1,
  paused          boolean not null default false,
  paused_at       timestamptz,
  max_failures    smallint not null default 3 constraint a_job_has_at_least_one_try check (max_failures > 0),
  backoff_base    interval not null default '10 seconds',
  backoff_cap     interval not null default '1 hour',
  retries_per_day smallint not null default 5,
  keep_history    interval not null default '90 days',
  keep_unused_work interval not null default '7 days',
  probe_every     interval not null default '60 seconds',
  anonymous_sign_ins boolean not null default false,
  constraint paused_since_iff_paused check (paused = (paused_at is not null))
);
comment on table pipeline.settings is 'One row: what holds for the whole project.';
comment on column pipeline.settings.schema_version is 'A claim hands out jobs only to a listener that knows this version.';
comment on column pipeline.settings.paused is 'While true, claims hand out nothing; running jobs finish.';
comment on column pipeline.settings.max_failures is 'After so many failures a job is dead.';
comment on column pipeline.settings.backoff_base is 'The delay before the first retry; it doubles with each failure.';
comment on column pipeline.settings.backoff_cap is 'The longest delay before a retry.';
comment on column pipeline.settings.retries_per_day is 'How often a day a client may ask for another run of one job, or get one by moving its file.';
comment on column pipeline.settings.keep_history is 'Ended jobs and events older than this go, save those that a living document shows.';
comment on column pipeline.settings.keep_unused_work is 'Parses and embeddings that no document uses any more are kept for so long.';
comment on column pipeline.settings.probe_every is 'How often a provider that refuses our key or settings is tried again.';
comment on column pipeline.settings.anonymous_sign_ins is 'Whether who signed in anonymously may upload, see and search; off, they are nobody.';
insert into pipeline.settings default values;
alter table pipeline.settings enable row level security;
create policy worker_reads on pipeline.settings for select to pipeline_worker using (true);
grant select on pipeline.settings to pipeline_worker;

create table pipeline.listeners (
  id             text primary key,
  started_at     timestamptz not null,
  seen_at        timestamptz not null,
  stopped_at     timestamptz,
  release        text not null,
  parser         text not null,
  space          text not null,
  parse_key      text,
  embed_key      text
);
comment on table pipeline.listeners is 'The listeners that have been seen, so that an operator can tell "busy" from "nobody is there".';
comment on column pipeline.listeners.parse_key is 'The fingerprint of the paid key that it cannot parse without; see provider_keys.';
comment on column pipeline.listeners.embed_key is 'The same for the embedder.';
alter table pipeline.listeners enable row level security;

create function pipeline.listener_seen(id text, release text, parser text, space text, stopped boolean default false,
                                       parse_key text default null, embed_key text default null)
  returns void
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  insert into pipeline.listeners as l (id, started_at, seen_at, release, parser, space, parse_key, embed_key)
  values ($1, pipeline.now(), pipeline.now(), $2, $3, $4, $6, $7)
  on conflict on constraint listeners_pkey do update
     set seen_at = pipeline.now(), stopped_at = case when $5 then pipeline.now() end;
  delete from pipeline.listeners l where l.seen_at < pipeline.now() - interval '7 days';
  if not stopped then
    perform pipeline.watch_providers($1);
  end if;
end
$$;
comment on function pipeline.listener_seen is 'A listener says that it lives, every few seconds, and once when it stops.';
revoke execute on function pipeline.listener_seen from public, anon, authenticated;
grant execute on function pipeline.listener_seen to pipeline_worker;
