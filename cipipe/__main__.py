"""`cipipe`, and `python -m cipipe`: the process around the command line.

A short command is over before it helps to look for garbage, or to take everything apart at the end:
both together took a seventh of its time.
"""

import contextlib
import gc
import os
import sys
from typing import NoReturn


def entry() -> NoReturn:
    """The console script."""
    gc.disable()  # nothing that is imported is garbage
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
        with contextlib.suppress(
            OSError, ValueError
        ):  # whoever reads has gone; `main` has said what it had to
            stream.flush()
    os._exit(status)


def _open_streams() -> None:
    """Open what the caller has closed, lest a file or connection that is opened later takes its
    number and gets the output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    entry()
