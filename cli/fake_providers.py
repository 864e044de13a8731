"""LlamaParse and OpenAI on this machine, for `pipeline dev --fake-providers`: the paid path, without keys or costs."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from pipeline.embedded.fakes.llamaparse import FakeLlamaParse, Plan
from pipeline.embedded.fakes.openai import FakeOpenAI
from pipeline.files.sniff import sniff
from pipeline.job import FetchedFile
from pipeline.local.parser import LocalParser
from pipeline.queue.webhook import PATH, bound
from pipeline.settings import load

SPACE = "text-embedding-3-small-1536"
_SECONDS_A_PARSE = 1.0


@contextlib.asynccontextmanager
async def fake_providers() -> AsyncIterator[dict[str, str]]:
    """Serve both until the block ends; gives the settings, by their names, of listeners that use them.

    What the fake LlamaParse answers was read by the local parser, so that search finds what a file says.
    """
    reader = LocalParser(load())
    parser = FakeLlamaParse(default=Plan(takes=_SECONDS_A_PARSE), read=lambda *file: read(reader, *file))
    embedder = FakeOpenAI()
    with bound("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    try:
        async with parser.serve() as parser_url, embedder.serve() as embedder_url:
            yield {
                "parser": "llamaparse",
                "llamaparse_api_key": parser.key,
                "llamaparse_base_url": parser_url,
                "llamaparse_webhook_url": f"http://127.0.0.1:{port}{PATH}",
                "llamaparse_webhook_secret": secrets.token_hex(32),
                "http_port": str(port),
                "embedder": "openai",
                "openai_api_key": embedder.key,
                "openai_base_url": embedder_url,
                "openai_model": embedder.models[0],
                "openai_dimensions": str(embedder.native),
            }
    finally:
        await reader.close()


async def read(reader: LocalParser, content: bytes, name: str) -> Sequence[str]:
    """The pages of a file, as the local parser reads them; raises its JobErrors."""

    async def nothing(_: object) -> None: ...

    with tempfile.TemporaryDirectory(prefix="pipeline-fake-") as folder:
        path = Path(folder, "file")
        path.write_bytes(content)
        media_type, extension = sniff(path, name)
        file = FetchedFile(path.rename(path.with_suffix(extension)), len(content), b"", media_type, extension)
        parsed = await reader.parse(file, resume=None, remember=nothing, progress=nothing)
        return [page.markdown for page in parsed.pages]
