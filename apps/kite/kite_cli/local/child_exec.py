"""Run as a script in front of every child: bind its life to the supervisor's, then become the command.

Done here and not in a preexec_fn, which is unsafe once a process has threads. On Linux the kernel ends the child with
SIGKILL when the supervisor dies, however it dies; elsewhere the state file (leftovers.py) is what finds it again.
Must import nothing but the standard library: it starts in every child, with `python -I -S`.
"""

import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def bound_to_this_process(command: Sequence[str], nice: int = 0) -> list[str]:
    """Return `command` behind this wrapper, bound to the life of the calling process, `nice` (0 to 19) behind it for the CPU."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(nice), *command]


def _become(parent: int, nice: int, command: list[str]) -> None:
    if sys.platform == "linux":
        _die_with_parent()
    if nice:
        _stand_back(nice)
    # The supervisor may have died before the line above: then no signal will ever come.
    if os.getppid() != parent:
        sys.exit("the supervisor is gone")
    os.execvp(command[0], command)  # noqa: S606  becoming the command is what this is for


def _die_with_parent() -> None:
    try:
        import ctypes
    except ImportError:  # a Python built without libffi: then the state file has to do, as on other systems
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _stand_back(nice: int) -> None:
    os.nice(nice)
    # Where the kernel shares the CPU among sessions, niceness counts within one; this is the session's own (sched(7), autogroup).
    try:
        with open("/proc/self/autogroup", "w") as session:
            session.write(str(nice))
    except OSError:
        return


if __name__ == "__main__":
    _become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
