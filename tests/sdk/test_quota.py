"""The daily quota as a user of the SDK meets it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from storage3.exceptions import StorageApiError

from pipeline.embedded import EmbeddedSupabase
from pipeline.operate import migrate
from tests.project import Project
from tests.world import User, Watch, new_user

QUOTA = 30
REASON = "You have reached your limit of uploads for today (30). The next day begins at midnight UTC."


async def files(user: User) -> int:
    """As Storage lists them."""
    return len(await user.client.storage.from_("documents").list(user.id, {"limit": 1000}))


async def test_of_fifty_uploads_at_once_the_last_one_of_the_day_gets_in(project: Any, user: User, watch: Watch) -> None:
    await watch.connection.execute(
        "insert into pipeline.limits (owner_id, uploads_per_day) values (%s, %s)", (user.id, QUOTA)
    )
    documents = user.client.storage.from_("documents")
    for n in range(QUOTA - 4):
        await user.upload(f"{n}.txt", b"text")
    await user.upload("0.txt", b"overwritten", upsert=True)
    await documents.copy(f"{user.id}/0.txt", f"{user.id}/copied.txt")
    token = (await documents.create_signed_upload_url(f"{user.id}/signed.txt"))["token"]
    await documents.upload_to_signed_url(f"{user.id}/signed.txt", token, b"text")
    assert await files(user) == QUOTA - 2

    answers = await asyncio.gather(
        *(user.upload(f"race {n}.txt", b"x" * 50_000) for n in range(50)), return_exceptions=True
    )
    refused = [answer for answer in answers if answer is not None]
    assert [type(answer) for answer in refused] == [StorageApiError] * 49
    assert {(str(answer.status), answer.message) for answer in refused if isinstance(answer, StorageApiError)} == {
        ("403", REASON)
    }
    assert await files(user) == QUOTA - 1, "nothing is left of what was refused"
    counted = await watch.until("select uploads from pipeline.upload_days where owner_id = %s", user.id)
    jobs = await watch.until("select count(*) as n from pipeline.jobs where owner_id = %s", user.id)
    assert (counted["uploads"], jobs["n"]) == (QUOTA, QUOTA)

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


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that Postgres may enter, which does not run as root."""
    with tempfile.TemporaryDirectory(prefix="pipeline-tests-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


async def test_what_is_over_the_quota_is_refused_before_its_bytes_move(folder: Path) -> None:
    async with EmbeddedSupabase.start(folder / "project") as supabase:
        project = Project(supabase)
        await migrate.apply(project.db_url, worker_password=project.worker_password)
        user = await new_user(project)
        await asyncio.gather(*(user.upload(f"{n}.txt", b"text") for n in range(QUOTA - 1)))
        race = (user.upload(f"race {n}.txt", b"x" * 50_000) for n in range(50))
        refused = [answer for answer in await asyncio.gather(*race, return_exceptions=True) if answer is not None]
        assert len(refused) == 49
        blobs = next(folder.rglob("blobs"))
        assert sum(path.is_file() for path in blobs.rglob("*")) == QUOTA, "no bytes are left of what was refused"
        # with no place for bytes, only what is refused before they move is refused with the reason
        blobs.rename(blobs.with_name("away"))
        for person, why in ((user, "limit of uploads for today"), (await new_user(project), "Internal")):
            with pytest.raises(StorageApiError, match=why):
                await person.upload("one more.txt", b"text")
