"""The daily quota as a user of the SDK meets it, on the embedded Supabase with its files on disk."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from storage3.exceptions import StorageApiError

from pipeline import migrate
from pipeline.embedded import EmbeddedSupabase
from tests.world import new_user

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


def files(folder: Path) -> int:
    return sum(path.is_file() for path in next(folder.rglob("blobs")).rglob("*"))
