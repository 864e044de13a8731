-- What keyword search reads of a passage: its lexemes, in any script, each behind a token of its owner.
--
-- With the token a posting list of the text index is that of one owner's word: a search reads no other owner's rows, and a
-- document frequency, hence a score, says nothing about their text.

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
  set standard_conforming_strings = on
as $$
declare
  spaceless constant text := '\u0E00-\u0EFF\u1000-\u109F\u1100-\u11FF\u1780-\u17FF\u2E80-\u2FDF\u3005-\u3007\u3041-\u309F'
                             '\u30A1-\u30FF\u3130-\u318F\u31F0-\u31FF\u3400-\u4DBF\u4E00-\u9FFF\uAC00-\uD7A3\uF900-\uFAFF'
                             '\U00020000-\U0003FFFF';
  hidden constant text := '\u00AD\u034F\u061C\u180B-\u180F\u200B\u200E\u200F\u202A-\u202E\u2060-\u206F\uFE00-\uFE0F\uFEFF'
                          '\U000E0000-\U000E0FFF';
  cleaned text := input;
  part record;
  start integer := 0;
begin
  if cleaned ~ '[^\x01-\x7F]' then
    cleaned := normalize(cleaned, nfkc);
    if is_question then
      -- What a reader cannot see is no part of a word. Stored text has been through pipeline/files/text.py.
      cleaned := pg_catalog.regexp_replace(cleaned, '[' || hidden || ']', '', 'g');
    end if;
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
         || pg_catalog.replace(pg_catalog.replace($2, E'\\', E'\\\\'), '''', '''''') || ''''
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
              opening || pg_catalog.replace(pg_catalog.replace(t.lexeme, E'\\', E'\\\\'), '''', '''''') || ''':' || least(t.position, 16383), ' ')
       from pipeline.tokens(pg_catalog.concat_ws(E'\n', heading, content)) t), '')::pg_catalog.tsvector;
end
$$;
comment on function pipeline.lexemes is 'What keyword search reads of a passage.';

create function pipeline.first_letter(word text)
  returns integer
  language sql
  immutable
  set search_path = ''
as $$
  -- Behind the quote and the owner's token.
  select pg_catalog.ascii(pg_catalog.substr($1, 6))
$$;
comment on function pipeline.first_letter is
  'The code of a quoted lexeme''s first letter: Latin ones end below 592, scripts without spaces begin at 3584 (Thai).';

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

revoke execute on all functions in schema pipeline from public, anon, authenticated;
