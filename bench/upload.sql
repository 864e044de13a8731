-- One upload as Storage sends it to the database, statement by statement, each a round trip: it reads the bucket's limits,
-- writes the row as the user to see whether that is allowed and rolls back, and then, as the service and under a lock on the
-- name, writes the row that stays. pgbench runs it with `bucket`, and with `each` = 1 for one owner a client, 0 for one owner.
\set owner :client_id * :each
\set file random(1, 9223372036854775807)

begin;
select set_config('role', 'service_role', true), set_config('request.jwt.claim.role', 'service_role', true),
       set_config('request.jwt', repeat('t', 600), true), set_config('request.jwt.claim.sub', '', true),
       set_config('request.jwt.claims', '{"role": "service_role"}', true),
       set_config('request.headers', '{"authorization": "Bearer ' || repeat('t', 600) || '"}', true),
       set_config('request.method', 'POST', true), set_config('request.path', '/object/documents/report.pdf', true),
       set_config('storage.operation', 'storage.object.upload', true),
       set_config('storage.allow_delete_query', 'true', true), set_config('statement_timeout', '30000ms', true);
select id, file_size_limit, allowed_mime_types from storage.buckets where id = :bucket limit 1;
commit;

begin;
select set_config('role', 'authenticated', true), set_config('request.jwt.claim.role', 'authenticated', true),
       set_config('request.jwt', repeat('t', 600), true),
       set_config('request.jwt.claim.sub', '00000000-0000-4000-8000-00000000000' || :owner::text, true),
       set_config('request.jwt.claims', '{"iss": "https://project.supabase.co/auth/v1", "aud": "authenticated", '
                  '"role": "authenticated", "is_anonymous": false, "aal": "aal1", "exp": 1795000000, "iat": 1794996400, '
                  '"app_metadata": {"provider": "email", "providers": ["email"]}, "user_metadata": {"email_verified": true}, '
                  '"sub": "00000000-0000-4000-8000-00000000000' || :owner::text || '"}', true),
       set_config('request.headers', '{"authorization": "Bearer ' || repeat('t', 600) || '"}', true),
       set_config('request.method', 'POST', true), set_config('request.path', '/object/documents/report.pdf', true),
       set_config('storage.operation', 'storage.object.upload', true),
       set_config('storage.allow_delete_query', 'true', true), set_config('statement_timeout', '30000ms', true);
insert into storage.objects (name, owner, owner_id, bucket_id, metadata, version)
values ('00000000-0000-4000-8000-00000000000' || :owner::text || '/' || :file::text || '.pdf',
        ('00000000-0000-4000-8000-00000000000' || :owner::text)::uuid, '00000000-0000-4000-8000-00000000000' || :owner::text,
        :bucket, '{"mimetype": "application/pdf", "contentLength": 10240}', '1');
rollback;

begin;
select set_config('role', 'service_role', true), set_config('request.jwt.claim.role', 'service_role', true),
       set_config('request.jwt', repeat('t', 600), true), set_config('request.jwt.claim.sub', '', true),
       set_config('request.jwt.claims', '{"role": "service_role"}', true),
       set_config('request.headers', '{"authorization": "Bearer ' || repeat('t', 600) || '"}', true),
       set_config('request.method', 'POST', true), set_config('request.path', '/object/documents/report.pdf', true),
       set_config('storage.operation', 'storage.object.upload', true),
       set_config('storage.allow_delete_query', 'true', true), set_config('statement_timeout', '30000ms', true);
with before as materialized (select current_setting('lock_timeout') as value),
     patience as materialized (select set_config('lock_timeout', '5000ms', true) as applied, value from before),
     locked as materialized (select pg_advisory_xact_lock(:file::bigint), applied, value from patience),
     restored as materialized (select set_config('lock_timeout', value, true) as applied from locked)
select true as locked from restored;
select id, version, metadata from storage.objects
 where name = '00000000-0000-4000-8000-00000000000' || :owner::text || '/' || :file::text || '.pdf' and bucket_id = :bucket
 limit 1 for update;
insert into storage.objects (name, owner, owner_id, bucket_id, metadata, version)
values ('00000000-0000-4000-8000-00000000000' || :owner::text || '/' || :file::text || '.pdf',
        ('00000000-0000-4000-8000-00000000000' || :owner::text)::uuid, '00000000-0000-4000-8000-00000000000' || :owner::text,
        :bucket, '{"eTag": "\"9e107d9d372bb6826bd81d3542a419d6\"", "size": 10240, "mimetype": "application/pdf", '
        '"cacheControl": "max-age=3600", "lastModified": "2026-11-01T00:00:00.000Z", "contentLength": 10240, '
        '"httpStatusCode": 200}', gen_random_uuid()::text)
on conflict (name, bucket_id) do update
   set metadata = excluded.metadata, version = excluded.version, owner = excluded.owner, owner_id = excluded.owner_id
returning *;
commit;
