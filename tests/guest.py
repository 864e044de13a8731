"""What `pytest --project` does to a project around the tests: it looks before it touches, takes turns, and cleans up.

All of it as `postgres` and through the project's HTTP API, with the rights that a hosted project gives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from pipeline.errors import SetupError
from pipeline.operate import migrate
from tests.project import MADE_BY_US, SPACE, NamedProject

RUNS, TURN = "pipeline suites: a run", "pipeline suites: a turn"
"""Advisory locks: shared by every run, and held by the one whose file runs."""
_OURS = (
    r"(u.email ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}@example\.(org|com)$' "
    "or u.raw_user_meta_data @> %(mark)s)"
)
"""The users that the suites make: a uuid at a domain that belongs to nobody, or a mark."""
INSTEAD = """\
The suites make and delete users and files, so they run beside nobody's data, and nothing overrides that. Use a
project that is thrown away afterwards: `pipeline dev --no-listener --env-file .env`, `supabase start`, or a new hosted
project."""

_OTHERS = {
    "users": f"select count(*) as n from auth.users u where not coalesce({_OURS}, false)",
    "files in the bucket documents": "select count(*) as n from storage.objects o where o.bucket_id = 'documents' "
    f"and not exists (select from auth.users u where {_OURS} and u.id::text = split_part(o.name, '/', 1))",
    "documents": "select count(*) as n from pipeline.documents d "
    f"where not exists (select from auth.users u where {_OURS} and u.id = d.owner_id)",
}
_MADE = {
    "users": "select id::text from auth.users",
    "buckets": "select id from storage.buckets",
    "listeners": "select id from pipeline.listeners",
    "erasures": "select id::text from pipeline.erasures",
}
_SETTINGS = {
    "pipeline.settings": "true",
    "pipeline.limits": "owner_id is null",
}
"""Rows that hold for the whole project."""


@dataclass
class Found:
    """What was there when a turn began."""

    made: dict[str, set[str]]
    settings: dict[str, dict[str, Any]]
    space: str
    connections: int


@dataclass
class Guest:
    """One run's visit: `arrive`, then turns, then `leave`."""

    project: NamedProject
    say: Callable[[str], None]
    stays: list[str] = field(default_factory=list)
    """What remains and is meant to, in words."""

    def __post_init__(self) -> None:
        self._found: Found | None = None
        self._made: dict[str, set[str]] = {what: set() for what in _MADE}

    # what any part of it does

    def _sql(self, query: str, *params: Any, **named: Any) -> list[dict[str, Any]]:
        cursor = self._connection.execute(query.encode(), named or params or None)
        return cursor.fetchall() if cursor.description else []

    def _http(self, method: str, path: str, body: Any = None) -> httpx.Response:
        key = self.project.service_role_key
        headers = {"apikey": key} | ({} if key.startswith("sb_") else {"authorization": f"Bearer {key}"})
        answer = self._client.request(method, f"{self.project.api_url}{path}", headers=headers, json=body)
        if answer.status_code >= 400:
            raise SetupError(f"{method} {path}: HTTP {answer.status_code}, {answer.text[:200]}")
        return answer

    def _lock(self, name: str) -> None:
        if not self._sql("select pg_try_advisory_lock(hashtext(%s)) as got", name)[0]["got"]:
            self.say("Another run is at work on this project; waiting for its turn to end.")
            self._sql("select pg_advisory_lock(hashtext(%s))", name)

    def _unlock(self, name: str) -> None:
        self._sql("select pg_advisory_unlock(hashtext(%s))", name)

    # before the first test

    def arrive(self) -> None:
        """Raises SetupError, and has changed nothing, where the suites must not run."""
        self._client = httpx.Client(timeout=60)
        try:
            self._connection = psycopg.connect(
                self.project.db_url, autocommit=True, row_factory=dict_row, prepare_threshold=None, connect_timeout=15
            )
        except psycopg.OperationalError as error:
            raise SetupError(f"UPLOAD_PIPELINE_MIGRATION_DATABASE_URL lets nobody in: {error}") from None
        self._sql("set statement_timeout = 0; set idle_session_timeout = 0")
        self._lock(TURN)
        try:
            self._refuse_the_data_of_others()
            self._refuse_listeners()
            self._migrate()
            # nobody else runs: what is there of the suites was left by a run that was killed
            if self._sql("select pg_try_advisory_lock(hashtext(%s)) as got", RUNS)[0]["got"]:
                for row in self._sql(f"select id::text from auth.users u where {_OURS}", mark=Jsonb(MADE_BY_US)):
                    self._made["users"].add(row["id"])
                if self._made["users"]:
                    self.say(f"An earlier run left {len(self._made['users'])} users; they go first.")
                    self._remove_users()
                self._unlock(RUNS)
            self._sql("select pg_advisory_lock_shared(hashtext(%s))", RUNS)
        finally:
            self._unlock(TURN)

    def _refuse_the_data_of_others(self) -> None:
        migrated = self._sql("select to_regclass('pipeline.documents') is not null as yes")[0]["yes"]
        found = []
        for what, query in _OTHERS.items():
            if what == "documents" and not migrated:
                continue
            count = self._sql(query, mark=Jsonb(MADE_BY_US))[0]["n"]
            if count:
                found.append(f"{count} {what}")
        if found:
            raise SetupError(
                f"{self.project.api_url} holds {', '.join(found)} that the suites did not make.\n{INSTEAD}"
            )

    def _refuse_listeners(self) -> None:
        [row] = self._sql("select count(*) as n from pg_stat_activity where application_name = 'pipeline listen'")
        if row["n"]:
            raise SetupError(
                f"{row['n']} listeners are at work on {self.project.api_url}. Stop them: the suites start their own, "
                "and look at jobs that wait. (`pipeline dev --no-listener` starts none.)"
            )

    def _migrate(self) -> None:
        password = self.project.worker_password if self.project.worker_signs_in else None
        missing = asyncio.run(migrate.pending(self.project.db_url))
        if missing:
            self.say(f"Applying {len(missing)} migrations.")
            asyncio.run(migrate.apply(self.project.db_url, worker_password=password))
            self.stays.append(f"the schema: {len(missing)} migrations were applied")
        try:
            psycopg.connect(self.project.worker_url, connect_timeout=15).close()
        except psycopg.OperationalError as error:
            raise SetupError(
                f"UPLOAD_PIPELINE_DATABASE_URL lets nobody in: {error}\n"
                "`pipeline migrate --new-password` prints another one."
            ) from None

    # turns

    def take_turn(self) -> None:
        """Wait until no other run's file runs, and remember what is there; nothing where it is our turn already."""
        if self._found is not None:
            return
        self._lock(TURN)
        self._found = Found(
            made=self._everything(),
            settings={
                table: self._sql(f"select to_jsonb(t) as row from {table} t where {which}")[0]["row"]
                for table, which in _SETTINGS.items()
            },
            space=self._sql("select name from pipeline.spaces where active")[0]["name"],
            connections=self._worker_connections(),
        )
        self._sql("update pipeline.limits set uploads_per_day = null where owner_id is null")
        self._sql("select pipeline.activate_space(%s)", SPACE)

    def end_turn(self) -> None:
        """Put back the project's settings, and note what was made meanwhile."""
        found, self._found = self._found, None
        if found is None:
            return
        for what, now in self._everything().items():
            self._made[what] |= now - found.made[what]
        for table, row in found.settings.items():
            columns = ", ".join(row)
            self._sql(
                f"update {table} set ({columns}) = (select {columns} from jsonb_populate_record(null::{table}, %s)) "
                f"where {_SETTINGS[table]}",
                Jsonb(row),
            )
        if self._worker_connections() != found.connections:
            self._sql(f"alter role pipeline_worker connection limit {found.connections}")
        self._sql("select pipeline.activate_space(%s)", found.space)
        self._unlock(TURN)

    def _everything(self) -> dict[str, set[str]]:
        return {what: {row["id"] for row in self._sql(query)} for what, query in _MADE.items()}

    def _worker_connections(self) -> int:
        return self._sql("select rolconnlimit as n from pg_roles where rolname = 'pipeline_worker'")[0]["n"]

    # after the last test

    def leave(self) -> list[str]:
        """Remove what was made; returns what is still there, in words."""
        self.end_turn()
        self._lock(TURN)
        left: list[str] = []
        for remove in (self._remove_users, self._remove_receipts, self._remove_buckets, self._remove_listeners):
            try:
                remove()
            except (SetupError, psycopg.Error, httpx.HTTPError) as error:
                left.append(f"{remove.__name__.removeprefix('_remove_')}: {error}")
        left += self._still_there()
        self._connection.close()
        self._client.close()
        return left

    def _remove_users(self) -> None:
        """One after the other, each whole, so that an interruption leaves as little as it can."""
        there = {row["id"] for row in self._sql("select id::text from auth.users")}
        for number, user in enumerate(sorted(self._made["users"])):
            if number % 50 == 49:
                self.say(f"Cleaning up: {number + 1} of {len(self._made['users'])} users.")
            if user in there:
                self._http("DELETE", f"/auth/v1/admin/users/{user}")
            for row in self._sql("select id from pipeline.erasures where owner_id = %s", user):
                self._erase(row["id"], user)

    def _remove_receipts(self) -> None:
        """Of the users that the tests themselves deleted."""
        wanted = [int(id) for id in self._made["erasures"]]
        for row in self._sql("select id, owner_id::text from pipeline.erasures where id = any (%s)", wanted):
            if row["owner_id"] is None:
                self._sql("delete from pipeline.erasures where id = %s", row["id"])
            else:
                self._made["users"].add(row["owner_id"])
                self._erase(row["id"], row["owner_id"])

    def _erase(self, erasure: int, user: str) -> None:
        """What a listener does, and the receipt too, which would bear witness to nobody."""
        while True:
            for row in self._sql("select pipeline.files_of(%s, 200) as names", user):
                if row["names"]:
                    self._http("DELETE", "/storage/v1/object/documents", {"prefixes": row["names"]})
            state = self._sql("select pipeline.erase(%s) as state", erasure)[0]["state"]
            if state in ("emptied", "completed"):
                break
        self._sql("delete from pipeline.erasures where id = %s", erasure)
        self._sql("delete from pipeline.owners where owner_id = %s", user)

    def _remove_buckets(self) -> None:
        there = {row["id"] for row in self._sql("select id from storage.buckets")}
        for bucket in sorted(self._made["buckets"] & there):
            self._http("POST", f"/storage/v1/bucket/{bucket}/empty", {})
            self._http("DELETE", f"/storage/v1/bucket/{bucket}")

    def _remove_listeners(self) -> None:
        self._sql("delete from pipeline.listeners where id = any (%s)", list(self._made["listeners"]))

    def _still_there(self) -> list[str]:
        """Looked for in every table that knows an owner."""
        ours = list(self._made["users"])
        counts = {
            "auth.users": "select count(*) as n from auth.users where id::text = any (%s)",
            "storage.objects": "select count(*) as n from storage.objects where split_part(name, '/', 1) = any (%s)",
        }
        for row in self._sql(
            "select c.oid::regclass::text as name from pg_class c join pg_attribute a on a.attrelid = c.oid "
            "where c.relnamespace = 'pipeline'::regnamespace and c.relkind in ('r', 'p') and a.attname = 'owner_id'"
        ):
            counts[row["name"]] = f"select count(*) as n from {row['name']} where owner_id::text = any (%s)"
        found = {table: self._sql(query, ours)[0]["n"] for table, query in counts.items()}
        return [f"{count} rows of {table}" for table, count in found.items() if count]
