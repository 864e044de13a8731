"""The daily quota as a user of the SDK meets it, on the embedded Supabase with its files on disk."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from storage3.exceptions import StorageApiError

from pipeline import migrate
from pipeline.embedded import EmbeddedSupabase
from tests.world import User, Watch, new_user

QUOTA = 30
REASON = "You have reached your limit of uploads for today (30). The next day begins at midnight UTC."


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that Postgres may enter, which does not run as root."""
    with tempfile.TemporaryDirectory(prefix="pipeline-tests-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


async def test_of_fifty_uploads_at_once_the_last_one_of_the_day_gets_in(folder: Path) -> None:
    async with EmbeddedSupabase.start(folder / "project") as project:
        await migrate.apply(project.db_url, worker_password="worker")
        user = await new_user(project)
        documents = user.client.storage.from_("documents")
        for n in range(QUOTA - 4):
            await user.upload(f"{n}.txt", b"text")
        await user.upload("0.txt", b"overwritten", upsert=True)
        await documents.copy(f"{user.id}/0.txt", f"{user.id}/copied.txt")
        token = (await documents.create_signed_upload_url(f"{user.id}/signed.txt"))["token"]
        await documents.upload_to_signed_url(f"{user.id}/signed.txt", token, b"text")
        assert files(folder) == QUOTA - 2

        answers = await asyncio.gather(
            *(user.upload(f"race {n}.txt", b"x" * 50_000) for n in range(50)), return_exceptions=True
        )
        refused = [answer for answer in answers if answer is not None]
        assert [type(answer) for answer in refused] == [StorageApiError] * 49
        assert {(str(answer.status), answer.message) for answer in refused if isinstance(answer, StorageApiError)} == {
            ("403", REASON)
        }
        assert files(folder) == QUOTA - 1, "no bytes are left of what was refused"

        # with no place for bytes, only what is refused before they move is refused with the reason
        blobs = next(folder.rglob("blobs"))
        away = blobs.rename(blobs.with_name("away"))
        for person, why in ((user, "limit of uploads for today"), (await new_user(project), "Internal")):
            with pytest.raises(StorageApiError, match=why):
                await person.upload("one more.txt", b"text")
        away.rename(blobs)
        with psycopg.connect(project.db_url) as connection:
            counted = connection.execute("select uploads from pipeline.upload_days").fetchone()
            jobs = connection.execute("select count(*) from pipeline.jobs").fetchone()
        assert (counted, jobs) == ((QUOTA,), (QUOTA,))

        await documents.move(f"{user.id}/0.txt", f"{user.id}/moved.txt")
        await documents.remove([f"{user.id}/1.txt"])
        with pytest.raises(StorageApiError, match="limit of uploads for today"):
            await documents.copy(f"{user.id}/2.txt", f"{user.id}/copy.txt")
        with pytest.raises(StorageApiError, match="limit of uploads for today"):
            await documents.create_signed_upload_url(f"{user.id}/another.txt")


async def test_what_storage_does_not_count_the_final_write_refuses(project: Any, user: User, watch: Watch) -> None:
    """Storage compares no limit with a raw body that comes without a length, neither the real one nor the gateway."""
    limit = 25 * 1024 * 1024

    async def body(size: int) -> AsyncIterator[bytes]:
        for sent in range(0, size, 65536):
            yield b"x" * min(65536, size - sent)

    async def send(size: int) -> httpx.Response:
        headers = {"apikey": project.anon_key, "authorization": f"Bearer {user.token}", "content-type": "text/plain"}
        url = f"{project.api_url}/storage/v1/object/documents/{user.id}/large.txt"
        return await http.post(url, headers=headers, content=body(size))

    async with httpx.AsyncClient(timeout=60) as http:
        answer = await send(limit + 1)
        assert (answer.status_code, answer.json()["statusCode"]) == (400, "403")
        assert "a file may have" in answer.json()["message"]
        assert await user.client.storage.from_("documents").list(user.id) == []
        counted = "select count(*) as jobs from pipeline.jobs where owner_id = %s"
        assert (await watch.until(counted, user.id))["jobs"] == 0
        assert (await send(limit)).status_code == 200
    await user.client.storage.from_("documents").remove([f"{user.id}/large.txt"])


def files(folder: Path) -> int:
    return sum(path.is_file() for path in next(folder.rglob("blobs")).rglob("*"))
