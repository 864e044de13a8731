-- The state machine: what moves a job, and what is refused. `supabase test db` runs this, and so does `make test`.
begin;
select plan(13);

insert into auth.users (id, aud, role, email) values ('00000000-0000-4000-8000-000000000001', 'authenticated', 'authenticated', 'one@example.org');
insert into storage.objects (bucket_id, name, version, metadata)
values ('documents', '00000000-0000-4000-8000-000000000001/a.txt', gen_random_uuid(), '{"size": 4, "eTag": "\"x\""}');

select results_eq('select state, attempt from pipeline.jobs', $$ values ('available', 0) $$, 'an upload makes an available job');
select results_eq($$ select attempt from pipeline.claim('one', 1, '1 minute', 1) $$, array[1], 'a claim is an attempt');
select is_empty($$ select * from pipeline.claim('two', 1, '1 minute', 1) $$, 'a running job is claimed by nobody else');
select is((select pipeline.report(id, 7, 'embed', 0.5) from pipeline.jobs), false, 'another attempt reports nothing');
select is((select pipeline.report(id, 1, 'embed', 0.5) from pipeline.jobs), true, 'the holder reports');
select throws_ok($$ update pipeline.jobs set stage = 'dance' $$, '23514', null, 'an unknown stage is refused');
select throws_ok($$ update pipeline.jobs set attempt = 0 $$, '23514', null, 'an attempt never goes back');
select throws_ok($$ update pipeline.jobs set state = 'available' $$, '23514', null, 'an available job has no lease');
select is((select pipeline.fail(id, 1, 'permanent', 'no use') from pipeline.jobs), 'dead', 'a permanent failure is the end');
select is((select pipeline.retry(id) from pipeline.jobs), 'available', 'a dead job can be retried');
select is((select pipeline.cancel(id) from pipeline.jobs), 'cancelled', 'an available job can be cancelled');
select results_eq('select to_state from pipeline.job_events order by id',
                  array['available', 'running', 'dead', 'available', 'cancelled'], 'the history has every step');
select is_empty('select * from pipeline.invariant_violations', 'nothing is out of order');

select * from finish();
rollback;
