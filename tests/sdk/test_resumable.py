"""Two clients of TUS, unmodified, go on with an upload of 18 MB that was cut off in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.world import User, Watch

HERE = Path(__file__).parent
SIZE = 18_000_000


class Line:
    """A connection to the project that breaks once, after so many bytes have gone through it."""

    def __init__(self, target: str, breaks_after: int) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._left: int | None = breaks_after
        self.carried = 0
        self.url = ""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Line]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        answering = asyncio.create_task(self._answer(there, writer))
        try:
            while data := await reader.read(65536):
                if self._left is not None:
                    self._left -= len(data)
                    if self._left < 0:
                        self._left = None
                        writer.transport.abort()
                        break
                self.carried += len(data)
                back.write(data)
                await back.drain()
        except ConnectionError:
            pass
        finally:
            back.close()
            answering.cancel()

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await there.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture(scope="module")
def tuspy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tuspy. What it depends on is too much for one test, so it is installed for that test alone."""
    folder = tmp_path_factory.mktemp("tuspy")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "tuspy==1.1.0"]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if installed.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(f"tuspy cannot be installed: {installed.stderr}")
        pytest.skip("tuspy cannot be installed here: the Python half is not tested.")
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large.txt"
    line = b"The deductible for knee surgery is 500 dollars, and this line is number %09d.\n"
    path.write_bytes(b"".join(line % number for number in range(SIZE // 70))[:SIZE])
    return path


async def resumes(
    project: Any, user: User, watch: Watch, command: list[str], cwd: Path, file: Path, by: str, **environment: str
) -> None:
    """Run the client twice, the first time over a line that breaks."""
    name = f"{user.id}/large.txt"
    if not project.api_url.startswith("http://"):
        pytest.skip("a line that breaks can be laid only to a project without TLS")

    async def run() -> dict[str, Any]:
        arguments = [f"{line.url}/storage/v1/upload/resumable", user.token, project.anon_key, str(file)]
        process = await asyncio.create_subprocess_exec(
            *command, *arguments, "documents", name, str(file.with_suffix(".urls")),
            cwd=cwd, env=os.environ | environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, errors = await asyncio.wait_for(process.communicate(), timeout=120)
        assert process.returncode == 0, errors.decode()
        return json.loads(out)

    async with Line(project.api_url, breaks_after=9_500_000).open() as line:
        broken = await run()
        assert broken["error"] is not None
        files = user.client.storage.from_("documents")
        assert await files.list(user.id) == []
        before = line.carried
        ended = await run()
        assert ended["error"] is None
        assert ended["last"] == SIZE
        assert ended["first"] >= 6 * 1024 * 1024, "it went on and did not begin anew"
        assert line.carried - before < SIZE - 6 * 1024 * 1024 + 100_000

    assert await files.download(name) == file.read_bytes()
    info = await files.info(name)
    assert (info["content_type"], info["cache_control"], info["metadata"]) == (
        "text/plain", "max-age=3600", {"by": by},
    )  # fmt: skip
    job = await watch.until("select * from pipeline.jobs where name = %s", name)
    assert (job["state"], str(job["owner_id"])) == ("available", user.id)
    await files.remove([name])


async def test_tus_js_client_goes_on_where_it_was_cut_off(project, user, watch, node, file):
    shutil.copy(HERE / "resumable.mjs", node)
    await resumes(project, user, watch, ["node", "resumable.mjs"], node, file, "tus-js-client")


async def test_tuspy_goes_on_where_it_was_cut_off(project, user, watch, tuspy, file):
    command = [sys.executable, str(HERE / "resumable.py")]
    await resumes(project, user, watch, command, file.parent, file, "tuspy", PYTHONPATH=str(tuspy))
