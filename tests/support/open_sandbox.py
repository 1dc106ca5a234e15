"""A sandbox that was started with the most open umask."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cipipe.sandbox import Sandbox
from support.jobs import sandbox_with_roles


@contextmanager
def open_sandbox(folder: Path) -> Iterator[Sandbox]:
    """What it keeps in its folder has to be private anyway."""
    before = os.umask(0)
    try:
        with sandbox_with_roles(folder) as running:
            yield running
    finally:
        os.umask(before)
