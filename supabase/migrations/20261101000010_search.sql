-- Search: by words as BM25 ranks them, by meaning as the vectors do, or both mixed.
--
-- Dynamic SQL throughout: words and numbers stand in it as constants, so that each is planned for what it is, and a list
-- of words is unrolled, since a loop over them in each of a thousand rows would take longer than all the rest.

-- The question ---------------------------------------------------------------------------------------------------------

create type pipeline.question as (words text[], required tsquery, excluded tsquery);
comment on type pipeline.question is
  'words: single lexemes, as the input of a tsquery spells them; required: all phrases; excluded: any of what a minus stood before.';

create function pipeline.parse_question(owner_id uuid, input text)
  returns pipeline.question
  language plpgsql
  stable
  set search_path = ''
  set standard_conforming_strings = on
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
  enough constant integer := 5;
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

-- BM25 of thousands of rows takes its time, so the best are looked for among few: what holds a rare word, or two of those
-- that are less rare. What is missed holds one such word only, beside common ones.
create function pipeline.candidates(words text[], passages double precision[], total bigint, budget double precision)
  returns text
  language plpgsql
  stable
  set search_path = ''
as $$
declare
  many constant integer := cardinality(words);
  answer text[];
  expected double precision := 0;
  taken integer := 0;
  last integer;
  others double precision;
begin
  while taken < many and expected + passages[taken + 1] <= budget loop
    taken := taken + 1;
    answer := answer || words[taken];
    expected := expected + passages[taken];
  end loop;
  for i in taken + 1 .. many - 1 loop
    last := i;
    others := 0;
    while last < many and expected + passages[i] * (others + passages[last + 1]) / total <= budget loop
      last := last + 1;
      others := others + passages[last];
    end loop;
    exit when last = i;
    answer := answer || format('%s & (%s)', words[i], array_to_string(words[i + 1:last], ' | '));
    expected := expected + passages[i] * others / total;
  end loop;
  if answer is null then -- All are common: what holds several of them.
    expected := passages[1];
    last := 1;
    while last < many and expected > budget loop
      last := last + 1;
      expected := expected * passages[last] / total;
    end loop;
    answer := array[array_to_string(words[1:last], ' & ')];
  end if;
  return array_to_string(answer, ' | ');
end
$$;
comment on function pipeline.candidates is
  'The input of a tsquery that about budget passages of total fit. words: the rarest first, in so many passages each.';

create function pipeline.by_words(owner uuid, question pipeline.question, path_prefix text, wanted integer, also bigint[])
  returns table (id bigint, score double precision, whole double precision)
  language plpgsql
  stable
  set search_path = ''
  set extra_float_digits = 1  -- the weights travel as text
  set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  -- So many rows are ranked, as far as the frequencies tell; never more than the second.
  budget constant integer := 1500;
  most constant integer := 5000;
  visible constant text := pipeline.visible(owner, question, path_prefix);
  total bigint;
  words text[];
  passages double precision[];
  average double precision;
  unknown integer;
  whole_question double precision;
  bm25 text;
  frequencies text;
  any_word text;
  attempts text[];
  sought text;
  ranked text;
  ids bigint[] := array[]::bigint[];
  scores double precision[] := array[]::double precision[];
  more_ids bigint[];
  more_scores double precision[];
  seen bigint;
  top integer;
begin
  if coalesce(cardinality(question.words), 0) = 0 then
    return;
  end if;
  select coalesce(sum(d.chunk_count), 0) into total
    from pipeline.documents d where d.owner_id = owner and d.deleted_at is null;
  -- A bigram that occurs nowhere is most often the end of one word and the beginning of the next: it is not missed.
  select array_agg(f.word order by f.passages) filter (where f.passages > 0),
         array_agg(f.passages order by f.passages) filter (where f.passages > 0), max(f.average_length),
         count(*) filter (where f.passages = 0 and pipeline.first_letter(f.word) < 3584)
    into words, passages, average, unknown
    from pipeline.word_frequencies(owner, question.words, total) f;
  if words is null then
    return;
  end if;
  total := greatest(total, passages[cardinality(passages)]);
  select sum(ln(1 + (total - p + 0.5) / (p + 0.5))) + unknown * ln(1 + (total + 0.5) / 0.5) into whole_question
    from unnest(passages) p;

  -- The index knows no term frequencies, but ts_rank() of a single word does: with every weight 1 it is the sum of 1/i² for
  -- i up to the frequency, over π²/6; the rest of that series is 1/(frequency + ½) but for less than a rounding.
  -- f1, f2, … are the words' frequencies in the passage; longer grows with its length. k1 is 1.5 and b is 0.75.
  select string_agg(format('round(1 / greatest(1.6449340668482264 * (1 - ts_rank(''{1,1,1,1}'', c.lexemes, %L)), 0.004) - 0.5) as f%s', w, o), ', '),
         string_agg(format('%L::float8 * r.f%s / (r.f%s + r.longer)', 2.5 * ln(1 + (total - p + 0.5) / (p + 0.5)), o, o), ' + ')
    into frequencies, bm25
    from unnest(words, passages) with ordinality as u (w, p, o);
  frequencies := frequencies || format(', %L::float8 + %L::float8 * c.token_count as longer', 1.5 * 0.25, 1.5 * 0.75 / average);
  -- The subquery keeps the planner from reading the owner's part of another index beside the words' postings.
  ranked := 'select r.id, r.document_id, r.job_id, ' || bm25 || ' as score from ('
    || 'select c.id, c.document_id, c.job_id, ' || frequencies || ' from '
    || case when path_prefix is null
         then format('(select c.* from pipeline.chunks c where c.lexemes @@ $1 offset 0) c where c.owner_id = %L', owner)
         else format('(select c.* from pipeline.chunks c join pipeline.documents d on d.id = c.document_id '
                     'where c.lexemes @@ $1 and c.owner_id = %L and ', owner) || visible || ' offset 0) c where true' end
    || coalesce(' and c.lexemes @@ ' || quote_literal(question.required::text) || '::tsquery', '')
    || coalesce(' and not c.lexemes @@ ' || quote_literal(question.excluded::text) || '::tsquery', '')
    || format(' limit %s) r', most);

  any_word := array_to_string(words, ' | ');
  if question.required is not null then
    attempts := array[question.required::text];
  elsif path_prefix is not null and budget >= coalesce(
    (select sum(d.chunk_count) from pipeline.documents d
      where d.owner_id = owner and d.deleted_at is null and pipeline.under(d.name, d.owner_id, path_prefix)), 0) then
    attempts := array[any_word];
  else
    attempts := array[pipeline.candidates(words, passages, total, budget)];
    if coalesce(cardinality(also), 0) < wanted then
      attempts := attempts || format('(%s) & !(%s)', any_word, attempts[1]);
    end if;
  end if;
  foreach sought in array attempts loop
    exit when cardinality(ids) = wanted;
    top := wanted + 30;
    loop
      -- Nearly all of the best are visible; what is not belongs to a document that was deleted a moment ago.
      execute 'select array_agg(t.id order by t.score desc, t.id) filter (where d.id is not null), '
              'array_agg(t.score order by t.score desc, t.id) filter (where d.id is not null), count(*) '
              'from (' || ranked || ' order by score desc, id limit $2) t '
              'left join pipeline.documents d on d.id = t.document_id and d.published_job_id = t.job_id and d.deleted_at is null'
        into more_ids, more_scores, seen using sought::tsquery, top;
      exit when seen < top or cardinality(more_ids) >= wanted;
      top := top * 10;
    end loop;
    scores := scores || more_scores[1:wanted - cardinality(ids)];
    ids := ids || more_ids[1:wanted - cardinality(ids)];
  end loop;
  return query select u.id, u.score, whole_question from unnest(ids, scores) as u (id, score);
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
create type pipeline.neighbour as (id bigint, cosine double precision);
comment on type pipeline.neighbour is 'A passage and the cosine of its vector and the question''s.';

create function pipeline.put_setting(name text, value text)
  returns text
  language sql
  stable
  set search_path = ''
as $$
  select pg_catalog.set_config($1, $2, true)
$$;
comment on function pipeline.put_setting is
  'Sets a setting for the rest of the transaction. Declared stable because its callers are, which put the old value back.';

create function pipeline.nearest_by_index(owner uuid, visible text, wanted integer, query_embedding extensions.vector, space pipeline.spaces)
  returns setof pipeline.neighbour
  language plpgsql
  stable
  set search_path = ''
  set enable_seqscan = off
  set enable_sort = off
as $$
declare
  -- Set at run time and put back, not by the function's definition: that could only be made, and a dump of it only be
  -- restored, by a session that has used a vector, as the caller of this function has. Below 0.8 there is no iterative scan.
  ef_search constant text := current_setting('hnsw.ef_search');
  iterative_scan constant text := current_setting('hnsw.iterative_scan', true);
begin
  perform pipeline.put_setting('hnsw.ef_search', '100');
  if iterative_scan is not null then
    perform pipeline.put_setting('hnsw.iterative_scan', 'relaxed_order');
  end if;
  return query execute format(
    'select n.id, 1 - n.distance from (select (select c.id from pipeline.chunks c join pipeline.documents d on d.id = c.document_id '
    '    where c.owner_id = e.owner_id and c.input_sha256 = e.input_sha256 and %1$s limit 1) as id, '
    '  e.embedding::extensions.halfvec(%2$s) operator(extensions.<=>) $1::extensions.halfvec(%2$s) as distance '
    'from pipeline.embeddings e where e.owner_id = %3$L and e.space_id = %4$s '
    'order by 2 limit %5$s) n where n.id is not null',
    visible, space.dimensions, owner, space.id, wanted + 10)
    using query_embedding;
  perform pipeline.put_setting('hnsw.ef_search', ef_search);
  if iterative_scan is not null then
    perform pipeline.put_setting('hnsw.iterative_scan', iterative_scan);
  end if;
end
$$;
comment on function pipeline.nearest_by_index is 'The nearest of the owner''s passages, by the index of the space.';

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
  top integer := wanted + 30;
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
    -- Lateral, with an offset: one probe of the index for each vector, whatever the planner expects.
    execute format(
      'select array_agg(c.id order by n.distance, c.id), array_agg(1 - n.distance order by n.distance, c.id), '
      '       count(distinct n.input_sha256) '
      'from (select e.input_sha256, e.embedding operator(extensions.<=>) $1::extensions.halfvec as distance '
      '        from pipeline.embeddings e where e.owner_id = %1$L and e.space_id = %2$s order by 2 limit %3$s) n '
      'left join lateral (select c.id from pipeline.chunks c join pipeline.documents d on d.id = c.document_id '
      '                    where c.owner_id = %1$L and c.input_sha256 = n.input_sha256 and %4$s offset 0) c on true',
      owner, space.id, top, visible)
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
  owner constant uuid := pipeline.caller();
  wanted constant integer := greatest(1, least(coalesce(match_count, 10), 100));
  -- How much of a mixed score is the cosine. The rest is the BM25, as a part of that of the whole question, so that it
  -- counts as far as the question's words are there: else one common word in common would outdo the meaning.
  share double precision := 0.8;
  -- Of each side. It need not be many: what one side finds gets its true score on the other.
  candidates constant integer := wanted + 20;
  question pipeline.question;
  active pipeline.spaces;
  near_ids bigint[];
  cosines double precision[];
begin
  if owner is null then
    raise insufficient_privilege using message = 'Search needs a signed-in user.',
      hint = 'An anonymous sign-in is none, unless pipeline.settings.anonymous_sign_ins is on.';
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
  if active.latin_only and 2 * (select count(*) from unnest(question.words) w where pipeline.first_letter(w) >= 592)
                           > cardinality(question.words) then
    share := 0.1; -- What the model makes of such a question is little more than noise.
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
comment on function pipeline.search is 'See public.search. Runs as its owner, so that the indexes serve; it filters by pipeline.caller() itself.';

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
  'With the question''s vector (of the active embedding space, named by space) it is hybrid: score is then 0.8 of the '
  'cosine and 0.2 of the BM25, as a part of what a passage with each of the words once gets or, if more, of the best hit''s '
  '(0.1 and 0.9 for a question in another script, where the space''s model knows Latin letters only); without, it is the '
  'BM25. matched_by: keyword, vector or both. '
  'path_prefix: only files whose name begins so, with or without your folder. At most 100. 400: another space is active, '
  'or the vector does not fit it.';

revoke execute on function pipeline.parse_question, pipeline.word_frequencies, pipeline.under, pipeline.visible,
  pipeline.candidates, pipeline.by_words, pipeline.put_setting, pipeline.nearest_by_index, pipeline.by_meaning, pipeline.search, public.search
  from public, anon, authenticated, service_role;
grant execute on function pipeline.search to authenticated;
grant execute on function public.search to authenticated;
