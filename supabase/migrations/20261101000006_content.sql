-- What is bought and what is published.
--
-- Work that costs money is kept by what it was made from, inside one owner and never across two: a parse by (owner, the
-- bytes' SHA-256, the parser's fingerprint), an embedding by (owner, space, SHA-256 of the exact input). A crash resumes,
-- an edited document pays for its changed chunks, a copy or a move pays nothing.
--
-- A purchase is claimed before it is made: a pending parse, or a row of `embedding_purchases`, names the job and attempt
-- that buys, and holds as long as that job's lease. Two jobs with the same bytes buy once: the second waits, and takes
-- over if the first dies.
--
-- The vectors are the search index. Publishing writes chunks that refer to vectors which are already stored, so that the
-- transaction which makes a version visible is short.

create table pipeline.spaces (
  id           smallint generated always as identity primary key,
  name         text not null unique,
  model        text not null,
  dimensions   integer not null constraint dimensions_fit_an_index check (dimensions between 1 and 4000),
  input_format text not null,
  active       boolean not null default false,
  latin_only   boolean not null default false,
  created_at   timestamptz not null default pipeline.now(),
  unique (model, dimensions, input_format)
);
comment on table pipeline.spaces is 'Embedding spaces. Vectors are comparable only within one; search reads the active one.';
comment on column pipeline.spaces.latin_only is
  'Whether the model knows languages in Latin letters only: a question in others is then answered by its words.';
create unique index spaces_one_active on pipeline.spaces (active) where active;
alter table pipeline.spaces enable row level security;
create policy worker_reads on pipeline.spaces for select to pipeline_worker using (true);
grant select on pipeline.spaces to pipeline_worker;

create table pipeline.parses (
  id              bigint generated always as identity primary key,
  owner_id        uuid not null,
  content_sha256  bytea not null constraint content_sha256_is_32_bytes check (length(content_sha256) = 32),
  fingerprint     text not null,
  document_id     uuid not null,
  job_id          bigint not null,
  attempt         integer not null,
  provider_job_id text,
  pages           jsonb,
  failed_pages    jsonb not null default '{}',
  bought_at       timestamptz,
  created_at      timestamptz not null default pipeline.now(),
  unique (owner_id, content_sha256, fingerprint),
  constraint bought_iff_there_are_pages check ((bought_at is null) = (pages is null))
);
comment on table pipeline.parses is 'Parsed files by their bytes. Without pages it is a purchase under way, held by (job_id, attempt).';
comment on column pipeline.parses.document_id is 'The document that it was bought for; a purge begins there.';
comment on column pipeline.parses.provider_job_id is 'The provider''s own id, stored before its answer is awaited: a crash resumes and does not pay again.';
comment on column pipeline.parses.pages is 'Array of {number, markdown}.';
create index parses_by_document on pipeline.parses (document_id);
alter table pipeline.parses enable row level security;

create table pipeline.embeddings (
  owner_id     uuid not null,
  space_id     smallint not null references pipeline.spaces,
  input_sha256 bytea not null constraint input_sha256_is_32_bytes check (length(input_sha256) = 32),
  embedding    extensions.halfvec not null,
  document_id  uuid not null,
  bought_at    timestamptz not null default pipeline.now(),
  primary key (owner_id, space_id, input_sha256)
);
comment on table pipeline.embeddings is 'Vectors of length 1 by their exact input. The column has no fixed dimension; each space has its own partial index.';
comment on column pipeline.embeddings.document_id is 'The document that it was bought for; a purge begins there.';
create index embeddings_by_document on pipeline.embeddings (document_id);
alter table pipeline.embeddings enable row level security;

create table pipeline.embedding_purchases (
  owner_id     uuid not null,
  space_id     smallint not null references pipeline.spaces,
  input_sha256 bytea not null,
  job_id       bigint not null,
  attempt      integer not null,
  primary key (owner_id, space_id, input_sha256)
);
comment on table pipeline.embedding_purchases is 'Inputs that a job is about to embed; held as long as the job''s lease.';
create index embedding_purchases_by_job on pipeline.embedding_purchases (job_id);
alter table pipeline.embedding_purchases enable row level security;

create table pipeline.chunks (
  id           bigint generated always as identity primary key,
  document_id  uuid not null references pipeline.documents on delete cascade,
  job_id       bigint not null,
  owner_id     uuid not null,
  ordinal      integer not null constraint ordinal_counts_from_zero check (ordinal >= 0),
  page         integer constraint page_counts_from_one check (page >= 1),
  heading      text,
  content      text not null constraint content_is_not_blank check (content ~ '\S'),
  input_sha256 bytea not null,
  lexemes      tsvector not null,
  unique (document_id, job_id, ordinal)
);
comment on table pipeline.chunks is 'The passages of published documents. A reader sees those of the document''s published_job_id alone.';
comment on column pipeline.chunks.heading is 'The heading path, outermost first, joined by " > ".';
comment on column pipeline.chunks.input_sha256 is 'Finds the passage''s vector in pipeline.embeddings.';
comment on column pipeline.chunks.lexemes is 'What keyword search reads; made by pipeline.lexemes().';
create index chunks_by_input on pipeline.chunks (owner_id, input_sha256);
alter table pipeline.chunks enable row level security;
create policy owner_reads on pipeline.chunks for select to authenticated using (owner_id = (select pipeline.caller()));

create function pipeline.create_space(model text, dimensions integer, input_format text default 'heading-content-1')
  returns smallint
  language plpgsql
  set search_path = ''
as $$
declare
  new_id smallint;
begin
  select s.id into new_id from pipeline.spaces s
   where s.model = create_space.model and s.dimensions = create_space.dimensions and s.input_format = create_space.input_format;
  if found then
    return new_id;
  end if;
  insert into pipeline.spaces (name, model, dimensions, input_format)
  values (concat_ws('-', create_space.model, create_space.dimensions::text, nullif(create_space.input_format, 'heading-content-1')),
          create_space.model, create_space.dimensions, create_space.input_format)
  returning id into new_id;
  -- The index's expression fixes the dimension that the column leaves open.
  execute format('create index %I on pipeline.embeddings using hnsw ((embedding::extensions.halfvec(%s)) '
                 'extensions.halfvec_cosine_ops) where space_id = %s', 'embeddings_space_' || new_id, create_space.dimensions, new_id);
  return new_id;
end
$$;
comment on function pipeline.create_space is 'Registers an embedding space and makes its index; returns the id of an existing one.';

create function pipeline.activate_space(space_name text)
  returns void
  language plpgsql
  set search_path = ''
as $$
begin
  if not exists (select from pipeline.spaces s where s.name = space_name) then
    raise exception using errcode = 'undefined_object', message = format('There is no embedding space %L.', space_name);
  end if;
  update pipeline.spaces s set active = false where s.active and s.name <> space_name;
  update pipeline.spaces s set active = true where s.name = space_name and not s.active;
end
$$;
comment on function pipeline.activate_space is 'Makes search read another space.';

do $$
begin
  perform pipeline.create_space('text-embedding-3-small', 1536);
  perform pipeline.create_space('all-MiniLM-L6-v2-int8', 384);
  update pipeline.spaces set latin_only = true where model = 'all-MiniLM-L6-v2-int8';
  perform pipeline.activate_space('text-embedding-3-small-1536');
end
$$;

-- Purchases -----------------------------------------------------------------------------------------------------------

create function pipeline.holds(job_id bigint, attempt integer)
  returns boolean
  language sql
  stable
  set search_path = ''
as $$
  select exists (select from pipeline.jobs j
                  where j.id = holds.job_id and j.attempt = holds.attempt and j.state = 'running'
                    and j.lease_expires_at > pipeline.now())
$$;
comment on function pipeline.holds is 'Whether the attempt still has its lease.';

create function pipeline.begin_parse(job_id bigint, attempt integer, content_sha256 bytea, fingerprint text)
  returns table (status text, parse_id bigint, provider_job_id text, pages jsonb, failed_pages jsonb)
  language plpgsql
  security definer
  set search_path = ''
as $$
#variable_conflict use_column
declare
  job pipeline.jobs;
  parse pipeline.parses;
begin
  select * into job from pipeline.jobs j where j.id = begin_parse.job_id;
  if not pipeline.holds(begin_parse.job_id, begin_parse.attempt) then
    return query select 'lost', null::bigint, null::text, null::jsonb, null::jsonb;
    return;
  end if;
  insert into pipeline.parses (owner_id, content_sha256, fingerprint, document_id, job_id, attempt)
  values (job.owner_id, begin_parse.content_sha256, begin_parse.fingerprint, job.document_id, job.id, begin_parse.attempt)
  on conflict do nothing
  returning * into parse;
  if not found then
    select * into parse from pipeline.parses p
     where p.owner_id = job.owner_id and p.content_sha256 = begin_parse.content_sha256
       and p.fingerprint = begin_parse.fingerprint
       for update;
    if not found then
      return query select 'wait', null::bigint, null::text, null::jsonb, null::jsonb;
      return;
    end if;
    if parse.pages is not null then
      return query select 'kept', parse.id, null::text, parse.pages, parse.failed_pages;
      return;
    end if;
    if (parse.job_id, parse.attempt) <> (job.id, begin_parse.attempt) then
      if pipeline.holds(parse.job_id, parse.attempt) then
        return query select 'wait', parse.id, null::text, null::jsonb, null::jsonb;
        return;
      end if;
      update pipeline.parses p
         set job_id = job.id, attempt = begin_parse.attempt, document_id = job.document_id
       where p.id = parse.id;
    end if;
  end if;
  return query select 'buy', parse.id, parse.provider_job_id, null::jsonb, null::jsonb;
end
$$;
comment on function pipeline.begin_parse is
  'kept: here are the pages; buy: this attempt holds the purchase (provider_job_id of an earlier one, if any); '
  'wait: another job is buying the same; lost: the lease is gone.';

create function pipeline.remember_parse(parse_id bigint, job_id bigint, attempt integer, provider_job_id text)
  returns boolean
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  update pipeline.parses p
     set provider_job_id = remember_parse.provider_job_id
   where p.id = remember_parse.parse_id and p.job_id = remember_parse.job_id and p.attempt = remember_parse.attempt
     and p.pages is null;
  return found;
end
$$;
comment on function pipeline.remember_parse is 'Stores (or, with null, forgets) the provider''s job id of a purchase.';

-- Paid results are kept even when the lease was lost meanwhile; not when the file was deleted. The lock on the document
-- orders this against the delete.
create function pipeline.document_lives(job_id bigint)
  returns boolean
  language plpgsql
  set search_path = ''
as $$
begin
  perform from pipeline.documents d
    join pipeline.jobs j on j.document_id = d.id
   where j.id = document_lives.job_id and d.deleted_at is null
     for share of d;
  return found;
end
$$;
comment on function pipeline.document_lives is 'Whether the job''s document is there, and holds it there until the transaction ends.';

create function pipeline.store_parse(parse_id bigint, job_id bigint, attempt integer, pages jsonb, failed_pages jsonb)
  returns boolean
  language plpgsql
  security definer
  set search_path = ''
as $$
begin
  if not pipeline.document_lives(store_parse.job_id) then
    return false;
  end if;
  update pipeline.parses p
     set pages = store_parse.pages, failed_pages = store_parse.failed_pages, bought_at = pipeline.now()
   where p.id = store_parse.parse_id and p.job_id = store_parse.job_id and p.attempt = store_parse.attempt and p.pages is null;
  return found;
end
$$;
comment on function pipeline.store_parse is 'Keeps a parse; false when it is no longer this attempt''s to store.';

create function pipeline.drop_parse(parse_id bigint, job_id bigint, attempt integer)
  returns void
  language sql
  security definer
  set search_path = ''
as $$
  delete from pipeline.parses p
   where p.id = $1 and p.job_id = $2 and p.attempt = $3 and p.pages is null
$$;
comment on function pipeline.drop_parse is 'Gives up a purchase that failed for good.';

create function pipeline.begin_embeddings(job_id bigint, attempt integer, space_id smallint, inputs bytea[])
  returns table (input_sha256 bytea, status text)
  language plpgsql
  security definer
  set search_path = ''
as $$
#variable_conflict use_column
declare
  owner uuid;
begin
  select j.owner_id into owner from pipeline.jobs j where j.id = begin_embeddings.job_id;
  if not pipeline.holds(begin_embeddings.job_id, begin_embeddings.attempt) then
    raise exception using errcode = 'PL001', message = 'The lease is lost.';
  end if;
  insert into pipeline.embedding_purchases as p (owner_id, space_id, input_sha256, job_id, attempt)
  select owner, begin_embeddings.space_id, i.sha, begin_embeddings.job_id, begin_embeddings.attempt
    from (select distinct unnest(inputs) as sha) i
   where (select true from pipeline.embeddings e
           where e.owner_id = owner and e.space_id = begin_embeddings.space_id and e.input_sha256 = i.sha) is null
   order by i.sha
  on conflict (owner_id, space_id, input_sha256) do update
     set job_id = excluded.job_id, attempt = excluded.attempt
   where (p.job_id, p.attempt) <> (excluded.job_id, excluded.attempt) and not pipeline.holds(p.job_id, p.attempt);
  -- Bought by another between the look and the claim: seen here, in a statement of its own.
  delete from pipeline.embedding_purchases p
   where p.job_id = begin_embeddings.job_id and p.space_id = begin_embeddings.space_id
     and exists (select from pipeline.embeddings e
                  where e.owner_id = p.owner_id and e.space_id = p.space_id and e.input_sha256 = p.input_sha256);
  -- Scalars, so that each input stays one probe of an index, whatever the statistics say.
  return query
  select i.sha,
         case when (select true from pipeline.embeddings e
                     where e.owner_id = owner and e.space_id = begin_embeddings.space_id and e.input_sha256 = i.sha) then 'kept'
              when (select p.job_id = begin_embeddings.job_id and p.attempt = begin_embeddings.attempt
                      from pipeline.embedding_purchases p
                     where p.owner_id = owner and p.space_id = begin_embeddings.space_id and p.input_sha256 = i.sha) then 'buy'
              else 'wait' end
    from (select distinct unnest(inputs) as sha) i;
end
$$;
comment on function pipeline.begin_embeddings is
  'For each input: kept (stored already), buy (this attempt holds the purchase), wait (another job is buying it). '
  'Raises PL001 when the lease is lost.';

create function pipeline.store_embeddings(job_id bigint, attempt integer, space_id smallint, inputs bytea[], vectors extensions.halfvec[])
  returns integer
  language plpgsql
  security definer
  set search_path = ''
as $$
declare
  stored integer;
begin
  if not pipeline.document_lives(store_embeddings.job_id) then
    return 0;
  end if;
  with mine as (
    delete from pipeline.embedding_purchases p
     using (select i.sha, i.vector from unnest(inputs, vectors) as i (sha, vector)) i, pipeline.jobs j
     where j.id = store_embeddings.job_id and p.owner_id = j.owner_id and p.space_id = store_embeddings.space_id
       and p.input_sha256 = i.sha and p.job_id = store_embeddings.job_id and p.attempt = store_embeddings.attempt
    returning p.owner_id, p.input_sha256, i.vector, j.document_id
  )
  insert into pipeline.embeddings (owner_id, space_id, input_sha256, embedding, document_id)
  select m.owner_id, s.id, m.input_sha256, m.vector, m.document_id
    from mine m
    join pipeline.spaces s on s.id = store_embeddings.space_id
   where extensions.vector_dims(m.vector) = s.dimensions and extensions.l2_norm(m.vector) between 0.99 and 1.01
  on conflict do nothing;
  get diagnostics stored = row_count;
  return stored;
end
$$;
comment on function pipeline.store_embeddings is
  'Keeps vectors whose purchase this attempt holds and returns how many; a wrong dimension or length is refused by leaving it out.';

-- Publishing ----------------------------------------------------------------------------------------------------------

create function pipeline.publish(job_id bigint, attempt integer, space_id smallint, content_sha256 bytea, media_type text,
                                 page_count integer, failed_pages jsonb, parser text,
                                 pages integer[], headings text[], contents text[], inputs bytea[])
  returns integer
  language plpgsql
  security definer
  set search_path = ''
as $$
#variable_conflict use_column
declare
  job pipeline.jobs;
  written integer;
begin
  select * into job from pipeline.jobs j where j.id = publish.job_id;
  if not pipeline.holds(publish.job_id, publish.attempt) then
    raise exception using errcode = 'PL001', message = 'The lease is lost.';
  end if;
  -- What the same job published before, where it is done again; readers see it until this transaction ends.
  delete from pipeline.chunks c where c.document_id = job.document_id and c.job_id = job.id;
  -- The slow part first, while nothing is locked; if the fence below does not hold, none of it has happened.
  insert into pipeline.chunks (document_id, job_id, owner_id, ordinal, page, heading, content, input_sha256, lexemes)
  select job.document_id, job.id, job.owner_id, c.ordinal - 1, c.page, c.heading, c.content, c.input,
         pipeline.lexemes(job.owner_id, c.heading, c.content)
    from unnest(pages, headings, contents, inputs) with ordinality as c (page, heading, content, input, ordinal);
  get diagnostics written = row_count;
  if written = 0 then
    raise exception using errcode = 'check_violation', message = 'A document without passages is not published.';
  end if;
  if exists (select from pipeline.chunks c
              where c.document_id = job.document_id and c.job_id = job.id
                -- a scalar, so that it stays one probe of the index for each passage, whatever the statistics say
                and (select true from pipeline.embeddings e
                      where e.owner_id = job.owner_id and e.space_id = publish.space_id
                        and e.input_sha256 = c.input_sha256) is null) then
    raise exception using errcode = 'PL002', message = 'A passage has no vector.';
  end if;

  perform from pipeline.documents d
    where d.id = job.document_id and d.deleted_at is null and d.object_version = job.object_version
      for no key update;
  if not found then
    raise exception using errcode = 'PL001', message = 'The file was replaced or deleted.';
  end if;
  perform pipeline.complete(array[publish.job_id], array[publish.attempt]);
  if not found then
    raise exception using errcode = 'PL001', message = 'The lease is lost.';
  end if;
  delete from pipeline.chunks c where c.document_id = job.document_id and c.job_id <> job.id;
  update pipeline.documents d
     set published_version = job.object_version, published_at = pipeline.now(),
         published_job_id = job.id, content_sha256 = publish.content_sha256, media_type = publish.media_type,
         page_count = publish.page_count, failed_pages = publish.failed_pages, chunk_count = written,
         parser = publish.parser, embedding_model = (select s.model from pipeline.spaces s where s.id = publish.space_id),
         updated_at = pipeline.now()
   where d.id = job.document_id;
  return written;
end
$$;
comment on function pipeline.publish is
  'One transaction: fence, replace the document''s passages, point it at the new version, complete the job. Returns the '
  'number of passages. Raises PL001 when the lease or the version is gone, PL002 when a vector is missing.';

-- Purging -------------------------------------------------------------------------------------------------------------

-- Who runs pins: an owner with a running job keeps everything until it ends. The owner's lock keeps a claim from starting
-- one in between.
create function pipeline.purge(max_chunks integer default 1000)
  returns integer
  language plpgsql
  security definer
  set search_path = ''
as $$
#variable_conflict use_column
declare
  document pipeline.documents;
  removed integer := 0;
  shas bytea[];
begin
  select d.* into document
    from pipeline.documents d
   where d.deleted_at is not null and d.purged_at is null
     and not exists (select from pipeline.owners_running r where r.owner_id = d.owner_id and r.running > 0)
     -- that one goes whole
     and not exists (select from pipeline.erasures e where e.owner_id = d.owner_id)
   order by d.deleted_at
   limit 1
     for no key update skip locked;
  if not found then
    return 0;
  end if;
  perform from pipeline.owners o join pipeline.owner_stops s using (owner_id)
    where o.owner_id = document.owner_id and o.started = s.stopped
      for no key update of o skip locked;
  if not found and exists (select from pipeline.owners o where o.owner_id = document.owner_id) then
    return 0;
  end if;

  with gone as (
    delete from pipeline.chunks c
     where c.id in (select i.id from pipeline.chunks i where i.document_id = document.id limit max_chunks)
    returning c.input_sha256
  )
  select array_agg(distinct g.input_sha256), count(*) into shas, removed from gone g;
  delete from pipeline.embeddings e
   where e.owner_id = document.owner_id and e.input_sha256 = any (shas)
     and not exists (select from pipeline.chunks c where c.owner_id = e.owner_id and c.input_sha256 = e.input_sha256);
  if removed < max_chunks then
    delete from pipeline.embeddings e
     where e.document_id = document.id
       and not exists (select from pipeline.chunks c where c.owner_id = e.owner_id and c.input_sha256 = e.input_sha256);
    delete from pipeline.embedding_purchases p using pipeline.jobs j
     where j.document_id = document.id and p.job_id = j.id;
    delete from pipeline.parses p
     where (p.document_id = document.id or (p.owner_id = document.owner_id and p.content_sha256 = document.content_sha256))
       and not exists (select from pipeline.documents d
                        where d.owner_id = p.owner_id and d.deleted_at is null and d.content_sha256 = p.content_sha256);
    update pipeline.documents d set purged_at = pipeline.now() where d.id = document.id;
  end if;
  return greatest(removed, 1);
end
$$;
comment on function pipeline.purge is
  'Removes one step of a deleted document''s content, and kept work that no other document of the owner uses. '
  'Returns 0 when there is nothing to do now.';

revoke execute on all functions in schema pipeline from public, anon, authenticated;
grant execute on function pipeline.begin_parse, pipeline.remember_parse, pipeline.store_parse, pipeline.drop_parse,
  pipeline.begin_embeddings, pipeline.store_embeddings, pipeline.publish, pipeline.purge to pipeline_worker;
