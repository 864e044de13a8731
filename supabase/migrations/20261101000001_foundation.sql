-- The ground that everything stands on.
--
-- All tables and functions of the pipeline live in the private schema `pipeline`, which no API exposes. Clients see the
-- few views and functions in `public` that the migration `api` makes. The listener works as the role `pipeline_worker`,
-- which may execute the queue's functions and nothing that it does not need; its password is never in a migration:
-- `pipeline migrate` sets it, or the operator does.
--
-- The first statement looks for all that stands in the way, before anything is touched: each thing is named with what mends
-- it. `pipeline migrate` runs that statement by itself, whatever is still to apply; names are looked for as long as this
-- migration has not been applied.

do $$
declare
  theirs constant text[] := array['auth.users', 'storage.buckets', 'storage.objects', 'realtime.messages'];
  absent constant text[] := array(select t from unnest(theirs) as t where to_regclass(t) is null);
  found text[] := '{}';  -- what is in the way, and behind it what mends it
  applied boolean := false;
  thing record;
begin
  if current_setting('server_version_num')::integer < 150000 then
    found := found || array[format('this is Postgres %s; 15 or newer is needed', current_setting('server_version')),
                            'Upgrade the project''s Postgres (Project Settings, Infrastructure).'];
  end if;
  if cardinality(absent) > 0 then
    found := found || array['the platform''s tables ' || array_to_string(absent, ', ') || ' are missing',
                            'Use a Supabase project in which Auth, Storage and Realtime have been started once.'];
  end if;

  -- What the role may do.
  if not (select r.rolcreaterole or r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user) then
    found := found || array[format('the role %I may not create roles', current_user), 'Migrate as the role postgres.'];
  end if;
  if not has_database_privilege(current_database(), 'create') then
    found := found || array[format('the role %I may not create schemas', current_user),
                            format('grant create on database %I to %I;', current_database(), current_user)];
  end if;
  for thing in
    select t.name from unnest(array['auth.users', 'storage.objects']) as t (name)
     where to_regclass(t.name) is not null and not has_table_privilege(to_regclass(t.name), 'trigger')
  loop
    found := found || array[format('the role %I may not create triggers on %s', current_user, thing.name),
                            'Migrate as the role postgres.'];
  end loop;
  for thing in
    select r.rolsuper or r.rolbypassrls as mighty from pg_catalog.pg_roles r where r.rolname = 'pipeline_worker'
  loop
    if thing.mighty then
      found := found || array['the role pipeline_worker exists and may do too much',
                              'alter role pipeline_worker nosuperuser nobypassrls;'];
    elsif current_setting('server_version_num')::integer >= 160000
          and not pg_has_role(current_user, 'pipeline_worker', 'usage with admin option') then
      found := found || array[format('the role pipeline_worker exists, and %I does not administer it', current_user),
                              format('grant pipeline_worker to %I with admin option;', current_user)];
    end if;
  end loop;

  -- The extension vector: halfvec came with 0.7.
  for thing in
    select n.nspname as schema, e.extversion as version, a.default_version as offered,
           string_to_array(substring(e.extversion from '^[0-9]+[.][0-9]+'), '.')::integer[] < '{0,7}' as is_old,
           coalesce(string_to_array(substring(a.default_version from '^[0-9]+[.][0-9]+'), '.')::integer[] < '{0,7}', true)
             as none_to_have
      from (select 'vector'::name as name) v
      left join pg_catalog.pg_extension e on e.extname = v.name
      left join pg_catalog.pg_namespace n on n.oid = e.extnamespace
      left join pg_catalog.pg_available_extensions a on a.name = v.name
  loop
    if thing.schema <> 'extensions' then
      found := found || array[format('the extension vector is in the schema %I', thing.schema),
        case when to_regnamespace('extensions') is null then 'create schema extensions; ' else '' end
        || 'alter extension vector set schema extensions;'];
    end if;
    if thing.is_old then
      found := found || array[format('the extension vector is %s; 0.7 or newer is needed', thing.version),
                              'alter extension vector update;'];
    end if;
    if thing.none_to_have and thing.is_old is distinct from false then
      found := found || array[format('this server offers the extension vector %s; 0.7 or newer is needed',
                                     coalesce(thing.offered, 'in no version')),
                              'Upgrade the project''s Postgres, or install pgvector 0.7 or newer on the server.'];
    end if;
  end loop;

  -- Names. By another statement each, since a table that is missing would be an error here.
  if to_regclass('supabase_migrations.schema_migrations') is not null then
    execute 'select exists (select from supabase_migrations.schema_migrations where version = ''20261101000001'')' into applied;
  end if;
  if not applied then
    for thing in
      select format('the %s public.%I', k.kind, c.relname) as what,
             format('alter %s public.%I rename to %I;', k.kind, c.relname, 'my_' || c.relname) as mend
        from pg_catalog.pg_class c
       cross join lateral (select case c.relkind when 'v' then 'view' when 'm' then 'materialized view'
                                  when 'S' then 'sequence' when 'i' then 'index' else 'table' end as kind) k
       where c.relnamespace = 'public'::regnamespace and c.relname in ('documents', 'jobs', 'chunks')
       union all
      select format('the function public.%I', p.proname),
             format('alter function %s rename to %I;', p.oid::regprocedure, 'my_' || p.proname)
        from pg_catalog.pg_proc p
       where p.pronamespace = 'public'::regnamespace and p.proname in ('search', 'retry_job', 'cancel_job')
       union all
      select 'the schema pipeline', 'alter schema pipeline rename to my_pipeline;'
       where to_regnamespace('pipeline') is not null
       union all
      select format('the policy %I on %I.%I', p.policyname, p.schemaname, p.tablename),
             format('drop policy %I on %I.%I;', p.policyname, p.schemaname, p.tablename)
        from pg_catalog.pg_policies p
       where p.policyname like 'pipeline: %'
       order by 1
    loop
      found := found || array[thing.what || ' has a name that we need', thing.mend];
    end loop;
    if to_regclass('storage.buckets') is not null then
      for thing in execute 'select b.id from storage.buckets b where b.id = ''documents'' or b.name = ''documents''' loop
        found := found || array['the storage bucket documents has a name that we need',
                                'Move its files into another bucket and delete it (dashboard: Storage).'];
      end loop;
    end if;

    -- A permissive policy that does not tie itself to another bucket would open ours as well.
    for thing in
      select p.policyname, p.qual, p.with_check
        from pg_catalog.pg_policies p
       where p.schemaname = 'storage' and p.tablename = 'objects' and p.permissive = 'PERMISSIVE'
         and p.roles && array['public', 'anon', 'authenticated']::name[] and p.policyname not like 'pipeline: %'
         and (coalesce(p.qual, p.with_check) !~ 'bucket_id *= *''[^'']+'''
              or coalesce(p.qual, '') || coalesce(p.with_check, '') ~ '''documents''')
       order by p.policyname
    loop
      found := found || array[format('the policy %I on storage.objects also covers our bucket', thing.policyname),
        format('alter policy %I on storage.objects', thing.policyname)
        || coalesce(' using (bucket_id = ''<its bucket>'' and (' || thing.qual || '))', '')
        || coalesce(' with check (bucket_id = ''<its bucket>'' and (' || thing.with_check || '))', '') || ';'];
    end loop;
  end if;

  if cardinality(found) > 0 then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'This project is not ready, and nothing was changed. In the way:'
                || (select string_agg(chr(10) || case i.place % 2 when 1 then '- ' else '    ' end
                                      || translate(i.line, chr(10) || chr(13), '  '), '' order by i.place)
                      from unnest(found) with ordinality as i (line, place)),
      hint = 'Mend what is named, or use another project, and migrate again.';
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
  -- Without these nobody notices that a file or a user comes or goes, as in a dump that was restored: see the migration
  -- `platform`. The look takes about 10 µs, a thousandth of a search.
  if (select count(*) from pg_catalog.pg_trigger t
       where t.tgrelid in ('storage.objects'::regclass, 'auth.users'::regclass) and t.tgenabled in ('O', 'A')
         and t.tgname in ('pipeline_object_inserted', 'pipeline_object_updated', 'pipeline_object_moved_out',
                          'pipeline_object_deleted', 'pipeline_user_deleted', 'pipeline_user_deleted_softly')) < 6 then
    raise sqlstate 'PT503' using
      message = 'This project is not whole: it does not notice what is uploaded or deleted, so it shows nothing.',
      hint = 'Its operator runs `pipeline migrate`, and then `pipeline doctor --fix`.';
  end if;
  return case when not exists (select from pipeline.erasures e where e.owner_id = caller) then caller end;
end
$$;
comment on function pipeline.caller is
  'Whose rows a request may see: auth.uid(), or null for nobody. That is who signed in anonymously, unless '
  'settings.anonymous_sign_ins is on, and who was deleted, for as long as the token is still good. 503 in a project that '
  'has lost one of the triggers that notice uploads and deletes.';

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
  keys           text[] not null default '{}'
);
comment on table pipeline.listeners is 'The listeners that have been seen, so that an operator can tell "busy" from "nobody is there".';
comment on column pipeline.listeners.keys is
  'The fingerprints of the keys that it cannot work without: of Storage, and of what it pays for; see provider_keys.';
alter table pipeline.listeners enable row level security;

create function pipeline.listener_seen(id text, release text, parser text, space text, stopped boolean default false,
                                       keys text[] default '{}')
  returns boolean
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  insert into pipeline.listeners as l (id, started_at, seen_at, release, parser, space, keys)
  values ($1, pipeline.now(), pipeline.now(), $2, $3, $4, $6)
  on conflict on constraint listeners_pkey do update
     set seen_at = pipeline.now(), stopped_at = case when $5 then pipeline.now() end;
  delete from pipeline.listeners l where l.seen_at < pipeline.now() - interval '7 days';
  return case when not stopped then pipeline.watch_providers($1) else false end;
end
$$;
comment on function pipeline.listener_seen is
  'A listener says that it lives, every few seconds, and once when it stops. True when it is to look whether Storage is well again.';
revoke execute on function pipeline.listener_seen from public, anon, authenticated;
grant execute on function pipeline.listener_seen to pipeline_worker;
