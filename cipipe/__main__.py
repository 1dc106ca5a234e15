"""`cipipe`, and `python -m cipipe`: the process around the command line.

A short command is over before it helps to look for garbage, or to take everything apart at the end: both together took
a seventh of its time.
"""

import contextlib
import gc
import os
import sys
from typing import NoReturn


def entry() -> NoReturn:
    """The console script."""
    gc.disable()  # nothing that is imported is garbage
    from cipipe.cli import main

    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()
    status = main()
    with contextlib.suppress(OSError, ValueError):  # whoever reads has gone; `main` has said what it had to
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    entry()
