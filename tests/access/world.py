"""Where the attacks in SQL take place: a migrated database with two users' documents, and who one can be in it.

Everything happens in one transaction of the superuser, who can become any role, and is rolled back: an attack leaves
nothing, and a weakened copy of the schema costs a statement instead of a database.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.sql.conftest import Database, made_up_vector

SECRET = "the launch code is zanzibar 4711"
"""A passage of the victim's that nobody else may learn of."""
MARKS = ("zanzibar", "ledger-of-alice")
"""What gives the victim's text away, and her files' names."""
ROLES = ("anon", "authenticated", "service_role", "pipeline_worker")


class RefusedOtherwise(Exception):
    """What had to be refused was, and not by the rule that is there for it: the attack got nowhere."""


class LockedOut(AssertionError):
    """What must work was refused."""


Attack = Callable[["World"], None]
ATTACKS: dict[str, Attack] = {}
"""Every attack in SQL by its name."""
LIFE: set[str] = set()
"""Those that attack nothing, but do what must work. Their docstrings begin with `No attack`."""


def attack(function: Attack) -> Attack:
    """Registers an attack. It raises AssertionError, or lets the database's own error through, when it gets somewhere.

    Its docstring says what the attacker wants and what must happen.
    """
    assert function.__doc__, f"{function.__name__} says neither what the attacker wants nor what must happen"
    assert function.__name__ not in ATTACKS
    ATTACKS[function.__name__] = function
    if function.__doc__.startswith("No attack:"):
        LIFE.add(function.__name__)
    return function


@dataclass
class World:
    """`alice` is the victim, `mallory` another user, `guest` one who signed in anonymously."""

    connection: psycopg.Connection[dict[str, Any]]
    alice: uuid.UUID
    mallory: uuid.UUID
    guest: uuid.UUID
    jobs: dict[str, int] = field(default_factory=dict)
    """Ids of jobs by the name of the file, without the folder."""

    def sql(self, query: str, *params: Any) -> list[dict[str, Any]]:
        cursor = self.connection.execute(query.encode(), params or None)
        return cursor.fetchall() if cursor.description else []

    def one(self, query: str, *params: Any) -> dict[str, Any]:
        rows = self.sql(query, *params)
        assert len(rows) == 1, f"{len(rows)} rows: {query}"
        return rows[0]

    def count(self, query: str, *params: Any) -> int:
        """How many rows a statement writes."""
        return self.connection.execute(query.encode(), params or None).rowcount

    def value(self, query: str, *params: Any) -> Any:
        [value] = self.one(query, *params).values()
        return value

    def be(self, who: uuid.UUID | str, **claims: Any) -> None:
        """Go on as a signed-in user, or as a role of the database ("postgres", "anon", …)."""
        role = "authenticated" if isinstance(who, uuid.UUID) else who
        if isinstance(who, uuid.UUID):
            claims = {"sub": str(who)} | claims
        if role in ("anon", "authenticated", "service_role"):
            claims = {"role": role} | claims
        self.sql(
            "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)", role, json.dumps(claims)
        )

    def be_auth(self) -> None:
        """Go on as the service Auth; where nobody may become it, as postgres, who has its rights on the users."""
        try:
            with self.connection.transaction():
                self.be("supabase_auth_admin")
        except psycopg.errors.InsufficientPrivilege:
            self.be("postgres")

    @contextlib.contextmanager
    def refused(self, *sqlstates: str, match: str = "") -> Iterator[None]:
        """What is tried inside must fail so, and no otherwise."""
        expected = sqlstates or ("42501",)
        try:
            with self.connection.transaction():
                yield
        except psycopg.Error as error:
            said = f"{error.sqlstate}: {error.diag.message_primary}"
            if error.sqlstate not in expected or match not in said:
                raise RefusedOtherwise(f"refused, but with {said}") from error
        else:
            raise AssertionError(f"it was let through; expected {'/'.join(expected)} {match}")

    @contextlib.contextmanager
    def works(self) -> Iterator[None]:
        """What is done inside must work, in the middle of an attack too."""
        try:
            yield
        except psycopg.Error as error:
            raise LockedOut(f"refused, and must work: {error.sqlstate}: {error.diag.message_primary}") from error

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What happens inside leaves nothing."""
        with self.connection.transaction(force_rollback=True):
            yield

    @contextlib.contextmanager
    def as_it_was(self) -> Iterator[None]:
        """Whatever happens inside, and however it ends."""
        try:
            yield
        finally:
            self.connection.rollback()

    def nothing_of_alice(self, rows: list[dict[str, Any]]) -> None:
        text = json.dumps(rows, default=str)
        for mark in (str(self.alice), *MARKS):
            assert mark not in text, f"{mark!r} was learned: {text[:300]}"

    # what the services of the platform do

    def write(self, name: str, *, version: str | None = None, owner: uuid.UUID | None = None, size: int = 4) -> None:
        """An upload's insert, as whoever one is; version '1' is the permission check, others stay."""
        metadata = {"mimetype": "text/plain"} | ({} if version == "1" else {"size": size, "eTag": '"e"'})
        self.sql(
            "insert into storage.objects (bucket_id, name, owner_id, version, metadata) "
            "values ('documents', %s, %s, %s, %s)",
            name,
            None if owner is None else str(owner),
            version or str(uuid.uuid4()),
            json.dumps(metadata),
        )

    def remove(self, name: str) -> list[dict[str, Any]]:
        self.sql("select set_config('storage.allow_delete_query', 'true', true)")
        return self.sql("delete from storage.objects where name = %s returning name", name)

    def search(self, text: str, embedding: str | None = None, **more: Any) -> list[dict[str, Any]]:
        named = "".join(f", {key} => %s" for key in more)
        return self.sql(f"select * from public.search(%s, %s{named})", text, embedding, *more.values())

    def wider(self) -> None:
        """An operator's slip: the private schema is exposed, and clients are granted everything on its tables."""
        self.be("postgres")
        self.sql("grant usage on schema pipeline to anon, authenticated")
        self.sql("grant all on all tables in schema pipeline, public to anon, authenticated")


async def furnish(db: Database) -> dict[str, Any]:
    """Fill the database; returns what a World is made of."""
    alice, mallory, guest = [await db.sign_up() for _ in range(3)]
    await db.run("update auth.users set is_anonymous = true, email = null where id = %s", guest)
    await db.run("update pipeline.limits set uploads_per_day = 30, max_concurrent_jobs = 20 where owner_id is null")
    await db.run("insert into pipeline.limits (owner_id, priority) values (%s, 2)", alice)
    await db.run("select pipeline.listener_seen('listener', '1', 'local', 'a space')")
    await db.run("update pipeline.settings set anonymous_sign_ins = true")

    await db.upload(alice, "ledger-of-alice.txt", b"alice's bytes")
    await db.upload(mallory, "own.txt", b"mallory's bytes")
    await db.upload(guest, "guest.txt", b"guest's bytes")
    await db.upload(alice, "gone-ledger-of-alice.txt")
    texts = {
        "ledger-of-alice.txt": [SECRET, "alice likes quiet harbours"],
        "own.txt": ["the launch day is friday", "mallory reads the newspaper"],
        "guest.txt": ["a guest was here"],
        "gone-ledger-of-alice.txt": ["a deleted passage about zanzibar"],
    }
    for job in await db.claim(10, lease="1 day"):
        name = job["name"].split("/")[1]
        [bought] = await db.all(
            "select * from pipeline.begin_parse(%s, %s, %s, 'test')",
            job["id"],
            job["attempt"],
            hashlib.sha256(name.encode()).digest(),
        )
        await db.run(
            "select pipeline.store_parse(%s, %s, %s, %s, '{}')",
            bought["parse_id"],
            job["id"],
            job["attempt"],
            json.dumps([{"number": 1, "markdown": "\n".join(texts[name])}]),
        )
        await db.publish(job, texts[name])
    await db.delete(alice, "gone-ledger-of-alice.txt")

    for state in ("dead", "cancelled", "running", "available"):
        for owner in (alice, mallory):
            prefix = "ledger-of-alice-" if owner == alice else ""
            await db.upload(owner, f"{prefix}{state}.txt", f"{owner} {state}".encode())
            if state != "available":
                [job] = await db.claim(1, lease="1 day")
            if state == "dead":
                await db.run(
                    "select pipeline.fail(%s, %s, 'permanent', 'It cannot be read.', %s)",
                    job["id"],
                    job["attempt"],
                    f"{prefix} an internal reason",
                )
            elif state == "cancelled":
                await db.run("select pipeline.cancel(%s)", job["id"])
    # something bought and not yet stored, so that no table is empty
    running = await db.one("select id, attempt from pipeline.jobs where state = 'running' and owner_id = %s", alice)
    await db.run(
        "select * from pipeline.begin_embeddings(%s, %s, %s, %s)",
        running["id"],
        running["attempt"],
        (await db.space())["id"],
        [hashlib.sha256(b"being bought by ledger-of-alice.txt").digest()],
    )
    await db.run(
        "insert into pipeline.ledger (sends_at, owner_id, document_id, job_id, attempt, provider, fingerprint, stage, "
        "model) select now(), owner_id, document_id, id, attempt, 'a provider', 'its key', 'parse', 'x' "
        "from pipeline.jobs"
    )
    await db.run(
        "insert into pipeline.provider_keys (provider, fingerprint, stage) values ('a provider', 'its key', 'parse')"
    )
    await db.run(
        "insert into pipeline.job_work (job_id, stage, provider, model) select id, 'parse', 'a', 'b' from pipeline.jobs"
    )
    await db.run("delete from auth.users where id = %s", await db.sign_up())
    await db.run("update pipeline.settings set anonymous_sign_ins = false")
    jobs = await db.all("select id, split_part(name, '/', 2) as name from pipeline.jobs")
    return {
        "alice": alice,
        "mallory": mallory,
        "guest": guest,
        "jobs": {job["name"]: job["id"] for job in jobs},
    }


def vector_of(text: str, dimensions: int = 1536) -> str:
    """The made-up vector that `furnish` stored for a passage."""
    return made_up_vector(hashlib.sha256(text.encode()).digest(), dimensions)
