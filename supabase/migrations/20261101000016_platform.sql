-- What hangs on the platform's tables.
--
-- Triggers on storage.objects and auth.users, policies on storage.objects and realtime.messages, and the bucket's row live
-- where a dump of our schemas does not reach: a clone, a branch or a restored backup comes without them. So they are one
-- list, `attachments`, and `attach` makes what is missing of it, as often as it is called: this migration does, and so
-- does each `pipeline migrate` that finds something missing. On the platform the creation of a policy locks all tables of Auth and Storage; hence
-- nothing is touched that is there.
--
-- Until they are back the project serves nobody what may have been deleted meanwhile: see pipeline.caller().

create function pipeline.attachments()
  returns table (kind text, name text, relation text, definition text)
  language sql
  immutable
  set search_path = ''
as $$
  values
  -- Storage writes each upload twice: a permission check that is rolled back, and the write that stays.
  ('trigger', 'pipeline_object_inserted', 'storage.objects',
   'after insert on storage.objects for each row when (new.bucket_id = ''documents'')
    execute function pipeline.object_written()'),
  ('trigger', 'pipeline_object_updated', 'storage.objects',
   'after update on storage.objects
    for each row when (new.bucket_id = ''documents''
                       and (old.bucket_id, old.name, old.version) is distinct from (new.bucket_id, new.name, new.version))
    execute function pipeline.object_written()'),
  ('trigger', 'pipeline_object_moved_out', 'storage.objects',
   'after update on storage.objects
    for each row when (old.bucket_id = ''documents'' and new.bucket_id <> ''documents'')
    execute function pipeline.object_gone()'),
  ('trigger', 'pipeline_object_deleted', 'storage.objects',
   'after delete on storage.objects for each row when (old.bucket_id = ''documents'')
    execute function pipeline.object_gone()'),

  ('trigger', 'pipeline_user_deleted', 'auth.users',
   'after delete on auth.users for each row execute function pipeline.user_deleted()'),
  ('trigger', 'pipeline_user_deleted_softly', 'auth.users',
   'after update of deleted_at on auth.users for each row when (old.deleted_at is null and new.deleted_at is not null)
    execute function pipeline.user_deleted()'),

  ('policy', 'pipeline: owners read their files', 'storage.objects',
   'for select to authenticated
    using (bucket_id = ''documents'' and starts_with(name, (select pipeline.caller() || ''/'')))'),
  ('policy', 'pipeline: owners upload to their folder', 'storage.objects',
   'for insert to authenticated
    with check (bucket_id = ''documents'' and starts_with(name, (select pipeline.caller() || ''/'')))'),
  ('policy', 'pipeline: owners overwrite and move their files', 'storage.objects',
   'for update to authenticated
    using (bucket_id = ''documents'' and starts_with(name, (select pipeline.caller() || ''/'')))
    with check (bucket_id = ''documents'' and starts_with(name, (select pipeline.caller() || ''/'')))'),
  ('policy', 'pipeline: owners delete their files', 'storage.objects',
   'for delete to authenticated
    using (bucket_id = ''documents'' and starts_with(name, (select pipeline.caller() || ''/'')))'),
  -- A wall behind the door: whatever permissive policy is added later, ours is the widest that holds for this bucket.
  ('policy', 'pipeline: nobody beyond their folder', 'storage.objects',
   'as restrictive for all to authenticated
    using (bucket_id <> ''documents'' or starts_with(name, (select pipeline.caller() || ''/'')))
    with check (bucket_id <> ''documents'' or starts_with(name, (select pipeline.caller() || ''/'')))'),
  ('policy', 'pipeline: nobody without a user', 'storage.objects',
   'as restrictive for all to anon using (bucket_id <> ''documents'') with check (bucket_id <> ''documents'')'),

  ('policy', 'pipeline: owners hear of their jobs', 'realtime.messages',
   'for select to authenticated
    using (extension = ''broadcast''
           and (select realtime.topic()) = ''user:'' || (select pipeline.caller()) || '':jobs'')')
$$;
comment on function pipeline.attachments is
  'What is ours on the platform''s tables: the triggers and policies, each with the rest of the statement that makes it.';

create function pipeline.detached()
  returns table (kind text, name text, relation text, definition text)
  language sql
  stable
  security definer
  set search_path = ''
as $$
  select a.kind, a.name, a.relation, a.definition
    from pipeline.attachments() a
   -- A project may run without Realtime.
   where to_regclass(a.relation) is not null
     and (a.relation <> 'realtime.messages' or to_regprocedure('realtime.topic()') is not null)
     and case a.kind
           when 'trigger' then not exists (select from pg_catalog.pg_trigger t
                                            where t.tgrelid = to_regclass(a.relation) and t.tgname = a.name and t.tgenabled in ('O', 'A'))
           else not exists (select from pg_catalog.pg_policy p
                             where p.polrelid = to_regclass(a.relation) and p.polname = a.name) end
  union all
  select 'bucket', 'documents', 'storage.buckets', null
   where not exists (select from storage.buckets b where b.id = 'documents')
$$;
comment on function pipeline.detached is
  'What is missing of the attachments and the bucket; nothing in a whole project. Listeners ask it, before they start and while they work.';

create function pipeline.attach()
  returns text[]
  language plpgsql
  set search_path = ''
  -- A transaction that has uploaded and goes on holds this up, and whoever uploads then waits behind both.
  set lock_timeout = '10s'
as $$
declare
  part record;
  made text[] := array[]::text[];
begin
  for part in select d.* from pipeline.detached() d loop
    case part.kind
      when 'bucket' then
        insert into storage.buckets (id, name, public, file_size_limit) values ('documents', 'documents', false, 26214400);
      when 'trigger' then
        execute format('create or replace trigger %I %s', part.name, part.definition);
      else
        execute format('create policy %I on %s %s', part.name, part.relation, part.definition);
    end case;
    made := made || format('%s %s on %s', part.kind, part.name, part.relation);
  end loop;
  return made;
end
$$;
comment on function pipeline.attach is
  'Makes the triggers, policies and the bucket that are missing on the platform''s tables, and returns their names. Again and '
  'again without harm; run as postgres.';

revoke execute on function pipeline.attachments, pipeline.detached, pipeline.attach from public, anon, authenticated;
grant execute on function pipeline.detached to pipeline_worker;

select pipeline.attach();
