"""A program: in which of some paths a regular expression is found. Stops
itself if that takes long.

Reads `[EXPRESSION, [PATH, …]]` as JSON from standard input, and prints the
numbers of the paths. It runs with `-I -S`, and imports nothing of cipipe.
"""

import json
import re
import signal
import sys

SECONDS = 2


def main() -> None:
    # `re` does not return to Python while it searches: only a signal
    # without a handler, which ends the process, can stop it.
    signal.alarm(SECONDS)
    line, paths = json.load(sys.stdin)
    expression = re.compile(line)
    json.dump([number for number, path in enumerate(paths) if expression.search(path)], sys.stdout)


if __name__ == "__main__":
    main()
