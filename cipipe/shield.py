"""Keeps the secrets of this process's environment from the processes that it starts.

They run as the same user, who may read a process's environment and memory through /proc. So the
secrets leave the environment that Linux shows of this process, and only a process with
CAP_SYS_PTRACE may look into its memory. docs/threat-model.md says what is left.
"""

import contextlib
import sys
from collections.abc import MutableMapping
from pathlib import Path

_PR_SET_DUMPABLE = 4
_ENV_START, _ENV_END = (
    47,
    48,
)  # proc_pid_stat(5) counts them as 50 and 51, of which two stand before the `)`


def hide(environ: MutableMapping[str, str], names: frozenset[str]) -> None:
    """Take variables out of `environ`, which is `os.environ`, and out of what others see of it.

    Elsewhere than on Linux children inherit nothing either, but may find ways to look at their
    parent.
    """
    if not names:
        return
    for name in names:
        del environ[name]  # first, so that nothing points into what is erased
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError, IndexError, ImportError):
            _erase(names)
        undumpable()


def undumpable() -> None:
    """Let no process of the same user read this one's memory, or trace it (Linux, PR_SET_DUMPABLE)."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, ImportError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _erase(names: frozenset[str]) -> None:
    """Overwrite variables where the kernel put them when this program started: /proc/PID/environ
    shows that memory.
    """
    import ctypes

    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    place, end = int(fields[_ENV_START]), int(fields[_ENV_END])
    if not 0 < place < end:
        return
    for entry in ctypes.string_at(place, end - place).split(b"\0"):
        if entry.partition(b"=")[0].decode(errors="surrogateescape") in names:
            ctypes.memset(place, 0, len(entry))
        place += len(entry) + 1
