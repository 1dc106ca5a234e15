"""How large a Python file may be to be parsed here.

DAG files are far smaller: Airflow parses each of them every thirty seconds.
"""

from cipipe.errors import Problem

# Bytes. Python's own parser takes seconds for more.
LARGEST = 512 * 1024


def too_large(path: str, what: str) -> Problem:
    """The problem of a file that is too large to parse; `what` starts the message."""
    return Problem(
        "dag-file-too-large",
        f"{what} larger than {LARGEST // 1024} KiB",
        path,
        hint="Move large data into a file of its own, such as JSON, and read that in a task.",
    )
