"""What a parsing child may not do. Each fence is best effort where the kernel lacks it; the limits of `Limits` are not.

memory, processor time, file size, core dumps, open files     setrlimit, every Unix
network                                                       a namespace of its own and seccomp, Linux
new processes and programs, signals to others                 seccomp, Linux (`calls`)
the file system, other processes' memory                      Landlock, Linux 5.13 and later
a life beyond its parent's                                    PDEATHSIG, Linux
more rights than now                                          no_new_privs, Linux
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.local import calls

LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_LANDLOCK_CREATE, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_EVERYTHING = (1 << 13) - 1  # all rights of the first version of its interface
_LANDLOCK_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read file, read folder


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one child."""

    memory_bytes: int
    """Address space."""
    cpu_seconds: int
    open_files: int = 64


def limit_self(limits: Limits) -> None:
    """Apply `limits` to this process for good; it can then write no file and dump no core."""
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, limits.open_files),
    ):
        _, hard = resource.getrlimit(kind)
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError):  # macOS refuses a limit of address space below what is mapped
            resource.setrlimit(kind, (ceiling, ceiling))


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies, however it dies."""
    if LINUX:
        parent = os.getppid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(1)


def forbid_new_rights() -> None:
    """No program that this process starts gains rights by set-user-id bits."""
    if LINUX:
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def isolate_network() -> bool:
    """Move this process into a network namespace without any interface; False where the kernel does not let it."""
    if not LINUX:
        return False
    if _libc.unshare(_CLONE_NEWNET) == 0:
        return True
    return _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0


def fences() -> dict[str, bool]:
    """Put this process behind all fences: `network`, `files` and `calls`, each with whether the kernel has it."""
    own_network = isolate_network()
    forbid_new_rights()
    files = raise_file_fence(prepare_file_fence())
    refused = calls.refuse_calls()
    return {"network": own_network or refused, "files": files, "calls": refused}


def prepare_file_fence(extra: Sequence[str] = ()) -> int | None:
    """A Landlock rule set that lets a process read Python's libraries, the system's and `extra`, and nothing else.

    None where the kernel has no Landlock. The descriptor serves any number of children.
    """
    if not LINUX:
        return None
    attributes = struct.pack("=Q", _LANDLOCK_EVERYTHING)
    rules = _libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return None
    paths = sysconfig.get_paths()
    readable = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    readable |= {os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "/usr/lib", "/lib", "/lib64", *extra}
    for path in readable:
        try:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rule = struct.pack("=Qi", _LANDLOCK_READ if os.path.isdir(path) else 1 << 2, folder)
        _libc.syscall(_LANDLOCK_ADD_RULE, rules, 1, rule, 0)
        os.close(folder)
    return rules


def raise_file_fence(rules: int | None) -> bool:
    """Put this process behind the fence for good; needs `forbid_new_rights` first. False where there is none."""
    return rules is not None and _libc.syscall(_LANDLOCK_RESTRICT, rules, 0) == 0
