"""How large a Python file may be to be read here. What Airflow reads every half a minute is far
smaller.
"""

from cipipe.errors import Problem

LARGEST = 512 * 1024
"""Bytes. Python's own parser takes seconds for more."""


def too_large(path: str, what: str) -> Problem:
    """The problem of a file that is too large to be read."""
    return Problem(
        "dag-file-too-large",
        f"{what} larger than {LARGEST // 1024} KiB",
        path,
        "Move large data into a file of its own, such as JSON, and read that in a task.",
    )
