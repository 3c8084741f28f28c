"""No process is left behind: the guardian and the host it starts watch each other, and either ends the whole tree.

Both are child subreapers (prctl(2), PR_SET_CHILD_SUBREAPER): whatever they started, however far down and however
detached, becomes their child when its parent dies, so it can be found and ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Sequence
from types import FrameType
from typing import Final

import psutil

_PR_SET_CHILD_SUBREAPER: Final = 36
_GUARD_FD: Final = "LORRY_GUARD_FD"


def become_subreaper() -> None:
    """Make this process, instead of init, the parent of orphaned descendants."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def guard(command: Sequence[str]) -> int:
    """Run *command* (a host) until it ends and return its exit code. Afterwards none of its descendants lives.

    SIGINT, SIGTERM and SIGHUP are passed on each time they arrive.
    """
    become_subreaper()
    # Nothing is ever written: a guardian that dies, also by SIGKILL, closes its end, and the host's read returns.
    held, ours = os.pipe()
    environment = os.environ | {_GUARD_FD: str(held)}
    # In one session Ctrl-C would reach the host twice, from the terminal and from here, and twice means at once.
    host = subprocess.Popen(command, pass_fds=(held,), env=environment, start_new_session=True)
    os.close(held)

    def pass_on(number: int, _: FrameType | None) -> None:
        host.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    code = host.wait()
    end_descendants(grace_s=0.0)
    os.close(ours)
    # A shell reports an end by a signal in the same way.
    return code if code >= 0 else 128 - code


def watch_guardian(when_gone: Callable[[], None]) -> None:
    """Call *when_gone* from a thread when the guardian dies; nothing to watch when there is none."""
    # Children of the host must not take the number for a descriptor of their own.
    held = os.environ.pop(_GUARD_FD, None)
    if held is None:
        return

    def wait() -> None:
        os.read(int(held), 1)
        when_gone()

    threading.Thread(target=wait, name="guardian-watch", daemon=True).start()


def end_descendants(grace_s: float) -> None:
    """Send SIGTERM, wait *grace_s* seconds, then send SIGKILL until no descendant of this process is alive."""
    me = psutil.Process()
    if grace_s:
        for process in me.children(recursive=True):
            _signal(process, signal.SIGTERM)
        psutil.wait_procs(me.children(recursive=True), timeout=grace_s)
    # A process may start another one before it is killed, which the next look finds.
    while remaining := me.children(recursive=True):
        for process in remaining:
            _signal(process, signal.SIGKILL)
        psutil.wait_procs(remaining, timeout=5.0)


def reap_orphans(own: Collection[int]) -> None:
    """Remove the entries of adopted processes that have ended; those of the *own* children have an owner who waits.

    A subreaper gets what a killed process had started, and nobody else waits for it: the kernel keeps a zombie of each.
    """
    with contextlib.suppress(ChildProcessError):  # there is no child at all
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            # The kernel shows the same child until it is waited for, so the others come after its owner's next look.
            if ended.si_pid in own:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
