"""The fork server: a process without secrets or network that has loaded the parsers and forks a limited child a file.

It is started by `LocalParser` with an empty environment and a control socket as its standard input. For each file
the listener sends one message with two descriptors: the file, opened for reading, and one end of a socket that belongs
to that file alone. The child writes its pages there. The server keeps a copy of that end to report how the child ended,
and to notice when the listener hangs up: then it kills the child with everything that the child started.

The server itself reads no untrusted byte. It is single-threaded, so forking is safe, and loads the parsers once:
a fork costs two milliseconds where a new interpreter with its imports costs two hundred.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
from typing import Any, NoReturn

from pipeline.errors import Permanent
from pipeline.local import calls, sandbox, wire
from pipeline.local.readers.formats import Options, read

_MESSAGE_LIMIT = 65_536
_FILE, _OUTPUT = 3, 4  # the child's only descriptors beside the standard three, which lead to /dev/null


class _Sender:
    """Sends results through the file's socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def page(self, number: int | None, markdown: str) -> None:
        wire.send(self.sock, wire.PAGE, [number, markdown])

    def failed_page(self, number: int, reason: str) -> None:
        wire.send(self.sock, wire.FAILED_PAGE, [number, reason])

    def progress(self, fraction: float) -> None:
        wire.send(self.sock, wire.PROGRESS, round(fraction, 4))


def _run_child(file: int, output: int, request: dict[str, Any], fence: int | None) -> NoReturn:
    """One file's life. Never returns: an unexpected error ends in status 70, and the listener reports a crash."""
    status = 70
    try:
        os.setsid()
        sandbox.die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if fence is not None:
            sandbox.raise_file_fence(fence)
        os.dup2(1, 2)  # what a library prints goes where the server's own output goes: nowhere
        file, output = os.dup(file), os.dup(output)  # in ascending order, so that neither overwrites the other below
        os.dup2(file, _FILE, inheritable=False)
        os.dup2(output, _OUTPUT, inheritable=False)
        os.closerange(_OUTPUT + 1, os.sysconf("SC_OPEN_MAX"))  # the sockets of other files among them
        sandbox.limit_self(sandbox.Limits(**request["limits"]))
        calls.refuse_calls()
        with socket.socket(fileno=_OUTPUT) as sock:
            wire.send(sock, wire.STARTED, os.getpid())
            try:
                with os.fdopen(_FILE, "rb") as source:
                    data = source.read()
                read(data, Options(**request["options"]), _Sender(sock))
                wire.send(sock, wire.DONE, None)
                status = 0
            except Permanent as problem:
                wire.send(sock, wire.ERROR, [problem.message, problem.detail])
                status = 0
            except MemoryError:
                status = wire.OUT_OF_MEMORY
    finally:
        os._exit(status)


class _Server:
    def __init__(self, control: socket.socket, fence: int | None) -> None:
        self.control, self.fence = control, fence
        self.selector = selectors.DefaultSelector()
        self.children: dict[int, socket.socket] = {}  # by process id

    def serve(self) -> None:
        """Until the listener closes the control socket; then every child is killed."""
        woken, wake = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(self.control, selectors.EVENT_READ, "control")
        self.selector.register(woken, selectors.EVENT_READ, "ended")
        try:
            while True:
                for key, _ in self.selector.select():
                    if key.data == "control":
                        if not self._accept():
                            return
                    elif key.data == "ended":
                        with contextlib.suppress(BlockingIOError):
                            os.read(woken, 4096)
                        self._reap()
                    elif key.data in self.children:
                        self._hang_up(key.data)
        finally:
            for pid in self.children:
                self._kill(pid)

    def _accept(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self.control, _MESSAGE_LIMIT, 2)
        if not message:
            return False
        file, output = descriptors
        pid = os.fork()
        if pid == 0:
            _run_child(file, output, json.loads(message), self.fence)
        os.close(file)
        sock = socket.socket(fileno=output)  # blocking: the child shares its flags
        self.children[pid] = sock
        self.selector.register(sock, selectors.EVENT_READ, pid)
        return True

    def _hang_up(self, pid: int) -> None:
        """The listener never writes on a file's socket: what can be read there is its end."""
        self.selector.unregister(self.children[pid])
        self._kill(pid)

    @staticmethod
    def _kill(pid: int) -> None:
        # The child may not have made its session yet; it is not reaped, so the number is still its own.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        while self.children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (sock := self.children.pop(pid, None)) is None:
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what the child left behind
            with contextlib.suppress(KeyError):
                self.selector.unregister(sock)
            self._report(sock, status)

    @staticmethod
    def _report(sock: socket.socket, status: int) -> None:
        """Only a diagnosis: where the listener reads too slowly for it, the end of the stream says enough."""
        with sock, contextlib.suppress(OSError):
            sock.send(wire.pack(wire.EXIT, os.waitstatus_to_exitcode(status)), socket.MSG_DONTWAIT)


def main() -> None:
    """Run the fork server on standard input; `--probe` only tells what can be taken away here."""
    if "--probe" in sys.argv:
        sys.stdout.write(json.dumps(sandbox.fences()))
        return
    sandbox.die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):  # the listener's own drain decides when this ends
        signal.signal(number, signal.SIG_IGN)
    extra = sys.argv[1:]
    control = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    sandbox.isolate_network()
    sandbox.forbid_new_rights()
    fence = sandbox.prepare_file_fence(extra)
    import charset_normalizer  # noqa: F401  # loaded here once, not in each child

    gc.collect()
    gc.freeze()  # keeps the pages of loaded modules shared with the children
    control.sendall(b"ready")
    _Server(control, fence).serve()


if __name__ == "__main__":
    main()
