"""Which connections a listener refuses to work over, before anything is claimed; each refusal says what to do."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import uuid
from typing import Any

import psycopg

from pipeline.db.connection import GUARD, connect, parts, refusal, register_vectors
from pipeline.db.connection import LISTENER_VARIABLE as VARIABLE
from pipeline.errors import SetupError
from pipeline.settings import Settings

_USE_5432 = "Use the direct connection or the session pooler: port 5432."
_NAMED = ("host", "hostaddr", "service", "sslmode")
"""What libpq takes from the environment where the string does not say it."""
_ENCRYPTED = ("require", "verify-ca", "verify-full")
_ARRIVES_SECONDS = 5.0


def require(value: str, variable: str, purpose: str) -> None:
    """Raises SetupError when a setting is empty."""
    if not value:
        raise SetupError(f"{variable} is not set; {purpose} needs it.")


def database_url(settings: Settings) -> str:
    """The listener's connection string; raises SetupError when it cannot work.

    LISTEN does not pass through transaction pooling, and a remote database is not spoken to in the clear.
    """
    url = settings.database_url.get_secret_value()
    require(url, VARIABLE, "the listener")
    found = parts(url, GUARD)
    said = {name: str(found.get(name) or os.environ.get(f"PG{name.upper()}", "")) for name in _NAMED}
    hosts = (said["hostaddr"] or said["host"]).split(",")
    # a service may name any host
    if (said["service"] or not all(map(_is_here, hosts))) and said["sslmode"] not in _ENCRYPTED:
        raise SetupError(
            f"{VARIABLE} names a remote host without TLS. Add ?sslmode=verify-full&sslrootcert=<the project's CA>."
        )
    return url


def database_name(url: str) -> str:
    """Host and name of the database, for a sentence; never the user or the password."""
    found = parts(url, GUARD)
    host = found.get("host") or found.get("hostaddr") or os.environ.get("PGHOST") or "localhost"
    port = found.get("port") or os.environ.get("PGPORT") or 5432
    return f"{host}:{port}/{found.get('dbname') or 'postgres'}"


def _is_here(host: str) -> bool:
    """Whether what is said to the host stays on this machine; the empty one is a socket."""
    if host == "localhost" or host.startswith(("/", "@")) or not host:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def guard(url: str) -> None:
    """Raises SetupError for a role that may do too much or too little, a database that is not migrated, and a pooler
    that keeps notifications to itself."""
    try:
        async with await connect(url, GUARD) as connection:
            row = await (
                await connection.execute(
                    "select current_user, r.rolsuper, pg_has_role(current_user, 'pipeline_worker', 'member'), "
                    "case when has_schema_privilege(n.oid, 'usage') "
                    "then to_regprocedure('pipeline.claim(text, integer, interval, integer)') end is not null "
                    "from pg_roles r left join pg_namespace n on n.nspname = 'pipeline' where r.rolname = current_user"
                )
            ).fetchone()
            assert row is not None
            user, superuser, is_worker, migrated = row
            if superuser:
                raise SetupError(f"The listener refuses to work as the superuser {user}. Use the role pipeline_worker.")
            if not is_worker:
                raise SetupError(f"The role {user} may not work as pipeline_worker. Use the role pipeline_worker.")
            if not migrated:
                raise SetupError("The database is not migrated. Run `pipeline migrate`.")
            await register_vectors(connection)
            await _platform_can_work(connection)
            if not await _notifications_arrive(connection, url):
                raise SetupError(
                    f"{VARIABLE} leads through a pooler that does not deliver notifications, as in transaction mode. "
                    f"{_USE_5432}"
                )
    except psycopg.errors.UndefinedObject:
        raise SetupError(
            "The database is not migrated: it has no role pipeline_worker. Run `pipeline migrate`."
        ) from None
    except (psycopg.OperationalError, TimeoutError) as error:
        raise SetupError(refusal(error, GUARD)) from None


async def _platform_can_work(connection: psycopg.AsyncConnection) -> None:
    """Our own connections set what they need. Those of Storage and the Data API do not, and with some defaults there
    would be no upload, no job, or no row for its owner: better to say so than to wait for work that cannot come."""
    row = await (await connection.execute("show default_transaction_read_only")).fetchone()
    if row == ("on",):
        raise SetupError(
            "The whole server is read-only, as the platform makes it when the disk is nearly full, or it is a replica. "
            "Free space or enlarge the disk (dashboard: Settings, Database), and start again."
        )
    rows = await (await connection.execute(_HARMFUL_DEFAULTS.encode())).fetchall()
    if rows:
        found = " and ".join(f"{setting} for {subject}" for setting, subject in rows)
        mend = " ".join(f"alter {subject} reset {setting.partition(' = ')[0]};" for setting, subject in rows)
        raise SetupError(
            f"With a default of this project uploads or their owners' queries cannot work: {found}. "
            f"Run as the role postgres: `{mend}`"
        )


_HARMFUL_DEFAULTS = """
select s.name || ' = ' || s.value as setting,
       case when d.setrole = 0 then pg_catalog.format('database %I', pg_catalog.current_database())
            else pg_catalog.format('role %I', r.rolname) || case when d.setdatabase <> 0
                 then pg_catalog.format(' in database %I', pg_catalog.current_database()) else '' end end as subject
  from pg_catalog.pg_db_role_setting d
  left join pg_catalog.pg_roles r on r.oid = d.setrole
 cross join lateral (select pg_catalog.split_part(c, '=', 1) as name, pg_catalog.split_part(c, '=', 2) as value
                       from pg_catalog.unnest(d.setconfig) as u (c)) s
 where d.setdatabase in (0, (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()))
   and (d.setrole = 0 or r.rolname in ('authenticator', 'supabase_storage_admin', 'supabase_auth_admin', 'anon',
                                       'authenticated', 'service_role'))
   and (s.name = 'row_security' and s.value in ('off', 'false', 'no', '0')
        or s.name = 'default_transaction_read_only' and s.value in ('on', 'true', 'yes', '1')
        or s.name = 'session_replication_role' and s.value <> 'origin')
 order by 1, 2
"""
NOT_WHOLE = (
    "The project is not whole, as after a restore: {missing} missing. Run `pipeline migrate`, and then "
    "`pipeline doctor --fix`."
)


async def detached(connection: psycopg.AsyncConnection[Any]) -> list[str]:
    """What is missing on the platform's tables, by name; the listener's role may ask."""
    rows = await (await connection.execute("select kind, name, relation from pipeline.detached()")).fetchall()
    return [f"{kind} {name} on {relation}" for kind, name, relation in rows]


async def whole(url: str) -> None:
    """Raises SetupError for a project whose triggers, policies or bucket are gone: what is uploaded or deleted there
    goes unseen, and a listener would work on what is no longer so."""
    async with await connect(url, GUARD) as connection:
        try:
            missing = [part for part in await detached(connection) if not part.endswith("realtime.messages")]
        except (psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege):
            raise SetupError("The database is of another release. Run `pipeline migrate`.") from None
    if missing:
        named = missing[0] if len(missing) == 1 else f"{missing[0]} and {len(missing) - 1} more"
        raise SetupError(NOT_WHOLE.format(missing=f"{named} {'is' if len(missing) == 1 else 'are'}"))


async def _notifications_arrive(listening: psycopg.AsyncConnection, url: str) -> bool:
    """Whether the connection hears what another one says.

    A pooler in transaction mode answers LISTEN, and forgets it with the statement: nothing fails, and nothing comes. No
    port and no version tells, so it is tried.
    """
    channel = f"pipeline_guard_{uuid.uuid4().hex}"
    await listening.execute(f"listen {channel}".encode())
    async with await connect(url, GUARD) as other:
        await other.execute("select pg_catalog.pg_notify(%s, '')", (channel,))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ARRIVES_SECONDS):
            async for _ in listening.notifies():
                return True
    return False
