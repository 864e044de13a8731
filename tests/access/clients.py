"""Attacks through what a client may touch: the views, the functions, and the private schema behind them."""

from __future__ import annotations

from tests.access import probe
from tests.access.integrity import FILL
from tests.access.world import World, attack

VIEWS = ("documents", "jobs", "chunks")


@attack
def nobody_reads_without_signing_in(w: World) -> None:
    """Whoever has only the project's public key wants to read and call what is there: each is refused."""
    w.be("anon")
    for view in VIEWS:
        with w.refused(match="permission denied for view"):
            w.sql(f"select * from public.{view}")
    for call in ("search('zanzibar')", f"retry_job({w.jobs['own.txt']})", f"cancel_job({w.jobs['own.txt']})"):
        with w.refused(match="permission denied for function"):
            w.sql(f"select public.{call}")


@attack
def an_owner_sees_what_is_hers(w: World) -> None:
    """No attack: rules that lock the owner out are as wrong as rules that let others in."""
    w.be(w.alice)
    documents = w.sql("select name, job_state, up_to_date from public.documents order by name")
    assert len(documents) == 5 and sum(bool(row["up_to_date"]) for row in documents) == 1
    assert {row["state"] for row in w.sql("select state from public.jobs")} == {
        "available",
        "running",
        "completed",
        "dead",
        "cancelled",
    }
    assert len(w.sql("select * from public.chunks")) == 2
    assert w.value("select public.retry_job(%s)", w.jobs["ledger-of-alice-dead.txt"]) == "available"
    assert w.value("select public.cancel_job(%s)", w.jobs["ledger-of-alice-available.txt"]) == "cancelled"


@attack
def an_operator_with_the_service_key_sees_everybody(w: World) -> None:
    """No attack: a project's own backend reads the views of all users, and may retry and cancel for them."""
    w.be("service_role")
    for view in VIEWS:
        names = {row["name"].split("/")[0] for row in w.sql(f"select name from public.{view}")}
        assert {str(w.alice), str(w.mallory)} <= names
    assert w.value("select public.retry_job(%s)", w.jobs["ledger-of-alice-dead.txt"]) == "available"
    assert w.value("select public.cancel_job(%s)", w.jobs["ledger-of-alice-available.txt"]) == "cancelled"


@attack
def a_user_reads_anothers_rows(w: World) -> None:
    """A signed-in stranger wants the names, states and text of another user: whatever is asked, none of it comes."""
    w.be(w.mallory)
    for view, own in (("documents", 5), ("jobs", 5), ("chunks", 2)):
        rows = w.sql(f"select * from public.{view}")
        assert len(rows) == own, "one's own is there"
        w.nothing_of_alice(rows)
        assert w.value(f"select count(*) from public.{view}") == own, "a count tells of nobody else"
        assert w.sql(f"select 1 from public.{view} where name like %s", f"{w.alice}/%") == []
        # an error in a condition would tell of a row that is not shown
        w.sql(f"select 1 from public.{view} where 1 / (case when name like %s then 0 else 1 end) = 1", f"{w.alice}/%")


@attack
def a_token_without_a_user_reads(w: World) -> None:
    """A token of the role authenticated, but for nobody, wants rows that belong to nobody: there are none."""
    for claims in ({}, {"sub": None}):
        w.be("authenticated", **claims)
        for view in VIEWS:
            assert w.sql(f"select * from public.{view}") == []
        with w.refused(match="signed-in user"):
            w.search("zanzibar")
        with w.refused("PT404"):
            w.sql("select public.retry_job(%s)", w.jobs["ledger-of-alice-dead.txt"])


@attack
def a_user_is_somebody_else_by_what_she_says_of_herself(w: World) -> None:
    """Who owns is taken from the token's subject; metadata, which users write themselves, changes nothing."""
    w.be(w.mallory, user_metadata={"sub": str(w.alice), "role": "service_role"}, email="alice@example.org")
    for view in VIEWS:
        w.nothing_of_alice(w.sql(f"select * from public.{view}"))
    w.nothing_of_alice(w.search("zanzibar"))


@attack
def a_client_writes_a_job(w: World) -> None:
    """A client wants a job to be done, done again or gone by writing its row: nobody but the queue writes jobs."""
    for who in (w.mallory, "anon", "service_role"):
        w.be(who)
        for statement in (
            "insert into public.jobs (document_id, name, state) values (gen_random_uuid(), 'x', 'available')",
            "update public.jobs set state = 'available'",
            "delete from public.jobs",
            "update public.documents set name = 'x'",
            "delete from public.chunks",
            "insert into public.chunks (content) values ('x')",
        ):
            with w.refused("42501", "55000"):
                w.sql(statement)


@attack
def a_client_reaches_into_the_private_schema(w: World) -> None:
    """A client names tables and functions behind the views: the schema itself is closed."""
    for who in ("anon", w.mallory):
        w.be(who)
        assert not w.value("select has_schema_privilege('pipeline', 'usage')"), "names in it can be looked up"
        for statement in (
            "select * from pipeline.jobs",
            "select pipeline.claim('me', 1, '1 minute', 1)",
            "select pipeline.caller()",
            "update pipeline.settings set anonymous_sign_ins = true",
        ):
            with w.refused(match="permission denied for schema pipeline"):
                w.sql(statement)


@attack
def a_client_uses_what_somebody_granted_too_widely(w: World) -> None:
    """The schema was exposed and everything on its tables granted, as older projects do by themselves: row-level
    security must still show each user her own rows and nobody anything else, and let nobody write."""
    w.wider()
    w.sql(FILL)  # no table is empty
    w.sql("update pipeline.owners set started = started + 1 where owner_id = %s", w.alice)  # something to be told of
    w.sql("update pipeline.jobs set error_class = 'lost' where state = 'dead'")
    for function in w.sql(  # what views call; it has no more rights than who calls it
        "select oid::regprocedure::text as name from pg_proc "
        "where pronamespace = 'pipeline'::regnamespace and not prosecdef and prorettype <> 'trigger'::regtype"
    ):
        w.sql(f"grant execute on function {function['name']} to anon, authenticated")
    tables = [
        row["t"]
        for row in w.sql(
            "select c.oid::regclass::text as t from pg_class c "
            "where relnamespace = 'pipeline'::regnamespace and relkind = 'r' order by 1"
        )
    ]
    own = {"pipeline.documents", "pipeline.jobs", "pipeline.chunks"}
    for who in (w.mallory, "anon"):
        w.be(who)
        for table in tables:
            rows = w.sql(f"select to_jsonb(t)::text as row from {table} t")
            w.nothing_of_alice(rows)
            assert bool(rows) == (who == w.mallory and table in own), f"{table} shows {len(rows)} rows to {who}"
            columns = w.sql(
                "select string_agg(quote_ident(attname), ', ') as names, "
                "min(attname) filter (where attidentity = '') as one, string_agg('null', ', ') as nulls from "
                "pg_attribute "
                "where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = ''",
                table,
            )[0]
            assert w.sql(f"update {table} set {columns['one']} = {columns['one']} returning 1") == [], table
            assert w.sql(f"delete from {table} returning 1") == [], table
            with w.refused("42501"):
                w.sql(f"insert into {table} ({columns['names']}) overriding system value values ({columns['nulls']})")
    w.be(w.mallory)
    # her own rows she sees; that she writes none of them is this:
    for table in sorted(own):
        assert w.sql(f"update {table} set owner_id = owner_id returning 1") == []
    own_rows = ("pipeline.dead_jobs", "pipeline.lost_files", "pipeline.job_costs", "pipeline.invariant_violations")
    for view in w.sql(
        "select c.oid::regclass::text as name from pg_class c "
        "where relnamespace in ('pipeline'::regnamespace, 'public'::regnamespace) and relkind = 'v'"
    ):
        rows = w.sql(f"select * from {view['name']}")
        w.nothing_of_alice(rows)
        if view["name"] == "pipeline.queue_health":
            assert not rows, "it is told of the queue, which is everybody's"
        elif view["name"].startswith("pipeline.") and view["name"] not in own_rows:
            assert rows == [], f"{view['name']} shows what is nobody's own"


def _tries_every_right(role: str, who: str) -> None:
    def attempt(w: World) -> None:
        rights, allowed = probe.rights(w, role), probe.allowed(w, role)
        assert (rights - allowed, allowed - rights) == (set(), set())

    attempt.__name__ = f"{role}_tries_every_right_there_is"
    attempt.__doc__ = (
        f"{who} tries every statement on every column, every function and every trigger function, with the "
        f"private schema "
        "open: what is allowed is what was written down, and not one right more."
    )
    attack(attempt)


_tries_every_right("anon", "Whoever has the public key")
_tries_every_right("authenticated", "Whoever signed in")
_tries_every_right("service_role", "Whoever has the service key")
_tries_every_right("pipeline_worker", "Whoever has the listener's database password")


@attack
def somebody_becomes_more_than_she_is(w: World) -> None:
    """A role that clients or the listener work as wants to be another: none is a member of any, none has attributes,
    and none of ours is a member of a client's role."""
    w.be("postgres")
    members = w.sql(
        "select m.member::regrole::text as member, m.roleid::regrole::text as role from pg_auth_members m "
        "where m.member::regrole::text = any (%s) or m.roleid::regrole::text = 'pipeline_worker'",
        [*probe.CLIENTS, "pipeline_worker"],
    )
    assert {(row["member"], row["role"]) for row in members} == {("postgres", "pipeline_worker")}
    worker = w.one("select * from pg_roles where rolname = 'pipeline_worker'")
    for attribute in ("rolsuper", "rolinherit", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls"):
        assert worker[attribute] is False, attribute
    assert sorted(worker["rolconfig"]) == ["idle_in_transaction_session_timeout=30s", "statement_timeout=5min"]
    assert w.value("select count(*) from pg_default_acl where defaclnamespace = 'pipeline'::regnamespace") == 0


@attack
def somebody_chooses_where_a_definers_names_lead(w: World) -> None:
    """An attacker who can make a schema puts it on the search path and shadows what our functions call: each of ours
    fixes its path, and none that stands in public runs with its owner's rights."""
    w.be("postgres")
    loose = w.sql(
        "select p.oid::regprocedure::text as name from pg_proc p "
        "where p.pronamespace in ('pipeline'::regnamespace, 'public'::regnamespace) and p.prokind = 'f' "
        "and 'search_path=\"\"' = any (p.proconfig) is not true"
    )
    assert loose == []
    raised = w.sql("select proname from pg_proc where pronamespace = 'public'::regnamespace and prosecdef")
    assert raised == [], "what stands in an exposed schema runs as its caller"
    foreign = w.sql(
        "select proname from pg_proc where pronamespace = 'pipeline'::regnamespace and proowner::regrole::text "
        "<> 'postgres'"
    )
    assert foreign == []


@attack
def a_user_ends_or_repeats_anothers_work(w: World) -> None:
    """A stranger knows a job's number and wants it cancelled or paid for again: to her it does not exist."""
    w.be(w.mallory)
    before = w.sql("select id from public.jobs order by id")
    for call in ("retry_job", "cancel_job"):
        for name in ("dead", "cancelled", "running", "available"):
            with w.refused("PT404", match="You have no job"):
                w.sql(f"select public.{call}(%s)", w.jobs[f"ledger-of-alice-{name}.txt"])
        with w.refused("PT404"):
            w.sql(f"select public.{call}(null)")
    assert w.sql("select id from public.jobs order by id") == before
    w.be("postgres")
    # her own cancel reaches no job but the one that is named
    assert w.value("select count(*) from pipeline.jobs where owner_id = %s and state = 'running'", w.alice) == 1


@attack
def an_owner_has_the_same_work_paid_again_and_again(w: World) -> None:
    """A user repeats a job that costs money as often as she likes, also by moving its file: only what ended badly, and
    five times a day."""
    w.be(w.mallory)
    job = w.jobs["dead.txt"]
    for _ in range(5):
        assert w.value("select public.retry_job(%s)", job) == "available"
        assert w.value("select public.cancel_job(%s)", job) == "cancelled"
    with w.refused("PT429", match="within a day"):
        w.sql("select public.retry_job(%s)", job)
    for name in ("own.txt", "running.txt", "available.txt"):
        with w.refused("PT409", match="only a dead or cancelled job"):
            w.sql("select public.retry_job(%s)", w.jobs[name])
    w.be("service_role")
    move = "update storage.objects set name = %s, version = gen_random_uuid()::text where name = %s"
    for n in range(5):
        assert w.count(move, f"{w.mallory}/dead.txt{n + 1}", f"{w.mallory}/dead.txt{n or ''}") == 1
    with w.refused(match="moved too often"):
        w.sql(move, f"{w.mallory}/dead.txt", f"{w.mallory}/dead.txt5")


@attack
def an_owner_repeats_the_work_on_a_version_that_is_gone(w: World) -> None:
    """A user wants the replaced version of a file processed again, to put old text in the place of the new: refused."""
    job = w.jobs["cancelled.txt"]
    w.be("postgres")
    w.sql("update storage.objects set version = gen_random_uuid()::text where name = %s", f"{w.mallory}/cancelled.txt")
    w.be(w.mallory)
    with w.refused("PT409", match="no longer there"):
        w.sql("select public.retry_job(%s)", job)


@attack
def somebody_reads_what_was_deleted(w: World) -> None:
    """After a delete the owner and everybody else want the text once more, before it is purged: it is gone at once."""
    for who in (w.alice, w.mallory, "service_role"):
        w.be(who)
        for view in ("documents", "chunks"):
            assert w.sql(f"select 1 from public.{view} where name like '%%gone-ledger%%'") == []
    w.be(w.alice)
    assert w.sql("select 1 from public.chunks where content like '%%deleted passage%%'") == []
    assert all("deleted" not in hit["content"] for hit in w.search("a deleted passage about zanzibar"))
    assert len(w.remove(f"{w.alice}/ledger-of-alice.txt")) == 1
    assert w.sql("select 1 from public.chunks") == [] and w.search("zanzibar harbours") == []


@attack
def somebody_reads_passages_that_are_not_published(w: World) -> None:
    """Passages of a version that was never published are wanted: a reader sees those of the published job alone."""
    w.be("postgres")
    w.sql("update pipeline.chunks set job_id = -1 where owner_id = %s", w.alice)
    w.be(w.alice)
    assert w.sql("select 1 from public.chunks") == [] and w.search("zanzibar harbours") == []
