"""What `pipeline check` looks at: each finding says what is wrong and what to do."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from typing import Any

import psycopg

from pipeline import app
from pipeline.db.connection import GUARD, OPERATOR, connect, open_pool
from pipeline.db.guard import database_name, database_url, guard
from pipeline.db.queries import SCHEMA_VERSION, Queries
from pipeline.errors import Misconfigured, SetupError, Throttled
from pipeline.local.parser import fences
from pipeline.operate import migrate
from pipeline.operate.checks import schema, work
from pipeline.operate.checks.finding import Finding
from pipeline.providers.answers import KEY, price_wanted
from pipeline.settings import Settings
from pipeline.work.filestore import AnotherProject, FileStore
from pipeline.work.storage import Storage, Unread


async def check(settings: Settings) -> list[Finding]:
    """Look at settings, connections, roles, keys and spaces; never raises for what it finds."""
    findings = []
    reached = None
    try:
        url = database_url(settings)
        await guard(url)
        reached = url
        findings.append(Finding("database", True, "the listener's role can connect and the schema is there"))
        findings += await _asked("queue", _schema(url))
        findings += await _asked("providers", _providers(url))
        findings += await _asked("lost files", _lost_files(url))
        findings += await _asked("prices", _prices(url, settings))
    except SetupError as error:
        findings.append(_from(error, "database"))
    findings.append(await _storage(settings, reached))
    findings += await _space(settings)
    if settings.parser == "local":
        findings.append(isolation(fences()))
    migration_url = settings.migration_database_url.get_secret_value()
    if migration_url:
        try:
            missing = await migrate.pending(migration_url)
            findings.append(
                Finding(
                    "migrations",
                    not missing,
                    f"{len(missing)} to apply" if missing else "all applied",
                    "Run `pipeline migrate`." if missing else "",
                )
            )
            findings += await _operators(migration_url, settings)
        except SetupError as error:
            findings.append(_from(error, "migrations"))
    return findings


async def _asked(name: str, answer: Awaitable[list[Finding]]) -> list[Finding]:
    """The findings, or that the database does not hold what was asked for."""
    try:
        return await answer
    except psycopg.Error as error:
        said = error.diag.message_primary or str(error)
        return [Finding(name, False, f"could not be looked at: {said}", "Run `pipeline migrate`.")]


async def _operators(url: str, settings: Settings) -> list[Finding]:
    """What only the operators' role sees."""
    async with await connect(url, OPERATOR) as connection:
        row = await (await connection.execute("select to_regnamespace('pipeline') is not null")).fetchone()
        if not row or not row[0]:
            return []
        whole = await _asked("catalogue", schema.whole(connection))
        return whole + await _asked("work", work.look(connection, settings.max_file_size_bytes))


def _from(error: SetupError, name: str) -> Finding:
    detail, remedy = re.split(r"\. |\n", str(error) + "\n", maxsplit=1)
    return Finding(name, False, detail, remedy.strip())


def isolation(found: dict[str, bool]) -> Finding:
    """What `fences()` says, for an operator."""
    missing = [what for fence, (what, _) in _FENCES.items() if not found[fence]]
    if not missing:
        return Finding("parser isolation", True, "files are parsed without a network, files of others or new programs")
    return Finding(
        "parser isolation",
        None,
        f"this kernel cannot keep the parser's process from {' and '.join(missing)}",
        "; ".join(remedy for fence, (_, remedy) in _FENCES.items() if not found[fence])
        + ", or keep the listener's machine from reaching what it should not.",
    )


_FENCES = {
    "network": ("the network", "Allow seccomp or user namespaces"),
    "files": ("reading what its user may read", "Use Linux 5.13 or newer with Landlock"),
    "calls": ("starting programs", "Allow seccomp"),
}


def _erasures(row: Sequence[Any]) -> Finding:
    waiting, failing, since, reason = row
    if not waiting:
        return Finding("erasures", True, "nothing is left of deleted users")
    return Finding(
        "erasures",
        not failing,
        f"something is left of {waiting} deleted users, the first since {since:%Y-%m-%d %H:%M}"
        + (f"; {failing} fail: {reason}" if failing else ""),
        "See `pipeline erasures list --unfinished`; the service key must be able to delete files." if failing else "",
    )


async def _schema(url: str) -> list[Finding]:
    async with await connect(url, GUARD) as connection:
        row = await (
            await connection.execute("select schema_version, paused, paused_at from pipeline.settings")
        ).fetchone()
        health = await (
            await connection.execute("select due, listeners, listener_last_seen_at from pipeline.health()")
        ).fetchone()
        erasures = await (await connection.execute("select * from pipeline.erasures_waiting()")).fetchone()
        platform = await schema.attached(connection)
    assert row is not None
    assert health is not None
    assert erasures is not None
    findings = [
        platform,
        Finding(
            "schema version",
            row[0] == SCHEMA_VERSION,
            f"the database speaks {row[0]}, this release {SCHEMA_VERSION}",
            "" if row[0] == SCHEMA_VERSION else "Run `pipeline migrate`, or start the release that fits.",
        ),
        Finding(
            "queue",
            not row[1],
            f"paused since {row[2]:%Y-%m-%d %H:%M}" if row[1] else f"{health[0]} jobs due",
            "Run `pipeline resume`." if row[1] else "",
        ),
    ]
    findings.append(_erasures(erasures))
    seen = f"last seen {health[2]:%Y-%m-%d %H:%M:%S %Z}" if health[2] else "never seen"
    findings.append(
        Finding(
            "listeners",
            health[1] > 0,
            f"{health[1]} at work" if health[1] else f"none at work, {seen}",
            "" if health[1] else "Start one: `pipeline listen`.",
        )
    )
    return findings


async def _providers(url: str) -> list[Finding]:
    """The keys that listeners use now; a key that nobody uses any more is nobody's trouble."""
    async with await connect(url, GUARD) as connection:
        rows = await (
            await connection.execute(
                "select provider, fingerprint, stage, state, since, reason, listeners, requests_last_minute, "
                "tokens_last_minute from pipeline.providers() where listeners > 0"
            )
        ).fetchall()
    findings = []
    for provider, key, stage, state, since, reason, listeners, requests, tokens in rows:
        used = f"used by {listeners} listener{'s' if listeners > 1 else ''}"
        if state in ("ready", "cooling"):
            calls = "" if stage == "fetch" else f": {requests} calls and {tokens} tokens in the last minute"
            detail = f"{state}, {used}{calls}"
            findings.append(Finding(f"{provider} key {key}", True, detail))
            continue
        remedy = (
            f"Set {KEY.get(provider, 'its key')}, or the setting that is named, right at those listeners, or add "
            "credit; jobs wait and lose nothing."
            if state == "refused"
            else "Jobs wait and lose nothing; it is tried again by itself."
        )
        detail = f"{state} since {since:%Y-%m-%d %H:%M:%S %Z}, {used}: {reason}"
        findings.append(Finding(f"{provider} key {key}", False, detail, remedy))
    return findings


async def _prices(url: str, settings: Settings) -> list[Finding]:
    """What listeners with these settings could not buy while a budget holds."""
    findings = []
    async with await connect(url, GUARD) as connection:
        for account in filter(None, app.accounts(settings)):
            row = await (
                await connection.execute(
                    "select pipeline.missing_price(%s, %s, %s)", (account.provider, account.model, account.stage)
                )
            ).fetchone()
            if row and row[0]:
                why = "a budget holds and its price is not known, so nothing is bought; jobs wait and lose nothing"
                findings.append(Finding(f"{account.provider} {account.model}", False, why, price_wanted(row[0])))
    return findings


async def _storage(settings: Settings, url: str | None) -> Finding:
    """`url` is the listener's database; None where it cannot be had."""
    key = settings.supabase_service_role_key.get_secret_value()
    if not settings.supabase_url or not key:
        return Finding(
            "storage",
            False,
            "no project or no key is set",
            "Set UPLOAD_PIPELINE_SUPABASE_URL and UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY.",
        )
    storage = Storage(settings.supabase_url, key, settings.max_file_size_bytes)
    try:
        if url is None:
            shown = await storage.bucket_time()
            return Finding("storage", None if shown else False, "it could not be compared with the database")
        async with open_pool(url, size=1) as pool:
            await FileStore(Queries(pool, "check", 60), storage, database_name(url)).examine()
    except AnotherProject as error:
        return _from(SetupError(error.detail), "storage")
    except Unread as unread:
        return _unread(unread.error)
    except (Misconfigured, Throttled) as error:
        return _unread(error)
    except psycopg.Error as error:
        return Finding("storage", None, f"it could not be compared with the database ({type(error).__name__})")
    finally:
        await storage.close()
    return Finding("storage", True, "the service key reads this database's files")


def _unread(error: Misconfigured | Throttled) -> Finding:
    detail, _, setting = error.detail.partition(": check ")
    remedy = f"Check {setting or 'UPLOAD_PIPELINE_SUPABASE_URL and the network'}; jobs wait and lose nothing."
    return Finding("storage", False, detail, remedy)


async def _lost_files(url: str) -> list[Finding]:
    async with await connect(url, GUARD) as connection:
        row = await (await connection.execute("select files, owners from pipeline.lost_files_count()")).fetchone()
    assert row is not None
    files, owners = row
    if not files:
        return [Finding("lost files", True, "Storage has the bytes of all files that were read")]
    return [
        Finding(
            "lost files",
            False,
            f"Storage has no bytes of {files} file{'s' if files > 1 else ''} of {owners} "
            f"user{'s' if owners > 1 else ''}, and their owners were told to upload them again",
            "See the view pipeline.lost_files. If you can bring the bytes back: "
            "`pipeline jobs retry --state dead --error-class lost --all`.",
        )
    ]


async def _space(settings: Settings) -> list[Finding]:
    findings = []
    for name, make in (("parser", app.make_parser), ("embedder", app.make_embedder)):
        try:
            part = make(settings)
            await part.close()
            findings.append(Finding(name, True, getattr(settings, name)))
        except SetupError as error:
            findings.append(_from(error, name))
    try:
        embedder = app.make_embedder(settings)
        async with await connect(database_url(settings), GUARD) as connection:
            row = await (await connection.execute("select name from pipeline.spaces where active")).fetchone()
        active = row[0] if row else "none"
        fits = active == embedder.space.name
        findings.append(
            Finding(
                "space",
                fits,
                f"search reads {active}, this listener writes {embedder.space.name}",
                ""
                if fits
                else f"Change UPLOAD_PIPELINE_EMBEDDER, or run `pipeline migrate --space {embedder.space.name}`.",
            )
        )
        await embedder.close()
    except (SetupError, psycopg.Error, OSError) as error:
        findings.append(Finding("space", None, f"could not be compared ({type(error).__name__})"))
    return findings
