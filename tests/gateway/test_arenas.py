"""Threads of a gateway share the C library's arenas, so that memory does not grow with the number of threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Every thread allocates, all are alive at once, and glibc lists its arenas.
_ALLOCATING = """
import ctypes, sys, tempfile, threading
if sys.argv[1] == "shared":
    from gateway.arenas import share_arenas
    share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(9)
def allocate():
    libc.malloc(1000)
    together.wait()
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
together.wait()
with tempfile.NamedTemporaryFile() as listed:
    stream = ctypes.c_void_p(libc.fopen(listed.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(listed.read().count(b"<heap nr="))
together.wait()
"""


def _arenas(how: str) -> int:
    ended = subprocess.run([sys.executable, "-c", _ALLOCATING, how], capture_output=True, text=True, check=True)
    return int(ended.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the arenas are those of glibc")
def test_eight_threads_share_two_arenas() -> None:
    assert _arenas("shared") == 2
    assert _arenas("own") > 2
