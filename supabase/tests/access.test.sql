-- Who may do what: clients read their own through `public` and write nothing; the listener runs the queue and no more.
begin;
select plan(22);

select tables_are('public', array[]::name[], 'no table of ours is in public');
select views_are('public', array['chunks', 'documents', 'jobs'], 'the client views are all that is in public');
select functions_are('public', array['cancel_job', 'retry_job', 'search'], 'and three functions');
select is_empty($$ select relname from pg_class where relnamespace = 'pipeline'::regnamespace and relkind = 'r' and not relrowsecurity $$,
                'every table has row-level security');
select is_empty($$ select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'v'
                     and not coalesce(reloptions::text[] && array['security_invoker=true', 'security_invoker=on'], false) $$,
                'every client view runs as its reader');
select is_empty($$ select proname from pg_proc where pronamespace = 'pipeline'::regnamespace and prosecdef
                     and not coalesce(array_to_string(proconfig, ',') ~ 'search_path=', false) $$,
                'every definer function fixes its search path');
select is_empty($$ select p.proname from pg_proc p where p.pronamespace in ('pipeline'::regnamespace, 'public'::regnamespace)
                     and has_function_privilege('anon', p.oid, 'execute') $$,
                'anon may execute nothing');
select set_eq($$ select p.proname::text from pg_proc p where p.pronamespace = 'pipeline'::regnamespace
                   and has_function_privilege('authenticated', p.oid, 'execute') $$,
              array['retry_own_job', 'cancel_own_job', 'search', 'caller'], 'authenticated may execute what the client functions and policies call');
select is(has_schema_privilege('authenticated', 'pipeline', 'usage'), false, 'clients cannot reach into the schema');
select is(has_schema_privilege('anon', 'pipeline', 'usage'), false, 'nor can anon');
select is_empty($$ select c.relname from pg_class c where c.relnamespace in ('pipeline'::regnamespace, 'public'::regnamespace)
                     and c.relkind in ('r', 'v') and has_table_privilege('authenticated', c.oid, 'insert, update, delete, truncate') $$,
                'clients write no table');
select is_empty($$ select c.relname from pg_class c where c.relnamespace in ('pipeline'::regnamespace, 'public'::regnamespace)
                     and c.relkind in ('r', 'v') and has_table_privilege('anon', c.oid, 'select, insert, update, delete') $$,
                'anon reads and writes no table');
select is(has_column_privilege('authenticated', 'pipeline.jobs', 'error_detail', 'select'), false, 'internal reasons stay internal');
select is(has_column_privilege('authenticated', 'pipeline.documents', 'content_sha256', 'select'), false, 'so do hashes');
select set_eq($$ select p.proname::text from pg_proc p where p.pronamespace = 'pipeline'::regnamespace
                   and has_function_privilege('pipeline_worker', p.oid, 'execute') $$,
              array['now', 'claim', 'heal', 'heartbeat', 'report', 'complete', 'fail', 'release', 'supersede', 'begin_parse', 'remember_parse',
                    'store_parse', 'drop_parse', 'begin_embeddings', 'store_embeddings', 'publish', 'purge', 'tidy', 'health', 'listener_seen',
                    'reserve', 'ask_again', 'resume_call', 'settle', 'providers', 'note_work', 'missing_price',
                    'claim_erasure', 'files_to_erase', 'erase', 'postpone_erasure', 'erasures_waiting', 'detached',
                    'observe', 'other_files', 'stored_file', 'mark_bucket', 'bucket_mark', 'lost_files_count'],
              'the listener may execute the queue and the content functions');
select set_eq($$ select c.relname::text from pg_class c where c.relnamespace in ('pipeline'::regnamespace, 'public'::regnamespace)
                   and c.relkind in ('r', 'v') and has_table_privilege('pipeline_worker', c.oid, 'select') $$,
              array['settings', 'spaces'], 'the listener reads two tables');
select is_empty($$ select c.relname from pg_class c where c.relkind in ('r', 'v')
                     and c.relnamespace::regnamespace::text in ('pipeline', 'public', 'auth', 'storage', 'realtime')
                     and has_table_privilege('pipeline_worker', c.oid, 'insert, update, delete, truncate') $$,
                'and writes none');
select is((select rolsuper or rolcreatedb or rolcreaterole or rolbypassrls from pg_roles where rolname = 'pipeline_worker'), false,
          'the listener''s role has no attribute');
select policies_are('pipeline', 'jobs', array['owner_reads'], 'jobs have one policy');
select policies_are('pipeline', 'documents', array['owner_reads'], 'documents have one policy');
select policies_are('pipeline', 'chunks', array['owner_reads'], 'chunks have one policy');
select is((select file_size_limit from storage.buckets where id = 'documents' and not public), 26214400::bigint,
          'the bucket is private and takes 25 MiB a file');

select * from finish();
rollback;
