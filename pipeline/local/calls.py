"""A seccomp filter: the system calls that reading a file never needs are refused, in the child and for good.

It works without any right and in any container that does not forbid it, so that a child has no network also where the
kernel gives it no network namespace of its own. Linux on x86-64 and arm64.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_CLONE_THREAD = 0x10000

# audit architecture, and the numbers of each call there; the other process's memory, sockets and programs above all
_MACHINES: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "socket": 41, "connect": 42, "sendmsg": 46, "bind": 49, "listen": 50, "accept": 43,
            "accept4": 288, "sendmmsg": 307, "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "ptrace": 101,
            "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "shmget": 29, "msgget": 68, "semget": 64,
            "mq_open": 240, "memfd_create": 319, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166,
            "pivot_root": 155, "chroot": 161, "add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321,
            "perf_event_open": 298, "userfaultfd": 323, "open_by_handle_at": 304, "tkill": 200, "rt_sigqueueinfo": 129,
            "rt_tgsigqueueinfo": 297,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "socket": 198, "connect": 203, "sendmsg": 211, "bind": 200, "listen": 201, "accept": 202,
            "accept4": 242, "sendmmsg": 269, "execve": 221, "execveat": 281, "ptrace": 117, "process_vm_readv": 270,
            "process_vm_writev": 271, "kcmp": 272, "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180,
            "memfd_create": 279, "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41,
            "chroot": 51, "add_key": 217, "request_key": 218, "keyctl": 219, "bpf": 280, "perf_event_open": 241,
            "userfaultfd": 282, "open_by_handle_at": 265, "tkill": 130, "rt_sigqueueinfo": 138,
            "rt_tgsigqueueinfo": 240,
        },
    ),
}  # fmt: skip
# alike on all machines: newer calls have one number
_EVERYWHERE = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "pidfd_open": 434, "pidfd_getfd": 438, "process_madvise": 440,
}  # fmt: skip
_CLONE3 = 435
_ABOUT_A_PROCESS = {
    "x86_64": {"kill": 62, "tgkill": 234, "prlimit64": 302},
    "aarch64": {"kill": 129, "tgkill": 131, "prlimit64": 261},
}
_CLONE = {"x86_64": 56, "aarch64": 220}

_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def available() -> bool:
    """Whether this kernel and machine have the filter."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, None, 0, 0)
    return ctypes.get_errno() == errno.EFAULT  # it would have read a program


def refuse_calls() -> bool:
    """Put this process behind the filter; needs `no_new_privs` first. False where there is none."""
    if not available():
        return False
    program = _program(platform.machine(), os.getpid())
    code = ctypes.create_string_buffer(program, len(program))

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    whole = Filter(len(program) // 8, ctypes.addressof(code))
    return libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(whole), 0, 0) == 0


def _program(machine: str, pid: int) -> bytes:
    """The filter in the kernel's own notation. It reads: number at 0, architecture at 4, arguments from 16 on."""
    architecture, numbers = _MACHINES[machine]
    lines: list[tuple[int, int, int, int]] = []

    def line(code: int, value: int, then: int = 0, otherwise: int = 0) -> None:
        lines.append((code, then, otherwise, value))

    refuse, unknown = _REFUSE | errno.EPERM, _REFUSE | errno.ENOSYS
    line(_LOAD, 4)
    line(_JUMP_EQUAL, architecture, 1, 0)
    line(_RETURN, refuse)
    line(_LOAD, 0)
    line(_JUMP_GREATER, 0x40000000, 0, 1)  # the other calling convention of x86-64
    line(_RETURN, refuse)
    for number in sorted({*numbers.values(), *_EVERYWHERE.values()}):
        line(_JUMP_EQUAL, number, 0, 1)
        line(_RETURN, refuse)
    # threads yes, processes no; the newer call keeps its flags where no filter sees them, and libraries do without it
    line(_JUMP_EQUAL, _CLONE3, 0, 1)
    line(_RETURN, unknown)
    line(_JUMP_EQUAL, _CLONE[machine], 0, 4)
    line(_LOAD, 16)
    line(_JUMP_ANY_BIT, _CLONE_THREAD, 1, 0)
    line(_RETURN, refuse)
    line(_RETURN, _ALLOW)
    # signals and limits for itself alone
    for number in _ABOUT_A_PROCESS[machine].values():
        line(_JUMP_EQUAL, number, 0, 5)
        line(_LOAD, 16)
        line(_JUMP_EQUAL, pid, 2, 0)
        line(_JUMP_EQUAL, 0, 1, 0)
        line(_RETURN, refuse)
        line(_RETURN, _ALLOW)
    line(_RETURN, _ALLOW)
    return b"".join(struct.pack("=HBBI", code, then, otherwise, value) for code, then, otherwise, value in lines)
