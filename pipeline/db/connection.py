"""The only place that opens connections. What our code relies on is set here, and never expected of a project.

A database or a role may carry any default: another search_path, German dates, serializable transactions, a time-out of
one second. Each connection therefore begins with one statement that sets all of it. It is a statement and no start-up
parameter (`options=-c …`), because poolers refuse or ignore those. It holds for the session, so a connection needs one
of its own: the transaction pooler (port 6543) would hand the next client what we have set, and is refused.

The search_path is empty, so that our own statements name every schema. The types of the extension vector are looked up
where the extension is installed, which may be no schema of the path.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from pgvector.psycopg.halfvec import register_halfvec_info
from psycopg.conninfo import conninfo_to_dict
from psycopg.types import TypeInfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from pipeline.errors import SetupError

T = TypeVar("T")

CONNECT_SECONDS = 15
LISTENER_VARIABLE = "UPLOAD_PIPELINE_DATABASE_URL"
OPERATOR_VARIABLE = "UPLOAD_PIPELINE_MIGRATION_DATABASE_URL"
STATEMENT_SECONDS = 300
"""The longest statement of a listener; a publish of the largest file takes a minute on a small machine."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a connection is for, and what differs with that. Time-outs are Postgres's, `0` for none."""

    application_name: str
    statement_timeout: str
    idle_in_transaction: str
    variable: str
    """The setting that the connection string came from, for a remedy."""
    worker: bool = False
    """Whether it works as pipeline_worker, whoever signs in: a shared pooler takes no role but `postgres`."""
    prepare_threshold: int | None = None


LISTENER = Use("pipeline listener", f"{STATEMENT_SECONDS}s", "30s", LISTENER_VARIABLE, worker=True, prepare_threshold=5)
WAKE_UPS = Use("pipeline listen", "10s", "30s", LISTENER_VARIABLE)
GUARD = Use("pipeline guard", "60s", "30s", LISTENER_VARIABLE)
OPERATOR = Use("pipeline operator", "5min", "60s", OPERATOR_VARIABLE)
MIGRATION = Use("pipeline migrate", "0", "0", OPERATOR_VARIABLE)

_ALIVE: Mapping[str, Any] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    # what was sent and is not acknowledged: a keepalive does not look for that
    "tcp_user_timeout": 30_000,
}
"""How a connection notices that its other end is gone."""

# One round trip. Its own transaction is read committed, since a deferrable one might have to wait for its snapshot.
# Read-only as the default of a role or a database is a setting like any other; for the whole server it is the
# platform's word that the disk is full, and stays.
_PIN = """
begin isolation level read committed not deferrable;
set search_path = '';
set datestyle = 'ISO, MDY';
set intervalstyle = 'postgres';
set timezone = 'UTC';
set bytea_output = 'hex';
set client_encoding = 'UTF8';
set standard_conforming_strings = on;
set array_nulls = on;
set extra_float_digits = 1;
set row_security = on;
set default_transaction_isolation = 'read committed';
set default_transaction_deferrable = off;
set statement_timeout = '{statement_timeout}';
set idle_in_transaction_session_timeout = '{idle_in_transaction}';
set lock_timeout = 0;
do $$
declare
  setting record;
begin
  for setting in
    select s.name, case s.name when 'default_transaction_read_only' then 'off' else '0' end as value
      from pg_catalog.pg_settings s
     where s.name in ('idle_session_timeout', 'transaction_timeout')
        or s.name = 'default_transaction_read_only' and s.source in ('database', 'user', 'database user', 'client')
  loop
    perform pg_catalog.set_config(setting.name, setting.value, false);
  end loop;
  if {worker} and current_user <> 'pipeline_worker' then
    set role pipeline_worker;
  end if;
end
$$;
commit
"""

_HALFVEC = """
select t.oid, t.typarray
  from pg_catalog.pg_extension e
  join pg_catalog.pg_type t on t.typnamespace = e.extnamespace and t.typname = 'halfvec'
 where e.extname = 'vector'
"""


def parts(url: str, use: Use) -> dict[str, Any]:
    """What a connection string says, by libpq's names.

    Raises SetupError for what is none, and for the transaction pooler.
    """
    try:
        said = conninfo_to_dict(url)
    except psycopg.Error:  # its text quotes what it cannot read, and that may be the password
        raise SetupError(
            f"{use.variable} is no connection string: postgresql://user:password@host:5432/database. Characters such "
            "as @, :, / and % in the password are written as %40, %3A, %2F and %25."
        ) from None
    if "@" in str(said.get("host") or "")[1:]:  # at its start it names an abstract socket
        raise SetupError(f"{use.variable} holds an @ in its password: write it as %40.")
    if "6543" in str(said.get("port") or os.environ.get("PGPORT", "")).split(","):
        raise SetupError(
            f"{use.variable} points at the transaction pooler (port 6543), which keeps neither settings nor "
            "notifications. Use the direct connection or the session pooler: port 5432."
        )
    return said


def _parameters(url: str, use: Use) -> dict[str, Any]:
    """What psycopg connects with: the string's own words go before ours."""
    ours = {**_ALIVE, "application_name": use.application_name, "prepare_threshold": use.prepare_threshold}
    return ours | parts(url, use)


async def open_connection(url: str, use: Use, **more: Any) -> psycopg.AsyncConnection[Any]:
    """A connection that commits each statement. `more` goes to psycopg.

    Raises SetupError for an address that cannot work, and psycopg.OperationalError when the database is not to be had.
    """
    parameters = _parameters(url, use) | more
    connection = await psycopg.AsyncConnection.connect(autocommit=True, **parameters)
    try:
        await _pin(connection, use)
    except BaseException:
        await connection.close()
        raise
    return connection


async def connect(url: str, use: Use = OPERATOR, **more: Any) -> psycopg.AsyncConnection[Any]:
    """The same for who is about to start: raises SetupError, with the remedy, for all that is in the way."""
    try:
        return await open_connection(url, use, **more)
    except (psycopg.OperationalError, TimeoutError, OSError) as error:
        raise SetupError(refusal(error, use)) from None


def open_pool(url: str, *, size: int) -> AsyncConnectionPool:
    """A listener's pool of at most `size` connections, which know the type halfvec; not opened yet."""

    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        await _pin(connection, LISTENER)
        async with asyncio.timeout(CONNECT_SECONDS):
            await register_vectors(connection)

    return AsyncConnectionPool(
        min_size=1,
        max_size=size,
        open=False,
        configure=configure,
        timeout=30,
        # The delays between attempts double until they are given up, and then nobody tries for those who wait: given up
        # early and begun anew, they find a database that is back within seconds.
        reconnect_timeout=10,
        reconnect_failed=AsyncConnectionPool.check,
        name="listener",
        kwargs={"autocommit": True} | _parameters(url, LISTENER),
    )


async def _pin(connection: psycopg.AsyncConnection[Any], use: Use) -> None:
    statement = _PIN.format(
        statement_timeout=use.statement_timeout,
        idle_in_transaction=use.idle_in_transaction,
        worker=str(use.worker).lower(),
    )
    async with asyncio.timeout(CONNECT_SECONDS):
        await connection.execute(statement.encode())


async def register_vectors(connection: psycopg.AsyncConnection[Any]) -> None:
    """Let the connection send HalfVector values; raises SetupError where the database has no such type."""
    row = await (await connection.execute(_HALFVEC.encode())).fetchone()
    if row is None:
        raise SetupError(
            "The database has no type halfvec: the extension vector is missing, or older than 0.7. "
            "Run `pipeline migrate --dry-run`, which says what to do."
        )
    register_halfvec_info(connection, TypeInfo("halfvec", row[0], row[1]))


async def again(work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, which is one transaction, begun anew at once when Postgres undid it for another's sake.

    A serialization failure (40001) or a deadlock (40P01) says nothing of the work, and costs nobody anything. After ten
    times the last one is raised.
    """
    for attempt in range(9):
        try:
            return await work()
        except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
            await asyncio.sleep(random.uniform(0, 0.002 * 2**attempt))  # noqa: S311 (jitter)
    return await work()


# why there is no connection ------------------------------------------------------------------------------------------

_REFUSALS = (
    (
        "53300",
        r"too many clients|remaining connection slots|too many connections for|max\w* clients?\b|MaxClients",
        "The database has no connection slot left.",
        "Stop what is not needed, or run fewer listeners: each takes up to 11 connections, fewer with a smaller "
        "UPLOAD_PIPELINE_CONCURRENCY. Or raise the limit: a larger compute size, the pooler's pool size, or "
        "`alter role pipeline_worker connection limit`.",
    ),
    (
        "57P03",
        r"starting up|shutting down|in recovery|not (yet )?accepting connections",
        "The database is starting up or shutting down.",
        "Try again in a moment. If it stays so, the project may be paused, or restarting: see its dashboard.",
    ),
    (
        "28P01",
        r"password authentication failed|no password supplied|SASL authentication failed|wrong password",
        "The database refuses the password.",
        "",  # it depends on whose it is
    ),
    (
        "3D000",
        r'database ".*" does not exist',
        "There is no database of that name.",
        "Check the end of {variable}: on Supabase the database is called postgres.",
    ),
    (
        "XX000",
        r"tenant or user not found|tenant_not_found|ENOTFOUND.*tenant",
        "The pooler does not know the project.",
        "Check {variable}: through the pooler the user is postgres.<project's ref>, and the host is that of the "
        "project's region.",
    ),
    (
        "28000",
        r'role ".*" does not exist|is not permitted to log in|no pg_hba\.conf entry|invalid authorization',
        "The database does not let this role in from here.",
        "Check the user in {variable}, run `pipeline migrate` if pipeline_worker is missing, use TLS "
        "(?sslmode=require), and see the project's network restrictions.",
    ),
    (
        "42501",
        r"permission denied for database",
        "The role may not connect to this database.",
        "Grant it, as the owner of the database: `grant connect on database postgres to pipeline_worker;`",
    ),
    (
        "",
        r"failed to resolve|could not translate host name|name or service not known|no address associated",
        "The database's host is not found.",
        "Check the host in {variable}, and the network. A direct connection to a hosted project has an IPv6 address "
        "only: where there is no IPv6, use the session pooler.",
    ),
    (
        "",
        r"does not support SSL|SSL error|certificate",
        "The database and this machine do not agree on TLS.",
        "Check sslmode and sslrootcert in {variable}: verify-full needs the project's CA certificate, from the "
        "dashboard; a server without TLS is for this machine alone.",
    ),
    (
        "",
        r"timeout|timed out|time-out",
        "The database does not answer in time.",
        "Check host and port in {variable}, the network, firewalls between, and the project's network restrictions.",
    ),
    (
        "",
        r"connection refused|network is unreachable|no route to host|no such file or directory",
        "Nothing answers at the database's address.",
        "Check host and port (5432) in {variable}, and that the database runs. A direct connection to a hosted project "
        "has an IPv6 address only: where there is no IPv6, use the session pooler.",
    ),
)
"""SQLSTATE, what libpq or the server says (a refused connection carries no SQLSTATE), our sentence, the remedy."""


def refusal(error: BaseException, use: Use) -> str:
    """Why there is no connection, in one sentence, with the remedy and the server's own words behind."""
    if isinstance(error, SetupError):
        return str(error)
    said = " ".join(str(error).split()) or type(error).__name__
    state = getattr(error, "sqlstate", None)
    timed_out = isinstance(error, (TimeoutError, psycopg.errors.ConnectionTimeout, PoolTimeout))
    for code, words, sentence, remedy in _REFUSALS:
        if (code and state == code) or re.search(words, "timed out" if timed_out else said, re.IGNORECASE):
            if code == "28P01":
                remedy = (
                    "Check {variable}: the role pipeline_worker with the password that `pipeline migrate` gave it "
                    "(`pipeline migrate --new-password` gives another)."
                    if use.variable == LISTENER_VARIABLE
                    else "Check {variable}: the role postgres with the project's database password."
                )
            return f"{sentence} {remedy.format(variable=use.variable)}\n({said})"
    return f"The database cannot be reached. Check {use.variable}.\n({said})"


def reason(error: BaseException) -> str:
    """The same in a few words, for a log."""
    return refusal(error, LISTENER).partition(".")[0] if isinstance(error, psycopg.OperationalError) else repr(error)
