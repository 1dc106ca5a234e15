"""`cipipe`, and `python -m cipipe`: the process around the command line.

A short command finishes before it pays to collect garbage, or to free
everything at the end: both together took a seventh of its time.
"""

import contextlib
import gc
import os
import sys
from typing import NoReturn


def entry() -> NoReturn:
    """The console script."""
    # Nothing that is imported is garbage.
    gc.disable()
    from cipipe import ci, shield
    from cipipe.cli import main

    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()
    _open_streams()
    environment = dict(os.environ)
    shield.hide(os.environ, ci.secret_variables(os.environ))
    status = main(env=environment)
    for stream in (sys.stdout, sys.stderr):
        # The reader may be gone; `main` has reported that already.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _open_streams() -> None:
    """Open the standard streams that the caller has closed. Otherwise a
    file or connection that is opened later gets the number of one, and with
    it the output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    entry()
