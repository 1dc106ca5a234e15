"""Keeps the secrets in this process's environment from the processes that
it starts.

They run as the same user, who may read a process's environment and memory
through /proc. So the secrets are removed from the environment that Linux
shows of this process, and its memory can be read with CAP_SYS_PTRACE only.
docs/threat-model.md lists the risks that remain.
"""

import contextlib
import sys
from collections.abc import MutableMapping
from pathlib import Path

_PR_SET_DUMPABLE = 4

# Fields of /proc/PID/stat. proc_pid_stat(5) counts them as 50 and 51, from
# 1, and the two up to the `)` were split off.
_ENV_START = 47
_ENV_END = 48


def hide(environ: MutableMapping[str, str], names: frozenset[str]) -> None:
    """Remove variables from `environ`, which is `os.environ`, and from what
    other processes see.

    On other systems than Linux, children do not inherit them either, but
    may have ways to read their parent's memory.
    """
    if not names:
        return
    # First, so that nothing points into what is erased.
    for name in names:
        del environ[name]
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError, IndexError, ImportError):
            _erase(names)
        undumpable()


def undumpable() -> None:
    """Keep processes of the same user from reading this one's memory, and
    from tracing it.

    Linux only: PR_SET_DUMPABLE, prctl(2).
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, ImportError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _erase(names: frozenset[str]) -> None:
    """Overwrite variables where the kernel put them when this program
    started: that is the memory that /proc/PID/environ shows.
    """
    import ctypes

    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    place = int(fields[_ENV_START])
    end = int(fields[_ENV_END])
    # Zeros, where the kernel does not let this process see them.
    if not 0 < place < end:
        return
    for entry in ctypes.string_at(place, end - place).split(b"\0"):
        if entry.partition(b"=")[0].decode(errors="surrogateescape") in names:
            ctypes.memset(place, 0, len(entry))
        place += len(entry) + 1
