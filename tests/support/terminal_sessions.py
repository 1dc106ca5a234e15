"""A command at a terminal, and somebody who types when they are asked."""

import os
import pty
import select
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

CTRL_C = "\x03"
CTRL_D = "\x04"


def typed(
    argv: Sequence[str], answers: Sequence[tuple[str, str]], *, cwd: Path, env: Mapping[str, str]
) -> tuple[int, str]:
    """The exit status, and all that the terminal showed.

    `answers` are pairs: what the terminal has to show next, and what is then typed.
    """
    main, side = pty.openpty()
    child = subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        # The controlling terminal, so that Ctrl-C is a signal.
        preexec_fn=lambda: os.login_tty(side),  # noqa: PLW1509
        start_new_session=False,
    )
    os.close(side)
    shown = ""
    read = 0
    waiting = list(answers)
    last = ""
    quiet = 0
    while True:
        if not select.select([main], [], [], 1)[0]:
            quiet += 1
            if last == CTRL_C and quiet < 30:
                # Python reads on if the signal arrives just before it waits
                # for input. A person presses the keys again.
                os.write(main, last.encode())
                continue
            if quiet < 100:
                continue
            child.kill()
            child.wait()
            pytest.fail(f"nothing happens; never asked: {waiting}\n{shown}")
        try:
            part = os.read(main, 4096)
        except OSError:  # how Linux ends a terminal that nobody has open any more
            break
        if not part:
            break
        shown += part.decode(errors="replace")
        while waiting and (at := shown.find(waiting[0][0], read)) >= 0:
            read = at + len(waiting[0][0])
            last = waiting.pop(0)[1]
            os.write(main, last.encode())
    os.close(main)
    status = child.wait(timeout=60)
    assert waiting == [], f"never asked: {waiting}\n{shown}"
    return status, shown.replace("\r\n", "\n")
