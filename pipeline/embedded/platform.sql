-- What a new hosted Supabase project holds before its first migration, for a Postgres that nobody else prepared.
--
-- Run once, in one transaction, by the real superuser `supabase_admin`. After it, migrations run as `postgres`, who is no
-- superuser and owns nothing in the schemas auth, storage and realtime. Hosted gives `postgres` a few rights there through
-- an extension (supautils) that no wheel carries. Here `postgres` inherits from the roles that own those tables, without
-- being able to become them, and an event trigger at the end of this file refuses with 42501 whatever hosted refuses.
--
-- Order: roles, database, schemas, extensions, auth, storage, realtime, memberships, the event trigger.

set local check_function_bodies = off;

-- roles ---------------------------------------------------------------------------------------------------------------

create role postgres login createrole createdb replication bypassrls;
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit;
create role supabase_auth_admin login noinherit createrole;
create role supabase_storage_admin login noinherit createrole;
create role supabase_realtime_admin login noinherit;
create role dashboard_user nologin createdb createrole replication;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to postgres with admin option;
grant authenticator to postgres with admin option;
grant pg_monitor, pg_signal_backend, pg_read_all_data to postgres with admin option;
grant set on parameter session_replication_role to postgres;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
-- The schema `extensions` is on the path of `postgres` alone: a role of our own gets Postgres's default.
alter role postgres set search_path = "$user", public, extensions;
alter role supabase_auth_admin set search_path = 'auth';
alter role supabase_auth_admin set idle_in_transaction_session_timeout = '60s';
alter role supabase_storage_admin set search_path = 'storage';

-- database ------------------------------------------------------------------------------------------------------------

alter database postgres owner to postgres;
grant all on database postgres to postgres;

-- schemas -------------------------------------------------------------------------------------------------------------
-- The superuser owns the platform's schemas, so that nobody else can create in them.

grant all on schema public to postgres;
grant usage on schema public to anon, authenticated, service_role;

create schema extensions;
grant all on schema extensions to postgres with grant option;
grant usage on schema extensions to anon, authenticated, service_role, supabase_auth_admin, supabase_storage_admin, dashboard_user;

create schema auth;
grant usage on schema auth to supabase_auth_admin, anon, authenticated, service_role, postgres, dashboard_user;

create schema storage;
grant usage on schema storage to supabase_storage_admin, anon, authenticated, service_role;
grant usage on schema storage to postgres with grant option;

create schema realtime;
grant usage on schema realtime to supabase_realtime_admin, anon, authenticated, service_role, postgres;

-- Hosted lets `postgres` create these although they are not trusted; being there already, `create extension if not exists`
-- passes as it does there.
create extension vector with schema extensions;
create extension pg_trgm with schema extensions;
create extension btree_gin with schema extensions;
create extension unaccent with schema extensions;
create extension pg_stat_statements with schema extensions;
grant execute on all functions in schema extensions to postgres with grant option;

create publication supabase_realtime;
alter publication supabase_realtime owner to postgres;

-- auth ----------------------------------------------------------------------------------------------------------------

create table auth.users (
    instance_id uuid,
    id uuid primary key,
    aud varchar(255),
    role varchar(255),
    email varchar(255),
    encrypted_password varchar(255),
    email_confirmed_at timestamptz,
    invited_at timestamptz,
    confirmation_token varchar(255),
    confirmation_sent_at timestamptz,
    recovery_token varchar(255),
    recovery_sent_at timestamptz,
    email_change_token_new varchar(255),
    email_change varchar(255),
    email_change_sent_at timestamptz,
    last_sign_in_at timestamptz,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    is_super_admin boolean,
    created_at timestamptz,
    updated_at timestamptz,
    phone text unique default null,
    phone_confirmed_at timestamptz,
    phone_change text default '',
    phone_change_token varchar(255) default '',
    phone_change_sent_at timestamptz,
    confirmed_at timestamptz generated always as (least(email_confirmed_at, phone_confirmed_at)) stored,
    email_change_token_current varchar(255) default '',
    email_change_confirm_status smallint default 0 check (email_change_confirm_status between 0 and 2),
    banned_until timestamptz,
    reauthentication_token varchar(255) default '',
    reauthentication_sent_at timestamptz,
    is_sso_user boolean not null default false,
    deleted_at timestamptz,
    is_anonymous boolean not null default false
);
create unique index users_email_partial_key on auth.users (email) where not is_sso_user;
create index users_instance_id_idx on auth.users (instance_id);
create index users_instance_id_email_idx on auth.users (instance_id, lower(email::text));
create index users_is_anonymous_idx on auth.users (is_anonymous);

create table auth.identities (
    provider_id text not null,
    user_id uuid not null references auth.users (id) on delete cascade,
    identity_data jsonb not null,
    provider text not null,
    last_sign_in_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz,
    email text generated always as (lower(identity_data ->> 'email')) stored,
    id uuid primary key default gen_random_uuid(),
    unique (provider_id, provider)
);
create index identities_user_id_idx on auth.identities (user_id);

create table auth.sessions (
    id uuid primary key,
    user_id uuid not null references auth.users (id) on delete cascade,
    created_at timestamptz,
    updated_at timestamptz,
    factor_id uuid,
    aal text,
    not_after timestamptz,
    refreshed_at timestamp,
    user_agent text,
    ip inet,
    tag text
);
create index sessions_user_id_idx on auth.sessions (user_id);

create table auth.refresh_tokens (
    instance_id uuid,
    id bigint generated by default as identity primary key,
    token varchar(255) unique,
    user_id varchar(255),
    revoked boolean,
    created_at timestamptz,
    updated_at timestamptz,
    parent varchar(255),
    session_id uuid references auth.sessions (id) on delete cascade
);
create index refresh_tokens_session_id_idx on auth.refresh_tokens (session_id);
create index refresh_tokens_parent_idx on auth.refresh_tokens (parent);

create function auth.uid() returns uuid language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )::uuid
$$;

create function auth.role() returns text language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
    )
$$;

create function auth.email() returns text language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.email', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
    )
$$;

create function auth.jwt() returns jsonb language sql stable as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$;

-- storage -------------------------------------------------------------------------------------------------------------

create type storage.buckettype as enum ('STANDARD', 'ANALYTICS', 'VECTOR');

create table storage.buckets (
    id text primary key,
    name text not null,
    owner uuid,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    public boolean default false,
    avif_autodetection boolean default false,
    file_size_limit bigint,
    allowed_mime_types text[],
    owner_id text,
    type storage.buckettype not null default 'STANDARD'
);
create unique index bname on storage.buckets (name);
comment on column storage.buckets.owner is 'Field is deprecated, use owner_id instead';

create table storage.objects (
    id uuid primary key default gen_random_uuid(),
    bucket_id text references storage.buckets (id),
    name text,
    owner uuid,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    last_accessed_at timestamptz default now(),
    metadata jsonb,
    path_tokens text[] generated always as (string_to_array(name, '/')) stored,
    version text,
    owner_id text,
    user_metadata jsonb,
    archived_at timestamptz,
    is_delete_marker boolean not null default false,
    is_versioned boolean not null default false
);
create unique index bucketid_objname on storage.objects (bucket_id, name);
create index name_prefix_search on storage.objects (name text_pattern_ops);
create index idx_objects_bucket_id_name on storage.objects (bucket_id, name collate "C");
comment on column storage.objects.owner is 'Field is deprecated, use owner_id instead';

create table storage.s3_multipart_uploads (
    id text primary key,
    in_progress_size bigint not null default 0,
    upload_signature text not null,
    bucket_id text not null references storage.buckets (id),
    key text not null collate "C",
    version text not null,
    owner_id text,
    created_at timestamptz not null default now(),
    user_metadata jsonb,
    metadata jsonb
);
create index idx_multipart_uploads_list on storage.s3_multipart_uploads (bucket_id, key, created_at);

create table storage.s3_multipart_uploads_parts (
    id uuid primary key default gen_random_uuid(),
    upload_id text not null references storage.s3_multipart_uploads (id) on delete cascade,
    size bigint not null default 0,
    part_number integer not null,
    bucket_id text not null references storage.buckets (id),
    key text not null collate "C",
    etag text not null,
    owner_id text,
    version text not null,
    created_at timestamptz not null default now()
);

create function storage.foldername(name text) returns text[] language sql immutable as $$
    select parts[1 : cardinality(parts) - 1] from string_to_array(name, '/') as parts
$$;

create function storage.filename(name text) returns text language sql immutable as $$
    select parts[cardinality(parts)] from string_to_array(name, '/') as parts
$$;

-- The part behind the last dot of the file's name; the whole name when it has no dot, as on hosted.
create function storage.extension(name text) returns text language sql immutable as $$
    select parts[cardinality(parts)] from string_to_array(storage.filename(name), '.') as parts
$$;

create function storage.update_updated_at_column() returns trigger language plpgsql as $$
begin
    new.updated_at = now();
    return new;
end
$$;

create function storage.protect_delete() returns trigger language plpgsql as $$
begin
    if coalesce(current_setting('storage.allow_delete_query', true), '') <> 'true' then
        raise insufficient_privilege using
            message = 'Direct deletion from storage tables is not allowed. Use the Storage API instead.',
            hint = 'A row that goes away by SQL leaves its file behind.';
    end if;
    return null;
end
$$;

create function storage.enforce_bucket_name_length() returns trigger language plpgsql as $$
begin
    if length(new.name) > 100 then
        raise exception 'bucket name "%" is too long (% characters). Max is 100.', new.name, length(new.name);
    end if;
    return new;
end
$$;

create trigger update_objects_updated_at before update on storage.objects
    for each row execute function storage.update_updated_at_column();
create trigger protect_objects_delete before delete on storage.objects
    for each statement execute function storage.protect_delete();
create trigger protect_buckets_delete before delete on storage.buckets
    for each statement execute function storage.protect_delete();
create trigger enforce_bucket_name_length_trigger before insert or update of name on storage.buckets
    for each row execute function storage.enforce_bucket_name_length();

-- realtime ------------------------------------------------------------------------------------------------------------

create table realtime.messages (
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp not null default now(),
    inserted_at timestamp not null default now(),
    id uuid not null default gen_random_uuid(),
    primary key (id, inserted_at)
);
create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
    where extension = 'broadcast' and private;

create function realtime.topic() returns text language sql stable as $$
    select nullif(current_setting('realtime.topic', true), '')::text
$$;

-- Never fails: a message that cannot be sent must not undo what it tells about.
create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
language plpgsql as $$
declare
    message_id uuid := gen_random_uuid();
begin
    perform set_config('realtime.topic', topic, true);
    insert into realtime.messages (id, payload, event, topic, private, extension)
    values (
        message_id,
        case when payload ? 'id' then payload else payload || jsonb_build_object('id', message_id) end,
        event, topic, private, 'broadcast'
    );
exception
    when others then
        raise warning 'ErrorSendingBroadcastMessage: %', sqlerrm;
end
$$;

-- How the gateway learns of messages: it reads the rows by these ids, a hundred to a notification. Not part of hosted,
-- which reads the WAL.
create function realtime.notify_gateway() returns trigger language plpgsql as $$
begin
    perform pg_notify('realtime_messages', string_agg(id::text, ','))
    from (select id, row_number() over () / 100 as hundred from new_messages) m
    group by hundred
    order by hundred;
    return null;
end
$$;
create trigger notify_gateway after insert on realtime.messages
    referencing new table as new_messages
    for each statement execute function realtime.notify_gateway();

-- owners, row level security, grants ----------------------------------------------------------------------------------

do $$
declare
    thing record;
begin
    for thing in
        select n.nspname as schema, c.oid::regclass::text as name, c.relkind as kind
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in ('auth', 'storage', 'realtime') and c.relkind = 'r'
    loop
        execute format('alter table %s owner to %I', thing.name, 'supabase_' || thing.schema || '_admin');
        execute format('alter table %s enable row level security', thing.name);
    end loop;
    for thing in
        select n.nspname as schema, p.oid::regprocedure::text as name
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('auth', 'storage', 'realtime')
    loop
        execute format('alter function %s owner to %I', thing.name, 'supabase_' || thing.schema || '_admin');
    end loop;
    alter type storage.buckettype owner to supabase_storage_admin;
end
$$;

grant all on all tables in schema auth to postgres, dashboard_user;
grant all on all sequences in schema auth to postgres, dashboard_user;

grant all on storage.buckets, storage.objects to anon, authenticated, service_role;
grant all on storage.buckets, storage.objects to postgres with grant option;
grant select on storage.s3_multipart_uploads, storage.s3_multipart_uploads_parts to anon, authenticated;
grant all on storage.s3_multipart_uploads, storage.s3_multipart_uploads_parts to service_role, postgres;

grant select, insert, update on realtime.messages to anon, authenticated, service_role, postgres;

-- Inherited, not assumable: `set role supabase_storage_admin` is refused to `postgres`, as on hosted.
grant supabase_auth_admin, supabase_storage_admin, supabase_realtime_admin to postgres with inherit true, set false;

-- what `postgres` may not do there ------------------------------------------------------------------------------------
-- Trigger and policy commands pass on the tables that supautils names; everything else that touches an object of the three
-- schemas is refused to everybody but a superuser. The functions run as whoever gives the command, so that
-- current_user is that role; they live where no one but the superuser can replace them.

create schema supabase_platform;
grant usage on schema supabase_platform to public;

create function supabase_platform.has_policy_grant(relation regclass) returns boolean language sql stable
  set search_path = '' as $$
    select relation::text = any (array[
        'auth.identities', 'auth.refresh_tokens', 'auth.sessions', 'auth.users', 'realtime.messages', 'storage.buckets',
        'storage.objects', 'storage.s3_multipart_uploads', 'storage.s3_multipart_uploads_parts'
    ])
$$;

create function supabase_platform.is_protected(namespace oid) returns boolean language sql stable
  set search_path = '' as $$
    select exists (select from pg_namespace where oid = namespace and nspname in ('auth', 'storage', 'realtime'))
$$;

-- The table that an object hangs on: itself, or what a trigger, policy, rule, constraint, … belongs to. Null for the rest.
create function supabase_platform.table_of(class oid, object oid) returns oid language sql stable
  set search_path = '' as $$
    select case class
        when 'pg_class'::regclass then (
            select coalesce((select indrelid from pg_index where indexrelid = object), object)
        )
        when 'pg_trigger'::regclass then (select tgrelid from pg_trigger where oid = object)
        when 'pg_policy'::regclass then (select polrelid from pg_policy where oid = object)
        when 'pg_rewrite'::regclass then (select ev_class from pg_rewrite where oid = object)
        when 'pg_constraint'::regclass then (select conrelid from pg_constraint where oid = object)
        when 'pg_attrdef'::regclass then (select adrelid from pg_attrdef where oid = object)
        when 'pg_statistic_ext'::regclass then (select stxrelid from pg_statistic_ext where oid = object)
        when 'pg_publication_rel'::regclass then (select prrelid from pg_publication_rel where oid = object)
    end
$$;

create function supabase_platform.refuse_ddl() returns event_trigger language plpgsql
set search_path = '' as $$
declare
    command record;
    relation oid;
    namespace oid;
begin
    if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
        return;
    end if;
    if tg_event = 'ddl_command_start' then
        if pg_catalog.current_query() ~* 'create\s+extension[^;]*\sversion\s' then
            raise insufficient_privilege using
                message = 'permission denied to create extension in a chosen version',
                hint = 'Leave out the version: the platform chooses it.';
        end if;
        return;
    end if;
    for command in select * from pg_catalog.pg_event_trigger_ddl_commands() loop
        continue when command.in_extension;
        relation = supabase_platform.table_of(command.classid, command.objid);
        namespace = coalesce(
            (select relnamespace from pg_catalog.pg_class where oid = relation),
            (select oid from pg_catalog.pg_namespace where nspname = command.schema_name)
        );
        if command.command_tag in ('CREATE TABLE', 'ALTER TABLE') and exists (
            select from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid in (i.inhparent, i.inhrelid)
            where relation in (i.inhparent, i.inhrelid) and supabase_platform.is_protected(c.relnamespace)
        ) then
            raise insufficient_privilege using
                message = pg_catalog.format('must be owner of the parent or the child of table %s', command.object_identity);
        end if;
        if command.command_tag = 'ALTER DEFAULT PRIVILEGES' and exists (
            select from pg_catalog.pg_default_acl
            where defaclrole::regrole::text in ('supabase_auth_admin', 'supabase_storage_admin', 'supabase_realtime_admin')
        ) then
            raise insufficient_privilege using message = 'permission denied to change default privileges';
        end if;
        if command.command_tag = 'CREATE PUBLICATION' and exists (
            select from pg_catalog.pg_publication_rel p join pg_catalog.pg_class c on c.oid = p.prrelid
            where p.prpubid = command.objid and supabase_platform.is_protected(c.relnamespace)
        ) then
            raise insufficient_privilege using message = 'must be owner of the tables of a publication';
        end if;
        continue when not supabase_platform.is_protected(namespace);
        -- rights on what somebody else owns are checked by grant options; the schema is owned by the superuser
        continue when command.command_tag in ('GRANT', 'REVOKE');
        continue when command.command_tag = 'CREATE TRIGGER'
            and namespace <> (select oid from pg_catalog.pg_namespace where nspname = 'realtime');
        continue when command.command_tag in ('CREATE POLICY', 'ALTER POLICY')
            and supabase_platform.has_policy_grant(relation);
        raise insufficient_privilege using message = pg_catalog.format(
            'must be owner of %s %s', command.object_type, command.object_identity
        ), hint = 'The platform owns the schemas auth, storage and realtime; keep objects of your own in another schema.';
    end loop;
end
$$;

create function supabase_platform.refuse_drop() returns event_trigger language plpgsql
set search_path = '' as $$
declare
    dropped record;
begin
    if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
        return;
    end if;
    for dropped in select * from pg_catalog.pg_event_trigger_dropped_objects() loop
        continue when not dropped.original or dropped.is_temporary;
        continue when dropped.address_names[1] not in ('auth', 'storage', 'realtime');
        continue when dropped.object_type in ('trigger', 'policy')
            and supabase_platform.has_policy_grant(
                pg_catalog.format('%I.%I', dropped.address_names[1], dropped.address_names[2])::pg_catalog.regclass
            );
        raise insufficient_privilege using message = pg_catalog.format(
            'must be owner of %s %s', dropped.object_type, dropped.object_identity
        );
    end loop;
end
$$;

create event trigger platform_refuses_at_start on ddl_command_start
    when tag in ('CREATE EXTENSION', 'ALTER EXTENSION') execute function supabase_platform.refuse_ddl();
create event trigger platform_refuses_ddl on ddl_command_end execute function supabase_platform.refuse_ddl();
create event trigger platform_refuses_drop on sql_drop execute function supabase_platform.refuse_drop();
alter event trigger platform_refuses_at_start enable always;
alter event trigger platform_refuses_ddl enable always;
alter event trigger platform_refuses_drop enable always;
