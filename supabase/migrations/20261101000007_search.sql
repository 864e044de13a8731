-- Search: by words as BM25 ranks them, by meaning as the vectors do, or both mixed.
--
-- The lexemes of a passage carry a token of its owner, so that a posting list of the text index is that of one owner's
-- word: a search reads no other owner's rows, and a document frequency, hence a score, says nothing about their text.
--
-- The text index knows no term frequencies. ts_rank() of a single word does: with every weight 1 it is the sum of 1/i²
-- for i up to the frequency tf, over π²/6; the rest of that series is 1/(tf + ½) but for less than a rounding.

create function pipeline.owner_token(owner_id uuid)
  returns text
  language sql
  immutable
  set search_path = ''
as $$
  -- The end of a uuid is random in all versions in use. Two owners may share a token; owner_id is compared as well.
  select pg_catalog.encode(pg_catalog.substring(pg_catalog.uuid_send($1), 14), 'base64')
$$;
comment on function pipeline.owner_token is 'Four characters that stand before each lexeme of the owner.';

-- A word of a language with spaces is what the english configuration makes of it. A run of a script without spaces is its
-- character bigrams; a stored run also has its last character alone, so that a question of one character finds it.
create function pipeline.tokens(input text, is_question boolean default false)
  returns table (lexeme text, "position" integer, is_prefix boolean)
  language plpgsql
  immutable
  set search_path = ''
as $$
declare
  spaceless constant text := '\u0E00-\u0EFF\u1000-\u109F\u1100-\u11FF\u1780-\u17FF\u2E80-\u2FDF\u3005-\u3007\u3041-\u309F'
                             '\u30A1-\u30FF\u3130-\u318F\u31F0-\u31FF\u3400-\u4DBF\u4E00-\u9FFF\uAC00-\uD7A3\uF900-\uFAFF'
                             '\U00020000-\U0003FFFF';
  cleaned text := input;
  part record;
  start integer := 0;
begin
  if cleaned ~ '[^\x01-\x7F]' then
    cleaned := normalize(cleaned, nfkc);
  end if;
  -- The parser takes a/b for a path, <b> for a tag and the 7 of INC-7 for a negative number.
  cleaned := pg_catalog.regexp_replace(pg_catalog.translate(cleaned, '/\<>&', '     '), '-(?=\d)', ' ', 'g');
  if cleaned !~ ('[' || spaceless || ']') then
    return query
    select w.lexeme, p.position::integer, false
      from pg_catalog.unnest(pg_catalog.to_tsvector('pg_catalog.english', cleaned)) w
     cross join pg_catalog.unnest(w.positions) as p (position)
     where pg_catalog.octet_length(w.lexeme) <= 255;
    return;
  end if;
  for part in
    select m[1] as run, m[2] as words
      from pg_catalog.regexp_matches(cleaned, '([' || spaceless || ']+)|([^' || spaceless || ']+)', 'g') as m
  loop
    if part.run is null then
      return query
      select w.lexeme, start + p.position, false
        from pg_catalog.unnest(pg_catalog.to_tsvector('pg_catalog.english', part.words)) w
       cross join pg_catalog.unnest(w.positions) as p (position)
       where pg_catalog.octet_length(w.lexeme) <= 255;
      start := start + coalesce((select pg_catalog.max(p) from pg_catalog.unnest(
        pg_catalog.to_tsvector('pg_catalog.simple', part.words)) w, pg_catalog.unnest(w.positions) p), 0);
    else
      return query
      select pg_catalog.lower(pg_catalog.substr(part.run, i, 2)), start + i, is_question and pg_catalog.length(part.run) = 1
        from pg_catalog.generate_series(1, pg_catalog.length(part.run)) i
       where i < pg_catalog.length(part.run) or not is_question or i = 1;
      start := start + pg_catalog.length(part.run);
    end if;
  end loop;
end
$$;
comment on function pipeline.tokens is
  'The tokens of a text in order. is_prefix: a question''s single character, which stands for every bigram that begins so.';

create function pipeline.quoted(owner_id uuid, lexeme text)
  returns text
  language sql
  immutable
  set search_path = ''
as $$
  select '''' || pipeline.owner_token($1)
         || pg_catalog.replace(pg_catalog.replace($2, '\', '\\'), '''', '''''') || ''''
$$;
comment on function pipeline.quoted is 'The owner''s lexeme as the input of a tsvector or tsquery spells it.';

create function pipeline.lexemes(owner_id uuid, heading text, content text)
  returns tsvector
  language plpgsql
  stable
  set search_path = ''
as $$
declare
  -- As quoted() spells it, once for the passage and not for each of its words: a publish calls this ten thousand times.
  opening constant text := '''' || pipeline.owner_token(owner_id);
begin
  return coalesce(
    (select pg_catalog.string_agg(
              opening || pg_catalog.replace(pg_catalog.replace(t.lexeme, '\', '\\'), '''', '''''') || ''':' || least(t.position, 16383), ' ')
       from pipeline.tokens(pg_catalog.concat_ws(E'\n', heading, content)) t), '')::pg_catalog.tsvector;
end
$$;
comment on function pipeline.lexemes is 'What keyword search reads of a passage.';

create function pipeline.is_bigram(word text)
  returns boolean
  language sql
  immutable
  set search_path = ''
as $$
  -- Behind the quote and the owner's token. Scripts without spaces begin at Thai.
  select pg_catalog.ascii(pg_catalog.substr($1, 6)) >= 3584
$$;
comment on function pipeline.is_bigram is 'Whether a quoted lexeme comes from a script without spaces.';

create function pipeline.phrase(owner_id uuid, input text)
  returns tsquery
  language plpgsql
  stable
  set search_path = ''
as $$
declare
  answer text;
  word record;
begin
  for word in
    select t.lexeme, t.is_prefix, t.position - lag(t.position) over (order by t.position) as distance
      from pipeline.tokens(input, is_question => true) t
     order by t.position
  loop
    answer := coalesce(answer || format(' <%s> ', word.distance), '')
              || pipeline.quoted(owner_id, word.lexeme) || case when word.is_prefix then ':*' else '' end;
  end loop;
  return answer::pg_catalog.tsquery;
end
$$;
comment on function pipeline.phrase is 'Words that stand one after the other; null when there are none but stop words.';

create function pipeline.token_count(lexemes tsvector)
  returns integer
  language sql
  immutable
  set search_path = ''
as $$
  select coalesce(pg_catalog.sum(pg_catalog.cardinality(l.positions)), 0)::integer from pg_catalog.unnest($1) l
$$;
comment on function pipeline.token_count is 'The length of a passage, as BM25 counts it.';

alter table pipeline.chunks add column token_count integer not null generated always as (pipeline.token_count(lexemes)) stored;
comment on column pipeline.chunks.token_count is 'How many tokens lexemes holds.';
-- A search reads the lexemes and the vectors of thousands of rows: inline and as they are, it takes a third of the time
-- that unpacking takes.
alter table pipeline.chunks alter column lexemes set storage external, set (toast_tuple_target = 8160);
alter table pipeline.embeddings set (toast_tuple_target = 8160);
-- Without a pending list: what is published is found as quickly as all the rest.
create index chunks_by_lexeme on pipeline.chunks using gin (lexemes) with (fastupdate = off);

-- The question ---------------------------------------------------------------------------------------------------------

create type pipeline.question as (words text[], required tsquery, excluded tsquery);
comment on type pipeline.question is
  'words: single lexemes, as the input of a tsquery spells them; required: all phrases; excluded: any of what a minus stood before.';

create function pipeline.parse_question(owner_id uuid, input text)
  returns pipeline.question
  language plpgsql
  stable
  set search_path = ''
as $$
declare
  answer pipeline.question;
  part record;
  meant text := '';
  phrase tsquery;
begin
  for part in
    select coalesce(m[1] = '-', m[3] ~ '^-\w', false) as excluded, m[2] is not null as quoted, coalesce(m[2], m[3]) as words
      from regexp_matches(translate(input, '“”„「」『』', '"""""""'), '(-?)"([^"]+)"|([^\s"]+)', 'g') as m
  loop
    if not part.excluded then
      meant := meant || ' ' || part.words;
    end if;
    if part.excluded or part.quoted then
      phrase := pipeline.phrase(owner_id, ltrim(part.words, '-'));
      if phrase is null then
        continue;
      elsif part.excluded then
        answer.excluded := coalesce(answer.excluded || phrase, phrase);
      else
        answer.required := coalesce(answer.required && phrase, phrase);
      end if;
    end if;
  end loop;
  answer.words := array(
    select distinct pipeline.quoted(owner_id, t.lexeme) || case when t.is_prefix then ':*' else '' end
      from pipeline.tokens(meant, is_question => true) t
     limit 64);
  return answer;
end
$$;
comment on function pipeline.parse_question is 'Any of the words; each "phrase"; no -word and no -"phrase".';

-- How often each word occurs in the owner's passages, and how long these are. A word of many passages is counted in a
-- sample (the hashes of the inputs order it at random), a rare one, whose frequency matters most, in the text index.
create function pipeline.word_frequencies(owner_id uuid, words text[], total bigint)
  returns table (word text, passages double precision, average_length double precision)
  language plpgsql
  stable
  set search_path = ''
  set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  sample_size constant integer := 500;
  enough constant integer := 10;
  hits integer[];
  sampled integer;
  average double precision;
  counted bigint;
begin
  execute format(
    'select count(*), avg(c.token_count), array[%s]::integer[] '
    'from (select i.lexemes, i.token_count from pipeline.chunks i where i.owner_id = $1 order by i.input_sha256 limit $2) c',
    (select string_agg(format('count(*) filter (where c.lexemes @@ %L::tsquery)', w), ', ' order by o)
       from unnest(words) with ordinality as u (w, o)))
    into sampled, average, hits using word_frequencies.owner_id, sample_size;
  for i in 1 .. cardinality(words) loop
    if sampled < sample_size then
      counted := hits[i];
    elsif hits[i] >= enough then
      counted := greatest(total, sampled) * hits[i] / sampled;
    else
      execute 'select count(*) from (select c.owner_id from pipeline.chunks c where c.lexemes @@ $1 offset 0) c where c.owner_id = $2'
        into counted using words[i]::tsquery, word_frequencies.owner_id;
    end if;
    return query select words[i], counted::double precision, greatest(average, 1);
  end loop;
end
$$;
comment on function pipeline.word_frequencies is 'For each word: how many of the owner''s passages hold it; and their average length.';

-- The answer -----------------------------------------------------------------------------------------------------------

create function pipeline.under(name text, owner_id uuid, path_prefix text)
  returns boolean
  language sql
  immutable
  set search_path = ''
as $$
  select $3 is null or starts_with($1, $3) or starts_with($1, $2 || '/' || ltrim($3, '/'))
$$;
comment on function pipeline.under is 'Whether a document''s name begins so, with or without the owner''s folder.';

create function pipeline.visible(owner uuid, question pipeline.question, path_prefix text)
  returns text
  language sql
  stable
  set search_path = ''
as $$
  select format('d.owner_id = %L and d.deleted_at is null and d.published_job_id = c.job_id', $1)
         || coalesce(' and c.lexemes @@ ' || quote_literal(($2).required::text) || '::tsquery', '')
         || coalesce(' and not c.lexemes @@ ' || quote_literal(($2).excluded::text) || '::tsquery', '')
         || coalesce(' and pipeline.under(d.name, d.owner_id, ' || quote_literal($3) || ')', '')
$$;
comment on function pipeline.visible is 'SQL: the condition on a passage c of a document d that may be an answer.';

create function pipeline.by_words(owner uuid, question pipeline.question, path_prefix text, wanted integer, also bigint[])
  returns table (id bigint, score double precision, whole double precision)
  language plpgsql
  stable
  set search_path = ''
  set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  -- So many rows are ranked, by the frequencies; never more than the second.
  budget constant integer := 4000;
  most constant integer := 10000;
  visible constant text := pipeline.visible(owner, question, path_prefix);
  total bigint;
  words text[];
  passages double precision[];
  average double precision;
  unknown integer;
  whole_question double precision;
  few boolean;
  bm25 text;
  frequencies text;
  sought text;
  together boolean;
  ranked text;
  ids bigint[];
  scores double precision[];
  seen bigint;
  top integer := wanted * 3 + 50;
  reached double precision := 0;
  taken integer := 0;
begin
  if coalesce(cardinality(question.words), 0) = 0 then
    return;
  end if;
  select coalesce(sum(d.chunk_count), 0) into total
    from pipeline.documents d where d.owner_id = owner and d.deleted_at is null;
  -- A bigram that occurs nowhere is most often the end of one word and the beginning of the next: it is not missed.
  select array_agg(f.word order by f.passages) filter (where f.passages > 0),
         array_agg(f.passages order by f.passages) filter (where f.passages > 0), max(f.average_length),
         count(*) filter (where f.passages = 0 and not pipeline.is_bigram(f.word))
    into words, passages, average, unknown
    from pipeline.word_frequencies(owner, question.words, total) f;
  if words is null then
    return;
  end if;
  select sum(ln(1 + (greatest(total, p) - p + 0.5) / (p + 0.5))) + unknown * ln(1 + (total + 0.5) / 0.5)
    into whole_question
    from unnest(passages) p;

  -- The rarest words choose the candidates; all words rank them. Where a phrase or a small folder chooses, all words do.
  few := path_prefix is not null and budget >= coalesce(
    (select sum(d.chunk_count) from pipeline.documents d
      where d.owner_id = owner and d.deleted_at is null and pipeline.under(d.name, d.owner_id, path_prefix)), 0);
  if few then
    taken := cardinality(words);
  end if;
  while taken < cardinality(words) and (reached < wanted or reached + passages[taken + 1] <= budget) loop
    taken := taken + 1;
    reached := reached + passages[taken];
  end loop;
  sought := array_to_string(words[1:taken], ' | ');
  if question.required is not null then
    sought := question.required::text;
  elsif reached > most and cardinality(words) > 1 then
    -- No word is rare: what holds the two rarest, unless nothing does.
    execute 'select exists (select from (select c.owner_id from pipeline.chunks c where c.lexemes @@ $1 offset 0) c where c.owner_id = $2)'
       into together using array_to_string(words[1:2], ' & ')::tsquery, owner;
    if together then
      sought := array_to_string(words[1:2], ' & ');
    end if;
  end if;

  -- f1, f2, … are the words' frequencies in the passage; longer grows with its length. k1 is 1.5 and b is 0.75.
  select string_agg(format('round(1 / greatest(1.6449340668482264 * (1 - ts_rank(''{1,1,1,1}'', c.lexemes, %L)), 0.004) - 0.5) as f%s', w, o), ', '),
         string_agg(format('%L::float8 * r.f%s / (r.f%s + r.longer)',
                           2.5 * ln(1 + (greatest(total, p) - p + 0.5) / (p + 0.5)), o, o), ' + ')
    into frequencies, bm25
    from unnest(words, passages) with ordinality as u (w, p, o);
  frequencies := frequencies || format(', %L::float8 + %L::float8 * c.token_count as longer', 1.5 * 0.25, 1.5 * 0.75 / average);
  -- The subquery keeps the planner from reading the owner's part of another index beside the words' postings.
  ranked := 'select r.id, r.document_id, r.job_id, ' || bm25 || ' as score from ('
    || 'select c.id, c.document_id, c.job_id, ' || frequencies || ' from '
    || case when path_prefix is null
         then format('(select c.* from pipeline.chunks c where c.lexemes @@ %L::tsquery offset 0) c where c.owner_id = %L', sought, owner)
         else format('(select c.* from pipeline.chunks c join pipeline.documents d on d.id = c.document_id '
                     'where c.lexemes @@ %L::tsquery and c.owner_id = %L and ', sought, owner) || visible || ' offset 0) c where true' end
    || coalesce(' and c.lexemes @@ ' || quote_literal(question.required::text) || '::tsquery', '')
    || coalesce(' and not c.lexemes @@ ' || quote_literal(question.excluded::text) || '::tsquery', '')
    || format(' limit %s) r', most);
  -- Nearly all of the best are visible; what is not belongs to a document that was deleted a moment ago.
  loop
    execute 'select array_agg(t.id order by t.score desc, t.id) filter (where d.id is not null), '
            'array_agg(t.score order by t.score desc, t.id) filter (where d.id is not null), count(*) '
            'from (' || ranked || ' order by score desc, id limit $1) t '
            'left join pipeline.documents d on d.id = t.document_id and d.published_job_id = t.job_id and d.deleted_at is null'
      into ids, scores, seen using top;
    exit when seen < top or cardinality(ids) >= wanted;
    top := top * 10;
  end loop;
  return query select u.id, u.score, whole_question from unnest(ids[1:wanted], scores[1:wanted]) as u (id, score);
  if cardinality(also) > 0 then
    return query execute
      'select r.id, ' || bm25 || ', $2 from (select c.id, ' || frequencies ||
      '  from pipeline.chunks c where c.id = any ($1) offset 0) r'
      using also, whole_question;
  end if;
end
$$;
comment on function pipeline.by_words is
  'The best visible passages by BM25, and the BM25 of also. whole: the BM25 of a passage of average length that holds each '
  'of the question''s words once.';

-- The index holds all owners' vectors and is read until enough of this owner's have come by.
create function pipeline.nearest_by_index(owner uuid, visible text, wanted integer, query_embedding extensions.vector, space pipeline.spaces)
  returns table (id bigint, cosine double precision)
  language plpgsql
  stable
  set search_path = ''
  set enable_seqscan = off
  set enable_sort = off
as $$
begin
  -- At run time: a session that has not used a vector yet may not set these for a function. Below 0.8 there is no such
  -- setting.
  if current_setting('hnsw.iterative_scan', true) is not null then
    perform set_config('hnsw.iterative_scan', 'relaxed_order', true);
  end if;
  perform set_config('hnsw.ef_search', '100', true);
  return query execute format(
    'select n.id, 1 - n.distance from (select (select c.id from pipeline.chunks c join pipeline.documents d on d.id = c.document_id '
    '    where c.owner_id = e.owner_id and c.input_sha256 = e.input_sha256 and %1$s limit 1) as id, '
    '  e.embedding::extensions.halfvec(%2$s) operator(extensions.<=>) $1::extensions.halfvec(%2$s) as distance '
    'from pipeline.embeddings e where e.owner_id = %3$L and e.space_id = %4$s '
    'order by 2 limit %5$s) n where n.id is not null',
    visible, space.dimensions, owner, space.id, wanted + 10)
    using query_embedding;
end
$$;

create function pipeline.by_meaning(owner uuid, question pipeline.question, path_prefix text, wanted integer,
                                    query_embedding extensions.vector, space pipeline.spaces)
  returns table (id bigint, cosine double precision)
  language plpgsql
  stable
  set search_path = ''
  set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  visible constant text := pipeline.visible(owner, question, path_prefix);
  own double precision;
  everybodys double precision;
  top integer := wanted * 2 + 50;
  ids bigint[];
  cosines double precision[];
  seen bigint;
begin
  select sum(d.chunk_count) into own
    from pipeline.documents d
   where d.owner_id = owner and d.deleted_at is null
     and (path_prefix is null or pipeline.under(d.name, d.owner_id, path_prefix));
  if own is null then
    return;
  end if;

  -- A filter that leaves little: its passages, each with its vector.
  if question.required is not null or (path_prefix is not null and own <= 5000) then
    return query execute format(
      'select c.id, 1 - (e.embedding operator(extensions.<=>) $1::extensions.halfvec) from pipeline.documents d '
      'join pipeline.chunks c on c.document_id = d.id '
      'join pipeline.embeddings e on e.owner_id = %1$L and e.space_id = %2$s and e.input_sha256 = c.input_sha256 '
      'where c.owner_id = %1$L and %3$s order by 2 desc, 1 limit %4$s', owner, space.id, visible, wanted)
      using query_embedding;
    return;
  end if;

  -- All of the owner's vectors, or everybody's through the index? Reading one costs about 0.2 µs and 0.6 ns a
  -- dimension; the index costs 16 µs for each vector of anybody that comes by before enough of the owner's have.
  select greatest(c.reltuples, own) into everybodys
    from pg_class c where c.oid = to_regclass(format('pipeline.embeddings_space_%s', space.id));
  if own > 5000 and path_prefix is null and question.excluded is null
     and own * (0.2 + 0.0006 * space.dimensions) > 16 * wanted * everybodys / own then
    select array_agg(n.id order by n.cosine desc), array_agg(n.cosine order by n.cosine desc) into ids, cosines
      from pipeline.nearest_by_index(owner, visible, wanted, query_embedding, space) n;
    -- Fewer, when much of what is near was deleted a moment ago, or when an older pgvector stops early.
    if cardinality(ids) >= wanted then
      return query select u.id, u.cosine from unnest(ids, cosines) as u (id, cosine) limit wanted;
      return;
    end if;
  end if;
  loop
    execute format(
      'select array_agg(c.id order by n.distance, c.id), array_agg(1 - n.distance order by n.distance, c.id), '
      '       (select count(distinct n.input_sha256)) '
      'from (select e.input_sha256, e.embedding operator(extensions.<=>) $1::extensions.halfvec as distance '
      '        from pipeline.embeddings e where e.owner_id = %1$L and e.space_id = %2$s order by 2 limit %3$s) n '
      'left join (pipeline.chunks c join pipeline.documents d on d.id = c.document_id and %4$s) '
      '       on c.owner_id = %1$L and c.input_sha256 = n.input_sha256', owner, space.id, top, visible)
      into ids, cosines, seen using query_embedding;
    exit when seen < top or cardinality(array_remove(ids, null)) >= wanted;
    top := top * 10;
  end loop;
  return query
  select u.id, u.cosine from unnest(ids, cosines) with ordinality as u (id, cosine, o)
   where u.id is not null order by u.o limit wanted;
end
$$;
comment on function pipeline.by_meaning is 'The nearest visible passages and their cosines.';

create function pipeline.search(query_text text, query_embedding extensions.vector, space text, match_count integer, path_prefix text)
  returns table (document_id uuid, name text, page integer, heading text, content text, score real, matched_by text)
  language plpgsql
  stable
  security definer
  set search_path = ''
as $$
#variable_conflict use_column
declare
  owner constant uuid := (select auth.uid());
  wanted constant integer := greatest(1, least(coalesce(match_count, 10), 100));
  -- How much of a mixed score is the cosine. The rest is the BM25, as a part of the best hit's; where even the best lacks
  -- much of the question, as a part of that of the whole question: else one common word in common would outdo the meaning.
  share double precision := 0.65;
  candidates constant integer := greatest(50, wanted);
  question pipeline.question;
  active pipeline.spaces;
  near_ids bigint[];
  cosines double precision[];
begin
  if owner is null then
    raise insufficient_privilege using message = 'Search needs a signed-in user.';
  end if;
  if length(query_text) > 2000 then
    raise sqlstate 'PT400' using message = format('The question has %s characters; search reads 2000.', length(query_text));
  end if;
  select * into active from pipeline.spaces s where s.active;
  if search.space is not null and search.space is distinct from active.name then
    raise sqlstate 'PT400' using
      message = format('Search reads the embedding space %s, not %s.', active.name, search.space),
      hint = format('Embed the question with %s in %s dimensions.', active.model, active.dimensions);
  end if;
  if query_embedding is not null and extensions.vector_dims(query_embedding) is distinct from active.dimensions then
    raise sqlstate 'PT400' using
      message = format('The question''s vector has %s dimensions; the embedding space %s has %s.',
                       extensions.vector_dims(query_embedding), active.name, active.dimensions),
      hint = format('Embed the question with %s in %s dimensions.', active.model, active.dimensions);
  end if;
  if query_embedding is not null and extensions.vector_norm(query_embedding) = 0 then
    raise sqlstate 'PT400' using message = 'The question''s vector is zero, which is near to nothing.';
  end if;

  -- Halves hold neither very large nor very small numbers.
  query_embedding := extensions.l2_normalize(query_embedding);

  question := pipeline.parse_question(owner, coalesce(query_text, ''));
  if active.model like 'all-MiniLM-%' and 2 * (select count(*) from unnest(question.words) w where pipeline.is_bigram(w))
                                          > cardinality(question.words) then
    share := 0.3; -- This model was trained on English.
  end if;
  if query_embedding is null then
    return query
    select c.document_id, d.name, c.page, c.heading, c.content, r.score::real, 'keyword'
      from pipeline.by_words(owner, question, path_prefix, wanted, null) r
      join pipeline.chunks c on c.id = r.id
      join pipeline.documents d on d.id = c.document_id
     order by r.score desc, r.id;
    return;
  end if;

  select coalesce(array_agg(m.id), '{}'), coalesce(array_agg(m.cosine), '{}') into near_ids, cosines
    from pipeline.by_meaning(owner, question, path_prefix, candidates, query_embedding, active) m;
  -- What one side found gets its true score on the other.
  return query
  with words as materialized (
    select w.id, max(w.score) as score, max(w.whole) as whole from pipeline.by_words(owner, question, path_prefix, candidates, near_ids) w group by w.id
  ), near as (
    select n.id, n.cosine from unnest(near_ids, cosines) as n (id, cosine)
  ), mixed as (
    select id, coalesce(w.score, 0) as bm25, w.whole, n.cosine from words w full join near n using (id)
  ), scored as (
    select m.id, c.document_id, c.page, c.heading, c.content,
           share * coalesce(m.cosine, 1 - (e.embedding operator(extensions.<=>) query_embedding::extensions.halfvec), 0)
             + (1 - share) * coalesce(m.bm25 / nullif(greatest(max(m.bm25) over (), max(m.whole) over ()), 0), 0) as score,
           case when m.cosine is null then 'keyword' when m.bm25 > 0 then 'both' else 'vector' end as matched_by
      from mixed m
      join pipeline.chunks c on c.id = m.id
      left join pipeline.embeddings e
             on m.cosine is null and e.owner_id = owner and e.space_id = active.id and e.input_sha256 = c.input_sha256
  )
  select s.document_id, d.name, s.page, s.heading, s.content, s.score::real, s.matched_by
    from scored s
    join pipeline.documents d on d.id = s.document_id
   order by s.score desc, s.id
   limit wanted;
end
$$;
comment on function pipeline.search is 'See public.search. Runs as its owner, so that the indexes serve; it filters by auth.uid() itself.';

create function public.search(query_text text, query_embedding extensions.vector default null, space text default null,
                              match_count integer default 10, path_prefix text default null)
  returns table (document_id uuid, name text, page integer, heading text, content text, score real, matched_by text)
  language sql
  stable
  set search_path = ''
begin atomic
  select s.document_id, s.name, s.page, s.heading, s.content, s.score, s.matched_by
    from pipeline.search(query_text, query_embedding, space, match_count, path_prefix) s;
end;
comment on function public.search is
  'The best passages of your files for a question. Any of its words finds; "a phrase" must stand so, -word must not. '
  'With the question''s vector (of the active embedding space, named by space) it is hybrid: score is then 0.65 of the '
  'cosine and 0.35 of the BM25, as a part of the best hit''s or, if more, of what a passage with each of the words once '
  'gets (0.3 and 0.7 for a Japanese, Chinese or Thai question in an English model''s space); without, it is the BM25. matched_by: keyword, vector or both. '
  'path_prefix: only files whose name begins so, with or without your folder. At most 100. 400: another space is active, '
  'or the vector does not fit it.';

revoke execute on all functions in schema pipeline from public, anon, authenticated;
revoke execute on function public.search from public, anon, authenticated;
grant execute on function pipeline.search to authenticated;
grant execute on function public.search to authenticated;
