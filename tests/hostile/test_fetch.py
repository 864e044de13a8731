"""A download is what is stored, no more bytes than allowed, whatever the answer's headers say."""

from __future__ import annotations

import gzip
import uuid
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from pipeline.embedded.fakes.server import serve
from pipeline.errors import Permanent
from pipeline.job import Job
from pipeline.work.storage import Storage

PACKED = gzip.compress(gzip.compress(bytes(200_000_000)))


def job(name: str) -> Job:
    return Job(1, 1, str(uuid.uuid4()), "documents", name, None, None)


async def answer(request: Request) -> Response:
    assert request.headers["accept-encoding"] == "identity"
    match request.path_params["name"]:
        case "packed":
            return Response(PACKED, headers={"content-encoding": "gzip, gzip"})
        case "endless":
            return StreamingResponse(b"x" * 65_536 for _ in iter(int, 1))
        case _:
            return Response(b"%PDF-1.7 <- it is not what it says", media_type="image/png")


@pytest.fixture
async def storage():
    route = Route("/storage/v1/object/authenticated/documents/{name}", answer)
    async with serve(Starlette(routes=[route])) as url:
        storage = Storage(url, "key", 1_000_000)
        yield storage
        await storage.close()


async def test_what_unpacks_to_much_is_not_unpacked(storage: Storage, tmp_path: Path):
    with pytest.raises(Permanent, match="gz"):
        await storage.fetch(job("packed"), tmp_path)
    assert (tmp_path / "object").read_bytes() == PACKED


async def test_an_endless_answer_ends_at_the_cap(storage: Storage, tmp_path: Path):
    with pytest.raises(Permanent, match="larger than the 1 MiB"):
        await storage.fetch(job("endless"), tmp_path)
    assert (tmp_path / "object").stat().st_size <= 1_000_000


async def test_the_declared_type_says_nothing(storage: Storage, tmp_path: Path):
    file = await storage.fetch(job("declared"), tmp_path)
    assert (file.media_type, file.extension) == ("application/pdf", ".pdf")
