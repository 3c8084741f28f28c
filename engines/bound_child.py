"""Run the command in argv, and end it and all it started when the parent dies. A script of the standard library only.

Usage: `bound_child.py PARENT_PID COMMAND...`, started as the leader of a process group. The command runs as our child
in that group; we hand SIGTERM on to it and end as it ends. The kernel tells us when the parent dies, and then we kill
the whole group: of a server that starts processes of its own the kernel alone would kill only the first. Run instead of
a `preexec_fn`, which is not safe in a threaded parent.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1
ORPHANED = signal.SIGUSR1


def main() -> None:
    """End as the command does; at once, with all of the group, when the parent is gone."""
    parent, *command = sys.argv[1:]
    # The handler comes before the request for the signal, whose default action would end this process alone.
    signal.signal(ORPHANED, lambda *_: os.killpg(0, signal.SIGKILL))
    die_with_parent(int(parent), ORPHANED)
    launcher, child = os.getpid(), os.fork()
    if child == 0:
        signal.signal(ORPHANED, signal.SIG_DFL)
        # A launcher that is killed by SIGKILL runs no handler; the kernel then ends the command.
        die_with_parent(launcher, signal.SIGKILL)
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    # A SIGTERM before this line ends the launcher, and its death ends the command, which has served nobody yet.
    signal.signal(signal.SIGTERM, lambda *_: hand_on(child))
    end_like(os.waitpid(child, 0)[1])


def die_with_parent(parent: int, number: signal.Signals) -> None:
    """Get this signal when the parent dies; exit at once if it is already gone."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # No signal comes from a parent that died before the call; its children have another parent by then.
    if os.getppid() != parent:
        sys.exit("the parent died before its child began")


def hand_on(child: int) -> None:
    """Send the command SIGTERM."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)


def end_like(status: int) -> None:
    """Exit with the code, or die by the signal, that ended the command."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with suppress(OSError):  # SIGKILL keeps its own way
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
