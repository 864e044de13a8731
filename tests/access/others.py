"""Attacks over Realtime, by anonymous sign-ins, and by a worker that lost its lease or leaps over a state."""

from __future__ import annotations

import hashlib

from tests.access.world import SECRET, World, attack, vector_of


def _topic(w: World, topic: str) -> None:
    w.sql("select set_config('realtime.topic', %s, true)", topic)


def _heard(w: World, topic: str) -> int:
    _topic(w, topic)
    return len(w.sql("select 1 from realtime.messages"))


@attack
def an_owner_hears_of_her_jobs(w: World) -> None:
    """No attack: each change of a job is told to its owner's private topic, in the words that are for her."""
    w.be("postgres")
    w.sql("delete from realtime.messages")
    w.sql("select pipeline.cancel(%s)", w.jobs["ledger-of-alice-available.txt"])
    told = w.sql("select topic, event, private, extension, payload from realtime.messages")
    assert [(row["topic"], row["event"], row["private"], row["extension"]) for row in told] == [
        (f"user:{w.alice}:jobs", "job_changed", True, "broadcast")
    ]
    assert set(told[0]["payload"]) == {"id", "document_id", "name", "state", "stage", "progress", "attempt", "error"}
    w.sql("select pipeline.retry(%s)", w.jobs["ledger-of-alice-dead.txt"])
    w.be(w.alice)
    w.write(f"{w.alice}/told.txt", owner=w.alice)
    assert _heard(w, f"user:{w.alice}:jobs") == 3


@attack
def a_stranger_listens_to_anothers_topic(w: World) -> None:
    """A stranger joins another's topic, or one whose name a pattern might take for it: no row of it is shown to her."""
    for who in (w.mallory, "anon"):
        w.be(who)
        for topic in (
            f"user:{w.alice}:jobs",
            "user:*:jobs",
            "user:%:jobs",
            "user::jobs",
            "",
            "%",
            f"user:{w.alice}:jobs ",
            f"user:{w.mallory}:jobs:{w.alice}",
            "user:null:jobs",
        ):
            assert _heard(w, topic) == 0, topic
    w.be(w.mallory)
    assert _heard(w, f"user:{w.mallory}:jobs") > 0
    w.be("postgres")
    w.sql(
        "insert into realtime.messages (topic, extension, event) values (%s, 'presence', 'x')", f"user:{w.mallory}:jobs"
    )
    w.be(w.mallory)
    _topic(w, f"user:{w.mallory}:jobs")
    assert w.sql("select 1 from realtime.messages where extension <> 'broadcast'") == []


@attack
def a_stranger_follows_the_tables_themselves(w: World) -> None:
    """A stranger subscribes to changes of rows (`postgres_changes`), where deletes are told to everybody whatever the
    policies say: no table of ours is in a publication, so there is nothing to follow."""
    w.be("postgres")
    published = w.sql("select pubname, schemaname, tablename from pg_publication_tables where schemaname = 'pipeline'")
    assert published == []


@attack
def a_client_speaks_on_a_topic(w: World) -> None:
    """A client sends news of a job herself, to her own topic or another's, to fool who listens: nobody may send."""
    for who in (w.mallory, "anon"):
        w.be(who)
        for topic in (f"user:{w.alice}:jobs", f"user:{w.mallory}:jobs"):
            _topic(w, topic)
            with w.refused(match="row-level security"):
                w.sql(
                    "insert into realtime.messages (topic, extension, event) values (%s, 'broadcast', 'job_changed')",
                    topic,
                )


@attack
def a_deleted_user_goes_on(w: World) -> None:
    """A user was deleted and her token is still good: from that moment she is nobody, and neither she nor the
    service key stores files in her folder; everybody else is as before."""
    for user, other, delete in (
        (w.alice, w.mallory, "delete from auth.users where id = %s"),
        (w.mallory, w.alice, "update auth.users set deleted_at = now() where id = %s"),
    ):
        with w.aside():
            w.be_auth()
            with w.works():
                w.sql(delete, user)
            w.be(user)
            for view in ("documents", "jobs", "chunks"):
                assert w.sql(f"select 1 from public.{view}") == []
            with w.refused(match="signed-in user"):
                w.search("launch")
            with w.refused(match="row-level security"):
                w.write(f"{user}/new.txt", owner=user)
            assert w.sql("select 1 from storage.objects") == [] and _heard(w, f"user:{user}:jobs") == 0
            w.be("service_role")
            with w.refused(match="belong to a user"):
                w.write(f"{user}/new.txt")
            w.be(other)
            assert w.search("launch")
            w.write(f"{other}/new.txt", owner=other)


@attack
def a_restored_project_shows_what_was_deleted(w: World) -> None:
    """A database was restored without what hangs on the platform's tables, so that a file which is deleted stays in the
    index and a deleted user's token stays good: nothing is shown until that is mended, and then all is as before."""
    for trigger in ("pipeline_object_deleted on storage.objects", "pipeline_user_deleted on auth.users"):
        with w.aside():
            w.be("postgres")
            with w.works():
                w.sql(f"drop trigger {trigger}")
            w.be(w.alice)
            for view in ("documents", "jobs", "chunks"):
                with w.refused("PT503", match="not whole"):
                    w.sql(f"select 1 from public.{view}")
            with w.refused("PT503", match="not whole"):
                w.search("launch")
            w.be("postgres")
            with w.works():
                assert w.value("select pipeline.attach()") == [f"trigger {trigger}"]
            w.be(w.alice)
            with w.works():
                assert w.search("launch")


@attack
def an_anonymous_sign_in_is_nobody(w: World) -> None:
    """Somebody signs in without a name, as often as she likes, to store and search at our cost: while the project has
    not switched that on she uploads, sees and hears nothing, not even what she had before."""
    w.be(w.guest, is_anonymous=True)
    for view in ("documents", "jobs", "chunks"):
        assert w.sql(f"select 1 from public.{view}") == []
    for version in ("1", None):
        with w.refused(match="row-level security"):
            w.write(f"{w.guest}/new.txt", version=version, owner=w.guest)
    assert w.sql("select 1 from storage.objects") == []
    assert w.sql("update storage.objects set version = 'x' returning 1") == []
    assert w.remove(f"{w.guest}/guest.txt") == []
    for question, vector in (("guest", None), ("guest", vector_of("a guest was here"))):
        with w.refused(match="signed-in user"):
            w.search(question, vector)
    for call in ("retry_job", "cancel_job"):
        with w.refused("PT404"):
            w.sql(f"select public.{call}(%s)", w.jobs["guest.txt"])
    assert _heard(w, f"user:{w.guest}:jobs") == 0
    # a claim that is neither true nor false lets nobody in
    w.be(w.guest, is_anonymous="perhaps")
    with w.refused("22P02"):
        w.sql("select 1 from public.documents")


@attack
def an_anonymous_sign_in_is_a_user_where_it_is_switched_on(w: World) -> None:
    """No attack: with the setting on she keeps files as everybody does, and sees nobody else's; who gave her address
    since is a user with the setting off."""
    w.be("postgres")
    w.sql("update pipeline.settings set anonymous_sign_ins = true")
    w.be(w.guest, is_anonymous=True)
    assert len(w.sql("select 1 from public.chunks")) == 1 and w.search("guest")
    w.write(f"{w.guest}/new.txt", owner=w.guest)
    assert _heard(w, f"user:{w.guest}:jobs") > 0
    w.nothing_of_alice(w.sql("select * from public.documents"))
    w.nothing_of_alice(w.search("zanzibar", vector_of(SECRET)))
    with w.refused(match="row-level security"):
        w.write(f"{w.alice}/new.txt", owner=w.guest)
    w.be("postgres")
    w.sql("update pipeline.settings set anonymous_sign_ins = false")
    w.be(w.guest, is_anonymous=False)
    assert w.search("guest")


@attack
def a_listener_does_its_work(w: World) -> None:
    """No attack: with the listener's role a job is done from the claim to its publish, and the rest of its functions
    work too; what makes no sense is refused with a reason."""
    w.be("pipeline_worker")
    assert w.sql("select schema_version from pipeline.settings")
    powerless = w.sql(
        "select proname from pg_proc where pronamespace = 'pipeline'::regnamespace and not prosecdef "
        "and has_function_privilege(oid, 'execute')"
    )
    assert powerless == [{"proname": "now"}], "what runs with the listener's own rights can do nothing"
    space = w.one("select id, dimensions from pipeline.spaces where active")
    w.sql("select pipeline.listener_seen('me', '1', 'local', 'a space')")
    assert w.sql("select due from pipeline.health()")
    jobs = w.sql("select * from pipeline.claim('me', 2, '1 minute', 1)")
    assert len(jobs) == 2
    job, attempt = jobs[0]["id"], jobs[0]["attempt"]
    assert w.sql("select * from pipeline.heartbeat(array[%s]::bigint[], array[%s], '1 minute')", job, attempt)
    assert w.value("select pipeline.report(%s, %s, 'parse', 0.5)", job, attempt) is True
    parse = "select parse_id from pipeline.begin_parse(%s, %s, sha256('x'), 'local')"
    bought = w.value(parse, job, attempt)
    w.sql("select pipeline.drop_parse(%s, %s, %s)", bought, job, attempt)
    bought = w.value(parse, job, attempt)
    assert w.value("select pipeline.remember_parse(%s, %s, %s, 'theirs')", bought, job, attempt) is True
    assert w.value("select pipeline.store_parse(%s, %s, %s, '[]', '{}')", bought, job, attempt) is True
    assert (
        w.value(
            "select status from pipeline.begin_embeddings(%s, %s, %s, array[sha256('c')])", job, attempt, space["id"]
        )
        == "buy"
    )
    store = "select pipeline.store_embeddings(%s, %s, %s, array[sha256('c')], array[%s]::extensions.halfvec[])"
    assert w.value(store, job, attempt, space["id"], vector_of("c", space["dimensions"])) == 1
    publish = "select pipeline.publish(%s, %s, %s, sha256(''), 'text/plain', 1, '{}', 'x', "
    passage = "array[1], array['h'], array['c'], array[sha256('c')])"
    with w.refused("23514", match="without passages"):
        w.sql(publish + "'{}', '{}', '{}', '{}')", job, attempt, space["id"])
    with w.aside():
        w.be("postgres")
        w.sql("update pipeline.documents set object_version = 'newer' where id = %s", jobs[0]["document_id"])
        w.be("pipeline_worker")
        with w.refused("PL001", match="replaced"):
            w.sql(publish + passage, job, attempt, space["id"])
    assert w.value(publish + passage, job, attempt, space["id"]) == 1
    other = (jobs[1]["id"], jobs[1]["attempt"])
    with w.refused("22023"):
        w.sql("select pipeline.fail(%s, %s, 'bored', 'x')", *other)
    with w.refused("22023"):
        w.sql("select pipeline.settle(1, 'bored', false, 1, 1, 1, 1, 1, 1, 1, '1 s', 'x')")
    with w.refused("22023"):
        w.sql("select pipeline.observe('storage', 'a key', 'fetch', 'bored')")
    with w.aside():
        w.sql("select pipeline.observe('storage', 'a key', 'fetch', 'refused', null, 'why')")
        assert w.value("select state from pipeline.providers() where provider = 'storage'") == "refused"
    assert w.value("select pipeline.supersede(%s, %s)", *other) is False, "its version is still stored"
    stored = w.one("select * from pipeline.stored_file(%s, %s)", *other)
    assert stored["stands"] is True and len(stored["others"]) > 0
    assert w.value("select pipeline.other_files()")
    assert w.value("select pipeline.mark_bucket()") == w.value("select pipeline.bucket_mark()")
    assert w.value("select files from pipeline.lost_files_count()") == 0
    with w.aside():
        assert w.value("select pipeline.fail(%s, %s, 'transient', 'x')", *other) == "available"
    w.sql("select pipeline.release(array[%s]::bigint[], array[%s])", *other)
    w.sql("select pipeline.tidy()")
    w.sql("select pipeline.heal() from generate_series(1, 8)")
    w.be("postgres")
    w.sql("update pipeline.owner_stops s set stopped = o.started from pipeline.owners o where o.owner_id = s.owner_id")
    w.be("pipeline_worker")
    assert w.value("select pipeline.purge()") > 0
    w.be("postgres")
    with w.refused("42704"):
        w.sql("select pipeline.activate_space('nowhere')")


@attack
def a_worker_that_lost_its_lease_writes(w: World) -> None:
    """A listener that was taken for dead, or a stranger with a job's number, writes results: without the attempt that
    holds the lease nothing changes."""
    job, other = w.jobs["ledger-of-alice-running.txt"], w.jobs["running.txt"]
    w.be("postgres")
    attempt = w.value("select attempt from pipeline.jobs where id = %s", job)
    space = w.value("select id from pipeline.spaces where active")
    before = w.sql(
        "select state, stage, progress, attempt, failures, error from pipeline.jobs where id in (%s, %s) order by id",
        job,
        other,
    )
    w.be("pipeline_worker")
    for wrong in (attempt - 1, attempt + 1):
        assert w.sql("select * from pipeline.heartbeat(array[%s]::bigint[], array[%s], '1 minute')", job, wrong) == []
        assert w.value("select pipeline.report(%s, %s, 'embed', 0.5)", job, wrong) is False
        assert w.value("select pipeline.fail(%s, %s, 'permanent', 'x')", job, wrong) is None
        w.sql("select pipeline.release(array[%s]::bigint[], array[%s])", job, wrong)
        w.sql("select pipeline.supersede(%s, %s)", job, wrong)
        assert w.sql("select * from pipeline.stored_file(%s, %s)", job, wrong) == []
        w.sql("select pipeline.complete(array[%s]::bigint[], array[%s])", job, wrong)
        assert w.value("select (pipeline.begin_parse(%s, %s, '\\x00', 'x')).status", job, wrong) == "lost"
        with w.refused("PL001"):
            w.sql("select * from pipeline.begin_embeddings(%s, %s, %s, '{}')", job, wrong, space)
        with w.refused("PL001"):
            w.sql(
                "select pipeline.publish(%s, %s, %s, sha256(''), 'text/plain', 1, '{}', 'x', array[1], "
                "array['h'], array['c'], array[%s::bytea])",
                job,
                wrong,
                space,
                hashlib.sha256(SECRET.encode()).digest(),  # whose vector she has
            )
    w.be("postgres")
    after = w.sql(
        "select state, stage, progress, attempt, failures, error from pipeline.jobs where id in (%s, %s) order by id",
        job,
        other,
    )
    assert before == after


@attack
def a_job_leaps_over_a_state(w: World) -> None:
    """Whoever may write the table itself makes a finished job unfinished, goes back an attempt, or begins in the
    middle: the guard refuses, whoever asks, and every step that is legal is in the history."""
    w.be("postgres")
    for name, change in (
        (
            "own.txt",
            "state = 'running', finished_at = null, lease_expires_at = now() + interval '1 hour', claimed_by = 'me'",
        ),
        ("dead.txt", "state = 'completed', error = null"),
        ("running.txt", "attempt = attempt - 1"),
        ("available.txt", "attempt = 7"),
    ):
        with w.refused("23514", "23505"):  # the second where the queue's own row is in the way first
            w.sql(f"update pipeline.jobs set {change} where id = %s", w.jobs[name])
    with w.refused("23514", match="begins available"):
        w.sql(
            "insert into pipeline.jobs (document_id, owner_id, object_id, object_version, bucket_id, name, attempt) "
            "select document_id, owner_id, object_id, 'forged', bucket_id, name, 3 from pipeline.jobs limit 1"
        )
    assert w.sql("select * from pipeline.invariant_violations") == []
    w.sql("update pipeline.limits set max_concurrent_jobs = 7 where owner_id is null")
    assert w.sql("select * from pipeline.owners where owner_id = %s and max_concurrent_jobs = 7", w.mallory)
    w.sql("delete from pipeline.jobs where id = %s", w.jobs["running.txt"])
    assert w.sql("select 1 from pipeline.job_events where job_id = %s", w.jobs["running.txt"]) == []
    assert (
        w.sql("select * from pipeline.invariant_violations where invariant <> 'a committed file without a job'") == []
    )


@attack
def a_first_file_waits_for_ever(w: World) -> None:
    """No attack: the queue knows nothing of an owner until the first file, whose job is claimed like any other."""
    w.be("postgres")
    w.sql("delete from pipeline.owners where owner_id = %s", w.guest)
    w.be("service_role")
    w.write(f"{w.guest}/first.txt")
    w.be("pipeline_worker")
    claimed = w.sql("select name from pipeline.claim('listener', 100, '1 minute', 1) where owner_id = %s", w.guest)
    assert [job["name"] for job in claimed] == [f"{w.guest}/first.txt"]


_WAITS = """
update pipeline.jobs set error_class = %s, error = 'Later.', available_at = now() + interval '1 hour'
 where id = %s
"""
_UNPAID = """
select count(*) from (select owner_id, (at at time zone 'utc')::date as day, sum(amount) as amount
                        from pipeline.ledger where amount is not null group by 1, 2) l
  full join (select * from pipeline.spent_days where owner_id is not null) s using (owner_id, day)
 where coalesce(l.amount, 0) <> coalesce(s.amount, 0)
"""


@attack
def an_operators_role_writes_the_tables(w: World) -> None:
    """An operator let a role of the project's own write jobs, limits and money by hand: all that it does stands in the
    history and in the sums, is told, and wakes who waits, though the role may write none of these itself."""
    running, dead = w.jobs["running.txt"], w.jobs["dead.txt"]
    waiting = w.jobs["available.txt"]
    tables = "pipeline.jobs, pipeline.limits, pipeline.budgets, pipeline.prices, pipeline.ledger"
    w.be("postgres")
    w.sql("grant usage on schema pipeline to service_role")
    w.sql(f"grant select, insert, update, delete on {tables} to service_role")
    told = w.value("select count(*) from realtime.messages where topic = %s", f"user:{w.mallory}:jobs")

    w.be("service_role")
    with w.works():
        w.sql(
            "update pipeline.jobs set state = 'cancelled', finished_at = now(), claimed_by = null, "
            "lease_expires_at = null, error_class = 'cancelled', error = 'By hand.' where id = %s",
            running,
        )
        made = w.value(
            "insert into pipeline.jobs (document_id, owner_id, object_id, object_version, bucket_id, name, "
            "available_at, created_at) "
            "select document_id, owner_id, object_id, 'by hand', bucket_id, name, now(), now() from pipeline.jobs "
            "where id = %s returning id",
            running,
        )
        w.sql("delete from pipeline.jobs where id = %s", dead)
        w.sql("update pipeline.limits set max_concurrent_jobs = 7 where owner_id is null")
    w.be("postgres")
    events = "select to_state from pipeline.job_events where job_id = %s order by id desc limit 1"
    assert (w.value(events, running), w.value(events, made), w.sql(events, dead)) == ("cancelled", "available", [])
    assert w.value("select count(*) from realtime.messages where topic = %s", f"user:{w.mallory}:jobs") == told + 2
    assert w.value("select max_concurrent_jobs from pipeline.owners where owner_id = %s", w.mallory) == 7

    for statement in (
        "insert into pipeline.ledger (at, asked_at, sends_at, owner_id, document_id, job_id, attempt, provider, "
        "fingerprint, stage, model, amount) select now(), now(), now(), owner_id, document_id, id, 1, 'by hand', "
        "'a key', 'parse', 'x', 5 from pipeline.jobs",
        "update pipeline.ledger set amount = 7 where provider = 'by hand'",
        "delete from pipeline.ledger where provider = 'by hand'",
    ):
        w.be("service_role")
        with w.works():
            assert w.count(statement) > 0
        w.be("postgres")
        assert w.value(_UNPAID) == 0, statement

    for why, statement in (
        ("budget", "insert into pipeline.budgets (scope, period, amount) values ('all', 'month', 1000)"),
        ("configuration", "update pipeline.prices set price = price"),
    ):
        w.be("postgres")
        w.sql(_WAITS, why, waiting)
        w.be("service_role")
        with w.works():
            assert w.count(statement) > 0
        assert w.value("select available_at <= clock_timestamp() from pipeline.jobs where id = %s", waiting), why
