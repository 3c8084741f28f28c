"""The filter of system calls under which a Python grader runs, as a program for the kernel's seccomp.

Bubblewrap takes the program as bytes. The filter lists what is forbidden: a list of what CPython and numpy may call
would change with each of their versions, and namespaces and limits hold without the filter already.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Mapping
from typing import Final

# Instructions of classic BPF and answers of seccomp, from linux/bpf_common.h and linux/seccomp.h.
_LOAD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_ABOVE: Final = 0x25
_JUMP_IF_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000
_KILL: Final = 0x80000000
_EPERM: Final = 1
_ENOSYS: Final = 38
_NUMBER_AT: Final = 0
_MACHINE_AT: Final = 4
_FIRST_ARGUMENT_AT: Final = 16
_CLONE_THREAD: Final = 0x00010000
_X32: Final = 0x40000000

_MACHINES: Final[Mapping[str, tuple[int, int]]] = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Machine -> its audit number, and the column of its numbers in the tables below."""
_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_FORBIDDEN: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    # Memory that no limit of a process counts.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}
"""Name -> number on x86_64 and on aarch64; None where the machine has no such call."""


def filter_program(machine: str | None = None) -> bytes | None:
    """Return the program for *machine* (default: this one), or None for a machine whose calls are not known.

    A new process is refused, a thread is not. `clone3` reports that it does not exist, as its flags lie in memory that
    a filter cannot read, and the C library then takes `clone`.
    """
    found = _MACHINES.get(machine or platform.machine())
    if found is None:
        return None
    audit, column = found
    numbers = [number[column] for number in _FORBIDDEN.values()]
    steps = [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_JUMP_IF_EQUAL, 1, 0, audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_IF_ABOVE, 0, 1, _X32 - 1),
        (_RETURN, 0, 0, _REFUSE | _ENOSYS),
        (_JUMP_IF_EQUAL, 0, 1, _CLONE3[column]),
        (_RETURN, 0, 0, _REFUSE | _ENOSYS),
    ]
    for number in numbers:
        if number is not None:
            steps += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE | _EPERM)]
    steps += [
        (_JUMP_IF_EQUAL, 1, 0, _CLONE[column]),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_JUMP_IF_ANY_BIT, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, _REFUSE | _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
