"""The local parser: every format, the bad files, and what a child cannot do."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from pipeline.errors import LeaseLost, Permanent, SetupError, Transient
from pipeline.files.sniff import sniff
from pipeline.job import FetchedFile, Parsed
from pipeline.local import parser as local
from pipeline.local.parser import LocalParser
from pipeline.settings import Settings
from tests import documents

LINUX = sys.platform == "linux"


class Reader:
    """A LocalParser, asked with bytes."""

    def __init__(self, folder: Path, parser: LocalParser) -> None:
        self.folder, self.parser = folder, parser
        self.progress: list[float] = []

    async def __call__(
        self, data: bytes, name: str = "file", progress: Callable[[float], Awaitable[None]] | None = None
    ) -> Parsed:
        path = self.folder / "file"
        path.write_bytes(data)
        media_type, extension = sniff(path, name)

        async def note(fraction: float) -> None:
            self.progress.append(fraction)

        async def remember(_: str) -> None:
            raise AssertionError("the local parser has no job at a provider")

        file = FetchedFile(path, len(data), b"", media_type, extension)
        return await self.parser.parse(file, resume=None, remember=remember, progress=progress or note)

    async def text(self, data: bytes, name: str = "file") -> str:
        return "\n\n".join(page.markdown for page in (await self(data, name)).pages)

    def server(self) -> psutil.Process:
        assert self.parser._server is not None
        return psutil.Process(self.parser._server.pid)

    async def child(self) -> psutil.Process:
        """The child that reads now."""
        while True:
            if self.parser._server is not None and (children := self.server().children()):
                return children[0]
            await asyncio.sleep(0.005)


@pytest_asyncio.fixture
async def reader(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Reader]:
    """With the settings of the test's `limits` marker-like parameter, if it has one."""
    settings: dict[str, Any] = getattr(request, "param", {})
    parser = LocalParser(Settings(_env_file=None, **settings))  # type: ignore[call-arg]
    yield Reader(tmp_path, parser)
    await parser.close()


def limits(**settings: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("reader", [settings], indirect=True, ids=["limits"])


async def gone(process: psutil.Process) -> None:
    """Until the process has ended, a few seconds at most."""
    async with asyncio.timeout(5):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.005)


async def test_a_pdf_has_pages_headings_columns_and_tables(reader: Reader):
    parsed = await reader(documents.pdf_two_columns_with_table())
    assert [page.number for page in parsed.pages] == [1, 2]
    first, second = (page.markdown for page in parsed.pages)
    assert first.startswith("# Health Benefits Guide")
    assert documents.KNEE in first
    assert first.index("Deductibles") < first.index("Emergencies"), "the left column comes first"
    assert "| Specialist | 40 dollars | 100 % |" in second
    assert reader.progress[-1] == 1.0


FORMATS = {
    "docx": (documents.docx, "a.docx", "## Surgery"),
    "xlsx": (documents.xlsx, "a.xlsx", "## Copays"),
    "odt": (documents.odt, "a.odt", "# Surgery"),
    "rtf": (documents.rtf, "a.rtf", "Surgery"),
    "csv": (documents.csv, "a.csv", "| Service | Copay |"),
    "html": (documents.html, "a.html", "## Surgery"),
    "markdown": (documents.markdown, "a.md", "## Surgery"),
    "utf-16": (documents.utf16_text, "a.txt", "Größe und Maße"),
    "nul": (documents.text_with_nul, "a.txt", "follows a NUL"),
    "japanese": (documents.japanese, "a.md", "膝の手術の自己負担額は五万円です。"),
    "arabic": (documents.arabic, "a.md", "مبلغ الخصم لجراحة الركبة هو خمسمائة دولار."),
}


@pytest.mark.parametrize("kind", FORMATS)
async def test_every_format_becomes_markdown(reader: Reader, kind: str):
    make, name, expected = FORMATS[kind]
    text = await reader.text(make(), name)
    assert expected in text
    if kind not in ("japanese", "arabic", "xlsx", "csv"):
        assert documents.KNEE in text
    assert not set(text) & {"\x00", "\r", "\ufeff", "\u202b", "\u202c"}


async def test_a_slide_is_a_page_though_it_has_no_title(reader: Reader):
    parsed = await reader(documents.pptx())
    assert [page.number for page in parsed.pages] == [1, 2, 4, 5]
    assert "Dental cleaning" in parsed.pages[1].markdown
    assert "appeal within sixty days" in parsed.pages[3].markdown


async def test_html_brings_no_script_picture_or_frame(reader: Reader):
    text = await reader.text(documents.html(), "a.html")
    assert "| Specialist | 40 dollars |" in text
    assert "steal" not in text
    assert "tracker" not in text
    assert "remote" not in text


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "shift_jis"])
async def test_text_in_any_usual_encoding(reader: Reader, encoding: str):
    text = "Die Größe der Maße wird jährlich geprüft, außer für Übergänge. " * 5
    if encoding == "shift_jis":
        text = "膝の手術の自己負担額は五万円です。毎年の届け出が必要です。" * 5
    assert await reader.text(text.encode(encoding), "a.txt") == text.strip("\n")


async def test_hidden_characters_are_removed_and_letters_composed(reader: Reader):
    hidden = "de\u200bduc\u00adtible \u202eevil\u202c u\u0308ber\u2060 \U000e0041x\x07 می\u200cخواهم a\u200db\r\nend"
    assert await reader.text(hidden.encode(), "a.txt") == "deductible evil über x می\u200cخواهم ab\nend"


async def test_damaged_utf_8_loses_one_character(reader: Reader):
    data = "Größe und Maße, Übung und Prüfung. ".encode() * 50
    text = await reader.text(data[:700] + b"\xff" + data[700:], "a.txt")
    assert text.count("�") <= 3
    assert "Größe" in text


BAD = {
    "scan": (documents.pdf_scanned, "UPLOAD_PIPELINE_OCR=true"),
    "truncated": (documents.truncated_pdf, "damaged"),
    "encrypted": (documents.encrypted_pdf, "password"),
    "bomb": (documents.zip_bomb_docx, "unpacks to far more"),
    "lying bomb": (lambda: documents.zip_bomb_docx(honest=False), "unpacks to far more"),
    "no text": (lambda: b"... --- ...\n", "no text"),
    "blank page": (lambda: documents.demo.PdfWriter().finish() + b"", "damaged|no text"),
    "broken docx": (lambda: documents.docx()[:1000] + bytes(30_000) + documents.docx()[31_000:], "damaged"),
    "header only": (lambda: b"%PDF-1.7\n" + bytes(50), "damaged"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_file_that_can_never_work_is_refused_in_the_owners_words(reader: Reader, kind: str):
    make, sentence = BAD[kind]
    with pytest.raises(Permanent, match=sentence) as refused:
        await reader(make(), "a.txt")
    assert refused.value.message.endswith(".")
    assert str(reader.folder) not in refused.value.message


async def test_pages_that_are_pictures_are_named(reader: Reader):
    parsed = await reader(documents.pdf_partly_scanned())
    assert [page.number for page in parsed.pages] == [1, 4]
    assert list(parsed.failed_pages) == [2]
    assert "OCR" in parsed.failed_pages[2]


@limits(max_pages=3)
async def test_a_pdf_may_have_as_many_pages_as_set(reader: Reader):
    assert (await reader(documents.pdf_pages(3))).page_count == 3
    with pytest.raises(Permanent, match="4 pages; 3 are allowed"):
        await reader(documents.pdf_pages(4))


@limits(max_text_bytes=10_000)
async def test_too_much_text_is_refused(reader: Reader):
    await reader(b"text " * 1999, "a.txt")
    with pytest.raises(Permanent, match="more text"):
        await reader(b"text " * 2001, "a.txt")


@limits(parse_memory_bytes=600_000_000)
async def test_a_killer_costs_only_its_own_attempt(reader: Reader):
    with pytest.raises(Transient, match="the parser stopped"):
        await reader(documents.killer_pdf())
    assert documents.KNEE in await reader.text(documents.markdown())


@limits(parse_timeout_seconds=0.5)
async def test_the_clock_ends_a_child(reader: Reader):
    await reader.parser.warm_up()
    with pytest.raises(Transient, match="in the time"):
        await asyncio.gather(reader(documents.killer_pdf()), reader.child())
    for child in reader.server().children():
        await gone(child)


async def test_a_cancelled_parse_leaves_no_child(reader: Reader):
    await reader.parser.warm_up()
    parse = asyncio.create_task(reader(documents.killer_pdf()))
    child = await reader.child()
    parse.cancel()
    with pytest.raises(asyncio.CancelledError):
        await parse
    await gone(child)
    assert reader.server().is_running()


async def test_a_lost_lease_comes_through_and_ends_the_child(reader: Reader):
    async def lost(_: float) -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        await reader(documents.pdf_pages(300), progress=lost)
    for child in reader.server().children():
        await gone(child)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_child_that_dies_is_a_transient_failure(reader: Reader, number: signal.Signals):
    parse = asyncio.create_task(reader(documents.killer_pdf()))
    os.kill((await reader.child()).pid, number)
    with pytest.raises(Transient) as stopped:
        await parse
    assert stopped.value.message == local.STOPPED
    assert number.name in stopped.value.detail


async def test_a_dead_fork_server_is_started_again(reader: Reader):
    parse = asyncio.create_task(reader(documents.killer_pdf()))
    child, server = await reader.child(), reader.server()
    server.kill()
    with pytest.raises(Transient, match="the parser stopped"):
        await parse
    if LINUX:
        await gone(child)
    assert documents.KNEE in await reader.text(documents.markdown())
    assert reader.server().pid != server.pid


async def test_closing_ends_everything(reader: Reader):
    parse = asyncio.create_task(reader(documents.killer_pdf()))
    child, server = await reader.child(), reader.server()
    await reader.parser.close()
    with pytest.raises(Transient):
        await parse
    await gone(child)
    await gone(server)


@pytest.mark.skipif(not LINUX, reason="needs /proc")
@limits(parse_memory_bytes=600_000_000, parse_timeout_seconds=7)
async def test_the_child_has_limits_and_no_secrets_sockets_or_rights(reader: Reader, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UPLOAD_PIPELINE_OPENAI_API_KEY", "sk-secret")
    await reader.parser.warm_up()
    parses = [asyncio.create_task(reader(documents.killer_pdf())) for _ in range(2)]
    async with asyncio.timeout(10):
        while len(children := reader.server().children()) < 2 or any(
            child.rlimit(psutil.RLIMIT_NOFILE)[0] != 64 for child in children
        ):
            await asyncio.sleep(0.005)
    first, second = (
        {os.readlink(link) for link in Path(f"/proc/{child.pid}/fd").iterdir()} - {"/dev/null"} for child in children
    )
    assert not {link for link in first & second if link.startswith(("socket", "pipe"))}
    for process in (*children, reader.server()):
        assert b"sk-secret" not in Path(f"/proc/{process.pid}/environ").read_bytes()
        assert os.getpgid(process.pid) == process.pid
    for child in children:
        assert child.rlimit(psutil.RLIMIT_CORE) == child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
        assert child.rlimit(psutil.RLIMIT_AS) == (600_000_000, 600_000_000)
        # what all processors together can use in the wall time, for a child whose clock nobody watches any more
        processor = 7 * (os.cpu_count() or 1) + 1
        assert child.rlimit(psutil.RLIMIT_CPU) == (processor, processor)
        assert "NoNewPrivs:\t1" in Path(f"/proc/{child.pid}/status").read_text()
        if local.fences()["calls"]:
            assert "Seccomp:\t2" in Path(f"/proc/{child.pid}/status").read_text()
    for parse in parses:
        parse.cancel()
    await asyncio.gather(*parses, return_exceptions=True)


@pytest.mark.skipif(not LINUX, reason="Linux only")
async def test_behind_the_fence_neither_files_nor_the_network_can_be_reached(tmp_path: Path):
    (tmp_path / "secret").write_text("sk-secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = f"""
import ctypes, os, resource, signal, socket, threading
from pipeline.local import sandbox
fences = sandbox.fences()
def attempt(fence, deed):
    try:
        deed()
        print(fences[fence], "done")
    except OSError:
        print(fences[fence], "refused")
def born():
    if os.fork() == 0:
        os._exit(0)
def posix_spawned():
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {{}}), 0)
attempt("network", lambda: socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), 2))
attempt("files", lambda: open({str(tmp_path / "secret")!r}))
attempt("files", lambda: open("/proc/{os.getpid()}/environ"))
attempt("calls", born)
attempt("calls", posix_spawned)
attempt("calls", lambda: os.execv("/bin/true", ["true"]))
attempt("calls", lambda: os.kill({os.getpid()}, 0))
attempt("calls", lambda: resource.prlimit({os.getpid()}, resource.RLIMIT_CPU))
attempt("calls", lambda: os.memfd_create("x"))
os.kill(os.getpid(), 0)
thread = threading.Thread(target=lambda: print("thread"))
thread.start()
thread.join()
print(open(os.__file__).readable())
"""
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
    *attempts, thread, library = output.decode().splitlines()
    assert len(attempts) == 9
    assert set(attempts) <= {"True refused", "False done"}, output
    assert (thread, library) == ("thread", "True")


@limits(parse_timeout_seconds=20)
async def test_many_small_files_at_once(reader: Reader, tmp_path: Path):
    await reader.parser.warm_up()
    readers = []
    for number in range(24):
        folder = tmp_path / str(number)
        folder.mkdir()
        readers.append(Reader(folder, reader.parser))
    began = time.perf_counter()
    texts = await asyncio.gather(*(r.text(b"Text number %d." % n, "a.txt") for n, r in enumerate(readers)))
    assert texts == [f"Text number {n}." for n in range(24)]
    assert time.perf_counter() - began < 10


async def test_the_fingerprint_names_what_could_change_the_result(tmp_path: Path):
    plain = LocalParser(Settings(_env_file=None)).fingerprint  # type: ignore[call-arg]
    assert "liteparse=" in plain
    (tmp_path / "eng.traineddata").write_bytes(b"")
    with_ocr = LocalParser(Settings(_env_file=None, ocr=True, tessdata_path=tmp_path))  # type: ignore[call-arg]
    assert with_ocr.fingerprint != plain


async def test_ocr_without_its_data_says_what_to_install(tmp_path: Path):
    with pytest.raises(SetupError, match="UPLOAD_PIPELINE_TESSDATA_PATH"):
        LocalParser(Settings(_env_file=None, ocr=True, tessdata_path=tmp_path))  # type: ignore[call-arg]
