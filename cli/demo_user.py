"""A user of the demo: what an application does for its user, with supabase-py and nothing of ours."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import secrets
from typing import TYPE_CHECKING, Any

from cli.names import readable, stored
from pipeline.job import State

if TYPE_CHECKING:
    from cli.local_project import Local
    from supabase import AsyncClient

_ENDED = (State.COMPLETED, State.DEAD, State.CANCELLED)


class User:
    """A signed-in client, with what it has heard of its jobs."""

    def __init__(self, client: AsyncClient, name: str, email: str, user_id: str) -> None:
        self.client = client
        self.name = name
        self.email = email
        self.id = user_id
        self.live = False
        """Whether Realtime tells of changes; else the table is asked."""
        self.heard = 0
        self.documents: dict[str, str] = {}
        """The names of the user's documents by their ids."""
        self._jobs: dict[int, dict[str, Any]] = {}
        self._expected = 0
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        """Subscribe to the user's topic; where that fails, polling does it all."""

        def told(message: Any) -> None:
            payload = message.get("payload", message)
            self.heard += 1
            self._take(payload)
            self._changed.set()

        def subscribed(state: Any, error: Exception | None) -> None:
            self.live = str(getattr(state, "value", state)) == "SUBSCRIBED"

        with contextlib.suppress(Exception):
            channel = self.client.channel(f"user:{self.id}:jobs", {"config": {"private": True}})  # type: ignore[arg-type]
            channel.on_broadcast("job_changed", told)
            async with asyncio.timeout(5):
                await channel.subscribe(subscribed)

    async def upload(self, files: dict[str, bytes]) -> None:
        """Upload all into the user's folder."""
        bucket = self.client.storage.from_("documents")
        self._expected = len(files)
        for name, content in files.items():
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            await bucket.upload(f"{self.id}/{stored(name)}", content, {"content-type": kind})

    async def look(self) -> None:
        """Ask the table: the truth, whatever Realtime told or lost."""
        answer = await self.client.table("jobs").select("*").order("id").execute()
        for job in answer.data:
            self._take(job, truth=True)  # type: ignore[arg-type]

    async def changed(self) -> None:
        """Wait for the next thing that is heard."""
        await self._changed.wait()
        self._changed.clear()

    def _take(self, job: dict[str, Any], *, truth: bool = False) -> None:
        known = self._jobs.get(job["id"])
        # A message may arrive after the answer that already shows what followed.
        if truth or known is None or (known["state"] not in _ENDED and job["attempt"] >= known["attempt"]):
            self._jobs[job["id"]] = job

    def newest(self) -> dict[str, dict[str, Any]]:
        """The newest job of each file, by the name that the user knows."""
        return {readable(job["name"].partition("/")[2]): job for _, job in sorted(self._jobs.items())}

    @property
    def settled(self) -> bool:
        """Whether each uploaded file has a job and all have ended."""
        jobs = self.newest().values()
        return len(jobs) >= self._expected and all(job["state"] in _ENDED for job in jobs)

    def missing(self, names: list[str]) -> list[str]:
        """What did not come out as it should: all searchable, but for the scan, which must say why not."""
        found = []
        if self.live and not self.heard:
            found.append(f"{self.name} subscribed to Realtime and heard nothing.")
        jobs = self.newest()
        for name in names:
            job = jobs.get(name)
            state = job["state"] if job else None
            if "scan" in name.lower():
                if job is None or state != State.DEAD or not job["error"]:
                    found.append(f"{name} of {self.name} is {state}; a scan without text must end dead, with a reason.")
            elif state != State.COMPLETED:
                why = f": {job['error']}" if job and job["error"] else ""
                found.append(f"{name} of {self.name} is {state or 'without a job'}{why}")
        return found

    async def search(self, question: str, vector: list[float], space: str, *, limit: int = 3) -> list[dict[str, Any]]:
        """Hybrid search as the user, each hit with the `file` that the user knows."""
        if not self.documents:
            answer = await self.client.table("documents").select("id,name").execute()
            self.documents = {row["id"]: row["name"] for row in answer.data}  # type: ignore[index]
        arguments = {"query_text": question, "query_embedding": vector, "space": space, "match_count": limit}
        answer = await self.client.rpc("search", arguments).execute()
        return [
            hit | {"file": readable(hit["name"].partition("/")[2])}  # type: ignore[operator,index,union-attr]
            for hit in answer.data  # type: ignore[union-attr]
        ]

    async def reaches(self, other: User) -> list[str]:
        """What this user can read, hear or fetch of the other's: must be empty."""
        found = []
        for table, column in (("documents", "id"), ("jobs", "document_id"), ("chunks", "document_id")):
            answer = await self.client.table(table).select(column).in_(column, list(other.documents)).execute()
            if answer.data:
                found.append(f"{self.name} reads {len(answer.data)} rows of {other.name} in {table}.")
        for name in other.documents.values():
            with contextlib.suppress(Exception):
                await self.client.storage.from_("documents").download(name)
                found.append(f"{self.name} downloads {readable(name)} of {other.name}.")
        if any(not job["name"].startswith(f"{self.id}/") for job in self._jobs.values()):
            found.append(f"{self.name} hears of jobs that are not theirs.")
        return found

    def summary(self) -> dict[str, Any]:
        """For --json."""
        return {
            "name": self.name,
            "email": self.email,
            "id": self.id,
            "realtime": self.live,
            "messages": self.heard,
            "files": {
                name: {"state": job["state"], "error": job["error"]} for name, job in sorted(self.newest().items())
            },
        }

    async def close(self) -> None:
        """End the connections."""
        with contextlib.suppress(Exception):
            await self.client.remove_all_channels()
        with contextlib.suppress(Exception):
            await self.client.realtime.close()


async def sign_up(local: Local, name: str) -> User:
    """A new account, signed in and listening."""
    from supabase import AsyncClientOptions, acreate_client

    client = await acreate_client(local.api_url, local.anon_key, AsyncClientOptions(auto_refresh_token=False))
    email = f"{name.lower()}@example.com"
    answer = await client.auth.sign_up({"email": email, "password": secrets.token_urlsafe(16)})
    if answer.session is None or answer.user is None:
        raise RuntimeError("The project wants a confirmed mail address; the demo's own does not.")
    await client.realtime.set_auth(answer.session.access_token)
    user = User(client, name, email, answer.user.id)
    await user.listen()
    return user
