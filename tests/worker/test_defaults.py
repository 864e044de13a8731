"""Hostile defaults, of the database or of its roles: everything is as with Postgres's own, or a listener refuses to
start and names the remedy."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import dict_row
from typer.testing import CliRunner

from cli.main import app
from pipeline.app import run_listener
from pipeline.db.connection import OPERATOR, connect
from pipeline.embedded import _gateway
from pipeline.embedded.gateway.tokens import Keys
from pipeline.embedded.postgres import SUPERUSER, PostgresServer
from pipeline.errors import SetupError
from pipeline.operate import migrate
from tests.project import SPACE, WORKER_PASSWORD, Project
from tests.world import Watch, lift_quotas, listener_settings, new_user

DEFAULTS = {
    "german dates": {"datestyle": "German"},
    "day first": {"datestyle": "SQL, DMY"},
    "postgres dates": {"datestyle": "Postgres, YMD"},
    "read uncommitted": {"default_transaction_isolation": "read uncommitted"},
    "repeatable read": {"default_transaction_isolation": "repeatable read"},
    "serializable": {"default_transaction_isolation": "serializable"},
    "no path": {"search_path": ""},
    "a foreign path": {"search_path": "nowhere, pg_temp"},
    "time zone": {"timezone": "Asia/Kathmandu"},
    "escaped bytes": {"bytea_output": "escape"},
    "a second": {"statement_timeout": "1s"},
    "intervals": {"intervalstyle": "iso_8601"},
    "sql intervals": {"intervalstyle": "sql_standard"},
    "short floats": {"extra_float_digits": "-3"},
    "old strings": {"standard_conforming_strings": "off", "escape_string_warning": "off", "backslash_quote": "on"},
    "impatient": {"lock_timeout": "10s", "idle_session_timeout": "10s", "idle_in_transaction_session_timeout": "5s"},
    "another encoding": {"client_encoding": "LATIN1"},
}
REFUSED = {
    "read-only": {"default_transaction_read_only": "on"},
    "no row security": {"row_security": "off"},
}
OURS = ("postgres", "pipeline_worker")
ROLES = (*OURS, "authenticator", "authenticated", "service_role")
TEXT = (
    "# Path\\of.the file\n\nThe deductible for a knee surgery is 500 dollars, said the clerk on 3 May 2026 at 10:15.\n"
)
_numbers = itertools.count()


class Clone(Project):
    """A migrated database of its own on the server, with a gateway."""

    def __init__(self, server: PostgresServer, name: str, keys: Keys) -> None:
        self.server, self.name, self.keys = server, name, keys
        self.api_url = ""
        self.anon_key, self.service_role_key = keys.anon, keys.service_role
        self.worker_password = WORKER_PASSWORD

    def url(self, role: str, *, password: str | None = None) -> str:
        return self.server.url(role, self.name, password=password)

    def url_as(self, role: str, password: str | None = None) -> str:
        return self.url(role, password=password)

    @property
    def db_url(self) -> str:  # type: ignore[override]
        return self.url("postgres")

    @property
    def worker_url(self) -> str:  # type: ignore[override]
        return self.url("pipeline_worker", password=self.worker_password)


@pytest_asyncio.fixture(scope="module")
async def ground() -> AsyncIterator[tuple[PostgresServer, Path]]:
    with tempfile.TemporaryDirectory(prefix="pipeline-tests-") as folder:
        Path(folder).chmod(0o711)
        server = await PostgresServer.start(Path(folder) / "data")
        try:
            await migrate.apply(server.url("postgres"), worker_password=WORKER_PASSWORD, activate_space=SPACE)
            await lift_quotas(server.url("postgres"))
            yield server, Path(folder)
        finally:
            await server.stop()


@contextlib.asynccontextmanager
async def with_defaults(
    ground: tuple[PostgresServer, Path], defaults: dict[str, str], roles: tuple[str, ...] = (), *, late: bool = False
) -> AsyncIterator[Clone]:
    """A clone whose database, or these roles in it, has the defaults; `late`: after the platform has started."""
    server, folder = ground
    name = f"defaults_{next(_numbers)}"
    async with await psycopg.AsyncConnection.connect(server.url(SUPERUSER, "template1"), autocommit=True) as root:
        await root.execute(f"create database {name} template postgres owner postgres".encode())
        try:
            if not late:
                await _set(root, name, defaults, roles)
            clone = Clone(server, name, Keys.load(folder / f"{name}.json", "HS256"))
            async with _gateway(clone, clone.keys, folder / name, None) as clone.api_url:  # type: ignore[arg-type]
                if late:
                    await _set(root, name, defaults, roles)
                yield clone
        finally:
            await root.execute(f"drop database {name} with (force)".encode())


async def _set(root: psycopg.AsyncConnection, name: str, defaults: dict[str, str], roles: tuple[str, ...]) -> None:
    for subject in [f"role {role} in database {name}" for role in roles] or [f"database {name}"]:
        for setting, value in defaults.items():
            shown = value if setting == "search_path" and value else f"'{value}'"
            await root.execute(f"alter {subject} set {setting} = {shown}".encode())


@contextlib.asynccontextmanager
async def listener(clone: Clone, **more: Any) -> AsyncIterator[None]:
    stop, ready = asyncio.Event(), asyncio.Event()
    settings = listener_settings(clone, concurrency=1, **more)
    task = asyncio.create_task(run_listener(settings, stop=stop, ready=ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        if not task.done():
            yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


def commands(owner: str, job: int) -> list[list[str]]:
    """Each command that reads the database, and some that write."""
    return [
        ["check"],
        ["migrate", "--dry-run"],
        ["jobs", "list"],
        ["jobs", "list", "--json"],
        ["jobs", "show", str(job)],
        ["jobs", "show", str(job), "--json"],
        ["erasures", "list"],
        ["erasures", "list", "--json"],
        ["costs"],
        ["costs", "--json"],
        ["limits", "list"],
        ["limits", "set", "--owner", owner, "--max-concurrent-jobs", "3"],
        ["limits", "show", owner, "--json"],
        ["providers", "list", "--json"],
        ["budgets", "set", "10"],
        ["budgets", "list"],
        ["prices", "list"],
        ["pause", "--json"],
        ["resume"],
    ]


async def journey(clone: Clone, tmp_path: Path) -> dict[str, Any]:
    """What a project's people see: upload, search, every command; two listeners at once."""
    seen: dict[str, Any] = {}
    async with await connect(clone.db_url, OPERATOR, row_factory=dict_row) as admin:
        watch = Watch(admin)
        user, gone = await new_user(clone), await new_user(clone)
        worker = clone.url("pipeline_worker", password=WORKER_PASSWORD)
        async with listener(clone, database_url=worker), listener(clone, database_url=clone.db_url):
            for name in ("a.md", "b.md", "c.md"):
                await user.upload(name, f"{TEXT} File {name}.".encode())
            await gone.upload("a.md", TEXT.encode())
            ended = [await watch.ended(user, name) for name in ("a.md", "b.md", "c.md")]
            seen["states"] = [(job["state"], job["failures"], job["attempt"]) for job in ended]
            await watch.ended(gone, "a.md")
            jobs = (await user.client.table("jobs").select("*").execute()).data
            seen["jobs"] = sorted(_plain(json.dumps(job)) for job in jobs)
            for question in ("knee surgery", '"a knee"', "path\\of deductible -elephant", "10:15"):
                seen[question] = [
                    (hit["name"].split("/")[1], hit["content"], round(hit["score"], 2))
                    for hit in sorted(await user.search(question), key=lambda hit: hit["name"])
                ]
            await admin.execute("delete from auth.users where id = %s", (gone.id,))
            await watch.until("select from pipeline.erasures where emptied_at is not null")
            seen["refused name"] = await _refusal(user.upload("../x.md", b"x"))
            environment = {
                "UPLOAD_PIPELINE_DATABASE_URL": worker,
                "UPLOAD_PIPELINE_MIGRATION_DATABASE_URL": clone.db_url,
                "UPLOAD_PIPELINE_SUPABASE_URL": clone.api_url,
                "UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY": clone.service_role_key,
                "UPLOAD_PIPELINE_PARSER": "local",
                "UPLOAD_PIPELINE_EMBEDDER": "local",
                "PATH": os.environ["PATH"],
                "COLUMNS": "200",
            }
            for arguments in commands(user.id, ended[0]["id"]):
                result = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)
                shown = _plain(result.stdout + result.stderr + repr(result.exception or ""))
                seen[" ".join(arguments[:2]) + (" json" if "--json" in arguments else "")] = (result.exit_code, shown)
        seen["violations"] = await (await admin.execute("select * from pipeline.invariant_violations")).fetchall()
    return seen


async def _refusal(work: Any) -> str:
    try:
        await work
    except Exception as error:
        return _plain(str(error))
    return "no refusal"


def _plain(text: str) -> str:
    """Without what differs from one project to the next; the shape of a date stays."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>", text)
    text = re.sub(r"[^\s\"]+:\d+:[0-9a-f]{6}", "<listener>", text)
    text = re.sub(r"(\bkey |fingerprint\W+)[0-9a-f]{8,}\b", r"\1<key>", text)
    text = re.sub(r"\d+", "9", text)
    return re.sub(r"[ ─━│]+", " ", text)


@pytest_asyncio.fixture(scope="module")
async def expected(ground, tmp_path_factory) -> dict[str, Any]:
    """What is seen with Postgres's own defaults."""
    async with with_defaults(ground, {}) as clone:
        seen = await journey(clone, tmp_path_factory.mktemp("expected"))
    assert seen["states"] == [("completed", 0, 1)] * 3
    assert seen["violations"] == []
    assert [seen[q] and seen[q][0][0] for q in ("knee surgery", '"a knee"', "10:15")] == ["a.md"] * 3
    assert {code for code, _ in (v for k, v in seen.items() if isinstance(v, tuple))} == {0}, json.dumps(seen, indent=1)
    return seen


def _same(seen: dict[str, Any], expected: dict[str, Any]) -> None:
    assert seen.keys() == expected.keys()
    for what in expected:
        assert seen[what] == expected[what], f"{what}: {seen[what]}\ninstead of {expected[what]}"


def _everything() -> dict[str, str]:
    """All of it at once, the last of a kind holding."""
    merged: dict[str, str] = {}
    for defaults in DEFAULTS.values():
        merged |= defaults
    return merged


SAMPLED = random.Random(15).sample([(a, b) for a, b in itertools.combinations(DEFAULTS, 2)], 2)


@pytest.mark.parametrize("roles", [(), ROLES], ids=["database", "roles"])
@pytest.mark.parametrize("name", ["everything", *(" and ".join(pair) for pair in SAMPLED)])
async def test_hostile_defaults_change_nothing_that_anybody_sees(ground, expected, tmp_path, name, roles):
    defaults = _everything() if name == "everything" else _of(name)
    async with with_defaults(ground, defaults, roles) as clone:
        _same(await journey(clone, tmp_path), expected)


@pytest.mark.soak
@pytest.mark.parametrize("roles", [(), ROLES], ids=["database", "roles"])
@pytest.mark.parametrize("name", DEFAULTS)
async def test_each_hostile_default_changes_nothing_that_anybody_sees(ground, expected, tmp_path, name, roles):
    async with with_defaults(ground, DEFAULTS[name], roles) as clone:
        _same(await journey(clone, tmp_path), expected)


def _of(name: str) -> dict[str, str]:
    merged: dict[str, str] = {}
    for part in name.split(" and "):
        merged |= DEFAULTS[part]
    return merged


@pytest.mark.parametrize("roles", [(), ROLES], ids=["database", "roles"])
@pytest.mark.parametrize("name", REFUSED)
async def test_a_default_with_which_uploads_cannot_work_is_refused_with_the_remedy(ground, name, roles):
    ((setting, _),) = REFUSED[name].items()
    async with with_defaults(ground, REFUSED[name], roles, late=True) as clone:
        for url in (clone.url("pipeline_worker", password=WORKER_PASSWORD), clone.db_url):
            with pytest.raises(SetupError, match=f"{setting} = ") as refused:
                async with listener(clone, database_url=url):
                    pass
        remedy = re.search(r"`(.*)`", str(refused.value))
        assert remedy is not None
        async with await psycopg.AsyncConnection.connect(
            clone.server.url(SUPERUSER, clone.name), autocommit=True
        ) as root:
            await root.execute("set default_transaction_read_only = off")
            await root.execute(remedy[1].encode())
        async with listener(clone):
            pass


@pytest.mark.parametrize("name", REFUSED)
async def test_the_same_for_our_own_roles_alone_is_overridden(ground, expected, tmp_path, name):
    async with (
        with_defaults(ground, REFUSED[name], OURS, late=True) as clone,
        listener(clone),
        listener(clone, database_url=clone.db_url),
    ):
        pass
