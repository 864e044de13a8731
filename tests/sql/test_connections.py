"""Where connections come from, what they pin, and what is said when there is none."""

from __future__ import annotations

import ast
import asyncio
import re
import socket
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from pgvector import HalfVector

from pipeline.db.connection import (
    GUARD,
    LISTENER,
    LISTENER_VARIABLE,
    MIGRATION,
    OPERATOR,
    OPERATOR_VARIABLE,
    WAKE_UPS,
    again,
    connect,
    open_pool,
)
from pipeline.db.guard import guard
from pipeline.embedded.postgres import SUPERUSER
from pipeline.errors import SetupError
from pipeline.operate import migrate
from tests.sql.conftest import WORKER_PASSWORD

HOSTILE = {
    "search_path": "nowhere",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "extra_float_digits": "-4",
    "array_nulls": "off",
    "row_security": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "1s",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "1s",
}


def test_nobody_else_opens_a_connection():
    """The embedded gateway is excepted: it plays the platform."""
    root = Path(__file__).parents[2]
    found = []
    for path in [*(root / "pipeline").rglob("*.py"), *(root / "cli").rglob("*.py")]:
        if "embedded" in path.parts or path == root / "pipeline" / "db" / "connection.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            imported = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if re.search(r"Connection\.connect$|psycopg\.connect$|ConnectionPool$", called) or re.match(
                r"pgvector\.psycopg|asyncpg", imported
            ):
                found.append(f"{path.relative_to(root)}:{node.lineno} {called or imported}")  # type: ignore[attr-defined]
    assert found == []


async def test_no_function_reads_its_backslashes_by_a_setting_of_the_session(db):
    """The body of a function is read when it is called, in sessions that are not ours too."""
    functions = await db.all(
        "select p.oid::regprocedure::text as name, p.prosrc from pg_proc p "
        "where p.pronamespace in ('pipeline'::regnamespace, 'public'::regnamespace) and strpos(p.prosrc, '\\') > 0 "
        "and 'standard_conforming_strings=on' = any (p.proconfig) is not true"
    )
    code = {f["name"]: re.sub(r"--[^\n]*|\bE'(?:[^'\\]|\\.|'')*'", "", f["prosrc"]) for f in functions}
    assert [name for name, text in code.items() if "\\" in text] == []


async def hostile(db, level: str, *, without: tuple[str, ...] = ()) -> None:
    """Every setting that our code relies on, turned round."""
    subjects = [f"database {db.name}"] if level == "database" else ["role postgres", "role pipeline_worker"]
    async with await psycopg.AsyncConnection.connect(db.server.url(SUPERUSER, "template1"), autocommit=True) as root:
        for subject in subjects:
            scope = "" if level == "database" else f" in database {db.name}"
            for name, value in HOSTILE.items():
                if name in without:
                    continue
                await root.execute(f"alter {subject}{scope} set {name} = '{value}'".encode())


@pytest.mark.parametrize("use", [GUARD, LISTENER, MIGRATION, OPERATOR, WAKE_UPS], ids=lambda use: use.application_name)
@pytest.mark.parametrize("level", ["database", "role"])
async def test_a_connection_has_the_settings_that_the_code_relies_on(db, level, use):
    await hostile(db, level)
    async with await connect(db.url("postgres"), use) as connection:
        await asyncio.sleep(1.2 if use is WAKE_UPS else 0)  # idle_session_timeout is over
        row = await (
            await connection.execute(
                "select now(), interval '-1 day -2 hours', '\\x00ff'::bytea, 0.1::float8 + 0.2::float8, "
                "'ä€', array['NULL']::text[], current_user, current_setting('transaction_isolation'), "
                "current_setting('transaction_read_only'), current_setting('search_path')"
            )
        ).fetchone()
        assert row is not None
        assert abs(row[0] - datetime.now(UTC)) < timedelta(minutes=1)
        assert row[1] == timedelta(days=-1, hours=-2)
        assert row[2:5] == (b"\x00\xff", 0.1 + 0.2, "ä€")
        assert row[6] == ("pipeline_worker" if use.worker else "postgres")
        assert row[7:] == ("read committed", "off", '""')


@pytest.mark.parametrize("role", ["pipeline_worker", "postgres"])
async def test_a_listeners_pool_works_by_a_direct_connection_and_as_postgres_with_set_role(db, role):
    # those two are refused, for the platform's sake: see tests/worker/test_defaults.py
    await hostile(db, "database", without=("row_security", "default_transaction_read_only"))
    await guard(db.url(role))
    async with open_pool(db.url(role), size=1) as pool, pool.connection() as connection:
        row = await (
            await connection.execute("select current_user, %s::extensions.halfvec", (HalfVector([1, 0.5]),))
        ).fetchone()
    assert row is not None
    assert row[0] == "pipeline_worker"
    assert row[1].to_list() == [1, 0.5]


async def test_a_read_only_server_is_the_platforms_word_and_stays(db):
    async with await psycopg.AsyncConnection.connect(db.server.url(SUPERUSER, "template1"), autocommit=True) as root:
        await root.execute("alter system set default_transaction_read_only = on")
        await root.execute("select pg_reload_conf()")
        try:
            async with await connect(db.url("postgres"), OPERATOR) as connection:
                async with asyncio.timeout(5):
                    while True:
                        row = await (await connection.execute("show transaction_read_only")).fetchone()
                        if row == ("on",):
                            break
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    await connection.execute("create table public.a ()")
        finally:
            await root.execute("set default_transaction_read_only = off")
            await root.execute("alter system reset default_transaction_read_only")
            await root.execute("select pg_reload_conf()")


@pytest.mark.parametrize("error", [psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected])
async def test_what_postgres_undid_for_anothers_sake_is_begun_anew_and_not_for_ever(error):
    tries = []

    async def work(times: int) -> int:
        tries.append(times)
        if len(tries) <= times:
            raise error
        return len(tries)

    assert await again(lambda: work(3)) == 4
    tries.clear()
    with pytest.raises(error):
        await again(lambda: work(100))
    assert len(tries) == 10


# why there is no connection ------------------------------------------------------------------------------------------


@pytest.fixture
async def port_that_says():
    """A server that answers the first packet with a FATAL error of Postgres, or with nothing."""
    servers = []

    async def start(state: str | None, words: str = "") -> int:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while state is not None:
                length = struct.unpack("!I", await reader.readexactly(4))[0]
                packet = await reader.readexactly(length - 4)
                if struct.unpack("!I", packet[:4])[0] in (80877103, 80877104):  # asks for TLS, or GSS
                    writer.write(b"N")
                    continue
                fields = b"SFATAL\0VFATAL\0C" + state.encode() + b"\0M" + words.encode() + b"\0\0"
                writer.write(b"E" + struct.pack("!I", len(fields) + 4) + fields)
                await writer.drain()
                writer.close()
                return
            await reader.read()  # until the client gives up
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        servers.append(server)
        return server.sockets[0].getsockname()[1]

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("state", "words", "sentence", "remedy"),
    [
        ("53300", "sorry, too many clients already", "no connection slot left", "fewer listeners"),
        ("53300", "remaining connection slots are reserved for roles with privileges", "no connection slot", "fewer"),
        ("XX000", "MaxClientsInSessionMode: max clients reached", "no connection slot left", "pool size"),
        ("57P03", "the database system is starting up", "starting up", "in a moment"),
        ("57P03", "the database system is not yet accepting connections", "starting up", "in a moment"),
        ("XX000", "Tenant or user not found", "pooler does not know the project", "postgres.<project"),
        ("28000", 'no pg_hba.conf entry for host "1.2.3.4", no encryption', "does not let this role in", "sslmode"),
        ("XX000", "something new", "cannot be reached", LISTENER_VARIABLE),
    ],
)
async def test_each_refusal_of_a_server_has_a_sentence_and_a_remedy(port_that_says, state, words, sentence, remedy):
    port = await port_that_says(state, words)
    with pytest.raises(SetupError, match=f"(?s){sentence}.*{re.escape(remedy)}.*{re.escape(words)}") as refused:
        await guard(f"postgresql://pipeline_worker:secret@127.0.0.1:{port}/postgres")
    assert "password" not in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_real_refusals_have_a_sentence_each(db, port_that_says):
    silent = await port_that_says(None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = probe.getsockname()[1]
    server = db.server
    worker = f"postgresql://pipeline_worker:{WORKER_PASSWORD}@127.0.0.1"
    await db.run("alter role pipeline_worker connection limit 0")
    try:
        await refused(f"{worker}:{server.port}/{db.name}", "no connection slot left")
    finally:
        await db.run("alter role pipeline_worker connection limit -1")
    await refused(f"postgresql://pipeline_worker:wrong@127.0.0.1:{server.port}/{db.name}", "refuses the password")
    await refused(f"{worker}:{server.port}/nothing", "no database of that name")
    await refused(f"postgresql://a:b@nowhere.invalid:{server.port}/postgres", "host is not found")
    await refused(f"{worker}:{nobody}/postgres", "Nothing answers")
    await refused(f"{worker}:{silent}/postgres?connect_timeout=2", "does not answer in time")
    await refused(f"{worker}:{server.port}/{db.name}?sslmode=require", "do not agree on TLS")
    await refused(f"{worker}:{server.port}/{db.name}?sslmode=verify-full&sslrootcert=/nowhere", "TLS")
    await refused(f"{worker}:6543/{db.name}", "transaction pooler")
    await db.run(f"revoke connect on database {db.name} from public")
    await refused(f"{worker}:{server.port}/{db.name}", "may not connect")


async def refused(url: str, sentence: str) -> None:
    with pytest.raises(SetupError, match=sentence) as listener:
        await guard(url)
    with pytest.raises(SetupError, match=sentence) as operator:
        await connect(url, OPERATOR)
    if "slot" not in sentence and "may not" not in sentence:
        assert LISTENER_VARIABLE in str(listener.value)
        assert OPERATOR_VARIABLE in str(operator.value)
    if "password" not in sentence:
        assert "password" not in str(operator.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgres:s3cret@localhost/postgres",
        "postgresql://postgres:s3cr%ret@localhost/postgres",
        "postgresql://postgres:pa@s3cret@localhost/postgres",
    ],
)
async def test_what_is_no_address_is_not_quoted_since_it_may_hold_the_password(url):
    with pytest.raises(SetupError) as refused:
        await connect(url)
    assert "s3cr" not in str(refused.value)
    assert "%40" in str(refused.value)


async def test_no_statement_holds_the_workers_password(db):
    await migrate.apply(db.url("postgres"), worker_password="a password in plain words")
    seen = await db.all(
        "select query from pg_catalog.pg_stat_activity union all select query from extensions.pg_stat_statements"
    )
    assert not [row for row in seen if "plain words" in row["query"]]
    url = db.server.url("pipeline_worker", db.name, password="a password in plain words")
    async with await connect(url):
        pass
    await migrate.apply(db.url("postgres"), worker_password=WORKER_PASSWORD)
