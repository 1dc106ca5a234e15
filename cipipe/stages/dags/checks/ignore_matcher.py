"""Run as a program: which of some paths a regular expression is found in. It ends itself where that
takes too long.

Takes `[EXPRESSION, [PATH, …]]` as JSON on standard input, and prints the numbers of the paths.
Imports nothing of cipipe.
"""

import json
import re
import signal
import sys

SECONDS = 2


def main() -> None:
    signal.alarm(SECONDS)
    line, paths = json.load(sys.stdin)
    expression = re.compile(line)
    json.dump([number for number, path in enumerate(paths) if expression.search(path)], sys.stdout)


if __name__ == "__main__":
    main()
