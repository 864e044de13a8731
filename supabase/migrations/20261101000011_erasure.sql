-- Erasure: what is left of a user who is deleted, and how it goes.
--
-- Deleting a row of auth.users must take no longer for who has a million passages than for who has none. So the trigger
-- walks nothing: it writes one row here, and from that moment the user is nobody. `pipeline.caller()` says null for a token
-- that is still good, so search, the views and Realtime show nothing; running jobs are cancelled, so their listeners lose
-- the lease; the owner may run no job at once, so no claim takes one; an upload that was on its way either was committed
-- before, and goes with the rest, or finds no user.
--
-- The rest is a listener's, in bounded steps that may be repeated, by any listener, after any crash:
--
--   files      Storage removes them, asked for a page of names at a time: SQL could remove the rows, not the bytes.
--              The storage trigger counts them in the same transaction that removes them, so none is counted twice.
--   content    documents, passages, vectors, parses, purchases, jobs, events, wake-ups, limits, counters
--   emptied    Nothing was left. It looks once more when whatever was under way then must have ended.
--   completed  The row forgets the user and stays as the receipt: what was removed, under a pseudonym.
--
-- The pseudonym is a keyed hash, so that who knows a user's id, and may call the function, finds the receipt again, and the
-- ledger of costs can keep its sums. Whoever deletes the key's row and inserts another has made all older ones anonymous.

create table pipeline.pseudonym_key (
  only_row boolean primary key default true constraint there_is_one_row check (only_row),
  key      bytea not null constraint key_has_32_bytes check (length(key) = 32)
);
comment on table pipeline.pseudonym_key is 'The secret behind pipeline.pseudonym(); made here, read by nobody else.';
insert into pipeline.pseudonym_key (key)
values (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
alter table pipeline.pseudonym_key enable row level security;

create function pipeline.pseudonym(owner_id uuid)
  returns uuid
  language sql
  stable
  set search_path = ''
as $$
  select encode(substring(sha256(k.key || uuid_send($1)) for 16), 'hex')::uuid from pipeline.pseudonym_key k
$$;
comment on function pipeline.pseudonym is 'What stands for an owner who was erased, in receipts and in the ledger: the same each time.';

create table pipeline.erasures (
  id           bigint generated always as identity primary key,
  pseudonym    uuid not null,
  owner_id     uuid unique,
  requested_at timestamptz not null default pipeline.now(),
  due_at       timestamptz not null default pipeline.now(),
  failures     smallint not null default 0,
  last_error   text,
  emptied_at   timestamptz,
  completed_at timestamptz,
  files        bigint not null default 0,
  bytes        bigint not null default 0,
  documents    bigint not null default 0,
  passages     bigint not null default 0,
  embeddings   bigint not null default 0,
  parses       bigint not null default 0,
  jobs         bigint not null default 0,
  events       bigint not null default 0,
  messages     bigint not null default 0,
  costs        bigint not null default 0,
  constraint owner_is_forgotten_iff_completed check ((owner_id is null) = (completed_at is not null)),
  constraint completed_only_when_empty check (completed_at is null or emptied_at is not null)
);
comment on table pipeline.erasures is 'Users who were deleted: what of theirs is still to be removed, and what was.';
comment on column pipeline.erasures.owner_id is 'Who is being erased; null afterwards.';
comment on column pipeline.erasures.due_at is 'When a listener goes on with it: a lease, or a delay after a failure.';
comment on column pipeline.erasures.failures is 'How often in a row it could not go on.';
comment on column pipeline.erasures.last_error is 'Why, for the operator.';
comment on column pipeline.erasures.emptied_at is 'When nothing was left; a second look follows.';
comment on column pipeline.erasures.files is 'Objects that Storage removed.';
comment on column pipeline.erasures.bytes is 'Their size together.';
comment on column pipeline.erasures.messages is 'Realtime messages that were blanked; Realtime drops them after three days.';
comment on column pipeline.erasures.costs is 'Rows of the ledger that now bear the pseudonym.';
create index erasures_due on pipeline.erasures (due_at) where completed_at is null;
create index erasures_by_pseudonym on pipeline.erasures (pseudonym);
alter table pipeline.erasures enable row level security;
create index documents_deleted on pipeline.documents (owner_id) where deleted_at is not null;

create function pipeline.stop_work(owner_id uuid)
  returns void
  language sql
  set search_path = ''
as $$
  update pipeline.jobs j
     set state = 'cancelled', finished_at = pipeline.now(), claimed_by = null, lease_expires_at = null,
         error_class = 'deleted', error = 'The user was deleted.'
   where j.id = any (pipeline.running_of($1)) and j.state = 'running'
$$;
comment on function pipeline.stop_work is 'Cancels what runs for an owner; its listeners lose their leases.';

create function pipeline.request_erasure(owner_id uuid)
  returns void
  language plpgsql
  set search_path = ''
as $$
begin
  insert into pipeline.erasures (pseudonym, owner_id)
  values (pipeline.pseudonym(request_erasure.owner_id), request_erasure.owner_id)
  on conflict do nothing;
  -- Jobs before the owner: the order of locks. A claim that comes in between is cancelled by the listener's first step.
  perform pipeline.stop_work(request_erasure.owner_id);
  -- Not an update: a claim may be about to insert the row.
  insert into pipeline.owners as o (owner_id, max_concurrent_jobs, priority)
  values (request_erasure.owner_id, 0, 1)
  on conflict on constraint owners_pkey do update set max_concurrent_jobs = 0;
  -- Uploads that hold this row come first, and the erasure finds what they made; those that wait for it find no user.
  insert into pipeline.upload_days as u (owner_id, day, uploads)
  values (request_erasure.owner_id, (pipeline.now() at time zone 'utc')::date, 0)
  on conflict on constraint upload_days_pkey do update set uploads = u.uploads;
  perform pg_catalog.pg_notify('pipeline_jobs', '');
end
$$;
comment on function pipeline.request_erasure is 'Hides everything of an owner at once, and queues its removal.';

create function pipeline.user_deleted()
  returns trigger
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  perform pipeline.request_erasure(old.id);
  return null;
end
$$;
comment on function pipeline.user_deleted is 'A deleted user is erased. So is one whom Auth deletes softly: that cannot be undone either.';

create function pipeline.count_erased_file(owner_id uuid, size bigint)
  returns void
  language sql
  set search_path = ''
as $$
  update pipeline.erasures e set files = e.files + 1, bytes = e.bytes + coalesce($2, 0) where e.owner_id = $1
$$;
comment on function pipeline.count_erased_file is 'Counts a file that Storage removed, if its owner is being erased.';

-- The ledger of costs is younger than this migration; the one that makes it replaces this function.
create function pipeline.forget_costs(owner_id uuid, pseudonym uuid, max_rows integer)
  returns integer
  language sql
  set search_path = ''
as $$
  select 0
$$;
comment on function pipeline.forget_costs is
  'Puts the pseudonym in the owner''s place in at most so many rows of the ledger, and returns how many it changed.';

-- For the listener ---------------------------------------------------------------------------------------------------------

create function pipeline.claim_erasure(listener text default null, lease interval default '1 minute')
  returns bigint
  language plpgsql
  security definer
  set search_path = ''
as $$
declare
  no_storage constant boolean := 'fetch' = any (pipeline.shut_stages(claim_erasure.listener));
  erasure pipeline.erasures;
begin
  update pipeline.erasures e
     set due_at = pipeline.now() + lease
   where e.id = (select i.id from pipeline.erasures i
                  where i.completed_at is null and i.due_at <= pipeline.now()
                    -- Files are left to a listener that Storage lets in.
                    and not (no_storage and cardinality(pipeline.files_of(i.owner_id, 1)) > 0)
                  order by i.due_at
                  limit 1
                    for no key update skip locked)
  returning e.* into erasure;
  perform pipeline.stop_work(erasure.owner_id);
  return erasure.id;
end
$$;
comment on function pipeline.claim_erasure is
  'The erasure that has waited longest, or null; nobody else gets it before the lease ends. None with files for a listener whose '
  'key of Storage is shut.';

create function pipeline.files_of(owner_id uuid, max_files integer)
  returns text[]
  language sql
  stable
  set search_path = ''
as $$
  select coalesce(array_agg(f.name), '{}')
    from (select o.name from storage.objects o
           where o.bucket_id = 'documents' and o.name collate "C" >= $1 || '/' and o.name collate "C" < $1 || '0'
           order by o.name collate "C"
           limit $2) f
$$;
comment on function pipeline.files_of is 'The first names in the owner''s folder.';

create function pipeline.files_to_erase(erasure bigint, max_files integer default 200, lease interval default '1 minute')
  returns text[]
  language plpgsql
  security definer
  set search_path = ''
as $$
declare
  owner uuid;
begin
  update pipeline.erasures e set due_at = pipeline.now() + lease
   where e.id = erasure and e.completed_at is null
  returning e.owner_id into owner;
  return pipeline.files_of(owner, max_files);
end
$$;
comment on function pipeline.files_to_erase is 'A page of names for Storage to remove; none when all are gone.';

create function pipeline.erase(erasure bigint, max_rows integer default 1000, lease interval default '1 minute')
  returns text
  language plpgsql
  security definer
  set search_path = ''
  -- A thousand rows of an owner who has many look quick to find in the whole table, and are not when they lie together.
  set enable_seqscan = off
as $$
declare
  now constant timestamptz := pipeline.now();
  -- Longer than the longest statement of a listener: what had looked before all was gone has ended, or has written.
  second_look constant interval := interval '10 minutes';
  e pipeline.erasures;
  owner uuid;
  n bigint;
  removed bigint := 0;
  job_ids bigint[];
begin
  select * into e from pipeline.erasures i where i.id = erase.erasure and i.completed_at is null for no key update;
  if not found then
    return 'completed';
  end if;
  owner := e.owner_id;
  if cardinality(pipeline.files_of(owner, 1)) > 0 then
    return 'files';
  end if;

  -- First all documents: whoever is about to keep paid work for one waits for its lock, and then finds it deleted.
  update pipeline.documents d set deleted_at = now, updated_at = now
   where d.id = any (array(select i.id from pipeline.documents i
                            where i.owner_id = owner and i.deleted_at is null
                            order by i.id limit max_rows for no key update));
  get diagnostics removed = row_count;
  if removed > 0 then
    update pipeline.erasures i set due_at = now + lease, emptied_at = null where i.id = e.id;
    return 'more';
  end if;

  delete from pipeline.chunks c
   where c.id = any (array(select i.id from pipeline.chunks i where i.owner_id = owner limit max_rows));
  get diagnostics n = row_count;
  e.passages := e.passages + n;
  removed := removed + n;

  delete from pipeline.embeddings v
   where v.ctid = any (array(select i.ctid from pipeline.embeddings i where i.owner_id = owner limit max_rows));
  get diagnostics n = row_count;
  e.embeddings := e.embeddings + n;
  removed := removed + n;

  -- A parse is a whole document's text.
  delete from pipeline.parses p
   where p.id = any (array(select i.id from pipeline.parses i where i.owner_id = owner limit greatest(max_rows / 20, 1)));
  get diagnostics n = row_count;
  e.parses := e.parses + n;
  removed := removed + n;

  delete from pipeline.embedding_purchases p
   where p.ctid = any (array(select i.ctid from pipeline.embedding_purchases i where i.owner_id = owner limit max_rows));
  get diagnostics n = row_count;
  removed := removed + n;

  job_ids := array(select j.id from pipeline.jobs j where j.owner_id = owner order by j.id limit max_rows);
  if cardinality(job_ids) > 0 then
    e.events := e.events + (select count(*) from pipeline.job_events v where v.job_id = any (job_ids));
    delete from pipeline.jobs j where j.id = any (job_ids);
    get diagnostics n = row_count;
    e.jobs := e.jobs + n;
    removed := removed + n;
  end if;

  -- A document takes its passages along: not before these are gone, a step at a time.
  if not exists (select from pipeline.chunks c where c.owner_id = owner) then
    delete from pipeline.documents d
     where d.id = any (array(select i.id from pipeline.documents i
                              where i.owner_id = owner and i.deleted_at is not null limit max_rows));
    get diagnostics n = row_count;
    e.documents := e.documents + n;
    removed := removed + n;
  end if;

  -- Last: the ledger is looked through.
  if removed = 0 then
    removed := coalesce(pipeline.forget_costs(owner, e.pseudonym, max_rows), 0);
    e.costs := e.costs + removed;
  end if;

  if removed = 0 then
    delete from pipeline.wakeups w where w.owner_id = owner;
    delete from pipeline.limits l where l.owner_id = owner;
    e.messages := e.messages + pipeline.blank_messages(owner);
    if e.emptied_at is null or e.emptied_at > now - second_look then
      e.emptied_at := coalesce(e.emptied_at, now);
      e.due_at := e.emptied_at + second_look;
    else
      delete from pipeline.owners o where o.owner_id = owner;
      e.owner_id := null;
      e.completed_at := now;
    end if;
    -- Last, as everywhere: an upload that waits for this row holds all that it needs.
    delete from pipeline.upload_days u where u.owner_id = owner;
  else
    e.emptied_at := null;
    e.due_at := now + lease;
  end if;
  update pipeline.erasures i
     set owner_id = e.owner_id, due_at = e.due_at, emptied_at = e.emptied_at, completed_at = e.completed_at, failures = 0,
         last_error = null, documents = e.documents, passages = e.passages, embeddings = e.embeddings, parses = e.parses,
         jobs = e.jobs, events = e.events, messages = e.messages, costs = e.costs
   where i.id = e.id;
  return case when removed > 0 then 'more' when e.completed_at is null then 'emptied' else 'completed' end;
end
$$;
comment on function pipeline.erase is
  'One step: more (call again), files (some are still there), emptied (it is due again for a second look), or completed.';

create function pipeline.blank_messages(owner_id uuid)
  returns bigint
  language plpgsql
  set search_path = ''
as $$
declare
  blanked bigint;
begin
  if to_regclass('realtime.messages') is null then
    return 0;
  end if;
  -- On the platform nobody but Realtime may delete them.
  update realtime.messages m set payload = '{}', topic = 'erased' where m.topic = 'user:' || owner_id || ':jobs';
  get diagnostics blanked = row_count;
  return blanked;
exception
  when others then
    raise warning 'Realtime''s messages are left to their three days: %', sqlerrm;
    return 0;
end
$$;
comment on function pipeline.blank_messages is 'Takes the names of files out of what Realtime keeps of an owner''s topic.';

create function pipeline.postpone_erasure(erasure bigint, error text)
  returns void
  language sql
  security definer
  set search_path = ''
as $$
  update pipeline.erasures e
     set failures = least(e.failures + 1, 100), last_error = $2,
         due_at = pipeline.now() + least(interval '10 seconds' * power(2, least(e.failures, 10)), interval '10 minutes')
   where e.id = $1 and e.completed_at is null
$$;
comment on function pipeline.postpone_erasure is 'Something stands in the way: tried again after a delay that doubles up to ten minutes.';

create function pipeline.erasures_waiting()
  returns table (waiting bigint, failing bigint, since timestamptz, last_error text)
  language sql
  stable
  security definer
  set search_path = ''
as $$
  select count(*), count(*) filter (where e.failures > 0), min(e.requested_at), max(e.last_error)
    from pipeline.erasures e
   where e.completed_at is null and e.emptied_at is null
$$;
comment on function pipeline.erasures_waiting is 'Deleted users of whom something is left, since when, and what stands in the way.';

create view pipeline.receipts with (security_invoker = true) as
select e.id, e.pseudonym,
       case when e.completed_at is not null then 'completed'
            when e.failures > 0 then 'failing'
            when e.emptied_at is not null then 'emptied'
            else 'under way' end as state,
       e.requested_at, e.emptied_at, e.completed_at, e.files, e.bytes, e.documents, e.passages, e.embeddings, e.parses, e.jobs,
       e.events, e.messages, e.costs, e.failures, e.last_error
  from pipeline.erasures e;
comment on view pipeline.receipts is
  'Erased users, one a row and without a name: what was removed, and when. pipeline.pseudonym(user_id) finds a user''s.';
revoke all on pipeline.receipts from public, anon, authenticated;

revoke execute on function pipeline.pseudonym, pipeline.stop_work, pipeline.request_erasure, pipeline.user_deleted,
  pipeline.count_erased_file, pipeline.forget_costs, pipeline.claim_erasure, pipeline.files_of, pipeline.files_to_erase,
  pipeline.erase, pipeline.blank_messages, pipeline.postpone_erasure, pipeline.erasures_waiting, pipeline.caller
  from public, anon, authenticated;
grant execute on function pipeline.claim_erasure, pipeline.files_to_erase, pipeline.erase, pipeline.postpone_erasure,
  pipeline.erasures_waiting to pipeline_worker;
grant execute on function pipeline.caller to authenticated;
